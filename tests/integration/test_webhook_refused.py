"""The bad-input catalogue, what is refused: each answer, and that nothing is stored.

The number in a test's id is the row of the catalogue that it holds.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from pinqueue import inventory
from tests import factories
from tests.serving import Answer, Header, Web, sign, web_process

Post = Callable[[Web], Answer]
OTHERS_SECRET = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


@dataclass(frozen=True)
class Case:
    id: str
    status: int
    code: str
    post: Post


CASES: list[Case] = []


def case(id: str, status: int, code: str, post: Post) -> None:
    CASES.append(Case(id, status, code, post))


def body() -> bytes:
    return json.dumps(factories.event(f"res-{uuid4().hex}")).encode()


def headers(**changes: str | None) -> dict[str, str]:
    """The headers of a good event; None leaves one out. The signature fits `BODY`."""
    changed = {
        **sign(BODY, f"msg_{uuid4().hex}"),
        **{k.replace("_", "-"): v for k, v in changes.items()},
    }
    return {name: value for name, value in changed.items() if value is not None}


BODY = body()


def to(path: str, method: str = "POST") -> Post:
    return lambda web: web.post(BODY, headers(), path, method)


def with_headers(**changes: str | None) -> Post:
    return lambda web: web.post(BODY, headers(**changes))


def with_signature(make: Callable[[str], str | bytes]) -> Post:
    def post(web: Web) -> Answer:
        good = headers()
        signature = make(good.pop("webhook-signature"))
        return web.post(BODY, [*good.items(), ("webhook-signature", signature)])

    return post


def with_body(raw: bytes) -> Post:
    """Signed by the right secret, whatever it is."""
    return lambda web: web.post(raw, sign(raw, f"msg_{uuid4().hex}"))


def id_is(event_id: str) -> Post:
    """Signed as it is, so that only its form speaks against it."""
    return lambda web: web.post(BODY, sign(BODY, event_id))


def time_is(written: Callable[[str], str]) -> Post:
    """Signed as it is written, from the digits of this very second."""

    def post(web: Web) -> Answer:
        now = str(int(datetime.now(UTC).timestamp()))
        return web.post(BODY, sign(BODY, f"msg_{uuid4().hex}", timestamp=written(now)))

    return post


def late(seconds: int) -> Post:
    at = timedelta(seconds=seconds)
    return lambda web: web.post(BODY, sign(BODY, f"msg_{uuid4().hex}", at=datetime.now(UTC) + at))


def changed(change: Callable[[bytes], bytes]) -> Post:
    return lambda web: web.post(change(BODY), headers())


def twice(name: str) -> Post:
    def post(web: Web) -> Answer:
        good: list[Header] = list(headers().items())
        return web.post(BODY, [*good, *(pair for pair in good if pair[0] == name)])

    return post


def other_time(web: Web) -> Answer:
    good = headers()
    return web.post(BODY, {**good, "webhook-timestamp": str(int(good["webhook-timestamp"]) - 1)})


def other_secret(web: Web) -> Answer:
    return web.post(BODY, sign(BODY, secret=OTHERS_SECRET))


for method in ("GET", "PUT", "HEAD", "OPTIONS", "PATCH", "DELETE"):
    case(f"6-{method}", 405, "method_not_allowed", to("/webhooks/main", method))
for name, path in {
    "unknown": "/webhooks/nobody",
    "nul": "/webhooks/%00",
    "not-utf-8": "/webhooks/%ff%fe",
    "too-long": "/webhooks/" + "a" * 9000,
    "newline": "/webhooks/main%0A",
}.items():
    case(f"7-{name}", 404, "unknown_source", to(path))
case("7-deeper", 404, "unknown_source", to("/webhooks/main/x"))
case("7-no-source", 404, "not_found", to("/webhooks/"))
for name, content_type in {
    "missing": None,
    "text": "text/plain",
    "form": "application/x-www-form-urlencoded",
    "multipart": "multipart/form-data; boundary=x",
    "json-like": "application/jsonx",
    "empty": "",
}.items():
    case(f"9-{name}", 415, "unsupported_media_type", with_headers(content_type=content_type))
for charset in ("utf-16", "latin-1", "utf-8; charset=utf-16"):
    content_type = f"application/json; charset={charset}"
    case(f"10-{charset}", 415, "unsupported_media_type", with_headers(content_type=content_type))
for coding in ("gzip", "br", "gzip, identity"):
    case(f"11-{coding}", 415, "unsupported_encoding", with_headers(content_encoding=coding))
BOMB = gzip.compress(bytes(50_000_000))
case(
    "11-bomb",
    415,
    "unsupported_encoding",
    lambda web: web.post(BOMB, {**sign(BOMB), "content-encoding": "gzip"}),
)
case(
    "12-unsigned",
    401,
    "unauthorized",
    lambda web: web.post(b"", {"content-type": "application/json"}),
)
case("12-signed", 400, "invalid_json", with_body(b""))
case("13-one-byte-more", 413, "body_too_large", with_body(b" " * (256 * 1024 + 1)))
for name, event_id in {
    "empty": "",
    "129-characters": "a" * 129,
    "dot": "msg.1",
    "space": "msg 1",
    "emoji": "msg_\N{GRINNING FACE}",
    "tab": "msg\t1",
}.items():
    case(f"18-{name}", 401, "unauthorized", id_is(event_id))
case("18-missing", 401, "unauthorized", with_headers(webhook_id=None))
for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
    case(f"19-{name}", 401, "unauthorized", twice(name))
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
for name, written in TIMES.items():
    case(f"20-{name}", 401, "unauthorized", time_is(written))
case("20-missing", 401, "unauthorized", with_headers(webhook_timestamp=None))
for seconds in (-301, 302, -86400):
    case(f"21-{seconds:+}-s", 401, "unauthorized", late(seconds))
SIGNATURES: dict[str, Callable[[str], str | bytes]] = {
    "empty": lambda good: "",
    "nothing-after-v1": lambda good: "v1,",
    "first-8-characters": lambda good: good[: len("v1,") + 8],
    "no-comma": lambda good: good.replace(",", ""),
    "two-commas": lambda good: good + ",",
    "bad-base64": lambda good: "v1,!!!!=",
    "non-ascii": lambda good: "v1,\N{SNOWMAN}".encode(),
    "not-utf-8": lambda good: b"v1,\xff\xfe",
    "10-kB": lambda good: good + " " + "v1," + "A" * 10_000,
    "5000-tokens": lambda good: "v1, " * 2_500 + good,
    "eleventh-token": lambda good: "v1,AAAA " * 10 + good,
    "one-character-changed": lambda good: good[:-3] + ("A" if good[-3] != "A" else "B") + good[-2:],
    "other-version": lambda good: good.replace("v1,", "v2,"),
    "upper-case-version": lambda good: good.replace("v1,", "V1,"),
}
for name, make in SIGNATURES.items():
    case(f"22-{name}", 401, "unauthorized", with_signature(make))
case("22-missing", 401, "unauthorized", with_headers(webhook_signature=None))
case("24", 401, "unauthorized", with_signature(lambda good: good.replace("v1,", "v1a,")))
case("26", 401, "unauthorized", other_secret)
CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "one-byte": lambda raw: raw.replace(b"Ana", b"Anb"),
    "re-serialised": lambda raw: json.dumps(json.loads(raw), separators=(",", ":")).encode(),
    "added-newline": lambda raw: raw + b"\n",
    "cut": lambda raw: raw[:-1],
    "empty": lambda raw: b"",
}
for name, change in CHANGES.items():
    case(f"27-{name}", 401, "unauthorized", changed(change))
case("28-id", 401, "unauthorized", with_headers(webhook_id="msg_another"))
case("28-timestamp", 401, "unauthorized", other_time)
case("29", 401, "unauthorized", with_body(body().replace(b"Ana", b"An\xff")))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_refused_and_nothing_stored(untouched: Web, case: Case) -> None:
    answer = case.post(untouched)
    assert answer.status == case.status
    assert len(answer.headers["x-request-id"]) == 16
    if not case.id.startswith("6-HEAD"):
        assert answer.outcome == case.code
    if case.status == 401:
        assert answer.json() == {"error": "unauthorized"}
    if case.status == 405:
        assert answer.headers["allow"] == "POST"


def test_18_the_longest_event_id_is_taken(shared_web: Web) -> None:
    assert shared_web.tell(factories.event("res-18"), event_id="a" * 128).status == 200


def test_8_a_source_that_is_switched_off_is_asked_to_come_again(web: Web) -> None:
    web.execute("UPDATE sources SET enabled = false")
    before = web.counts()
    answer = web.tell(factories.event())
    assert (answer.status, answer.outcome) == (503, "source_disabled")
    assert int(answer.headers["retry-after"]) > 0
    assert web.counts() == before


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
