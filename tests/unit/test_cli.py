"""What holds for every command: JSON for programs, help, completion, and what is not waited for."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pinqueue import cli
from pinqueue.cli import later, printing
from pinqueue.errors import (
    ConfigInvalid,
    DatabaseUnavailable,
    InputInvalid,
    NotFound,
    PinQueueError,
)

PROCESSES = {"demo", "up", "web", "worker", "simulator"}
"""Commands that run until they are stopped, or show something: they have no result to print."""
LATE = ("sqlalchemy", "pydantic", "procrastinate", "rich", "httpx2", "alembic")


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
    else:
        for name, one in inner.items():
            yield from commands(one, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(cli.cli)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_but_a_process_prints_json(path: tuple[str, ...]) -> None:
    options = {option for parameter in COMMANDS[path].params for option in parameter.opts}
    assert ("--json" in options) == (path[0] not in PROCESSES)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_says_what_it_does_and_what_its_options_are(path: tuple[str, ...]) -> None:
    assert COMMANDS[path].help
    shown = CliRunner().invoke(cli.cli, [*path, "--help"])
    assert shown.exit_code == 0
    assert "Usage:" in shown.output


def test_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(cli.cli, ["--version"]).output == f"pinqueue {version('pinqueue')}\n"


def test_help_tells_the_exit_codes() -> None:
    told = " ".join(CliRunner().invoke(cli.cli, ["--help"]).output.split())
    assert "Exit codes: 0 done; 1 refused or failed" in told


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_given_a_script_that_completes(shell: str) -> None:
    asked = run({"_PINQUEUE_COMPLETE": f"source_{shell}"})
    assert "_PINQUEUE_COMPLETE=" in asked
    assert f"complete_{shell}" in asked


@pytest.mark.parametrize(
    ("shell", "asked"),
    [
        ("bash", {"COMP_WORDS": "pinqueue jobs ", "COMP_CWORD": "2"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "pinqueue jobs "}),
        (
            "fish",
            {"_TYPER_COMPLETE_ARGS": "pinqueue jobs ", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
        ),
    ],
)
def test_a_shell_is_told_the_commands_of_a_group(shell: str, asked: dict[str, str]) -> None:
    told = run({"_PINQUEUE_COMPLETE": f"complete_{shell}", **asked})
    for command in ("list", "status", "schedule", "cancel", "retry", "clear-failed"):
        assert command in told


def test_help_and_completion_wait_for_nothing_they_do_not_use() -> None:
    loaded = run_python(
        "import sys; from pinqueue import cli;"
        f" print([name for name in {LATE!r} if name in sys.modules])"
    )
    assert loaded.strip() == "[]"


def test_every_module_that_is_imported_late_is_there() -> None:
    late = [value.module for value in vars(later).values() if type(value).__name__ == "Later"]
    assert len(late) > 10
    for module in late:
        importlib.import_module(module)


@pytest.mark.parametrize(
    ("error", "code", "details"),
    [
        (NotFound("no lock x"), "not_found", []),
        (ConfigInvalid("PINQUEUE_LEAD: no"), "config_invalid", []),
        (DatabaseUnavailable("it is away"), "unavailable", []),
        (
            InputInvalid("state", "must be one"),
            "invalid_input",
            [{"field": "state", "message": "must be one"}],
        ),
    ],
)
def test_a_failure_is_told_to_a_program_in_the_shape_of_the_api(
    error: PinQueueError, code: str, details: list[dict[str, str]]
) -> None:
    told = json.loads(printing.failure_as_json(error))
    assert told == {"error": {"code": code, "message": str(error), "details": details}}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("codes", "show", "seven"), "Invalid value for 'code'"),
        (("jobs", "list", "--limit", "0"), "Invalid value for '--limit'"),
        (("listings", "add", "apt-7"), "Missing option '--time-zone'"),
        (("jobs", "retry"), "give the number of a job"),
        (("locks", "ad"), "No such command 'ad'"),
        (("jobs", "list", "--due-from", "soon"), "--due-from: write 2026-12-24T15:00Z"),
        (("jobs", "cancel", b"\xff"), "an argument is not UTF-8"),
    ],
)
def test_wrong_usage_is_told_to_a_program_in_the_shape_of_the_api(
    wrong: tuple[str | bytes, ...], said: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pinqueue", *wrong, "--json"], capture_output=True, text=True
    )
    error = json.loads(ended.stderr)["error"]
    assert (ended.returncode, ended.stdout, set(error)) == (2, "", {"code", "message", "details"})
    assert said in error["message"]


def run(environment: dict[str, str]) -> str:
    return run_python(
        "import sys; sys.argv = ['pinqueue']\n"
        "from pinqueue import cli; cli.cli(prog_name='pinqueue')",
        environment,
    )


def run_python(code: str, environment: dict[str, str] | None = None) -> str:
    """What a fresh interpreter prints."""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode in (0, 1), ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout
