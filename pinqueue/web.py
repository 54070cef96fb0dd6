"""The web application: its routes, what a process of it holds open, and how errors look."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import TypedDict

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pinqueue import api, lines, logs, store, webhooks
from pinqueue.api import docs
from pinqueue.api.routes import BY_EVERY_BODY, Declared, served
from pinqueue.api.shapes import Error, OfSender, Ok, Taken, Unauthorized, Unready
from pinqueue.arrivals import Arrivals
from pinqueue.config import STORE, Settings
from pinqueue.db import Database
from pinqueue.errors import DatabaseUnavailable
from pinqueue.lines import WEB_LIMITS
from pinqueue.metrics import OTHER, Metrics
from pinqueue.monitoring import Monitor
from pinqueue.patience import within
from pinqueue.reservations import Planner
from pinqueue.sealing import sealer
from pinqueue.webhooks.known_sources import Sources
from pinqueue.webhooks.limits import Limits
from pinqueue.webhooks.pinqueue import Event

log = logs.get(__name__)

POOL_SIZE = 20
READY_WITHIN = 0.8
"""Seconds for the database to answer: who asks whether we are ready waits for one."""
LARGEST_HEAD, MOST_HEADERS = 16 * 1024, 100
"""Bytes of a request before its body, and how many headers it may have."""
LARGEST_GAP = 512 * 1024
"""Bytes that may come after the head without being body: more is a trailer without end."""


NO_PAGE = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""What every answer tells a browser: it is no page, and to be shown in none. /docs has its own."""
ONLY_TLS = {"Strict-Transport-Security": "max-age=31536000"}
"""For a year; told where a proxy that is trusted says that the request came by TLS."""


class State(TypedDict):
    """What every request finds at `request.state`."""

    settings: Settings
    db: Database
    apart: Database
    planner: Planner
    metrics: Metrics
    monitor: Monitor
    limits: Limits
    sources: Sources
    arrivals: Arrivals


def create_app(settings: Settings) -> Starlette:
    settings.require(*STORE)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        db = Database(
            settings.database_url, limits=WEB_LIMITS, pool_size=POOL_SIZE, name="pinqueue-web"
        )
        # Connections for looking in: figures are wanted most when all the others are taken.
        apart = Database(
            settings.database_url, limits=WEB_LIMITS, pool_size=4, name="pinqueue-monitor"
        )
        counts = Metrics()
        monitor = Monitor(apart, counts)
        watching = asyncio.create_task(lines.watch(settings.database_url))
        planner = Planner(sealer(settings), settings.lead)
        async with monitor.adding():
            yield {
                "settings": settings,
                "db": db,
                "apart": apart,
                "planner": planner,
                "metrics": counts,
                "monitor": monitor,
                "limits": Limits(settings.source_rate, settings.stranger_rate),
                "sources": Sources(db),
                "arrivals": Arrivals(db, planner),
            }
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await apart.close()
        await db.close()

    app = Starlette(
        routes=[
            # Each is tried in turn: first what comes most.
            *sorted(served(TABLE), key=lambda one: one.path != "/webhooks/{source}"),
            Route("/webhooks/{source}/{secret}", webhooks.receive, methods=["POST"]),
            *docs.pages(TABLE),
        ],
        middleware=[Middleware(AnswerHeaders), Middleware(RequestCount)],
        exception_handlers={HTTPException: http_error, Exception: last_resort},
        lifespan=lifespan,
    )
    # A slash too many is not found. A redirect would send on the secret that a path may end with,
    # to whatever host the request named, and few senders follow one.
    app.router.redirect_slashes = False
    return app


async def healthz(request: Request) -> Response:
    """Whether the process answers at all."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Whether it can take a webhook now: the database answers."""
    try:
        await within(READY_WITHIN, _ask(request.state.db))
    except (DatabaseUnavailable, TimeoutError):
        return JSONResponse({"status": "unavailable", "reason": "database"}, 503)
    return JSONResponse({"status": "ok"})


async def _ask(db: Database) -> None:
    async with db.transaction() as session:
        await store.now(session)


