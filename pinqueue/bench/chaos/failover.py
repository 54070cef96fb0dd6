"""A primary and a standby that has all that was committed: the one dies, the other takes over."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pinqueue.bench.ground import BenchFailed
from pinqueue.embedded import EmbeddedPostgres

PATIENCE = 120.0
"""Seconds for a standby to catch up, on a machine with other work."""
FOLLOWING = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
IN_STEP = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
KEPT = {"wal_keep_size": "128MB"}
"""For a standby that was stopped with its primary: it asks for all from the segment it was in. The
primary would have let that go when it stopped, and every commit would wait for it for ever."""
COMMIT_ON_BOTH = "ALTER SYSTEM SET synchronous_standby_names = '*'"


class Member(EmbeddedPostgres):
    """One of two servers: a copy of the other, which it follows, where that is told."""

    def __init__(
        self, data_dir: Path, *, settings: Mapping[str, str] | None, follows: str | None = None
    ) -> None:
        super().__init__(data_dir, settings=settings)
        self.url, self._follows = "", follows

    def start(self) -> str:
        self.url = super().start()
        return self.url

    def crash(self) -> None:
        """As if its machine had lost its power."""
        pid_file = self._pgdata / "postmaster.pid"
        os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGKILL)
        self.stop()
        self._end_leftovers()  # those of its processes that have not noticed yet
        self.stop()

    def run(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def value(self, query: str) -> int:
        with psycopg.connect(self.url, autocommit=True) as connection:
            row = connection.execute(query.encode()).fetchone()
        return int(row[0]) if row else 0

    def _make_data(self, folder: Path) -> subprocess.CompletedProcess[str]:
        if self._follows is None:
            return super()._make_data(folder)
        told = {name: str(value) for name, value in conninfo_to_dict(self._follows).items()}
        return self._run(
            "pg_basebackup",
            *("--dbname", make_conninfo(**{**told, "dbname": "replication"})),
            *("-D", str(folder), "--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
        )

    def _create_database(self) -> None:
        if self._follows is None:
            super()._create_database()
        else:
            self._connect().close()


class Pair:
    """Both, as a bench takes one server: a commit waits for the standby, so that what a client was
    told is there when it takes over."""

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self._settings = {**KEPT, **(settings or {})}
        self._primary = Member(data_dir / "first", settings=self._settings)
        self._standby: Member | None = None
        self._other = data_dir / "second"

    def start(self) -> str:
        """Gives a URL that names both, and means whichever is the primary."""
        self._primary.start()
        if self._standby is None:
            self._follow()
        else:
            self._standby.start()
        members = [conninfo_to_dict(one.url) for one in (self._primary, self.standby)]
        hosts = ",".join(str(one["host"]) for one in members)
        ports = ",".join(str(one["port"]) for one in members)
        return (
            f"postgresql://{members[0]['user']}@/{members[0]['dbname']}"
            f"?host={hosts}&port={ports}&target_session_attrs=read-write"
        )

    def stop(self) -> None:
        self._primary.stop()
        if self._standby is not None:
            self._standby.stop()

    def alive(self) -> bool:
        """Both: without the standby every commit waits for it."""
        return self._primary.alive() and (self._standby is None or self._standby.alive())

    def prepare(self) -> None:
        """See that there is a standby, and that it has everything."""
        if self._standby is None:
            self._follow()

    @property
    def standby(self) -> Member:
        assert self._standby is not None  # noqa: S101  # `prepare` came first
        return self._standby

    def fail_over(self) -> None:
        """Kill the primary; the standby is one when this returns, and stands alone."""
        dead, standby = self._primary, self.standby
        dead.crash()
        standby.run("SELECT pg_promote()")
        self._primary, self._standby, self._other = standby, None, dead.data_dir
        shutil.rmtree(dead.data_dir)

    def _follow(self) -> None:
        standby = Member(self._other, settings=self._settings, follows=self._primary.url)
        standby.start()
        self._standby = standby
        self._until(FOLLOWING)
        # Not before: the copy would take it along, and wait for a standby when it is promoted.
        self._primary.run(COMMIT_ON_BOTH)
        self._primary.run("SELECT pg_reload_conf()")
        self._until(IN_STEP)

    def _until(self, query: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self._primary.value(query):
            if time.monotonic() > deadline:
                raise BenchFailed("the standby does not follow the primary")
            time.sleep(0.05)
