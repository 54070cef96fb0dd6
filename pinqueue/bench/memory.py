"""What a worker and a web process hold in memory: as much after many operations as after few, and
as much with a million jobs ahead as with none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

from pinqueue.bench import crowd, due, ingest
from pinqueue.bench.client import post
from pinqueue.bench.figures import Bar, Round, Side
from pinqueue.bench.ground import Deployment, Ground
from pinqueue.processes import answering, finished, free_port

WHAT = "memory of a worker and a web process after 5,000 and 100,000 operations and webhooks"
FEW, MANY, AHEAD, AT_A_TIME, CONCURRENCY = 5_000, 100_000, 1_000_000, 1_000, 20
SIDES = {"few": (FEW, 0), "many": (MANY, 0), "a million ahead": (FEW, AHEAD)}
"""Operations and webhooks, and jobs ahead."""
BARS = tuple(
    Bar(figure, of=side, against="few", at_most=1.15)
    for side in ("many", "a million ahead")
    for figure in ("worker_mb", "web_mb")
)


@asynccontextmanager
async def sides(ground: Ground, scale: float) -> AsyncIterator[dict[str, Side]]:
    yield {
        name: partial(_round, ground, max(int(work * scale), 1), int(ahead * scale))
        for name, (work, ahead) in SIDES.items()
    }


async def _round(ground: Ground, work: int, ahead: int) -> Round:
    async with ground.deployment() as deployment:
        secret = await ingest.set_up(deployment.db, deployment.planner.sealer)
        if ahead:
            await finished(partial(crowd.fill, deployment.settings.database_url, ahead))
        await deployment.start_worker(CONCURRENCY, device_ms=0)
        await _operate(deployment, work)
        port = free_port()
        await deployment.children.start("web", "web", f"--port={port}")
        await answering(f"http://127.0.0.1:{port}/readyz", deployment.children)
        for first in range(0, work, AT_A_TIME):
            events = ingest.signed(min(AT_A_TIME, work - first), secret, first=first)
            await post(port, events, status=200)
        return {
            "worker_mb": await deployment.children.memory("worker") / 1e6,
            "web_mb": await deployment.children.memory("web") / 1e6,
        }


async def _operate(deployment: Deployment, work: int) -> None:
    for first in range(0, work, AT_A_TIME):
        jobs = min(AT_A_TIME, work - first)
        start = await due.put(deployment, [timedelta(0)] * jobs, ahead=timedelta(0))
        await due.finished(deployment, start, jobs, within=600)
