"""How many operations a second are done when the device takes no time at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

from pinqueue.bench import due
from pinqueue.bench.figures import Bar, Round, Side
from pinqueue.bench.ground import Deployment, Ground
from pinqueue.bench.peer import Peer

WHAT = "5,000 operations due at one instant, 100 at a time, on a device that takes no time"
JOBS, CONCURRENCY = 5000, 100
BARS = (Bar("per_second", "peer", at_least=1.0),)


@asynccontextmanager
async def sides(ground: Ground, scale: float) -> AsyncIterator[dict[str, Side]]:
    made: dict[str, Side] = {
        "pinqueue": partial(_ours, ground, scale, 1),
        "two workers": partial(_ours, ground, scale, 2),
    }
    if ground.peer is not None:
        made["peer"] = partial(_peers, ground.peer)
    yield made


async def _ours(ground: Ground, scale: float, workers: int) -> Round:
    async with ground.deployment() as deployment:
        return await measured(deployment, max(int(JOBS * scale), 1), workers)


async def measured(deployment: Deployment, jobs: int, workers: int = 1) -> Round:
    for number in range(workers):
        await deployment.start_worker(CONCURRENCY // workers, device_ms=0, number=number)
    start = await due.put(deployment, [timedelta(0)] * jobs)
    return await due.done(deployment, start, jobs, within=600)


async def _peers(peer: Peer) -> Round:
    return due.told(await peer.work("rush", JOBS, CONCURRENCY, 0), JOBS)
