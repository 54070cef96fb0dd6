"""The table of routes: each is declared once, and the server and openapi.json are made of it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any
from urllib.parse import unquote

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from pinqueue.api.shapes import Error, Nothing

Endpoint = Callable[[Request], Awaitable[Response]]

Replies = Mapping[int, type[BaseModel]]

BY_EVERY_KEY: Replies = {401: Error, 403: Error, 503: Error}
BY_EVERY_BODY: Replies = {400: Error, 408: Error, 413: Error, 415: Error}


@dataclass(frozen=True)
class Declared:
    """One method of one path, and all that a client must know of it."""

    method: str
    path: str
    tag: str
    text: str
    """The first line is the summary."""
    endpoint: Endpoint
    replies: Replies
    """What each status holds."""
    scope: str | None = None
    """What the key must be good for; None: no key is asked."""
    parameters: type[BaseModel] = Nothing
    """Of the path and of the query."""
    body: type[BaseModel] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Put into its description in openapi.json as it is."""

    @property
    def name(self) -> str:
        return getattr(self.endpoint, "__name__", "")

    @property
    def summary(self) -> str:
        return self.text.partition("\n")[0]

    @property
    def description(self) -> str:
        return inspect.cleandoc(self.text.partition("\n")[2])


def needs_body(kind: type[BaseModel]) -> bool:
    return any(field.is_required() for field in kind.model_fields.values())


class Resource(Route):
    """One path with all its methods.

    Matched as it came, before %2F becomes a slash: the id of a stay may hold one.
    """

    def __init__(self, path: str, declared: Iterable[Declared]) -> None:
        self._endpoints = {one.method: one.endpoint for one in declared}
        super().__init__(path, self._serve, methods=list(self._endpoints))

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches({**scope, "path": scope["raw_path"].decode("ascii")})
        if match is not Match.NONE:
            # What is not UTF-8 is kept as such, and so refused: two of them must not be one id.
            found["path_params"] = {
                name: unquote(value, errors="surrogateescape")
                for name, value in found["path_params"].items()
            }
        return match, found

    async def _serve(self, request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await self._endpoints[method](request)


def served(table: Iterable[Declared]) -> list[Resource]:
    by_path = sorted(table, key=lambda one: one.path)
    return [Resource(path, found) for path, found in groupby(by_path, key=lambda one: one.path)]
