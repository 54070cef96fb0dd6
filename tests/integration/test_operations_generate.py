"""A generate operation, from its first ring until the PIN is seen on the door."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pinqueue import sweep
from pinqueue.bench.device import Device
from pinqueue.errors import TryLater
from pinqueue.locks import Door, RemotePin
from pinqueue.operations import Workbench
from pinqueue.pins import Pin
from pinqueue.simulator import Control
from tests import factories
from tests.operating import (
    BLUETOOTH,
    LIST,
    WIFI,
    ZIGBEE,
    book,
    cancel,
    code_of,
    creates,
    digits,
    door_of,
    execute,
    gap,
    held,
    operation_of,
    performed,
    put_on_door,
    ring,
    tell,
    until,
    window_of,
)

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


async def test_f3_a_zigbee_lock_has_the_pin_a_second_after_it_was_accepted(
    bench: Workbench, doors: Control
) -> None:
    await book(bench)
    assert isinstance(await ring(bench, "generate"), TryLater)
    assert ((await code_of(bench)).state, held(doors)) == ("sent", [])
    doors.advance(1.1)
    assert await ring(bench, "generate") is None
    code = await code_of(bench)
    assert (code.state, [pin for pin, *_ in held(doors)]) == ("active", [digits(bench, code)])
    assert (await operation_of(bench, "generate")).state == "completed"


class SlowLooks(Device):
    """Looks at what it holds take as long as the test lets them."""

    def __init__(self) -> None:
        super().__init__(latency=0)
        self.looks, self.go_on = 0, asyncio.Event()

    async def list_pins(self, door: Door) -> Sequence[RemotePin]:
        self.looks += 1
        if self.looks > 1:
            await self.go_on.wait()
        return await super().list_pins(door)


async def test_what_the_cloud_accepted_is_written_down_before_the_look_for_it_ends(
    bench: Workbench,
) -> None:
    """Should the worker die during that look, the next one knows that the PIN is there."""
    device = SlowLooks()
    slow = replace(bench, gateway=device)
    await book(slow)
    ringing = asyncio.create_task(ring(slow, "generate"))

    async def it_is_sent() -> bool:
        return (await code_of(slow)).state == "sent"

    await until(it_is_sent)
    assert not ringing.done()
    device.go_on.set()
    assert await ringing is None
    assert (await code_of(slow)).state == "active"


async def test_f3_a_sleeping_wifi_lock_leaves_the_code_sent_until_it_wakes(
    bench: Workbench, doors: Control
) -> None:
    await book(bench, WIFI)
    for _ in range(3):
        assert isinstance(await ring(bench, "generate"), TryLater)
        assert (await code_of(bench)).state == "sent"
    assert (held(doors, WIFI), creates(doors)) == ([], 1)
    doors.wake(WIFI)
    assert await ring(bench, "generate") is None
    assert (await code_of(bench)).state == "active"
    assert len(held(doors, WIFI)) == 1


async def test_f2_a_bluetooth_lock_out_of_reach_is_tried_until_its_window_opens(
    bench: Workbench, prompt: Control
) -> None:
    prompt.state(BLUETOOTH, online=False)
    await book(bench, BLUETOOTH)
    for _ in range(5):
        assert isinstance(await ring(bench, "generate"), TryLater)
    operation = await operation_of(bench, "generate")
    assert (operation.state, operation.failures) == ("waiting", 0)
    assert "offline" in str(operation.last_error)
    assert (await code_of(bench)).state == "generating"
    prompt.state(BLUETOOTH, online=True)
    assert await ring(bench, "generate") is None
    assert (await code_of(bench)).state == "active"


@pytest.mark.parametrize(
    ("tried_for", "seconds"), [("0 s", 2), ("10 s", 5), ("2 min", 60), ("3 h", 300)]
)
async def test_the_gaps_between_tries_grow_with_the_time_it_has_been_tried(
    bench: Workbench, doors: Control, tried_for: str, seconds: float
) -> None:
    doors.state(BLUETOOTH, online=False)
    await book(bench, BLUETOOTH)
    await ring(bench, "generate")
    await execute(
        bench.db,
        "UPDATE operations SET first_claimed_at = now() - CAST(:tried_for AS interval)"
        " WHERE kind = 'generate'",
        tried_for=tried_for,
    )
    await ring(bench, "generate")
    assert await gap(bench, "generate") == pytest.approx(seconds, abs=1)


async def test_f12_the_pin_opens_inside_its_window_only(bench: Workbench, prompt: Control) -> None:
    code = await put_on_door(bench, prompt)
    moments = {
        code.starts_at - timedelta(seconds=1): False,
        code.starts_at: True,
        code.ends_at - timedelta(seconds=1): True,
        code.ends_at: False,
    }
    opened = {}
    for moment in moments:
        prompt.set_clock(moment)
        opened[moment] = prompt.open(ZIGBEE, digits(bench, code))
    assert opened == moments


async def test_the_lock_knows_the_window_of_the_stay(bench: Workbench, prompt: Control) -> None:
    code = await put_on_door(bench, prompt)
    assert held(prompt) == [(digits(bench, code), code.starts_at, code.ends_at)]


async def test_f19_a_pin_that_nobody_used_for_days_still_opens(
    bench: Workbench, prompt: Control
) -> None:
    """Offline PINs die a day after they began; ours are stored on the lock."""
    await book(bench, lasts=timedelta(days=9))
    assert await ring(bench, "generate") is None
    code = await code_of(bench)
    prompt.set_clock(code.starts_at + timedelta(days=8))
    assert prompt.open(ZIGBEE, digits(bench, code))


async def test_f20_a_guest_who_goes_in_and_out_keeps_the_pin(
    bench: Workbench, prompt: Control
) -> None:
    """No use of a door, a cleaner's either, is taken for a check-out."""
    code = await put_on_door(bench, prompt)
    cleaner = Pin(digits(bench, code)[::-1])
    await bench.gateway.create_pin(door_of(code), "the cleaner", cleaner, window_of(code))
    for hours in range(1, 40, 3):
        prompt.set_clock(code.starts_at + hours * HOUR)
        assert prompt.open(ZIGBEE, digits(bench, code))
        assert prompt.open(ZIGBEE, cleaner.digits())
        await sweep.sweep(bench.db, timedelta(days=1))
    assert ((await code_of(bench)).state, performed(prompt, "DELETE")) == ("active", 0)
    assert (await operation_of(bench, "revoke")).next_at == code.ends_at


