"""The web application over real HTTP, byte for byte."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import uvicorn
from psycopg.rows import dict_row
from starlette.applications import Starlette

from pinqueue.config import Settings, read_settings
from pinqueue.db import Database
from pinqueue.processes import free_port
from pinqueue.reservations import Planner
from pinqueue.sealing import sealer
from pinqueue.web import HttpProtocol, create_app
from tests import factories
from tests.conftest import PYTHON, SECRETS, environment_of

T = TypeVar("T")
Header = tuple[str, str | bytes]

WRITTEN = (
    "webhook_events",
    "reservations",
    "access_codes",
    "operations",
    "procrastinate_jobs",
    "job_records",
    "audit_events",
)
"""The tables that an accepted webhook writes, in the order of its transaction."""
EVENT = {"webhook_events": 1}
STAY = {**EVENT, "reservations": 1}
PLANNED = {**STAY, "access_codes": 1, "operations": 2, "procrastinate_jobs": 2, "job_records": 2}
"""What a webhook adds: that it came; and a stay; and its PIN on one lock."""
COUNTS = "SELECT " + ", ".join(f"(SELECT count(*) FROM {t}) AS {t}" for t in WRITTEN)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def outcome(self) -> str:
        """`accepted` and so on, or the code of the error."""
        told = self.json()
        if "status" in told:
            return str(told["status"])
        error = told["error"]
        return str(error["code"]) if isinstance(error, dict) else str(error)


@dataclass
class Web:
    """A web process's address, and its database."""

    port: int
    database_url: str
    settings: Settings = field(init=False)
    _connection: psycopg.Connection[dict[str, Any]] | None = field(default=None, init=False)
    _runner: asyncio.Runner | None = field(default=None, init=False)
    _db: Database = field(init=False)

    def __post_init__(self) -> None:
        self.settings = settings_of(self.database_url)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._runner is not None:
            self._runner.run(self._db.close())
            self._runner.close()

    def post(
        self,
        raw: bytes,
        headers: dict[str, str] | Sequence[Header],
        path: str = "/webhooks/main",
        method: str = "POST",
    ) -> Answer:
        """Exactly these headers, and the length."""
        pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
        lines = [_bytes(f"{method} {path} HTTP/1.1")]
        lines += [_bytes(name) + b": " + _bytes(value) for name, value in pairs]
        lines += [b"Host: test", b"Connection: close", b"Content-Length: %d" % len(raw)]
        return self.exchange(b"\r\n".join(lines) + b"\r\n\r\n" + raw, method=method)

    def tell(self, event: dict[str, Any], **signing: Any) -> Answer:
        """Post a signed event."""
        return self.post(*factories.signed(event, **signing))

    def exchange(self, sent: bytes, *, method: str = "POST", hang_up: bool = False) -> Answer:
        """What comes back for these bytes; `hang_up` says at once that no more will follow."""
        started = time.monotonic()
        with self.connect() as wire:
            with suppress(ConnectionError):  # it may have answered before it had all
                wire.sendall(sent)
                if hang_up:
                    wire.shutdown(socket.SHUT_WR)
            return read_answer(wire, method=method, started=started)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=15)

    def counts(self) -> dict[str, int]:
        """How many rows each of the tables in WRITTEN has."""
        (row,) = self.ask(COUNTS)
        return row

    def added(self, before: dict[str, int]) -> dict[str, int]:
        """How many rows each table has more than before, but the audit, and where it has."""
        grown = {table: count - before[table] for table, count in self.counts().items()}
        return {table: n for table, n in grown.items() if n and table != "audit_events"}

    def audited(self, event: str) -> list[dict[str, Any]]:
        """What the audit says of each event of that name."""
        rows = self.ask("SELECT detail FROM audit_events WHERE event = %s ORDER BY id", event)
        return [row["detail"] for row in rows]

    def ask(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        return self._run(query, parameters).fetchall()

    def value(self, query: str, *parameters: object) -> Any:
        (row,) = self.ask(query, *parameters)
        (only,) = row.values()
        return only

    def execute(self, statement: str, *parameters: object) -> None:
        self._run(statement, parameters)

    def _run(self, query: str, parameters: tuple[object, ...]) -> psycopg.Cursor[dict[str, Any]]:
        """On one connection, kept: tests ask a lot."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self.database_url, autocommit=True, row_factory=dict_row
            )
        return self._connection.execute(query.encode(), parameters or None)

    def wait_for_lock(self) -> None:
        """Until a transaction of the web application waits for one that we hold."""
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        mine = waiting + " AND datname = current_database()"
        until(lambda: self.value(mine), "a transaction that waits for a lock")

    def do(self, use: Callable[[Database, Planner], Coroutine[Any, Any, T]]) -> T:
        """Something that a person or another process of ours does in the same database."""
        if self._runner is None:
            self._runner = asyncio.Runner()
            self._db = Database(self.database_url, pool_size=1, name="pinqueue-tests")
        planner = Planner(sealer(self.settings), self.settings.lead)
        return self._runner.run(use(self._db, planner))

    def set_up_listing(self, listing: str, locks: dict[str, str]) -> None:
        self.do(lambda db, _: factories.add_listing(db, listing, locks))

    def set_up(self, listing: str | None = "apt-7", **listing_values: Any) -> None:
        """The source `main` and a listing with one lock."""

        async def add(db: Database, planner: Planner) -> None:
            if listing:
                await factories.add_listing(db, listing, **listing_values)
            await factories.add_source(db, planner.sealer)

        self.do(add)


def settings_of(database_url: str, **changes: object) -> Settings:
    """Strangers may fail here as often as they like, unless said otherwise."""
    values = {**SECRETS, "database_url": database_url, "stranger_rate": 100_000, **changes}
    return read_settings(**values, _env_file=None)


@contextmanager
def serving(database_url: str, through: str | None = None, **changes: object) -> Iterator[Web]:
    """The application served from a thread; `through` is another way to the same database, and
    `changes` are to its settings."""
    app = create_app(settings_of(through or database_url, **changes))
    with served(app, http=HttpProtocol) as port, closing(Web(port, database_url)) as web:
        yield web


@contextmanager
def served(app: Starlette, **config: Any) -> Iterator[int]:
    """The port of the loopback where a thread serves the application."""
    server = _Server(uvicorn.Config(app, log_config=None, access_log=False, **config))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="served")
        thread.start()
        try:
            until(lambda: server.started or not thread.is_alive(), "the application serves")
            assert server.started
            yield listener.getsockname()[1]
        finally:
            server.stop()
            thread.join()


class _Server(uvicorn.Server):
    """Stops as soon as it is told to and has answered: uvicorn looks ten times a second whether
    it is, then waits a tenth more, and hundreds of tests would wait with it."""

    _loop: asyncio.AbstractEventLoop
    _told: asyncio.Event

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop, self._told = asyncio.get_running_loop(), asyncio.Event()
        await super().startup(sockets)

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._told.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.005)  # uvicorn's own lists, which give no signal
        await self.lifespan.shutdown()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._told.set)


def read_answer(
    wire: socket.socket, *, method: str = "POST", started: float | None = None
) -> Answer:
    response = HTTPResponse(wire, method=method)
    response.begin()
    body = response.read()
    seconds = time.monotonic() - (started or time.monotonic())
    return Answer(response.status, {n.lower(): v for n, v in response.getheaders()}, body, seconds)


def sign(
    raw: bytes,
    event_id: str = "msg_bytes",
    *,
    at: datetime | None = None,
    timestamp: str | None = None,
    secret: str = factories.SECRET,
) -> dict[str, str]:
    """The headers of a sender that signs whatever it is given; not by the library under test."""
    if timestamp is None:
        timestamp = str(int((at or datetime.now(UTC)).timestamp()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = event_id.encode() + b"." + timestamp.encode() + b"." + raw
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


@contextmanager
def web_process(
    database_url: str, log: Path, *, through: str | None = None
) -> Iterator[tuple[Web, subprocess.Popen[bytes]]]:
    """`pinqueue web` at DEBUG as a process of its own, its output in a file."""
    environment = environment_of({**SECRETS, "database_url": through or database_url})
    web = Web(free_port(), database_url)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [PYTHON, "-m", "pinqueue", "web", f"--port={web.port}", "--log-level=DEBUG"],
            env=environment,
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        until(lambda: process.poll() is not None or _answers(web), "the web process answers")
        assert process.poll() is None, log.read_text()
        yield web, process
    finally:
        web.close()
        process.terminate()
        process.wait(20)


def _answers(web: Web) -> bool:
    try:
        return web.exchange(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", method="GET").status == 200
    except OSError:
        return False


def until(found: Callable[[], object], what: str, within: float = 15.0) -> None:
    deadline = time.monotonic() + within
    while not found():
        assert time.monotonic() < deadline, f"not within {within:.0f} s: {what}"
        time.sleep(0.01)


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
