"""What a worker counts, of what is committed."""

from __future__ import annotations

import asyncio

import pytest

from pinqueue import sweep
from pinqueue.config import Settings
from pinqueue.db import Database
from pinqueue.errors import DatabaseUnavailable, LockError
from pinqueue.metrics import Metrics, Series
from pinqueue.monitoring import Monitor
from pinqueue.operations import Workbench
from pinqueue.simulator import Control
from tests import factories
from tests.exposition import Exposition
from tests.operating import (
    CREATE,
    DELETE,
    LIST,
    WIFI,
    a_worker,
    book,
    cancel,
    code_of,
    execute,
    operation_of,
    put_on_door,
    ring,
    struck,
    taken_by_a_worker,
    until,
)

pytestmark = pytest.mark.anyio

COMPLETED: Series = (
    "pinqueue_operations_total",
    (("kind", "generate"), ("outcome", "completed")),
)
OPERATIONS = "pinqueue_operations_total"
RINGS = "pinqueue_operation_seconds_count"
LATENESS = "pinqueue_operation_lateness_seconds"


async def scraped(db: Database, metrics: Metrics) -> Exposition:
    text, _ = await Monitor(db, metrics).scrape()
    found = Exposition(text.decode())
    assert found.value("pinqueue_database_up") == 1
    return found


async def stored(db: Database, series: Series = COMPLETED) -> float | None:
    rows = await factories.rows(
        db,
        "SELECT value FROM metric_totals WHERE name = :name AND labels = jsonb_object(:pairs)",
        name=series[0],
        pairs=[list(pair) for pair in series[1]],
    )
    return rows[0]["value"] if rows else None


# Operations


async def test_a_ring_that_completes_is_counted_with_its_lateness(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    await execute(
        bench.db, "UPDATE operations SET due_at = now() - interval '3 s' WHERE kind = 'generate'"
    )
    assert await ring(bench, "generate") is None
    found = await scraped(bench.db, bench.metrics)
    assert found.counted(OPERATIONS) == {("generate", "completed"): 1}
    assert found.counted(RINGS) == {("generate",): 1}
    assert found.counted(f"{LATENESS}_count") == {("generate",): 1}
    assert 3 <= (found.value(f"{LATENESS}_sum", kind="generate") or 0) < 60
    assert found.value(f"{LATENESS}_bucket", kind="generate", le="2.5") == 0


async def test_lateness_is_counted_up_to_the_first_claim_only(
    bench: Workbench, doors: Control
) -> None:
    await book(bench, WIFI)
    for _ in range(3):
        await ring(bench, "generate")
    found = await scraped(bench.db, bench.metrics)
    assert found.counted(OPERATIONS) == {("generate", "later"): 3}
    assert found.counted(f"{LATENESS}_count") == {("generate",): 1}


async def test_a_refused_operation_is_counted_as_failed(bench: Workbench, prompt: Control) -> None:
    await book(bench)
    prompt.fault("code", LIST, code=28841105)
    assert isinstance(await ring(bench, "generate"), LockError)
    found = await scraped(bench.db, bench.metrics)
    assert found.counted(OPERATIONS) == {("generate", "failed"): 1}


async def test_an_operation_that_was_cancelled_under_way_is_counted_as_overtaken(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    prompt.fault("slow", CREATE, seconds=0.5)
    ringing = asyncio.create_task(ring(bench, "generate"))
    await struck(prompt)
    await cancel(bench)
    assert await ringing is None
    found = await scraped(bench.db, bench.metrics)
    assert found.counted(OPERATIONS) == {("generate", "overtaken"): 1}


async def test_a_stay_that_went_by_before_anything_was_done_is_counted_as_completed(
    bench: Workbench,
) -> None:
    await book(bench)
    assert await ring(bench, "revoke") is None
    found = await scraped(bench.db, bench.metrics)
    assert found.counted(OPERATIONS) == {("revoke", "completed"): 1}


async def test_an_outcome_that_was_rolled_back_is_not_counted(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    await execute(
        bench.db,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'no' USING ERRCODE = '57014'; END $$",
    )
    await execute(
        bench.db,
        "CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON operations DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW WHEN (NEW.state = 'completed') EXECUTE FUNCTION refuse()",
    )
    assert isinstance(await ring(bench, "generate"), DatabaseUnavailable)
    found = await scraped(bench.db, bench.metrics)
    assert found.counted(OPERATIONS) == {}


async def test_rescues_and_quarantines_are_counted_once_they_are_committed(
    bench: Workbench,
) -> None:
    await book(bench)
    for _ in range(4):
        await taken_by_a_worker(bench)
        await sweep.rescue_stalled(bench.db, bench.metrics)
    assert (await operation_of(bench, "generate")).state == "failed"
    found = await scraped(bench.db, bench.metrics)
    assert found.counted(OPERATIONS) == {
        ("generate", "rescued"): 3,
        ("generate", "quarantined"): 1,
    }


# The lock's cloud


async def test_each_call_to_the_locks_cloud_is_timed_by_its_name(
    bench: Workbench, prompt: Control
) -> None:
    await put_on_door(bench, prompt)
    await cancel(bench)
    assert await ring(bench, "revoke") is None
    found = await scraped(bench.db, bench.metrics)
    assert found.counted("pinqueue_lock_call_seconds_count") == {
        ("token",): 1,
        ("list",): 4,
        ("ticket",): 1,
        ("create",): 1,
        ("delete",): 1,
    }
    assert found.counted("pinqueue_lock_errors_total") == {}


@pytest.mark.parametrize(
    ("kind", "match", "code", "labels"),
    [
        ("code", LIST, 2312, ("list", "2312", "LockUnreachable")),
        ("code", LIST, 7777777, ("list", "other", "LockFaulted")),
        ("code", LIST, 28841105, ("list", "28841105", "LockRefused")),
        ("reset_after", CREATE, None, ("create", "none", "LockUnreachable")),
    ],
)
async def test_a_call_that_fails_is_counted_by_what_it_failed_of(
    bench: Workbench,
    prompt: Control,
    kind: str,
    match: dict[str, str],
    code: int | None,
    labels: tuple[str, str, str],
) -> None:
    await book(bench)
    prompt.fault(kind, match, **({} if code is None else {"code": code}))
    await ring(bench, "generate")
    found = await scraped(bench.db, bench.metrics)
    call, label, error = labels
    assert found.counted("pinqueue_lock_errors_total") == {(call, label, error): 1}


async def test_a_pin_that_was_gone_when_it_was_to_be_deleted_is_no_error(
    bench: Workbench, prompt: Control
) -> None:
    await put_on_door(bench, prompt)
    prompt.fault("code", DELETE, code=2310)
    await cancel(bench)
    await ring(bench, "revoke")
    found = await scraped(bench.db, bench.metrics)
    assert found.counted("pinqueue_lock_errors_total") == {}
    assert found.value("pinqueue_lock_call_seconds_count", call="delete") == 1


# A worker process


async def test_a_worker_adds_what_it_counted_when_it_stops(
    settings: Settings, bench: Workbench, prompt: Control
) -> None:
    await book(bench)

    async def is_active() -> bool:
        return (await code_of(bench)).state == "active"

    async with a_worker(settings):
        await until(is_active)
        found = await scraped(bench.db, Metrics())
        assert found.value("pinqueue_workers") == 1
    assert await stored(bench.db) == 1
