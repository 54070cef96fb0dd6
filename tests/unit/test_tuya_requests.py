"""What tinytuya writes and signs for us, and what it is kept from."""

from __future__ import annotations

import logging
import sys

import pytest

from pinqueue.config import TUYA_REGIONS
from pinqueue.locks.tuya_requests import Request, Writer
from pinqueue.locks.tuya_signing import sign

ID = "1KAD46OrT9HafiKdsXeg"
SECRET = "4OHBOnWOqaEC1mWXOpVL3yV50s0qGSRC"
TOKEN = "3f4eda2bdec17232f67c0b188af3eec1"


def signature_due(request: Request, token: str) -> str:
    named = request.headers.get("Signature-Headers", "").split(":")
    return sign(
        request.method,
        request.target,
        access_id=ID,
        access_secret=SECRET,
        at_ms=request.headers["t"],
        body=request.body,
        token=token,
        headers={name: request.headers[name] for name in named if name},
    )


BODY: dict[str, object] = {"name": "pq-1", "effective_time": 1}


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("GET", None),
        ("POST", None),
        ("POST", BODY),
        ("PUT", BODY),
        ("DELETE", None),
        ("DELETE", BODY),
    ],
)
def test_tinytuya_signs_as_tuya_documents(method: str, body: dict[str, object] | None) -> None:
    request = Writer("eu", ID, SECRET).write(method, "/v1.0/devices/x/y", body, TOKEN)
    assert request.headers["sign"] == signature_due(request, TOKEN)
    assert request.headers["access_token"] == TOKEN


def test_the_token_call_is_signed_without_a_token() -> None:
    request = Writer("eu", ID, SECRET).write("GET", "/v1.0/token?grant_type=1", None, None)
    assert request.target == "/v1.0/token?grant_type=1"
    assert request.headers["sign"] == signature_due(request, "")
    assert "access_token" not in request.headers


def test_the_access_secret_is_not_sent() -> None:
    request = Writer("eu", ID, SECRET).write("GET", "/v1.0/token?grant_type=1", None, None)
    assert SECRET not in repr(dict(request.headers))


def test_a_body_sent_by_put_has_its_type_named_and_signed() -> None:
    request = Writer("eu", ID, SECRET).write("PUT", "/v1.0/devices/x", {"name": "n"}, TOKEN)
    assert request.headers["Content-type"] == "application/json"
    assert request.headers["Signature-Headers"] == "Content-type"
    assert request.body == b'{"name": "n"}'


@pytest.mark.parametrize("region", [r for r in TUYA_REGIONS if r != "cn"])
def test_no_region_but_china_leads_to_china(region: str) -> None:
    assert Writer(region, ID, SECRET).host != Writer("cn", ID, SECRET).host


def test_tinytuya_logs_nothing_even_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="tinytuya.core.core")
    Writer("eu", ID, SECRET).write("POST", "/v1.0/devices/x", {"name": "n"}, TOKEN)
    assert caplog.records == []


def test_the_repr_of_a_request_shows_neither_headers_nor_body() -> None:
    request = Writer("eu", ID, SECRET).write("POST", "/v1.0/devices/x", {"name": "n"}, TOKEN)
    assert repr(request) == "Request(method='POST', target='/v1.0/devices/x')"


def test_tinytuya_leaves_the_output_streams_alone() -> None:
    streams = (type(sys.stdout).__module__, type(sys.stderr).__module__)
    assert not any(module.startswith("colorama") for module in streams)
