"""No PIN leaves by accident: a thousand of them, and all that was logged and stored meanwhile."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import bcrypt
import pytest
import structlog
from sqlalchemy.exc import IntegrityError

from pinqueue import logs, reservations, sealing, store
from pinqueue.config import Settings
from pinqueue.db import Database
from pinqueue.errors import LockRefused
from pinqueue.lifecycle import ReservationStatus
from pinqueue.operations import Workbench
from pinqueue.pins import Pin
from pinqueue.reservations import Planner
from pinqueue.simulator import Control
from pinqueue.store import access_codes
from tests import factories
from tests.leaks import Recorder, dump, leaks
from tests.operating import (
    CREATE,
    LIST,
    ZIGBEE,
    a_worker,
    book,
    code_of,
    digits,
    operation_of,
    put_on_door,
    ring,
    until,
)
from tests.receiving import Receiver, receiving

pytestmark = pytest.mark.anyio

STAYS_OF_A_HOUSE = 10
"""As many PINs as a lock holds. Each stay has two locks, which want PINs of different lengths."""


@contextmanager
def everything_logged() -> Iterator[Recorder]:
    """Everything at DEBUG, also from the libraries that logs.py silences on purpose."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    loud = {name: logging.getLogger(name).level for name in (*logs._QUIET, "sqlalchemy", "psycopg")}
    logs.set_up(level="DEBUG")
    for name in loud:
        logging.getLogger(name).setLevel(logging.DEBUG)
    recorder = Recorder()
    root.handlers[:] = [recorder]
    try:
        yield recorder
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        for name, was in loud.items():
            logging.getLogger(name).setLevel(was)
        structlog.configure(**before)


async def build_houses(db: Database, doors: Control, houses: int) -> None:
    for number in range(houses):
        wifi, zigbee = f"wifi-{number}", f"zigbee-{number}"
        doors.add_door(wifi, "wifi")
        doors.add_door(zigbee, "zigbee")
        doors.state(wifi, asleep=False)
        await factories.add_listing(db, f"house-{number}", {wifi: "wifi", zigbee: "zigbee"})


async def add_endpoints(
    db: Database, planner: Planner, receiver: Receiver, trusted: Receiver
) -> None:
    await factories.add_endpoint(db, planner.sealer, receiver.url)
    await factories.add_endpoint(
        db,
        planner.sealer,
        trusted.url,
        name="trusted",
        events=("code.active", "code.revoked"),
        with_pin=True,
    )


async def all_are(db: Database, state: str) -> bool:
    states = await factories.rows(db, "SELECT DISTINCT state FROM access_codes")
    return states == [{"state": state}]


async def none_is_on_its_way(db: Database) -> bool:
    return not await factories.rows(db, "SELECT FROM deliveries WHERE state <> 'delivered' LIMIT 1")


async def tell_all(db: Database, planner: Planner, houses: int, status: ReservationStatus) -> None:
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=30)
    at_a_time = asyncio.Semaphore(5)

    async def tell(house: int) -> None:
        async with at_a_time, db.transaction() as session:
            now = await store.now(session)
            for number in range(STAYS_OF_A_HOUSE):
                told = factories.booking(
                    f"res-{house}-{number}",
                    listing_id=f"house-{house}",
                    check_in=start.isoformat(),
                    check_out=(start + timedelta(days=2)).isoformat(),
                    status=status,
                )
                await reservations.receive(session, planner, None, told, now)

    await asyncio.gather(*(tell(house) for house in range(houses)))


PATIENCE = 300.0
"""Seconds: a thousand PINs, on whatever machine this is."""


