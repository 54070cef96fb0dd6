"""Who is believed: the published vectors of Standard Webhooks 1.0.0, and nobody else."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from pinqueue.webhooks import pinqueue, standard
from pinqueue.webhooks.sender import Received
from tests import factories

# libraries/python/tests/test_webhooks.py, test_sign_function; the same in six other languages
ONE = {
    "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "timestamp": "1614265330",
    "body": '{"test": 2432232314}',
    "signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
# libraries/rust/src/lib.rs, test_sign
TWO = {
    "secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
    "id": "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
    "timestamp": "1649367553",
    "body": '{"email":"test@example.com","username":"test_user"}',
    "signature": "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
}
WRONG = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA="
OTHER = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="


NOW = datetime.fromtimestamp(int(ONE["timestamp"]), UTC)


def verify(secrets: list[str], raw: bytes, sent: Headers, at: datetime = NOW) -> bool:
    return pinqueue.verify(secrets, Received(raw, sent, at=at))


def headers(vector: dict[str, str], **changes: str | None) -> Headers:
    named = {name: vector[name] for name in ("id", "timestamp", "signature")} | changes
    return Headers({f"webhook-{name}": text for name, text in named.items() if text is not None})


def verifies(
    vector: dict[str, str] = ONE,
    *,
    off: float = 0,
    secrets: list[str] | None = None,
    body: str | None = None,
    **changes: str | None,
) -> bool:
    raw = (vector["body"] if body is None else body).encode()
    at = datetime.fromtimestamp(int(vector["timestamp"]) + off, UTC)
    return verify(secrets or [vector["secret"]], raw, headers(vector, **changes), at)


@pytest.mark.parametrize("vector", [ONE, TWO], ids=["one", "two"])
def test_a_published_vector_verifies(vector: dict[str, str]) -> None:
    assert verifies(vector)


def test_it_verifies_under_the_names_that_its_sender_gives_the_headers_and_no_other() -> None:
    named = {f"svix-{name}": ONE[name] for name in ("id", "timestamp", "signature")}
    received = Received(ONE["body"].encode(), Headers(named), at=NOW)
    assert standard.verify([ONE["secret"]], received, "svix")
    assert not standard.verify([ONE["secret"]], received, "webhook")


@pytest.mark.parametrize(
    "changes",
    [
        {"signature": WRONG},
        {"signature": ONE["signature"][: len("v1,") + 8]},
        {"signature": "v1,"},
        {"signature": ""},
        {"signature": ONE["signature"].replace("v1", "v2")},
        {"signature": ONE["signature"].replace("v1", "v1a")},
        {"signature": TWO["signature"]},
        {"signature": None},
        {"id": None},
        {"id": TWO["id"]},
        {"timestamp": None},
        {"timestamp": "hello"},
        {"timestamp": "1614265331"},
        {"timestamp": "1614265330.0"},
        {"timestamp": "1_614_265_330"},
        {"timestamp": " 1614265330"},
        {"body": ONE["body"] + "\n"},
        {"body": ONE["body"].replace(" ", "")},
        {"body": ""},
    ],
    ids=str,
)
def test_anything_else_than_the_vector_does_not(changes: dict[str, Any]) -> None:
    assert not verifies(**changes)


@pytest.mark.parametrize(
    "signature",
    [
        f"{OTHER} v2,{ONE['signature'][3:]} {ONE['signature']} {OTHER}",
        f"{ONE['signature']} {WRONG}",
        f"junk v1 ,, v1,a,b v1,*** {ONE['signature']}",
        f"  {ONE['signature']}",
    ],
)
def test_one_good_signature_among_others_is_enough(signature: str) -> None:
    assert verifies(signature=signature)


def test_at_most_ten_signatures_are_examined() -> None:
    assert verifies(signature=f"{WRONG} " * 9 + ONE["signature"])
    assert not verifies(signature=f"{WRONG} " * 10 + ONE["signature"])


@pytest.mark.parametrize(("off", "good"), [(-301, False), (-300, True), (300, True), (301, False)])
def test_five_minutes_are_tolerated_both_ways(off: float, good: bool) -> None:
    assert verifies(off=off) is good


def test_while_secrets_rotate_either_verifies() -> None:
    assert verifies(secrets=[TWO["secret"], ONE["secret"]])
    assert verifies(secrets=[ONE["secret"], TWO["secret"]])


def test_no_secret_and_a_wrong_secret_verify_nothing() -> None:
    assert not verify([], ONE["body"].encode(), headers(ONE))
    assert not verifies(secrets=[TWO["secret"]])


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!!", "\N{SNOWMAN}"])
def test_a_broken_secret_verifies_nothing_and_hides_no_good_one(secret: str) -> None:
    assert not verifies(secrets=[secret])
    assert verifies(secrets=[secret, ONE["secret"]])


@pytest.mark.parametrize("length", [31, 34])
def test_a_secret_without_its_padding_works(length: int) -> None:
    secret = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwBr"[:length]
    raw, signed = factories.signed(b"{}", secret=secret)
    assert verify([secret], raw, Headers(signed), datetime.now(UTC))


@pytest.mark.parametrize("name", ["id", "timestamp", "signature"])
def test_a_header_that_comes_twice_is_not_believed(name: str) -> None:
    good = headers(ONE)
    twice = Headers(raw=[*good.raw, *(h for h in good.raw if h[0].decode() == f"webhook-{name}")])
    assert verify([ONE["secret"]], ONE["body"].encode(), good)
    assert not verify([ONE["secret"]], ONE["body"].encode(), twice)


def test_a_body_that_is_not_utf_8_is_not_believed() -> None:
    assert not verify([ONE["secret"]], b"\xff" + ONE["body"].encode(), headers(ONE))


@pytest.mark.parametrize(
    ("timestamp", "off"),
    [("1614265330", False), ("1614265029", True), ("1614265631", True), ("x", False), ("", False)],
)
def test_a_clock_that_is_off_can_be_told_from_other_faults(timestamp: str, off: bool) -> None:
    assert pinqueue.clock_is_off(headers(ONE, timestamp=timestamp), NOW) is off


NAMES = st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature", "x"])
NEARLY = st.sampled_from(
    [
        b"msg_1",
        ONE["timestamp"].encode(),
        b"v1,",
        b"v1,AAAA",
        b"v1, v1,, v1,=",
        b"v1,\xff",
        b"1" * 5000,
        b"nan",
    ]
)
SENT = st.lists(st.tuples(NAMES, NEARLY | st.binary(max_size=60)), max_size=8)


@given(raw=st.binary(max_size=300), sent=SENT)
def test_verify_answers_false_to_whatever_is_not_signed(
    raw: bytes, sent: list[tuple[str, bytes]]
) -> None:
    pairs = [(name.encode(), value) for name, value in sent]
    assert verify([ONE["secret"]], raw, Headers(raw=pairs)) is False


@given(
    raw=st.binary(max_size=300),
    signatures=st.lists(NEARLY | st.binary(max_size=60), max_size=12),
)
def test_verify_answers_false_to_whatever_signature_comes_with_a_good_id_and_time(
    raw: bytes, signatures: list[bytes]
) -> None:
    pairs = [(b"webhook-id", b"msg_1"), (b"webhook-timestamp", ONE["timestamp"].encode())]
    sent = Headers(raw=[*pairs, (b"webhook-signature", b" ".join(signatures))])
    assert verify([ONE["secret"]], raw, sent) is False


@given(text=st.text(), key=st.binary(min_size=24, max_size=64))
def test_verify_answers_true_to_whatever_text_is_signed(text: str, key: bytes) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    raw, signed = factories.signed(text.encode("utf-8", "ignore"), secret=secret)
    assert verify([secret], raw, Headers(signed), datetime.now(UTC)) is True
