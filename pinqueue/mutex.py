"""Advisory locks: one worker at a time on one access code, and one that each worker holds while it
lives. The server frees them at the moment the worker's process is gone.

The lock of an access code is taken by the statement that finds it: see `claims.due`.

They save double work; they do not by themselves make anything happen once (a worker that is cut off
keeps working without knowing). The epoch on the operation and the look-up by name do that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol, TypeVar

import psycopg

from pinqueue import lines, logs
from pinqueue.errors import DatabaseUnavailable
from pinqueue.lines import KEEPALIVE, LOCKS_LIMITS
from pinqueue.patience import to_the_end, within
from pinqueue.together import Together

log = logs.get(__name__)

KEEP_EVERY = 2.0
"""Seconds: as often as a worker beats, well below the `idle_session_timeout` of LOCKS_LIMITS."""
FREE_WITHIN = 2.0
NAMESPACE = 0x50510000_00000000  # "PQ": keeps our keys apart from other programs' in the database
LIVING = 0x50510004_00000000
"""The same of workers that live, by their id at Procrastinate."""

LOCK = "SELECT pg_try_advisory_lock(%(key)s)"
UNLOCK = """
    SELECT pg_advisory_unlock(key)
    FROM unnest(%(keys)s::bigint[]) WITH ORDINALITY asked (key, place) ORDER BY place
"""


class Taken(Protocol):
    """What a statement found, and whether it took the lock of its access code."""

    @property
    def access_code_id(self) -> int: ...

    @property
    def alone(self) -> bool: ...


T = TypeVar("T", bound=Taken)


class Mutex:
    """All advisory locks of one process, on one connection of their own.

    Never a pooled connection: a lock stays with the session that took it, and a pool hands sessions
    around. A session may take its own lock again, so tasks of this process are told apart here.

    The server ends a session that is silent for half a minute, and frees its locks: those of a
    process that stands still, or was cut off, would shut every other worker out for as long. So a
    process that lives keeps it from falling silent, by `keep`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._held: set[int] = set()
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._connecting = asyncio.Lock()
        self._living: tuple[psycopg.AsyncConnection[Any], int] | None = None
        self._worker_id: int | None = None
        self._beating = asyncio.Lock()
        self._unlocks: Together[int, bool] = Together(self._unlock)

    @asynccontextmanager
    async def hold(self, taking: asyncio.Future[T | None]) -> AsyncIterator[tuple[T | None, bool]]:
        """Hold for the block what a statement took that was put to our session by `ask`: yields
        what it found, None where that was nothing, and whether nobody else has its lock.

        Raises what the statement raised. Its end is waited for also when we are cancelled: a lock
        that the server granted to nobody would stay on the connection, and shut every other worker
        out for as long as this process lives.
        """
        found = await to_the_end(taking)
        if found is None or not found.alone:
            yield found, False
            return
        if found.access_code_id in self._held:  # the session has it twice now
            await self._release(found.access_code_id)
            yield found, False
            return
        self._held.add(found.access_code_id)
        try:
            yield found, True
        finally:
            try:
                await self._release(found.access_code_id)
            finally:
                self._held.discard(found.access_code_id)

    async def ask(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The rows of one statement on the session that holds the locks. Raises DatabaseUnavailable
        when it cannot be asked, and then holds nothing."""
        connection = await self._connected()
        try:
            cursor = await connection.execute(statement.encode(), parameters)
            return await cursor.fetchall()
        except psycopg.errors.LockNotAvailable as error:  # of a table, before anything was taken
            raise DatabaseUnavailable("a table is being altered") from error
        except psycopg.Error as error:
            await connection.close()  # it may have taken locks before it failed
            if not isinstance(error, psycopg.OperationalError):
                raise
            raise DatabaseUnavailable("the connection that holds the locks broke") from error

    async def keep(self) -> None:
        """Keep the session, and that this worker lives, until cancelled: also while nobody beats
        for it, as when Procrastinate's worker has lost its listener and waits for what runs."""
        while True:
            await asyncio.sleep(KEEP_EVERY)
            with suppress(DatabaseUnavailable):  # the next who needs it connects anew
                if self._worker_id is not None:
                    await self.live_as(self._worker_id)
                elif self._connection is not None:
                    await self.ask("SELECT", {})

    async def live_as(self, worker_id: int) -> None:
        """Hold the lock that says that this worker lives: to be called at each of its heartbeats,
        since the connection may have broken meanwhile. Raises DatabaseUnavailable."""
        self._worker_id = worker_id
        async with self._beating:
            try:
                await self._live_as(worker_id)
            except DatabaseUnavailable:
                await self._live_as(worker_id)  # on a connection that is new

    async def _live_as(self, worker_id: int) -> None:
        connection = await self._connected()
        if self._living == (connection, worker_id):
            await self.ask("SELECT", {})  # whether the connection is still there
            return
        if self._living is not None and self._living[0] is connection:
            await to_the_end(self._unlocks.begin(LIVING + self._living[1]))
        # One that we have lost, and the server not yet, may hold it still: then at the next beat.
        locking = asyncio.ensure_future(self.ask(LOCK, {"key": LIVING + worker_id}))
        ((held,),) = await to_the_end(locking)
        self._living = (connection, worker_id) if held else None

    async def close(self) -> None:
        """Free at once what is held: the server takes its time to notice that a session ended."""
        if self._connection is None:
            return
        with suppress(psycopg.OperationalError, TimeoutError):
            free = self._connection.execute("SELECT pg_advisory_unlock_all()")
            await within(FREE_WITHIN, free)
        await self._connection.close()

    async def _release(self, access_code_id: int) -> None:
        try:
            if not await to_the_end(self._unlocks.begin(NAMESPACE + access_code_id)):
                log.warning("lock-was-lost", access_code_id=access_code_id)
        except DatabaseUnavailable as error:
            # The session is gone and its locks with it: there is nothing left to release.
            log.warning("lock-was-lost", access_code_id=access_code_id, reason=str(error))

    async def _unlock(self, keys: Sequence[int]) -> Sequence[bool]:
        return [freed for (freed,) in await self.ask(UNLOCK, {"keys": list(keys)})]

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        async with self._connecting:
            if self._connection is None or self._connection.closed:
                try:
                    self._connection = await lines.connect(
                        self._url,
                        autocommit=True,
                        options=lines.options(LOCKS_LIMITS),
                        application_name="pinqueue-mutex",
                        **KEEPALIVE,
                    )
                except psycopg.OperationalError as error:
                    raise DatabaseUnavailable("no connection for locks to be had") from error
            return self._connection
