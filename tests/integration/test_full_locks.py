"""Locks that take no more: who arrives first gets in, and nobody who is in is pushed out."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from pinqueue import codes, store
from pinqueue.config import Settings
from pinqueue.errors import TryLater
from pinqueue.operations import Workbench
from pinqueue.operations.generating import OVERLAP_WAIT
from pinqueue.simulator import Control
from pinqueue.store import access_codes
from tests import factories
from tests.operating import (
    WIFI,
    ZIGBEE,
    a_worker,
    book,
    cancel,
    code_of,
    digits,
    execute,
    gap,
    held,
    operation_of,
    performed,
    put_on_door,
    ring,
    ring_all,
    somebody_waits,
    tell,
    until,
)

pytestmark = pytest.mark.anyio

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def arriving(bench: Workbench, **starts_in: timedelta) -> None:
    """Stays with their PIN on the door, as far as it takes them, in the order they are named."""
    for reservation_id, begins in starts_in.items():
        await book(bench, reservation_id=reservation_id, starts_in=begins)
        await ring(bench, "generate", reservation_id)


async def inside(bench: Workbench, doors: Control, lock: str = ZIGBEE) -> set[str]:
    """The stays whose PINs the lock holds."""
    rows = await factories.rows(bench.db, "SELECT DISTINCT reservation_id AS id FROM access_codes")
    codes_now = [await code_of(bench, row["id"]) for row in rows]
    known = {digits(bench, code): code.reservation_id for code in codes_now if code.pin_sealed}
    return {known.get(pin, pin) for pin, _, _ in held(doors, lock)}


async def back_to_back(bench: Workbench) -> None:
    """One guest has left fifty minutes ago, another comes in ten; both have an hour's buffer."""
    await factories.add_listing(bench.db, ZIGBEE, {ZIGBEE: "zigbee"})
    await execute(bench.db, "UPDATE listings SET buffer_before = '1 h', buffer_after = '1 h'")
    minutes = timedelta(minutes=10)
    await book(bench, reservation_id="leaves", starts_in=-DAY, lasts=DAY - 5 * minutes)
    await book(bench, reservation_id="arrives", starts_in=minutes)


async def refused(bench: Workbench, reservation_id: str) -> str:
    """Why a lock does not take a PIN that Tuya has taken: the next look sees it, and undoes it."""
    assert isinstance(await ring(bench, "generate", reservation_id), TryLater)
    return str(await ring(bench, "generate", reservation_id))


async def states(bench: Workbench, *stays: str) -> list[str]:
    return [(await code_of(bench, stay)).state for stay in stays]


async def test_f8_a_nearer_arrival_gets_the_place_of_the_last_who_has_not_arrived(
    bench: Workbench, prompt: Control
) -> None:
    prompt.settings(max_live=3)
    await arriving(bench, in_=-HOUR, far=20 * HOUR, farther=3 * DAY)
    told = digits(bench, await code_of(bench, "farther"))
    await book(bench, reservation_id="now", starts_in=timedelta(0))
    assert isinstance(await ring(bench, "generate", "now"), TryLater)
    assert isinstance(await ring(bench, "generate", "farther", as_if_due=False), TryLater)
    assert await ring(bench, "generate", "now", as_if_due=False) is None
    assert await inside(bench, prompt) == {"in_", "far", "now"}
    assert await states(bench, "farther") == ["generating"]
    await cancel(bench, "in_")
    assert await ring(bench, "revoke", "in_") is None
    assert await ring(bench, "generate", "farther", as_if_due=False) is None
    assert {pin for pin, _, _ in held(prompt)} >= {told}
    assert await states(bench, "far", "now", "farther") == ["active", "active", "active"]


