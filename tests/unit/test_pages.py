"""What a page has somebody type is typed by a test: each block is of a section that one names."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest
import typer

from pinqueue.cli import cli
from tests.pages import PAGES, ROOT, blocks, commands, sections

CLAIM = re.compile(r"(README|docs/\w+)\.md(#[\w-]+)?")


def _claimed() -> set[str]:
    """The sections, and whole pages, that tests of files name which run the blocks of pages."""
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(path.read_text())
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        if "blocks" in names and path.name != "test_pages.py":
            texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
            found |= {text for text in texts if isinstance(text, str) and CLAIM.fullmatch(text)}
    return found


CLAIMED = _claimed()


@pytest.mark.parametrize("page", PAGES)
def test_each_block_that_somebody_is_to_type_is_of_a_section_that_a_test_names(page: str) -> None:
    typed = {f"{page}#{section}" for section in sections(page) if blocks(f"{page}#{section}")}
    assert page in CLAIMED or typed - CLAIMED == set()


def test_a_section_that_a_test_names_has_something_to_type() -> None:
    assert [place for place in CLAIMED if not blocks(place) + commands(place)] == []


@pytest.mark.parametrize("page", PAGES)
def test_an_option_of_a_command_in_a_sentence_is_one_that_it_has(page: str) -> None:
    for typed in commands(page):
        command: Any = typer.main.get_command(cli)
        words = typed.split()[1:]
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        named = {word.partition("=")[0] for word in words if re.match("--[a-z]", word)}
        assert named - known - {"--version", "--install-completion"} == set(), typed
