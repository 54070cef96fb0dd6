"""The simulator's signature check: Tuya's published vectors, and what it must not be kind about."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest

from pinqueue.simulator.replies import Refusal
from pinqueue.simulator.signing import TOLERANCE_MS, sign, verify

ID, SECRET, NOW_MS = "1KAD46OrT9HafiKdsXeg", "4OHBOnWOqaEC1mWXOpVL3yV50s0qGSRC", 1588925778000
TOKEN = "3f4eda2bdec17232f67c0b188af3eec1"
PUBLISHED = {
    "client_id": ID,
    "t": str(NOW_MS),
    "nonce": "5138cc3a9033d69856923fd07b491173",
    "signature-headers": "area_id:call_id",
    "area_id": "29a33e8796834b1efa6",
    "call_id": "8afdb70ab2ed11eb85290242ac130003",
}


def verdict(method: str, raw_path: str, body: bytes, headers: dict[str, str]) -> int | None:
    complete = {"sign_method": "HMAC-SHA256"} | headers
    try:
        verify(ID, SECRET, method, raw_path, body, complete, now_ms=NOW_MS)
    except Refusal as refusal:
        return refusal.code
    return None


def signed(method: str, url: str, body: bytes = b"", **headers: str) -> dict[str, str]:
    """Headers signed by hand over exactly this URL and body, whatever is sent later."""
    headers = {"client_id": ID, "t": str(NOW_MS), "access_token": TOKEN} | headers
    text = f"{method}\n{hashlib.sha256(body).hexdigest()}\n\n{url}"
    message = ID + TOKEN + str(NOW_MS) + text
    made = hmac.new(SECRET.encode(), message.encode(), hashlib.sha256).hexdigest().upper()
    return headers | {"sign": made}


def test_the_published_token_vector_verifies() -> None:
    expected = "9E48A3E93B302EEECC803C7241985D0A34EB944F40FB573C7B5C2A82158AF13E"
    assert sign(SECRET, "GET", "/v1.0/token?grant_type=1", b"", PUBLISHED) == expected
    headers = PUBLISHED | {"sign": expected}
    assert verdict("GET", "/v1.0/token?grant_type=1", b"", headers) is None


def test_the_published_business_vector_verifies() -> None:
    expected = "AE4481C692AA80B25F3A7E12C3A5FD9BBF6251539DD78E565A1A72A508A88784"
    headers = PUBLISHED | {"access_token": TOKEN, "sign": expected}
    url = "/v2.0/apps/schema/users?page_no=1&page_size=50"
    assert verdict("GET", url, b"", headers) is None


def test_the_published_body_vector_verifies() -> None:
    headers = {
        "client_id": ID,
        "t": str(NOW_MS),
        "access_token": TOKEN,
        "sign": "F27DD95A15E84C954DB2ED016096D517681FE79853B6CDAD446927352691804E",
    }
    body = b'{"commands":[{"code":"switch_led","value":false}]}'
    assert verdict("POST", "/v1.0/devices/bf2c1e00ab0f12face/commands", body, headers) is None


def test_the_third_party_token_vector_agrees() -> None:
    headers = {"client_id": "test-client", "t": str(NOW_MS)}
    made = sign("test-secret", "GET", "/v1.0/token?grant_type=1", b"", headers)
    assert made == "09BCCB8654D63513F682D7B67BA0FEB7FB04B23ADA97599C675EB91B56CE7999"


def test_an_access_token_sent_with_a_token_call_is_not_signed() -> None:
    headers = PUBLISHED | {"access_token": TOKEN}
    url = "/v1.0/token?grant_type=1"
    assert sign(SECRET, "GET", url, b"", headers) == sign(SECRET, "GET", url, b"", PUBLISHED)


def test_an_unsorted_query_is_refused() -> None:
    url = "/v1.0/devices/d?valid=true&page_no=1"
    assert verdict("GET", url, b"", signed("GET", url)) == 1004


def test_a_sorted_query_is_accepted() -> None:
    url = "/v1.0/devices/d?page_no=1&valid=true"
    assert verdict("GET", url, b"", signed("GET", url)) is None


def test_the_query_is_signed_unencoded_and_sent_encoded() -> None:
    headers = signed("GET", "/v1.0/devices/d?name=a b/c")
    assert verdict("GET", "/v1.0/devices/d?name=a%20b%2Fc", b"", headers) is None


def test_a_get_that_hashes_a_body_it_does_not_send_is_refused() -> None:
    headers = signed("GET", "/v1.0/devices/d", b'{"a": 1}')
    assert verdict("GET", "/v1.0/devices/d", b"", headers) == 1004


def test_json_written_again_is_refused() -> None:
    body = b'{"a": 1}'
    headers = signed("POST", "/v1.0/devices/d", body)
    assert verdict("POST", "/v1.0/devices/d", body, headers) is None
    again = json.dumps(json.loads(body), separators=(",", ":")).encode()
    assert verdict("POST", "/v1.0/devices/d", again, headers) == 1004


def test_another_method_than_the_signed_one_is_refused() -> None:
    assert verdict("DELETE", "/v1.0/devices/d", b"", signed("GET", "/v1.0/devices/d")) == 1004


def test_a_lower_case_signature_is_refused() -> None:
    headers = signed("GET", "/v1.0/devices/d")
    headers["sign"] = headers["sign"].lower()
    assert verdict("GET", "/v1.0/devices/d", b"", headers) == 1004


@pytest.mark.parametrize("name", ["client_id", "sign", "t", "sign_method"])
def test_a_missing_header_comes_before_everything_else(name: str) -> None:
    headers = {"client_id": "wrong", "sign": "wrong", "t": "0", "sign_method": "HMAC-SHA256"}
    del headers[name]
    with pytest.raises(Refusal, match="1105"):
        verify(ID, SECRET, "GET", "/", b"", headers, now_ms=NOW_MS)


def test_the_client_is_checked_before_the_time() -> None:
    headers = signed("GET", "/v1.0/devices/d", client_id="somebody", t="1")
    assert verdict("GET", "/v1.0/devices/d", b"", headers) == 1005


@pytest.mark.parametrize("t", [str(NOW_MS - TOLERANCE_MS - 1), str(NOW_MS + 3_600_000), "soon"])
def test_the_time_is_checked_before_the_signature(t: str) -> None:
    headers = signed("GET", "/v1.0/devices/d", t=t)
    assert verdict("GET", "/v1.0/devices/d", b"", headers) == 1013
