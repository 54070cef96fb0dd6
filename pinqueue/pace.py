"""How fast a lock cloud is called: all workers together so many calls a second, lock after lock.

At check-in time hundreds of operations go to their doors at once. A cloud that is asked too fast
refuses, and who is refused comes back later than who waited for a turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from pinqueue import logs
from pinqueue.db import Database
from pinqueue.errors import DatabaseUnavailable
from pinqueue.locks import Door, LockGateway, RemotePin, Window
from pinqueue.pins import Pin
from pinqueue.store import turns

log = logs.get(__name__)

AHEAD = 0.1
"""Seconds' worth of turns that a worker takes at a time: so long at most, others wait behind it."""


class Pace:
    """The turns of one worker process. All processes take theirs from one row of the database."""

    def __init__(self, db: Database, project: str, rate: float) -> None:
        """`rate` in calls a second, of all processes that name the same `project`."""
        self._db = db
        self._project = project
        self._gap = 1 / rate
        self._waiting: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}
        self._giving: asyncio.Task[None] | None = None

    async def turn(self, device_id: str, calls: int) -> None:
        """Wait until that lock may be called so many times.

        The locks that wait take turns: who has one call to make is not behind another's hundred.
        """
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(device_id, deque()).append((calls, given))
        if self._giving is None:
            self._giving = asyncio.create_task(self._give())
        await given

    async def close(self) -> None:
        await self._db.close()

    async def _give(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                next_ones = self._next_ones()
                at = loop.time() + await self._take(sum(calls for calls, _ in next_ones))
                for calls, given in next_ones:
                    if (wait := at - loop.time()) > 0:
                        await asyncio.sleep(wait)
                    if not given.done():  # cancelled meanwhile
                        given.set_result(None)
                    at += calls * self._gap
        finally:
            self._giving = None

    def _next_ones(self) -> list[tuple[int, asyncio.Future[None]]]:
        """One of each lock, as often as turns are taken at a time."""
        taken: list[tuple[int, asyncio.Future[None]]] = []
        seconds = 0.0
        while self._waiting and seconds < AHEAD:
            device_id = next(iter(self._waiting))
            of_lock = self._waiting.pop(device_id)
            calls, given = of_lock.popleft()
            taken.append((calls, given))
            seconds += calls * self._gap
            if of_lock:
                self._waiting[device_id] = of_lock
        return taken

    async def _take(self, calls: int) -> float:
        """Seconds until the first of so many turns."""
        try:
            async with self._db.transaction() as session:
                return await turns.take_turns(session, self._project, calls, self._gap)
        except DatabaseUnavailable as error:
            # A door must not wait for it. So long each process keeps to the rate by itself.
            log.warning("pace-not-shared", reason=str(error))
            return 0.0


class Paced:
    """`LockGateway` that waits for its turn before each call of another one."""

    def __init__(self, gateway: LockGateway, pace: Pace) -> None:
        self._gateway = gateway
        self._pace = pace

    async def list_pins(self, door: Door) -> Sequence[RemotePin]:
        await self._pace.turn(door.device_id, 1)
        return await self._gateway.list_pins(door)

    async def create_pin(self, door: Door, name: str, pin: Pin, window: Window) -> int:
        await self._pace.turn(door.device_id, 2)  # a ticket, and the PIN
        return await self._gateway.create_pin(door, name, pin, window)

    async def change_pin(
        self, door: Door, remote_id: int, name: str, pin: Pin, window: Window
    ) -> None:
        await self._pace.turn(door.device_id, 2)
        await self._gateway.change_pin(door, remote_id, name, pin, window)

    async def delete_pin(self, door: Door, remote_id: int) -> None:
        await self._pace.turn(door.device_id, 1)
        await self._gateway.delete_pin(door, remote_id)

    async def close(self) -> None:
        await self._gateway.close()
        await self._pace.close()
