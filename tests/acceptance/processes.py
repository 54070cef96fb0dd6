"""Our own commands as real processes: started, waited for, killed, always ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2
import psycopg
from psycopg.rows import dict_row

from pinqueue.config import Settings, read_settings
from pinqueue.db import Database
from pinqueue.embedded import programs
from pinqueue.lifecycle import ReservationStatus
from pinqueue.processes import free_port
from pinqueue.reservations import Planner
from pinqueue.sealing import sealer
from tests import factories
from tests.conftest import PYTHON

T = TypeVar("T")


def until(found: Callable[[], T], what: str, within: float = 20.0) -> T:
    """The first answer that is true."""
    deadline = time.monotonic() + within
    while not (answer := found()):
        assert time.monotonic() < deadline, f"not within {within:.0f} s: {what}"
        time.sleep(0.02)
    return answer


@dataclass
class Running:
    """One `pinqueue ...` process. Its output goes to a file, so that no full pipe can stop it."""

    process: subprocess.Popen[bytes]
    log_file: Path

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def alive(self) -> bool:
        return self.process.poll() is None

    def logged(self, text: str, within: float = 20.0) -> None:
        """Wait until it has logged that."""
        until(lambda: text in self.log() or not self.alive(), f"{text!r} in the log", within)
        assert text in self.log(), f"it ended without {text!r}:\n{self.log()}"

    def logged_as(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of that name."""
        lines = [json.loads(line) for line in self.log().splitlines() if event in line]
        return [line for line in lines if line["event"] == event]

    def ask_to_stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def code(self, within: float = 40.0) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(within)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.process.kill()
        self.process.wait(10)


SHELL = """
import importlib, json, os, sys, traceback
from pinqueue import cli
from pinqueue.cli import later
for module in [value for value in vars(later).values() if isinstance(value, later.Later)]:
    importlib.import_module(module.module)
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        for number, file in enumerate(asked["files"], 1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = ["pinqueue", *asked["arguments"]]
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Shell:
    """Runs commands, each in a process of its own, forked from one that has done the imports.

    They take a second each time; what a command does, it does as under `python -m pinqueue`.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [PYTHON, "-c", SHELL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path
    ) -> subprocess.CompletedProcess[str]:
        assert self._process.stdin
        assert self._process.stdout
        files = [folder / "command.out", folder / "command.err"]
        asked = {
            "arguments": arguments,
            "environment": dict(environment),
            "folder": str(folder),
            "files": [str(file) for file in files],
        }
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        output, errors = (file.read_text() for file in files)
        return subprocess.CompletedProcess(arguments, code, output, errors)

    def close(self) -> None:
        with self._process:
            self._process.kill()


