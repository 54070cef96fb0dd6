"""Tuya's cryptography against its published vectors and against an independent inverse."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinqueue.locks.tuya_signing import open_ticket, seal_pin, sign
from pinqueue.simulator.tickets import make_ticket_key, unseal_pin

# Published by Tuya with its description of the signature: dummy values that open nothing.
published = functools.partial(
    sign,
    access_id="1KAD46OrT9HafiKdsXeg",
    access_secret="4OHBOnWOqaEC1mWXOpVL3yV50s0qGSRC",
    at_ms="1588925778000",
)
TOKEN = "3f4eda2bdec17232f67c0b188af3eec1"
NONCE = "5138cc3a9033d69856923fd07b491173"
HEADERS = {
    "area_id": "29a33e8796834b1efa6",
    "call_id": "8afdb70ab2ed11eb85290242ac130003",
}

hex_secrets = st.text("0123456789abcdef", min_size=32, max_size=32)
pins = st.text("0123456789", min_size=4, max_size=10)
session_keys = st.binary(min_size=16, max_size=16)


def test_signature_of_the_published_token_call() -> None:
    signature = published("GET", "/v1.0/token?grant_type=1", nonce=NONCE, headers=HEADERS)
    assert signature == "9E48A3E93B302EEECC803C7241985D0A34EB944F40FB573C7B5C2A82158AF13E"


def test_signature_of_the_published_call_with_query_nonce_and_headers() -> None:
    url = "/v2.0/apps/schema/users?page_no=1&page_size=50"
    signature = published("GET", url, token=TOKEN, nonce=NONCE, headers=HEADERS)
    assert signature == "AE4481C692AA80B25F3A7E12C3A5FD9BBF6251539DD78E565A1A72A508A88784"


def test_signature_of_the_published_call_with_a_body() -> None:
    body = b'{"commands":[{"code":"switch_led","value":false}]}'
    url = "/v1.0/devices/bf2c1e00ab0f12face/commands"
    signature = published("POST", url, body=body, token=TOKEN)
    assert signature == "F27DD95A15E84C954DB2ED016096D517681FE79853B6CDAD446927352691804E"


def test_signature_of_a_token_call_published_by_others() -> None:
    signature = published(
        "GET",
        "/v1.0/token?grant_type=1",
        access_id="test-client",
        access_secret="test-secret",
    )
    assert signature == "09BCCB8654D63513F682D7B67BA0FEB7FB04B23ADA97599C675EB91B56CE7999"


@given(secret=hex_secrets, session_key=session_keys, pin=pins)
def test_a_sealed_pin_is_what_the_cloud_unseals(secret: str, session_key: bytes, pin: str) -> None:
    opened = open_ticket(make_ticket_key(session_key, secret), secret)
    assert unseal_pin(seal_pin(pin, opened), session_key) == pin


@given(pin=pins, session_key=session_keys)
def test_a_sealed_pin_is_upper_hex_of_one_block(pin: str, session_key: bytes) -> None:
    sealed = seal_pin(pin, session_key)
    assert len(bytes.fromhex(sealed)) == 16
    assert sealed == sealed.upper()


@given(secret=hex_secrets, other=hex_secrets, session_key=session_keys)
def test_a_ticket_never_opens_with_another_secret(
    secret: str, other: str, session_key: bytes
) -> None:
    if secret != other:
        with pytest.raises(ValueError, match=r".+"):
            open_ticket(make_ticket_key(session_key, secret), other)


def test_a_secret_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 characters"):
        open_ticket("00" * 32, "short")
