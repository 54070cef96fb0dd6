"""The alarm, the batches and the order of what is late."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Status
from procrastinate.utils import cancel_and_capture_errors

from pinqueue import alarms, ringing, store
from pinqueue.operations import Workbench
from pinqueue.ringing import Ringer
from pinqueue.simulator import Control
from pinqueue.store import access_codes, operations
from tests import factories
from tests.operating import book, cancel, code_of, execute, put_on_door
from tests.queueing import QUEUE, Queue, a_queue

pytestmark = pytest.mark.anyio


CHANNEL = "procrastinate_queue_v1"
NUDGE = """
    SELECT pg_notify(%(channel)s, json_build_object('type', 'job_inserted', 'job_id', 0)::text)
"""


@pytest.fixture
async def queue(database_url: str) -> AsyncIterator[Queue]:
    async with a_queue(database_url) as queue:
        yield queue


# The alarm. These workers look only when they start: what runs was rung for.


async def test_the_alarm_rings_when_a_job_is_due(queue: Queue) -> None:
    await queue.defer("ahead", due=1.5)
    async with queue.working():
        assert queue.ran.begun == []
        await queue.until_begun("ahead")


async def test_the_alarm_rings_for_each_of_several_times(queue: Queue) -> None:
    for number in range(5):
        await queue.defer(number, due=1 + number / 4)
    async with queue.working():
        await queue.until_begun(0, 1, 2, 3, 4)


async def test_a_nearer_job_that_arrives_is_learned_of(queue: Queue) -> None:
    await queue.defer("next month", due=30 * 86400)
    async with queue.working():
        await queue.defer("soon", due=1)
        await queue.until_begun("soon")
        await queue.defer("now")
        await queue.until_begun("soon", "now")


async def test_a_job_that_is_put_off_for_a_moment_rings_again(queue: Queue) -> None:
    await queue.defer("again", task="retry")
    async with queue.working():
        await queue.until_begun("again", "again", "again")


async def test_a_job_that_arrives_while_the_worker_looks_is_not_forgotten(
    database_url: str,
) -> None:
    """Procrastinate's worker forgets what rings between its question and the answer."""

    class Interrupted(Ringer):
        async def _fetch(self, queues: Sequence[str], worker_id: int | None) -> None:
            await super()._fetch(queues, worker_id)
            if not arrived:
                await queue.until_it_listens()
                rung = self._rung
                arrived.append(await queue.defer("just in time"))
                while self._rung == rung:  # noqa: ASYNC110  # until the worker has heard of it
                    await asyncio.sleep(0.01)

    arrived: list[int] = []
    async with a_queue(database_url) as queue:
        queue.app.job_manager = Interrupted(queue.app.connector, concurrency=1)
        async with queue.working():
            await queue.until_begun("just in time")


async def test_of_many_that_are_due_the_order_is_looked_for_once(database_url: str) -> None:
    class Counting(Ringer):
        async def _take_in_order(self, most: int, worker_id: int | None) -> bool:
            known = await super()._take_in_order(most, worker_id)
            looks.append(not known)
            return known

    looks: list[bool] = []
    async with a_queue(database_url) as queue:
        for number in range(9):
            await queue.defer(number, priority=-number)
        queue.app.job_manager = Counting(queue.app.connector, concurrency=1)
        async with queue.working():
            await queue.until_begun(*range(9))
    assert looks.count(False) >= 7


async def test_who_becomes_due_is_not_behind_those_whose_order_was_known(queue: Queue) -> None:
    for number in range(4):
        await queue.defer(number, task="wait", priority=-number)
    await queue.defer("due by then", due=1.5, priority=2)
    async with queue.working():
        await queue.until_begun(0)
        await queue.defer("arrived", priority=1)
        await queue.until(
            "SELECT now() > max(scheduled_at) + interval '0.3 s' AS so FROM procrastinate_jobs"
        )
        queue.ran.go_on.set()
        await queue.until_begun(0, "due by then", "arrived", 1, 2, 3)


# Notifications


