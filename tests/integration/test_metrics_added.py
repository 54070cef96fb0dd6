"""How the counts of all processes become one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from pinqueue.db import Database
from pinqueue.errors import DatabaseUnavailable
from pinqueue.metrics import Metrics, Series
from pinqueue.monitoring import Monitor
from tests import factories
from tests.exposition import Exposition
from tests.operating import (
    execute,
    until,
)
from tests.wires import Wire

pytestmark = pytest.mark.anyio

COMPLETED: Series = (
    "pinqueue_operations_total",
    (("kind", "generate"), ("outcome", "completed")),
)
OPERATIONS = "pinqueue_operations_total"
RINGS = "pinqueue_operation_seconds_count"
LATENESS = "pinqueue_operation_lateness_seconds"


async def stored(db: Database, series: Series = COMPLETED) -> float | None:
    rows = await factories.rows(
        db,
        "SELECT value FROM metric_totals WHERE name = :name AND labels = jsonb_object(:pairs)",
        name=series[0],
        pairs=[list(pair) for pair in series[1]],
    )
    return rows[0]["value"] if rows else None


@pytest.fixture
async def processes(database_url: str) -> AsyncIterator[list[tuple[Monitor, Metrics]]]:
    """Four processes that share nothing but the database."""
    async with AsyncExitStack() as stack:
        made = []
        for number in range(4):
            db = Database(database_url, pool_size=1, name=f"pinqueue-process-{number}")
            stack.push_async_callback(db.close)
            metrics = Metrics()
            made.append((Monitor(db, metrics), metrics))
        yield made


# Adding up


async def test_processes_that_add_at_once_lose_nothing(
    db: Database, processes: list[tuple[Monitor, Metrics]]
) -> None:
    rounds = 25

    async def work(monitor: Monitor, metrics: Metrics) -> None:
        for _ in range(rounds):
            metrics.operation_ended("generate", "completed", 0.1)
            await monitor.add_up()

    await asyncio.gather(*(work(*process) for process in processes))
    assert await stored(db) == len(processes) * rounds
    buckets = await factories.value(
        db,
        "SELECT sum(value) FROM metric_totals WHERE name = 'pinqueue_operation_seconds_bucket'",
    )
    assert buckets == len(processes) * rounds


async def test_processes_that_counted_in_opposite_orders_never_deadlock(
    db: Database, processes: list[tuple[Monitor, Metrics]]
) -> None:
    await execute(
        db,
        "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$",
    )
    await execute(
        db,
        "CREATE TRIGGER linger BEFORE INSERT OR UPDATE ON metric_totals"
        " FOR EACH ROW EXECUTE FUNCTION linger()",
    )
    calls = [f"call-{number}" for number in range(10)]
    for order, (_, metrics) in zip((calls, calls[::-1]), processes[:2], strict=True):
        for call in order:
            metrics.lock_called(call, 0.1)
    await asyncio.gather(*(monitor.add_up() for monitor, _ in processes[:2]))
    added = await factories.value(
        db, "SELECT sum(value) FROM metric_totals WHERE name = 'pinqueue_lock_call_seconds_bucket'"
    )
    assert added == 2 * len(calls)


async def test_any_process_tells_what_all_of_them_counted(
    processes: list[tuple[Monitor, Metrics]],
) -> None:
    for monitor, metrics in processes[1:]:
        metrics.operation_ended("revoke", "failed", 0.1)
        await monitor.add_up()
    text, _ = await processes[0][0].scrape()
    found = Exposition(text.decode())
    assert found.counted(OPERATIONS) == {("revoke", "failed"): 3}


async def test_what_a_process_counted_is_in_its_own_answer(
    processes: list[tuple[Monitor, Metrics]],
) -> None:
    monitor, metrics = processes[0]
    for count in (1, 2, 3):
        metrics.operation_ended("generate", "completed", 0.1)
        text, _ = await monitor.scrape()
        found = Exposition(text.decode())
        assert found.counted(OPERATIONS) == {("generate", "completed"): count}


async def test_scrapes_at_once_add_what_was_counted_once(
    db: Database, processes: list[tuple[Monitor, Metrics]]
) -> None:
    monitor, metrics = processes[0]
    metrics.operation_ended("generate", "completed", 0.1)
    await asyncio.gather(*(monitor.scrape() for _ in range(5)))
    assert await stored(db) == 1


async def test_growth_is_added_while_the_process_runs_and_when_it_stops(
    db: Database, processes: list[tuple[Monitor, Metrics]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor, metrics = processes[0]
    monkeypatch.setattr("pinqueue.monitoring.ADD_EVERY", 0.05)

    async def is_added() -> bool:
        return await stored(db) == 1

    async with monitor.adding():
        metrics.operation_ended("generate", "completed", 0.1)
        await until(is_added)
        monkeypatch.setattr("pinqueue.monitoring.ADD_EVERY", 3600)
        metrics.operation_ended("generate", "completed", 0.1)
    assert await stored(db) == 2


# Outages


@pytest.fixture
async def wired(database_url: str) -> AsyncIterator[tuple[Wire, Monitor, Metrics]]:
    """A process that reaches its database by a wire."""
    wire = Wire(database_url)
    db = Database(wire.url, pool_size=2, name="pinqueue-wired")
    metrics = Metrics()
    yield wire, Monitor(db, metrics), metrics
    await db.close()
    wire.close()


async def test_what_was_counted_in_an_outage_is_added_after_it(
    db: Database, wired: tuple[Wire, Monitor, Metrics]
) -> None:
    wire, monitor, metrics = wired
    metrics.operation_ended("generate", "completed", 0.1)
    await monitor.add_up()
    wire.cut()
    for _ in range(3):
        metrics.operation_ended("generate", "completed", 0.1)
        with pytest.raises(DatabaseUnavailable):
            await monitor.add_up()
    wire.mend()
    await monitor.add_up()
    assert await stored(db) == 4


async def test_growth_whose_commit_was_never_answered_is_not_added_again(
    db: Database, wired: tuple[Wire, Monitor, Metrics]
) -> None:
    wire, monitor, metrics = wired
    await monitor.add_up()
    metrics.operation_ended("generate", "completed", 0.1)
    wire.silent_after = b"COMMIT"
    lost = asyncio.create_task(monitor.add_up())

    async def is_committed() -> bool:
        return await stored(db) == 1

    await until(is_committed)
    wire.mend()
    with pytest.raises(DatabaseUnavailable):
        await lost
    metrics.operation_ended("generate", "completed", 0.1)
    await monitor.add_up()
    assert await stored(db) == 2


async def test_growth_whose_transaction_was_ended_by_the_server_is_added_again(
    db: Database, database_url: str, processes: list[tuple[Monitor, Metrics]]
) -> None:
    monitor, metrics = processes[0]
    await execute(
        db,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$",
    )
    await execute(
        db,
        "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON metric_totals DEFERRABLE"
        " INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    metrics.operation_ended("generate", "completed", 0.1)
    with pytest.raises(DatabaseUnavailable):
        await monitor.add_up()
    await execute(db, "DROP FUNCTION refuse CASCADE")
    assert await stored(db) is None
    await monitor.add_up()
    assert await stored(db) == 1


async def test_without_its_database_a_process_tells_the_last_totals_and_its_own_counts(
    db: Database, wired: tuple[Wire, Monitor, Metrics]
) -> None:
    wire, monitor, metrics = wired
    others = Metrics()
    others.operation_ended("generate", "completed", 0.1)
    await Monitor(db, others).add_up()
    await monitor.add_up()
    wire.cut()
    metrics.operation_ended("generate", "completed", 0.1)
    text, _ = await monitor.scrape()
    found = Exposition(text.decode())
    assert found.value("pinqueue_database_up") == 0
    assert found.counted(OPERATIONS) == {("generate", "completed"): 2}
    assert "pinqueue_jobs" not in found.families
    wire.mend()
    text, _ = await monitor.scrape()
    assert Exposition(text.decode()).counted(OPERATIONS) == {("generate", "completed"): 2}


async def test_without_having_seen_its_database_a_process_tells_no_totals(
    wired: tuple[Wire, Monitor, Metrics],
) -> None:
    wire, monitor, metrics = wired
    wire.cut()
    metrics.operation_ended("generate", "completed", 0.1)
    text, _ = await monitor.scrape()
    assert set(Exposition(text.decode()).families) == {
        "pinqueue_database_up",
        "pinqueue_build_info",
    }
