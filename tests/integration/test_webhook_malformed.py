"""The bad-input catalogue, what an authentic sender of our own kind may get wrong: no row of it.

The number in a test's id is the row of the catalogue that it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests import factories
from tests.serving import Answer, Web

Post = Callable[[Web], Answer]


def with_event(**changes: Any) -> Post:
    return lambda web: web.tell({**factories.event(), **changes})


def with_data(**changes: Any) -> Post:
    return lambda web: web.tell(factories.event(**changes))


def without(name: str) -> Post:
    def post(web: Web) -> Answer:
        event = factories.event()
        del event["data"][name]
        return web.tell(event)

    return post


CASES: dict[str, Post] = {
    "37-number-as-id": with_data(reservation_id=7),
    "37-text-as-object": with_event(data="true"),
    "37-list-as-object": with_data(guest=[]),
    "37-number-as-name": with_data(guest={"name": 1}),
    "37-number-as-phone": with_data(guest={"phone": 5511555}),
    "37-number-as-time": with_data(check_in=1_800_000_000),
    "37-number-as-type": with_event(type=1),
    "37-null-type": with_event(type=None),
    "37-unknown-status": with_data(status="Confirmed"),
    "37-true-as-status": with_data(status=True),
    "38-no-type": lambda web: web.tell({"data": {}}),
    "38-no-data": lambda web: web.tell({k: v for k, v in factories.event().items() if k != "data"}),
    "38-empty-id": with_data(reservation_id=""),
    "38-id-of-129": with_data(reservation_id="r" * 129),
    "38-id-with-newline": with_data(reservation_id="r\n1"),
    **{
        f"38-no-{name}": without(name)
        for name in ("reservation_id", "listing_id", "status", "check_in", "check_out")
    },
    "41-number-2^63": with_data(check_out=2**63),
    "41-timestamp-in-year-1": with_event(timestamp="0001-01-01T00:00:00+14:00"),
    "41-timestamp-in-year-9999": with_event(timestamp="9999-12-31T23:59:59-12:00"),
    "41-updated-without-offset": with_data(updated_at="2026-11-01T10:00:00"),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_and_nothing_stored(untouched: Web, name: str) -> None:
    answer = CASES[name](untouched)
    assert (answer.status, answer.outcome) == (422, "invalid_body")
    assert set(answer.json()["error"]) == {"code", "message", "details"}


def test_37_the_answer_names_each_field_and_what_it_must_be(shared_web: Web) -> None:
    answer = shared_web.tell(factories.event(listing_id=7, status="Confirmed"))
    named = {detail["field"] for detail in answer.json()["error"]["details"]}
    assert named == {"data.listing_id", "data.status"}
