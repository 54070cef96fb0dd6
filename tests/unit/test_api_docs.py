"""The specification and /docs tell of every route, and need nothing from elsewhere."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

import pytest

from pinqueue import alarms
from pinqueue.api import docs, shapes
from pinqueue.api.openapi import document
from pinqueue.api.routes import Declared
from pinqueue.config import read_settings
from pinqueue.pins import LENGTHS
from pinqueue.store.queue import STATES
from pinqueue.web import TABLE, create_app
from tests.conftest import SECRETS

SPEC = document(TABLE)
PAGE = docs.page(SPEC)
OWN = {"/openapi.json", "/docs", "/webhooks/{source}/{secret}"}


def test_every_route_of_the_application_is_told_of() -> None:
    settings = read_settings(**SECRETS, database_url="postgresql://x", _env_file=None)
    served = {getattr(route, "path", None) for route in create_app(settings).routes}
    assert served - OWN == set(SPEC["paths"])


@pytest.mark.parametrize("one", TABLE, ids=lambda one: f"{one.method} {one.path}")
def test_a_route_says_what_it_does_what_it_asks_and_what_it_answers(one: Declared) -> None:
    told = SPEC["paths"][one.path][one.method.lower()]
    assert told["summary"]
    statuses = {str(status) for status in one.replies} | set(one.extra.get("responses", {}))
    assert set(told["responses"]) == statuses != set()
    asked = [{"key": [one.scope]}] if one.scope else one.extra.get("security", [])
    assert told["security"] == asked
    assert f">{one.method}</span>{one.path}</code>" in PAGE


def test_names_of_calls_are_not_used_twice() -> None:
    names = [call["operationId"] for path in SPEC["paths"].values() for call in path.values()]
    assert len(names) == len(set(names))


def references(value: Any) -> set[str]:
    return set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(value)))


def test_every_shape_that_is_named_is_told_and_none_that_is_not() -> None:
    assert references(SPEC) == set(SPEC["components"]["schemas"])


def test_the_page_needs_no_network_and_runs_no_script() -> None:
    assert not re.search(r"<script|<link|<img|src=|@import|url\(", PAGE)
    assert not re.findall(r'href="(?!#|/openapi\.json")[^"]*"', PAGE)


def test_the_page_is_written_for_people() -> None:
    assert "`" not in PAGE
    assert "<code>pinqueue keys create NAME --scope SCOPE</code>" in PAGE
    kinds = set(re.findall(r"<td>([^<>]+?)\s*(?:<small>.*?)?</td>", PAGE))
    assert not kinds & {"printable", "cursor", "webhook-secret", "iso-8601", "written-duration"}
    assert "date, or date and time or empty or null" in kinds


def test_every_link_of_the_page_leads_somewhere() -> None:
    targets = set(re.findall(r'id="([^"]+)"', PAGE))
    assert set(re.findall(r'href="#([^"]+)"', PAGE)) <= targets


def test_the_words_are_those_of_the_queue() -> None:
    assert get_args(shapes.JobState) == STATES
    assert set(get_args(shapes.Queue)) == set(alarms.QUEUES.values())
    assert set(get_args(shapes.Protocol)) == set(LENGTHS)