async def test_f8_where_a_place_that_was_made_does_not_help_nobody_else_is_asked(
    bench: Workbench, prompt: Control
) -> None:
    prompt.settings(max_live=3)
    await arriving(bench, in_=-HOUR, far=20 * HOUR, farther=3 * DAY)
    await book(bench, reservation_id="now", starts_in=timedelta(0))
    await ring(bench, "generate", "now")
    await ring(bench, "generate", "farther", as_if_due=False)
    prompt.settings(max_live=2)  # somebody else's PIN has taken the place
    for _ in range(2):
        assert isinstance(await ring(bench, "generate", "now"), TryLater)
        assert isinstance(await ring(bench, "generate", "farther"), TryLater)
    assert await inside(bench, prompt) == {"in_", "far"}
    assert (await operation_of(bench, "generate", "far")).state == "completed"


async def test_f8_who_is_in_and_who_comes_earlier_keep_their_places(
    bench: Workbench, prompt: Control
) -> None:
    prompt.settings(max_live=2)
    await arriving(bench, in_=-HOUR, near=HOUR)
    before = held(prompt)
    await arriving(bench, far=5 * HOUR)
    for _ in range(3):
        assert isinstance(await ring(bench, "generate", "far"), TryLater)
    assert await ring(bench, "generate", "near") is None
    assert (held(prompt), performed(prompt, "DELETE")) == (before, 0)


async def test_f8_who_is_in_is_not_asked_to_make_room_for_whom_should_have_been_in_before(
    bench: Workbench, prompt: Control
) -> None:
    prompt.settings(max_live=1)
    await arriving(bench, in_=-HOUR, booked_late=-2 * HOUR)
    assert (await operation_of(bench, "generate", "in_")).state == "completed"
    assert await inside(bench, prompt) == {"in_"}


async def test_f8_who_arrives_before_he_has_made_room_stays_in(
    bench: Workbench, prompt: Control
) -> None:
    prompt.settings(max_live=1)
    await arriving(bench, later=HOUR, now=timedelta(0))
    assert (await operation_of(bench, "generate", "later")).waits_for_room
    begun = "UPDATE access_codes SET starts_at = now() WHERE reservation_id = 'later'"
    await execute(bench.db, begun)
    await ring(bench, "generate", "later")
    assert await inside(bench, prompt) == {"later"}


async def test_f8_a_sleeping_lock_makes_room_when_it_wakes(
    bench: Workbench, doors: Control
) -> None:
    doors.settings(max_live=1)
    await put_on_door(bench, doors, WIFI)  # in half an hour
    await book(bench, WIFI, "now", starts_in=timedelta(0))
    await ring(bench, "generate", "now")
    for stay in ("res-1", "now"):
        assert isinstance(await ring(bench, "generate", stay), TryLater)
    assert await inside(bench, doors, WIFI) == {"res-1"}
    doors.wake(WIFI)
    for stay in ("res-1", "now"):
        assert isinstance(await ring(bench, "generate", stay), TryLater)
    doors.wake(WIFI)
    assert await ring(bench, "generate", "now") is None
    assert await inside(bench, doors, WIFI) == {"now"}


async def test_f8_a_lock_that_says_itself_that_it_is_full_is_as_full_as_any(
    bench: Workbench, prompt: Control
) -> None:
    """Tuya takes the PIN, and the Zigbee lock answers with delivery_status 5."""
    await arriving(bench, in_=-HOUR)
    for stay, hours in {"near": 1, "far": 5}.items():
        await book(bench, reservation_id=stay, starts_in=hours * HOUR)
    prompt.state(ZIGBEE, delivery_status=5)
    assert "as many PINs as it can" in await refused(bench, "near")
    assert "earlier arrival" in str(await ring(bench, "generate", "far"))
    assert await inside(bench, prompt) == {"in_"}
    await cancel(bench, "in_")
    assert await ring(bench, "revoke", "in_") is None
    assert await ring(bench, "generate", "near", as_if_due=False) is None
    assert await inside(bench, prompt) == {"near"}


