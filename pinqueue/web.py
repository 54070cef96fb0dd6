"""The web application: its routes, what a process of it holds open, and how errors look."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pinqueue import logs, store, webhooks
from pinqueue.config import STORE, Settings
from pinqueue.db import WEB_LIMITS, Database
from pinqueue.errors import DatabaseUnavailable
from pinqueue.reservations import Planner
from pinqueue.sealing import sealer

log = logs.get(__name__)

LARGEST_BODY = 256 * 1024
POOL_SIZE = 20


class State(TypedDict):
    """What every request finds at `request.state`."""

    db: Database
    planner: Planner


def create_app(settings: Settings) -> Starlette:
    settings.require(*STORE)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        db = Database(
            settings.database_url, limits=WEB_LIMITS, pool_size=POOL_SIZE, name="pinqueue-web"
        )
        yield {"db": db, "planner": Planner(sealer(settings), settings.lead)}
        await db.close()

    return Starlette(
        routes=[
            Route("/webhooks/{source}", webhooks.receive, methods=["POST"]),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
        ],
        middleware=[Middleware(RequestBodyLimitMiddleware, max_body_size=LARGEST_BODY)],
        exception_handlers={HTTPException: http_error, Exception: last_resort},
        lifespan=lifespan,
    )


async def healthz(request: Request) -> Response:
    """Whether the process answers at all."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Whether it can take a webhook now: the database answers."""
    db: Database = request.state.db
    try:
        async with db.transaction() as session:
            await store.now(session)
    except DatabaseUnavailable as error:
        return JSONResponse({"status": "unavailable", "reason": str(error)}, 503)
    return JSONResponse({"status": "ok"})


async def http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for that class
    code = error.detail.lower().replace(" ", "_")
    body = {"error": {"code": code, "message": error.detail, "details": []}}
    return JSONResponse(body, error.status_code, error.headers)


async def last_resort(request: Request, error: Exception) -> Response:
    """What nobody expected: the client learns nothing of it, the log everything but its values."""
    return JSONResponse(
        {"error": {"code": "internal", "message": "something went wrong here", "details": []}}, 500
    )
