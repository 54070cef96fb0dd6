"""How fast a lock cloud is called: by all workers together, and by each lock in its turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from pinqueue.config import Settings
from pinqueue.db import Database
from pinqueue.operations import Workbench
from pinqueue.pace import Pace, Paced
from pinqueue.processes import free_port
from pinqueue.simulator import Control
from tests.operating import book, cancel, execute, ring

pytestmark = pytest.mark.anyio

Worker = Callable[[float], Pace]
"""One more worker process, by the rate it was told."""


@pytest.fixture
async def worker(settings: Settings) -> AsyncIterator[Worker]:
    async with AsyncExitStack() as stack:

        def start(rate: float) -> Pace:
            pace = Pace(Database(settings.database_url, pool_size=1), "project", rate)
            stack.push_async_callback(pace.close)
            return pace

        yield start


async def test_all_workers_together_call_no_faster_than_they_may(worker: Worker) -> None:
    one, other = worker(50), worker(50)
    began = time.monotonic()
    await asyncio.gather(
        *(pace.turn(f"lock{n}", 1) for n in range(20) for pace in (one, other)),
        one.turn("last", 10),
    )
    await one.turn("afterwards", 1)
    assert time.monotonic() - began >= 50 / 50 * 0.98  # two processes' clocks may differ a little


async def test_a_lock_with_one_call_to_make_is_not_behind_the_hundred_of_another(
    worker: Worker,
) -> None:
    pace, went = worker(50), list[str]()

    async def call(lock: str) -> None:
        await pace.turn(lock, 1)
        went.append(lock)

    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(call("street door")) for _ in range(60)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        group.create_task(call("apartment"))
    assert went.index("apartment") <= 2 * 50 * 0.1 + 1


async def test_who_gives_up_while_it_waits_holds_nobody_up(worker: Worker) -> None:
    pace = worker(20)
    await pace.turn("lock1", 1)
    waiting = [asyncio.create_task(pace.turn(f"lock{n}", 1)) for n in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    async with asyncio.timeout(20):
        await asyncio.gather(*waiting[1:])
    assert waiting[0].cancelled()


async def test_a_row_from_a_clock_that_was_ahead_stops_nobody(worker: Worker, db: Database) -> None:
    await worker(50).turn("lock1", 1)
    await execute(db, "UPDATE paces SET next_at = now() + interval '1 day'")
    async with asyncio.timeout(20):
        await worker(50).turn("lock1", 1)


async def test_without_the_database_a_worker_keeps_to_the_rate_by_itself() -> None:
    away = Database(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing", pool_size=1)
    pace, began = Pace(away, "project", 50), time.monotonic()
    await asyncio.gather(*(pace.turn("lock1", 1) for _ in range(4)))
    assert time.monotonic() - began >= 3 / 50
    await pace.close()


async def test_operations_wait_for_their_turn_at_the_cloud_and_are_done(
    bench: Workbench, prompt: Control, worker: Worker
) -> None:
    paced = replace(bench, gateway=Paced(bench.gateway, worker(20)))
    await book(paced)
    began = time.monotonic()
    assert await ring(paced, "generate") is None
    assert time.monotonic() - began >= 3 / 20, "it looks, gets a ticket, creates, and looks"
    await cancel(paced)
    assert await ring(paced, "revoke") is None
    assert prompt.pins("sim-zigbee-1") == []
