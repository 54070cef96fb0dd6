"""A real PgBouncer between a test and its database."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pinqueue.processes import free_port

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def pooling(database_url: str, mode: str, **settings: object) -> Iterator[str]:
    """The URL of the same database through a pooler in that mode; `settings` are PgBouncer's."""
    if PGBOUNCER is None:
        pytest.skip("NOT TESTED: PgBouncer is not installed (apt-get install pgbouncer)")
    told = conninfo_to_dict(database_url)
    server = {name: told.get(name) for name in ("host", "port", "user", "password")}
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pinqueue-pooler-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        lines = [
            "[databases]",
            "* = " + " ".join(f"{name}={value}" for name, value in server.items() if value),
            "[pgbouncer]",
            f"pool_mode = {mode}",
            f"listen_port = {port}",
            "listen_addr = 127.0.0.1",
            "unix_socket_dir =",
            "auth_type = any",
            *(f"{name} = {value}" for name, value in settings.items()),
        ]
        ini = Path(folder) / "pgbouncer.ini"
        ini.write_text("\n".join(lines) + "\n")
        ini.chmod(0o644)
        process = subprocess.Popen(
            [PGBOUNCER, "-q", str(ini)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **_account(str(told.get("host", ""))),
            start_new_session=True,
        )
        url = f"postgresql://{told.get('user', '')}@127.0.0.1:{port}/{told['dbname']}"
        try:
            _wait_for(url, process)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


def _account(host: str) -> dict[str, Any]:
    """PgBouncer does not run as root, and must be let in where the server's socket is."""
    if os.geteuid() != 0:
        return {}
    uid, gid = 65534, 65534
    if host.startswith("/"):
        owner = Path(host).stat()
        uid, gid = owner.st_uid, owner.st_gid
    return {"user": uid, "group": gid, "extra_groups": []}


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            assert process.poll() is None, "PgBouncer did not start"
            assert time.monotonic() < deadline, "PgBouncer does not answer"
            time.sleep(0.02)
        else:
            return
