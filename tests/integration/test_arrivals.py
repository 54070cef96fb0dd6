"""New stays that are told at once: few transactions, the same rows, each for itself."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pinqueue.arrivals import Arrival, Arrivals
from pinqueue.db import Database
from pinqueue.lifecycle import ReservationStatus
from pinqueue.lines import WEB_LIMITS
from pinqueue.reservations import Planner
from pinqueue.store import arrivals as rows
from pinqueue.store import neighbours
from tests import factories
from tests.receiving import Receiver

pytestmark = pytest.mark.anyio

STAYS = 12


@dataclass(frozen=True)
class Web:
    """A web process, and the version of the source `main` that it saw."""

    arrivals: Arrivals
    version: str


@pytest.fixture
async def arrivals(db: Database, planner: Planner, database_url: str) -> AsyncIterator[Web]:
    """There are a source and a dozen listings."""
    await factories.add_source(db, planner.sealer)
    for number in range(STAYS):
        await factories.add_listing(db, f"apt-{number}", {f"lock{number}": "zigbee"})
    web = Database(database_url, limits=WEB_LIMITS)
    yield Web(Arrivals(web, planner), await factories.value(db, "SELECT xmin::text FROM sources"))
    await web.close()


def arrival(number: int, **changes: Any) -> Arrival:
    own = {"reservation_id": f"res-{number}", "listing_id": f"apt-{number}"}
    told = factories.booking(**{**own, **changes})
    body = {"told": told.event_id}
    digest = hashlib.sha256(told.event_id.encode()).digest()
    kind, now = "reservation.created", datetime.now(UTC)
    return Arrival("main", "", told.event_id, kind, body, digest, told, now)


async def take(web: Web, *asked: Arrival) -> list[bool]:
    proven = (replace(one, source_version=web.version) for one in asked)
    return await asyncio.gather(*(web.arrivals.take(one) for one in proven))


async def counted(db: Database) -> dict[str, int]:
    tables = ("webhook_events", "reservations", "access_codes", "operations", "procrastinate_jobs")
    more = ("job_records", "audit_events")
    each = ", ".join(f"(SELECT count(*) FROM {table}) AS {table}" for table in tables + more)
    (row,) = await factories.rows(db, f"SELECT {each}")
    return row


async def test_a_dozen_told_at_once_are_written_down_in_two_transactions(
    arrivals: Web, db: Database
) -> None:
    before = await counted(db)
    assert all(await take(arrivals, *(arrival(number) for number in range(STAYS))))
    each = {"operations": 2, "procrastinate_jobs": 2, "job_records": 2, "audit_events": 2}
    assert await counted(db) == {
        table: count + each.get(table, 1) * STAYS for table, count in before.items()
    }
    count = "SELECT count(DISTINCT xmin::text) FROM reservations"
    assert await factories.value(db, count) <= 2


SAME = {
    "reservations": "SELECT * FROM reservations WHERE id = :id",
    "access_codes": "SELECT * FROM access_codes WHERE reservation_id = :id ORDER BY lock_id",
    "operations": "SELECT operations.* FROM operations JOIN access_codes code"
    " ON code.id = access_code_id WHERE reservation_id = :id ORDER BY lock_id, kind",
    "procrastinate_jobs": "SELECT job.* FROM procrastinate_jobs job"
    " JOIN operations ON job_id = job.id JOIN access_codes code ON code.id = access_code_id"
    " WHERE reservation_id = :id ORDER BY lock_id, kind",
    "job_records": "SELECT job_records.* FROM job_records JOIN operations ON operation_id ="
    " operations.id JOIN access_codes code ON code.id = access_code_id"
    " WHERE reservation_id = :id ORDER BY code.lock_id, kind",
    "audit_events": "SELECT * FROM audit_events WHERE reservation_id = :id ORDER BY id",
}
OWN = {
    *("id", "reservation_id", "access_code_id", "operation_id", "job_id", "args", "listing_id"),
    *(
        "lock_id",
        "remote_name",
        "pin_sealed",
        "pin_fingerprint",
        "created_at",
        "updated_at",
        "at",
        "deferred_at",
    ),
}
"""What two stays never share."""


async def test_it_writes_what_one_booking_alone_would_have(
    arrivals: Web, db: Database, planner: Planner
) -> None:
    locks = {"a-wifi": "wifi", "b-zigbee": "zigbee", "c-bluetooth": "bluetooth"}
    for name in ("one", "other"):
        own = {f"{lock}-{name}": protocol for lock, protocol in locks.items()}
        await factories.add_listing(db, name, own, lead=timedelta(hours=3))
    one = arrival(1, listing_id="one", guest_phone="+55 11 5550 0100")
    other = replace(one.booking, reservation_id="res-2", listing_id="other")
    before = arrival(
        0,
        listing_id="one",
        check_in=one.booking.check_out,
        check_out=(one.now + timedelta(days=5)).isoformat(),
    )
    assert await factories.receive(db, planner, before.booking, "main") == "accepted"
    beside = replace(before.booking, reservation_id="res-3", listing_id="other")
    assert await factories.receive(db, planner, beside, "main") == "accepted"
    assert await factories.receive(db, planner, other, "main") == "accepted"
    assert await take(arrivals, one) == [True]
    for table, query in SAME.items():
        ours, theirs = [
            [
                {name: plain(value) for name, value in row.items() if name not in OWN}
                for row in await factories.rows(db, query, id=id_)
            ]
            for id_ in ("res-1", "res-2")
        ]
        assert ours == theirs, table
        assert ours, table
    assert (
        await factories.value(
            db,
            "SELECT count(*) FROM audit_events WHERE reservation_id ="
            " 'res-1' AND event = 'reservation:turnover'",
        )
        == 1
    )


def plain(value: Any) -> Any:
    """Without what names one stay or the other."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {
            name: plain(one) for name, one in value.items() if name not in ("listing_id", "next")
        }
    return value


