"""Requests are counted by the whole template of their route, also under a mount."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from pinqueue.metrics import Metrics
from pinqueue.web import RequestCount


async def answer(request: Request) -> Response:
    if request.path_params.get("id") == "broken":
        raise RuntimeError("the door is stuck")
    return PlainTextResponse("ok")


@pytest.mark.parametrize(
    ("path", "template", "status"),
    [
        ("/plain", "/plain", "200"),
        ("/api/things/7654321", "/api/things/{id}", "200"),
        ("/api/deeper/8/things/9", "/api/deeper/{of}/things/{id}", "200"),
        ("/api/things/broken", "/api/things/{id}", "500"),
        ("/api/7654321", "/api", "404"),
        ("/7654321", "other", "404"),
    ],
)
def test_a_request_is_counted_by_the_template_of_its_route(
    path: str, template: str, status: str
) -> None:
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Metrics]]:
        yield {"metrics": metrics}

    deeper = Mount("/deeper/{of}", routes=[Route("/things/{id}", answer)])
    api = Mount("/api", routes=[Route("/things/{id}", answer), deeper])
    app = Starlette(
        routes=[Route("/plain", answer), api],
        middleware=[Middleware(RequestCount)],
        lifespan=lifespan,
    )
    with TestClient(app, raise_server_exceptions=False) as client:
        client.get(path)
    ((_, labels),) = metrics.growth()
    assert dict(labels) == {"route": template, "method": "GET", "status": status}
