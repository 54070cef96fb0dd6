"""What strikes: processes are killed, frozen and replaced, their clocks jump, the database goes,
its connections break, jobs get lost, and the lock cloud lies all the while."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pinqueue.bench.chaos.disk import Disk
from pinqueue.bench.chaos.rig import DEPLOY, JUMP_CLOCK, POISON, Rig
from pinqueue.bench.chaos.roads import Roads
from pinqueue.bench.ground import Deployment, Ground
from pinqueue.errors import DatabaseUnavailable
from pinqueue.processes import finished
from pinqueue.simulator import Control

KILL_WORKER, KILL_WEB = "kill-worker", "kill-web"
AT_ONCE = {KILL_WORKER, KILL_WEB}
"""What they break has come to nothing, or taken effect, when they are over: nothing comes later."""
DOWN_AT_MOST = 3.0
"""Seconds that the database is away."""
GRACE = 12.0
"""PINQUEUE_TUYA_GRACE in seconds: a call is given up after ten, and may take effect up to then."""
LATEST = 2.5 * GRACE
"""Seconds in which a call may take effect all the same, where the cloud is asked to lie so."""
STALLED, FROZEN = (27.0, 35.0), (60.0, 60.0)
"""Seconds that a worker is stopped, from and to: just taken for dead by then, or long ago."""
POISON_WITHIN = 240.0
WRONG_AT_MOST = 600
"""Seconds that a clock is wrong, either way."""
CLOUD: tuple[tuple[str, float, dict[str, Any]], ...] = (
    ("http_500", 0.05, {}),
    ("code", 0.05, {"code": 1110, "msg": "too many requests"}),
    ("lost_answer", 0.10, {"seconds": 0.2}),
)
"""What the cloud does to calls, with which probability."""
BREAK = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE :names"
QUARANTINED = """
    SELECT count(DISTINCT operation_id) FROM audit_events
    WHERE event IN ('generate:quarantined', 'revoke:quarantined')
"""
LOSE = "DELETE FROM procrastinate_jobs WHERE status = 'todo' AND id % 3 = :third RETURNING id"


@dataclass
class Havoc:
    ground: Ground
    deployment: Deployment
    control: Control
    webs: list[str]
    workers: list[str]
    doors: Sequence[str]
    random: random.Random
    rig: Rig
    roads: Roads = field(default_factory=Roads)
    disk: Disk | None = None
    """Where the database is, should it be filled."""
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
        while (now := await self.reached()) is None:
            pass  # our own connections are struck as well
        return now

    async def reached(self) -> datetime | None:
        """The database's time, None after a moment where it cannot be reached."""
        try:
            (row,) = await self.deployment.rows("SELECT clock_timestamp() AS now")
        except DatabaseUnavailable:
            await asyncio.sleep(0.05)
            return None
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
        await self._signal(self.workers[-1], signal.SIGKILL)

    async def kill_web(self) -> None:
        """The same of the web processes."""
        self.webs.append(self.webs.pop(0))
        await self._signal(self.webs[-1], signal.SIGKILL)

    async def deploy(self) -> None:
        """Have a process stop in order, and another version take its place, where there is one."""
        process = self.random.choice([*self.webs, *self._awake()])
        self.rig.replace(process)
        await self._signal(process, signal.SIGTERM)

    async def _signal(self, process: str, number: signal.Signals) -> None:
        while not self.deployment.children.signal(process, number):  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # it is just being started again

    async def jump_clock(self) -> None:
        """Of a process, while it runs."""
        process = self.random.choice([*self.webs, *self.workers])
        self.rig.set_clock(process, self.random.randint(-WRONG_AT_MOST, WRONG_AT_MOST))

    async def poison(self) -> None:
        """There is an operation that kills its worker, until all is over. While it is not found
        out nothing else strikes, but only so long: who dies of other things is in its favour."""
        before = await self.deployment.value(QUARANTINED)
        self.rig.poison(self.random.choice(self.doors))
        deadline = asyncio.get_running_loop().time() + POISON_WITHIN
        while asyncio.get_running_loop().time() < deadline:
            if await self.deployment.value(QUARANTINED) > before:
                return
            await asyncio.sleep(0.2)

    async def freeze_worker(self) -> None:
        """It thaws in the middle of what it did, long after it counts as dead."""
        await self._stop_for(FROZEN)

    async def stall_worker(self) -> None:
        """It thaws while others take over what it did."""
        await self._stop_for(STALLED)

    async def _stop_for(self, seconds: tuple[float, float]) -> None:
        """One worker always goes on."""
        while len(self._frozen) >= len(self.workers) - 1:
            await asyncio.wait(self._frozen, return_when=asyncio.FIRST_COMPLETED)
        worker = self.random.choice(self._awake())
        thawing = asyncio.create_task(self._freeze(worker, seconds), name=worker)
        self._frozen.add(thawing)
        thawing.add_done_callback(self._frozen.discard)

    def _awake(self) -> list[str]:
        frozen = {thawing.get_name() for thawing in self._frozen}
        return [worker for worker in self.workers if worker not in frozen]

    async def _freeze(self, worker: str, seconds: tuple[float, float]) -> None:
        children = self.deployment.children
        children.signal(worker, signal.SIGSTOP)
        try:
            await asyncio.sleep(self.random.uniform(*seconds))
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
        self.rig.antidote()
        mending = [*self._frozen, *self._lasting]
        for task in mending:
            task.cancel()
        await asyncio.gather(*mending, return_exceptions=True)


Strikes = Mapping[str, Callable[[Havoc], Awaitable[None]]]

FAULTS: Strikes = {
    KILL_WORKER: Havoc.kill_worker,
    KILL_WEB: Havoc.kill_web,
    "freeze-worker": Havoc.freeze_worker,
    "stall-worker": Havoc.stall_worker,
    DEPLOY: Havoc.deploy,
    JUMP_CLOCK: Havoc.jump_clock,
    POISON: Havoc.poison,
    "restart-database": Havoc.restart_database,
    "break-connections": Havoc.break_connections,
    "lose-jobs": Havoc.lose_jobs,
}
