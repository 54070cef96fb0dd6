"""Posting: where it may go, which name the certificate is asked for, and what an answer tells."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from pinqueue import posting
from pinqueue.errors import InputInvalid
from pinqueue.posting import Answer, Poster, check_url, may_post_to
from pinqueue.processes import free_port
from pinqueue.simulator.certificates import certificate_for
from tests.factories import SECRET
from tests.receiving import receiving

pytestmark = pytest.mark.anyio

PUBLIC = ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8")
PRIVATE = (
    *("10.0.0.5", "172.16.3.4", "192.168.1.2", "100.64.0.1", "fd12:3456::1"),
    *("127.0.0.1", "127.8.8.8", "::1", "::ffff:192.168.1.2", "64:ff9b::a00:5", "2002:a00:5::"),
)
NEVER = (
    *("169.254.169.254", "fe80::1", "224.0.0.1", "ff02::1", "0.0.0.0", "::"),
    *("100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254"),
    *("::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::"),
)


@pytest.mark.parametrize("address", [*PUBLIC, *PRIVATE, *NEVER])
def test_public_addresses_are_posted_to_private_ones_where_allowed_and_metadata_never(
    address: str,
) -> None:
    ip = ipaddress.ip_address(address)
    assert may_post_to(ip, "pins.example", private=False) is (address in PUBLIC)
    assert may_post_to(ip, "pins.example", private=True) is (address not in NEVER)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_a_url_that_names_loopback_leads_there_and_not_into_other_private_networks(
    host: str,
) -> None:
    assert may_post_to(ipaddress.ip_address("127.0.0.1"), host, private=False)
    assert not may_post_to(ipaddress.ip_address("10.0.0.5"), host, private=False)
    assert not may_post_to(ipaddress.ip_address("169.254.169.254"), host, private=False)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook?token=abc",
        "https://example.com:8443",
        "https://bücher.example/hook",
        "https://[2606:4700::1111]/",
        "http://127.0.0.1:8080/hook",
        "http://localhost/hook",
        "http://[::1]:9/",
    ],
)
def test_a_url_is_taken(url: str) -> None:
    check_url(url, private=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "http://127.0.0.1.example.com/",
        "ftp://example.com/",
        "example.com/hook",
        "https://",
        "https:///hook",
        "https://user:password@example.com/",
        "https://example.com/#part",
        "https://example.com/" + "x" * 2048,
        "https://exa mple.com/",
        "https://10.0.0.5/",
        "https://[::ffff:10.0.0.5]/",
        "https://169.254.169.254/latest/meta-data",
        "",
    ],
)
def test_a_url_is_refused(url: str) -> None:
    with pytest.raises(InputInvalid, match=r"^url: "):
        check_url(url, private=False)


def test_a_private_address_is_taken_where_allowed_and_metadata_even_then_refused() -> None:
    check_url("https://10.0.0.5/", private=True)
    with pytest.raises(InputInvalid, match="never at a link-local or metadata address"):
        check_url("https://169.254.169.254/", private=True)


@pytest.fixture
async def poster() -> AsyncIterator[Poster]:
    poster = Poster()
    yield poster
    await poster.close()


async def post(poster: Poster, url: str, *, private: bool = False) -> Answer:
    body: dict[str, Any] = {"type": "ping", "data": {}}
    return await poster.post(url, SECRET, "evt_1", body, datetime.now(UTC), private=private)


def resolving_to(address: str) -> Any:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return lambda *_, **__: [(family, socket.SOCK_STREAM, 6, "", (address, 0))]


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "10.0.0.5"])
async def test_a_public_name_that_leads_inside_is_not_connected_to(
    poster: Poster, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    with receiving() as receiver:
        monkeypatch.setattr(socket, "getaddrinfo", resolving_to(address))
        answer = await post(poster, f"https://pins.example:{receiver.port}/")
        assert answer.status is None
        assert answer.reason.startswith(f"pins.example is at {address}: not public.")
        assert receiver.posted == []


async def test_of_several_addresses_only_those_allowed_are_tried_until_one_connects(
    poster: Poster, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))
        for address in ("169.254.169.254", "127.0.0.9", "127.0.0.1")
    ]
    with receiving() as receiver:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        answer = await post(poster, receiver.url)
    assert answer == Answer(200, "")


async def test_the_headers_are_those_of_standard_webhooks_and_the_host_is_the_urls_own(
    poster: Poster,
) -> None:
    with receiving() as receiver:
        answer = await post(poster, receiver.url)
        (posted,) = receiver.posted
    assert (answer.taken, str(answer)) == (True, "HTTP 200")
    assert posted.verified() == {"type": "ping", "data": {}}
    assert posted.headers["content-type"] == "application/json"
    assert posted.headers["host"] == f"localhost:{receiver.port}"
    assert SECRET not in str(posted)


async def test_the_certificate_is_checked_against_the_name_though_its_address_is_connected_to(
    tmp_path: Path,
) -> None:
    files = certificate_for(["localhost"], tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(*files)
    trusting = Poster(trust=ssl.create_default_context(cafile=files[0]))
    doubting = Poster()
    with receiving(server) as receiver:
        assert (await post(trusting, receiver.url)).status == 200
        by_address = await post(trusting, receiver.url.replace("localhost", "127.0.0.1"))
        unknown = await post(doubting, receiver.url)
        assert len(receiver.posted) == 1
    for answer in (by_address, unknown):
        assert answer.status is None
        assert "certificate verify failed" in answer.reason.lower()
    await trusting.close()
    await doubting.close()


async def test_an_endpoint_that_is_not_there_is_told_as_the_reason(poster: Poster) -> None:
    answer = await post(poster, f"http://localhost:{free_port()}/")
    assert answer.status is None
    assert answer.reason.startswith("no connection")


async def test_a_name_that_does_not_resolve_is_told_as_the_reason(
    poster: Poster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    assert await post(poster, "https://pins.example/") == Answer(None, "its name does not resolve")


@pytest.mark.parametrize("host", ["desk..example", ".example", "x" * 64 + ".example"])
async def test_a_name_that_no_resolver_takes_is_told_as_the_reason_too(
    poster: Poster, host: str
) -> None:
    assert await post(poster, f"https://{host}/") == Answer(None, "its name does not resolve")


async def test_an_endpoint_that_hangs_is_given_up(
    poster: Poster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting, "WITHIN", 0.2)
    with receiving() as receiver:
        receiver.hold()
        answer = await post(poster, receiver.url)
    assert answer.status is None
    assert answer.reason.startswith("no answer within")


async def test_an_answer_that_never_ends_is_read_no_further_than_is_kept(poster: Poster) -> None:
    with receiving() as receiver:
        receiver.status, receiver.answer = 500, b"\x00<p>" + b"no\r\n" * 1_000_000
        answer = await post(poster, receiver.url)
    assert len(answer.reason) == 200
    assert answer.reason.startswith("<p>no no no")


async def test_a_retry_after_may_be_a_date(poster: Poster) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    with receiving() as receiver:
        receiver.status = 503
        receiver.headers = {"Retry-After": format_datetime(at, usegmt=True)}
        answer = await post(poster, receiver.url)
    assert answer.retry_after == pytest.approx(3600, abs=10)
