"""What a booking causes, in rows and jobs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from pinqueue.db import Database
from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Planner
from tests import factories

pytestmark = pytest.mark.anyio

CHECK_OUTS = [
    datetime.now(UTC).replace(microsecond=0) + timedelta(days=2, minutes=number)
    for number in range(20)
]
JOBS = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'"


async def test_a_confirmed_stay_has_a_code_two_operations_and_two_jobs_on_each_lock(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db, locks={"sim-zigbee-1": "zigbee", "sim-wifi-1": "wifi"})
    assert await factories.receive(db, planner, factories.booking()) == "accepted"
    codes = await factories.codes(db)
    assert {code.lock_id for code in codes} == {"sim-zigbee-1", "sim-wifi-1"}
    for code in codes:
        kinds = [o.kind for o in await factories.operations(db, code)]
        assert kinds == ["generate", "revoke"]
    assert await factories.value(db, JOBS) == 4


async def test_jobs_ring_an_hour_before_check_in_and_at_check_out(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    told = factories.booking()
    await factories.receive(db, planner, told)
    times = await factories.rows(
        db, "SELECT task_name, scheduled_at FROM procrastinate_jobs ORDER BY task_name"
    )
    check_in = datetime.fromisoformat(str(told.check_in)).replace(microsecond=0)
    check_out = datetime.fromisoformat(str(told.check_out)).replace(microsecond=0)
    assert times == [
        {"task_name": "generate_pin", "scheduled_at": check_in - timedelta(hours=1)},
        {"task_name": "revoke_pin", "scheduled_at": check_out},
    ]


async def test_a_listing_may_have_a_lead_of_its_own(db: Database, planner: Planner) -> None:
    await factories.add_listing(db, lead=timedelta(hours=12))
    told = factories.booking()
    await factories.receive(db, planner, told)
    (code,) = await factories.codes(db)
    generate, _ = await factories.operations(db, code)
    assert generate.due_at == code.starts_at - timedelta(hours=12)


async def test_a_stay_that_is_over_gets_no_code(db: Database, planner: Planner) -> None:
    await factories.add_listing(db)
    now = datetime.now(UTC)
    told = factories.booking(
        check_in=(now - timedelta(days=2)).isoformat(),
        check_out=(now - timedelta(hours=1)).isoformat(),
    )
    assert await factories.receive(db, planner, told) == "accepted"
    assert await factories.codes(db) == []


async def test_a_stay_that_has_begun_rings_at_once(db: Database, planner: Planner) -> None:
    await factories.add_listing(db)
    now = datetime.now(UTC)
    told = factories.booking(
        check_in=(now - timedelta(days=1)).isoformat(),
        check_out=(now + timedelta(hours=1)).isoformat(),
    )
    await factories.receive(db, planner, told)
    (code,) = await factories.codes(db)
    generate, _ = await factories.operations(db, code)
    assert abs(generate.due_at - now) < timedelta(seconds=10)


async def test_a_pending_stay_gets_no_code_until_it_is_confirmed(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    await factories.receive(db, planner, factories.booking(status=ReservationStatus.PENDING))
    assert await factories.codes(db) == []
    await factories.receive(db, planner, factories.booking())
    assert len(await factories.codes(db)) == 1


async def test_the_locks_of_a_stay_share_one_pin_where_their_lengths_allow(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db, locks={"sim-zigbee-1": "zigbee", "sim-zigbee-2": "zigbee"})
    await factories.receive(db, planner, factories.booking())
    pins = [planner.sealer.open_pin(c.id, c.pin_sealed or b"") for c in await factories.codes(db)]
    assert pins[0] == pins[1]


async def test_an_older_telling_after_a_newer_one_changes_nothing(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    old = factories.booking(updated_at=datetime.now(UTC) - timedelta(hours=1))
    await factories.receive(db, planner, factories.booking())
    before = await factories.rows(db, "SELECT * FROM reservations")
    assert await factories.receive(db, planner, old) == "stale"
    assert await factories.rows(db, "SELECT * FROM reservations") == before


async def test_a_cancel_before_its_create_leaves_a_tombstone(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    created = factories.booking()
    later = created.updated_at + timedelta(seconds=1)
    cancel = factories.booking(
        status=ReservationStatus.CANCELLED,
        updated_at=later,
        listing_id=None,
        check_in=None,
        check_out=None,
    )
    assert await factories.receive(db, planner, cancel) == "accepted"
    assert await factories.receive(db, planner, created) == "stale"
    assert await factories.codes(db) == []


async def test_a_cancel_of_what_is_not_on_a_door_leaves_no_job_and_no_digits(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    await factories.receive(db, planner, factories.booking())
    cancel = factories.booking(status=ReservationStatus.CANCELLED)
    await factories.receive(db, planner, cancel)
    (code,) = await factories.codes(db)
    assert (code.state, code.pin_sealed, code.pin_hash) == ("cancelled", None, None)
    assert {o.state for o in await factories.operations(db, code)} == {"cancelled"}
    assert await factories.value(db, JOBS) == 0


async def test_f6_a_change_of_dates_moves_window_and_jobs_and_keeps_the_pin(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    told = factories.booking()
    await factories.receive(db, planner, told)
    (before,) = await factories.codes(db)
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=9)
    await factories.receive(db, planner, factories.booking(check_out=later.isoformat()))
    (after,) = await factories.codes(db)
    assert (after.id, after.pin_sealed, after.ends_at) == (before.id, before.pin_sealed, later)
    assert await factories.value(db, JOBS) == 2
    scheduled = await factories.value(
        db,
        "SELECT scheduled_at FROM procrastinate_jobs"
        " WHERE task_name='revoke_pin' AND status='todo'",
    )
    assert scheduled == later


async def test_a_cancelled_stay_that_is_booked_again_gets_another_code(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    await factories.receive(db, planner, factories.booking())
    await factories.receive(db, planner, factories.booking(status=ReservationStatus.CANCELLED))
    await factories.receive(db, planner, factories.booking())
    assert [code.state for code in await factories.codes(db)] == ["cancelled", "scheduled"]


async def test_f16_weekly_bookings_of_one_guest_are_stays_of_their_own(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    first = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    weeks = {f"res-{n}": first + timedelta(weeks=n) for n in range(3)}
    for stay, check_in in weeks.items():
        check_out = check_in + timedelta(days=2)
        told = {"check_in": check_in.isoformat(), "check_out": check_out.isoformat()}
        await factories.receive(db, planner, factories.booking(stay, guest_name="Ana", **told))
    ended = factories.booking("res-1", status=ReservationStatus.CANCELLED)
    await factories.receive(db, planner, ended)
    codes = {stay: (await factories.codes(db, stay))[0] for stay in weeks}
    assert {stay: code.starts_at for stay, code in codes.items()} == weeks
    assert [code.state for code in codes.values()] == ["scheduled", "cancelled", "scheduled"]
    assert len({code.pin_fingerprint for code in codes.values()}) == 3


async def test_f17_twenty_tellings_of_one_stay_at_once_make_one_code(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    told = [factories.booking(check_out=CHECK_OUTS[number].isoformat()) for number in range(20)]
    outcomes = await asyncio.gather(*(factories.receive(db, planner, one) for one in told))
    assert set(outcomes) <= {"accepted", "stale"}
    (code,) = await factories.codes(db)
    assert code.ends_at == CHECK_OUTS[-1], "the newest telling wins"
    assert await factories.value(db, JOBS) == 2


async def test_a_booking_for_a_listing_we_do_not_know_is_unmapped(
    db: Database, planner: Planner
) -> None:
    assert await factories.receive(db, planner, factories.booking()) == "unmapped"


async def test_overlapping_stays_both_get_a_code_and_an_alarm(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    await factories.receive(db, planner, factories.booking("res-1"))
    await factories.receive(db, planner, factories.booking("res-2"))
    assert len(await factories.codes(db, "res-2")) == 1
    alarm = await factories.value(
        db, "SELECT detail->'others' FROM audit_timeline WHERE event = 'reservation:overlaps'"
    )
    assert alarm == ["res-1"]
