"""How long it takes until all is done that is due at one instant, as at check-in time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

from pinqueue.bench import due
from pinqueue.bench.figures import Bar, Round, Side
from pinqueue.bench.ground import Ground
from pinqueue.bench.peer import Peer

WHAT = "2,000 operations due at one instant, 100 at a time, on a device that takes 100 ms"
JOBS, CONCURRENCY, DEVICE_MS = 2000, 100, 100
BARS = (Bar("seconds", "peer", at_most=1.0),)


@asynccontextmanager
async def sides(ground: Ground, scale: float) -> AsyncIterator[dict[str, Side]]:
    made: dict[str, Side] = {"pinqueue": partial(_ours, ground, scale)}
    if ground.peer is not None:
        made["peer"] = partial(_peers, ground.peer)
    yield made


async def _ours(ground: Ground, scale: float) -> Round:
    jobs = max(int(JOBS * scale), 1)
    async with ground.deployment() as deployment:
        await deployment.start_worker(CONCURRENCY, DEVICE_MS)
        start = await due.put(deployment, [timedelta(0)] * jobs)
        return await due.done(deployment, start, jobs, within=300)


async def _peers(peer: Peer) -> Round:
    return due.told(await peer.work("rush", JOBS, CONCURRENCY, DEVICE_MS), JOBS)
