"""What jobs that are months ahead cost those that are due: nothing, with a million of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from pinqueue.bench import crowd, drain, late
from pinqueue.bench.figures import Bar, Round, Side
from pinqueue.bench.ground import Deployment, Ground
from pinqueue.processes import finished

WHAT = "`late` for 8 s, and 2,000 operations of `drain`, with jobs that are months ahead"
SIZES = (0, 1_000, 10_000, 100_000, 1_000_000)
LATE_SHARE, DRAINED = 0.4, 2000
BARS = tuple(
    Bar(figure, of=str(SIZES[-1]), against=str(SIZES[0]), **limit)
    for figure, limit in {
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
    on_time = await late.measured(deployment, LATE_SHARE * scale)
    await deployment.children.stop("worker")
    drained = await drain.measured(deployment, max(int(DRAINED * scale), 1))
    await deployment.children.stop("worker")
    return {
        "late_p50_ms": on_time["late_p50_ms"],
        "late_p99_ms": on_time["late_p99_ms"],
        "per_second": drained["per_second"],
    }
