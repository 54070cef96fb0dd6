"""The bad-input catalogue on the wire: lengths that lie, heads without end, bodies that never come.

Spoken to `pinqueue web` as a process. The number in a test's name is the row of the catalogue.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from pinqueue import inventory
from tests import factories
from tests.conftest import Server
from tests.serving import Web, web_process

HEAD = b"POST /webhooks/main HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
JSON = b"Content-Type: application/json\r\n"


@pytest.fixture(scope="module")
def process_web(
    server: Server, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Web]:
    log = tmp_path_factory.mktemp("web") / "log"
    with server.database(template) as url, web_process(url, log) as (web, _):
        web.set_up()
        yield web


@pytest.fixture
def counted(process_web: Web) -> Iterator[Web]:
    """A web process, and afterwards not one row more and the process still well."""
    before = process_web.counts()
    yield process_web
    assert process_web.counts() == before
    assert process_web.tell(factories.event(f"res-{uuid4().hex}")).status == 200


def signed_head(raw: bytes) -> bytes:
    _, headers = factories.signed(raw)
    return HEAD + b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())


def event() -> bytes:
    return factories.signed(factories.event(f"res-{uuid4().hex}"))[0]


def test_13_a_length_over_the_limit_is_refused_before_the_body_is_sent(counted: Web) -> None:
    answer = counted.exchange(HEAD + JSON + b"Content-Length: 262145\r\n\r\n")
    assert (answer.status, answer.outcome) == (413, "body_too_large")


def test_13_a_sender_that_asks_first_is_not_told_to_go_on(counted: Web) -> None:
    announced = b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"
    assert counted.exchange(HEAD + JSON + announced).status == 413


def test_14_a_good_event_may_come_in_chunks(process_web: Web) -> None:
    raw = event()
    parts = [raw[:7], raw[7:8], raw[8:]]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    answer = process_web.exchange(signed_head(raw) + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert answer.outcome == "accepted"


@pytest.mark.parametrize(
    "lengths",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 5x\r\n",
        b"Content-Length: 0x5\r\n",
    ],
)
def test_15_lengths_that_contradict_each_other_are_refused(counted: Web, lengths: bytes) -> None:
    answer = counted.exchange(HEAD + JSON + lengths + b"\r\n0\r\n\r\n")
    assert answer.status == 400


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"X-Long: " + b"a" * 17_000 + b"\r\n", id="one-header-of-17-kB"),
        pytest.param(b"X-Long: " + b"a" * 10_000_000 + b"\r\n", id="one-header-of-10-MB"),
        pytest.param(b"".join(b"X-%d: a\r\n" % n for n in range(200)), id="200-headers"),
    ],
)
def test_17_a_head_that_is_too_large_is_refused(counted: Web, head: bytes) -> None:
    assert is_refused_or_closed(counted, HEAD + JSON + head + b"Content-Length: 0\r\n\r\n")


@pytest.mark.parametrize("line", [b"X: " + b"a" * 70_000, b"X: a\r\n" * 12_000])
def test_17_a_head_that_does_not_end_is_not_read_for_ever(counted: Web, line: bytes) -> None:
    with counted.connect() as wire, suppress(ConnectionError):  # closed: an answer too
        wire.sendall(HEAD)
        for _ in range(40):
            wire.sendall(line)
            wire.settimeout(0.05)
            with suppress(TimeoutError):
                assert wire.recv(100).startswith(b"HTTP/1.1 400")
                return
            wire.settimeout(15)
        pytest.fail("it went on reading")


def test_17_a_target_that_is_too_long_is_refused(counted: Web) -> None:
    target = b"POST /webhooks/main?" + b"a" * 17_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    assert is_refused_or_closed(counted, target)


def test_17_a_head_of_usual_size_is_taken(process_web: Web) -> None:
    raw = event()
    more = b"".join(b"X-%d: %b\r\n" % (n, b"a" * 150) for n in range(80))
    length = b"Content-Length: %d\r\n\r\n" % len(raw)
    assert process_web.exchange(signed_head(raw) + more + length + raw).outcome == "accepted"


@pytest.mark.parametrize("event_id", [b"msg\x00", b"msg\x01", b"\xff", b" \t "])
def test_18_an_id_of_bytes_that_no_id_has_is_refused(counted: Web, event_id: bytes) -> None:
    raw, headers = factories.signed(factories.event())
    lines = {**{n: v.encode() for n, v in headers.items()}, "webhook-id": event_id}
    head = b"".join(n.encode() + b": " + v + b"\r\n" for n, v in lines.items())
    answer = counted.exchange(HEAD + head + b"Content-Length: %d\r\n\r\n" % len(raw) + raw)
    assert answer.status in (400, 401)


def test_events_sent_on_one_connection_without_waiting_are_all_taken(process_web: Web) -> None:
    sent = b""
    for raw in [event() + b" " * 20_000 for _ in range(5)]:
        head = signed_head(raw).replace(b"Connection: close\r\n", b"")
        sent += head + b"Content-Length: %d\r\n\r\n" % len(raw) + raw
    received = b""
    with process_web.connect() as wire:
        wire.sendall(sent)
        while received.count(b"}") < 5:
            received += wire.recv(4096)
    assert received.count(b'{"status":"accepted"}') == 5


def is_refused_or_closed(web: Web, sent: bytes, *, hang_up: bool = False) -> bool:
    """A server that stops reading may close before its answer is read: that is a refusal too."""
    try:
        return web.exchange(sent, hang_up=hang_up).status in (400, 408, 413, 431)
    except ConnectionError:
        return True


def junk(dice: random.Random) -> bytes:
    """A request that somebody without the secret might send, from nearly right to noise."""
    noise = dice.randbytes(dice.choice([0, 1, 10, 300, 5_000]))
    raw, headers = factories.signed(dice.choice([event(), b"", b"[]", b'{"type": 1}']))
    for name in dice.sample(sorted(headers), dice.randint(1, 3)):
        headers[name] = dice.choice(["", "x", "v1,", "1" * 40, "\u00e9", "a" * 3_000, "v1, " * 99])
    headers["webhook-signature"] = dice.choice(["v1,AAAA", "v1," + "A" * 43 + "=", "", "v1a,AA=="])
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
    paths = [b"main?x=%00", b"%00", b"%ff", b"x" * 99, b"../main"]
    path = dice.choice([b"main"] * 15 + paths)
    raw = dice.choice([raw, noise, raw + noise])
    length = b"Content-Length: %d\r\n" % len(raw)
    head = b"POST /webhooks/" + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    if dice.random() < 0.1:
        head = noise.replace(b"\n", b"") + head
    if dice.random() < 0.1:
        lines += b"x-" + noise[:50].replace(b"\n", b"") + b": \xff\x01\r\n"
    return head + lines + length + b"\r\n" + raw


def test_two_thousand_unauthenticated_requests_cause_no_row_and_no_5xx(counted: Web) -> None:
    dice = random.Random(20261101)
    seen: dict[int, int] = {}
    for _ in range(2_000):
        request = junk(dice)
        try:
            status = counted.exchange(request).status
        except (ConnectionError, ValueError):  # closed without a word, which is an answer
            status = 0
        assert status < 500, request
        assert status not in range(200, 300), request
        seen[status] = seen.get(status, 0) + 1
    assert seen[401] + seen[429] > 500, seen  # most came as far as the signature


def test_16_slow_bodies_hold_no_database_connection(web: Web) -> None:
    raw = event()
    wires: list[socket.socket] = []
    try:
        for _ in range(30):  # more than there are connections to the database
            wires.append(web.connect())
            wires[-1].sendall(signed_head(raw) + b"Content-Length: 9\r\n\r\n{")
        assert web.tell(factories.event("res-1")).status == 200
    finally:
        for wire in wires:
            wire.close()


def test_16_a_sender_that_leaves_in_mid_body_stores_nothing(web: Web) -> None:
    raw = event()
    with suppress(ConnectionError):  # nobody is left to read an answer
        web.exchange(
            signed_head(raw) + b"Content-Length: %d\r\n\r\n" % len(raw) + raw[:-1], hang_up=True
        )
    assert web.counts()["webhook_events"] == 0


def test_f22_no_environment_lets_a_forged_signature_in(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prototype believes anybody while its environment says that it is being developed."""
    for name in ("NODE_ENV", "ENV", "APP_ENV", "PYTHON_ENV", "STARLETTE_ENV"):
        monkeypatch.setenv(name, "development")
    for name in ("DEBUG", "MOCK", "TESTING", "PINQUEUE_DEBUG", "PINQUEUE_MOCK"):
        monkeypatch.setenv(name, "1")
    raw, forged = factories.signed(factories.event(), secret=inventory.new_webhook_secret())
    with web_process(web.database_url, tmp_path / "log") as (developed, _):
        assert developed.post(raw, forged).status == 401
    assert web.counts()["webhook_events"] == 0
