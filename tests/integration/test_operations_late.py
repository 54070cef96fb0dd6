"""An operation that threatens its deadline is told of early, everywhere, and once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from pinqueue import sweep
from pinqueue.lifecycle import OperationKind
from pinqueue.monitoring import Monitor
from pinqueue.operations import Workbench
from pinqueue.sealing import Sealer
from pinqueue.simulator import Control
from tests import factories
from tests.exposition import Exposition
from tests.operating import (
    WIFI,
    ZIGBEE,
    book,
    cancel,
    code_of,
    execute,
    operation_of,
    put_on_door,
    ring,
    tell,
)

pytestmark = pytest.mark.anyio

KINDS = list(OperationKind)
METRIC = "pinqueue_operations_late_total"


@pytest.fixture(autouse=True)
async def endpoint(bench: Workbench, seal: Sealer) -> None:
    await factories.add_endpoint(
        bench.db, seal, "https://desk.example.com/", events=("operation.late",)
    )


async def told(bench: Workbench) -> list[dict[str, Any]]:
    rows = await factories.rows(bench.db, "SELECT body FROM deliveries ORDER BY id")
    return [row["body"] for row in rows]


async def audited(bench: Workbench) -> list[dict[str, Any]]:
    return await factories.rows(
        bench.db, "SELECT * FROM audit_events WHERE event LIKE :like ORDER BY id", like="%:late"
    )


async def goes_by(bench: Workbench, minutes: int, of: str = "operations") -> None:
    """As though it were so much later for the operations, or the stays."""
    columns = {"operations": ("due_at", "first_claimed_at"), "access_codes": ("starts_at",)}
    moved = ", ".join(f"{c} = {c} - make_interval(mins => :minutes)" for c in columns[of])
    await execute(bench.db, f"UPDATE {of} SET {moved}", minutes=minutes)


@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_told_to_endpoints_in_the_audit_and_the_metrics(
    bench: Workbench, doors: Control, kind: str
) -> None:
    """F2: a PIN that does not arrive. F9: one that is not removed."""
    if kind == OperationKind.GENERATE:
        await book(bench, WIFI, starts_in=timedelta(minutes=20))
    else:
        await put_on_door(bench, doors, WIFI)
        await cancel(bench, lock=WIFI)
    waits = str(await ring(bench, kind))
    assert await sweep.tell_late(bench.db, bench.metrics) == 0
    await goes_by(bench, 6)
    await sweep.sweep(bench.db, timedelta(hours=24), bench.metrics)
    code, operation = await code_of(bench), await operation_of(bench, kind)
    (event,) = await told(bench)
    assert (event["type"], event["data"]["kind"]) == ("operation.late", kind)
    assert event["data"]["operation_id"] == operation.id
    assert (event["data"]["state"], event["data"]["error"]) == (code.state, waits)
    (row,) = await audited(bench)
    assert (row["event"], row["actor"], row["operation_id"]) == (
        f"{kind}:late",
        "sweep",
        operation.id,
    )
    assert (row["reservation_id"], row["lock_id"]) == ("res-1", WIFI)
    assert operation.late_since == operation.due_at + timedelta(minutes=5)
    assert row["detail"] == {"late_since": operation.late_since.isoformat(), "reason": waits}
    text, _ = await Monitor(bench.db, bench.metrics).scrape()
    assert Exposition(text.decode()).counted(METRIC) == {(kind,): 1}
    late = await factories.rows(bench.db, "SELECT kind, late_since, why FROM audit_late")
    assert [(one["kind"], one["late_since"]) for one in late] == [(kind, operation.late_since)]


@pytest.mark.parametrize(("starts_in", "late"), [(31, 0), (29, 1)])
async def test_a_pin_planned_in_time_is_late_30_minutes_before_its_stay(
    bench: Workbench, starts_in: int, late: int
) -> None:
    await book(bench, starts_in=timedelta(minutes=starts_in))
    await goes_by(bench, 30)
    assert await sweep.tell_late(bench.db) == late


async def test_it_is_told_once_by_four_sweeps_and_never_again(bench: Workbench) -> None:
    await book(bench)
    await goes_by(bench, 40)
    done = await asyncio.gather(*(sweep.tell_late(bench.db) for _ in range(4)))
    assert sum(done) == 1
    await goes_by(bench, 20, of="access_codes")
    assert len(await told(bench)) == len(await audited(bench)) == 1


async def test_what_is_confirmed_late_is_told_no_more_and_stays_on_record(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    await goes_by(bench, 40)
    await sweep.tell_late(bench.db)
    assert await ring(bench, "generate") is None
    assert await sweep.tell_late(bench.db) == 0
    (late,) = await factories.rows(bench.db, "SELECT state, why FROM audit_late")
    assert (late["state"], late["why"]) == (
        "completed",
        "the PIN was not confirmed on the door in good time",
    )


async def test_a_moved_stay_has_another_deadline_that_is_told_again(bench: Workbench) -> None:
    await book(bench)
    await goes_by(bench, 40)
    assert await sweep.tell_late(bench.db) == 1
    await tell(bench, starts_in=timedelta(minutes=45))
    assert (await operation_of(bench, "generate")).late_since is None
    assert await sweep.tell_late(bench.db) == 0
    await goes_by(bench, 40)
    await goes_by(bench, 40, of="access_codes")
    assert await sweep.tell_late(bench.db) == 1
    first, second = (event["data"]["starts_at"] for event in await told(bench))
    assert first != second


async def test_a_stay_moved_while_a_worker_is_at_its_door_is_late_no_more(
    bench: Workbench,
) -> None:
    await book(bench)
    await goes_by(bench, 40)
    assert await sweep.tell_late(bench.db) == 1
    await execute(
        bench.db,
        "UPDATE operations SET state = 'active', claimed_at = now() WHERE kind = 'generate'",
    )
    await tell(bench, starts_in=timedelta(days=2))
    assert (await operation_of(bench, "generate")).late_since is not None
    assert await sweep.tell_late(bench.db) == 0
    assert (await operation_of(bench, "generate")).late_since is None
    assert len(await told(bench)) == 1


async def test_what_nobody_has_taken_up_is_told_without_a_reason(bench: Workbench) -> None:
    await book(bench, ZIGBEE)
    await goes_by(bench, 40)
    await sweep.tell_late(bench.db)
    (event,) = await told(bench)
    assert (event["data"]["attempts"], event["data"]["error"]) == (0, None)
    assert 40 * 60 <= event["data"]["late_seconds"] < 41 * 60