async def metrics(request: Request) -> Response:
    """The figures of the whole deployment, for Prometheus."""
    monitor: Monitor = request.state.monitor
    text, content_type = await monitor.scrape(request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": content_type})


FIGURES = {
    kind: {"schema": {"type": "string"}} for kind in ("text/plain", "application/openmetrics-text")
}
TABLE = [
    *api.TABLE,
    Declared(
        "GET", "/healthz", "Looking in", "Whether the process answers at all.", healthz, {200: Ok}
    ),
    Declared(
        "GET",
        "/readyz",
        "Looking in",
        "Whether it can take a webhook now: the database answers.",
        readyz,
        {200: Ok, 503: Unready},
    ),
    Declared(
        "GET",
        "/metrics",
        "Looking in",
        "The figures of the whole deployment, for Prometheus.",
        metrics,
        {},
        extra={"responses": {"200": {"description": "OK", "content": FIGURES}}},
    ),
    Declared(
        "POST",
        "/webhooks/{source}",
        "Webhooks",
        """Take an event, signed by its sender.

        A 2xx means that it is stored for good. The body has the shape of the source's kind; this is
        the shape of kind `pinqueue`. An event of a type that is not known is `ignored`.
        """,
        webhooks.receive,
        {
            **BY_EVERY_BODY,
            **dict.fromkeys((404, 409, 422, 429, 503), Error),
            200: Taken,
            401: Unauthorized,
        },
        parameters=OfSender,
        body=Event,
        extra={"security": [{"signature": []}]},
    ),
]
"""Every route that is meant for other programs."""


async def http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for that class
    code = error.detail.lower().replace(" ", "_")
    message = error.detail
    if error.status_code == 404:
        message = "there is nothing by that path: /docs shows every route"
    elif error.status_code == 405:
        message = f"this path takes {(error.headers or {})['Allow']} only"
    body = {"error": {"code": code, "message": message, "details": []}}
    return JSONResponse(body, error.status_code, error.headers)


async def last_resort(request: Request, error: Exception) -> Response:
    """What nobody expected: the client learns nothing of it, the log everything but its values."""
    request_id = request.state.request_id
    log.error("request-failed", request_id=request_id, error=type(error).__name__)
    body = {"error": {"code": "internal", "message": "something went wrong here", "details": []}}
    return JSONResponse(body, 500, {"X-Request-ID": request_id, **NO_PAGE})


class AnswerHeaders:
    """Gives every request an id of ours, which its answer and its log lines carry, and tells
    browsers what they must not do with the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        scope["state"]["request_id"] = request_id = secrets.token_hex(8)
        told = NO_PAGE | (ONLY_TLS if scope["scheme"] == "https" else {})

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in told.items():
                    headers.setdefault(name, value)
            await send(message)

        return await self._app(scope, receive, send_with_id)


class RequestCount:
    """Counts every answer by the template of its route: paths hold ids, and whatever people try."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._names: dict[int, str] | None = None
        """By the identity of a route: those that are equal may lie under different mounts."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        status = None

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            return await self._app(scope, receive, send_noting)
        except Exception:
            status = status or 500  # as `last_resort` will answer
            raise
        finally:
            if status is not None:
                counts: Metrics = scope["state"]["metrics"]
                name = self._template(scope)
                counts.request_answered(name, scope["method"], status)

    def _template(self, scope: Scope) -> str:
        if self._names is None:
            self._names = {id(route): name for route, name in _templates(scope["app"].routes)}
        return self._names.get(id(scope.get("route")), OTHER)


def _templates(routes: Iterable[BaseRoute], prefix: str = "") -> Iterator[tuple[BaseRoute, str]]:
    for route in routes:
        if isinstance(route, Route | Mount):
            yield route, prefix + route.path
        if isinstance(route, Mount):
            yield from _templates(route.routes, prefix + route.path)


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's, with a limit to the head of a request: httptools alone keeps one of any length."""

    _in_head, _received = False, 0

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)
        if self._received > (LARGEST_HEAD if self._in_head else LARGEST_GAP):
            self.send_400_response("The head or the trailer of the request is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._received = True, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > LARGEST_HEAD or len(self.headers) > MOST_HEADERS:
            raise ValueError("the head of the request is too large")  # the parser answers 400
        self._received = 0
        super().on_headers_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        # After the head come only trailers, which nobody reads: kept, they could grow for ever.
        if self._in_head:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._received = 0
        super().on_body(body)
