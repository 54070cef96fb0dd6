"""The sweep and the events whose booking nobody fetches."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from pinqueue import alarms, fetching, sweep
from pinqueue.db import Database
from pinqueue.reservations import Planner
from pinqueue.store import events
from tests import factories
from tests.operating import execute

pytestmark = pytest.mark.anyio

FAILED = "UPDATE procrastinate_jobs SET status = 'failed'"
LOST = "DELETE FROM procrastinate_jobs"


async def kill_its_worker(db: Database) -> None:
    """The job as one has it who began it ten minutes ago and is no more."""
    await execute(db, "UPDATE procrastinate_jobs SET status = 'doing'")
    await execute(db, "UPDATE procrastinate_events SET at = at - interval '10 minutes'")


@pytest.fixture
async def event(db: Database, planner: Planner) -> int:
    """An event that came a while ago and whose booking is to be fetched."""
    await factories.add_source(db, planner.sealer)
    async with db.transaction() as session:
        row = await events.insert_event(session, "main", "msg_1", b"", "changed", {})
        assert row is not None
        await events.set_event_outcome(session, row, "fetching", "res-1", None)
        await fetching.put(session, row)
    await execute(db, "UPDATE webhook_events SET received_at = now() - interval '1 hour'")
    return row


async def jobs(db: Database) -> list[tuple[int, str]]:
    found = await factories.rows(
        db, "SELECT id, status::text AS status FROM procrastinate_jobs ORDER BY id"
    )
    return [(job["id"], job["status"]) for job in found]


async def outcome(db: Database) -> str:
    return str(await factories.value(db, "SELECT outcome FROM webhook_events"))


async def test_a_fetch_that_a_worker_will_do_is_left_alone(db: Database, event: int) -> None:
    before = await jobs(db)
    assert await sweep.fetch_again(db) == 0
    assert await jobs(db) == before


@pytest.mark.parametrize("how", ["lost", "killed"])
async def test_a_fetch_whose_job_or_worker_is_gone_gets_one_other_job(
    db: Database, event: int, how: str
) -> None:
    (first,) = await jobs(db)
    await (kill_its_worker(db) if how == "killed" else execute(db, LOST))
    assert [await sweep.fetch_again(db) for _ in range(2)] == [1, 0]
    (job,) = await jobs(db)
    assert job == (first[0] + 1, "todo")
    assert await outcome(db) == "fetching"


async def test_a_fetch_whose_tries_are_spent_is_a_task_for_a_person_and_not_begun_anew(
    db: Database, event: int
) -> None:
    await execute(db, FAILED)
    assert [await sweep.fetch_again(db) for _ in range(2)] == [1, 0]
    assert (await jobs(db), await outcome(db)) == ([], "incomplete")
    (told,) = await factories.rows(
        db, "SELECT actor, reservation_id, detail FROM audit_events WHERE event LIKE 'webhook:%'"
    )
    assert (told["actor"], told["reservation_id"]) == ("source:main", "res-1")
    assert told["detail"]["reason"] == "its booking was not read: every try failed"


async def test_a_fetch_that_kills_its_worker_is_given_up_after_three_rescues(
    db: Database, event: int
) -> None:
    for _ in range(4):
        assert await outcome(db) == "fetching"
        await kill_its_worker(db)
        await sweep.fetch_again(db)
    assert (await jobs(db), await outcome(db)) == ([], "incomplete")


async def test_a_booking_is_fetched_before_what_was_to_be_posted_earlier(
    db: Database, event: int
) -> None:
    await execute(db, "DELETE FROM procrastinate_jobs")
    async with db.transaction() as session:
        await alarms.defer(session, alarms.DELIVER, delivery_id=1)
        await fetching.put(session, event, timedelta(0))
        first = await session.scalar(
            text("SELECT (procrastinate_fetch_job_v2(:queues, NULL)).task_name"),
            {"queues": [alarms.DELIVER, fetching.FETCH]},
        )
    assert first == fetching.FETCH
