"""The README and the pages of `docs/`: what each claims or has typed, for the test that shows it.

A section is called as a link calls it: `docs/senders.md#smoobu`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in ROOT.glob("docs/*.md"))]
TYPED = {"sh", "bash", "sql", "python"}
"""The languages of blocks that somebody is told to run."""


@cache
def functions_of(path: str) -> dict[str, str]:
    """The docstring of each test of a file."""
    nodes = ast.walk(ast.parse((ROOT / path).read_text()))
    functions = (node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {one.name: ast.get_docstring(one) or "" for one in functions}


@cache
def sections(page: str) -> dict[str, str]:
    """What stands under each heading of a page, up to the next, by what a link calls it."""
    _, *parts = re.split(r"^#+ (.*)\n", (ROOT / page).read_text(), flags=re.MULTILINE)
    names = [re.sub(r"[^\w -]", "", name).lower().replace(" ", "-") for name in parts[::2]]
    return dict(zip(names, parts[1::2], strict=True))


def text_of(place: str) -> str:
    """Of a section, or of a whole page."""
    page, _, section = place.partition("#")
    return sections(page)[section] if section else (ROOT / page).read_text()


def blocks(place: str, *languages: str) -> list[str]:
    """What is to be run there, block by block; of these languages alone, where some are given."""
    found = re.findall(r"^( *)```(\w+)\n(.*?)^\1```", text_of(place), re.DOTALL | re.MULTILINE)
    return [dedent(block) for _, language, block in found if language in (languages or TYPED)]


def commands(place: str) -> list[str]:
    """Commands of ours that are told in a sentence there, and not in a block."""
    without_blocks = re.sub(
        r"^( *)```.*?^\1```", "", text_of(place), flags=re.DOTALL | re.MULTILINE
    )
    return re.findall(r"(?<!`)`(pinqueue [^`]+)`(?!`)", without_blocks)


def filled(text: str, blanks: Mapping[str, str]) -> str:
    """With what its reader puts in place of what the page cannot know."""
    for blank, value in blanks.items():
        assert blank in text, f"the page has no {blank} any more"
        text = text.replace(blank, value)
    return text
