"""How late PIN operations begin that are due one after the other, 25 a second for 20 seconds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

from pinqueue.bench import due
from pinqueue.bench.figures import Bar, Round, Side
from pinqueue.bench.ground import Deployment, Ground
from pinqueue.bench.peer import Peer

WHAT = "500 operations due over 20 s, 5 at a time, on a device that takes 100 ms"
JOBS, SECONDS, CONCURRENCY, DEVICE_MS = 500, 20, 5, 100
BARS = (Bar("late_p99_ms", "peer", at_most=1.0),)


@asynccontextmanager
async def sides(ground: Ground, scale: float) -> AsyncIterator[dict[str, Side]]:
    made: dict[str, Side] = {"pinqueue": partial(_ours, ground, scale)}
    if ground.peer is not None:
        made["peer"] = partial(_peers, ground.peer)
    yield made


async def _ours(ground: Ground, scale: float) -> Round:
    async with ground.deployment() as deployment:
        return await measured(deployment, scale)


async def measured(deployment: Deployment, scale: float) -> Round:
    jobs = max(int(JOBS * scale), 1)
    await deployment.start_worker(CONCURRENCY, DEVICE_MS)
    gap = timedelta(seconds=SECONDS / JOBS)
    start = await due.put(deployment, [gap * number for number in range(jobs)])
    return await due.done(deployment, start, jobs, within=120)


async def _peers(peer: Peer) -> Round:
    return due.told(await peer.work("spread", JOBS, CONCURRENCY, DEVICE_MS), JOBS)
