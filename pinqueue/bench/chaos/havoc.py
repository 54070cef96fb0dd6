"""What strikes: processes are killed and frozen, the database goes, its connections break, jobs get
lost, and the lock cloud lies all the while."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pinqueue.bench.chaos.roads import Roads
from pinqueue.bench.ground import Deployment, Ground
from pinqueue.errors import DatabaseUnavailable
from pinqueue.processes import finished
from pinqueue.simulator import Control

WEB = "web"
DOWN_AT_MOST = 3.0
"""Seconds that the database is away."""
GRACE = 12.0
"""PINQUEUE_TUYA_GRACE in seconds: a call is given up after ten, and may take effect up to then."""
LATEST = 2.5 * GRACE
"""Seconds in which a call may take effect all the same, where the cloud is asked to lie so."""
FROZEN = (27.0, 60.0)
"""Seconds that a worker is stopped: long enough to be taken for dead."""
CLOUD: tuple[tuple[str, float, dict[str, Any]], ...] = (
    ("http_500", 0.05, {}),
    ("code", 0.05, {"code": 1110, "msg": "too many requests"}),
    ("lost_answer", 0.10, {"seconds": 0.2}),
)
"""What the cloud does to calls, with which probability."""
BREAK = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE :names"
LOSE = "DELETE FROM procrastinate_jobs WHERE status = 'todo' AND id % 3 = :third RETURNING id"


@dataclass
class Havoc:
    ground: Ground
    deployment: Deployment
    control: Control
    workers: list[str]
    random: random.Random
    roads: Roads = field(default_factory=Roads)
    struck: dict[str, int] = field(default_factory=dict)
    over: list[tuple[str, datetime]] = field(default_factory=list)
    """Each fault, and the database's time when it was over and what it struck could go on."""
    _frozen: set[asyncio.Task[None]] = field(default_factory=set)
    _lasting: set[asyncio.Task[None]] = field(default_factory=set)

    async def strike(self, fault: str, strikes: Strikes) -> None:
        await strikes[fault](self)
        self.struck[fault] = self.struck.get(fault, 0) + 1
        self.over.append((fault, await self._now()))

    async def _now(self) -> datetime:
        while True:
            try:
                (row,) = await self.deployment.rows("SELECT clock_timestamp() AS now")
            except DatabaseUnavailable:
                await asyncio.sleep(0.05)  # our own connections are struck as well
            else:
                now: datetime = row["now"]
                return now

    def lasts(self, mending: Coroutine[Any, Any, None]) -> None:
        """Have something mended after a while, at the end of the strikes at the latest."""
        task = asyncio.create_task(mending)
        self._lasting.add(task)
        task.add_done_callback(self._lasting.discard)

    async def kill_worker(self) -> None:
        """The one that runs longest, so that each does some work before it dies."""
        self.workers.append(self.workers.pop(0))
        await self._kill(self.workers[-1])

    async def kill_web(self) -> None:
        await self._kill(WEB)

    async def _kill(self, process: str) -> None:
        # It may just be being started again.
        while not self.deployment.children.signal(process, signal.SIGKILL):  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # it is just being started again

    async def freeze_worker(self) -> None:
        """It thaws in the middle of what it did, long after it counts as dead. One worker always
        goes on."""
        while len(self._frozen) >= len(self.workers) - 1:
            await asyncio.wait(self._frozen, return_when=asyncio.FIRST_COMPLETED)
        frozen = {thawing.get_name() for thawing in self._frozen}
        worker = self.random.choice([one for one in self.workers if one not in frozen])
        thawing = asyncio.create_task(self._freeze(worker), name=worker)
        self._frozen.add(thawing)
        thawing.add_done_callback(self._frozen.discard)

    async def _freeze(self, worker: str) -> None:
        children = self.deployment.children
        children.signal(worker, signal.SIGSTOP)
        try:
            await asyncio.sleep(self.random.uniform(*FROZEN))
        finally:
            children.signal(worker, signal.SIGCONT)

    async def restart_database(self) -> None:
        await finished(self.ground.server.stop)
        await asyncio.sleep(self.random.uniform(0, DOWN_AT_MOST))
        await finished(self.ground.server.start)

    async def break_connections(self) -> None:
        await self.deployment.rows(BREAK, names="pinqueue-w%")

    async def lose_jobs(self) -> None:
        await self.deployment.rows(LOSE, third=self.random.randrange(3))

    def make_cloud_lie(self, seed: int) -> None:
        """From now on some calls fail, and some take effect without an answer."""
        for kind, probability, details in CLOUD:
            self.control.fault(kind, probability=probability, seed=seed, **details)

    async def end(self) -> None:
        """Thaw who is still frozen, mend what lasts, and have the cloud tell the truth."""
        self.control.clear_faults()
        mending = [*self._frozen, *self._lasting]
        for task in mending:
            task.cancel()
        await asyncio.gather(*mending, return_exceptions=True)


Strikes = Mapping[str, Callable[[Havoc], Awaitable[None]]]

FAULTS: Strikes = {
    "kill-worker": Havoc.kill_worker,
    "kill-web": Havoc.kill_web,
    "freeze-worker": Havoc.freeze_worker,
    "restart-database": Havoc.restart_database,
    "break-connections": Havoc.break_connections,
    "lose-jobs": Havoc.lose_jobs,
}