async def test_f8_workers_fill_a_full_lock_in_the_order_of_arrival_whoever_asked_first(
    settings: Settings, bench: Workbench, prompt: Control
) -> None:
    prompt.settings(max_live=1)
    await arriving(bench, in_=-HOUR)
    for stay, minutes in {"third": 50, "second": 40, "first": 30}.items():
        await book(bench, reservation_id=stay, starts_in=timedelta(minutes=minutes))

    async def all_asked() -> bool:
        waiting = "SELECT count(*) FROM operations WHERE waits_for_room"
        return bool(await factories.value(bench.db, waiting) == 3)

    async with a_worker(settings):
        await until(all_asked, seconds=30)
        for leaves, follows in [("in_", "first"), ("first", "second"), ("second", "third")]:
            await cancel(bench, leaves)

            async def there(stay: str = follows) -> bool:
                return await inside(bench, prompt) == {stay}

            await until(there, seconds=30)
    assert [entry["ended_by"] for entry in prompt.ledger(ZIGBEE)] == ["deleted"] * 3 + [None]


async def test_a_place_is_not_offered_to_whom_is_cancelled_at_that_moment(
    bench: Workbench, prompt: Control
) -> None:
    prompt.settings(max_live=0)
    await arriving(bench, near=HOUR)
    async with bench.db.transaction() as cancelling:
        (code,) = await access_codes.live_codes(cancelling, "near")
        await codes.withdraw(cancelling, "test", code, now=await store.now(cancelling))

        async def fill() -> None:
            async with bench.db.transaction() as session:
                await codes.fill_room(session, ZIGBEE, now=await store.now(session))

        filling = asyncio.create_task(fill())
        await until(lambda: somebody_waits(bench.db))
    await filling
    operations = await factories.operations(bench.db, await code_of(bench, "near"))
    assert {o.kind: o.state for o in operations} == {"generate": "cancelled", "revoke": "waiting"}


async def test_back_to_back_stays_with_overlapping_buffers_both_open_the_door_meanwhile(
    bench: Workbench, prompt: Control
) -> None:
    await back_to_back(bench)
    await ring_all(bench)
    for stay in ("leaves", "arrives"):
        assert prompt.open(ZIGBEE, digits(bench, await code_of(bench, stay)))


async def test_a_lock_that_takes_no_overlapping_windows_gets_the_next_pin_when_one_ends(
    bench: Workbench, prompt: Control
) -> None:
    """Tuya's delivery_status 6. Who is in keeps his PIN; the lock is left in peace meanwhile."""
    prompt.settings(zigbee_overlaps=False)
    await back_to_back(bench)
    assert await ring(bench, "generate", "leaves") is None
    before = held(prompt)
    assert "overlaps" in await refused(bench, "arrives")
    leaves = await code_of(bench, "leaves")
    assert (await operation_of(bench, "generate", "arrives")).next_at == leaves.ends_at
    assert held(prompt) == before
    await cancel(bench, "leaves")
    await ring_all(bench)
    assert await states(bench, "leaves", "arrives") == ["revoked", "active"]
    assert await inside(bench, prompt) == {"arrives"}


async def test_a_window_that_is_taken_for_long_is_asked_for_every_quarter_of_an_hour(
    bench: Workbench, prompt: Control
) -> None:
    prompt.settings(zigbee_overlaps=False)
    await arriving(bench, stays=-HOUR)
    await book(bench, reservation_id="comes", starts_in=HOUR)
    assert "overlaps" in await refused(bench, "comes")
    assert await gap(bench, "generate", "comes") == pytest.approx(
        OVERLAP_WAIT.total_seconds(), abs=2
    )
    assert await inside(bench, prompt) == {"stays"}


async def test_an_extension_that_would_overlap_the_next_window_leaves_the_guest_the_old_one(
    bench: Workbench, prompt: Control
) -> None:
    prompt.settings(zigbee_overlaps=False)
    await book(bench, reservation_id="in", starts_in=-HOUR, lasts=2 * HOUR)
    assert await ring(bench, "generate", "in") is None
    await arriving(bench, next=2 * HOUR)
    before = held(prompt)
    assert len(before) == 2
    await tell(bench, "in", starts_in=-HOUR, lasts=5 * HOUR)
    for _ in range(3):
        error = await ring(bench, "generate", "in")
        assert isinstance(error, TryLater)
    assert "overlaps" in str(error)
    assert (held(prompt), performed(prompt, "DELETE")) == (before, 0)
