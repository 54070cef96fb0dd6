"""docs/architecture.md names files that are there."""

from __future__ import annotations

import re

from tests.pages import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()
NAMED = [
    name.replace("NAME", "stays")
    for name in re.findall(r"`([a-zA-Z/]+(?:\.py|/))`", PAGE.partition("## Where to find what")[2])
]


def test_each_file_that_is_named_is_there() -> None:
    assert len(NAMED) > 10
    assert [name for name in NAMED if not (ROOT / "pinqueue" / name).exists()] == []
