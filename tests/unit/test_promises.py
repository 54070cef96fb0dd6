"""docs/promises.md tells of each promise once, and every test that it names is there."""

from __future__ import annotations

import re

import pytest

from tests.pages import ROOT, functions_of

PAGE = (ROOT / "docs" / "promises.md").read_text()
ROWS = re.findall(r"^\| (R\d+b?) \| (.*) \| (.*) \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
CLAIMS = [(number, test) for number, *_, named in ROWS for test in re.findall(r"`(\S+)`", named)]


def test_every_promise_has_one_row() -> None:
    numbers = [f"R{number}{part}" for number in range(1, 30) for part in ("", "b")]
    there = [number for number in numbers if "b" not in number or number in ("R5b", "R13b")]
    assert [number for number, *_ in ROWS] == there


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_says_whether_it_is_kept_and_what_was_measured(row: tuple[str, ...]) -> None:
    number, promise, here, measured, _ = row
    assert promise
    assert measured
    assert re.match(r"\*\*(Kept|Partly kept|Not kept yet)\.\*\* ", here)
    assert here.startswith("**Not kept yet") or number in {number for number, _ in CLAIMS}


@pytest.mark.parametrize(("number", "test"), CLAIMS)
def test_a_test_that_is_named_exists(number: str, test: str) -> None:
    path, _, name = test.partition("::")
    assert name in functions_of(path)


def test_every_test_that_carries_a_promise_in_its_name_is_named() -> None:
    carry = {
        f"{path.relative_to(ROOT)}::{name}"
        for path in (ROOT / "tests").rglob("*.py")
        for name in functions_of(str(path.relative_to(ROOT)))
        if re.match(r"test_r\d+b?_", name)
    }
    assert carry <= {test for _, test in CLAIMS}
