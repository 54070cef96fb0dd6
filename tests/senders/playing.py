"""A property system's API on a port of its own, and a source that reads it."""

from __future__ import annotations

import base64
import json
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from pinqueue import fetching, inventory
from pinqueue.db import Database
from pinqueue.fetchers import Api
from pinqueue.models import Source
from pinqueue.reservations import Planner
from tests import factories
from tests.serving import Answer, Web, served

SECRET = "a-path-secret-of-32-characters-x"
TODAY = datetime.now(UTC).date()
JSON = {"content-type": "application/json"}


def day(ahead: int) -> str:
    """So many days from today."""
    return (TODAY + timedelta(days=ahead)).isoformat()


@dataclass(frozen=True)
class Fault:
    """An answer out of order."""

    status: int
    body: str = '{"status": "fail"}'
    headers: tuple[tuple[str, str], ...] = ()

    def answer(self) -> Response:
        return Response(self.body, self.status, dict(self.headers))


@dataclass
class Played:
    """What an API holds and was asked. Each sender's adds its routes, and how it writes a stay."""

    KIND: ClassVar[str]
    LISTING: ClassVar[str]
    USER: ClassVar[str] = ""
    TOKEN: ClassVar[str] = "token-of-the-api"
    ENTRY: ClassVar[str] = ""
    """What of its paths the source's URL has."""

    url: str = ""
    bookings: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    """Its next answers, whatever it is asked for."""
    page: int = 2
    """The most it lists at a time, whatever it is asked for."""

    @abstractmethod
    def put(self, stay: str, *, ahead: int = 10, listing: str = "", status: str = "") -> None:
        """A stay of three days, confirmed unless said otherwise, as the sender writes it."""

    @abstractmethod
    def event(self, stay: str) -> dict[str, Any]:
        """A webhook that names the stay."""

    @abstractmethod
    def routes(self) -> list[Any]: ...

    CANCELLED: ClassVar[str]
    """How it calls a stay that is."""

    @property
    def api(self) -> Api:
        return Api(self.url + self.ENTRY, self.TOKEN, self.USER)

    def fault(self, request: Request) -> Response | None:
        self.asked.append(f"{request.method} {request.url.path}?{request.url.query}")
        return self.faults.pop(0).answer() if self.faults else None

    def clear(self) -> None:
        self.bookings.clear()
        self.asked.clear()
        self.faults.clear()


@contextmanager
def playing(played: Played) -> Iterator[None]:
    with served(Starlette(routes=played.routes())) as port:
        played.url = f"http://127.0.0.1:{port}"
        yield


def set_up(web: Web, played: Played, *, secret: str = SECRET, api: bool = True) -> None:
    """The source `pms`, with or without its API, and the listing of its stays."""

    async def add(db: Database, planner: Planner) -> None:
        if web.value("SELECT count(*) FROM listings WHERE id = %s", played.LISTING) == 0:
            await factories.add_listing(db, played.LISTING)
        async with db.transaction() as session:
            await inventory.add_source(session, planner.sealer, "test", "pms", played.KIND, secret)

    web.do(add)
    if api:
        set_api(web, played)


def set_api(web: Web, played: Played, **changes: str) -> None:
    """Have the source `pms` read the API, or another one."""

    async def change(db: Database, planner: Planner) -> None:
        async with db.transaction() as session:
            source = await session.get_one(Source, "pms")
            api = replace(played.api, **changes)
            source.api = planner.sealer.seal("api:pms", api.dump())

    web.do(change)


def tell(
    web: Web, body: dict[str, Any] | bytes, *, secret: str = SECRET, login: str = ""
) -> Answer:
    """Post a webhook as the sender does."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = dict(JSON)
    if login:
        headers["authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    return web.post(raw, headers, f"/webhooks/pms/{secret}" if secret else "/webhooks/pms")


def fetch(web: Web) -> str:
    """Do what the newest event's job does; returns what became of the event."""
    row = web.value("SELECT max(id) FROM webhook_events")
    web.do(lambda db, planner: fetching.fetch(db, planner, row))
    return outcome(web)


def outcome(web: Web) -> str:
    """What became of the newest event."""
    return str(web.value("SELECT outcome FROM webhook_events ORDER BY id DESC LIMIT 1"))


def compare(web: Web) -> None:
    """Do what the reconcile job does, now."""
    web.do(lambda db, planner: fetching.reconcile(db, planner, every=timedelta(0)))


def stays(web: Web) -> dict[str, tuple[Any, ...]]:
    """Each stay's status and days, as its listing's clock has them."""
    rows = web.ask(
        "SELECT id, status, (check_in_at AT TIME ZONE 'America/Sao_Paulo')::text AS i,"
        " (check_out_at AT TIME ZONE 'America/Sao_Paulo')::text AS o FROM reservations"
    )
    return {
        row["id"]: (row["status"], row["i"] and row["i"][:16], row["o"] and row["o"][:16])
        for row in rows
    }


def live_codes(web: Web) -> int:
    return int(web.value("SELECT count(*) FROM access_codes WHERE state = 'scheduled'"))
