"""PINs under pressure: many bookings of one door at once, and nobody shares a PIN."""

from __future__ import annotations

import asyncio

import pytest

from pinqueue import pins
from pinqueue.db import Database
from pinqueue.pins import Pin
from pinqueue.reservations import Planner
from tests import factories

pytestmark = pytest.mark.anyio

STAYS = 500


async def all_pins(db: Database, planner: Planner) -> list[str]:
    sealed = await factories.rows(db, "SELECT id, pin_sealed FROM access_codes")
    return [planner.sealer.open_pin(row["id"], row["pin_sealed"]).digits() for row in sealed]


async def book(db: Database, planner: Planner, number: int) -> None:
    await factories.receive(db, planner, factories.booking(f"res-{number}"))


async def test_f7_500_stays_booked_at_once_get_500_pins_and_none_is_weak(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    await asyncio.gather(*(book(db, planner, number) for number in range(STAYS)))
    drawn = await all_pins(db, planner)
    assert (len(drawn), len(set(drawn))) == (STAYS, STAYS)
    assert {len(pin) for pin in drawn} == {6}
    assert not any(pins.is_weak(pin) for pin in drawn)


async def test_f7_stays_that_draw_the_same_pin_at_the_same_time_do_not_share_it(
    db: Database, planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By chance a million PINs hardly ever collide: here all draw twenty, in the same order."""
    await factories.add_listing(db)
    few = [Pin(f"48091{last}") for last in range(10)] + [Pin(f"73052{last}") for last in range(10)]
    draws: dict[object, int] = {}

    def choose(length: int) -> Pin:
        task = asyncio.current_task()
        draws[task] = draws.get(task, -1) + 1
        return few[draws[task] % len(few)]

    monkeypatch.setattr(pins, "choose", choose)
    await asyncio.gather(*(book(db, planner, number) for number in range(len(few))))
    assert sorted(await all_pins(db, planner)) == sorted(pin.digits() for pin in few)
    assert sum(draws.values()) > len(few), "they did collide"