async def test_f13_a_start_in_the_past_is_sent_as_now_and_then_kept(
    bench: Workbench, doors: Control
) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    code = await book(bench, WIFI, starts_in=-3 * HOUR)
    await ring(bench, "generate")
    doors.wake(WIFI)
    ((_, starts_at, ends_at),) = held(doors, WIFI)

    async def a_second_later() -> bool:
        return datetime.now(UTC) >= starts_at + timedelta(seconds=1)

    await until(a_second_later)
    assert await ring(bench, "generate") is None
    assert held(doors, WIFI)[0][1:] == (starts_at, ends_at)
    assert before <= starts_at <= datetime.now(UTC)
    assert ends_at == code.ends_at
    assert performed(doors, "PUT") == 0
    assert (await code_of(bench)).starts_at == code.starts_at


async def test_the_hash_proves_the_pin_on_the_door_and_no_other(
    bench: Workbench, prompt: Control
) -> None:
    code = await put_on_door(bench, prompt)
    ((pin, *_),) = held(prompt)
    other = Pin(pin[::-1])
    assert await bench.planner.sealer.matches(code.id, Pin(pin), str(code.pin_hash))
    assert not await bench.planner.sealer.matches(code.id, other, str(code.pin_hash))
    assert not await bench.planner.sealer.matches(code.id + 1, Pin(pin), str(code.pin_hash))


async def test_an_operation_that_is_not_due_leaves_the_lock_alone(
    bench: Workbench, doors: Control
) -> None:
    await book(bench, starts_in=timedelta(days=30))
    assert await ring(bench, "generate", as_if_due=False) is None
    operation = await operation_of(bench, "generate")
    assert (operation.state, operation.epoch, doors.log()) == ("waiting", 0, [])


async def test_f4_a_completed_operation_leaves_the_lock_alone(
    bench: Workbench, prompt: Control
) -> None:
    await put_on_door(bench, prompt)
    prompt.clear_log()
    assert await ring(bench, "generate") is None
    assert prompt.log() == []


async def test_f4_a_pin_that_is_on_the_door_is_not_written_again_while_nobody_can_look(
    bench: Workbench, doors: Control
) -> None:
    await book(bench)
    await ring(bench, "generate")
    doors.advance(1.1)
    doors.fault("http_500", LIST, times=10)
    for _ in range(10):
        assert isinstance(await ring(bench, "generate"), TryLater)
    assert await ring(bench, "generate") is None
    assert (await code_of(bench)).state == "active"
    assert (creates(doors), performed(doors, "PUT"), performed(doors, "DELETE")) == (1, 0, 0)


async def test_a_cancelled_operation_leaves_the_lock_alone(
    bench: Workbench, doors: Control
) -> None:
    await book(bench)
    await cancel(bench)
    assert await ring(bench, "generate") is None
    assert doors.log() == []


async def test_every_try_is_on_record_with_its_outcome(bench: Workbench, doors: Control) -> None:
    await book(bench)
    await ring(bench, "generate")
    doors.advance(1.1)
    await ring(bench, "generate")
    tries = await factories.rows(
        bench.db, "SELECT epoch, outcome, error, finished_at > started_at AS ran FROM tries"
    )
    assert [(t["epoch"], t["outcome"], t["ran"]) for t in tries] == [
        (1, "later", True),
        (2, "completed", True),
    ]
    assert "not confirmed" in tries[0]["error"]


async def test_each_step_of_the_way_is_told_in_the_timeline(
    bench: Workbench, doors: Control
) -> None:
    await book(bench)
    await ring(bench, "generate")
    doors.advance(1.1)
    await ring(bench, "generate")
    events = await factories.rows(
        bench.db, "SELECT event FROM audit_timeline WHERE reservation_id = 'res-1'"
    )
    assert [e["event"] for e in events] == [
        "reservation:confirmed",
        "code:scheduled",
        "generate:started",
        "code:sent",
        "generate:later",
        "generate:started",
        "code:active",
    ]


async def test_a_pin_that_somebody_took_off_the_lock_comes_back_with_the_next_change(
    bench: Workbench, prompt: Control
) -> None:
    code = await put_on_door(bench, prompt)
    assert code.remote_id is not None
    await bench.gateway.delete_pin(door_of(code), code.remote_id)
    assert held(prompt) == []
    await tell(bench, lasts=timedelta(days=3))
    assert await ring(bench, "generate") is None
    after = await code_of(bench)
    assert held(prompt) == [(digits(bench, code), after.starts_at, after.ends_at)]
