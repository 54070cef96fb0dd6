"""A PostgreSQL server for the run, a migrated database of its own for each test that asks."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from pinqueue import migrating
from pinqueue.config import Settings, read_settings
from pinqueue.db import Database
from pinqueue.reservations import Planner
from pinqueue.sealing import Sealer, sealer
from pinqueue.simulator import ACCESS_ID, ACCESS_SECRET, Control
from pinqueue.simulator import running as simulator_running
from tests.wires import Wire

IMAGE = os.environ.get("PINQUEUE_TEST_IMAGE", "postgres:18-alpine")
SECRETS = {
    "secret_keys": "YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI=",
    "pin_pepper": "a pepper for tests, long enough to pass",
}

for name in [name for name in os.environ if name.startswith("PINQUEUE_") and "_TEST_" not in name]:
    del os.environ[name]  # a developer's own settings must not reach the tests
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A suite that a shell began in the background ignores Ctrl-C, and so would all it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """In this order: the server named by PINQUEUE_TEST_DATABASE_URL, a container, the embedded."""
    if url := os.environ.get("PINQUEUE_TEST_DATABASE_URL"):
        yield url
    elif _engine_has_image():
        with _container() as url:
            yield url
    else:
        with _embedded() as url:
            yield url


def _engine_has_image() -> bool:
    """Whether a Docker engine answers and has, or can get, the image."""
    try:
        found = subprocess.run(
            ["docker", "image", "inspect", IMAGE], capture_output=True, timeout=20
        )
        if found.returncode == 0:
            return True
        if subprocess.run(["docker", "info"], capture_output=True, timeout=20).returncode != 0:
            return False
        pulled = subprocess.run(["docker", "pull", "-q", IMAGE], capture_output=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return pulled.returncode == 0


@contextmanager
def _container() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # testcontainers warns about itself
        from testcontainers.postgres import PostgresContainer

        # Nothing here outlives the run, and tests that run side by side want many connections.
        server = "postgres -c fsync=off -c max_connections=300"
        with PostgresContainer(IMAGE, driver=None).with_command(server) as container:
            # An image's database may be SQL_ASCII: a test's own psycopg would read bytes there.
            yield container.get_connection_url() + "?client_encoding=utf8"


@contextmanager
def _embedded() -> Iterator[str]:
    from pinqueue import embedded

    with (
        tempfile.TemporaryDirectory(
            prefix="pinqueue-tests-", dir=_in_memory(), ignore_cleanup_errors=True
        ) as folder,
        embedded.running(Path(folder) / "data", settings={"fsync": "off"}) as url,
    ):
        yield url


def _in_memory() -> Path | None:
    """Where files need no disk: a database there is made in a fifth of the time. None where there
    is no such place, or little room in it, as in a container."""
    place = Path("/dev/shm")
    roomy = place.is_dir() and shutil.disk_usage(place).free >= 4 * 2**30
    return place if roomy and os.access(place, os.W_OK) else None


@dataclass(frozen=True)
class Server:
    """The PostgreSQL server of the run."""

    url: str
    connection: psycopg.Connection

    @contextmanager
    def database(self, template: str | None = None) -> Iterator[str]:
        """The URL of a database of its own, as empty as a new one or as its template."""
        name = f"pinqueue_test_{uuid4().hex[:12]}"
        made, gone = "CREATE DATABASE {}", "DROP DATABASE IF EXISTS {} WITH (FORCE)"
        if template:
            made += " TEMPLATE {}"
        names = [sql.Identifier(part) for part in (name, template) if part]
        self.connection.execute(sql.SQL(made).format(*names))
        try:
            yield make_url(self.url).set(database=name).render_as_string(hide_password=False)
        finally:
            self.connection.execute(sql.SQL(gone).format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def server(server_url: str) -> Iterator[Server]:
    with psycopg.connect(server_url, autocommit=True) as connection:
        yield Server(server_url, connection)


@pytest.fixture(scope="session")
def template(server: Server) -> Iterator[str]:
    """The name of a migrated database that tests' databases are cloned from."""
    with server.database() as url:
        migrating.migrate(url)
        yield str(make_url(url).database)


@pytest.fixture
def empty_database_url(server: Server) -> Iterator[str]:
    """A database without any schema."""
    with server.database() as url:
        yield url


@pytest.fixture
def database_url(server: Server, template: str) -> Iterator[str]:
    """A migrated database of this test's own."""
    with server.database(template) as url:
        yield url


@pytest.fixture
def wire(database_url: str) -> Iterator[Wire]:
    """Another way to that database, to be cut."""
    with closing(Wire(database_url)) as wire:
        yield wire


@pytest.fixture
def settings(database_url: str, tuya: str) -> Settings:
    return read_settings(**settings_values(database_url, tuya), _env_file=None)


@pytest.fixture
def environment(database_url: str, tuya: str, tmp_path: Path) -> dict[str, str]:
    """The same settings for a child process, and nothing else of ours."""
    told = environment_of(settings_values(database_url, tuya))
    return {**told, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}


def environment_of(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child process with these settings, and nothing else of ours."""
    ours = {f"PINQUEUE_{name.upper()}": value for name, value in settings.items()}
    others = {name: told for name, told in os.environ.items() if not name.startswith("PINQUEUE_")}
    return {**others, **ours}


def settings_values(database_url: str, tuya: str) -> dict[str, str]:
    return {
        **SECRETS,
        "database_url": database_url,
        "tuya_region": "eu",
        "tuya_access_id": ACCESS_ID,
        "tuya_access_secret": ACCESS_SECRET,
        "tuya_url": tuya,
    }


@pytest.fixture
def tuya() -> Iterator[str]:
    """The URL of a simulated Tuya cloud of this test's own."""
    with simulator_running() as url:
        yield url


@pytest.fixture
def doors(tuya: str) -> Iterator[Control]:
    """The simulated doors, as somebody standing before them."""
    with Control(tuya) as control:
        yield control


@pytest.fixture
def seal() -> Sealer:
    return sealer(read_settings(**SECRETS, _env_file=None))


@pytest.fixture
def planner(seal: Sealer) -> Planner:
    return Planner(seal, read_settings(**SECRETS, _env_file=None).lead)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=10, name="pinqueue-tests")
    yield database
    await database.close()


@pytest.fixture(autouse=True)
def no_advisory_lock_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test, its database holds no advisory lock: none leaks, whatever the test did."""
    if "database_url" not in request.fixturenames:
        yield
        return
    server = request.getfixturevalue("server")
    name = make_url(request.getfixturevalue("database_url")).database
    yield
    # A session that was closed a moment ago may not have ended at the server yet.
    deadline = time.monotonic() + 5.0
    while left := server.connection.execute(HELD_LOCKS, [name]).fetchall():
        assert time.monotonic() < deadline, f"advisory locks left behind: {left}"
        time.sleep(0.01)


HELD_LOCKS = """
    SELECT classid, objid, pid FROM pg_locks WHERE locktype = 'advisory'
      AND database = (SELECT oid FROM pg_database WHERE datname = %s)
"""
PYTHON = sys.executable
