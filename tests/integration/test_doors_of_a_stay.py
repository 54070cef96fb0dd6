"""Several locks for a stay, one lock for several listings: which PIN opens which door."""

from __future__ import annotations

import asyncio

import pytest

from pinqueue import inventory, pins, reservations, store
from pinqueue.db import Database
from pinqueue.pins import Pin
from pinqueue.reservations import Planner
from tests import factories
from tests.operating import somebody_waits, until

pytestmark = pytest.mark.anyio

FLAT_7 = {"flat-7": "zigbee", "street": "zigbee"}
FLAT_8 = {"flat-8": "zigbee", "street": "zigbee"}
FREE, TAKEN, OTHER = Pin("480917"), Pin("730528"), Pin("915036")


async def told(db: Database, planner: Planner, reservation_id: str = "res-1") -> dict[str, Pin]:
    """The PIN that a guest has on each lock."""
    return {
        code.lock_id: planner.sealer.open_pin(code.id, code.pin_sealed)
        for code in await factories.codes(db, reservation_id)
        if code.pin_sealed is not None
    }


async def book(db: Database, planner: Planner, reservation_id: str, listing: str) -> None:
    booked = factories.booking(reservation_id, listing_id=listing)
    assert await factories.receive(db, planner, booked) == "accepted"


def drawn(monkeypatch: pytest.MonkeyPatch, *pins_drawn: Pin) -> list[Pin]:
    """Have these PINs chosen, one after the other; returns those that are left."""
    left = list(pins_drawn)
    monkeypatch.setattr(pins, "choose", lambda length: left.pop(0))
    return left


async def test_the_locks_of_a_stay_have_one_pin_for_each_length(
    db: Database, planner: Planner
) -> None:
    four = {"a": "zigbee", "b": "wifi", "c": "bluetooth", "d": "wifi"}
    await factories.add_listing(db, "house", four)
    await book(db, planner, "res-1", "house")
    opened = {lock: pin.digits() for lock, pin in (await told(db, planner)).items()}
    assert opened["a"] == opened["c"]
    assert opened["b"] == opened["d"]
    assert [len(opened[lock]) for lock in "ab"] == [6, 7]


async def test_a_pin_that_one_of_its_locks_has_already_is_chosen_for_none_of_them(
    db: Database, planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    await factories.add_listing(db, "yard", {"street": "zigbee"})
    await factories.add_listing(db, "apt-7", FLAT_7)
    drawn(monkeypatch, TAKEN)
    await book(db, planner, "neighbour", "yard")
    left = drawn(monkeypatch, TAKEN, FREE, OTHER)
    await book(db, planner, "res-1", "apt-7")
    assert await told(db, planner) == {"flat-7": FREE, "street": FREE}
    assert left == [OTHER]
    assert len(await factories.codes(db)) == 2, "nothing remains of the first choice"


async def test_two_stays_booked_at_once_behind_one_street_door_have_one_pin_each(
    db: Database, planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both draw the same PINs in the same order, and neither sees yet what the other inserted."""
    await factories.add_listing(db, "apt-7", FLAT_7)
    await factories.add_listing(db, "apt-8", FLAT_8)
    left = drawn(monkeypatch, FREE, FREE, TAKEN)
    async with db.transaction() as session:
        now = await store.now(session)
        seventh = factories.booking("res-7", listing_id="apt-7")
        await reservations.receive(session, planner, None, seventh, now)
        eighth = asyncio.create_task(book(db, planner, "res-8", "apt-8"))
        await until(lambda: somebody_waits(db))
    await eighth
    assert await told(db, planner, "res-7") == {"flat-7": FREE, "street": FREE}
    assert await told(db, planner, "res-8") == {"flat-8": TAKEN, "street": TAKEN}
    assert left == []


async def test_a_lock_that_is_linked_later_opens_for_the_pin_the_guest_has(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db, "apt-7", {"flat-7": "zigbee"})
    await book(db, planner, "res-1", "apt-7")
    (before,) = (await told(db, planner)).values()
    async with db.transaction() as session:
        await inventory.add_lock(session, "test", "street", "street", "bluetooth")
        await session.flush()
        await inventory.link_lock(session, planner, "test", "apt-7", "street")
    assert await told(db, planner) == {"flat-7": before, "street": before}
