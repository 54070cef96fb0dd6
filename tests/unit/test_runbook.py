"""docs/runbook.md has every alarm, and none that there is not."""

from __future__ import annotations

import re

from pinqueue.lifecycle import EventType
from tests.pages import ROOT

PAGE = (ROOT / "docs" / "runbook.md").read_text()
HEADINGS = set(re.findall(r"^## (.*)$", PAGE, re.MULTILINE))
RULES = set(re.findall(r"- alert: (\w+)", (ROOT / "README.md").read_text()))
SOURCE = "\n".join(path.read_text() for path in (ROOT / "pinqueue").rglob("*.py"))


def test_every_rule_of_the_readme_has_its_section() -> None:
    assert RULES
    assert RULES <= HEADINGS


def test_a_section_is_of_a_rule_an_audit_event_or_a_task() -> None:
    for heading in HEADINGS - RULES:
        assert f'"{heading}"' in SOURCE or " " in heading, heading


def test_every_event_that_calls_for_a_person_is_explained() -> None:
    assert f"`{EventType.OPERATION_LATE}`" in PAGE
    assert f"`{EventType.CODE_FAILED}`" in PAGE