async def test_the_event_is_kept_as_it_came(arrivals: Web, db: Database) -> None:
    one = arrival(1)
    assert await take(arrivals, one) == [True]
    (event,) = await factories.rows(db, "SELECT * FROM webhook_events")
    kept = ("source_id", "event_id", "type", "body", "outcome", "reservation_id", "listing_id")
    assert [event[name] for name in kept] == [
        *("main", one.event_id, "reservation.created", one.body, "accepted", "res-1", "apt-1")
    ]
    assert bytes(event["body_sha256"]) == one.body_sha256


NOT_NEW: dict[str, dict[str, Any]] = {
    "pending": {"status": ReservationStatus.PENDING},
    "cancelled": {"status": ReservationStatus.CANCELLED},
    "told in part": {"check_out": None},
    "of no listing": {"listing_id": "apt-99"},
    "known": {"reservation_id": "res-known"},
    "told already": {"event_id": "msg_known"},
    "without locks": {"listing_id": "bare"},
    "over": {"check_in": "2001-01-01T15:00Z", "check_out": "2001-01-02T10:00Z"},
    "never": {"check_in": "2031-01-02T15:00Z", "check_out": "2031-01-01T10:00Z"},
}


async def test_all_else_is_left_alone_and_holds_up_no_other(arrivals: Web, db: Database) -> None:
    await factories.add_listing(db, "bare", {})
    known = arrival(0, reservation_id="res-known", event_id="msg_known")
    assert await take(arrivals, known) == [True]
    for changes in NOT_NEW.values():
        before = await counted(db)
        assert await take(arrivals, arrival(1, **changes)) == [False], changes
        assert await counted(db) == before, changes
    plain_ones = [arrival(2), arrival(3)]
    others = [arrival(4, **changes) for changes in NOT_NEW.values() if "listing_id" not in changes]
    taken = await take(arrivals, plain_ones[0], *others, plain_ones[1])
    assert taken == [True, *(False for _ in others), True]


async def test_of_two_tellings_of_one_stay_at_once_the_first_is_taken(
    arrivals: Web, db: Database
) -> None:
    taken = await take(arrivals, arrival(1), arrival(2), arrival(2), arrival(3))
    assert taken == [True, True, False, True]
    assert (await counted(db))["reservations"] == 3


