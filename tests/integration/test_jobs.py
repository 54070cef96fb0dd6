"""The queue utilities from Python: what tests/acceptance/test_queue_alike.py does not ask of all
three ways to them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event

from pinqueue import inventory, jobs
from pinqueue.db import Database, Session
from pinqueue.errors import Conflict, InputInvalid, NotFound
from pinqueue.lifecycle import ReservationStatus
from pinqueue.models import Reservation
from pinqueue.operations import Workbench
from pinqueue.reservations import Planner
from pinqueue.simulator import Control
from pinqueue.store import sweeping
from pinqueue.store.queue import JobFilter
from tests import factories
from tests.operating import LIST, WAITING_FOR_A_LOCK, execute, held, ring, until

pytestmark = pytest.mark.anyio

BOTH = {"generate_pin_cancelled": True, "revoke_pin_cancelled": True}
NEITHER = {"generate_pin_cancelled": False, "revoke_pin_cancelled": False}
TODAY = datetime.now(UTC).replace(microsecond=0)
CHECK_IN, CHECK_OUT = TODAY + timedelta(days=1), TODAY + timedelta(days=3)


@pytest.fixture
async def booked(db: Database, planner: Planner) -> Database:
    """The stay res-1 behind one lock, from tomorrow for two days."""
    await factories.add_listing(db)
    await book(db, planner, "res-1")
    return db


async def book(
    db: Database,
    planner: Planner,
    reservation_id: str,
    check_in: datetime = CHECK_IN,
    check_out: datetime = CHECK_OUT,
    **changes: Any,
) -> None:
    told = factories.booking(
        reservation_id, check_in=check_in.isoformat(), check_out=check_out.isoformat(), **changes
    )
    await factories.receive(db, planner, told)


async def generate(db: Database, planner: Planner, *given: Any, **lead: Any) -> list[Any]:
    async with db.transaction() as session:
        return await jobs.schedule_generate_pin(session, "res-1", *given, planner=planner, **lead)


async def cancel(db: Database, reservation_id: str = "res-1") -> dict[str, bool]:
    async with db.transaction() as session:
        return await jobs.cancel_scheduled_jobs(session, reservation_id)


async def status(db: Database, kind: str, reservation_id: str = "res-1") -> dict[str, Any] | None:
    async with db.transaction() as session:
        return await jobs.get_scheduled_job_status(session, reservation_id, kind)


async def state(db: Database, kind: str) -> str:
    told = await status(db, kind)
    assert told is not None
    return str(told["state"])


async def waiting(db: Database, queue: str) -> list[dict[str, Any]]:
    async with db.transaction() as session:
        return (await jobs.list_queue_jobs(session, queue))["waiting"]


# Schedule


async def test_the_lead_is_set_globally_per_listing_and_per_call(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    await factories.add_listing(db, "apt-8", {"sim-zigbee-2": "zigbee"}, lead=timedelta(hours=5))
    for reservation_id, listing in {"res-7": "apt-7", "res-8": "apt-8"}.items():
        await book(db, planner, reservation_id, listing_id=listing)
    due = {job["reservation_id"]: job["scheduled_at"] for job in await waiting(db, "generate_pin")}
    assert due == {
        "res-7": CHECK_IN - timedelta(hours=1),
        "res-8": CHECK_IN - timedelta(hours=5),
    }
    async with db.transaction() as session:
        (job,) = await jobs.schedule_generate_pin(
            session, "res-8", lead=timedelta(hours=2), planner=planner
        )
    assert job["scheduled_at"] == CHECK_IN - timedelta(hours=2)


async def test_a_lead_given_in_a_call_stays_when_the_booking_is_told_again(
    booked: Database, planner: Planner
) -> None:
    await generate(booked, planner, lead=timedelta(hours=9))
    await book(booked, planner, "res-1", CHECK_IN + timedelta(hours=1))
    (job,) = await waiting(booked, "generate_pin")
    assert job["scheduled_at"] == CHECK_IN + timedelta(hours=1) - timedelta(hours=9)


async def test_a_stay_that_is_over_gets_no_job(booked: Database, planner: Planner) -> None:
    await book(booked, planner, "res-1", TODAY - timedelta(days=2), TODAY - timedelta(days=1))
    assert await generate(booked, planner) == []


# Cancel, and what a running operation and a PIN on the door make of it


async def test_cancel_partly_when_the_pin_is_on_the_door_and_take_it_off_at_once(
    bench: Workbench, prompt: Control
) -> None:
    await factories.add_listing(bench.db)
    await book(bench.db, bench.planner, "res-1", TODAY)
    assert await ring(bench, "generate") is None
    assert await cancel(bench.db) == {**NEITHER, "revoke_pin_cancelled": True}
    assert await state(bench.db, "revoke") == "waiting"
    assert await ring(bench, "revoke", as_if_due=False) is None
    assert held(prompt) == []
    assert await cancel(bench.db) == NEITHER


async def test_cancel_holds_until_it_is_scheduled_again(booked: Database, planner: Planner) -> None:
    await cancel(booked)
    await book(booked, planner, "res-1", CHECK_IN + timedelta(hours=1))
    assert await waiting(booked, "generate_pin") == []
    assert len(await generate(booked, planner)) == 1


async def test_a_stay_cancelled_and_confirmed_again_is_withheld_no_more(
    booked: Database, planner: Planner
) -> None:
    await cancel(booked)
    await book(booked, planner, "res-1", status=ReservationStatus.CANCELLED)
    await book(booked, planner, "res-1")
    assert len(await waiting(booked, "generate_pin")) == 1


async def test_cancel_does_not_tear_a_running_generate_and_undoes_it(
    bench: Workbench, prompt: Control
) -> None:
    await factories.add_listing(bench.db)
    await book(bench.db, bench.planner, "res-1", TODAY)
    prompt.fault("slow", LIST, seconds=1.0)
    running = asyncio.create_task(ring(bench, "generate"))
    await until(lambda: factories.rows(bench.db, "SELECT 1 FROM tries"))
    assert await state(bench.db, "generate") == "active"
    assert await cancel(bench.db) == {**NEITHER, "revoke_pin_cancelled": True}
    await running
    assert await ring(bench, "revoke") is None
    assert held(prompt) == []


# Status


async def test_status_of_several_locks_is_that_of_the_one_to_look_at(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db, locks={"sim-zigbee-1": "zigbee", "sim-wifi-1": "wifi"})
    await book(db, planner, "res-1")
    await fail(db, "sim-wifi-1")
    told = await status(db, "generate")
    assert told is not None
    assert (told["state"], told["data"]["lock_id"]) == ("failed", "sim-wifi-1")
    assert {lock["lock_id"]: lock["state"] for lock in told["data"]["locks"]} == {
        "sim-zigbee-1": "delayed",
        "sim-wifi-1": "failed",
    }


# List


@pytest.mark.parametrize("newest_first", [False, True])
async def test_list_pages_through_every_job_of_a_lock_once_while_others_come(
    booked: Database, planner: Planner, newest_first: bool
) -> None:
    which = JobFilter(lock_id="sim-zigbee-1")
    for number in range(2, 8):
        await book(booked, planner, f"res-{number}", CHECK_IN + timedelta(hours=number % 3))
    there = await everything(booked)
    seen, cursor = [], None
    for turn in range(99):
        async with booked.transaction() as session:
            page = await jobs.find_jobs(
                session, which, newest_first=newest_first, cursor=cursor, limit=3
            )
        seen += page.jobs
        await book(booked, planner, f"res-new-{turn}", CHECK_IN - timedelta(hours=turn))
        cursor = page.next_cursor
        if cursor is None:
            break
    ids = [job["job_id"] for job in seen]
    assert len(ids) == len(set(ids))
    assert there <= set(ids)
    due = [(job["scheduled_at"], job["job_id"]) for job in seen]
    assert due == sorted(due, reverse=newest_first)


async def everything(db: Database) -> set[int]:
    async with db.transaction() as session:
        return {job["job_id"] for job in (await jobs.find_jobs(session, limit=1000)).jobs}


FILTERS = [
    (JobFilter(queues=("revoke_pin",)), 3),
    (JobFilter(state="delayed"), 5),
    (JobFilter(state="failed"), 1),
    (JobFilter(lock_id="sim-zigbee-2"), 2),
    (JobFilter(listing_id="apt-8", state="delayed"), 2),
    (JobFilter(reservation_id="res-1"), 2),
    (JobFilter(due_from=CHECK_OUT), 3),
    (JobFilter(due_before=CHECK_OUT, listing_id="apt-7"), 2),
    (JobFilter(lock_id="no-such-lock"), 0),
]


async def test_list_filters(booked: Database, planner: Planner) -> None:
    await book(booked, planner, "res-2")
    await factories.add_listing(booked, "apt-8", {"sim-zigbee-2": "zigbee"})
    await book(booked, planner, "res-3", listing_id="apt-8")
    await fail(booked, "sim-zigbee-1", "res-2")
    async with booked.transaction() as session:
        found = [(which, len((await jobs.find_jobs(session, which)).jobs)) for which, _ in FILTERS]
    assert found == FILTERS


# Errors


async def test_a_stay_that_is_not_confirmed_gets_no_job(booked: Database, planner: Planner) -> None:
    await book(booked, planner, "res-1", status=ReservationStatus.CANCELLED)
    with pytest.raises(Conflict, match="confirm it first"):
        await generate(booked, planner)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"which": JobFilter(queues=("emails",))}, "queue"),
        ({"which": JobFilter(state="sleeping")}, "state"),
        ({"cursor": "bm90IG91cnM"}, "cursor"),
        ({"cursor": "%%%"}, "cursor"),
        ({"cursor": "W1tb" * 5000}, "cursor"),
        ({"which": JobFilter(due_from=CHECK_IN.replace(tzinfo=None))}, "due_from"),
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
    ],
)
async def test_a_bad_question_names_its_field(
    db: Database, asked: dict[str, Any], field: str
) -> None:
    with pytest.raises(InputInvalid) as refused:
        async with db.transaction() as session:
            await jobs.find_jobs(session, **asked)
    assert refused.value.field == field


@pytest.mark.parametrize("limit", [-1, 0, 1001])
async def test_a_bad_limit_of_a_queue_is_named(db: Database, limit: int) -> None:
    async with db.transaction() as session:
        with pytest.raises(InputInvalid, match="limit"):
            await jobs.list_queue_jobs(session, "generate_pin", limit=limit)


async def test_a_cursor_of_the_other_order_is_refused(booked: Database) -> None:
    async with booked.transaction() as session:
        page = await jobs.find_jobs(session, limit=1)
        with pytest.raises(InputInvalid, match="cursor"):
            await jobs.find_jobs(session, cursor=page.next_cursor, newest_first=True)


async def test_a_lead_may_be_written(booked: Database, planner: Planner) -> None:
    (at_two,) = await generate(booked, planner, lead="2h")
    (at_one,) = await generate(booked, planner, lead=timedelta(hours=1))
    assert at_one["scheduled_at"] - at_two["scheduled_at"] == timedelta(hours=1)


@pytest.mark.parametrize("lead", [timedelta(hours=-1), "1x", "", 3600])
async def test_a_lead_that_cannot_be_is_refused(
    booked: Database, planner: Planner, lead: object
) -> None:
    with pytest.raises(InputInvalid, match=r"^lead: "):
        await generate(booked, planner, lead=lead)


# Clear and retry


async def fail(db: Database, lock: str, reservation_id: str = "res-1") -> int:
    """Let a stay's generate end as a worker ends it that was refused; returns its job."""
    (row,) = await factories.rows(
        db,
        "SELECT operation.id, job_id, access_code_id FROM operations operation"
        " JOIN access_codes code ON code.id = access_code_id WHERE kind = 'generate'"
        " AND lock_id = :lock AND reservation_id = :stay ORDER BY operation.id DESC LIMIT 1",
        lock=lock,
        stay=reservation_id,
    )
    ended = {
        "UPDATE operations SET state = 'failed', finished_at = now(), last_error = 'refused'"
        " WHERE id = :id": row["id"],
        "UPDATE access_codes SET state = 'failed', failed_at = now() WHERE id = :id": row[
            "access_code_id"
        ],
        "UPDATE procrastinate_jobs SET status = 'failed' WHERE id = :id": row["job_id"],
    }
    for statement, key in ended.items():
        await execute(db, statement, id=key)
    return int(row["job_id"])


