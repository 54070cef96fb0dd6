"""The bad-input catalogue, what an authentic sender may get wrong: each answer, and no row of it.

The number in a test's id is the row of the catalogue that it holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tests import factories
from tests.serving import Answer, Web, sign

Post = Callable[[Web], Answer]
CASES: dict[str, tuple[int, str, Post]] = {}
BODY = json.dumps(factories.event("res-malformed")).encode()


def with_body(raw: bytes) -> Post:
    """Signed by the right secret, whatever it is."""
    return lambda web: web.post(raw, sign(raw, f"msg_{uuid4().hex}"))


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


def nested(depth: int) -> bytes:
    return b'{"type":"reservation.created","x":' + b"[" * depth + b"]" * depth + b"}"


for name, raw in {
    "30-byte-order-mark": b"\xef\xbb\xbf" + BODY,
    "31-broken": BODY[:-1],
    "31-trailing-text": BODY + b" x",
    "31-two-documents": BODY + BODY,
    "31-single-quotes": BODY.replace(b'"', b"'"),
    "31-comment": b"/* */" + BODY,
    "33-top": BODY[:-1] + b', "type": "reservation.updated"}',
    "33-inside": BODY.replace(b'"status"', b'"listing_id": "apt-8", "status"'),
    "34-nan": BODY.replace(b'"Ana"', b"NaN"),
    "34-infinity": BODY.replace(b'"Ana"', b"-Infinity"),
    "34-1e400": BODY.replace(b'"Ana"', b"1e400"),
    "35-5000-digits": BODY.replace(b'"Ana"', b"1" * 5000),
    "35-deep": nested(100_000),
    "35-33-levels": nested(32),
}.items():
    CASES[name] = (400, "invalid_json", with_body(raw))
for name, raw in {"list": b"[]", "text": b'"x"', "number": b"1", "null": b"null"}.items():
    CASES[f"32-{name}"] = (422, "invalid_body", with_body(raw))
for name, raw in {
    "nul": BODY.replace(b"Ana", rb"A\u0000a"),
    "surrogate": BODY.replace(b"Ana", rb"A\ud800a"),
    "surrogates-turned-round": BODY.replace(b"Ana", rb"\udc00\ud800"),
    "nul-in-key": BODY.replace(b'"Ana"', rb'"Ana", "a\u0000": 1'),
    "surrogate-in-unknown-type": rb'{"type": "x", "\udfff": 1}',
}.items():
    CASES[f"36-{name}"] = (422, "invalid_text", with_body(raw))
for name, post in {
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
}.items():
    CASES[name] = (422, "invalid_body", post)


@pytest.mark.parametrize("name", CASES)
def test_refused_and_nothing_stored(untouched: Web, name: str) -> None:
    status, code, post = CASES[name]
    answer = post(untouched)
    assert (answer.status, answer.outcome) == (status, code)
    assert set(answer.json()["error"]) == {"code", "message", "details"}


def test_35_the_deepest_nesting_that_is_taken_is_32_levels(shared_web: Web) -> None:
    raw = nested(31).replace(b"reservation.created", b"something.else")
    assert shared_web.post(raw, sign(raw, "msg_deep")).outcome == "ignored"


def test_13_the_longest_body_that_is_taken_is_256_KiB(shared_web: Web) -> None:
    raw = b'{"type": "something.else"}'.ljust(256 * 1024)
    assert shared_web.post(raw, sign(raw, "msg_long")).outcome == "ignored"


def test_37_the_answer_names_each_field_and_what_it_must_be(shared_web: Web) -> None:
    answer = shared_web.tell(factories.event(listing_id=7, status="Confirmed"))
    named = {detail["field"] for detail in answer.json()["error"]["details"]}
    assert named == {"data.listing_id", "data.status"}