async def test_of_two_copies_at_once_one_is_taken(arrivals: Web, db: Database) -> None:
    one = arrival(1)
    assert await take(arrivals, arrival(2), one, replace(one)) == [True, True, False]
    assert (await counted(db))["reservations"] == 2


@pytest.mark.parametrize(
    "held",
    [
        "INSERT INTO reservations (id, status) VALUES ('res-3', 'pending')",
        "SELECT FROM listings WHERE id = 'apt-3' FOR UPDATE",
    ],
)
async def test_where_somebody_is_in_the_way_nothing_is_written_and_each_goes_alone(
    held: str, arrivals: Web, db: Database, database_url: str
) -> None:
    connecting = psycopg.AsyncConnection.connect(database_url)
    async with await connecting as somebody:
        await somebody.execute(held.encode())
        before = await counted(db)
        assert await take(arrivals, *(arrival(number) for number in (3, 1, 2))) == [False] * 3
        assert await counted(db) == before
        await somebody.rollback()
    assert await take(arrivals, arrival(3)) == [True]


async def test_a_listing_that_changes_meanwhile_is_read_again(
    arrivals: Web, db: Database, database_url: str
) -> None:
    """It was changed after it was read and before the stay was inserted."""
    connecting = psycopg.AsyncConnection.connect(database_url)
    async with await connecting as somebody:
        await somebody.execute("SELECT FROM listings WHERE id = 'apt-3' FOR UPDATE")
        taking = asyncio.create_task(take(arrivals, arrival(3)))
        until = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        while not await factories.value(db, until) and not taking.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # rows give no signal
        await somebody.execute("UPDATE listings SET buffer_after = '1 hour' WHERE id = 'apt-3'")
        await somebody.commit()
    assert await taking == [False]
    assert (await counted(db))["reservations"] == 0


async def test_what_a_source_proved_before_it_was_changed_is_left_alone(
    arrivals: Web, db: Database
) -> None:
    await factories.rows(db, "UPDATE sources SET enabled = false RETURNING id")
    assert await take(arrivals, arrival(1), arrival(2)) == [False, False]
    assert (await counted(db))["reservations"] == 0


async def test_endpoints_are_told_of_each(
    arrivals: Web, db: Database, planner: Planner, receiver: Receiver
) -> None:
    await factories.add_endpoint(db, planner.sealer, receiver.url)
    assert all(await take(arrivals, *(arrival(number) for number in range(3))))
    told = await factories.rows(db, "SELECT type, body FROM deliveries ORDER BY id")
    assert {row["body"]["data"]["reservation_id"] for row in told} == {"res-0", "res-1", "res-2"}
    assert {row["type"] for row in told} == {"code.scheduled"}


WITHIN: dict[str, Any] = {
    **{
        name: ["one", "other"]
        for name in ("sources", "versions", "events", "stays", "listings", "ids")
    },
    **neighbours.NEAR,
}


@pytest.mark.parametrize("statement", [rows.FIND, rows.DOORS, neighbours.NEIGHBOURS])
async def test_planned_when_the_tables_were_tiny_each_row_is_found_by_an_index(
    statement: bytes, arrivals: Web, database_url: str
) -> None:
    """The plan is kept as long as the connection is, whatever the tables come to hold."""
    assert await take(arrivals, arrival(1)) == [True]
    connecting = psycopg.AsyncConnection.connect(database_url)
    async with await connecting as connection:
        await connection.execute("ANALYZE")
        await connection.execute(rows.HURRY, {"patience": "50ms"})
        explained = await connection.execute(b"EXPLAIN (FORMAT JSON) " + statement, WITHIN)
        row = await explained.fetchone()
    assert row is not None
    read = list(reads(row[0][0]["Plan"]))
    assert read
    assert [node for node in read if "Index Cond" not in node] == []


def reads(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The parts of a plan that read a table, or an index alone."""
    of_table = {"Relation Name", "Index Name"} & plan.keys()
    if of_table and plan["Node Type"] != "Bitmap Heap Scan":  # which takes what an index gave
        yield plan
    for inner in plan.get("Plans", ()):
        yield from reads(inner)
