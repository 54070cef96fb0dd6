"""The bad-input catalogue, for every sender that a row of it is for.

The number in a test's name is the row; `but` says of which senders it is not true, and why. More of
what a row means to our own kind is in `test_webhook_*.py`.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pinqueue import inventory
from pinqueue.db import Database
from pinqueue.fetchers import Api
from pinqueue.reservations import Planner
from pinqueue.webhooks import body
from tests.exposition import Exposition
from tests.senders import using
from tests.senders.each import (
    SENDERS,
    SIGN_NO_TIME,
    SIGN_NOTHING,
    TELL_NO_VERSION,
    Json,
    Sender,
    as_bytes,
    for_each,
)
from tests.senders.stay import Stay, day
from tests.serving import (
    EVENT,
    PLANNED,
    STAY,
    Answer,
    Web,
    read_answer,
    serving,
    until,
    web_process,
)
from tests.wires import Wire

UNAUTHORIZED = (401, "unauthorized")


@pytest.fixture(scope="module")
def web(every_sender: Web) -> Web:
    return every_sender


@pytest.fixture
def untouched(web: Web) -> Iterator[Web]:
    """The same, and afterwards not one row or job more than before."""
    before = web.counts()
    yield web
    assert web.counts() == before


def told(answer: Answer) -> tuple[int, str]:
    assert len(answer.headers["x-request-id"]) == 16
    if answer.status == 401:
        assert answer.json() == {"error": "unauthorized"}
    return answer.status, answer.outcome


def each(case: Callable[..., Answer], variants: Mapping[str, Any]) -> dict[str, tuple[int, str]]:
    """How each variant is answered."""
    return {name: told(case(variant)) for name, variant in variants.items()}


def newest(web: Web, sender: Sender) -> dict[str, Any]:
    query = "SELECT * FROM reservations WHERE source_id = %s ORDER BY created_at DESC LIMIT 1"
    (stay,) = web.ask(query, sender.kind)
    return stay


def request(sender: Sender, raw: bytes, *more: bytes, length: int | None = None) -> bytes:
    """A good request, byte by byte, with more lines in its head."""
    headers = {**sender.headers(raw), "host": "x", "connection": "close"}
    lines = [f"{name}: {value}".encode() for name, value in headers.items()]
    lines += [b"Content-Length: %d" % (len(raw) if length is None else length), *more]
    return f"POST {sender.path()} HTTP/1.1\r\n".encode() + b"\r\n".join(lines) + b"\r\n\r\n" + raw


# 1 to 8: once is once, and where to


@for_each()
def test_b01_a_good_event_is_accepted(web: Web, sender: Sender) -> None:
    before = web.counts()
    answer = sender.post(web, sender.tells(Stay()))
    assert (answer.status, answer.json()) == (200, {"status": "accepted"})
    assert web.added(before) == PLANNED


@for_each()
def test_b02_an_exact_replay_is_a_duplicate(web: Web, sender: Sender) -> None:
    raw = as_bytes(sender.tells(Stay()))
    headers = sender.headers(raw)
    assert web.post(raw, headers, sender.path()).outcome == "accepted"
    before = web.counts()
    assert told(web.post(raw, headers, sender.path())) == (200, "duplicate")
    assert web.counts() == before


@for_each(but={SIGN_NO_TIME: "what it signs, if anything, does not change: a retry is row 2"})
def test_b03_a_retry_that_is_signed_anew_is_a_duplicate(web: Web, sender: Sender) -> None:
    raw, minutes_ago = as_bytes(sender.tells(Stay())), datetime.now(UTC) - timedelta(minutes=4)
    first = sender.post(web, raw, event_id=f"b03-{sender.kind}", at=minutes_ago)
    before = web.counts()
    assert first.outcome == "accepted"
    assert told(sender.post(web, raw, event_id=f"b03-{sender.kind}")) == (200, "duplicate")
    assert web.counts() == before


@for_each(but={SIGN_NO_TIME: "no id of its names a delivery: another body is another event"})
def test_b04_one_id_for_two_bodies_is_refused_and_audited(web: Web, sender: Sender) -> None:
    event_id = f"b04-{sender.kind}"
    assert sender.post(web, sender.tells(Stay()), event_id=event_id).outcome == "accepted"
    before = web.counts()
    answer = sender.post(web, sender.tells(Stay()), event_id=event_id)
    assert told(answer) == (409, "event_id_reused")
    assert web.added(before) == {}
    assert web.audited("webhook:refused")[-1]["event_id"] == event_id


@for_each()
def test_b05_100_copies_at_once_have_one_effect(web: Web, sender: Sender) -> None:
    raw, before = as_bytes(sender.tells(Stay())), web.counts()
    headers = sender.headers(raw)
    with ThreadPoolExecutor(8) as senders:
        answers = list(senders.map(lambda _: web.post(raw, headers, sender.path()), range(100)))
    outcomes = [answer.outcome for answer in answers]
    assert outcomes.count("accepted") == 1
    assert set(outcomes) <= {"accepted", "duplicate", "unavailable"}
    assert web.added(before) == PLANNED


@for_each()
def test_b06_another_method_is_not_allowed(untouched: Web, sender: Sender) -> None:
    raw = as_bytes(sender.tells(Stay()))
    for method in ("GET", "PUT", "HEAD", "OPTIONS", "PATCH", "DELETE"):
        answer = untouched.post(raw, sender.headers(raw), sender.path(), method)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")


@for_each()
def test_b07_a_source_that_is_not_there_is_not_found(untouched: Web, sender: Sender) -> None:
    raw = as_bytes(sender.tells(Stay()))
    names = ["nobody", "%00", "%ff%fe", "a" * 9000, f"{sender.kind}%0A", f"{sender.kind}/x/y"]
    paths = [*(sender.path(name) for name in names), f"{sender.path()}/"]
    if sender.sign:
        paths.append(f"{sender.path()}/{sender.secret}")
    answers = {path: untouched.post(raw, sender.headers(raw), path).status for path in paths}
    assert answers == dict.fromkeys(paths, 404)


@for_each()
def test_b08_a_source_that_is_switched_off_is_asked_to_come_again(web: Web, sender: Sender) -> None:
    event, switch = sender.tells(Stay()), "UPDATE sources SET enabled = %s WHERE id = %s"
    before = web.counts()
    web.execute(switch, False, sender.kind)
    try:
        answer = sender.post(web, event)
        assert (told(answer), answer.headers["retry-after"]) == ((503, "source_disabled"), "300")
        assert web.counts() == before
    finally:
        web.execute(switch, True, sender.kind)
    assert sender.post(web, event).outcome == "accepted"


# 9 to 17: what kind of body, and whether it comes whole


FORM = "application/x-www-form-urlencoded"


@for_each()
def test_b09_what_is_no_json_by_its_own_account_is_refused(untouched: Web, sender: Sender) -> None:
    assert_refused_by_header(
        untouched,
        sender,
        "content-type",
        ["", "text/plain", FORM, "multipart/form-data; boundary=x", "application/jsonx"],
        "unsupported_media_type",
    )


@for_each()
def test_b09_json_may_be_announced_in_several_ways(web: Web, sender: Sender) -> None:
    for kind in ("application/json;charset=UTF-8", 'Application/JSON; charset="utf-8"'):
        raw = as_bytes(sender.tells(Stay()))
        headers = {**sender.headers(raw), "content-type": kind}
        assert web.post(raw, headers, sender.path()).outcome == "accepted"


@for_each()
def test_b10_json_in_another_charset_is_refused(untouched: Web, sender: Sender) -> None:
    charsets = ["utf-16", "latin-1", "utf-8; charset=utf-16"]
    kinds = [f"application/json; charset={charset}" for charset in charsets]
    assert_refused_by_header(untouched, sender, "content-type", kinds, "unsupported_media_type")


@for_each()
def test_b11_a_body_that_is_compressed_is_not_inflated(untouched: Web, sender: Sender) -> None:
    codings, code = ["gzip", "br", "gzip, identity"], "unsupported_encoding"
    assert_refused_by_header(untouched, sender, "content-encoding", codings, code, BOMB)


BOMB = gzip.compress(bytes(50_000_000))


def assert_refused_by_header(
    web: Web, sender: Sender, header: str, values: list[str], code: str, raw: bytes = b"{}"
) -> None:
    good = sender.headers(raw)
    without = {name: value for name, value in good.items() if name != header}
    answers = {
        value: told(web.post(raw, {**without, **({header: value} if value else {})}, sender.path()))
        for value in values
    }
    assert answers == dict.fromkeys(values, (415, code))


@for_each()
def test_b12_an_empty_body_is_refused_whether_it_proves_itself_or_not(
    untouched: Web, sender: Sender
) -> None:
    assert told(sender.post(untouched, b"")) == (400, "invalid_json")
    assert told(unproven(untouched, sender, b"")) == UNAUTHORIZED


def unproven(web: Web, sender: Sender, raw: bytes) -> Answer:
    return web.post(raw, {"content-type": "application/json"}, f"/webhooks/{sender.kind}")


@for_each()
def test_b13_a_body_over_256_KiB_is_refused_and_one_of_256_is_taken(
    web: Web, sender: Sender
) -> None:
    before, longest = web.counts(), as_bytes(OTHER_EVENT).ljust(256 * 1024)
    assert told(sender.post(web, longest + b" ")) == (413, "body_too_large")
    assert web.counts() == before
    assert sender.post(web, longest).outcome == "ignored"


OTHER_EVENT = dict.fromkeys(["type", "action", "event"], "something.else")
"""Of a type that no sender is known to have."""


@for_each()
def test_b14_a_body_in_chunks_that_grows_over_the_limit_is_refused(
    untouched: Web, sender: Sender
) -> None:
    head = request(sender, b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    assert told(untouched.exchange(head + chunk * 9)) == (413, "body_too_large")  # and no end


@for_each()
def test_b15_a_length_that_is_not_the_bodys_is_refused(untouched: Web, sender: Sender) -> None:
    raw = as_bytes(sender.tells(Stay()))
    shorter = request(sender, raw, length=len(raw) - 1)
    assert untouched.exchange(shorter).status in (400, 401)
    longer = request(sender, raw, length=len(raw) + 1)
    assert refused_or_closed(untouched, longer, hang_up=True)
    both = request(sender, raw, b"Transfer-Encoding: chunked")
    assert untouched.exchange(both).status == 400


def refused_or_closed(web: Web, sent: bytes, *, hang_up: bool = False) -> bool:
    """A server that stops reading may close before its answer is read: that is a refusal too."""
    try:
        return web.exchange(sent, hang_up=hang_up).status in (400, 431)
    except ConnectionError:
        return True


@for_each()
def test_b16_a_body_that_stops_half_way_is_given_up(
    untouched: Web, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "BODY_WITHIN", 0.2)
    raw = as_bytes(sender.tells(Stay()))
    with untouched.connect() as wire:
        wire.sendall(request(sender, raw)[:-20].replace(b"connection: close\r\n", b""))
        assert told(read_answer(wire)) == (408, "request_timeout")
        wire.settimeout(2)
        assert wire.recv(1) == b"", "the connection is closed"


@for_each()
def test_b17_a_head_that_is_too_large_is_refused(untouched: Web, sender: Sender) -> None:
    raw = as_bytes(sender.tells(Stay()))
    for more in ([b"X-Long: " + b"a" * 17_000], [b"X-%d: a" % n for n in range(200)]):
        assert refused_or_closed(untouched, request(sender, raw, *more))


# 18 to 29: who is believed

IDS = {
    "empty": "",
    "129-characters": "a" * 129,
    "dot": "msg.1",
    "space": "msg 1",
    "tab": "msg\t1",
    "emoji": "msg_\N{GRINNING FACE}",
}


@for_each(but={SIGN_NO_TIME: "gives no id in a header"})
def test_b18_the_longest_event_id_is_taken(web: Web, sender: Sender) -> None:
    assert sender.post(web, sender.tells(Stay()), event_id="a" * 128).outcome == "accepted"


@for_each(but={SIGN_NO_TIME: "gives no id in a header"})
def test_b18_an_event_id_in_a_form_that_none_has_is_refused(untouched: Web, sender: Sender) -> None:
    """Signed as it is, so that only its form speaks against it."""
    raw = as_bytes(sender.tells(Stay()))
    answers = each(lambda id_: sender.post(untouched, raw, event_id=id_), IDS)
    assert answers == dict.fromkeys(IDS, UNAUTHORIZED)
    headers = sender.headers(raw)
    del headers[name_of(headers, "id")]
    assert told(untouched.post(raw, headers, sender.path())) == UNAUTHORIZED


def name_of(headers: Mapping[str, str], what: str) -> str:
    """What a sender calls that header: `webhook-id`, `svix-id`, `ms-signature`, `signature`."""
    return next(name for name in headers if name == what or name.endswith(f"-{what}"))


@for_each(but={SIGN_NOTHING: "proves itself in the path; its login is the next test's"})
def test_b19_a_header_that_proves_it_twice_is_refused(untouched: Web, sender: Sender) -> None:
    raw = as_bytes(sender.tells(Stay()))
    good = list(sender.headers(raw).items())
    for name in [name for name, _ in good if name != "content-type"]:
        twice = [*good, *(pair for pair in good if pair[0] == name)]
        assert told(untouched.post(raw, twice, sender.path())) == UNAUTHORIZED


@for_each(but={"pinqueue hospitable lodgify guesty": "takes no login"})
def test_b19_a_login_twice_is_refused(web: Web, sender: Sender) -> None:
    raw, login = as_bytes(sender.tells(Stay())), ("authorization", "Basic aG9vazpwYXNz")
    source = f"{sender.kind}-login"
    add_source(web, sender, source, f"{sender.secret} hook:pass")
    good = [*sender.headers(raw).items(), login]
    assert told(web.post(raw, [*good, login], sender.path(source))) == UNAUTHORIZED
    assert web.post(raw, good, sender.path(source)).status == 200


def add_source(web: Web, sender: Sender, source: str, secret: str, api: Api | None = None) -> None:
    web.do(lambda db, planner: using.add_source(db, planner, sender.kind, secret, api, source))


TIMES: dict[str, Callable[[str], str]] = {
    "empty": lambda now: "",
    "hello": lambda now: "hello",
    "negative": lambda now: "-1",
    "exponent": lambda now: f"{now[0]}.{now[1:]}e9",
    "underscores": lambda now: f"{int(now):_}",
    "fraction": lambda now: f"{now}.5",
    "space-inside": lambda now: f"{now[:5]} {now[5:]}",
    "plus": lambda now: f"+{now}",
    "arabic-digits": lambda now: now.translate({48 + n: 0x660 + n for n in range(10)}),
    "nan": lambda now: "nan",
    "400-digits": lambda now: "1" * 400,
    "milliseconds": lambda now: f"{now}000",
    "zero-before": lambda now: f"0{now}",
}


@for_each(but={SIGN_NO_TIME: "signs no time"})
def test_b20_a_time_that_is_not_ten_digits_is_refused(untouched: Web, sender: Sender) -> None:
    """Signed as it is written, from the digits of this very second."""
    raw = as_bytes(sender.tells(Stay()))

    def post(written: Callable[[str], str]) -> Answer:
        timestamp = written(str(int(datetime.now(UTC).timestamp())))
        return sender.post(untouched, raw, timestamp=timestamp)

    assert each(post, TIMES) == dict.fromkeys(TIMES, UNAUTHORIZED)
    headers = sender.headers(raw)
    del headers[name_of(headers, "timestamp")]
    assert told(untouched.post(raw, headers, sender.path())) == UNAUTHORIZED


@for_each(but={SIGN_NO_TIME: "signs no time"})
def test_b21_a_time_within_five_minutes_is_good_and_no_other(web: Web, sender: Sender) -> None:
    now = datetime.now(UTC)

    def post(seconds: int) -> int:
        at = now + timedelta(seconds=seconds)
        return sender.post(web, sender.tells(Stay()), at=at).status

    seconds = {-86400: 401, -301: 401, -290: 200, 290: 200, 310: 401}
    assert {late: post(late) for late in seconds} == seconds


SIGNATURES: dict[str, Callable[[str], str | bytes]] = {
    "empty": lambda good: "",
    "first-8-characters": lambda good: good[:8],
    "one-character-less": lambda good: good[:-1],
    "one-character-more": lambda good: good + "0",
    "twice": lambda good: good + good,
    "two-commas": lambda good: good + ",",
    "no-version": lambda good: "," + good.rpartition(",")[2].rpartition("=")[2],
    "bad-base64": lambda good: "v1,!!!!=",
    "non-ascii": lambda good: f"{good}\N{SNOWMAN}".encode(),
    "not-utf-8": lambda good: good.encode() + b"\xff\xfe",
    "nul": lambda good: good.encode() + b"%00",
    "10-kB": lambda good: good + "A" * 10_000,
    "eleventh-token": lambda good: "v1,AAAA " * 10 + good,
    "prefixed": lambda good: f"sha256={good}",
    "5000-tokens": lambda good: "v1, " * 2_500 + good,
    "another": lambda good: good[:-9] + ("0" if good[-9] != "0" else "1") + good[-8:],
}


@for_each(but={SIGN_NOTHING: "signs nothing: its secret is the next test's"})
def test_b22_a_signature_that_is_junk_is_refused(untouched: Web, sender: Sender) -> None:
    raw = as_bytes(sender.tells(Stay()))
    good = sender.headers(raw)
    name = name_of(good, "signature")
    signature = good.pop(name)

    def post(make: Callable[[str], str | bytes]) -> Answer:
        return untouched.post(raw, [*good.items(), (name, make(signature))], sender.path())

    assert each(post, SIGNATURES) == dict.fromkeys(SIGNATURES, UNAUTHORIZED)
    assert told(untouched.post(raw, good, sender.path())) == UNAUTHORIZED


SECRETS: dict[str, Callable[[str], str]] = {
    "none": lambda good: "",
    "first-8-characters": lambda good: good[:8],
    "one-character-less": lambda good: good[:-1],
    "one-character-more": lambda good: good + "x",
    "upper-case": str.upper,
    "non-ascii": lambda good: good + "%E2%98%83",
    "not-utf-8": lambda good: good + "%FF%FE",
    "nul": lambda good: good + "%00",
    "10-kB": lambda good: good + "A" * 10_000,
}


@for_each(but={"pinqueue hospitable lodgify guesty": "has no secret in its path"})
def test_b22_a_path_that_is_not_the_secret_is_refused(untouched: Web, sender: Sender) -> None:
    raw = as_bytes(sender.tells(Stay()))

    def post(make: Callable[[str], str]) -> Answer:
        path = f"/webhooks/{sender.kind}/{make(sender.secret)}".rstrip("/")
        return untouched.post(raw, sender.headers(raw), path)

    assert each(post, SECRETS) == dict.fromkeys(SECRETS, UNAUTHORIZED)


@for_each(but={SIGN_NO_TIME: "sends one signature at most"})
def test_b23_a_good_signature_is_found_among_others(web: Web, sender: Sender) -> None:
    for around in ("v1,wrong v2,x {good} v1,wrong", "junk ,, v1 v1,a,b {good}", "{good} {good}"):
        raw = as_bytes(sender.tells(Stay()))
        headers = sender.headers(raw)
        name = name_of(headers, "signature")
        headers[name] = around.format(good=headers[name])
        assert web.post(raw, headers, sender.path()).status == 200


@for_each(but={SIGN_NO_TIME: "its signature has no version"})
def test_b24_a_signature_of_another_version_is_refused(untouched: Web, sender: Sender) -> None:
    raw = as_bytes(sender.tells(Stay()))
    headers = sender.headers(raw)
    name = name_of(headers, "signature")
    for version in ("v1a,", "v2,", "V1,"):
        other = {**headers, name: headers[name].replace("v1,", version)}
        assert told(untouched.post(raw, other, sender.path())) == UNAUTHORIZED


@for_each()
def test_b25_the_secret_before_is_good_until_its_time_is_over_and_its_use_is_counted(
    web: Web, sender: Sender
) -> None:
    before = proved_by_old_secrets(web, sender)
    for hours, wanted in {1: [200, 200], 0: [401, 200]}.items():
        source = f"{sender.kind}-kept-{hours}h"
        add_source(web, sender, source, sender.secret)
        rotate(web, sender, source, timedelta(hours=hours))
        believed = [
            sender.post(web, sender.tells(Stay()), source, secret).status
            for secret in (sender.secret, sender.other_secret)
        ]
        assert believed == wanted
    assert proved_by_old_secrets(web, sender) == before + 1


def proved_by_old_secrets(web: Web, sender: Sender) -> float:
    told = Exposition(web.post(b"", {}, "/metrics", "GET").body.decode())
    return told.counted("pinqueue_webhooks_by_old_secret_total").get((sender.kind,), 0)


def rotate(web: Web, sender: Sender, source: str, keep_old: timedelta) -> None:
    async def do(db: Database, planner: Planner) -> None:
        async with db.transaction() as session:
            await inventory.rotate_source(
                session, planner.sealer, "test", source, sender.other_secret, keep_old
            )

    web.do(do)


@for_each()
def test_b26_the_secret_of_another_source_is_not_believed(untouched: Web, sender: Sender) -> None:
    answer = sender.post(untouched, sender.tells(Stay()), secret=sender.other_secret)
    assert (answer.status, answer.json()) == (401, {"error": "unauthorized"})


BODIES: dict[str, Callable[[bytes], bytes]] = {
    "one-byte": lambda raw: raw.replace(b"0", b"1", 1),
    "re-serialised": lambda raw: json.dumps(json.loads(raw), separators=(",", ":")).encode(),
    "added-newline": lambda raw: raw + b"\n",
    "cut": lambda raw: raw[:-1],
    "empty": lambda raw: b"",
}


@for_each(but={SIGN_NOTHING: "signs nothing"})
def test_b27_a_body_that_is_not_byte_for_byte_what_was_signed_is_refused(
    untouched: Web, sender: Sender
) -> None:
    raw = as_bytes(sender.tells(Stay()))
    headers = sender.headers(raw)
    answers = each(lambda change: untouched.post(change(raw), headers, sender.path()), BODIES)
    assert answers == dict.fromkeys(BODIES, UNAUTHORIZED)


@for_each(but={SIGN_NO_TIME: "signs the body alone, if anything"})
def test_b28_another_id_or_time_than_was_signed_is_refused(untouched: Web, sender: Sender) -> None:
    raw = as_bytes(sender.tells(Stay()))
    headers = sender.headers(raw)
    other_id = {**headers, name_of(headers, "id"): "msg_another"}
    name = name_of(headers, "timestamp")
    other_time = {**headers, name: str(int(headers[name]) - 1)}
    for changed in (other_id, other_time):
        assert told(untouched.post(raw, changed, sender.path())) == UNAUTHORIZED


@for_each()
def test_b29_a_body_that_is_not_utf_8_is_refused(untouched: Web, sender: Sender) -> None:
    """The library that verifies `v1` wants text, so there it proves nothing."""
    spoiled = with_more(b'"\xff"')(as_bytes(sender.tells(Stay())))
    answer = sender.post(untouched, spoiled)
    standard = sender.kind in ("pinqueue", "guesty")
    assert told(answer) == (UNAUTHORIZED if standard else (400, "invalid_json"))


# 30 to 36: what is no JSON, or none that PostgreSQL can hold


def with_more(value: bytes) -> Callable[[bytes], bytes]:
    """One field more, that holds this."""
    return lambda good: good[:-1] + b', "more": ' + value + b"}"


SPOILED: dict[str, Callable[[bytes], bytes]] = {
    "b30-byte-order-mark": lambda good: b"\xef\xbb\xbf" + good,
    "b31-broken": lambda good: good[:-1],
    "b31-trailing-text": lambda good: good + b" x",
    "b31-two-documents": lambda good: good + good,
    "b31-single-quotes": lambda good: good.replace(b'"', b"'"),
    "b31-comment": lambda good: b"/* */" + good,
    "b32-list": lambda good: b"[]",
    "b32-text": lambda good: b'"x"',
    "b32-number": lambda good: b"1",
    "b32-null": lambda good: b"null",
    "b33-at-the-top": with_more(b'1, "more": 2'),
    "b33-inside": with_more(b'{"a": 1, "a": 1}'),
    "b34-nan": with_more(b"NaN"),
    "b34-infinity": with_more(b"-Infinity"),
    "b34-1e400": with_more(b"1e400"),
    "b35-5000-digits": with_more(b"1" * 5000),
    "b35-deep": with_more(b"[" * 100_000 + b"]" * 100_000),
    "b35-33-levels": with_more(b"[" * 32 + b"]" * 32),
    "b36-nul": with_more(rb'"A\u0000a"'),
    "b36-surrogate": with_more(rb'"A\ud800a"'),
    "b36-surrogates-turned-round": with_more(rb'"\udc00\ud800"'),
    "b36-nul-in-key": with_more(rb'{"a\u0000": 1}'),
    "b36-surrogate-in-key": with_more(rb'{"\udfff": 1}'),
}
ANSWERS = {"b32": (422, "invalid_body"), "b36": (422, "invalid_text")}


@for_each()
@pytest.mark.parametrize("row", sorted({name[:3] for name in SPOILED}))
def test_what_is_no_json_or_none_that_can_be_kept_is_refused(
    untouched: Web, sender: Sender, row: str
) -> None:
    good = as_bytes(sender.tells(Stay()))
    spoiled = {name: spoil(good) for name, spoil in SPOILED.items() if name.startswith(row)}
    answers = each(lambda raw: sender.post(untouched, raw), spoiled)
    assert answers == dict.fromkeys(spoiled, ANSWERS.get(row, (400, "invalid_json")))


@for_each()
def test_b35_the_deepest_nesting_that_is_taken_is_32_levels(web: Web, sender: Sender) -> None:
    deepest = with_more(b"[" * 31 + b"]" * 31)(as_bytes(OTHER_EVENT))
    assert sender.post(web, deepest).status == 200


# 37 to 41: what cannot be a stay


def put(event: Json, path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        event = event[name]
    event[path[-1]] = value


WRONG_IDS: tuple[Any, ...] = (None, True, [], {}, 1.5, "")
WRONG_PARTS: tuple[Any, ...] = (None, True, [], "true", 7)


@for_each()
def test_b37_an_event_that_names_no_stay_is_refused_by_name(untouched: Web, sender: Sender) -> None:
    for value in WRONG_IDS:
        event = sender.tells(Stay())
        for path in sender.ids:
            put(event, path, value)
        answer = sender.post(untouched, event)
        assert told(answer) == (422, "invalid_body"), value
        assert answer.json()["error"]["details"][0]["field"]


@for_each(but={"cloudbeds": "its events are flat"})
def test_b37_another_thing_where_the_stay_should_be_is_refused(
    untouched: Web, sender: Sender
) -> None:
    for value in WRONG_PARTS:
        event = sender.tells(Stay())
        put(event, sender.ids[0][:1], value)
        assert told(sender.post(untouched, event)) == (422, "invalid_body"), value


@for_each()
def test_b37_another_thing_where_a_part_of_the_stay_should_be_is_not_believed(
    web: Web, sender: Sender
) -> None:
    """What cannot be read of a property system's event was not told: to refuse all of it would lose
    what can."""
    assert sender.post(web, sender.tells(Stay())).outcome == "accepted"
    good, place = core(newest(web, sender)), sender.ids[0][:-1]
    names = [n for n in part_of(sender.tells(Stay()), place) if (*place, n) not in sender.ids]
    for name, value in zip(names, cycle([[], {}, True, -1]), strict=False):
        event = sender.tells(Stay())
        put(event, (*place, name), value)
        before = web.counts()
        assert sender.post(web, event).status in (200, 422), (name, value)
        if "access_codes" in web.added(before):
            assert core(newest(web, sender)) == good, (name, value)


def core(stay: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(stay[name] for name in ("status", "listing_id", "check_in_at", "check_out_at"))


def part_of(event: Json, path: tuple[str, ...]) -> Json:
    for name in path:
        event = event[name]
    return event


@for_each()
def test_b38_a_field_that_is_missing_is_named_and_one_that_is_not_known_is_ignored(
    web: Web, sender: Sender
) -> None:
    before = web.counts()
    event = sender.tells(Stay())
    for path in sender.ids:
        del part_of(event, path[:-1])[path[-1]]
    answer = sender.post(web, event)
    assert told(answer) == (422, "invalid_body")
    assert [fault["field"] for fault in answer.json()["error"]["details"]]
    assert web.counts() == before
    extra = sender.tells(Stay()) | {"extra": {"a": [1.5, None, {}]}, "pin": "1234"}
    assert sender.post(web, extra).outcome == "accepted"
    assert web.added(before) == PLANNED


@for_each()
def test_b39_an_event_of_an_unknown_type_is_stored_and_ignored(web: Web, sender: Sender) -> None:
    before, event = web.counts(), OTHER_EVENT | {"of": sender.kind}
    assert told(sender.post(web, event)) == (200, "ignored")
    assert web.added(before) == EVENT
    assert web.value("SELECT body FROM webhook_events ORDER BY id DESC LIMIT 1") == event


@for_each()
def test_b40_a_listing_that_is_not_set_up_is_a_task_for_a_person(web: Web, sender: Sender) -> None:
    before = web.counts()
    assert told(sender.post(web, sender.tells(Stay(listing="9999")))) == (200, "unmapped")
    assert web.added(before) == EVENT
    assert web.audited("webhook:unmapped")[-1]["listing_id"] == "9999"


NO_STAYS = {
    "no-night": (day(10), day(10)),
    "backwards": (day(10), day(9)),
    "too-long": (day(10), day(400)),
    "year-1": (date(1, 1, 1), day(10)),
    "year-9999": (day(10), date(9999, 12, 31)),
}
LOSES_WHAT_IS_REFUSED = "hostaway cloudbeds smoobu"


@for_each(but={LOSES_WHAT_IS_REFUSED: "may never send again what was refused: the next test"})
def test_b41_a_stay_that_cannot_be_is_refused_and_audited(web: Web, sender: Sender) -> None:
    before = web.counts()
    events = {
        name: sender.tells(Stay(arrives=arrives, leaves=leaves))
        for name, (arrives, leaves) in NO_STAYS.items()
    }
    answers = each(lambda event: sender.post(web, event), events)
    assert answers == dict.fromkeys(NO_STAYS, (422, "invalid_booking"))
    assert web.added(before) == {}
    assert web.counts()["audit_events"] == before["audit_events"] + len(NO_STAYS)


@for_each(but={"pinqueue stays hospitable lodgify guesty": "sends again what was refused"})
def test_b41_the_dates_of_a_stay_that_cannot_be_are_not_believed_and_a_person_hears_of_it(
    web: Web, sender: Sender
) -> None:
    before = web.counts()
    events = {
        name: sender.tells(Stay(arrives=arrives, leaves=leaves))
        for name, (arrives, leaves) in NO_STAYS.items()
    }
    answers = each(lambda event: sender.post(web, event), events)
    assert answers == dict.fromkeys(NO_STAYS, (200, "incomplete"))
    assert "access_codes" not in web.added(before)
    assert web.counts()["audit_events"] >= before["audit_events"] + len(NO_STAYS)


# 42 to 50: what a stay may be


@for_each()
def test_b42_a_stay_that_is_over_gets_no_pin_and_one_that_runs_gets_it_at_once(
    web: Web, sender: Sender
) -> None:
    before = web.counts()
    assert sender.post(web, sender.tells(Stay(arrives=day(-5), leaves=day(-2)))).status == 200
    assert web.added(before) == STAY
    before = web.counts()
    assert sender.post(web, sender.tells(Stay(arrives=day(-2), leaves=day(3)))).status == 200
    assert web.added(before) == PLANNED
    newest_job = "SELECT scheduled_at <= now() FROM procrastinate_jobs WHERE task_name = %s"
    assert web.value(newest_job + " ORDER BY id DESC LIMIT 1", "generate_pin") is True


@for_each(but={"pinqueue": "tells times, not days: test_webhook_times.py"})
def test_b43_days_without_times_are_the_listings_by_its_own_clock(web: Web, sender: Sender) -> None:
    """On 28 March 2027 the clock goes from 02:00 to 03:00 in Berlin, on 31 October back."""
    listing = "4343"  # some senders count theirs
    if not web.ask("SELECT 1 FROM listings WHERE id = %s", listing):
        web.execute(
            "INSERT INTO listings (id, time_zone, check_in_time, check_out_time)"
            " VALUES (%s, 'Europe/Berlin', '02:30', '02:30')",
            listing,
        )
    for arrives, leaves, check_in, check_out in (
        (date(2027, 3, 28), date(2027, 3, 30), "2027-03-28T01:00Z", "2027-03-30T00:30Z"),
        (date(2027, 10, 31), date(2027, 11, 2), "2027-10-31T00:30Z", "2027-11-02T01:30Z"),
        (date(2027, 10, 29), date(2027, 10, 31), "2027-10-29T00:30Z", "2027-10-31T01:30Z"),
    ):
        told_of = Stay(arrives=arrives, leaves=leaves, listing=listing)
        assert sender.post(web, sender.tells(told_of)).outcome == "accepted"
        stay = newest(web, sender)
        instants = (datetime.fromisoformat(check_in), datetime.fromisoformat(check_out))
        assert (stay["check_in_at"], stay["check_out_at"]) == instants


@for_each()
def test_b44_overlapping_stays_both_get_a_pin_and_a_person_hears_of_it(
    web: Web, sender: Sender
) -> None:
    before = web.counts()
    for _ in range(2):
        arrives = day(200)
        told_of = Stay(arrives=arrives, leaves=arrives + timedelta(days=2))
        assert sender.post(web, sender.tells(told_of)).outcome == "accepted"
    assert web.added(before) == {table: 2 * count for table, count in PLANNED.items()}
    overlap = "SELECT reservation_id FROM audit_events WHERE event = 'reservation:overlaps'"
    assert web.value(overlap + " ORDER BY id DESC LIMIT 1") == newest(web, sender)["id"]


def earlier(stay: Stay, **changes: Any) -> Stay:
    return Stay(**{**vars(stay), "at": stay.at - timedelta(minutes=5), **changes})


@for_each(but={TELL_NO_VERSION: "tells no time of a change: its API decides, the next test"})
def test_b45_a_stay_cancelled_before_it_is_told_gets_no_pin(web: Web, sender: Sender) -> None:
    before, cancel = web.counts(), Stay(cancelled=True)
    assert sender.post(web, sender.tells(cancel)).outcome == "accepted"
    assert sender.post(web, sender.tells(earlier(cancel, cancelled=False))).outcome == "stale"
    assert web.added(before) == {"webhook_events": 2, "reservations": 1}
    assert newest(web, sender)["status"] == "cancelled"


@for_each(but={TELL_NO_VERSION: "tells no time of a change: its API decides, the next test"})
def test_b46_what_is_older_than_what_is_known_is_stale(web: Web, sender: Sender) -> None:
    now = Stay()
    assert sender.post(web, sender.tells(now)).outcome == "accepted"
    before = web.counts()
    for older in (earlier(now, cancelled=True), earlier(now, leaves=day(20))):
        assert sender.post(web, sender.tells(older)).outcome == "stale"
    assert web.added(before) == {"webhook_events": 2}


@for_each(but={"pinqueue stays hospitable guesty cloudbeds": "tells when a change was made"})
def test_b45_and_b46_of_events_in_any_order_its_api_is_believed(web: Web, sender: Sender) -> None:
    stay = Stay(cancelled=True)
    source = f"{sender.kind}-read"
    assert sender.lists
    with sender.api(sender.lists(stay)) as api:
        add_source(web, sender, source, sender.secret, api)
        for told_of in (stay, earlier(stay, cancelled=False), earlier(stay, leaves=day(20))):
            assert sender.post(web, sender.tells(told_of), source).outcome == "fetching"
        before = web.counts()
        using.fetch(web)
    added = web.added(before)
    assert added == {"reservations": 1}
    query = "SELECT status FROM reservations WHERE source_id = %s"
    assert web.value(query, source) == "cancelled"


@for_each()
def test_b47_a_stay_that_ends_earlier_while_its_guest_is_in_has_its_pin_shortened(
    web: Web, sender: Sender
) -> None:
    now = Stay(arrives=day(-2), leaves=day(6))
    shorter = Stay(now.number, now.arrives, day(3), at=now.at + timedelta(seconds=1))
    assert sender.post(web, sender.tells(earlier(now))).outcome == "accepted"
    stay = newest(web, sender)
    codes = "SELECT ends_at FROM access_codes WHERE reservation_id = %s"
    assert web.value(codes, stay["id"]) == stay["check_out_at"]
    assert sender.post(web, sender.tells(shorter)).outcome == "accepted"
    ends_at = stay["check_out_at"] - timedelta(days=3)
    assert web.value(codes, stay["id"]) == ends_at
    revoke = (
        "SELECT job.scheduled_at FROM procrastinate_jobs job JOIN operations ON job_id = job.id"
        " JOIN access_codes code ON code.id = access_code_id WHERE reservation_id = %s"
        " AND task_name = 'revoke_pin' AND status = 'todo'"
    )
    assert web.value(revoke, stay["id"]) == ends_at


NAMES = {
    "right-to-left": "\u202e\u05d7\u05e0\u05d4",
    "emoji": "\N{WOMAN}\u200d\N{GIRL}",
    "script": "<script>alert(1)</script>",
    "formula": "=cmd()",
    "line-break": "A\r\nSet-Cookie: a=b",
    "sql": "'; DROP TABLE reservations; --",
}


@for_each(but={"cloudbeds": "tells no guest: its API does, and is read as the others' are"})
def test_b48_a_guests_name_is_text_and_nothing_else(web: Web, sender: Sender) -> None:
    for name in (*NAMES.values(), "Ñ" * 10_000):
        assert sender.post(web, sender.tells(Stay(name=name))).outcome == "accepted"
        kept = newest(web, sender)
        assert kept["guest_name"] == name[: len(kept["guest_name"])]
        assert len(kept["guest_name"]) in (100, 200, len(name))
        door = "SELECT remote_name FROM access_codes WHERE reservation_id = %s"
        assert re.fullmatch("pq-[0-9a-f]{16}", web.value(door, kept["id"]))


@for_each(but={"cloudbeds": "tells no guest: its API does"})
def test_b49_a_phone_that_is_none_does_no_harm(web: Web, sender: Sender) -> None:
    for phone in ("N/A", "+0", "", "1" * 1000):
        assert sender.post(web, sender.tells(Stay(phone=phone))).outcome == "accepted"
        assert (newest(web, sender)["guest_phone"] or "") in (phone, "1" * 50)


@for_each()
def test_b50_an_address_in_an_event_is_never_fetched(web: Web, sender: Sender) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bait:
        url = f"http://127.0.0.1:{bait.getsockname()[1]}/latest/meta-data"
        event = sender.tells(Stay(name=url, phone=url)) | {"callback_url": url, "url": url}
        assert sender.post(web, event).status == 200
        bait.settimeout(0)
        with pytest.raises(BlockingIOError):
            bait.accept()


# 51 to 56: floods, outages and deaths


@pytest.fixture(scope="module")
def strict(web: Web) -> Iterator[Web]:
    """The same database through an application that takes six at once, and one in ten seconds."""
    with serving(web.database_url, source_rate=0.1) as strict:
        yield strict


@pytest.fixture(scope="module")
def wary(web: Web) -> Iterator[Web]:
    """The same, where six in ten seconds may prove nothing."""
    with serving(web.database_url, stranger_rate=0.6) as wary:
        yield wary


@for_each()
def test_b51_a_source_that_sends_too_much_is_asked_to_wait(strict: Web, sender: Sender) -> None:
    answers = [sender.post(strict, OTHER_EVENT | {"n": f"b51 {n}"}) for n in range(9)]
    assert [answer.status for answer in answers] == [200] * 6 + [429] * 3
    assert 0 < int(answers[-1].headers["retry-after"]) <= 10


@for_each()
def test_b52_what_proves_nothing_is_held_off_and_what_proves_itself_is_not(
    wary: Web, sender: Sender
) -> None:
    """From an address of its own for each sender, as a proxy on this machine tells it."""
    here = ("x-forwarded-for", f"192.0.2.{list(SENDERS).index(sender.kind)}")
    raw = as_bytes(sender.tells(Stay()))
    bad = [*sender.headers(raw, sender.other_secret).items(), here]
    statuses = [wary.post(raw, bad, sender.path(secret="x")).status for _ in range(9)]
    assert statuses == [401] * 6 + [429] * 3
    assert wary.post(raw, [*sender.headers(raw).items(), here], sender.path()).status == 200


@pytest.fixture(scope="module")
def wire(web: Web) -> Iterator[Wire]:
    """A way to their database, to be cut."""
    with closing(Wire(web.database_url)) as wire:
        yield wire


@pytest.fixture(scope="module")
def wired(web: Web, wire: Wire) -> Iterator[Web]:
    """The same database by a wire that can be cut."""
    with serving(web.database_url, through=wire.url) as wired:
        yield wired


@for_each()
def test_b53_without_a_database_twenty_senders_at_once_are_each_asked_to_come_again(
    wire: Wire, wired: Web, sender: Sender
) -> None:
    events = [sender.tells(Stay()) for _ in range(20)]
    wire.cut()
    with ThreadPoolExecutor(20) as senders:
        answers = list(senders.map(lambda event: sender.post(wired, event), events))
    wire.mend()
    for answer in answers:
        assert (told(answer), answer.headers["retry-after"]) == ((503, "unavailable"), "30")
        assert answer.seconds < 2.5  # 1.5, on a machine with nothing else to do
    assert [sender.post(wired, event).outcome for event in events] == ["accepted"] * 20


@for_each()
def test_b54_a_sender_that_hangs_up_before_the_answer_is_told_duplicate_next_time(
    web: Web, sender: Sender
) -> None:
    raw, before = as_bytes(sender.tells(Stay())), web.counts()
    sent = request(sender, raw)
    with psycopg.connect(web.database_url) as holder:
        holder.execute("LOCK TABLE audit_events IN SHARE MODE")  # what is written last waits
        with web.connect() as wire:
            wire.sendall(sent)
            web.wait_for_lock()
    until(lambda: web.added(before) == PLANNED, "it is committed")
    assert web.exchange(sent).outcome == "duplicate"
    assert web.added(before) == PLANNED


@for_each(
    but={
        "hostaway cloudbeds smoobu lodgify": "its events are known as those of stays are",
        "guesty": "its events are known as those of pinqueue are",
    }
)
def test_b55_killed_between_commit_and_answer_it_says_duplicate_next_time(
    web: Web, wire: Wire, sender: Sender, tmp_path: Path
) -> None:
    raw, before = as_bytes(sender.tells(Stay())), web.counts()
    headers = sender.headers(raw)
    with web_process(web.database_url, tmp_path / "log", through=wire.url) as (doomed, process):

        def kill_once_committed() -> None:
            until(lambda: web.added(before) == PLANNED, "it is committed")
            process.kill()

        wire.silent_after, wire.silent_for = b"COMMIT\0", b"pinqueue-web"
        with ThreadPoolExecutor(1) as other:
            other.submit(kill_once_committed)
            with pytest.raises(ConnectionError):
                doomed.post(raw, headers, sender.path())
    wire.mend()
    assert web.post(raw, headers, sender.path()).outcome == "duplicate"
    assert web.added(before) == PLANNED


@for_each()
def test_b56_a_query_is_ignored(web: Web, sender: Sender) -> None:
    raw = as_bytes(sender.tells(Stay()))
    path = f"{sender.path()}?pin=1234&secret={sender.secret}&source=other"
    assert web.post(raw, sender.headers(raw), path).outcome == "accepted"


def test_every_row_of_the_catalogue_is_here() -> None:
    rows = {int(row) for row in re.findall(r"b(\d\d)[-_]", Path(__file__).read_text())}
    assert rows == set(range(1, 57))