@dataclass
class House:
    """The processes of one test, with the environment they share and the questions a test asks."""

    environment: dict[str, str]
    folder: Path
    shell: Shell
    running: list[Running] = field(default_factory=list)

    @property
    def database_url(self) -> str:
        return self.environment["PINQUEUE_DATABASE_URL"]

    def start(self, *arguments: str, settings: Mapping[str, str] | None = None) -> Running:
        log_file = self.folder / f"{len(self.running)}-{arguments[0]}.log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [PYTHON, "-m", "pinqueue", *arguments],
                cwd=self.folder,
                env={**self.environment, **(settings or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running.append(Running(process, log_file))
        return self.running[-1]

    def web(self, port: int | None = None) -> tuple[str, Running]:
        """The address of a web process that is ready."""
        port = port or free_port()
        process = self.start("web", f"--port={port}")
        url = f"http://127.0.0.1:{port}"
        answers(f"{url}/readyz", process)
        return url, process

    def worker(self) -> Running:
        """A worker that has begun to work."""
        process = self.start("worker")
        process.logged("Starting worker on queues generate_pin")
        return process

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """One command, to its end."""
        return self.shell.run(arguments, {**self.environment, **settings}, self.folder)

    def typed(self, lines: str) -> str:
        """What a shell prints that is given these lines, none of which may fail."""
        place = f"{Path(PYTHON).parent}:{programs()}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-ec", lines],
            cwd=self.folder,
            env={**self.environment, "PATH": place},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{lines}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def end(self) -> None:
        for process in self.running:
            if process.alive():
                process.kill()

    def settings(self) -> Settings:
        names = ("database_url", "secret_keys", "pin_pepper", "lead")
        told = {name: self.environment.get(f"PINQUEUE_{name.upper()}") for name in names}
        ours = {name: text for name, text in told.items() if text is not None}
        return read_settings(**ours, _env_file=None)

    def set_up(self, locks: dict[str, str], listing: str = "apt-7") -> None:
        """A listing with these locks, `{device id: protocol}`, and the source `main`."""
        self.add_listing(locks, listing)
        self.with_database(lambda db: factories.add_source(db, sealer(self.settings())))

    def add_listing(self, locks: dict[str, str], listing: str) -> None:
        self.with_database(lambda db: factories.add_listing(db, listing, locks))

    def receive(self, reservation_id: str, *, cancelled: bool = False, **told: Any) -> None:
        """What a webhook would have caused: a stay from tomorrow on, or its end."""
        status = ReservationStatus.CANCELLED if cancelled else ReservationStatus.CONFIRMED
        booking = factories.booking(reservation_id, status=status, **told)
        self.with_database(lambda db: factories.receive(db, self.planner(), booking))

    def planner(self) -> Planner:
        settings = self.settings()
        return Planner(sealer(settings), settings.lead)

    def with_database(self, use: Callable[[Database], Awaitable[T]]) -> T:
        async def run() -> T:
            db = Database(self.database_url, pool_size=1, name="pinqueue-tests")
            try:
                return await use(db)
            finally:
                await db.close()

        return asyncio.run(run())

    def change(self, statements: str) -> None:
        with psycopg.connect(self.database_url) as connection:
            connection.execute(statements.encode())

    def ask(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        with psycopg.connect(self.database_url, row_factory=dict_row) as connection:
            return connection.execute(query.encode(), parameters or None).fetchall()

    def value(self, query: str, *parameters: object) -> Any:
        (row,) = self.ask(query, *parameters)
        (only,) = row.values()
        return only

    def states(self, reservation_id: str | None = None) -> list[str]:
        """The states of all access codes, or of one stay's, oldest first."""
        query = "SELECT state FROM access_codes WHERE reservation_id = coalesce(%s, reservation_id)"
        return [row["state"] for row in self.ask(query + " ORDER BY id", reservation_id)]

    def reach(self, state: str, reservation_id: str | None = None, within: float = 20.0) -> None:
        """Wait until every access code, or every one of a stay, is in that state."""
        try:
            until(
                lambda: (found := self.states(reservation_id)) and set(found) == {state},
                f"every code {state}",
                within,
            )
        except AssertionError as error:
            error.add_note(f"states: {self.states(reservation_id)}")
            for process in self.running:
                error.add_note(f"{process.log_file.name}:\n{process.log()[-3000:]}")
            raise


def answers(url: str, process: Running, within: float = 20.0) -> None:
    """Wait until a GET is answered 200."""

    def ready() -> bool:
        assert process.alive(), process.log()
        try:
            return httpx2.get(url, trust_env=False, timeout=2).status_code == 200
        except httpx2.HTTPError:
            return False

    until(ready, f"{url} answers", within)


def post(
    url: str, event: dict[str, Any], event_id: str | None = None, secret: str = factories.SECRET
) -> httpx2.Response:
    """Post a signed webhook."""
    body, headers = factories.signed(event, event_id=event_id, secret=secret)
    return httpx2.post(f"{url}/webhooks/main", content=body, headers=headers, trust_env=False)


def stay(reservation_id: str, starts_in: float, ends_in: float, **data: Any) -> dict[str, Any]:
    """The event of a confirmed stay, its times in seconds from now."""
    now = datetime.now(UTC)
    times = {
        "check_in": (now + timedelta(seconds=starts_in)).isoformat(),
        "check_out": (now + timedelta(seconds=ends_in)).isoformat(),
    }
    return factories.event(reservation_id, **{**times, **data})


def processes_naming(text: str) -> list[int]:
    """The processes, not ourselves, that name this text in their command line or environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            told = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue  # it has ended meanwhile
        if text.encode() in told:
            found.append(int(folder.name))
    return sorted(found)


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port
