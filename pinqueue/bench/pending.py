"""What jobs that are months ahead cost those that are due: nothing, with a million of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from statistics import median

from pinqueue import ringing
from pinqueue.bench import crowd, drain, late
from pinqueue.bench.figures import Bar, Round, Side
from pinqueue.bench.ground import Deployment, Ground
from pinqueue.processes import finished

WHAT = "a fetch, `late` for 8 s and 2,000 operations of `drain`, with jobs that are months ahead"
SIZES = (0, 1_000, 10_000, 100_000, 1_000_000)
FETCHES, LATE_SHARE, DRAINED = 100, 0.4, 2000
BARS = tuple(
    Bar(figure, of=str(SIZES[-1]), against=str(SIZES[0]), **limit)
    for figure, limit in {
        "fetch_ms": {"at_most": 1.2},
        "late_p50_ms": {"at_most": 1.2},
        "late_p99_ms": {"at_most": 1.2},
        "per_second": {"at_least": 1 / 1.2},
    }.items()
)


@asynccontextmanager
async def sides(ground: Ground, scale: float) -> AsyncIterator[dict[str, Side]]:
    """A side for each number of jobs ahead, each in a database of its own that is filled once."""
    async with AsyncExitStack() as stack:
        made: dict[str, Side] = {}
        # A quick look is at the ends alone.
        for size in SIZES if scale == 1 else (SIZES[0], SIZES[-1]):
            deployment = await stack.enter_async_context(ground.deployment())
            url = deployment.settings.database_url
            await finished(partial(crowd.fill, url, int(size * scale)))
            made[str(size)] = partial(_round, deployment, scale)
        yield made


async def _round(deployment: Deployment, scale: float) -> Round:
    fetch = await _fetch(deployment.settings.database_url)
    on_time = await late.measured(deployment, LATE_SHARE * scale)
    await deployment.children.stop("worker")
    drained = await drain.measured(deployment, max(int(DRAINED * scale), 1))
    await deployment.children.stop("worker")
    return {
        "fetch_ms": fetch * 1000,
        "late_p50_ms": on_time["late_p50_ms"],
        "late_p99_ms": on_time["late_p99_ms"],
        "per_second": drained["per_second"],
    }


async def _fetch(url: str) -> float:
    """Seconds that a look at what is due takes, when nothing is."""
    app, took = ringing.app(url, concurrency=1), list[float]()
    async with app.open_async():
        for _ in range(FETCHES):
            began = time.perf_counter()
            await app.job_manager.fetch_job(["generate_pin", "revoke_pin"], 0)
            took.append(time.perf_counter() - began)
    return median(took)
