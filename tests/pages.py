"""Pages of `docs/` that claim something row by row, each claim held to the tests it names."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


@cache
def functions_of(path: str) -> dict[str, str]:
    """The docstring of each test of a file."""
    nodes = ast.walk(ast.parse((ROOT / path).read_text()))
    functions = (node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {one.name: ast.get_docstring(one) or "" for one in functions}
