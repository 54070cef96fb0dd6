"""Bookings as they come: in part, by date alone, with buffers, granted early, to other rooms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pinqueue import jobs, reservations, store
from pinqueue.db import Database
from pinqueue.errors import BookingInvalid
from pinqueue.lifecycle import ReservationStatus
from pinqueue.models import Reservation
from pinqueue.operations import Workbench
from pinqueue.reservations import Planner
from pinqueue.simulator import Control
from tests import factories
from tests.operating import (
    book,
    cancel,
    code_of,
    digits,
    execute,
    held,
    operation_of,
    ring,
)

pytestmark = pytest.mark.anyio

TODAY = datetime.now(UTC).replace(microsecond=0)
CHECK_IN, CHECK_OUT = TODAY + timedelta(days=1), TODAY + timedelta(days=3)


async def stay_of(db: Database) -> Reservation:
    async with db.transaction() as session:
        return await session.get_one(Reservation, "res-1")


async def tell(db: Database, planner: Planner, **told: Any) -> str:
    dates = {"check_in": CHECK_IN.isoformat(), "check_out": CHECK_OUT.isoformat()}
    return await factories.receive(db, planner, factories.booking(**{**dates, **told}))


async def grant(db: Database, planner: Planner, **granted: str) -> None:
    async with db.transaction() as session:
        now = await store.now(session)
        await reservations.grant(session, planner, "test", "res-1", now, **granted)


async def window(db: Database) -> tuple[datetime, datetime]:
    code = (await factories.codes(db))[-1]
    return code.starts_at, code.ends_at


async def test_what_a_change_leaves_out_stays_as_it_was(db: Database, planner: Planner) -> None:
    await factories.add_listing(db)
    await tell(db, planner, guest_phone="+55 11")
    later = CHECK_OUT + timedelta(days=1)
    nothing = {"status": None, "listing_id": None, "check_in": None, "guest_name": None}
    assert await tell(db, planner, check_out=later.isoformat(), **nothing) == "accepted"
    stay = await stay_of(db)
    assert (stay.status, stay.listing_id, stay.check_in_at) == ("confirmed", "apt-7", CHECK_IN)
    assert (stay.check_out_at, stay.guest_name, stay.guest_phone) == (later, "Ana", "+55 11")
    assert await window(db) == (CHECK_IN, later)


async def test_a_part_of_a_stay_that_nobody_told_is_incomplete(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    assert await tell(db, planner, check_out=None) == "incomplete"
    stay = await stay_of(db)
    assert (stay.status, stay.check_in_at, stay.guest_name) == ("pending", None, "Ana")
    assert await factories.codes(db) == []


async def test_a_date_alone_gets_the_listings_times(db: Database, planner: Planner) -> None:
    await factories.add_listing(db, time_zone="Europe/Berlin")
    await execute(db, "UPDATE listings SET check_in_time = '16:30'")
    await tell(db, planner, check_in="2027-07-01", check_out="2027-07-05")
    stay = await stay_of(db)
    assert stay.check_in_at == datetime(2027, 7, 1, 14, 30, tzinfo=UTC)
    assert stay.check_out_at == datetime(2027, 7, 5, 9, 0, tzinfo=UTC)


async def test_f14_buffers_widen_the_window_and_not_the_stay(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    await execute(db, "UPDATE listings SET buffer_before = '15 min', buffer_after = '30 min'")
    await tell(db, planner)
    assert await window(db) == (
        CHECK_IN - timedelta(minutes=15),
        CHECK_OUT + timedelta(minutes=30),
    )
    assert (await stay_of(db)).check_in_at == CHECK_IN
    await tell(db, planner)
    assert (await window(db))[0] == CHECK_IN - timedelta(minutes=15)


async def test_f14_an_early_check_in_and_a_late_check_out_move_the_window_alone(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    await tell(db, planner)
    early, late = CHECK_IN - timedelta(hours=3), CHECK_OUT + timedelta(hours=2)
    await grant(db, planner, early_check_in=early.isoformat(), late_check_out=late.isoformat())
    assert await window(db) == (early, late)
    await tell(db, planner)
    assert await window(db) == (early, late), "told again with the same dates"
    await grant(db, planner, early_check_in="", late_check_out="")
    assert await window(db) == (CHECK_IN, CHECK_OUT)


async def test_a_grant_ends_when_its_date_changes(db: Database, planner: Planner) -> None:
    await factories.add_listing(db)
    await tell(db, planner)
    early = CHECK_IN - timedelta(hours=3)
    await grant(db, planner, early_check_in=early.isoformat())
    moved = CHECK_IN + timedelta(days=1)
    await tell(db, planner, check_in=moved.isoformat())
    assert await window(db) == (moved, CHECK_OUT)


async def test_a_grant_has_the_buffers_and_the_lead_of_a_booked_time(
    db: Database, planner: Planner
) -> None:
    """Within the buffer, too: to let a guest in an hour earlier must not let him in later."""
    await factories.add_listing(db, lead=timedelta(hours=5))
    await execute(db, "UPDATE listings SET buffer_before = '2 h', buffer_after = '30 min'")
    await tell(db, planner)
    early, late = CHECK_IN - timedelta(hours=1), CHECK_OUT + timedelta(minutes=10)
    await grant(db, planner, early_check_in=early.isoformat(), late_check_out=late.isoformat())
    opens, closes = early - timedelta(hours=2), late + timedelta(minutes=30)
    assert await window(db) == (opens, closes)
    generate, revoke = await factories.operations(db, (await factories.codes(db))[-1])
    assert (generate.due_at, revoke.due_at) == (opens - timedelta(hours=5), closes)


async def test_a_grant_is_kept_in_another_room_and_when_a_cancelled_stay_is_booked_again(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    await factories.add_listing(db, "apt-8", {"sim-zigbee-2": "zigbee"})
    await tell(db, planner)
    early = CHECK_IN - timedelta(hours=3)
    await grant(db, planner, early_check_in=early.isoformat())
    await tell(db, planner, listing_id="apt-8")
    assert await window(db) == (early, CHECK_OUT)
    await tell(db, planner, listing_id="apt-8", status=ReservationStatus.CANCELLED)
    await tell(db, planner, listing_id="apt-8")
    assert await window(db) == (early, CHECK_OUT)
    assert [code.state for code in await factories.codes(db)] == [
        *("cancelled", "cancelled", "scheduled")
    ]


async def test_a_grant_stays_when_its_date_is_scheduled_again_unchanged(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    await tell(db, planner)
    early = CHECK_IN - timedelta(hours=3)
    await grant(db, planner, early_check_in=early.isoformat())
    async with db.transaction() as session:
        await jobs.schedule_generate_pin(session, "res-1", CHECK_IN, planner=planner)
    assert await window(db) == (early, CHECK_OUT)


async def test_a_grant_that_lets_a_guest_in_while_another_is_there_is_an_alarm(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    before = {"check_in": (CHECK_IN - timedelta(days=1)).isoformat()}
    await tell(db, planner, reservation_id="before", check_out=CHECK_IN.isoformat(), **before)
    await tell(db, planner)
    alarms = "SELECT detail->'others' AS others FROM audit_events WHERE event = :event"
    assert await factories.rows(db, alarms, event="reservation:overlaps") == []
    await grant(db, planner, early_check_in=(CHECK_IN - timedelta(hours=3)).isoformat())
    assert await factories.rows(db, alarms, event="reservation:overlaps") == [
        {"others": ["before"]}
    ]


@pytest.mark.parametrize(
    ("field", "granted"),
    [
        ("early_check_in", (CHECK_IN + timedelta(hours=1)).isoformat()),
        ("late_check_out", (CHECK_OUT - timedelta(hours=1)).isoformat()),
        ("early_check_in", "soon"),
        ("late_check_out", "2027-02-30"),
    ],
    ids=["after check-in", "before check-out", "no time", "no day"],
)
async def test_a_grant_that_cannot_be_is_refused_with_its_field_and_changes_nothing(
    db: Database, planner: Planner, field: str, granted: str
) -> None:
    await factories.add_listing(db)
    await tell(db, planner)
    with pytest.raises(BookingInvalid) as refused:
        await grant(db, planner, **{field: granted})
    assert refused.value.field == field
    assert await window(db) == (CHECK_IN, CHECK_OUT)


async def test_f14_a_late_check_out_granted_on_the_last_day_keeps_the_pin_on_the_door(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench, starts_in=timedelta(0), lasts=timedelta(minutes=5))
    assert await ring(bench, "generate") is None
    stay = await stay_of(bench.db)
    assert stay.check_out_at is not None
    late = stay.check_out_at + timedelta(hours=2)
    before = digits(bench, await code_of(bench))
    await grant(bench.db, bench.planner, late_check_out=late.isoformat())
    assert await ring(bench, "generate", as_if_due=False) is None
    ((pin, _, until),) = held(prompt)
    assert (pin, until) == (before, late)
    assert (await operation_of(bench, "revoke")).due_at == late


async def test_a_guest_who_moves_to_another_room_keeps_his_pin(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    assert await ring(bench, "generate") is None
    before = digits(bench, await code_of(bench))
    await book(bench, "sim-zigbee-2")
    assert await ring(bench, "generate") is None
    ((pin, _, _),) = held(prompt, "sim-zigbee-2")
    assert pin == before


@pytest.mark.parametrize("status", [ReservationStatus.BLOCKED, ReservationStatus.PENDING])
async def test_f26_a_block_and_an_inquiry_get_no_pin(
    db: Database, planner: Planner, status: ReservationStatus
) -> None:
    await factories.add_listing(db)
    assert await tell(db, planner, status=status) == "accepted"
    assert await factories.codes(db) == []


async def test_f8_a_full_lock_gives_its_next_place_to_the_nearest_arrival(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench, reservation_id="in", starts_in=-timedelta(hours=2))
    assert await ring(bench, "generate", "in") is None
    prompt.settings(max_live=1)
    for reservation_id, hours in {"far": 5, "near": 1}.items():
        await book(bench, reservation_id=reservation_id, starts_in=timedelta(hours=hours))
        assert await ring(bench, "generate", reservation_id) is not None
    (there,) = held(prompt)
    assert there[0] == digits(bench, await code_of(bench, "in")), "who is in stays in"
    await cancel(bench, "in")
    assert await ring(bench, "revoke", "in") is None
    assert await ring(bench, "generate", "far") is not None, "it waits for the nearer one"
    assert await ring(bench, "generate", "near", as_if_due=False) is None
    ((pin, _, _),) = held(prompt)
    assert pin == digits(bench, await code_of(bench, "near"))