@dataclass
class Heard:
    """A connection that listens as a worker does."""

    connection: psycopg.AsyncConnection[Any]

    async def jobs(self) -> int:
        """How many jobs it was notified of since it was asked last."""
        await self.connection.execute("NOTIFY done")
        heard = 0
        async for notification in self.connection.notifies(timeout=10):
            if notification.channel == "done":
                return heard
            assert json.loads(notification.payload)["type"] == "job_inserted"
            heard += 1
        raise AssertionError("not even its own notification was heard")


@pytest.fixture
async def heard(database_url: str) -> AsyncIterator[Heard]:
    connecting = psycopg.AsyncConnection.connect(database_url, autocommit=True)
    async with await connecting as connection:
        await connection.execute(f'LISTEN "procrastinate_queue_v1#{QUEUE}"'.encode())
        await connection.execute("LISTEN done")
        yield Heard(connection)


@pytest.mark.parametrize(
    ("due", "notified"), [(None, 1), (-5.0, 1), (20.0, 1), (60.0, 0), (86400.0, 0)]
)
async def test_only_a_job_that_is_due_soon_is_notified_of(
    due: float | None, notified: int, queue: Queue, heard: Heard
) -> None:
    await queue.defer("job", due=due)
    assert await heard.jobs() == notified


async def test_other_workers_learn_of_a_job_that_is_put_off_for_a_moment_or_given_back(
    queue: Queue, heard: Heard
) -> None:
    await queue.defer("job")
    job = await queue.fetch()
    assert job is not None
    assert await heard.jobs() == 1
    await queue.manager.retry_job(job, retry_at=datetime.now(UTC) + timedelta(seconds=2))
    assert await heard.jobs() == 1


# Batches


async def test_as_many_are_fetched_at_once_as_slots_are_free(database_url: str) -> None:
    async with a_queue(database_url, concurrency=5) as queue:
        for number in range(9):
            await queue.defer(number)
        first = await queue.fetch()
        assert Counter(await queue.statuses()) == {"doing": 5, "todo": 4}
        rest = [await queue.fetch() for _ in range(4)]
        assert Counter(await queue.statuses()) == {"doing": 5, "todo": 4}
        for job in (first, rest[0]):
            assert job is not None
            await queue.finish(job)
        await queue.fetch()
        assert Counter(await queue.statuses()) == {"succeeded": 2, "doing": 5, "todo": 2}


