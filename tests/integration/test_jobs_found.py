"""What a job is found by stays true while jobs are postponed and stays change."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from pinqueue import jobs, store
from pinqueue.db import Database
from pinqueue.reservations import Planner
from pinqueue.store.queue import JobFilter
from tests import factories
from tests.operating import execute

pytestmark = pytest.mark.anyio

LOCK = "sim-zigbee-1"


@pytest.fixture
async def booked(db: Database, planner: Planner) -> Database:
    await factories.add_listing(db)
    await factories.add_listing(db, "apt-8")
    await factories.receive(db, planner, factories.booking())
    return db


async def found(db: Database, **which: Any) -> list[tuple[str, datetime]]:
    async with db.transaction() as session:
        page = await jobs.find_jobs(session, JobFilter(**which))
        return [(job["queue"], job["scheduled_at"]) for job in page.jobs]


async def test_a_job_that_is_postponed_is_found_at_its_new_time(booked: Database) -> None:
    (first, _), (second, last) = await found(booked, lock_id=LOCK)
    async with booked.transaction() as session:
        later = await store.now(session) + timedelta(days=30)
    await execute(
        booked,
        "WITH begun AS (UPDATE procrastinate_jobs SET status = 'doing' WHERE queue_name = :queue"
        " RETURNING id) SELECT id FROM begun",
        queue=first,
    )
    await execute(
        booked,
        "SELECT procrastinate_retry_job_v2(id, :at, NULL, NULL, NULL) FROM procrastinate_jobs"
        " WHERE queue_name = :queue",
        queue=first,
        at=later,
    )
    assert await found(booked, lock_id=LOCK) == [(second, last), (first, later)]
    assert await found(booked) == [(second, last), (first, later)]


async def test_the_jobs_of_a_stay_that_moves_to_another_listing_are_found_there(
    booked: Database, planner: Planner
) -> None:
    assert len(await found(booked, listing_id="apt-7")) == 2
    (stay,) = await factories.rows(booked, "SELECT check_in_at, check_out_at FROM reservations")
    told = {key.removesuffix("_at"): at.isoformat() for key, at in stay.items()}
    await factories.receive(booked, planner, factories.booking(listing_id="apt-8", **told))
    assert await found(booked, listing_id="apt-7") == []
    assert len(await found(booked, listing_id="apt-8", lock_id=LOCK)) == 2


async def test_a_job_that_was_cleared_is_found_no_more(booked: Database) -> None:
    await execute(booked, "UPDATE procrastinate_jobs SET status = 'failed'")
    assert len(await found(booked, lock_id=LOCK, state="failed")) == 2
    async with booked.transaction() as session:
        await jobs.clear_failed_jobs(session, "revoke_pin")
    assert [queue for queue, _ in await found(booked, lock_id=LOCK)] == ["generate_pin"]
