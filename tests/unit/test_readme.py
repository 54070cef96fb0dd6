"""The README and the pages of docs/ name every setting, command and view, and none that does not
exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

from pinqueue import api, audit
from pinqueue.api.routes import Declared
from pinqueue.cli import cli
from pinqueue.config import SECRETS, Settings, duration
from pinqueue.metrics import COUNTED, GAUGES
from pinqueue.models import SOURCE_KINDS, Base
from tests.pages import ROOT, sections

README = (ROOT / "README.md").read_text()
PAGES = {page: page.read_text() for page in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}
WRITTEN = "\n".join(PAGES.values())
SETTINGS = {f"PINQUEUE_{name.upper()}": field for name, field in Settings.model_fields.items()}
FILES = {f"PINQUEUE_{name.upper()}_FILE" for name in SECRETS}
TESTS_OWN = {"PINQUEUE_TEST_DATABASE_URL", "PINQUEUE_TEST_IMAGE"}


def _commands(command: Any, path: str = "pinqueue") -> Iterator[str]:
    """Every command as it is typed, those of groups too."""
    group = getattr(command, "commands", None)
    if group is None:
        yield path
    else:
        for name, inner in group.items():
            yield from _commands(inner, f"{path} {name}")


COMMANDS = list(_commands(typer.main.get_command(cli)))


def _code(text: str) -> Iterator[str]:
    """What is written as code, line by line and span by span."""
    for block in re.findall(r"^ *```\w*\n(.*?)```", text, re.DOTALL | re.MULTILINE):
        yield from block.splitlines()
    yield from re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_has_its_row_with_its_default(setting: str) -> None:
    row = re.search(rf"^\| `{setting}` \| (?:`(\S+)`)? *\| \S", README, re.MULTILINE)
    assert row, f"no row for {setting}"
    default = SETTINGS[setting].default
    shown = duration(row[1]) if isinstance(default, timedelta) else row[1] or ""
    assert shown == (default if isinstance(default, timedelta) else str(default or ""))


def test_no_unknown_setting_is_named() -> None:
    assert set(re.findall(r"PINQUEUE_[A-Z_]*[A-Z]", WRITTEN)) <= set(SETTINGS) | FILES | TESTS_OWN


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_shown_as_it_is_typed(command: str) -> None:
    assert any(re.search(rf"(^|[ /]){command}($| )", code) for code in _code(README))


def test_no_unknown_command_is_shown() -> None:
    words = {tuple(command.split()[1:]) for command in COMMANDS}
    first = {command[0] for command in words}
    for code in _code(WRITTEN):
        for typed in re.finditer(r"(?:^|[ /])pinqueue ([a-z]+)(?: ([a-z-]+))?", code):
            assert typed[1] in first, typed[0]
            assert (typed[1],) in words or (typed[1], typed[2]) in words or not typed[2], typed[0]


@pytest.mark.parametrize("one", api.TABLE, ids=lambda one: f"{one.method} {one.path}")
def test_a_route_of_the_api_has_its_row_with_its_scope(one: Declared) -> None:
    name = re.escape(f"`{one.method} {one.path}`")
    assert re.search(rf"^\| [^|]*{name}[^|]* \| `{one.scope}` \| \S", README, re.MULTILINE)


def test_no_unknown_route_is_named() -> None:
    known = [re.sub(r"\{\w+\}", "[^/ ]+", f"{one.method} {one.path}") for one in api.TABLE]
    for name in re.findall(r"`([A-Z]+ /api/[^`?]*)", WRITTEN):
        assert any(re.fullmatch(pattern, name) for pattern in known), name


@pytest.mark.parametrize("view", audit.VIEWS)
def test_a_view_is_told_of(view: str) -> None:
    assert re.search(rf"^\| `{view}` \| \S", README, re.MULTILINE)


def test_no_unknown_view_is_named() -> None:
    tables = set(Base.metadata.tables)
    assert set(re.findall(r"\baudit_\w+", WRITTEN)) - tables <= set(audit.VIEWS)
    typed = {f"audit_{name}" for name in re.findall(r"pinqueue audit ([a-z_]+)", WRITTEN)}
    assert typed <= set(audit.VIEWS)


METRICS = {one.name: one for one in (*COUNTED, *GAUGES)}


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_has_its_row_with_its_labels(metric: str) -> None:
    row = re.search(rf"^\| `{metric}` \|(.*?)\| \S", README, re.MULTILINE)
    assert row, f"no row for {metric}"
    assert re.findall(r"`(\w+)`", row[1]) == list(METRICS[metric].labels)


def test_no_unknown_metric_is_named() -> None:
    assert set(re.findall(r"\bpinqueue_\w+", WRITTEN)) <= set(METRICS)


@pytest.mark.parametrize("kind", sorted(set(SOURCE_KINDS) - {"pinqueue"}))
def test_a_property_system_has_its_row_and_its_steps(kind: str) -> None:
    row = re.search(
        rf"^\| \[[^]]+\]\(docs/senders.md#(\S+)\) \| `{kind}` \| \S", README, re.MULTILINE
    )
    assert row, f"no row for {kind}"
    steps = sections("docs/senders.md")[row[1]]
    assert re.search(rf"pinqueue sources add \S+ --kind {kind} ", steps)


def test_a_file_that_is_named_exists() -> None:
    for code in _code(WRITTEN):
        if re.fullmatch(r"(alembic|docs|pinqueue|tests)/[\w/.]+", code) and "NAME" not in code:
            assert (ROOT / code).exists(), code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_between_pages_leads_somewhere(page: Path) -> None:
    for path, section in re.findall(r"\]\(([^):#]*)(?:#([^)]*))?\)", PAGES[page]):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not section or section in sections(str(target.resolve().relative_to(ROOT))), section
