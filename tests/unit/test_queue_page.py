"""docs/queue.md names tests for each promise of the queue, and every one of them is there."""

from __future__ import annotations

import re

import pytest

from tests.pages import ROOT, functions_of

PAGE = (ROOT / "docs" / "queue.md").read_text()
ROWS = re.findall(r"^\| ([^|]*) \|(?: .* \|)? (`.*`) \|$", PAGE, re.MULTILINE)
CLAIMS = [test for _, named in ROWS for test in re.findall(r"`(\S+)`", named)]
ALIKE = "tests/acceptance/test_queue_alike.py"


def test_every_promise_has_its_row() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    heads = [line for line in lines if line.endswith("| shown by |")]
    assert (len(heads), len(ROWS)) == (2, len(lines) - 2) == (2, 22)


@pytest.mark.parametrize("test", CLAIMS)
def test_a_test_that_is_named_exists(test: str) -> None:
    path, _, name = test.partition("::")
    assert name in functions_of(path)


def test_what_is_asked_of_all_three_ways_is_named() -> None:
    tests = {f"{ALIKE}::{name}" for name in functions_of(ALIKE) if name.startswith("test_")}
    assert tests - set(CLAIMS) == set()
