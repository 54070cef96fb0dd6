"""A stay changes while its PIN is on its way, on the door, or on its way off."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from pinqueue.errors import TryLater
from pinqueue.operations import Workbench, revoking
from pinqueue.simulator import Control
from tests import factories
from tests.operating import (
    CREATE,
    DELETE,
    WIFI,
    book,
    cancel,
    code_of,
    creates,
    digits,
    held,
    operation_of,
    performed,
    put_on_door,
    ring,
    struck,
    tell,
)

pytestmark = pytest.mark.anyio

DAYS = timedelta(days=1)


async def test_f5_a_change_of_dates_reaches_the_door_and_the_pin_stays_the_same(
    bench: Workbench, prompt: Control
) -> None:
    before = await put_on_door(bench, prompt)
    pin = digits(bench, before)
    await tell(bench, lasts=5 * DAYS)
    assert await ring(bench, "generate", as_if_due=False) is None
    after = await code_of(bench)
    assert (after.id, after.state) == (before.id, "active")
    assert held(prompt) == [(pin, after.starts_at, after.ends_at)]
    assert (creates(prompt), performed(prompt, "PUT"), performed(prompt, "DELETE")) == (1, 1, 0)
    revoke = await operation_of(bench, "revoke")
    assert (revoke.state, revoke.next_at) == ("waiting", after.ends_at)


async def test_f6_a_change_of_dates_moves_the_one_code(bench: Workbench, doors: Control) -> None:
    """Before it is generated, while it is on its way and once it is on the door."""
    first = await book(bench, starts_in=timedelta(days=9))
    await tell(bench)
    await ring(bench, "generate")
    assert (await code_of(bench)).state == "sent"
    await tell(bench, lasts=3 * DAYS)
    for lasts in (4 * DAYS, 5 * DAYS):
        doors.advance(1.1)
        await ring(bench, "generate")
        doors.advance(1.1)
        assert await ring(bench, "generate") is None
        await tell(bench, lasts=lasts)
    await ring(bench, "generate")
    doors.advance(1.1)
    assert await ring(bench, "generate") is None
    (code,) = await factories.codes(bench.db)
    assert (code.id, code.ends_at - code.starts_at) == (first.id, 5 * DAYS)
    assert held(doors) == [(digits(bench, first), code.starts_at, code.ends_at)]
    assert creates(doors) == 1


async def test_f5_a_shorter_stay_ends_earlier_on_the_lock_itself(
    bench: Workbench, prompt: Control
) -> None:
    before = await put_on_door(bench, prompt)
    await tell(bench, lasts=1 * DAYS)
    assert await ring(bench, "generate") is None
    prompt.set_clock(before.ends_at - timedelta(hours=1))
    assert not prompt.open("sim-zigbee-1", digits(bench, before))


async def test_f5_a_change_of_dates_on_a_sleeping_lock_is_confirmed_when_it_wakes(
    bench: Workbench, doors: Control
) -> None:
    before = await put_on_door(bench, doors, WIFI)
    await tell(bench, lock=WIFI, lasts=5 * DAYS)
    assert isinstance(await ring(bench, "generate"), TryLater)
    assert (await code_of(bench)).state == "sent"
    assert held(doors, WIFI)[0][2] == before.ends_at
    doors.wake(WIFI)
    assert await ring(bench, "generate") is None
    assert held(doors, WIFI)[0][2] == (await code_of(bench)).ends_at > before.ends_at


async def test_f6_a_change_of_dates_during_a_running_generate_goes_round_once_more(
    benches: tuple[Workbench, Workbench], prompt: Control
) -> None:
    a, b = benches
    pin = digits(a, await book(a))
    prompt.fault("slow", CREATE, seconds=0.7)
    running = asyncio.create_task(ring(a, "generate"))
    await struck(prompt)
    await tell(b, lasts=6 * DAYS)
    error = await running
    assert isinstance(error, TryLater)
    assert (await operation_of(a, "generate")).state == "waiting"
    assert await ring(a, "generate", as_if_due=False) is None
    code = await code_of(a)
    assert (code.state, held(prompt)) == ("active", [(pin, code.starts_at, code.ends_at)])
    assert (creates(prompt), performed(prompt, "PUT")) == (1, 1)


async def test_a_change_of_dates_before_the_pin_is_begun_is_all_the_lock_ever_hears(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    await tell(bench, lasts=6 * DAYS)
    assert await ring(bench, "generate") is None
    code = await code_of(bench)
    assert held(prompt) == [(digits(bench, code), code.starts_at, code.ends_at)]
    assert performed(prompt, "PUT") == 0


async def test_a_stay_booked_again_while_revoking_gets_a_new_code_after_the_old_one_is_off(
    bench: Workbench, doors: Control
) -> None:
    before = await put_on_door(bench, doors, WIFI)
    old = digits(bench, before)
    await cancel(bench, lock=WIFI)
    assert isinstance(await ring(bench, "revoke"), TryLater)
    await tell(bench, lock=WIFI)
    assert [c.state for c in await factories.codes(bench.db)] == ["revoking"]
    doors.wake(WIFI)
    assert await ring(bench, "revoke") is None
    assert [c.state for c in await factories.codes(bench.db)] == ["revoked", "scheduled"]
    await ring(bench, "generate")
    doors.wake(WIFI)
    assert await ring(bench, "generate") is None
    after = await code_of(bench)
    assert [pin for pin, *_ in held(doors, WIFI)] == [digits(bench, after)]
    assert digits(bench, after) != old


async def test_a_stay_extended_at_its_very_end_gets_a_new_code_after_the_old_one_is_off(
    bench: Workbench, prompt: Control
) -> None:
    await put_on_door(bench, prompt)
    prompt.fault("slow", DELETE, seconds=0.7)
    revoking = asyncio.create_task(ring(bench, "revoke"))
    await struck(prompt)
    await tell(bench, lasts=9 * DAYS)
    assert await revoking is None
    assert await ring(bench, "generate") is None
    codes = await factories.codes(bench.db)
    assert [c.state for c in codes] == ["revoked", "active"]
    assert held(prompt) == [(digits(bench, codes[1]), codes[1].starts_at, codes[1].ends_at)]


async def test_a_stay_that_moves_to_another_flat_leaves_one_door_and_is_put_on_the_other(
    bench: Workbench, prompt: Control
) -> None:
    await put_on_door(bench, prompt)
    await factories.add_listing(bench.db, "other-flat", {"sim-zigbee-2": "zigbee"})
    await tell(bench, lock="other-flat")
    old, new = await factories.codes(bench.db)
    assert (old.state, new.lock_id) == ("revoking", "sim-zigbee-2")
    assert await ring(bench, "generate") is None
    revoke = [o for o in await factories.operations(bench.db, old) if o.kind == "revoke"][-1]
    await revoking.revoke(bench, revoke.id, revoke.job_id)
    assert (len(held(prompt)), len(held(prompt, "sim-zigbee-2"))) == (0, 1)
    assert isinstance(revoke.next_at, datetime)


async def test_f4_telling_the_same_stay_again_asks_nothing_of_the_lock(
    bench: Workbench, prompt: Control
) -> None:
    code = await put_on_door(bench, prompt)
    prompt.clear_log()
    told = factories.booking(
        listing_id=code.lock_id,
        check_in=code.starts_at.isoformat(),
        check_out=code.ends_at.isoformat(),
    )
    await factories.receive(bench.db, bench.planner, told)
    assert await ring(bench, "generate") is None
    assert (prompt.log(), len(await factories.operations(bench.db, code))) == ([], 2)