async def failed(db: Database) -> list[int]:
    async with db.transaction() as session:
        listed = await jobs.list_queue_jobs(session, "generate_pin")
    return [job["job_id"] for job in listed["failed"]]


async def test_clear_failed_counts_them_and_leaves_the_ledger(booked: Database) -> None:
    job_id = await fail(booked, "sim-zigbee-1")
    async with booked.transaction() as session:
        assert await jobs.clear_failed_jobs(session, "revoke_pin") == {"cleared": 0}
        assert await jobs.clear_failed_jobs(session, "generate_pin") == {"cleared": 1}
    assert await failed(booked) == []
    assert await state(booked, "generate") == "failed"
    (kept,) = await factories.rows(
        booked, "SELECT state, last_error FROM audit_jobs WHERE job_id = :id", id=job_id
    )
    assert kept["state"] == "failed"
    told = await factories.rows(
        booked, "SELECT actor, detail FROM audit_events WHERE event = 'jobs:cleared' ORDER BY id"
    )
    assert told[-1] == {"actor": "python", "detail": {"queue": "generate_pin", "cleared": 1}}


async def test_f25_retry_begins_a_failed_job_again_at_once(booked: Database) -> None:
    job_id = await fail(booked, "sim-zigbee-1")
    async with booked.transaction() as session:
        told = await jobs.retry_job(session, job_id)
    assert (told["state"], told["delay"]) == ("waiting", 0)
    assert told["job_id"] != job_id
    assert await failed(booked) == []


