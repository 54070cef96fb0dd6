"""How PinQueue fares, over HTTP: told within a second, whatever the database does."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pinqueue import health
from pinqueue.api.calls import answer, authenticate, refused
from pinqueue.api.routes import BY_EVERY_KEY, Declared
from pinqueue.api.shapes import Health
from pinqueue.errors import DatabaseUnavailable
from pinqueue.patience import within
from pinqueue.webhooks.body import Refusal

KNOWN_WITHIN, TOLD_WITHIN = 0.3, 0.3
"""Seconds to check the key, and to reach the database and the lock cloud: with what `health` takes
at least for the questions, below one."""
UNKNOWN = {
    **health.UNKNOWN,
    "healthy": False,
    "problems": ["the database cannot be reached"],
    "warnings": [],
    "database": "unreachable",
    "schema": None,
    "lock_cloud": None,
}


async def get_health(request: Request) -> Response:
    """Tell whether PINs will be on time.

    200 when the database has the right schema, a worker lives, every due operation is done in time
    and the lock cloud can be reached, else 503 and under `problems` why not; either within a
    second. While the database is away nobody's key can be checked: then only that is told.
    """
    try:
        await within(KNOWN_WITHIN, authenticate(request, "read", request.state.apart))
    except Refusal as refusal:
        return refused(refusal)
    except (DatabaseUnavailable, TimeoutError):
        return answer(503, Health.model_validate(UNKNOWN))
    told = await health.report(request.state.settings, request.state.apart, within=TOLD_WITHIN)
    return answer(200 if told["healthy"] else 503, Health.model_validate(told))


TABLE = [
    Declared(
        "GET",
        "/api/health",
        "Looking in",
        get_health.__doc__ or "",
        get_health,
        {**BY_EVERY_KEY, 200: Health, 503: Health},
        "read",
    )
]
