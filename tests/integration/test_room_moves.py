"""A guest moves to another room: off the old doors, on the new ones, with the PIN he was told."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from pinqueue import codes, store
from pinqueue.locks import Window
from pinqueue.models import AccessCode
from pinqueue.operations import Workbench
from pinqueue.simulator import Control
from tests import factories
from tests.operating import (
    CREATE,
    ZIGBEE,
    book,
    bring_to,
    code_of,
    creates,
    digits,
    held,
    performed,
    ring,
    ring_all,
    struck,
    tell,
    window_of,
)

pytestmark = pytest.mark.anyio

OTHER_ROOM = "sim-zigbee-2"


@pytest.fixture(autouse=True)
async def other_room(bench: Workbench) -> None:
    await factories.add_listing(bench.db, OTHER_ROOM, {OTHER_ROOM: "zigbee"})


def on(doors: Control, lock: str) -> list[tuple[str, Window]]:
    return [(pin, Window(starts_at, ends_at)) for pin, starts_at, ends_at in held(doors, lock)]


async def by_lock(bench: Workbench, reservation_id: str = "res-1") -> dict[str, AccessCode]:
    """A stay's newest access code on each lock."""
    return {code.lock_id: code for code in await factories.codes(bench.db, reservation_id)}


@pytest.mark.parametrize("state", ["scheduled", "generating", "sent", "active", "failed"])
async def test_the_pin_goes_along_to_the_new_door_and_is_off_the_old_one(
    bench: Workbench, prompt: Control, state: str
) -> None:
    pin = digits(bench, await bring_to(bench, prompt, state))
    await tell(bench, lock=OTHER_ROOM)
    await ring_all(bench)
    old, new = await factories.codes(bench.db)
    assert on(prompt, ZIGBEE) == []
    assert on(prompt, OTHER_ROOM) == [(pin, window_of(new))]
    assert old.state == ("cancelled" if state == "scheduled" else "revoked")
    assert (new.state, digits(bench, new)) == ("active", pin)
    tried = {"scheduled": 0, "generating": 0, "sent": 1, "active": 1, "failed": 0}
    assert creates(prompt) == tried[state] + 1


async def test_a_move_while_the_old_door_is_being_told_leaves_nothing_there(
    benches: tuple[Workbench, Workbench], prompt: Control
) -> None:
    a, b = benches
    pin = digits(a, await book(a))
    prompt.fault("slow", CREATE, seconds=0.7)
    telling = asyncio.create_task(ring(a, "generate"))
    await struck(prompt)
    await tell(b, lock=OTHER_ROOM)
    assert await telling is None
    await ring_all(b)
    assert on(prompt, ZIGBEE) == []
    assert [digit for digit, _ in on(prompt, OTHER_ROOM)] == [pin]
    assert creates(prompt) == 2


async def test_where_the_pin_is_taken_the_new_door_gets_another(
    bench: Workbench, prompt: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await bring_to(bench, prompt, "active")
    pin = bench.planner.sealer.open_pin(before.id, before.pin_sealed or b"")
    monkeypatch.setattr("pinqueue.pins.choose", lambda length: pin)
    await book(bench, OTHER_ROOM, "neighbour")
    monkeypatch.undo()
    await tell(bench, lock=OTHER_ROOM)
    await ring_all(bench)
    assert on(prompt, ZIGBEE) == []
    theirs, his = sorted(on(prompt, OTHER_ROOM), key=lambda one: one[0] != pin.digits())
    assert theirs[0] == pin.digits()
    assert his[0] == digits(bench, await code_of(bench)) != pin.digits()


async def test_a_street_door_of_both_rooms_is_left_alone(bench: Workbench, prompt: Control) -> None:
    prompt.add_door("street", "bluetooth")
    both = {"street": "bluetooth"}
    await factories.add_listing(bench.db, "room-1", {ZIGBEE: "zigbee"} | both)
    await factories.add_listing(bench.db, "room-2", {"sim-zigbee-2": "zigbee"} | both)
    prompt.settings(bluetooth_seconds=0)
    await tell(bench, lock="room-1")
    await ring_all(bench)
    before = await by_lock(bench)
    street = on(prompt, "street")
    prompt.clear_log()
    told = factories.booking(
        listing_id="room-2",
        check_in=before["street"].starts_at.isoformat(),
        check_out=before["street"].ends_at.isoformat(),
    )
    await factories.receive(bench.db, bench.planner, told)
    await ring_all(bench)
    after = await by_lock(bench)
    assert (after["street"].id, on(prompt, "street")) == (before["street"].id, street)
    assert prompt.log("street") == []
    assert [pin for pin, _ in on(prompt, "sim-zigbee-2")] == [street[0][0]]
    assert on(prompt, ZIGBEE) == []


async def test_who_moves_back_before_the_old_door_is_clear_has_one_pin_on_it_in_the_end(
    bench: Workbench, prompt: Control
) -> None:
    await bring_to(bench, prompt, "active")
    prompt.fault("code", {"method": "DELETE"}, code=2312)
    await tell(bench, lock=OTHER_ROOM)
    assert await ring(bench, "generate") is None
    await tell(bench)
    await ring_all(bench)
    assert on(prompt, OTHER_ROOM) == []
    ((pin, _),) = on(prompt, ZIGBEE)
    states = [code.state for code in await factories.codes(bench.db)]
    assert states == ["revoked", "revoked", "active"]
    assert pin == digits(bench, await code_of(bench))


async def test_a_pin_that_is_being_replaced_does_not_go_along(
    bench: Workbench, prompt: Control
) -> None:
    """Somebody may know it who should not."""
    before = await bring_to(bench, prompt, "active")
    pin = digits(bench, before)
    async with bench.db.transaction() as session:
        now = await store.now(session)
        await codes.reissue(session, bench.planner.sealer, "test", before.id, now=now)
    await tell(bench, lock=OTHER_ROOM)
    await ring_all(bench)
    assert on(prompt, ZIGBEE) == []
    ((new, _),) = on(prompt, OTHER_ROOM)
    assert new != pin


async def test_a_move_with_other_dates_is_all_that_the_new_door_ever_hears(
    bench: Workbench, prompt: Control
) -> None:
    before = await bring_to(bench, prompt, "active")
    longer = Window(before.starts_at, before.ends_at + timedelta(days=1))
    told = factories.booking(
        listing_id=OTHER_ROOM,
        check_in=longer.starts_at.isoformat(),
        check_out=longer.ends_at.isoformat(),
    )
    await factories.receive(bench.db, bench.planner, told)
    await ring_all(bench)
    assert on(prompt, ZIGBEE) == []
    assert on(prompt, OTHER_ROOM) == [(digits(bench, before), longer)]
    assert performed(prompt, "PUT") == 0