async def test_retry_takes_failed_jobs_alone(booked: Database) -> None:
    (job,) = await waiting(booked, "generate_pin")
    async with booked.transaction() as session:
        with pytest.raises(Conflict, match="delayed"):
            await jobs.retry_job(session, job["job_id"])
        with pytest.raises(NotFound):
            await jobs.retry_job(session, 10**9)


async def test_retry_of_a_stay_that_is_over_is_refused(booked: Database) -> None:
    job_id = await fail(booked, "sim-zigbee-1")
    await execute(
        booked, "UPDATE access_codes SET starts_at = now() - interval '2 d', ends_at = now()"
    )
    async with booked.transaction() as session:
        with pytest.raises(Conflict, match="its stay is over"):
            await jobs.retry_job(session, job_id)


async def test_retry_all_that_match(booked: Database, planner: Planner) -> None:
    await factories.add_listing(booked, "apt-8", {"sim-zigbee-2": "zigbee"})
    await book(booked, planner, "res-2", listing_id="apt-8")
    await fail(booked, "sim-zigbee-1")
    other = await fail(booked, "sim-zigbee-2", "res-2")
    async with booked.transaction() as session:
        told = await jobs.retry_failed_jobs(session, JobFilter(lock_id="sim-zigbee-1"))
    assert told == {"retried": 1, "left": 0}
    assert await failed(booked) == [other]


