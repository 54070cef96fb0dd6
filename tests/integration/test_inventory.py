"""Setting up: what cannot be is refused by the name of its field, what is there already once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from pinqueue import inventory, reservations
from pinqueue.db import Database, Session
from pinqueue.errors import Conflict, InputInvalid
from pinqueue.reservations import Planner
from pinqueue.sealing import Sealer
from tests import factories

pytestmark = pytest.mark.anyio

Add = Callable[[Session], Awaitable[object]]


async def once(db: Database, add: Add) -> bool:
    try:
        async with db.transaction() as session:
            await add(session)
    except Conflict:
        return False
    return True


async def test_of_many_that_add_the_same_at_once_one_does_and_the_others_are_told(
    db: Database, seal: Sealer
) -> None:
    adding: list[Add] = [
        lambda s: inventory.add_lock(s, "test", "front", "d-1", "zigbee"),
        lambda s: inventory.add_source(s, seal, "test", "main", "pinqueue", None),
        lambda s: inventory.add_listing(s, "test", "apt-7", "UTC", [], None),
    ]
    for add in adding:
        assert sorted(await asyncio.gather(*(once(db, add) for _ in range(4)))) == [0, 0, 0, 1]


async def test_a_device_is_one_lock_also_where_two_names_are_given_at_once(db: Database) -> None:
    def add(name: str) -> Add:
        return lambda session: inventory.add_lock(session, "test", name, "d-1", "zigbee")

    done = await asyncio.gather(once(db, add("front")), once(db, add("back")))
    assert sorted(done) == [False, True]


@pytest.mark.parametrize("zone", ["Mars/Base", "America", "../UTC", "", "x" * 5000, "UTC\x00"])
async def test_what_is_not_a_time_zone_is_refused_by_name(db: Database, zone: str) -> None:
    with pytest.raises(InputInvalid, match="is not an IANA name") as refused:
        async with db.transaction() as session:
            await inventory.add_listing(session, "test", "apt-7", zone, [], None)
    assert refused.value.field == "time_zone"


async def test_a_lead_longer_than_a_stay_may_be_is_refused_by_name(db: Database) -> None:
    with pytest.raises(InputInvalid, match="lead: must be from 0s to 365d"):
        async with db.transaction() as session:
            await inventory.add_listing(session, "test", "apt-7", "UTC", [], timedelta(days=366))


@pytest.mark.parametrize("bad", ["", " ", "apt-7 ", "apt\n7", "\x1b[2J", "x" * 129])
async def test_an_id_that_could_not_be_asked_for_everywhere_is_refused_by_name(
    db: Database, planner: Planner, bad: str
) -> None:
    with pytest.raises(InputInvalid, match=r"^listing: "):
        async with db.transaction() as session:
            await inventory.add_listing(session, "test", bad, "UTC", [], None)
    with pytest.raises(InputInvalid, match=r"^device_id: "):
        async with db.transaction() as session:
            await inventory.add_lock(session, "test", "door", bad, "wifi")
    now = datetime.now(UTC)
    with pytest.raises(InputInvalid, match=r"^reservation: "):
        async with db.transaction() as session:
            await reservations.put(session, planner, "test", factories.booking(bad), now)
