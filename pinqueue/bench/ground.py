"""Where a bench happens: PostgreSQL from its wheel with fsync on, and for each round a database and
processes of its own."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from pinqueue import embedded, migrating, sealing, store, up
from pinqueue.bench.peer import Peer, beside
from pinqueue.config import Settings
from pinqueue.db import Database
from pinqueue.errors import PinQueueError
from pinqueue.processes import Children, finished, free_port
from pinqueue.reservations import Planner

SERVER = {
    # Enough for what several networks leave that fell silent one after the other.
    "max_connections": "500",
    # When a commit was, not when its transaction began: what was done last is read from that.
    "track_commit_timestamp": "on",
}
TEMPLATE = "pinqueue"


class BenchFailed(PinQueueError):
    """A bench did not do the work that it was to measure."""


@dataclass(frozen=True)
class Deployment:
    """One round's database, freshly migrated, and the processes on it."""

    settings: Settings
    db: Database
    planner: Planner
    children: Children

    async def start_worker(self, concurrency: int, device_ms: float, *, number: int = 0) -> None:
        """The real worker before a device of that latency; it works when this returns. Each on one
        deployment has a `number`, from 0."""
        options = (f"--concurrency={concurrency}", f"--device-ms={device_ms}")
        name = f"worker {number}" if number else "worker"
        await self.children.start_module(name, "pinqueue.bench.device", *options)

        async def registered() -> bool:
            return await self.value("SELECT count(*) FROM procrastinate_workers") > number

        await self.until(registered, "the worker starts", within=30)

    async def rows(self, query: str, **parameters: object) -> list[dict[str, Any]]:
        async with self.db.transaction() as session:
            return await store.rows(session, query, **parameters)

    async def column(self, query: str, **parameters: object) -> list[float]:
        """The figures that a query gives."""
        return [float(next(iter(row.values()))) for row in await self.rows(query, **parameters)]

    async def value(self, query: str, **parameters: object) -> float:
        """The one figure that a query gives."""
        (only,) = await self.column(query, **parameters)
        return only

    async def until(self, true: Callable[[], Awaitable[bool]], what: str, *, within: float) -> None:
        """Wait for something; BenchFailed when a process exits, or it does not come in time."""
        deadline = asyncio.get_running_loop().time() + within
        while not await true():
            if name := self.children.exited():
                raise BenchFailed(f"{name} exited")
            if asyncio.get_running_loop().time() > deadline:
                raise BenchFailed(f"not within {within:.0f} s: {what}")
            await asyncio.sleep(0.1)


class Server(Protocol):
    """PostgreSQL for a bench."""

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str]) -> None: ...

    def start(self) -> str:
        """Gives its URL; also where it was stopped."""

    def stop(self) -> None:
        """Safe to repeat."""

    def alive(self) -> bool:
        """Whether it runs, as far as its process tells."""


@dataclass(frozen=True)
class Ground:
    """The server that all rounds of a run share, and the peer where one was asked for."""

    folder: Path
    url: str
    server: Server
    peer: Peer | None
    numbers: count[int]

    @property
    def log_file(self) -> Path:
        """What the processes say."""
        return self.folder / "processes.log"

    @asynccontextmanager
    async def deployment(
        self,
        settings: Mapping[str, str] | None = None,
        lead: Callable[[Mapping[str, str]], Mapping[str, str]] = dict,
    ) -> AsyncIterator[Deployment]:
        """A migrated database of its own for the block, with no process on it yet; `settings` are
        its processes' own, and `lead` tells them another way than ours to their servers."""
        name = f"round_{next(self.numbers)}"
        url = make_url(self.url).set(database=name).render_as_string(hide_password=False)
        environment = {
            "PINQUEUE_DATABASE_URL": url,
            **up.new_secrets(),
            **up.simulated_tuya(free_port()),
            **(settings or {}),
        }
        read = up.read_settings_with(environment)
        await self._make(name)
        db = Database(url, pool_size=2, name="pinqueue-bench")
        children = Children(lead(environment), self.log_file)
        try:
            yield Deployment(read, db, Planner(sealing.sealer(read), read.lead), children)
        finally:
            await children.stop()
            await db.close()
            await self._drop(name)

    async def _make(self, name: str) -> None:
        await self._execute("CREATE DATABASE {} TEMPLATE {}", name, TEMPLATE)
        # So that no round pays for the files that the one before it has written.
        await self._execute("CHECKPOINT")

    async def _drop(self, name: str) -> None:
        await self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    async def _execute(self, statement: str, *names: str) -> None:
        url = make_url(self.url).set(database="postgres").render_as_string(hide_password=False)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            query = sql.SQL(statement).format(*map(sql.Identifier, names))
            await connection.execute(query)


@asynccontextmanager
async def ground(
    peer: Path | None,
    tell: Callable[[str], None],
    make_server: type[Server] = embedded.EmbeddedPostgres,
    data: Path | None = None,
) -> AsyncIterator[Ground]:
    """PostgreSQL, in that folder for its data if need be, and beside it the peer from its own; all
    gone when the block ends, which it does at SIGTERM too."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  # a coroutine runs in a task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with AsyncExitStack() as stack:
        folder = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="pinqueue-bench-", ignore_cleanup_errors=True)
            )
        )
        tell("starting PostgreSQL" + " and the peer" * (peer is not None))
        server = make_server(data or folder / "data", settings=SERVER)
        stack.callback(server.stop)
        url = await finished(server.start)
        await finished(lambda: migrating.migrate(url))
        made = await stack.enter_async_context(beside(peer, folder, url)) if peer else None
        yield Ground(folder, url, server, made, count(1))
