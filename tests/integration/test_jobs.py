"""The queue utilities against a real database, in the caller's transaction."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pinqueue import jobs
from pinqueue.db import Database
from pinqueue.errors import BookingInvalid, Conflict, InputInvalid, NotFound
from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Planner
from pinqueue.store.queue import JobFilter
from tests import factories

pytestmark = pytest.mark.anyio


async def book(
    db: Database, planner: Planner, reservation_id: str = "res-1", **changes: object
) -> None:
    if not await factories.rows(db, "SELECT 1 FROM listings"):
        await factories.add_listing(db)
    await factories.receive(db, planner, factories.booking(reservation_id, **changes))


async def test_schedule_generate_rings_one_hour_before_check_in(
    db: Database, planner: Planner
) -> None:
    check_in = (datetime.now(UTC) + timedelta(days=4)).replace(microsecond=0)
    await book(db, planner, check_out=(check_in + timedelta(days=1)).isoformat())
    async with db.transaction() as session:
        (job,) = await jobs.schedule_generate_pin(session, "res-1", check_in, planner=planner)
    assert job["scheduled_at"] == check_in - timedelta(hours=1)


async def test_cancel_tells_that_both_were_cancelled(db: Database, planner: Planner) -> None:
    await book(db, planner)
    async with db.transaction() as session:
        told = await jobs.cancel_scheduled_jobs(session, "res-1")
        assert told == {"generate_pin_cancelled": True, "revoke_pin_cancelled": True}
        status = await jobs.get_scheduled_job_status(session, "res-1", "generate")
        assert status and status["state"] == "cancelled"
        again = await jobs.cancel_scheduled_jobs(session, "res-1")
        assert again == {"generate_pin_cancelled": False, "revoke_pin_cancelled": False}


async def test_list_has_delayed_jobs_among_the_waiting(db: Database, planner: Planner) -> None:
    for number in range(3):
        await book(db, planner, f"res-{number}")
    async with db.transaction() as session:
        listed = await jobs.list_queue_jobs(session, "generate_pin")
        assert [len(listed[state]) for state in ("waiting", "active", "completed", "failed")] == [
            3,
            0,
            0,
            0,
        ]
        page = await jobs.find_jobs(session, JobFilter(lock_id="sim-zigbee-1"), limit=4)
        rest = await jobs.find_jobs(
            session, JobFilter(lock_id="sim-zigbee-1"), limit=4, cursor=page.next_cursor
        )
        assert len({job["job_id"] for job in page.jobs + rest.jobs}) == 6
        health = await jobs.get_queue_health(session)
        assert health["queues"]["generate_pin"]["delayed"] == 3
        assert await jobs.clear_failed_jobs(session, "generate_pin") == {"cleared": 0}
        assert await jobs.retry_failed_jobs(session) == {"retried": 0, "left": 0}
