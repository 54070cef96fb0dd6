"""What the sweep clears away, and what stays on record for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from procrastinate import App, PsycopgConnector
from procrastinate.jobs import Status

from pinqueue import sweep
from pinqueue.db import Database
from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Planner
from pinqueue.store import sweeping
from tests import factories
from tests.operating import execute

pytestmark = pytest.mark.anyio

RETENTION = timedelta(hours=24)
LEFT = "SELECT id, status::text AS status FROM procrastinate_jobs ORDER BY id"
PLANNED = timedelta(days=300)


@pytest.fixture
async def jobs(db: Database, planner: Planner) -> list[int]:
    """The generate and revoke job of a stay next year."""
    await factories.add_listing(db)
    start = datetime.now(UTC) + PLANNED
    told = factories.booking(
        check_in=start.isoformat(), check_out=(start + timedelta(days=2)).isoformat()
    )
    await factories.receive(db, planner, told)
    return [row["id"] for row in await factories.rows(db, LEFT)]


@asynccontextmanager
async def queue(url: str) -> AsyncIterator[App]:
    async with App(connector=PsycopgConnector(conninfo=url)).open_async() as app:
        yield app


async def ended(db: Database, url: str, job_id: int, how: str, ago: timedelta) -> None:
    """End a job as Procrastinate does, so long ago."""
    await execute(db, "UPDATE procrastinate_jobs SET status = 'doing' WHERE id = :id", id=job_id)
    async with queue(url) as app:
        await app.job_manager.finish_job_by_id_async(job_id, Status(how), delete_job=False)
    await execute(
        db,
        "UPDATE procrastinate_events SET at = now() - CAST(:ago AS interval)"
        " WHERE job_id = :job_id AND type <> 'scheduled'",
        ago=ago,
        job_id=job_id,
    )


@pytest.mark.parametrize(("how", "state"), [("succeeded", "completed"), ("aborted", "cancelled")])
async def test_a_job_that_ended_is_pruned_after_the_retention_and_stays_in_the_audit(
    db: Database, database_url: str, jobs: list[int], how: str, state: str
) -> None:
    await ended(db, database_url, jobs[0], how, RETENTION + timedelta(minutes=1))
    (before,) = await factories.rows(db, "SELECT * FROM audit_jobs WHERE job_id = :id", id=jobs[0])
    await sweep.sweep(db, RETENTION)
    assert [row["id"] for row in await factories.rows(db, LEFT)] == jobs[1:]
    (after,) = await factories.rows(db, "SELECT * FROM audit_jobs WHERE job_id = :id", id=jobs[0])
    assert after == before
    assert after["state"] == state


@pytest.mark.parametrize("how", ["succeeded", "aborted"])
async def test_a_job_that_ended_lately_stays(
    db: Database, database_url: str, jobs: list[int], how: str
) -> None:
    await ended(db, database_url, jobs[0], how, RETENTION - timedelta(minutes=1))
    await sweep.sweep(db, RETENTION)
    assert [row["id"] for row in await factories.rows(db, LEFT)] == jobs


async def test_a_cancelled_job_is_pruned_although_it_was_planned_for_next_year(
    db: Database, planner: Planner, jobs: list[int]
) -> None:
    await factories.receive(db, planner, factories.booking(status=ReservationStatus.CANCELLED))
    await execute(
        db,
        "UPDATE procrastinate_events SET at = at - interval '25 hours' WHERE type = 'cancelled'",
    )
    await sweep.sweep(db, RETENTION)
    assert await factories.rows(db, LEFT) == []
    states = await factories.rows(db, "SELECT state FROM audit_jobs")
    assert [row["state"] for row in states] == ["cancelled", "cancelled"]


async def test_a_failed_job_stays_until_somebody_clears_it(
    db: Database, database_url: str, jobs: list[int]
) -> None:
    await ended(db, database_url, jobs[0], "failed", timedelta(days=400))
    await sweep.sweep(db, RETENTION)
    assert await factories.rows(db, LEFT) == [
        {"id": jobs[0], "status": "failed"},
        {"id": jobs[1], "status": "todo"},
    ]


async def test_a_job_that_waits_is_never_pruned(db: Database, jobs: list[int]) -> None:
    await execute(db, "UPDATE procrastinate_events SET at = at - interval '400 days'")
    await sweep.sweep(db, RETENTION)
    assert [row["id"] for row in await factories.rows(db, LEFT)] == jobs


async def test_pruning_leaves_no_event_behind(
    db: Database, database_url: str, jobs: list[int]
) -> None:
    await ended(db, database_url, jobs[0], "succeeded", timedelta(days=2))
    await sweep.sweep(db, RETENTION)
    orphans = "SELECT count(*) FROM procrastinate_events WHERE job_id IS DISTINCT FROM :kept"
    assert await factories.value(db, orphans, kept=jobs[1]) == 0


async def test_more_than_one_round_of_jobs_is_pruned_round_by_round(
    db: Database, database_url: str, jobs: list[int]
) -> None:
    for job_id in jobs:
        await ended(db, database_url, job_id, "succeeded", timedelta(days=2))
    pruned = []
    for _ in range(3):
        async with db.transaction() as session:
            pruned.append(await sweeping.prune_jobs(session, RETENTION, limit=1))
    assert pruned == [1, 1, 0]


@pytest.mark.parametrize(
    ("column", "state"), [("revoked_at", "revoked"), ("cancelled_at", "cancelled")]
)
@pytest.mark.parametrize(("days", "kept"), [(89, True), (91, False)])
async def test_a_pin_is_remembered_for_90_days_after_it_is_off_its_lock(
    db: Database, jobs: list[int], column: str, state: str, days: int, kept: bool
) -> None:
    await execute(
        db,
        f"UPDATE access_codes SET state = :state, pin_sealed = NULL, pin_hash = NULL,"
        f" {column} = now() - make_interval(days => :days)",
        state=state,
        days=days,
    )
    await sweep.sweep(db, RETENTION)
    fingerprint = await factories.value(db, "SELECT pin_fingerprint FROM access_codes")
    assert (fingerprint is not None) is kept


async def test_the_pin_of_a_live_code_is_never_forgotten(db: Database, jobs: list[int]) -> None:
    await execute(db, "UPDATE access_codes SET created_at = now() - interval '400 days'")
    await sweep.sweep(db, RETENTION)
    assert await factories.value(db, "SELECT pin_fingerprint FROM access_codes") is not None