async def test_retry_all_reaches_what_lies_behind_many_that_are_over_and_counts_what_is_left(
    booked: Database, planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MOST", 2)
    for number in range(1, 7):
        await book(booked, planner, f"res-{number}", CHECK_IN + timedelta(hours=number))
        await fail(booked, "sim-zigbee-1", f"res-{number}")
    await execute(
        booked,
        "UPDATE access_codes SET starts_at = now() - interval '2 d', ends_at = now()"
        " WHERE reservation_id <= 'res-3'",
    )
    async with booked.transaction() as session:
        assert await jobs.retry_failed_jobs(session) == {"retried": 2, "left": 4}
        assert await jobs.retry_failed_jobs(session) == {"retried": 1, "left": 3}
        assert await jobs.retry_failed_jobs(session) == {"retried": 0, "left": 3}


async def test_retry_all_takes_as_few_statements_for_ten_jobs_as_for_one(
    booked: Database, planner: Planner
) -> None:
    heard: list[str] = []

    def hear(_: Any, __: Any, statement: str, *___: Any) -> None:
        heard.append(statement)

    async def asked_for(reservation_ids: list[str]) -> int:
        for reservation_id in reservation_ids:
            await fail(booked, "sim-zigbee-1", reservation_id)
        event.listen(booked.engine.sync_engine, "before_cursor_execute", hear)
        async with booked.transaction() as session:
            told = await jobs.retry_failed_jobs(session)
        event.remove(booked.engine.sync_engine, "before_cursor_execute", hear)
        assert told == {"retried": len(reservation_ids), "left": 0}
        asked = len(heard)
        heard.clear()
        return asked

    others = [f"res-{number}" for number in range(2, 11)]
    for other in others:
        await book(booked, planner, other)
    assert await asked_for(["res-1"]) == await asked_for(["res-1", *others])


@pytest.mark.parametrize("at_once", [True, False])
async def test_retry_of_a_revoke_leaves_the_pin_of_a_guest_who_stays_longer_on_the_door(
    bench: Workbench, prompt: Control, at_once: bool
) -> None:
    await factories.add_listing(bench.db)
    await book(bench.db, bench.planner, "res-1", TODAY, TODAY + timedelta(hours=1))
    assert await ring(bench, "generate") is None
    await execute(
        bench.db, "UPDATE procrastinate_jobs SET status = 'failed' WHERE queue_name = 'revoke_pin'"
    )
    await book(bench.db, bench.planner, "res-1", TODAY, CHECK_OUT)
    async with bench.db.transaction() as session:
        if at_once:
            await jobs.retry_failed_jobs(session)
        else:
            (job,) = (await jobs.list_queue_jobs(session, "revoke_pin"))["failed"]
            await jobs.retry_job(session, job["job_id"])
    (job,) = await waiting(bench.db, "revoke_pin")
    assert (job["state"], job["scheduled_at"]) == ("delayed", CHECK_OUT)
    async with bench.db.transaction() as session:
        assert (await jobs.list_queue_jobs(session, "revoke_pin"))["failed"] == []


async def test_retry_all_and_a_change_of_the_listing_at_once_never_deadlock(
    booked: Database, planner: Planner
) -> None:
    await book(booked, planner, "res-0")  # first by its id, last by that of its access code
    for _ in range(5):
        for reservation_id in ("res-0", "res-1"):
            await fail(booked, "sim-zigbee-1", reservation_id)

        async def retry_all() -> None:
            async with booked.transaction() as session:
                await jobs.retry_failed_jobs(session)

        async def change() -> None:
            async with booked.transaction() as session:
                await inventory.set_listing(
                    session, planner, "test", "apt-7", lead=timedelta(hours=2)
                )

        await asyncio.gather(retry_all(), change())


async def test_clear_failed_leaves_a_job_to_who_retries_it_and_waits_for_nobody(
    booked: Database, planner: Planner
) -> None:
    await book(booked, planner, "res-2")
    retried = await fail(booked, "sim-zigbee-1")
    other = await fail(booked, "sim-zigbee-1", "res-2")
    async with booked.transaction() as retrying, booked.transaction() as clearing:
        await jobs.retry_job(retrying, retried)
        async with asyncio.timeout(5):
            told = await jobs.clear_failed_jobs(clearing, "generate_pin")
    assert told == {"cleared": 1}
    left = await factories.rows(
        booked, "SELECT job_id FROM job_records WHERE state = 'failed' ORDER BY 1"
    )
    assert [row["job_id"] for row in left] == [retried, other]
    assert await state(booked, "generate") == "waiting"


async def test_other_dates_begin_a_failed_generate_again_and_nothing_is_left_as_failed(
    bench: Workbench, prompt: Control
) -> None:
    await factories.add_listing(bench.db)
    await book(bench.db, bench.planner, "res-1", TODAY)
    await fail(bench.db, "sim-zigbee-1")
    await book(bench.db, bench.planner, "res-1", TODAY, CHECK_OUT + timedelta(hours=1))
    assert await ring(bench, "generate") is None
    assert len(held(prompt)) == 1
    assert await failed(bench.db) == []


# Health


async def test_health_counts_the_same_as_counting_the_rows(
    booked: Database, planner: Planner
) -> None:
    for number in range(2, 6):
        await book(booked, planner, f"res-{number}")
    await cancel(booked, "res-2")
    await cancel(booked, "res-3")
    await execute(
        booked, "DELETE FROM procrastinate_jobs WHERE status = 'cancelled' AND id % 2 = 0"
    )
    rows = await factories.rows(
        booked,
        "SELECT queue_name AS queue, status::text, count(*) AS jobs"
        " FROM procrastinate_jobs GROUP BY 1, 2 ORDER BY 1, 2",
    )
    summed = await factories.rows(
        booked,
        "SELECT queue, status, sum(change)::bigint AS jobs FROM job_counts"
        " GROUP BY 1, 2 HAVING sum(change) <> 0 ORDER BY 1, 2",
    )
    assert summed == rows


async def test_health_counts_nothing_of_jobs_truncated_while_a_sweep_sums_up(
    booked: Database,
) -> None:
    async with booked.transaction() as session:
        await sweeping.fold_job_counts(session)
        truncating = asyncio.create_task(execute(booked, "TRUNCATE procrastinate_jobs CASCADE"))
        await until(lambda: factories.rows(booked, WAITING_FOR_A_LOCK))
    await truncating
    async with booked.transaction() as session:
        health = await jobs.get_queue_health(session)
    assert {sum(states.values()) for states in health["queues"].values()} == {0}


# Transactions


UTILITIES: dict[str, Callable[[Session, Planner, int], Awaitable[object]]] = {
    "schedule_generate_pin": lambda session, planner, _: jobs.schedule_generate_pin(
        session, "res-1", CHECK_IN + timedelta(hours=1), planner=planner
    ),
    "schedule_revoke_pin": lambda session, planner, _: jobs.schedule_revoke_pin(
        session, "res-1", CHECK_OUT + timedelta(hours=1), planner=planner
    ),
    "cancel_scheduled_jobs": lambda session, _, __: jobs.cancel_scheduled_jobs(session, "res-1"),
    "retry_job": lambda session, _, failed: jobs.retry_job(session, failed),
    "retry_failed_jobs": lambda session, _, __: jobs.retry_failed_jobs(session),
    "clear_failed_jobs": lambda session, _, __: jobs.clear_failed_jobs(session, "generate_pin"),
}


@pytest.mark.parametrize("utility", UTILITIES)
async def test_what_a_utility_does_nobody_sees_before_commit_and_a_rollback_undoes(
    booked: Database, planner: Planner, utility: str
) -> None:
    await book(booked, planner, "res-2")
    failed_job = await fail(booked, "sim-zigbee-1", "res-2")
    before = await everything_stored(booked)

    async def use_and_fail() -> None:
        async with booked.transaction() as session:
            await UTILITIES[utility](session, planner, failed_job)
            assert await everything_told(session) != told_before
            assert await everything_stored(booked) == before, "seen before COMMIT"
            raise ZeroDivisionError

    async with booked.transaction() as session:
        told_before = await everything_told(session)
    with pytest.raises(ZeroDivisionError):
        await use_and_fail()
    assert await everything_stored(booked) == before


async def everything_told(session: Session) -> list[Any]:
    """What the utilities that only ask answer in this transaction."""
    status = [
        await jobs.get_scheduled_job_status(session, stay, kind)
        for stay in ("res-1", "res-2")
        for kind in ("generate", "revoke")
    ]
    states = [(one["job_id"], one["state"], one["data"]) for one in status if one is not None]
    listed = [await jobs.list_queue_jobs(session, f"{kind}_pin") for kind in ("generate", "revoke")]
    found = await jobs.find_jobs(session)
    counted = (await jobs.get_queue_health(session))["queues"]
    return [states, listed, found, counted]


async def everything_stored(db: Database) -> list[Any]:
    tables = "reservations access_codes operations job_records procrastinate_jobs audit_events"
    return [
        await factories.value(
            db, f"SELECT coalesce(jsonb_agg(t ORDER BY t::text), '[]') FROM {table} t"
        )
        for table in tables.split()
    ]


async def test_a_stay_is_taken_as_it_is_now_and_not_as_the_caller_read_it_before(
    booked: Database, planner: Planner
) -> None:
    async with booked.transaction() as session:
        read_before = await session.get(Reservation, "res-1")
        await book(booked, planner, "res-1", status=ReservationStatus.CANCELLED)
        with pytest.raises(Conflict, match="cancelled"):
            await jobs.schedule_generate_pin(session, "res-1", planner=planner)
        assert read_before is not None
    assert await waiting(booked, "generate_pin") == []
