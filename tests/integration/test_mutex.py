"""The advisory locks: seen by other processes, freed by death, no trap when the network fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from pinqueue.errors import DatabaseUnavailable
from pinqueue.mutex import Mutex
from tests.conftest import PYTHON
from tests.locking import hold
from tests.operating import until

pytestmark = pytest.mark.anyio

HOLD = """
import asyncio, sys
from pinqueue.mutex import Mutex
from tests.locking import hold

async def main():
    async with hold(Mutex(sys.argv[1]), 7) as alone:
        print(alone, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""
HELD = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@pytest.fixture
async def mutex(database_url: str) -> AsyncIterator[Mutex]:
    made = Mutex(database_url)
    yield made
    await made.close()


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Mutex]:
    """Another process's mutex, as far as the server can tell."""
    made = Mutex(database_url)
    yield made
    await made.close()


async def free(mutex: Mutex, key: int = 7) -> bool:
    async with hold(mutex, key) as alone:
        return alone


def held(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(HELD).fetchone()
    assert row is not None
    return int(row[0])


def cut(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'pinqueue-mutex' AND datname = current_database()"
        )


async def test_a_held_lock_is_not_free_for_another_process(mutex: Mutex, other: Mutex) -> None:
    async with hold(mutex, 7) as alone:
        assert alone
        assert not await free(other)
        assert await free(other, 8), "another code is another lock"
    assert await free(other)


async def test_a_held_lock_is_not_free_for_another_task_of_the_same_process(mutex: Mutex) -> None:
    async with hold(mutex, 7) as alone:
        assert alone
        assert not await asyncio.create_task(free(mutex))
    assert await free(mutex)


async def test_an_error_inside_the_block_frees_the_lock(
    mutex: Mutex, other: Mutex, database_url: str
) -> None:
    with pytest.raises(RuntimeError):
        async with hold(mutex, 7):
            raise RuntimeError
    assert held(database_url) == 0
    assert await free(other)


async def test_a_killed_process_frees_its_lock(mutex: Mutex, database_url: str) -> None:
    holder = await asyncio.create_subprocess_exec(
        PYTHON, "-c", HOLD, database_url, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert await holder.stdout.readline() == b"True\n"
        assert not await free(mutex)
    finally:
        holder.kill()
        await holder.communicate()

    async def it_is_free() -> bool:
        return await free(mutex)

    await until(it_is_free, seconds=5)


async def test_a_connection_cut_while_a_lock_is_held_does_not_break_the_block(
    mutex: Mutex, other: Mutex, database_url: str
) -> None:
    reached_the_end = False
    async with hold(mutex, 7) as alone:
        assert alone
        cut(database_url)
        assert await free(other), "the server gave it up with the connection"
        reached_the_end = True
    assert reached_the_end
    assert await free(mutex), "the next use connects again"


async def test_a_connection_cut_between_uses_costs_one_clear_error(
    mutex: Mutex, database_url: str
) -> None:
    assert await free(mutex)
    cut(database_url)
    with pytest.raises(DatabaseUnavailable):
        await free(mutex)
    assert await free(mutex)


async def test_a_server_that_is_not_there_is_a_clear_error() -> None:
    mutex = Mutex("postgresql://nobody@127.0.0.1:9/nowhere")
    with pytest.raises(DatabaseUnavailable):
        await free(mutex)


async def test_a_task_cancelled_at_any_moment_leaves_no_lock_behind(
    mutex: Mutex, other: Mutex, database_url: str
) -> None:
    """A lock left on the connection would shut every other worker out until this process ends."""
    assert await free(mutex)

    async def hold_for_a_moment() -> None:
        async with hold(mutex, 7):
            await asyncio.sleep(0.001)

    for moment in range(40):
        task = asyncio.create_task(hold_for_a_moment())
        for _ in range(moment):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert await free(other), f"cancelled after {moment} steps"
    assert held(database_url) == 0


async def test_many_locks_are_held_on_one_connection(mutex: Mutex, database_url: str) -> None:
    async def hold_with_all(key: int, everybody_is_in: asyncio.Barrier) -> bool:
        async with hold(mutex, key) as alone:
            await everybody_is_in.wait()
            return alone

    barrier = asyncio.Barrier(21)
    tasks = [asyncio.create_task(hold_with_all(key, barrier)) for key in range(20)]
    await asyncio.sleep(0)

    async def all_held() -> bool:
        return held(database_url) == 20

    await until(all_held)
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pinqueue-mutex'"
            " AND datname = current_database()"
        ).fetchone()
    assert row == (1,)
    await barrier.wait()
    assert all(await asyncio.gather(*tasks))
    assert held(database_url) == 0


async def test_the_lock_of_a_living_worker_is_taken_again_when_its_connection_broke(
    mutex: Mutex, database_url: str
) -> None:
    await mutex.live_as(3)
    await mutex.live_as(3)
    assert held(database_url) == 1
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'pinqueue-mutex'"
        )
    await mutex.live_as(3)
    assert held(database_url) == 1


async def test_a_worker_that_begins_anew_in_its_process_lives_as_another(
    mutex: Mutex, database_url: str
) -> None:
    await mutex.live_as(3)
    await mutex.live_as(4)
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT objid::bigint FROM pg_locks WHERE classid = 1347485700")
        assert rows.fetchall() == [(4,)]


async def test_a_lock_of_a_living_worker_that_a_lost_connection_holds_is_taken_once_it_is_free(
    mutex: Mutex, other: Mutex, database_url: str
) -> None:
    await other.live_as(3)
    await mutex.live_as(3)
    await other.close()
    await until(lambda: asyncio.sleep(0, held(database_url) == 0))
    await mutex.live_as(3)
    assert held(database_url) == 1
