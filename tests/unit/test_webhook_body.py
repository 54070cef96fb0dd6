"""Strict JSON: what two readers could read differently, or PostgreSQL cannot hold, is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinqueue.webhooks.body import DEEPEST, Refusal, parse

CANARY = "the-canary"


def refused(raw: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        parse(raw)
    return caught.value


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"{",
        b'{"a": 1} x',
        b"{}{}",
        b"{'a': 1}",
        b'{"a": 1,}',
        b"\xef\xbb\xbf{}",
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        "{}".encode("utf-16"),
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": [{"b": 1, "\\u0062": 1}]}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e400}',
        b'{"a": -1e400}',
        b'{"a": ' + b"9" * 5_000 + b"}",
        b'{"a": 01}',
        b'{"a": +1}',
        b'{"a": "line\nbreak"}',
        b'{"a": "\\x41"}',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"[" * 200_000,
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_not_json_is_400(raw: bytes) -> None:
    error = refused(raw)
    assert (error.status, error.code) == (400, "invalid_json")


@pytest.mark.parametrize("raw", [b"[]", b'"x"', b"1", b"null", b"true", b"[{}]", b"1.5"])
def test_json_that_is_no_object_is_422(raw: bytes) -> None:
    error = refused(raw)
    assert (error.status, error.code) == (422, "invalid_body")


@pytest.mark.parametrize(
    "raw",
    [
        rb'{"a": "\u0000"}',
        rb'{"\u0000": 1}',
        rb'{"a": "\ud800"}',
        rb'{"a": "\udfff"}',
        rb'{"a": "\udc00\ud800"}',
        rb'{"\ud800": 1}',
        rb'{"a": [[{"b": ["\u0000"]}]]}',
    ],
)
def test_text_that_postgresql_cannot_hold_is_422(raw: bytes) -> None:
    error = refused(raw)
    assert (error.status, error.code) == (422, "invalid_text")


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert parse(rb'{"a": "\ud83d\ude00"}') == {"a": "\N{GRINNING FACE}"}


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


def test_the_deepest_body_is_read_and_a_deeper_one_is_not() -> None:
    parse(nested(DEEPEST - 1))
    assert refused(nested(DEEPEST)).code == "invalid_json"


@pytest.mark.parametrize(
    "raw",
    [
        f'{{"{CANARY}": 1, "{CANARY}": 2}}',
        f'{{"a": {CANARY}}}',
        f'{{"a": "{CANARY}}}',
        f'{{"a": "\\q{CANARY}"}}',
        f'{{"{CANARY}": "\\u0000"}}',
        f'["{CANARY}"]',
        f'{{"{CANARY}": NaN}}',
    ],
)
def test_no_refusal_says_what_was_in_the_body(raw: str) -> None:
    error = refused(raw.encode())
    assert CANARY not in f"{error} {error.details} {error.__cause__}"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def outcome(raw: bytes) -> dict[str, Any] | Refusal:
    try:
        return parse(raw)
    except Refusal as refusal:
        return refusal


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace")))
def test_parse_raises_nothing_but_a_refusal(raw: bytes) -> None:
    found = outcome(raw)
    assert isinstance(found, dict) or found.status in (400, 422)


@given(st.dictionaries(st.text(), VALUES, max_size=5), st.booleans())
def test_parse_reads_what_json_writes_and_refuses_only_what_it_must(
    body: dict[str, Any], ascii_only: bool
) -> None:
    raw = json.dumps(body, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    found = outcome(raw)
    assert found == body if clean(body) else isinstance(found, Refusal)


@given(st.dictionaries(st.text(), VALUES, max_size=5), st.integers(0, 10**9))
def test_parse_refuses_a_body_that_is_cut_short(body: dict[str, Any], at: int) -> None:
    raw = json.dumps(body).encode()
    assert isinstance(outcome(raw[: at % len(raw)]), Refusal)


def clean(value: Any) -> bool:
    """Whether there is nothing in it that must be refused."""
    if isinstance(value, str):
        return "\x00" not in value and _encodes(value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(clean(k) and clean(v) for k, v in value.items())
    return all(clean(v) for v in value) if isinstance(value, list) else True


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
