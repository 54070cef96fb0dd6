"""Calls to a cloud that misbehaves: each answer is scripted, byte by byte where it matters."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pinqueue.config import TUYA_REGIONS
from pinqueue.errors import (
    ConfigInvalid,
    LockBusy,
    LockError,
    LockFaulted,
    LockRefused,
    LockUnreachable,
)
from pinqueue.locks import Delivery, Door, Window
from pinqueue.locks.tuya import TuyaGateway
from pinqueue.pins import Pin
from pinqueue.simulator.certificates import certificate_for
from pinqueue.simulator.tickets import make_ticket_key

ID = "1KAD46OrT9HafiKdsXeg"
SECRET = "4OHBOnWOqaEC1mWXOpVL3yV50s0qGSRC"
TOKEN = "c0ffee00c0ffee00c0ffee00c0ffee00"
SESSION_KEY = bytes.fromhex("feedfacefeedfacefeedfacefeedface")
TICKET = {
    "ticket_id": "w2mA7CbZ",
    "ticket_key": make_ticket_key(SESSION_KEY, SECRET),
    "expire_time": 300,
}
PIN = Pin("8061357")
DOOR = Door("door1", "wifi")
NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)
WINDOW = Window(NOON, NOON + timedelta(days=2))
ITEM: dict[str, Any] = {
    "id": 2**31 + 7,
    "name": "pq-1",
    "phase": 2,
    "effective_time": int(WINDOW.starts_at.timestamp()),
    "invalid_time": int(WINDOW.ends_at.timestamp()),
}


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    head: str = field(repr=False)
    body: bytes = field(repr=False)


Speak = Callable[[asyncio.StreamWriter], Awaitable[None]]
Script = Callable[[Asked], object]
"""What to answer: a `Speak` has the connection to itself, bytes are a body, the rest is JSON."""


def ok(result: object) -> dict[str, object]:
    return {"success": True, "result": result, "t": 1, "tid": "0" * 32}


def refused(code: int, msg: str = "msg") -> dict[str, object]:
    return {"success": False, "code": code, "msg": msg, "t": 1, "tid": "0" * 32}


def well(asked: Asked) -> dict[str, object]:
    """The answer of a cloud in good health."""
    if asked.path.startswith("/v1.0/token"):
        return ok({"access_token": TOKEN, "expire_time": 7200})
    if asked.path.endswith("/password-ticket"):
        return ok(TICKET)
    if asked.path.endswith("/temp-passwords"):
        return ok([])
    return ok({"id": 2**31 + 7}) if asked.path.endswith("/temp-password") else ok(True)


def but(ending: str, answer: object) -> Script:
    """In good health, but for the paths that end so."""
    return lambda asked: answer if asked.path.endswith(ending) else well(asked)


def http(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def raw(*pieces: bytes) -> Speak:
    """These bytes as they are, and then the end of the connection."""

    async def speak(writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(pieces))
        await writer.drain()
        writer.close()

    return speak


def drip(start: bytes) -> Speak:
    """These bytes, and then one more every 20 ms for ever."""

    async def speak(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    return speak


async def silence(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def cloud(
    script: Script, *, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[tuple[TuyaGateway, list[Asked]]]:
    """A scripted cloud, a gateway before it, and what the one was asked by the other."""
    asked: list[Asked] = []
    serving: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := (await reader.readuntil(b"\r\n\r\n")).decode():
            method, path, _ = head.split("\r\n")[0].split(" ")
            sizes = [line for line in head.lower().split("\r\n") if line.startswith("content-len")]
            body = await reader.readexactly(int(sizes[0].split(":")[1]) if sizes else 0)
            asked.append(Asked(method, path, head, body))
            answer = script(asked[-1])
            if callable(answer):
                await answer(writer)
                break
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            writer.write(http(content))
            await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        serving.add(task)
        try:
            await converse(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass
        finally:
            serving.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    scheme = "https" if tls else "http"
    defaults = {"region": "eu", "access_id": ID, "access_secret": SECRET, "timeout": 5.0}
    where = {"url": f"{scheme}://127.0.0.1:{port}"}
    gateway = TuyaGateway(**{**defaults, **where, **options})
    try:
        yield gateway, asked
    finally:
        await gateway.close()
        server.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await server.wait_closed()


def listed(result: object) -> Any:
    async def main() -> object:
        async with cloud(but("/temp-passwords", ok(result))) as (gateway, _):
            return await gateway.list_pins(DOOR)

    return asyncio.run(main())


def failing(
    script: Script, act: Callable[[TuyaGateway], Awaitable[object]], **options: Any
) -> LockError:
    async def main() -> None:
        async with cloud(script, **options) as (gateway, _):
            await act(gateway)

    with pytest.raises(LockError) as caught:
        asyncio.run(main())
    return caught.value


async def create(gateway: TuyaGateway) -> object:
    return await gateway.create_pin(DOOR, "pq-1", PIN, WINDOW)


async def look(gateway: TuyaGateway) -> object:
    return await gateway.list_pins(DOOR)


async def until_asked(asked: list[Asked], times: int) -> None:
    while len(asked) < times:  # noqa: ASYNC110  # the list is all there is to watch
        await asyncio.sleep(0.001)


# Lists


def test_a_list_may_come_inside_an_object() -> None:
    [pin] = listed({"list": [ITEM], "total": 1, "has_more": False})
    assert (pin.remote_id, pin.window, pin.delivery) == (ITEM["id"], WINDOW, Delivery.ON_DOOR)


def test_an_item_may_call_its_id_password_id_and_write_numbers_as_text() -> None:
    item = {k: v for k, v in ITEM.items() if k != "id"} | {"password_id": "77", "phase": "2"}
    [pin] = listed([item])
    assert (pin.remote_id, pin.delivery) == (77, Delivery.ON_DOOR)


def test_times_in_milliseconds_are_the_same_window() -> None:
    times = {k: ITEM[k] * 1000 for k in ("effective_time", "invalid_time")}
    [pin] = listed([ITEM | times])
    assert pin.window == WINDOW


@pytest.mark.parametrize(
    "result",
    [
        None,
        True,
        "",
        7,
        {},
        {"list": None},
        {"list": [ITEM], "has_more": True},
        {"list": [ITEM], "total": 2},
        [ITEM, None],
        [ITEM, {}],
        [ITEM | {"id": True}],
        [ITEM | {"effective_time": None}],
        [ITEM | {"invalid_time": "tomorrow"}],
        [ITEM | {"invalid_time": -(10**30)}],
    ],
)
def test_a_list_that_cannot_be_read_whole_is_a_fault_and_not_an_empty_lock(result: object) -> None:
    with pytest.raises(LockFaulted, match="list of PINs"):
        listed(result)


# Answers that are none

NONSENSE = [b"", b"null", b"[]", b"7", b"{}", b'{"success": 1}', b"<html>", b"\xff", b"[" * 9999]


@pytest.mark.parametrize("body", NONSENSE, ids=lambda body: repr(body[:12]))
def test_an_answer_without_tuyas_envelope_is_no_answer(body: bytes) -> None:
    error = failing(but("/temp-password", body), create)
    assert (type(error), error.in_doubt) == (LockUnreachable, True)


def test_an_endless_answer_is_not_read_to_its_end() -> None:
    endless = raw(http(b" " * (3 << 20)))
    assert isinstance(failing(but("/temp-passwords", endless), look), LockUnreachable)


def test_a_redirect_is_not_followed() -> None:
    async def main() -> list[Asked]:
        elsewhere = raw(http(b"", "307 Temporary Redirect", "Location: /v1.0/elsewhere\r\n"))
        async with cloud(but("/temp-passwords", elsewhere)) as (gateway, asked):
            with pytest.raises(LockUnreachable, match="HTTP 307"):
                await look(gateway)
            return asked

    assert [ask.path for ask in asyncio.run(main())][1:] == [
        "/v1.0/devices/door1/door-lock/temp-passwords"
    ]


@pytest.mark.parametrize("result", [None, {}, {"id": None}, {"id": True}, [1], True])
def test_a_create_that_succeeds_without_an_id_is_in_doubt(result: object) -> None:
    error = failing(but("/temp-password", ok(result)), create)
    assert (type(error), error.in_doubt) == (LockFaulted, True)


@pytest.mark.parametrize("change", [{"ticket_id": None}, {"ticket_key": "zz"}, {"ticket_key": 1}])
def test_a_ticket_that_is_none_is_a_fault(change: dict[str, object]) -> None:
    error = failing(but("/password-ticket", ok(TICKET | change)), create)
    assert (type(error), error.in_doubt) == (LockFaulted, False)


def test_a_ticket_that_does_not_open_means_a_wrong_secret() -> None:
    other = TICKET | {"ticket_key": make_ticket_key(SESSION_KEY, "x" * 32)}
    error = failing(but("/password-ticket", ok(other)), create)
    assert isinstance(error, LockRefused)
    assert "PINQUEUE_TUYA_ACCESS_SECRET" in str(error)


@pytest.mark.parametrize("result", [None, {}, {"access_token": "a\r\nb", "expire_time": 1}, True])
def test_a_token_answer_without_a_token_is_a_fault(result: object) -> None:
    def script(asked: Asked) -> object:
        return ok(result) if asked.path.startswith("/v1.0/token") else well(asked)

    assert isinstance(failing(script, look), LockFaulted)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("999999999", 300),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("soon", None),
        ("", None),
    ],
)
def test_http_429_is_busy_for_as_long_as_it_says_within_reason(
    header: str, seconds: float | None
) -> None:
    busy = raw(http(b"", "429 Too Many Requests", f"Retry-After: {header}\r\n"))
    error = failing(but("/temp-password", busy), create)
    assert isinstance(error, LockBusy)
    assert (error.code, error.retry_after, error.in_doubt) == ("429", seconds, False)


# Time


@pytest.mark.parametrize(
    "slow",
    [silence, drip(b""), drip(b"HTTP/1.1 200 OK\r\nX: "), drip(b"HTTP/1.1 200 OK\r\n\r\n")],
    ids=["silence", "dripping status", "dripping header", "dripping body"],
)
def test_a_call_ends_in_time_however_slowly_the_cloud_speaks(slow: Speak) -> None:
    started = time.monotonic()
    error = failing(but("/temp-password", slow), create, timeout=0.4)
    assert time.monotonic() - started < 1.5
    assert (type(error), error.in_doubt) == (LockUnreachable, True)


def test_slow_tokens_tickets_and_creates_share_one_deadline() -> None:
    def script(asked: Asked) -> object:
        async def late(writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.25)
            writer.write(http(json.dumps(well(asked)).encode()))
            await silence(writer)

        return late

    started = time.monotonic()
    error = failing(script, create, timeout=0.6)
    assert time.monotonic() - started < 1.5
    assert isinstance(error, LockUnreachable)


def test_calls_that_ran_out_of_time_leave_the_connections_to_others() -> None:
    def script(asked: Asked) -> object:
        slow = asked.path.endswith("/temp-passwords") and "/slow/" in asked.path
        return silence if slow else well(asked)

    async def main() -> object:
        async with cloud(script, concurrency=2, timeout=0.4) as (gateway, _):
            slow = [gateway.list_pins(Door("slow", "wifi")) for _ in range(2)]
            outcomes = await asyncio.gather(*slow, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {LockUnreachable}
            return await look(gateway)

    assert asyncio.run(main()) == []


def test_a_cancelled_call_sends_nothing_more() -> None:
    async def main() -> list[Asked]:
        async with cloud(but("/password-ticket", silence)) as (gateway, asked):
            creating = asyncio.create_task(create(gateway))
            await until_asked(asked, 2)
            creating.cancel()
            with pytest.raises(asyncio.CancelledError):
                await creating
            await look(gateway)
            return asked

    paths = [ask.path.rsplit("/", 1)[1] for ask in asyncio.run(main())]
    assert paths == ["token?grant_type=1", "password-ticket", "temp-passwords"]


def test_as_many_calls_as_allowed_are_under_way_at_once() -> None:
    async def main() -> list[object]:
        gate = asyncio.Barrier(5)

        def script(asked: Asked) -> object:
            async def together(writer: asyncio.StreamWriter) -> None:
                await gate.wait()
                writer.write(http(json.dumps(ok([])).encode()))
                await silence(writer)

            return together if asked.path.endswith("/temp-passwords") else well(asked)

        async with cloud(script, concurrency=5) as (gateway, _):
            return await asyncio.gather(*(look(gateway) for _ in range(5)))

    assert asyncio.run(main()) == [[]] * 5


def test_a_call_that_finds_no_free_connection_is_asked_for_patience_and_sends_nothing() -> None:
    async def main() -> tuple[object, list[Asked]]:
        async with cloud(but("/temp-passwords", silence), concurrency=1) as (gateway, asked):
            first = asyncio.create_task(look(gateway))
            await until_asked(asked, 2)
            gateway._cloud._timeout = 0.3
            with pytest.raises(LockBusy):
                await gateway.delete_pin(DOOR, 1)
            first.cancel()
            return await asyncio.gather(first, return_exceptions=True), asked

    assert [ask.method for ask in asyncio.run(main())[1]] == ["GET", "GET"]


# Connections


def test_a_cloud_that_is_not_there_is_unreachable_and_leaves_no_doubt() -> None:
    error = failing(well, create, url="http://127.0.0.1:9")
    assert (type(error), error.in_doubt) == (LockUnreachable, False)


def test_a_name_that_does_not_resolve_is_unreachable_and_leaves_no_doubt() -> None:
    error = failing(well, create, url="https://no-such-host.invalid")
    assert (type(error), error.in_doubt) == (LockUnreachable, False)


def test_tls_to_a_server_that_has_none_is_unreachable_and_leaves_no_doubt() -> None:
    async def main() -> None:
        async with cloud(well) as (plain, _):
            url = str(plain._cloud._base.copy_with(scheme="https"))
            async with cloud(well, url=url, timeout=1) as (gateway, _):
                await create(gateway)

    with pytest.raises(LockUnreachable) as caught:
        asyncio.run(main())
    assert not caught.value.in_doubt


def test_one_connection_serves_many_calls() -> None:
    async def main() -> int:
        ends: set[object] = set()

        def script(asked: Asked) -> object:
            ends.add(asyncio.current_task())
            return well(asked)

        async with cloud(script) as (gateway, _):
            for _ in range(5):
                await look(gateway)
        return len(ends)

    assert asyncio.run(main()) == 1


def test_no_proxy_of_the_environment_comes_between(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert listed([]) == []


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    return certificate_for(["localhost"], tmp_path)


def look_over_tls(certificate: tuple[Path, Path], host: str, **options: Any) -> object:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)

    async def main() -> object:
        async with cloud(well, tls=tls) as (there, _):
            url = str(there._cloud._base.copy_with(host=host))
            async with cloud(well, url=url, **options) as (gateway, _):
                return await look(gateway)

    return asyncio.run(main())


def test_a_certificate_named_in_ca_is_trusted(certificate: tuple[Path, Path]) -> None:
    assert look_over_tls(certificate, "localhost", ca=str(certificate[0])) == []


def test_a_certificate_for_another_host_is_not_trusted(certificate: tuple[Path, Path]) -> None:
    with pytest.raises(LockUnreachable, match="certificate"):
        look_over_tls(certificate, "127.0.0.1", ca=str(certificate[0]))


def test_a_certificate_nobody_vouches_for_is_not_trusted(certificate: tuple[Path, Path]) -> None:
    with pytest.raises(LockUnreachable, match="certificate"):
        look_over_tls(certificate, "localhost")


# Tokens


def tokens_asked(asked: list[Asked]) -> int:
    return sum(1 for ask in asked if ask.path.startswith("/v1.0/token"))


@pytest.mark.parametrize(("seconds_left", "asked_for"), [(7200, 1), (60, 3), (0, 3)])
def test_a_token_is_renewed_a_minute_before_its_end(seconds_left: int, asked_for: int) -> None:
    def script(asked: Asked) -> object:
        token = {"access_token": TOKEN, "expire_time": seconds_left}
        return ok(token) if asked.path.startswith("/v1.0/token") else well(asked)

    async def main() -> int:
        async with cloud(script) as (gateway, asked):
            for _ in range(3):
                await look(gateway)
            return tokens_asked(asked)

    assert asyncio.run(main()) == asked_for


def test_one_renewal_serves_all_callers() -> None:
    async def main() -> int:
        async with cloud(well) as (gateway, asked):
            await asyncio.gather(*(look(gateway) for _ in range(8)))
            return tokens_asked(asked)

    assert asyncio.run(main()) == 1


def test_a_caller_who_gives_up_renewing_does_not_hold_up_the_others() -> None:
    first = True

    def script(asked: Asked) -> object:
        nonlocal first
        hang, first = first and asked.path.startswith("/v1.0/token"), False
        return silence if hang else well(asked)

    async def main() -> object:
        async with cloud(script) as (gateway, asked):
            renewing = asyncio.create_task(look(gateway))
            await until_asked(asked, 1)
            waiting = asyncio.create_task(look(gateway))
            await asyncio.sleep(0)
            renewing.cancel()
            return await waiting

    assert asyncio.run(main()) == []


def test_tokens_refused_for_ever_end_the_call() -> None:
    error = failing(but("/temp-password", refused(1010, "token is expired")), create)
    assert (type(error), error.code, error.in_doubt) == (LockUnreachable, "1010", False)


# Settings


def test_an_unknown_region_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigInvalid, match=", ".join(TUYA_REGIONS)):
        TuyaGateway(region="mars", access_id=ID, access_secret=SECRET)


@pytest.mark.parametrize("secret", ["", "short", SECRET + "x", SECRET[:-1] + "\n", "é" * 32])
def test_a_secret_that_cannot_be_one_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ConfigInvalid, match="32 characters") as caught:
        TuyaGateway(region="eu", access_id=ID, access_secret=secret)
    assert not secret or secret not in str(caught.value)


def test_a_ca_file_without_certificates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(ConfigInvalid, match="PINQUEUE_TUYA_CA"):
        TuyaGateway(region="eu", access_id=ID, access_secret=SECRET, ca=str(tmp_path / "empty.pem"))


# Secrets


SECRETS = [SECRET, TOKEN, str(TICKET["ticket_key"]), SESSION_KEY.hex(), PIN.digits()]


def said(error: BaseException) -> str:
    """Everything an error reporter could show of it."""
    shown = "".join(traceback.format_exception(error)) + repr(error.__dict__)
    for deeper in (error.__context__, error.__cause__):
        if deeper is not None:
            shown += said(deeper)
    return shown


@pytest.mark.parametrize(
    "answer",
    [ok({"id": 7}), refused(1004), refused(9999), b"<html>", raw(b""), raw(b"HTTP/1.1"), silence],
    ids=["ok", "1004", "9999", "html", "reset", "cut", "silence"],
)
def test_no_secret_reaches_a_log_line_or_an_error_even_at_debug(
    answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    passwords: list[str] = []

    async def main() -> str:
        async with cloud(but("/temp-password", answer), timeout=0.4) as (gateway, asked):
            try:
                await create(gateway)
            except LockError as error:
                return said(error)
            finally:
                passwords.append(json.loads(asked[-1].body)["password"])
            return ""

    shown = asyncio.run(main()) + "".join(record.getMessage() for record in caplog.records)
    assert "httpcore2" in {record.name.split(".")[0] for record in caplog.records}
    assert len(passwords[0]) == 32
    assert [s for s in [*SECRETS, *passwords] if s.lower() in shown.lower()] == []


def test_no_error_carries_the_request_behind_it() -> None:
    for answer in (raw(b""), silence, b"{"):
        error = failing(but("/temp-password", answer), create, timeout=0.4)
        assert error.__cause__ is None
        assert error.__context__ is None


def test_the_access_secret_is_not_sent_and_the_token_call_is_signed() -> None:
    async def main() -> list[Asked]:
        async with cloud(well) as (gateway, asked):
            await create(gateway)
            return asked

    sent = asyncio.run(main())
    assert all("\r\nsign: " in ask.head.lower() for ask in sent)
    assert not any(SECRET in ask.head or SECRET.encode() in ask.body for ask in sent)
