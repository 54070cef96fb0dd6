"""A sender's API on a port of this machine, played as its documentation says."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.serving import served

Answer = Callable[["Played", Request], Response]


@dataclass
class Played:
    """What the API holds, and what it was asked."""

    authorization: str
    """What each request must say of itself."""
    bookings: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)
    faults: deque[Response] = field(default_factory=deque)
    """The next answers, whatever is asked."""
    url: str = ""
    header: str = "authorization"
    open: frozenset[str] = frozenset()
    """The paths that ask for no authorization."""

    def queries(self, name: str) -> list[str]:
        """The values that one parameter had, in the order they were asked."""
        return [value for _, query in self.asked for key, value in query if key == name]


@contextmanager
def playing(played: Played, routes: Mapping[str, Answer]) -> Iterator[Played]:
    methods = ["GET", "POST"]
    app = Starlette(
        routes=[Route(p, _route(played, answer), methods=methods) for p, answer in routes.items()]
    )
    with served(app) as port:
        played.url = f"http://127.0.0.1:{port}"
        yield played


def _route(played: Played, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        request.state.body = await request.body()
        played.asked.append((request.url.path, request.query_params.multi_items()))
        if played.faults:
            return played.faults.popleft()
        authorized = request.headers.get(played.header) == played.authorization
        if not authorized and request.url.path not in played.open:
            return JSONResponse({"message": "Unauthorized"}, 401)
        return answer(played, request)

    return respond
