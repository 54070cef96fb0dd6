"""A stay that has begun: its PIN's start is told to the lock once, and then left alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pinqueue.models import AccessCode
from pinqueue.operations import Workbench
from pinqueue.simulator import Control
from tests import factories
from tests.operating import (
    ZIGBEE,
    book,
    code_of,
    creates,
    digits,
    held,
    performed,
    ring,
    ring_all,
    until,
)

pytestmark = pytest.mark.anyio

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)


async def begun(bench: Workbench, doors: Control) -> tuple[AccessCode, datetime]:
    """A stay of two days that began three hours ago, with its PIN on the door for a second at
    least; and the start that the lock was told."""
    await book(bench, starts_in=-3 * HOUR)
    assert await ring(bench, "generate") is None
    ((_, starts_at, _),) = held(doors)

    async def a_second_later() -> bool:
        return datetime.now(UTC) >= starts_at + SECOND

    await until(a_second_later)
    return await code_of(bench), starts_at


async def tell(bench: Workbench, code: AccessCode, check_in: datetime, check_out: datetime) -> None:
    dates = {"check_in": check_in.isoformat(), "check_out": check_out.isoformat()}
    told = factories.booking(listing_id=code.lock_id, **dates)
    assert await factories.receive(bench.db, bench.planner, told) == "accepted"


async def test_f13_a_stay_told_again_tells_the_lock_no_other_start(
    bench: Workbench, prompt: Control
) -> None:
    code, starts_at = await begun(bench, prompt)
    prompt.clear_log()
    await tell(bench, code, code.starts_at, code.ends_at)
    await ring_all(bench)
    assert (prompt.log(), held(prompt)[0][1]) == ([], starts_at)


async def test_f13_a_longer_stay_keeps_the_start_that_the_lock_was_told(
    bench: Workbench, prompt: Control
) -> None:
    code, starts_at = await begun(bench, prompt)
    await tell(bench, code, code.starts_at, code.ends_at + HOUR)
    await ring_all(bench)
    assert held(prompt) == [(digits(bench, code), starts_at, code.ends_at + HOUR)]
    assert performed(prompt, "PUT") == 1


async def test_f13_a_check_in_that_moves_from_past_to_past_asks_nothing_of_the_lock(
    bench: Workbench, prompt: Control
) -> None:
    """An early check-in that is granted to a guest who is in already, for instance."""
    code, starts_at = await begun(bench, prompt)
    await tell(bench, code, code.starts_at - HOUR, code.ends_at)
    await ring_all(bench)
    assert (performed(prompt, "PUT"), held(prompt)[0][1]) == (0, starts_at)


async def test_f13_a_check_in_that_moves_ahead_is_told_to_the_lock(
    bench: Workbench, prompt: Control
) -> None:
    code, _ = await begun(bench, prompt)
    ahead = datetime.now(UTC).replace(microsecond=0) + HOUR
    await tell(bench, code, ahead, code.ends_at)
    await ring_all(bench)
    assert held(prompt) == [(digits(bench, code), ahead, code.ends_at)]


async def test_f13_a_cloud_that_calls_now_the_past_is_asked_for_a_minute_later(
    bench: Workbench, prompt: Control
) -> None:
    """Tuya documents that it refuses such a start, and was seen to take it."""
    prompt.settings(past_starts=False)
    before = datetime.now(UTC)
    code = await book(bench, starts_in=-3 * HOUR)
    assert await ring(bench, "generate") is None
    ((pin, starts_at, ends_at),) = held(prompt)
    assert (pin, ends_at) == (digits(bench, code), code.ends_at)
    assert before < starts_at <= datetime.now(UTC) + timedelta(minutes=1)
    await ring_all(bench)
    assert (creates(prompt), performed(prompt, "PUT")) == (1, 0)
    prompt.set_clock(starts_at)
    assert prompt.open(ZIGBEE, pin)


async def test_f13_such_a_cloud_is_told_of_a_longer_stay_too(
    bench: Workbench, prompt: Control
) -> None:
    code, _ = await begun(bench, prompt)
    prompt.settings(past_starts=False)
    await tell(bench, code, code.starts_at, code.ends_at + HOUR)
    await ring_all(bench)
    ((pin, starts_at, ends_at),) = held(prompt)
    assert (pin, ends_at) == (digits(bench, code), code.ends_at + HOUR)
    assert starts_at <= datetime.now(UTC) + timedelta(minutes=1)
    assert (creates(prompt), performed(prompt, "PUT")) == (1, 1)
