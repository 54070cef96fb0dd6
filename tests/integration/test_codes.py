"""What a booking does to access codes, in rows alone: no lock is asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pinqueue import codes, pins
from pinqueue.db import Database
from pinqueue.errors import ConfigInvalid, Conflict, StateChanged
from pinqueue.lifecycle import CodeState, ReservationStatus
from pinqueue.locks import Window
from pinqueue.models import AccessCode
from pinqueue.pins import Pin
from pinqueue.reservations import Planner
from pinqueue.store import access_codes
from tests import factories
from tests.operating import execute

pytestmark = pytest.mark.anyio

LEAD = timedelta(hours=1)


async def scheduled(db: Database, planner: Planner, reservation_id: str = "res-1") -> AccessCode:
    if not await factories.rows(db, "SELECT 1 FROM listings"):
        await factories.add_listing(db)
    await factories.receive(db, planner, factories.booking(reservation_id))
    return (await factories.codes(db, reservation_id))[-1]


def pin_of(planner: Planner, code: AccessCode) -> Pin:
    return planner.sealer.open_pin(code.id, code.pin_sealed or b"")


@pytest.mark.parametrize(
    ("lock", "protocol", "length"),
    [("sim-wifi-1", "wifi", 7), ("sim-zigbee-1", "zigbee", 6), ("sim-bluetooth-1", "bluetooth", 6)],
)
async def test_f22_a_pin_is_as_long_as_its_lock_wants(
    db: Database, planner: Planner, lock: str, protocol: str, length: int
) -> None:
    await factories.add_listing(db, locks={lock: protocol})
    code = await scheduled(db, planner)
    assert len(pin_of(planner, code).digits()) == length


async def test_a_name_on_the_lock_fits_tuya_and_says_nothing_of_the_guest(
    db: Database, planner: Planner
) -> None:
    code = await scheduled(db, planner, "anas-stay")
    assert len(code.remote_name) <= 20
    assert code.remote_name.isascii()
    assert code.remote_name.startswith("pq-")
    assert "ana" not in code.remote_name


async def test_a_code_on_its_way_has_no_hash_yet(db: Database, planner: Planner) -> None:
    """bcrypt takes long: it is computed by the worker, outside the webhook's transaction."""
    code = await scheduled(db, planner)
    assert (code.pin_hash, code.pin_sealed is not None) == (None, True)


async def test_a_seal_moved_to_another_row_does_not_open(db: Database, planner: Planner) -> None:
    code = await scheduled(db, planner)
    with pytest.raises(ConfigInvalid, match="another row"):
        planner.sealer.open_pin(code.id + 1, code.pin_sealed or b"")


async def test_moving_to_the_same_window_writes_nothing(db: Database, planner: Planner) -> None:
    code = await scheduled(db, planner)
    before = await factories.rows(db, "SELECT count(*) AS events FROM audit_events")
    async with db.transaction() as session:
        held = await access_codes.code_for_update(session, code.id)
        window = Window(code.starts_at, code.ends_at)
        await codes.move(session, "test", held, window, lead=LEAD, now=datetime.now(UTC))
    assert await factories.rows(db, "SELECT count(*) AS events FROM audit_events") == before


async def test_f22_moving_replaces_both_jobs_and_leaves_no_other_waiting(
    db: Database, planner: Planner
) -> None:
    code = await scheduled(db, planner)
    for days in (1, 2, 3):
        async with db.transaction() as session:
            held = await access_codes.code_for_update(session, code.id)
            window = Window(code.starts_at, code.ends_at + timedelta(days=days))
            await codes.move(session, "test", held, window, lead=LEAD, now=datetime.now(UTC))
    waiting = await factories.rows(
        db,
        "SELECT job.scheduled_at, operation.next_at FROM procrastinate_jobs job"
        " JOIN operations operation ON operation.job_id = job.id WHERE job.status = 'todo'",
    )
    assert len(waiting) == 2
    assert all(row["scheduled_at"] == row["next_at"] for row in waiting)
    assert (
        await factories.value(db, "SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'")
        == 2
    )


async def test_an_ended_code_moves_nowhere_any_more(db: Database, planner: Planner) -> None:
    code = await scheduled(db, planner)
    await factories.receive(db, planner, factories.booking(status=ReservationStatus.CANCELLED))
    async with db.transaction() as session:
        held = await access_codes.code_for_update(session, code.id)
        with pytest.raises(StateChanged):
            await access_codes.move_code(session, held, CodeState.REVOKING)