async def pins_of(db: Database, planner: Planner) -> set[str]:
    codes = await factories.rows(db, "SELECT id, pin_sealed FROM access_codes")
    return {planner.sealer.open_pin(c["id"], c["pin_sealed"]).digits() for c in codes}


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("houses", "endpoints"), [(5, True), pytest.param(50, False, marks=pytest.mark.slow)]
)
async def test_f22_no_pin_of_a_hundred_or_a_thousand_is_in_a_log_line_a_table_or_an_error(
    settings: Settings,
    planner: Planner,
    prompt: Control,
    monkeypatch: pytest.MonkeyPatch,
    houses: int,
    endpoints: bool,
) -> None:
    """Two endpoints are told of a hundred; to tell them of a thousand would take as long again as
    all the rest."""
    codes = 2 * STAYS_OF_A_HOUSE * houses
    monkeypatch.setattr(sealing, "BCRYPT_ROUNDS", 4)  # its cost is not the matter here
    settings = settings.model_copy(
        update={
            "tuya_grace": timedelta(seconds=1),
            "retry_backoff": timedelta(milliseconds=50),
            "retries": 20,
        }
    )
    with everything_logged() as recorder, receiving() as receiver, receiving() as trusted:
        db = Database(settings.database_url, pool_size=10)
        await build_houses(db, prompt, houses)
        if endpoints:
            await add_endpoints(db, planner, receiver, trusted)
        await tell_all(db, planner, houses, ReservationStatus.CONFIRMED)
        canaries = await pins_of(db, planner)
        # Failures tell most: of every kind, and with whatever the library that fails has to say.
        prompt.fault("code", CREATE, code=2322, times=4)
        prompt.fault("code", LIST, code=7777, times=4)
        prompt.fault("reset_after", CREATE, times=2)
        prompt.fault("http_500", CREATE, times=2)
        prompt.fault("truncated", LIST, times=2)
        async with a_worker(settings, concurrency=20):
            await until(lambda: all_are(db, "active"), seconds=PATIENCE, every=0.2)
            canaries |= await pins_of(db, planner)
            await until(lambda: none_is_on_its_way(db), seconds=PATIENCE, every=0.2)
            while_live = await dump(db)
            await tell_all(db, planner, houses, ReservationStatus.CANCELLED)
            await until(lambda: all_are(db, "revoked"), seconds=PATIENCE, every=0.2)
            await until(lambda: none_is_on_its_way(db), seconds=PATIENCE, every=0.2)
        afterwards = await dump(db)
        await db.close()
    assert {pin["pin"] for pin in prompt.ledger()} <= canaries, "these PINs were on the doors"
    assert len(canaries) > codes * 0.99
    assert leaks(while_live, canaries) == set()
    assert leaks(afterwards, canaries) == set()
    assert leaks(recorder.text(), canaries) == set()
    heard = {line.split(" ", 1)[0].split(".")[0] for line in recorder.lines}
    assert heard >= {"procrastinate", "sqlalchemy", "pinqueue"}, "all of them were listened to"
    if endpoints:
        no_endpoint_was_told_more_than_it_may_know(receiver, trusted, canaries, codes)


def no_endpoint_was_told_more_than_it_may_know(
    receiver: Receiver, trusted: Receiver, canaries: set[str], codes: int
) -> None:
    assert leaks(str([(one.headers, one.raw) for one in receiver.posted]), canaries) == set()
    assert len(receiver.posted) >= 3 * codes, "each was told of: planned, on its door, off it"
    told = {(body["type"], body["data"]["pin"]) for body in trusted.bodies()}
    revealed = {pin for kind, pin in told if kind == "code.active"}
    assert len(revealed) > codes / 2 * 0.99, "each stay has one PIN for a length"
    assert revealed <= canaries
    assert {pin for kind, pin in told if kind == "code.revoked"} == {None}


@pytest.mark.parametrize(
    "text",
    ["pin=480917", "4 8 0 9 1 7", "4-8-0-9-1-7", '{"pin": "480917"}', b"480917".hex(),
     base64.b64encode(b"480917").decode(), "\\x" + b"(7, 480917)".hex(), "INSERT (480917)"],
)  # fmt: skip
def test_a_pin_that_did_leak_would_be_found(text: str) -> None:
    assert leaks(f"before {text} after", {"480917", "806135"}) == {"480917"}


@pytest.mark.parametrize("text", ["12:00:00.480917+00", "1480917", "pq-0a480917ff", "v0.480917"])
def test_what_is_no_pin_is_not_taken_for_one(text: str) -> None:
    assert leaks(text, {"480917"}) == set()


@pytest.mark.parametrize("after", ["", "\x00", "\x1b"], ids=["plain", "nul", "escape"])
async def test_a_vendor_that_quotes_the_pin_in_its_answer_is_recorded_without_it(
    bench: Workbench, doors: Control, after: str
) -> None:
    await book(bench)
    pin = digits(bench, await code_of(bench))
    doors.fault("code", CREATE, code=2008, msg=f"password {pin} is not\nsupported{after}")
    assert isinstance(await ring(bench, "generate"), LockRefused)
    operation = await operation_of(bench, "generate")
    assert operation.last_error is not None
    assert operation.last_error.endswith("(Tuya 2008: password *** is not supported)")
    assert leaks(await dump(bench.db), [pin]) == set()


