"""What Procrastinate documents of its queue holds with the parts of it that we replace."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.jobs import Status

from tests.queueing import QUEUE, Queue, a_queue

pytestmark = pytest.mark.anyio


@pytest.fixture
async def queue(database_url: str) -> AsyncIterator[Queue]:
    async with a_queue(database_url) as queue:
        yield queue


async def test_higher_priority_goes_first_then_what_is_due_longer_then_what_was_deferred_earlier(
    queue: Queue,
) -> None:
    await queue.defer("low", due=-9, priority=-1)
    await queue.defer("late", due=-1)
    await queue.defer("later", due=-5)
    await queue.defer("untimed")
    await queue.defer("untimed too")
    await queue.defer("high", due=-1, priority=3)
    await queue.work()
    assert queue.ran.begun == ["high", "untimed", "untimed too", "later", "late", "low"]


async def test_a_job_does_not_run_before_its_time(queue: Queue) -> None:
    await queue.defer("ahead", due=600, priority=9)
    await queue.defer("due", due=-1)
    await queue.work()
    assert queue.ran.begun == ["due"]


async def test_a_worker_takes_jobs_of_its_own_queues_only(queue: Queue) -> None:
    for name in ("one", "two", "three"):
        await queue.defer(name, queue=name)
    await queue.work(queues=("one", "three"))
    assert sorted(queue.ran.begun) == ["one", "three"]


async def test_a_job_that_ran_has_succeeded_and_one_that_raised_has_failed(queue: Queue) -> None:
    good, bad = await queue.defer("good"), await queue.defer("bad", task="fail")
    unknown = await queue.defer("unknown", task="no such task")
    await queue.work()
    jobs = [await queue.job(id_) for id_ in (good, bad, unknown)]
    assert [(job["status"], job["attempts"]) for job in jobs] == [
        ("succeeded", 1),
        ("failed", 1),
        ("failed", 1),
    ]


async def test_every_change_of_a_job_is_an_event(queue: Queue) -> None:
    await queue.defer("good", due=-1)
    await queue.work()
    events = await queue.ask("SELECT type::text FROM procrastinate_events ORDER BY id")
    assert Counter(event["type"] for event in events) == Counter(
        ("deferred", "scheduled", "started", "succeeded")
    )


async def test_jobs_with_one_lock_run_one_after_the_other_in_their_order(
    database_url: str,
) -> None:
    async with a_queue(database_url, concurrency=4) as queue:
        for number in range(4):
            await queue.defer(number, lock="door")
        async with queue.working(concurrency=4, fetch_job_polling_interval=0.05):
            await queue.until_begun(0, 1, 2, 3)
        assert queue.ran.most_at_once == 1


async def test_jobs_without_a_lock_run_at_once(database_url: str) -> None:
    async with a_queue(database_url, concurrency=4) as queue:
        for number in range(4):
            await queue.defer(number, task="wait")
        async with queue.working(concurrency=4):
            await queue.until_begun(0, 1, 2, 3)
            queue.ran.go_on.set()


async def test_a_job_waits_for_an_earlier_one_with_its_lock_even_if_that_is_due_later(
    queue: Queue,
) -> None:
    await queue.defer("ahead", due=600, lock="door")
    await queue.defer("behind", lock="door")
    await queue.defer("another", lock="other door")
    await queue.work()
    assert queue.ran.begun == ["another"]


async def test_a_job_with_higher_priority_does_not_wait_for_one_with_its_lock(
    queue: Queue,
) -> None:
    await queue.defer("ahead", due=600, lock="door")
    await queue.defer("first", lock="door", priority=1)
    await queue.work()
    assert queue.ran.begun == ["first"]


async def test_no_two_jobs_with_one_queueing_lock_wait_but_one_may_while_the_other_runs(
    queue: Queue,
) -> None:
    await queue.defer("first", task="wait", queueing_lock="once")
    with pytest.raises(AlreadyEnqueued):
        await queue.defer("second", queueing_lock="once")
    async with queue.working():
        await queue.until_begun("first")
        await queue.defer("third", queueing_lock="once")
        queue.ran.go_on.set()
        await queue.until_begun("first", "third")


async def test_a_cancelled_job_does_not_run(queue: Queue) -> None:
    job_id = await queue.defer("cancelled")
    assert await queue.manager.cancel_job_by_id_async(job_id)
    await queue.work()
    assert queue.ran.begun == []
    assert (await queue.job(job_id))["status"] == "cancelled"


async def test_a_running_job_can_be_aborted_at_once(queue: Queue) -> None:
    job_id = await queue.defer("aborted", task="wait")
    async with queue.working():
        await queue.until_begun("aborted")
        assert await queue.manager.cancel_job_by_id_async(job_id, abort=True)
        await queue.until(
            "SELECT status = 'aborted' AS so FROM procrastinate_jobs WHERE id = %(id)s", id=job_id
        )
    assert (await queue.job(job_id))["abort_requested"] is False


async def test_a_job_is_retried_as_often_as_its_strategy_says_and_counts_its_attempts(
    queue: Queue,
) -> None:
    job_id = await queue.defer("again", task="retry")
    async with queue.working():
        await queue.until(
            "SELECT status = 'failed' AS so FROM procrastinate_jobs WHERE id = %(id)s", id=job_id
        )
    assert queue.ran.begun == ["again"] * 3
    assert (await queue.job(job_id))["attempts"] == 3


async def test_a_worker_tells_that_it_lives_and_leaves_no_row_when_it_stops(queue: Queue) -> None:
    async with queue.working(update_heartbeat_interval=0.05):
        (before,) = await queue.ask("SELECT last_heartbeat FROM procrastinate_workers")
        await queue.until(
            "SELECT last_heartbeat > %(at)s AS so FROM procrastinate_workers",
            at=before["last_heartbeat"],
        )
    assert await queue.ask("SELECT FROM procrastinate_workers") == []


async def test_jobs_of_a_worker_that_died_are_stalled_and_those_of_one_that_lives_are_not(
    queue: Queue,
) -> None:
    dead, alive = [await queue.manager.register_worker() for _ in range(2)]
    mine = await queue.defer("dead")
    await queue.manager.fetch_job([QUEUE], dead)
    await queue.defer("alive")
    await queue.manager.fetch_job([QUEUE], alive)
    await queue.ask(
        "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '31 s'"
        " WHERE id = %(id)s RETURNING id",
        id=dead,
    )
    stalled = await queue.manager.get_stalled_jobs()
    assert [job.id for job in stalled] == [mine]
    assert await queue.manager.prune_stalled_workers(30) == [dead]


async def test_only_what_waits_or_runs_can_be_finished_and_the_others_with_it_are(
    queue: Queue,
) -> None:
    """Those with a lock: for others nobody waits."""
    first, second = await queue.defer("first", lock="a"), await queue.defer("second", lock="b")
    one, another = await queue.fetch(), await queue.fetch()
    assert one
    assert another
    await queue.manager.finish_job(one, Status.SUCCEEDED, delete_job=False)
    again, other = await asyncio.gather(
        queue.manager.finish_job(one, Status.FAILED, delete_job=False),
        queue.manager.finish_job(another, Status.FAILED, delete_job=False),
        return_exceptions=True,
    )
    assert isinstance(again, ConnectorException)
    assert other is None
    assert [(await queue.job(id_))["status"] for id_ in (first, second)] == ["succeeded", "failed"]


async def test_a_job_can_be_deleted_when_it_ends(queue: Queue) -> None:
    await queue.defer("gone")
    job = await queue.fetch()
    assert job is not None
    await queue.manager.finish_job(job, Status.SUCCEEDED, delete_job=True)
    assert await queue.statuses() == []


async def test_several_workers_run_each_job_once(database_url: str) -> None:
    async with (
        a_queue(database_url, concurrency=5) as one,
        a_queue(database_url, concurrency=5) as two,
        a_queue(database_url, concurrency=5) as three,
    ):
        for number in range(150):
            await one.defer(number)
        # Who finds all that is due in the hands of others has done its part, with wait=False.
        await asyncio.gather(*(queue.work(concurrency=5) for queue in (one, two, three)))
        ran = Counter(number for queue in (one, two, three) for number in queue.ran.begun)
        assert ran == Counter(range(150))
        assert set(await one.statuses()) == {"succeeded"}