async def test_a_job_carries_the_id_of_its_operation_and_nothing_else(
    db: Database, planner: Planner
) -> None:
    code = await scheduled(db, planner)
    operations = await factories.operations(db, code)
    args = await factories.rows(db, "SELECT args FROM procrastinate_jobs ORDER BY id")
    assert [row["args"] for row in args] == [{"operation_id": o.id} for o in operations]


@pytest.mark.parametrize(
    ("state", "column"), [("revoked", "revoked_at"), ("cancelled", "cancelled_at")]
)
async def test_f7_a_pin_that_was_on_the_lock_within_90_days_is_not_chosen_again(
    db: Database,
    planner: Planner,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    column: str,
) -> None:
    used = pin_of(planner, await scheduled(db, planner))
    await execute(
        db,
        "UPDATE access_codes SET state = :state, pin_sealed = NULL,"
        f" {column} = now() - interval '89 days'",
        state=state,
    )
    other = Pin("806135" if used.digits() != "806135" else "806136")
    drawn = [used, used, other]
    monkeypatch.setattr(pins, "choose", lambda length: drawn.pop(0))
    assert pin_of(planner, await scheduled(db, planner, "res-2")) == other
    assert drawn == []


async def test_the_same_pin_may_be_on_another_lock(
    db: Database, planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = pin_of(planner, await scheduled(db, planner))
    await factories.add_listing(db, "apt-8", {"sim-zigbee-2": "zigbee"})
    monkeypatch.setattr(pins, "choose", lambda length: used)
    await factories.receive(db, planner, factories.booking("res-2", listing_id="apt-8"))
    (code,) = await factories.codes(db, "res-2")
    assert pin_of(planner, code) == used


async def test_f7_listings_that_share_a_street_door_never_share_a_pin_on_it(
    db: Database, planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    street = {"sim-zigbee-1": "zigbee"}
    used = pin_of(planner, await scheduled(db, planner))
    await factories.add_listing(db, "apt-8", {**street, "sim-zigbee-2": "zigbee"})
    other = Pin("806135" if used.digits() != "806135" else "806136")
    drawn = [used, other]
    monkeypatch.setattr(pins, "choose", lambda length: drawn.pop(0))
    await factories.receive(db, planner, factories.booking("res-2", listing_id="apt-8"))
    shared = {code.lock_id: pin_of(planner, code) for code in await factories.codes(db, "res-2")}
    assert shared == {"sim-zigbee-1": other, "sim-zigbee-2": other}


async def test_f18_a_pin_is_drawn_and_says_nothing_of_the_guests_phone(
    db: Database, planner: Planner
) -> None:
    """Six digits of a phone's ten are one of them by chance once in 200,000 draws."""
    locks = {"sim-zigbee-1": "zigbee", "sim-wifi-1": "wifi"}
    await factories.add_listing(db, locks=locks)
    phone = "+55 11 5550 0100"
    for stay in ("res-1", "res-2"):
        await factories.receive(db, planner, factories.booking(stay, guest_phone=phone))
    codes_ = [*await factories.codes(db), *await factories.codes(db, "res-2")]
    drawn = [pin_of(planner, code).digits() for code in codes_]
    assert len(set(drawn)) == len(codes_) == 4
    assert not [pin for pin in drawn if pin[:6] in phone.replace(" ", "")]


async def test_a_lock_on_which_no_pin_is_free_is_a_conflict_and_leaves_no_row(
    db: Database, planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = pin_of(planner, await scheduled(db, planner))
    monkeypatch.setattr(pins, "choose", lambda length: used)
    with pytest.raises(Conflict, match="no free PIN"):
        await factories.receive(db, planner, factories.booking("res-2"))
    assert await factories.codes(db, "res-2") == []
    assert await factories.rows(db, "SELECT 1 FROM reservations WHERE id = 'res-2'") == []


async def test_a_replaced_pin_is_another_and_was_not_lately_on_the_lock(
    db: Database, planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await scheduled(db, planner)
    second = await scheduled(db, planner, "res-2")
    await execute(db, "UPDATE access_codes SET state = 'generating'")
    taken, own, other = pin_of(planner, first), pin_of(planner, second), Pin("806135")
    drawn = [taken, own, other]
    monkeypatch.setattr(pins, "choose", lambda length: drawn.pop(0))
    async with db.transaction() as session:
        held = await access_codes.code_for_update(session, second.id)
        await codes.replace_pin(session, planner.sealer, "test", held)
    (after,) = await factories.codes(db, "res-2")
    assert pin_of(planner, after) == other
    assert after.remote_name != second.remote_name
