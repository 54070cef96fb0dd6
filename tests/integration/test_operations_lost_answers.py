"""What becomes of a PIN when the answer to its create never comes: never two, never none."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from pinqueue.config import Settings
from pinqueue.errors import TryLater
from pinqueue.locks import Door, RemotePin, Window
from pinqueue.operations import Workbench
from pinqueue.pins import Pin
from pinqueue.simulator import Control
from tests import factories
from tests.operating import (
    CREATE,
    LIST,
    ZIGBEE,
    a_workbench,
    book,
    code_of,
    creates,
    digits,
    door_of,
    grace_is_over,
    held,
    operation_of,
    performed,
    put_on_door,
    ring,
    struck,
    tell,
    until,
    window_of,
)

pytestmark = pytest.mark.anyio

GRACE = timedelta(seconds=90)


@pytest.mark.parametrize("fault", ["reset_after", "truncated"])
async def test_f24_a_create_whose_answer_was_lost_is_found_by_name_and_not_repeated(
    bench: Workbench, prompt: Control, fault: str
) -> None:
    await book(bench)
    prompt.fault(fault, CREATE)
    assert isinstance(await ring(bench, "generate"), TryLater)
    code = await code_of(bench)
    assert (code.state, code.remote_id) == ("generating", None)
    assert code.create_in_doubt_since is not None
    assert await ring(bench, "generate") is None
    code = await code_of(bench)
    assert (code.state, code.create_in_doubt_since) == ("active", None)
    assert (creates(prompt), [pin for pin, *_ in held(prompt)]) == (1, [digits(bench, code)])
    assert code.remote_id == prompt.pins(ZIGBEE)[0]["id"]


async def test_f24_a_create_that_outlasts_our_patience_is_found_and_not_repeated(
    settings: Settings, bench: Workbench, prompt: Control
) -> None:
    async with a_workbench(settings, bench.db, bench.planner, patience=0.5) as hasty:
        await book(hasty)
        prompt.fault("lost_answer", CREATE, seconds=30)
        assert isinstance(await ring(hasty, "generate"), TryLater)
    assert await ring(bench, "generate") is None
    assert (creates(prompt), len(held(prompt))) == (1, 1)


async def test_a_create_that_may_still_take_effect_is_not_repeated_before_the_grace_is_over(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    prompt.fault("late_apply", CREATE, seconds=60)
    await ring(bench, "generate")
    since = (await code_of(bench)).create_in_doubt_since
    assert since is not None
    for _ in range(3):
        error = await ring(bench, "generate")
        assert isinstance(error, TryLater)
        assert error.retry_at == since + GRACE
        assert (await operation_of(bench, "generate")).next_at == since + GRACE
    sent = [e for e in prompt.log() if e["method"] == "POST" and "/temp-password" in e["path"]]
    assert len(sent) == 1
    prompt.advance(61)
    assert await ring(bench, "generate") is None
    assert (creates(prompt), len(held(prompt))) == (1, 1)


async def test_a_create_that_took_no_effect_is_repeated_once_after_the_grace(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    prompt.fault("reset_before", CREATE)
    await ring(bench, "generate")
    assert isinstance(await ring(bench, "generate"), TryLater)
    assert creates(prompt) == 0
    await grace_is_over(bench)
    assert await ring(bench, "generate") is None
    assert (creates(prompt), len(held(prompt))) == (1, 1)


async def test_a_create_that_reached_nobody_is_repeated_without_waiting_for_the_grace(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    prompt.fault("code", CREATE, code=2312)
    assert isinstance(await ring(bench, "generate"), TryLater)
    assert (await code_of(bench)).create_in_doubt_since is None
    assert await ring(bench, "generate") is None
    assert len(held(prompt)) == 1


@pytest.mark.parametrize("fault", ["http_500", "http_502_html", "empty"])
async def test_an_answer_that_says_nothing_leaves_the_create_in_doubt(
    bench: Workbench, prompt: Control, fault: str
) -> None:
    await book(bench)
    prompt.fault(fault, CREATE)
    await ring(bench, "generate")
    assert (await code_of(bench)).create_in_doubt_since is not None
    assert isinstance(await ring(bench, "generate"), TryLater)
    await grace_is_over(bench)
    assert await ring(bench, "generate") is None
    assert (creates(prompt), len(held(prompt))) == (1, 1)


async def test_a_name_that_is_taken_is_our_own_earlier_call_and_is_adopted(
    bench: Workbench, prompt: Control
) -> None:
    code = await book(bench)
    # Between our look and our create, the earlier call arrives at last.
    prompt.fault("slow", {"path": "password-ticket"}, seconds=0.4)
    ringing = asyncio.create_task(ring(bench, "generate"))

    async def asked_for_ticket() -> bool:
        return any("password-ticket" in entry["path"] for entry in prompt.log())

    await until(asked_for_ticket)
    await bench.gateway.create_pin(
        door_of(code), code.remote_name, Pin(digits(bench, code)), window_of(code)
    )
    assert isinstance(await ringing, TryLater)
    assert "2316" in str((await operation_of(bench, "generate")).last_error)
    assert await ring(bench, "generate") is None
    after = await code_of(bench)
    assert after.remote_id == prompt.pins(ZIGBEE)[0]["id"]
    assert (after.state, creates(prompt), len(held(prompt))) == ("active", 1, 1)


async def test_of_two_pins_by_our_name_the_one_on_record_stays(
    bench: Workbench, prompt: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    await book(bench)
    await ring(bench, "generate")
    code = await code_of(bench)
    (ours,) = prompt.pins(ZIGBEE)
    # Our cloud insists on names of their own. In one that does not, the second would read alike.
    stray = Pin(digits(bench, code)[::-1])
    other = "pq-ffffffffffffffff"
    await bench.gateway.create_pin(door_of(code), other, stray, window_of(code))
    listed = bench.gateway.list_pins

    async def alike(door: Door) -> list[RemotePin]:
        return [
            replace(pin, name=code.remote_name) if pin.name == other else pin
            for pin in await listed(door)
        ]

    monkeypatch.setattr(bench.gateway, "list_pins", alike)
    await tell(bench, lasts=timedelta(days=3))
    assert await ring(bench, "generate") is None
    assert [pin["id"] for pin in prompt.pins(ZIGBEE)] == [ours["id"]]


async def test_a_list_that_cannot_be_read_creates_nothing(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    prompt.fault("truncated", LIST)
    assert isinstance(await ring(bench, "generate"), TryLater)
    assert (creates(prompt), (await code_of(bench)).create_in_doubt_since) == (0, None)


async def test_a_worker_told_to_stop_in_its_first_look_leaves_nothing_in_doubt(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    prompt.fault("slow", LIST, seconds=30)
    stopping = asyncio.create_task(ring(bench, "generate"))
    await struck(prompt)
    assert (await code_of(bench)).create_in_doubt_since is not None
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert (await code_of(bench)).create_in_doubt_since is None
    prompt.clear_faults()
    assert await ring(bench, "generate") is None
    assert len(held(prompt)) == 1


async def test_f24_a_worker_that_died_after_its_create_leaves_a_pin_that_the_next_one_adopts(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    prompt.fault("slow", CREATE, seconds=0.5)
    dying = asyncio.create_task(ring(bench, "generate"))

    async def in_doubt() -> bool:
        return (await code_of(bench)).create_in_doubt_since is not None

    await until(in_doubt)

    async def sent() -> bool:
        return any(entry["fault"] == "slow" for entry in prompt.log())

    await until(sent)
    dying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dying
    operation = await operation_of(bench, "generate")
    assert (operation.state, operation.epoch) == ("active", 1)

    async def done() -> bool:
        return creates(prompt) == 1

    await until(done)
    assert await ring(bench, "generate") is None
    code = await code_of(bench)
    assert (code.state, len(held(prompt)), creates(prompt)) == ("active", 1, 1)
    tries = await factories.rows(bench.db, "SELECT outcome FROM tries ORDER BY epoch")
    assert [t["outcome"] for t in tries] == ["rescued", "completed"]


async def test_a_change_whose_answer_was_lost_is_found_done(
    bench: Workbench, prompt: Control
) -> None:
    code = await put_on_door(bench, prompt)
    await tell(bench, lasts=timedelta(days=5))
    prompt.fault("reset_after", {"method": "PUT"})
    assert isinstance(await ring(bench, "generate"), TryLater)
    assert await ring(bench, "generate") is None
    after = await code_of(bench)
    assert Window(*held(prompt)[0][1:]) == window_of(after)
    assert (after.state, after.ends_at > code.ends_at) == ("active", True)
    assert performed(prompt, "PUT") == 1


async def test_a_create_that_comes_even_after_the_grace_makes_no_second_pin(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    prompt.fault("late_apply", CREATE, seconds=200)
    await ring(bench, "generate")
    await grace_is_over(bench)
    assert await ring(bench, "generate") is None
    prompt.advance(201)
    assert [pin for pin, *_ in held(prompt)] == [digits(bench, await code_of(bench))]
    assert creates(prompt) == 1
