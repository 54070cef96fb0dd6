"""A stay that ends on the day on which the next one begins is told of, and audited once."""

from __future__ import annotations

from typing import Any

import pytest

from pinqueue.db import Database
from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Planner
from pinqueue.store import neighbours
from tests import factories

pytestmark = pytest.mark.anyio

AUDITED = (
    "SELECT reservation_id, detail FROM audit_events WHERE event = 'reservation:turnover'"
    " ORDER BY id"
)


async def book(db: Database, planner: Planner, stay: str, days: str, **told: Any) -> None:
    """`days` are local, from and until: 2027-07-01T15:00 2027-07-04T11:00."""
    check_in, check_out = days.split()
    told = {"check_in": check_in, "check_out": check_out, **told}
    assert await factories.receive(db, planner, factories.booking(stay, **told)) == "accepted"


async def turnovers(db: Database) -> dict[str, str]:
    async with db.transaction() as session:
        return await neighbours.turnovers(session, ["out", "in", "later"])


OUT = "2027-07-01T15:00 2027-07-04T11:00"
IN = "2027-07-04T15:00 2027-07-06T11:00"


@pytest.mark.parametrize("order", [("out", "in"), ("in", "out")])
async def test_a_turnover_is_told_with_the_next_stay_and_audited_once(
    db: Database, planner: Planner, order: tuple[str, str]
) -> None:
    await factories.add_listing(db)
    for stay in (*order, *order):
        await book(db, planner, stay, {"out": OUT, "in": IN}[stay])
    assert await turnovers(db) == {"out": "in"}
    told = {"reservation_id": "out", "detail": {"next": "in"}}
    assert await factories.rows(db, AUDITED) == [told]


async def test_another_next_stay_is_another_turnover(db: Database, planner: Planner) -> None:
    await factories.add_listing(db)
    await book(db, planner, "out", OUT)
    await book(db, planner, "in", IN)
    await book(db, planner, "in", IN, status=ReservationStatus.CANCELLED)
    assert await turnovers(db) == {}
    await book(db, planner, "later", IN)
    assert await turnovers(db) == {"out": "later"}
    assert [row["detail"]["next"] for row in await factories.rows(db, AUDITED)] == ["in", "later"]


@pytest.mark.parametrize(
    ("zone", "out", "in_", "told"),
    [
        # 23:30 and 00:30 are of two days, however near.
        ("Europe/Berlin", "2027-07-01T15:00 2027-07-04T23:30", "2027-07-05T00:30", False),
        # 22:00 in São Paulo is the next day in UTC.
        ("America/Sao_Paulo", "2027-07-01T15:00 2027-07-04T11:00", "2027-07-04T22:00", True),
        # A day of 25 hours, from its first to its last minute.
        ("Europe/Berlin", "2027-10-29T15:00 2027-10-31T00:00", "2027-10-31T23:59", True),
        # The next guest is booked to come before this one leaves.
        ("Europe/Berlin", "2027-07-01T15:00 2027-07-04T11:00", "2027-07-04T10:00", True),
    ],
)
async def test_the_day_is_the_listings(
    db: Database, planner: Planner, zone: str, out: str, in_: str, told: bool
) -> None:
    await factories.add_listing(db, time_zone=zone)
    await book(db, planner, "out", out)
    await book(db, planner, "in", f"{in_} 2027-11-20T11:00")
    assert await turnovers(db) == ({"out": "in"} if told else {})
    assert len(await factories.rows(db, AUDITED)) == told


async def test_of_two_stays_within_one_day_the_first_turns_over(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    await book(db, planner, "in", "2027-07-04T14:00 2027-07-04T18:00")
    await book(db, planner, "out", "2027-07-04T09:00 2027-07-04T12:00")
    assert await turnovers(db) == {"out": "in"}
    assert len(await factories.rows(db, AUDITED)) == 1


async def test_what_is_no_stay_of_a_guest_or_is_in_another_listing_turns_nothing_over(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    await factories.add_listing(db, "apt-8")
    await book(db, planner, "out", OUT)
    await book(db, planner, "in", IN, listing_id="apt-8")
    await book(db, planner, "later", IN, status=ReservationStatus.BLOCKED)
    assert await turnovers(db) == {}
    assert await factories.rows(db, AUDITED) == []
