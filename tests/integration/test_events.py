"""What is told of an access code, and when: planned, on the door, changed, off the door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pinqueue import codes, reservations, store
from pinqueue.db import Database
from pinqueue.models import AccessCode
from pinqueue.operations import Workbench
from pinqueue.sealing import Sealer
from pinqueue.simulator import Control
from tests import factories
from tests.operating import (
    CREATE,
    ZIGBEE,
    book,
    cancel,
    code_of,
    held,
    put_on_door,
    ring,
    tell,
)

pytestmark = pytest.mark.anyio

AHEAD = timedelta(days=2)
REJECTED = 2322


@pytest.fixture(autouse=True)
async def endpoint(db: Database, seal: Sealer) -> None:
    await factories.add_endpoint(db, seal, "https://desk.example.com/")


async def told(db: Database) -> list[dict[str, Any]]:
    """The events told so far, the oldest first."""
    rows = await factories.rows(db, "SELECT type, body FROM deliveries ORDER BY id")
    assert [row["type"] for row in rows] == [row["body"]["type"] for row in rows]
    return [row["body"] for row in rows]


async def steps(db: Database) -> list[tuple[str, str]]:
    return [(event["type"], event["data"]["state"]) for event in await told(db)]


async def reissue(bench: Workbench, code: AccessCode) -> None:
    async with bench.db.transaction() as session:
        now = await store.now(session)
        await codes.reissue(session, bench.planner.sealer, "key:desk", code.id, now=now)


async def test_each_door_of_a_stay_is_told_in_the_transaction_of_the_booking(
    bench: Workbench,
) -> None:
    await factories.add_listing(bench.db, locks={ZIGBEE: "zigbee", "sim-zigbee-2": "zigbee"})
    async with bench.db.transaction() as session:
        now = await store.now(session)
        await reservations.receive(session, bench.planner, None, factories.booking(), now)
        seen_outside = await told(bench.db)
    assert seen_outside == []
    events = await told(bench.db)
    assert {event["type"] for event in events} == {"code.scheduled"}
    assert [event["data"]["lock_id"] for event in events] == [ZIGBEE, "sim-zigbee-2"]
    assert {event["timestamp"] for event in events} == {now.astimezone(UTC).isoformat()}
    jobs = await factories.rows(
        bench.db, "SELECT args FROM procrastinate_jobs WHERE queue_name = 'deliver' ORDER BY id"
    )
    ids = await factories.rows(bench.db, "SELECT id AS delivery_id FROM deliveries ORDER BY id")
    assert [job["args"] for job in jobs] == ids


async def test_a_booking_that_is_rolled_back_tells_nothing(bench: Workbench) -> None:
    await factories.add_listing(bench.db)

    async def receive_and_fail() -> None:
        async with bench.db.transaction() as session:
            now = await store.now(session)
            await reservations.receive(session, bench.planner, None, factories.booking(), now)
            raise ValueError("rolled back")

    with pytest.raises(ValueError, match="rolled back"):
        await receive_and_fail()
    assert await told(bench.db) == []


async def test_a_moved_stay_is_told_once_with_its_new_window(bench: Workbench) -> None:
    await book(bench, starts_in=AHEAD)
    check_in, check_out = (datetime.now(UTC) + AHEAD + timedelta(days=n) for n in (1, 3))
    for _ in range(2):
        moved = factories.booking(
            listing_id=ZIGBEE, check_in=check_in.isoformat(), check_out=check_out.isoformat()
        )
        assert await factories.receive(bench.db, bench.planner, moved) == "accepted"
    assert await steps(bench.db) == [
        ("code.scheduled", "scheduled"),
        ("code.changed", "scheduled"),
    ]
    code, data = await code_of(bench), (await told(bench.db))[-1]["data"]
    assert datetime.fromisoformat(data["starts_at"]) == code.starts_at
    assert (data["operation_id"], data["kind"]) == (None, None)


async def test_a_stay_moved_on_its_door_is_told_when_planned_and_when_seen_there(
    bench: Workbench, prompt: Control
) -> None:
    await put_on_door(bench, prompt)
    await tell(bench, lasts=timedelta(days=3))
    assert await ring(bench, "generate") is None
    assert (await steps(bench.db))[1:] == [
        ("code.active", "active"),
        ("code.changed", "active"),
        ("code.active", "active"),
    ]
    ends = [event["data"]["ends_at"] for event in await told(bench.db)]
    assert ends[0] == ends[1] != ends[2] == ends[3]


@pytest.mark.parametrize("withdraw", [cancel, None], ids=["cancelled", "another room"])
async def test_a_pin_never_put_on_a_door_is_told_as_revoked(
    bench: Workbench, withdraw: Any
) -> None:
    await book(bench, starts_in=AHEAD)
    if withdraw:
        await withdraw(bench)
    else:
        await factories.add_listing(bench.db, "apt-8", {"sim-zigbee-2": "zigbee"})
        await tell(bench, lock="apt-8", starts_in=AHEAD)
    revoked = [event["data"] for event in await told(bench.db) if event["type"] == "code.revoked"]
    assert [(data["state"], data["kind"], data["lock_id"]) for data in revoked] == [
        ("cancelled", None, ZIGBEE)
    ]
    if not withdraw:
        assert (await steps(bench.db))[-1] == ("code.scheduled", "scheduled")


async def test_a_stay_that_went_by_before_its_pin_was_begun_is_told_as_revoked(
    bench: Workbench,
) -> None:
    await book(bench, starts_in=AHEAD)
    assert await ring(bench, "revoke") is None
    assert await steps(bench.db) == [
        ("code.scheduled", "scheduled"),
        ("code.revoked", "cancelled"),
    ]


async def test_a_reissued_pin_never_near_a_door_is_told_as_changed(bench: Workbench) -> None:
    await reissue(bench, await book(bench, starts_in=AHEAD))
    assert await steps(bench.db) == [
        ("code.scheduled", "scheduled"),
        ("code.changed", "scheduled"),
    ]


async def test_a_reissued_pin_on_a_door_is_told_from_the_wish_to_the_new_one(
    bench: Workbench, prompt: Control
) -> None:
    old = await put_on_door(bench, prompt)
    await reissue(bench, old)
    await reissue(bench, old)
    assert await ring(bench, "revoke") is None
    assert await ring(bench, "generate") is None
    assert (await steps(bench.db))[2:] == [
        ("code.changed", "revoking"),
        ("code.revoked", "revoked"),
        ("code.scheduled", "scheduled"),
        ("code.active", "active"),
    ]
    told_of = [event["data"]["access_code_id"] for event in await told(bench.db)]
    assert told_of == [old.id] * 4 + [(await code_of(bench)).id] * 2


async def test_a_pin_that_its_lock_does_not_take_is_told_as_changed(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    prompt.fault("code", CREATE, code=REJECTED, times=1)
    assert await ring(bench, "generate") is not None
    assert await ring(bench, "generate") is None
    assert len(held(prompt)) == 1
    assert await steps(bench.db) == [
        ("code.scheduled", "scheduled"),
        ("code.changed", "generating"),
        ("code.active", "active"),
    ]


@pytest.fixture
async def heard(database_url: str) -> AsyncIterator[tuple[Database, list[Any]]]:
    """A database, and what its process's hooks would hear."""
    events: list[Any] = []
    db = Database(database_url, pool_size=2, listener=events.append)
    yield db, events
    await db.close()


async def test_hooks_hear_of_operations_and_not_of_plans(
    bench: Workbench, prompt: Control, heard: tuple[Database, list[Any]]
) -> None:
    db, events = heard
    listening = replace(bench, db=db)
    await put_on_door(listening, prompt)
    await cancel(listening)
    assert await ring(listening, "revoke") is None
    assert [event["type"] for event in events] == ["code.active", "code.revoked"]
    assert [event["data"]["kind"] for event in events] == ["generate", "revoke"]
    posted = await told(db)
    assert [event for event in posted if event["type"] != "code.scheduled"] == events
