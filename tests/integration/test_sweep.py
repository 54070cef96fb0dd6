"""The sweep: whatever becomes of a job, its operation rings again."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta

import psycopg
import pytest

from pinqueue import store, sweep
from pinqueue.config import Settings
from pinqueue.db import Database
from pinqueue.errors import TryLater
from pinqueue.operations import Workbench
from pinqueue.reservations import Planner
from pinqueue.simulator import Control
from pinqueue.store import access_codes, sweeping
from tests import factories
from tests.operating import (
    book,
    cancel,
    code_of,
    execute,
    held,
    operation_of,
    ring,
    taken_by_a_worker,
    tell,
    until,
)

pytestmark = pytest.mark.anyio

JOBS = """
    SELECT job.id, job.status::text AS status, job.args->>'operation_id' AS operation
    FROM procrastinate_jobs job WHERE task_name = 'generate_pin' ORDER BY id
"""
RETENTION = timedelta(hours=24)


async def overdue(db: Database, by: str = "1 minute") -> None:
    await execute(
        db,
        "UPDATE operations SET due_at = now() - CAST(:by AS interval),"
        " next_at = now() - CAST(:by AS interval) WHERE kind = 'generate'",
        by=by,
    )


async def test_an_operation_whose_job_was_deleted_gets_another_and_is_done(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    await execute(bench.db, "DELETE FROM procrastinate_jobs")
    await overdue(bench.db)
    await sweep.sweep(bench.db, RETENTION)
    operation = await operation_of(bench, "generate")
    (job,) = await factories.rows(bench.db, JOBS)
    assert job == {"id": operation.job_id, "status": "todo", "operation": str(operation.id)}
    assert operation.rescues == 0, "a lost job is nobody's fault"
    assert await ring(bench, "generate", as_if_due=False) is None
    assert len(held(prompt)) == 1


async def test_sweeping_twice_gives_one_job(bench: Workbench) -> None:
    await book(bench)
    await execute(bench.db, "DELETE FROM procrastinate_jobs")
    await overdue(bench.db)
    await sweep.sweep(bench.db, RETENTION)
    await sweep.sweep(bench.db, RETENTION)
    assert len(await factories.rows(bench.db, JOBS)) == 1


async def test_two_sweeps_at_once_give_one_job(bench: Workbench) -> None:
    for number in range(5):
        await book(bench, reservation_id=f"res-{number}")
    await execute(bench.db, "DELETE FROM procrastinate_jobs")
    await overdue(bench.db)
    await asyncio.gather(*(sweep.sweep(bench.db, RETENTION) for _ in range(4)))
    jobs = await factories.rows(bench.db, JOBS)
    assert sorted(job["operation"] for job in jobs) == sorted({job["operation"] for job in jobs})
    assert len(jobs) == 5


async def test_an_operation_that_is_not_due_is_left_alone(db: Database, planner: Planner) -> None:
    await factories.add_listing(db)
    await factories.receive(db, planner, factories.booking())
    await execute(db, "DELETE FROM procrastinate_jobs")
    await sweep.sweep(db, RETENTION)
    assert await factories.rows(db, JOBS) == []


async def test_an_operation_whose_job_waits_or_runs_is_left_alone(bench: Workbench) -> None:
    await book(bench)
    await overdue(bench.db, "30 s")
    await sweep.sweep(bench.db, RETENTION)
    await taken_by_a_worker(bench, "1 s")
    await sweep.sweep(bench.db, RETENTION)
    (job,) = await factories.rows(bench.db, JOBS)
    assert job["status"] == "doing"


async def test_a_job_whose_end_its_living_worker_could_not_write_is_replaced(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    await taken_by_a_worker(bench, "1 s", begun=False)
    await overdue(bench.db, "2 minutes")
    await sweep.sweep(bench.db, RETENTION)
    assert [job["status"] for job in await factories.rows(bench.db, JOBS)] == ["doing", "todo"]
    assert (await operation_of(bench, "generate")).rescues == 0
    assert await ring(bench, "generate", as_if_due=False) is None
    assert len(held(prompt)) == 1


@pytest.mark.parametrize("heartbeat", ["9 s", "30 s", None])
async def test_a_job_whose_worker_died_is_ended_and_another_takes_its_place(
    bench: Workbench, prompt: Control, heartbeat: str | None
) -> None:
    await book(bench)
    await taken_by_a_worker(bench, heartbeat)
    assert await sweep.rescue_stalled(bench.db) == 1
    (new,) = await factories.rows(bench.db, JOBS)
    ended = await factories.rows(bench.db, "SELECT state FROM job_records WHERE state IS NOT NULL")
    assert (ended, new["status"]) == ([{"state": "failed"}], "todo")
    operation = await operation_of(bench, "generate")
    assert (operation.rescues, operation.job_id) == (1, new["id"])
    (event,) = await factories.rows(
        bench.db, "SELECT event, detail FROM audit_timeline WHERE actor = 'sweep'"
    )
    assert (event["event"], event["detail"]["reason"]) == ("generate:rescued", "its worker died")
    assert await ring(bench, "generate", as_if_due=False) is None
    assert len(held(prompt)) == 1


async def test_a_job_that_its_dead_worker_had_not_begun_is_replaced_and_did_not_kill_it(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    await taken_by_a_worker(bench, None, begun=False)
    assert await sweep.rescue_stalled(bench.db) == 1
    (new,) = await factories.rows(bench.db, JOBS)
    operation = await operation_of(bench, "generate")
    assert (operation.rescues, operation.job_id, new["status"]) == (0, new["id"], "todo")


async def test_what_its_worker_died_at_goes_before_a_guest_who_arrives_earlier(
    bench: Workbench,
) -> None:
    await book(bench, reservation_id="later", starts_in=timedelta(minutes=50))
    await taken_by_a_worker(bench, "9 s")
    await book(bench, reservation_id="sooner", starts_in=timedelta(minutes=5))
    await sweep.rescue_stalled(bench.db)
    waiting = await factories.rows(
        bench.db,
        "SELECT code.reservation_id AS stay FROM procrastinate_jobs job"
        " JOIN operations operation ON operation.job_id = job.id"
        " JOIN access_codes code ON code.id = access_code_id"
        " WHERE operation.kind = 'generate' AND status = 'todo' ORDER BY priority DESC",
    )
    assert [job["stay"] for job in waiting] == ["later", "sooner"]


async def test_operations_whose_workers_died_twice_are_tried_one_at_a_time_by_each_worker(
    benches: tuple[Workbench, Workbench], prompt: Control
) -> None:
    """Whichever of them kills its worker again, it takes none of the others along."""
    a, b = benches
    for door in ("one", "two", "three"):
        prompt.add_door(door, "zigbee")
        await book(a, door, f"res-{door}")
    for _ in range(2):
        await taken_by_a_worker(a, None)
        assert await sweep.rescue_stalled(a.db) == 3
    await book(a, reservation_id="res-fresh")
    prompt.settings(latency_ms=100)
    one, two, fresh, elsewhere = await asyncio.gather(
        ring(a, "generate", "res-one"),
        ring(a, "generate", "res-two"),
        ring(a, "generate", "res-fresh"),
        ring(b, "generate", "res-three"),
    )
    assert (fresh, elsewhere) == (None, None)
    assert [one, two].count(None) == 1, "whichever came first"
    waits = "res-one" if isinstance(one, TryLater) else "res-two"
    assert (await operation_of(a, "generate", waits)).epoch == 2, "not begun again"
    assert await ring(a, "generate", waits) is None


@pytest.mark.parametrize("ended", ["completed", "cancelled", "failed"])
async def test_a_job_whose_worker_died_when_all_was_recorded_ends_as_its_operation_did(
    bench: Workbench, prompt: Control, ended: str
) -> None:
    await book(bench)
    await taken_by_a_worker(bench, None)
    if ended == "failed":
        prompt.fault("code", {"method": "GET", "path": "temp-passwords"}, code=2008)
    if ended == "cancelled":
        await cancel(bench)
    else:
        await ring(bench, "generate")
    assert (await operation_of(bench, "generate")).state == ended
    assert await sweep.rescue_stalled(bench.db) == 1
    (job,) = await factories.rows(
        bench.db, "SELECT state FROM audit_jobs WHERE queue = 'generate_pin'"
    )
    assert job["state"] == ended


async def test_a_job_whose_worker_died_when_another_rang_already_is_no_failure(
    bench: Workbench,
) -> None:
    await book(bench)
    await taken_by_a_worker(bench, begun=False)
    await tell(bench, starts_in=timedelta(days=9))
    await sweep.rescue_stalled(bench.db)
    assert [job["status"] for job in await factories.rows(bench.db, JOBS)] == ["aborted", "todo"]
    assert (await operation_of(bench, "generate")).rescues == 0


async def test_an_operation_whose_job_was_taken_before_its_time_rings_at_its_time(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    await factories.receive(db, planner, factories.booking())
    due = "SELECT kind, due_at, next_at FROM operations ORDER BY id"
    before = await factories.rows(db, due)
    await execute(db, "UPDATE procrastinate_jobs SET status = 'doing'")
    assert await sweep.rescue_stalled(db) == 2
    assert await factories.rows(db, due) == before
    planned = await factories.rows(
        db, "SELECT scheduled_at FROM procrastinate_jobs WHERE status = 'todo' ORDER BY id"
    )
    assert [job["scheduled_at"] for job in planned] == [row["due_at"] for row in before]


async def test_a_job_of_a_worker_that_lives_is_not_rescued(bench: Workbench) -> None:
    """It beats; or its lock is held still, and it was only slow to say so."""
    await book(bench)
    await taken_by_a_worker(bench, "4 s")
    assert await sweep.rescue_stalled(bench.db) == 0
    await execute(
        bench.db, "UPDATE procrastinate_workers SET last_heartbeat = now() - '20 s'::interval"
    )
    await bench.mutex.live_as(
        await factories.value(bench.db, "SELECT id FROM procrastinate_workers")
    )
    assert await sweep.rescue_stalled(bench.db) == 0
    await bench.mutex.close()
    assert await sweep.rescue_stalled(bench.db) == 1


async def test_after_three_rescues_a_generate_is_quarantined_and_a_person_is_called(
    bench: Workbench,
) -> None:
    await book(bench)
    for _ in range(4):
        await taken_by_a_worker(bench, None)
        await sweep.rescue_stalled(bench.db)
    operation, code = await operation_of(bench, "generate"), await code_of(bench)
    assert (operation.state, code.state) == ("failed", "failed")
    assert "quarantined" in str(operation.last_error)
    assert {job["status"] for job in await factories.rows(bench.db, JOBS)} == {"failed"}
    assert (
        await factories.value(
            bench.db, "SELECT count(*) FROM audit_timeline WHERE event = 'generate:quarantined'"
        )
        == 1
    )
    assert len(await factories.rows(bench.db, "SELECT * FROM audit_failed")) == 1
    assert (await operation_of(bench, "revoke")).state == "waiting"


BEFORE_THE_RESTART = "UPDATE tries SET started_at = pg_postmaster_start_time() - interval '1 s'"


async def test_a_worker_lost_by_a_restart_of_the_database_is_not_held_against_what_it_was_at(
    bench: Workbench,
) -> None:
    await book(bench)
    for _ in range(9):
        await taken_by_a_worker(bench, None)
        await execute(bench.db, BEFORE_THE_RESTART)
        await sweep.rescue_stalled(bench.db)
    operation = await operation_of(bench, "generate")
    assert (operation.state, operation.rescues) == ("active", 0)


async def die_together(bench: Workbench, times: int, *, elsewhere: int) -> None:
    """The worker dies at the operation so often, and each time others at other operations."""
    dead = itertools.count(1_000_000)
    for _ in range(times):
        await taken_by_a_worker(bench, "30 s")
        await sweep.rescue_stalled(bench.db)
        async with bench.db.transaction() as session:
            for _ in range(elsewhere):
                await store.record(
                    session,
                    sweep.ACTOR,
                    "generate:rescued",
                    operation_id=0,
                    reason=sweeping.DIED,
                    worker=next(dead),
                )


async def test_where_workers_die_as_often_without_it_an_operation_is_not_to_blame(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    await die_together(bench, 6, elsewhere=2)
    operation = await operation_of(bench, "generate")
    assert (operation.state, operation.rescues) == ("active", 6)
    assert await ring(bench, "generate") is None
    assert len(held(prompt)) == 1


async def test_what_two_workers_died_at_is_tried_alone(bench: Workbench, prompt: Control) -> None:
    await book(bench)
    await die_together(bench, 2, elsewhere=0)
    async with bench.suspect:  # another one is being tried
        assert isinstance(await ring(bench, "generate"), TryLater)
    assert held(prompt) == []


async def test_where_workers_die_as_often_without_it_an_operation_waits_for_no_other(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    await die_together(bench, 2, elsewhere=1)
    async with bench.suspect:
        assert await ring(bench, "generate") is None
    assert len(held(prompt)) == 1


@pytest.mark.parametrize(("times", "elsewhere"), [(4, 0), (21, 2)])
async def test_what_workers_die_at_far_more_often_is_quarantined_whoever_else_dies(
    bench: Workbench, times: int, elsewhere: int
) -> None:
    await book(bench)
    await die_together(bench, times - 1, elsewhere=elsewhere)
    assert (await operation_of(bench, "generate")).state == "active"
    await die_together(bench, 1, elsewhere=0)
    assert (await operation_of(bench, "generate")).state == "failed"


@pytest.mark.parametrize("state", ["generating", "sent", "active"])
async def test_a_quarantined_code_is_failed_however_far_it_had_come(
    bench: Workbench, prompt: Control, state: str
) -> None:
    await book(bench)
    if state == "generating":
        prompt.fault("code", {"method": "GET", "path": "temp-passwords"}, code=2312)
    elif state == "sent":
        prompt.settings(zigbee_seconds=60)
    await ring(bench, "generate")
    if state == "active":
        await tell(bench, lasts=timedelta(days=9))
    assert (await code_of(bench)).state == state
    await execute(bench.db, "UPDATE operations SET rescues = 3 WHERE kind = 'generate'")
    await taken_by_a_worker(bench, None)
    await sweep.rescue_stalled(bench.db)
    assert (await code_of(bench)).state == "failed"


async def test_a_quarantined_revoke_leaves_the_code_revoking(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    await ring(bench, "generate")
    await cancel(bench)
    await execute(bench.db, "UPDATE operations SET rescues = 3 WHERE kind = 'revoke'")
    await taken_by_a_worker(bench, None, kind="revoke")
    await sweep.rescue_stalled(bench.db)
    assert (await operation_of(bench, "revoke")).state == "failed"
    assert (await code_of(bench)).state == "revoking"


async def test_a_try_that_ended_well_weighs_against_one_that_killed_its_worker(
    bench: Workbench, prompt: Control
) -> None:
    """A revoke may wait weeks for a lock: some restarts in that time are no poison. But a poison
    may meet a cloud that is in trouble in between."""
    await book(bench)
    prompt.fault("code", {"method": "GET", "path": "temp-passwords"}, code=2312)
    for _ in range(2):
        await taken_by_a_worker(bench, None)
        await sweep.rescue_stalled(bench.db)
    await ring(bench, "generate")
    operation = await operation_of(bench, "generate")
    assert (operation.state, operation.rescues) == ("waiting", 1)


async def test_r15_what_kills_its_worker_at_its_create_is_quarantined_though_it_waits_in_between(
    bench: Workbench, prompt: Control
) -> None:
    """A create that nobody knows the end of is not repeated before the grace is over: rings that
    wait for that prove nothing."""
    await book(bench)
    for _ in range(3):
        await taken_by_a_worker(bench, None)
        await sweep.rescue_stalled(bench.db)
        await execute(bench.db, "UPDATE access_codes SET create_in_doubt_since = now()")
        assert isinstance(await ring(bench, "generate"), TryLater)
    assert (await operation_of(bench, "generate")).rescues == 3
    await taken_by_a_worker(bench, None)
    await sweep.rescue_stalled(bench.db)
    assert (await operation_of(bench, "generate")).state == "failed"


async def test_a_job_that_broke_counts_as_a_rescue(bench: Workbench) -> None:
    await book(bench)
    await execute(
        bench.db, "UPDATE procrastinate_jobs SET status = 'failed' WHERE task_name = 'generate_pin'"
    )
    await overdue(bench.db)
    await sweep.defer_jobless(bench.db)
    assert (await operation_of(bench, "generate")).rescues == 1


@pytest.mark.parametrize("why", ["stalled", "jobless"])
async def test_an_operation_that_cannot_be_rescued_holds_up_no_other(
    settings: Settings, bench: Workbench, why: str
) -> None:
    impatient = Database(settings.database_url, limits={"lock_timeout": "200ms"}, pool_size=3)
    for number in range(3):
        await book(bench, reservation_id=f"res-{number}")
    if why == "stalled":
        await taken_by_a_worker(bench, None)
    else:
        await execute(bench.db, "DELETE FROM procrastinate_jobs")
        await overdue(bench.db)
    stuck = await code_of(bench, "res-0")
    async with bench.db.transaction() as session:
        await access_codes.code_for_update(session, stuck.id)
        await sweep.sweep(impatient, RETENTION)
    await impatient.close()
    waiting = [job for job in await factories.rows(bench.db, JOBS) if job["status"] == "todo"]
    assert len(waiting) == 2
    await sweep.sweep(bench.db, RETENTION)
    waiting = [job for job in await factories.rows(bench.db, JOBS) if job["status"] == "todo"]
    assert len(waiting) == 3


async def test_a_sweep_and_workers_at_once_never_deadlock(
    bench: Workbench, prompt: Control, database_url: str
) -> None:
    for number in range(4):
        prompt.add_door(f"lock-{number}", "zigbee")
        await book(bench, f"lock-{number}", f"res-{number}")
    prompt.settings(zigbee_seconds=600)
    for _ in range(6):
        await execute(bench.db, "DELETE FROM procrastinate_jobs")
        await overdue(bench.db)
        await asyncio.gather(
            *(ring(bench, "generate", f"res-{number}") for number in range(4)),
            *(sweep.sweep(bench.db, RETENTION) for _ in range(4)),
        )
    await bench.db.close()  # a backend reports what it has counted at the latest when it ends
    with psycopg.connect(database_url, autocommit=True) as connection:

        async def backends_are_gone() -> bool:
            others = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'pinqueue-tests'"
            ).fetchone()
            return others == (0,)

        await until(backends_are_gone)
        counted = connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert counted == (0,)
