"""What failed is begun again, and what was accepted is never made a second time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pinqueue import sweep
from pinqueue.errors import LockRefused, TryLater
from pinqueue.operations import Workbench
from pinqueue.simulator import Control
from tests import factories
from tests.operating import (
    BLUETOOTH,
    book,
    cancel,
    code_of,
    creates,
    digits,
    execute,
    gap,
    held,
    operation_of,
    put_on_door,
    ring,
    tell,
)

pytestmark = pytest.mark.anyio

ASIDE = "UPDATE operations SET finished_at = finished_at - interval '16 minutes'"


async def refused(bench: Workbench, doors: Control) -> None:
    """A booked stay whose PIN Tuya refused, for a cause that has passed since."""
    await book(bench)
    doors.fault("code", {"method": "POST", "path": "temp-password"}, code=28841002)
    assert isinstance(await ring(bench, "generate"), LockRefused)
    assert (await code_of(bench)).state == "failed"


async def test_a_failed_generate_is_begun_again_after_a_quarter_of_an_hour(
    bench: Workbench, prompt: Control
) -> None:
    await refused(bench, prompt)
    assert await sweep.begin_again(bench.db) == 0
    await execute(bench.db, ASIDE)
    assert await sweep.begin_again(bench.db) == 1
    assert await ring(bench, "generate", as_if_due=False) is None
    assert ((await code_of(bench)).state, len(held(prompt))) == ("active", 1)


async def test_a_failed_generate_of_a_stay_that_is_over_is_left_alone(
    bench: Workbench, prompt: Control
) -> None:
    await refused(bench, prompt)
    await execute(bench.db, ASIDE)
    await execute(
        bench.db,
        "UPDATE access_codes SET starts_at = now() - interval '2 h', ends_at = now()",
    )
    assert await sweep.begin_again(bench.db) == 0


async def test_f25_a_booking_told_again_begins_its_failed_generate_at_once(
    bench: Workbench, prompt: Control
) -> None:
    await refused(bench, prompt)
    code = await code_of(bench)
    told = factories.booking(
        listing_id=(await factories.value(bench.db, "SELECT listing_id FROM reservations")),
        check_in=code.starts_at.isoformat(),
        check_out=code.ends_at.isoformat(),
    )
    await factories.receive(bench.db, bench.planner, told)
    assert await ring(bench, "generate", as_if_due=False) is None
    assert (await code_of(bench)).state == "active"


async def test_f25_when_a_lock_is_back_all_who_wait_for_it_are_tried_at_once(
    bench: Workbench, prompt: Control
) -> None:
    """The guest who left and the one who arrives, on the day on which the lock was out of reach."""
    await book(bench, BLUETOOTH, "out", starts_in=timedelta(hours=-9))
    assert await ring(bench, "generate", "out") is None
    prompt.state(BLUETOOTH, online=False)
    await cancel(bench, "out", BLUETOOTH)
    await book(bench, BLUETOOTH, "in")
    for kind, stay in (("revoke", "out"), ("generate", "in")):
        await ring(bench, kind, stay)
        await execute(bench.db, "UPDATE operations SET first_claimed_at = now() - interval '3 h'")
        assert isinstance(await ring(bench, kind, stay), TryLater)
        assert await gap(bench, kind, stay) > 200
    prompt.state(BLUETOOTH, online=True)
    assert await ring(bench, "revoke", "out") is None
    assert await ring(bench, "generate", "in", as_if_due=False) is None
    assert [pin for pin, *_ in held(prompt, BLUETOOTH)] == [
        digits(bench, await code_of(bench, "in"))
    ]


async def test_f10_a_change_that_the_lock_rejects_keeps_the_digits_on_the_door(
    bench: Workbench, prompt: Control
) -> None:
    before = await put_on_door(bench, prompt)
    await tell(bench, lasts=timedelta(days=6))
    prompt.fault("code", {"method": "PUT"}, code=2322)
    await ring(bench, "generate")
    after = await code_of(bench)
    assert (after.remote_name, after.pin_sealed) == (before.remote_name, before.pin_sealed)
    assert "PIN" in ((await operation_of(bench, "generate")).last_error or "")
    await cancel(bench)
    assert await ring(bench, "revoke") is None
    assert held(prompt) == []


async def test_a_pin_that_is_listed_late_is_not_created_twice(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    await ring(bench, "generate")
    await execute(
        bench.db,
        "UPDATE access_codes SET remote_name = 'pq-listed-late', active_at = NULL, state = 'sent'",
    )
    await execute(
        bench.db,
        "UPDATE operations SET state = 'waiting', finished_at = NULL WHERE kind = 'generate'",
    )
    await ring(bench, "generate")
    assert creates(prompt) == 1


async def test_a_seal_that_no_key_opens_says_so_on_the_operation(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    await execute(bench.db, "UPDATE access_codes SET pin_sealed = 'not ours'")
    await ring(bench, "generate")
    operation = await operation_of(bench, "generate")
    assert (operation.state, operation.failures) == ("waiting", 1)
    assert "PINQUEUE_SECRET_KEYS" in (operation.last_error or "")
