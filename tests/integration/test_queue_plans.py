"""What the queue reads does not grow with what is months ahead, whatever PostgreSQL believes of it.

Counted in pages that are looked at, not in milliseconds: those are the same on every machine.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from pinqueue import ringing
from pinqueue.lines import KEEPALIVE, options
from tests.queueing import QUEUE

pytestmark = pytest.mark.anyio

QUEUES = ["generate_pin", "revoke_pin"]
PAGES = 40
"""For each queue: to nothing without a time, to nothing due, to the next that is."""
PAGES_A_JOB = 120
"""To take one: its row, the entries of its new status in eight indexes, its event and count."""
AHEAD = """
    INSERT INTO procrastinate_jobs (queue_name, task_name, priority, scheduled_at, args)
    SELECT CASE WHEN n %% 2 = 0 THEN 'generate_pin' ELSE 'revoke_pin' END, 'note', -29000000 - n,
           now() + interval '30 days' + n * interval '10 s', '{"operation_id": 1}'
    FROM generate_series(1, %(jobs)s) n
"""
DUE = """
    INSERT INTO procrastinate_jobs (queue_name, task_name, priority, scheduled_at, args)
    SELECT 'generate_pin', 'note', -n, now() - n * interval '1 ms', '{"operation_id": 1}'
    FROM generate_series(1, %(jobs)s) n
"""
ENDED = """
    INSERT INTO procrastinate_jobs (queue_name, task_name, scheduled_at, status)
    SELECT 'generate_pin', 'note', now() - interval '1 day', 'succeeded' FROM generate_series(1, 26)
"""


class Session:
    """A worker's connection to the queue, whose statements have been planned many times."""

    def __init__(self, connection: psycopg.AsyncConnection[dict[str, Any]]) -> None:
        self.connection = connection

    async def insert(self, statement: str, jobs: int = 0) -> None:
        """Without a notification and an event for each."""
        await self.connection.execute("SET session_replication_role = replica")
        await self.connection.execute(statement.encode(), {"jobs": jobs})
        await self.connection.execute("RESET session_replication_role")

    async def fetch(self, most: int = 5) -> int:
        """How many jobs it takes."""
        rows = await self.connection.execute(ringing.FETCH.encode(), self.parameters(most))
        return sum(row["id"] is not None for row in await rows.fetchall())

    async def pages(self, statement: str, **parameters: Any) -> int:
        """How many pages a statement looks at, with the triggers it fires."""
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
        rows = await self.connection.execute(explain.encode(), parameters)
        row = await rows.fetchone()
        assert row is not None
        plan: dict[str, int] = row["QUERY PLAN"][0]["Plan"]
        return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]

    async def pages_of_fetch(self, most: int = 5) -> int:
        return await self.pages(ringing.FETCH, **self.parameters(most))

    @staticmethod
    def parameters(most: int) -> dict[str, Any]:
        return {
            "queues": QUEUES,
            "worker_id": None,
            "most": most,
            "window": ringing.WINDOW,
            "ahead": ringing.AHEAD,
        }


@pytest.fixture
async def session(database_url: str) -> AsyncIterator[Session]:
    """Statistics come when a test says so, not when autovacuum has its turn."""
    connecting = psycopg.AsyncConnection.connect(
        database_url,
        autocommit=True,
        row_factory=dict_row,
        options=options(ringing.LIMITS),
        **KEEPALIVE,
    )
    async with await connecting as connection:
        await connection.execute("SET statement_timeout = 0")  # to insert a million
        await connection.execute("ALTER TABLE procrastinate_jobs SET (autovacuum_enabled = off)")
        yield Session(connection)


async def grown(session: Session, sizes: tuple[int, ...]) -> list[int]:
    """Pages a fetch looks at when nothing is due, with so many jobs ahead each time."""
    found, ahead = [], 0
    for size in sizes:
        await session.insert(AHEAD, size - ahead)
        await session.connection.execute("ANALYZE procrastinate_jobs")
        found.append(await session.pages_of_fetch())
        ahead = size
    return found


async def test_a_fetch_reads_as_much_with_a_hundred_thousand_ahead_as_with_a_thousand(
    session: Session,
) -> None:
    assert max(await grown(session, (1_000, 10_000, 100_000))) <= PAGES


async def test_no_fetch_is_compiled(session: Session) -> None:
    """Which takes seconds, each time, where PostgreSQL is built with a compiler: most are."""
    explain = f"EXPLAIN {ringing.FETCH}".encode()
    rows = await session.connection.execute(explain, session.parameters(5))
    assert [row for row in await rows.fetchall() if "JIT" in row["QUERY PLAN"]] == []
    setting = await session.connection.execute("SHOW jit")
    assert await setting.fetchone() == {"jit": "off"}


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_fetch_reads_as_much_with_a_million_ahead_as_with_a_thousand(
    session: Session,
) -> None:
    assert max(await grown(session, (1_000, 10_000, 100_000, 1_000_000))) <= PAGES
    await session.insert(DUE, 5000)
    assert await session.pages_of_fetch(1) <= PAGES_A_JOB + 5000
    await session.connection.execute("ANALYZE procrastinate_jobs")
    assert await session.pages_of_fetch(1) <= PAGES_A_JOB + 5000


async def test_a_plan_from_when_the_table_was_empty_does_no_harm_to_a_burst(
    session: Session,
) -> None:
    """Analysed with 26 ended jobs, planned a dozen times, then the rush."""
    await session.insert(ENDED)
    await session.connection.execute("ANALYZE procrastinate_jobs")
    for _ in range(12):
        assert await session.fetch() == 0
    await session.insert(AHEAD, 100_000)
    assert await session.pages_of_fetch() <= PAGES
    await session.insert(DUE, 2000)
    # Of those that are due each row is looked at once, to find the most urgent; they lie together.
    assert await session.pages_of_fetch(5) <= 5 * PAGES_A_JOB + 500
    assert await session.fetch(most=10) == 10


async def test_the_end_of_a_job_is_written_by_its_id_whatever_the_statistics_say(
    session: Session,
) -> None:
    await session.insert(ENDED)
    await session.connection.execute("ANALYZE procrastinate_jobs")
    await session.insert(AHEAD, 100_000)
    rows = await session.connection.execute(
        "SELECT array_agg(id) AS ids FROM"
        " (SELECT id FROM procrastinate_jobs WHERE status = 'todo' ORDER BY id DESC LIMIT 10) last"
    )
    row = await rows.fetchone()
    assert row is not None
    pages = await session.pages(ringing.FINISH, ids=row["ids"], statuses=["succeeded"] * 10)
    assert pages <= 10 * PAGES_A_JOB


async def test_a_backlog_is_looked_at_up_to_a_window_and_no_further(session: Session) -> None:
    for _ in range(2):
        await session.insert(DUE, 20_000)
    assert await session.pages_of_fetch(1) <= PAGES_A_JOB + ringing.WINDOW


async def test_pages_are_counted_with_eyes_that_see(session: Session) -> None:
    await session.insert(AHEAD, 20_000)
    procrastinates = "SELECT * FROM procrastinate_fetch_job_v2(%(queues)s::varchar[], NULL)"
    assert await session.pages(procrastinates, queues=[QUEUE]) > 5 * PAGES
