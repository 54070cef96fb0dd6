"""How PinQueue fares, over HTTP: told within a second, whatever the database does."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pinqueue import health, jobs, schema
from pinqueue.api.calls import answer, authenticate, refused
from pinqueue.api.routes import BY_EVERY_KEY, Declared
from pinqueue.api.shapes import Health
from pinqueue.db import Database
from pinqueue.errors import DatabaseUnavailable
from pinqueue.patience import within
from pinqueue.webhooks.body import Refusal

ANSWER_WITHIN = 0.9


async def get_health(request: Request) -> Response:
    """Tell whether PINs will be on time.

    200 when a worker lives and every due operation is taken up in time, else 503; either within a
    second. While the database is away nobody's key can be checked: then only that is told.
    """
    try:
        told = await within(ANSWER_WITHIN, _look(request))
    except Refusal as refusal:
        return refused(refusal)
    except (DatabaseUnavailable, TimeoutError):
        told = Health(healthy=False, database="unavailable")
    return answer(200 if told.healthy else 503, told)


async def _look(request: Request) -> Health:
    await authenticate(request, "read")
    db: Database = request.state.db
    async with db.transaction() as session:
        current = await schema.is_current(session)
        if not current:
            return Health(healthy=False, database="ok", schema_="wrong")
        told = {**await health.report(session), **await jobs.get_queue_health(session)}
        return Health(schema_="current", **told)


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