async def test_where_more_slots_are_free_than_one_fetch_fills_the_next_fills_the_others(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinqueue.ringing.AT_ONCE", 2)
    async with a_queue(database_url, concurrency=5) as queue:
        for number in range(9):
            await queue.defer(number, task="wait")
        await queue.fetch()
        assert Counter(await queue.statuses()) == {"doing": 2, "todo": 7}
        for _ in range(4):
            await queue.fetch()
        assert Counter(await queue.statuses()) == {"doing": 5, "todo": 4}


async def test_what_was_fetched_and_not_begun_is_given_back_when_the_worker_stops(
    database_url: str,
) -> None:
    async with a_queue(database_url, concurrency=5) as queue:
        worker_id = await queue.manager.register_worker()
        ids = [await queue.defer(number) for number in range(5)]
        await queue.manager.fetch_job([QUEUE], worker_id)
        await queue.manager.unregister_worker(worker_id)
        jobs = [await queue.job(id_) for id_ in ids]
        assert [job["status"] for job in jobs] == ["doing", *["todo"] * 4]
        assert {(job["worker_id"], job["attempts"]) for job in jobs} == {(None, 0)}


async def test_a_worker_that_stops_finishes_what_it_began_and_begins_nothing_more(
    database_url: str,
) -> None:
    async with a_queue(database_url, concurrency=2) as queue:
        for number in range(6):
            await queue.defer(number, task="wait")
        async with queue.working(concurrency=2) as running:
            await queue.until_begun(0, 1)
            running.cancel()
            await asyncio.sleep(0)
            queue.ran.go_on.set()
            await asyncio.gather(running, return_exceptions=True)
        assert Counter(await queue.statuses()) == {"succeeded": 2, "todo": 4}


async def test_what_a_fetch_finds_while_the_worker_is_asked_to_stop_is_given_back(
    queue: Queue,
) -> None:
    """Procrastinate begins what a fetch brings, however long after the stop. And what arrives
    meanwhile rings, which would fetch once more."""
    stopping = asyncio.Event()
    queue.app.job_manager = Ringer(queue.app.connector, 1, stopping)
    connecting = psycopg.AsyncConnection.connect(queue.url)
    async with await connecting as slow, queue.working() as running:
        await slow.execute("LOCK TABLE procrastinate_jobs IN ACCESS EXCLUSIVE MODE")
        await queue.app.connector.execute_query_async(NUDGE, channel=f"{CHANNEL}#{QUEUE}")
        await queue.until("SELECT count(*) > 0 AS so FROM pg_locks WHERE NOT granted")
        stopping.set()
        running.cancel()
        await queue.app.configure_task("note", queue=QUEUE, connection=slow).defer_async(
            name="too late"
        )
        await slow.commit()
        await asyncio.gather(running, return_exceptions=True)
    assert (queue.ran.begun, await queue.statuses()) == ([], ["todo"])


async def test_listening_ends_when_it_is_cancelled_amid_notifications(queue: Queue) -> None:
    """A cancellation that meets a notification can get lost: Procrastinate repeats it."""
    told = "json_build_object('type', 'job_inserted', 'job_id', n)::text"
    flood = f"SELECT pg_notify(%(channel)s, {told}) FROM generate_series(1, 2000) n"
    heard = asyncio.Event()

    async def hear(*, channel: str, notification: Any) -> None:
        heard.set()

    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            heard.clear()
            listening = asyncio.create_task(
                queue.manager.listen_for_jobs(on_notification=hear, queues=[QUEUE])
            )
            await queue.until_it_listens()
            group.create_task(queue.ask(flood, channel=f"procrastinate_queue_v1#{QUEUE}"))
            await heard.wait()
            await cancel_and_capture_errors([listening])
            assert listening.done()


async def test_many_that_end_at_once_are_written_down_in_few_statements(database_url: str) -> None:
    async with a_queue(database_url, concurrency=40) as queue:
        for number in range(40):
            await queue.defer(number, task="wait")
        async with queue.working(concurrency=40):
            await queue.until_begun(*range(40))
            queue.ran.go_on.set()
            await queue.until(
                "SELECT count(*) = 40 AS so FROM procrastinate_jobs WHERE status = 'succeeded'"
            )
        (written,) = await queue.ask(
            "SELECT count(DISTINCT xmin::text) AS transactions FROM procrastinate_jobs"
        )
        assert written["transactions"] <= 5


async def test_a_slot_is_free_while_the_end_of_its_job_is_written_down(queue: Queue) -> None:
    first = await queue.defer("first", task="wait")
    connecting = psycopg.AsyncConnection.connect(queue.url)
    async with await connecting as slow, queue.working():
        await queue.until_begun("first")
        await slow.execute("SELECT FROM procrastinate_jobs WHERE id = %s FOR UPDATE", (first,))
        queue.ran.go_on.set()
        await queue.defer("second")
        await queue.until_begun("first", "second")
        await slow.rollback()
    assert await queue.statuses() == ["succeeded", "succeeded"]


async def test_a_worker_that_stops_waits_until_the_ends_of_its_jobs_are_written_down(
    queue: Queue,
) -> None:
    worker_id = await queue.manager.register_worker()
    id_ = await queue.defer("done")
    job = await queue.fetch()
    assert job
    connecting = psycopg.AsyncConnection.connect(queue.url)
    async with await connecting as slow:
        await slow.execute("SELECT FROM procrastinate_jobs WHERE id = %s FOR UPDATE", (id_,))
        await queue.manager.finish_job(job, Status.SUCCEEDED, delete_job=False)
        stopping = asyncio.create_task(queue.manager.unregister_worker(worker_id))
        for _ in range(20):  # far more than it would take by itself
            assert await queue.statuses() == ["doing"]
        assert not stopping.done()
        await slow.rollback()
        await stopping
    assert await queue.statuses() == ["succeeded"]


# The order of what is late


async def has_left(bench: Workbench, reservation_id: str, ago: timedelta) -> None:
    """A stay's end as though it had been so long ago, its generate operation long done."""
    code = await code_of(bench, reservation_id)
    async with bench.db.transaction() as session:
        found = await access_codes.code_for_update(session, code.id)
        now = await store.now(session)
        found.starts_at, found.ends_at = now - ago - timedelta(days=2), now - ago
        opened = await operations.open_operations(session, found)
        await alarms.take_back(session, opened["generate"])
        opened["revoke"].due_at = opened["revoke"].next_at = found.ends_at
        await session.flush()
        await alarms.move(session, opened["revoke"])


async def in_the_order_they_are_taken(bench: Workbench, queue: Queue) -> list[tuple[str, str]]:
    """Of what is due: the kind and the stay, one after the other."""
    found = []
    while job := await queue.manager.fetch_job(["generate_pin", "revoke_pin"], None):
        (row,) = await factories.rows(
            bench.db,
            "SELECT operation.kind, code.reservation_id FROM operations operation"
            " JOIN access_codes code ON code.id = operation.access_code_id"
            " WHERE operation.job_id = :id",
            id=job.id,
        )
        found.append((row["kind"], row["reservation_id"]))
        await queue.manager.finish_job(job, Status.SUCCEEDED, delete_job=False)
    return found


async def test_after_an_outage_who_arrives_next_is_first_and_revokes_go_before_far_arrivals(
    bench: Workbench, queue: Queue
) -> None:
    arrivals = {"tomorrow": 1200, "soon": 40, "at the door": -30, "next": 5, "tonight": 360}
    for name, minutes in arrivals.items():
        await book(bench, f"lock{minutes}", name, starts_in=timedelta(minutes=minutes))
    for name, hours in {"left today": 3, "left yesterday": 30}.items():
        await book(bench, f"lock{hours}h", name)
        await has_left(bench, name, timedelta(hours=hours))
    await execute(
        bench.db,
        "UPDATE procrastinate_jobs SET scheduled_at = now() - interval '1 minute' * id"
        " WHERE queue_name = 'generate_pin'",
    )
    assert await in_the_order_they_are_taken(bench, queue) == [
        ("generate", "at the door"),
        ("generate", "next"),
        ("generate", "soon"),
        ("revoke", "left yesterday"),
        ("revoke", "left today"),
        ("generate", "tonight"),
        ("generate", "tomorrow"),
    ]


async def test_a_pin_that_still_opens_and_should_not_goes_before_all_guests(
    bench: Workbench, prompt: Control, queue: Queue
) -> None:
    await put_on_door(bench, prompt)
    await book(bench, "other", "at the door", starts_in=timedelta(minutes=-30))
    await cancel(bench)
    taken = await in_the_order_they_are_taken(bench, queue)
    assert taken[:2] == [("revoke", "res-1"), ("generate", "at the door")]


# The sign of life


async def test_a_sign_of_life_touches_a_file_once_the_database_has_taken_it(
    database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "heartbeat"
    app = ringing.app(database_url, concurrency=1, heartbeat=file)
    async with app.open_async():
        worker = await app.job_manager.register_worker()
        assert file.exists()
        os.utime(file, (0, 0))
        await app.job_manager.update_heartbeat(worker)
        assert file.stat().st_mtime > 0
        file.unlink()
        file.parent.rmdir()
        await app.job_manager.update_heartbeat(worker)  # what rings for PINs goes on
        file.parent.mkdir()
        file.touch()
        os.utime(file, (0, 0))
        async with await psycopg.AsyncConnection.connect(database_url) as connection:
            await connection.execute("ALTER TABLE procrastinate_workers RENAME TO away")
        with pytest.raises(ConnectorException):
            await app.job_manager.update_heartbeat(worker)
        assert file.stat().st_mtime == 0
