"""docs/failures.md tells of each failure once, and every test that it names is there."""

from __future__ import annotations

import re

import pytest

from tests.pages import ROOT, functions_of

PAGE = (ROOT / "docs" / "failures.md").read_text()
ROWS = re.findall(r"^\| F(\d+) \| (.*) \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
CLAIMS = [(number, test) for number, *_, named in ROWS for test in re.findall(r"`(\S+)`", named)]
CLAIMS += [
    ("22", test) for test in re.findall(r"`(tests\S+)` \|$", PAGE.partition("\n## ")[2], re.M)
]


def test_every_failure_has_one_row() -> None:
    assert [int(number) for number, *_ in ROWS] == list(range(1, 27))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"F{row[0]}")
def test_a_row_says_whether_it_is_prevented_and_by_which_test(row: tuple[str, ...]) -> None:
    number, failure, here, _ = row
    assert failure
    assert re.match(r"\*\*(Prevented|Partly|Not ours, because)\b", here)
    assert number in {number for number, _ in CLAIMS}


@pytest.mark.parametrize(("number", "test"), CLAIMS)
def test_a_test_that_is_named_exists_and_carries_the_number(number: str, test: str) -> None:
    path, _, name = test.partition("::")
    found = functions_of(path)
    assert name in found
    assert name.startswith(f"test_f{number}_") or re.search(rf"\bF{number}\b", found[name])


def test_every_test_that_carries_a_number_is_named() -> None:
    carry = {
        f"{path.relative_to(ROOT)}::{name}"
        for path in (ROOT / "tests").rglob("*.py")
        for name in functions_of(str(path.relative_to(ROOT)))
        if re.match(r"test_f\d+_", name)
    }
    assert carry <= {test for _, test in CLAIMS}