async def test_an_error_at_the_database_does_not_print_the_row_it_failed_on(
    bench: Workbench,
) -> None:
    code = await book(bench)
    pin = digits(bench, code)
    row = {
        "id": code.id,
        "reservation_id": code.reservation_id,
        "lock_id": code.lock_id,
        "starts_at": code.starts_at,
        "ends_at": code.ends_at,
        "remote_name": "pq-other",
        "pin_sealed": bench.planner.sealer.seal_pin(code.id, Pin(pin)),
        "pin_fingerprint": b"another",
    }
    with pytest.raises(IntegrityError) as caught:
        async with bench.db.transaction() as session:
            await access_codes.insert_codes(session, [row])
    assert leaks(str(caught.value) + repr(caught.value), {pin}) == set()
    assert "hidden" in str(caught.value)


def guesses(pin: str, code: dict[str, Any]) -> Iterator[bytes]:
    """What somebody with the database and the source code, and no key, can compute of a PIN."""
    ids = (str(code["id"]), code["lock_id"], code["remote_name"], code["reservation_id"])
    texts = [pin, *(f"{a}{sep}{pin}" for a in ids for sep in ("", ":", "\0", "\n"))]
    texts += [f"access_code:{code['id']}\n{pin}"]
    texts += [f"pin-fingerprint\0{code['lock_id']}\0{pin}", f"pin-hash\0{code['id']}\0{pin}"]
    for text in texts:
        plain = text.encode()
        yield plain
        for name in ("md5", "sha1", "sha256", "sha512", "blake2b"):
            yield hashlib.new(name, plain).digest()
        for key in (b"", b"\0", *(part.encode() for part in ids)):
            yield hmac.digest(key, plain, "sha256")


def stored(row: dict[str, Any]) -> list[bytes]:
    """Every column as bytes, also read as hex or base64."""
    values = []
    for value in row.values():
        raw = bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
        values.append(raw)
        for decode in (bytes.fromhex, base64.b64decode):
            try:
                values.append(decode(raw.decode()))
            except ValueError:
                continue
    return values


def shapes(guess: bytes) -> set[bytes]:
    return {guess, guess.hex().encode(), base64.b64encode(guess)}


async def test_without_the_keys_no_stored_column_gives_a_pin_away(
    bench: Workbench, prompt: Control
) -> None:
    """Trying all PINs finds the true one where, and only where, the true one gives what is stored:
    so the true one is tried, in every way we can think of, instead of a million wrong ones."""
    code = await put_on_door(bench, prompt)
    pin = digits(bench, code)
    (row,) = await factories.rows(bench.db, "SELECT * FROM access_codes")
    columns = stored(row)
    for guess in guesses(pin, row):
        assert not any(shape in column for shape in shapes(guess) for column in columns)
    unpeppered = hmac.digest(b"", f"pin-hash\0{code.id}\0{pin}".encode(), "sha256")
    for guess in (pin.encode(), base64.b64encode(unpeppered), base64.b64encode(pin.encode())):
        assert not bcrypt.checkpw(guess, row["pin_hash"].encode())


async def test_with_the_pepper_the_same_search_does_find_the_pin(
    bench: Workbench, prompt: Control
) -> None:
    """Shows that the search above looks in the right place."""
    code = await put_on_door(bench, prompt)
    (row,) = await factories.rows(bench.db, "SELECT * FROM access_codes")
    fingerprint = bench.planner.sealer.fingerprint(ZIGBEE, Pin(digits(bench, code)))
    assert any(fingerprint in column for column in stored(row))


async def test_no_pin_of_a_million_is_in_any_column_of_any_table_nor_its_plain_hash(
    bench: Workbench, prompt: Control
) -> None:
    """The whole space of six digits, against all that a dump holds. A whole number is no PIN."""
    await put_on_door(bench, prompt)
    named = "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'"
    tables = [row["name"] for row in await factories.rows(bench.db, named)]
    found = [await factories.rows(bench.db, f'SELECT * FROM "{name}"') for name in tables]
    texts = [
        {name: value for name, value in row.items() if type(value) is not int}
        for rows in found
        for row in rows
    ]
    columns = {value for row in texts for value in stored(row)}
    assert len(columns) > 50
    md5, sha256 = hashlib.md5, hashlib.sha256
    assert not any(
        (pin := b"%06d" % number) in columns
        or md5(pin).digest() in columns
        or sha256(pin).digest() in columns
        or hmac.digest(b"", pin, "sha256") in columns
        for number in range(1_000_000)
    )


async def test_the_arguments_of_jobs_are_ids_and_the_audit_speaks_of_no_pin(
    bench: Workbench, prompt: Control
) -> None:
    await put_on_door(bench, prompt)
    args = await factories.rows(bench.db, "SELECT args FROM procrastinate_jobs")
    assert all(list(row["args"]) == ["operation_id"] for row in args)
    detail = await factories.rows(bench.db, "SELECT detail FROM audit_events")
    assert "pin" not in json.dumps([row["detail"] for row in detail])
    assert (await code_of(bench)).state == "active"
