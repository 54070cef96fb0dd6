"""A revoke operation: until the PIN is seen to be off the door, and whatever stands in its way."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pinqueue.errors import LockRefused, TryLater
from pinqueue.operations import Workbench
from pinqueue.pins import Pin
from pinqueue.simulator import Control
from tests import factories
from tests.operating import (
    BLUETOOTH,
    CREATE,
    DELETE,
    LIST,
    WIFI,
    ZIGBEE,
    book,
    cancel,
    code_of,
    digits,
    door_of,
    execute,
    gap,
    grace_is_over,
    held,
    operation_of,
    performed,
    put_on_door,
    ring,
    window_of,
)

pytestmark = pytest.mark.anyio

OVERDUE = "SELECT access_code_id, reservation_id, state FROM audit_overdue_pins"


async def end_stay(bench: Workbench) -> None:
    """As though the stay had ended a minute ago."""
    await execute(
        bench.db,
        "UPDATE access_codes SET starts_at = now() - interval '2 days',"
        " ends_at = now() - interval '1 minute'",
    )
    await execute(
        bench.db,
        "UPDATE reservations SET check_in_at = now() - interval '2 days',"
        " check_out_at = now() - interval '1 minute'",
    )


async def test_f9_at_the_end_of_the_stay_the_pin_is_off_the_door_and_its_digits_are_wiped(
    bench: Workbench, prompt: Control
) -> None:
    before = await put_on_door(bench, prompt)
    pin = digits(bench, before)
    await end_stay(bench)
    assert await ring(bench, "revoke") is None
    code = await code_of(bench)
    assert (code.state, code.pin_sealed, code.pin_hash) == ("revoked", None, None)
    assert code.pin_fingerprint == bench.planner.sealer.fingerprint(code.lock_id, Pin(pin))
    assert held(prompt) == []
    assert not prompt.open(ZIGBEE, pin)
    assert (await operation_of(bench, "revoke")).state == "completed"
    assert await factories.rows(bench.db, OVERDUE) == []
    assert len(await factories.codes(bench.db)) == 1


async def test_a_pin_that_is_not_there_any_more_is_a_success(
    bench: Workbench, prompt: Control
) -> None:
    code = await put_on_door(bench, prompt)
    assert code.remote_id is not None
    await bench.gateway.delete_pin(door_of(code), code.remote_id)
    await cancel(bench)
    assert await ring(bench, "revoke") is None
    assert (await code_of(bench)).state == "revoked"


@pytest.mark.parametrize("delete_twice", [True, 2324])
async def test_a_removal_whose_answer_was_lost_is_found_done(
    bench: Workbench, prompt: Control, delete_twice: bool | int
) -> None:
    prompt.settings(delete_twice=delete_twice)
    await put_on_door(bench, prompt)
    await cancel(bench)
    prompt.fault("reset_after", DELETE)
    assert isinstance(await ring(bench, "revoke"), TryLater)
    assert ((await code_of(bench)).state, held(prompt)) == ("revoking", [])
    assert await ring(bench, "revoke") is None
    assert (await code_of(bench)).state == "revoked"


async def test_a_removal_that_did_nothing_is_not_taken_for_one(
    bench: Workbench, prompt: Control
) -> None:
    await put_on_door(bench, prompt)
    await cancel(bench)
    prompt.fault("result_false", DELETE)
    assert isinstance(await ring(bench, "revoke"), TryLater)
    assert ((await code_of(bench)).state, len(held(prompt))) == ("revoking", 1)
    assert await ring(bench, "revoke") is None
    assert held(prompt) == []


async def test_a_sleeping_wifi_lock_keeps_the_code_revoking_and_its_digits_known(
    bench: Workbench, doors: Control
) -> None:
    code = await put_on_door(bench, doors, WIFI)
    pin = digits(bench, code)
    doors.set_clock(code.starts_at)
    await cancel(bench, lock=WIFI)
    for _ in range(3):
        assert isinstance(await ring(bench, "revoke"), TryLater)
    code = await code_of(bench)
    assert (code.state, digits(bench, code)) == ("revoking", pin)
    assert doors.open(WIFI, pin), "the lock has not heard of it yet: this is why it stays revoking"
    assert performed(doors, "DELETE") == 1
    doors.wake(WIFI)
    assert await ring(bench, "revoke") is None
    assert ((await code_of(bench)).state, doors.open(WIFI, pin)) == ("revoked", False)


async def test_f9_a_pin_not_seen_off_its_door_after_its_end_is_listed_as_overdue(
    bench: Workbench, doors: Control
) -> None:
    code = await put_on_door(bench, doors, WIFI)
    await ring(bench, "revoke")
    assert await factories.rows(bench.db, OVERDUE) == []
    await end_stay(bench)
    assert isinstance(await ring(bench, "revoke"), TryLater)
    assert await factories.rows(bench.db, OVERDUE) == [
        {"access_code_id": code.id, "reservation_id": "res-1", "state": "revoking"}
    ]
    doors.wake(WIFI)
    await ring(bench, "revoke")
    assert await factories.rows(bench.db, OVERDUE) == []


async def test_f9_an_unreachable_lock_is_tried_without_end(
    bench: Workbench, prompt: Control
) -> None:
    await put_on_door(bench, prompt, BLUETOOTH)
    prompt.state(BLUETOOTH, online=False)
    await end_stay(bench)
    await ring(bench, "revoke")
    await execute(
        bench.db,
        "UPDATE operations SET first_claimed_at = now() - interval '30 days',"
        " due_at = now() - interval '30 days' WHERE kind = 'revoke'",
    )
    for _ in range(6):
        assert isinstance(await ring(bench, "revoke"), TryLater)
        assert await gap(bench, "revoke") == pytest.approx(300, abs=2)
    assert len(await factories.rows(bench.db, OVERDUE)) == 1
    assert "five minutes" in await factories.value(
        bench.db, "SELECT why FROM audit_late WHERE kind = 'revoke'"
    )
    prompt.state(BLUETOOTH, online=True)
    assert await ring(bench, "revoke") is None


async def test_a_removal_that_is_refused_needs_a_person_and_stays_revoking(
    bench: Workbench, prompt: Control
) -> None:
    await put_on_door(bench, prompt)
    await cancel(bench)
    prompt.fault("code", LIST, code=1106)
    assert isinstance(await ring(bench, "revoke"), LockRefused)
    assert (await operation_of(bench, "revoke")).state == "failed"
    code = await code_of(bench)
    assert (code.state, code.pin_sealed is not None) == ("revoking", True)
    (failed,) = await factories.rows(bench.db, "SELECT * FROM audit_failed")
    assert (failed["kind"], failed["code_state"]) == ("revoke", "revoking")


async def test_a_pin_that_was_never_begun_is_cancelled_without_asking_the_lock(
    bench: Workbench, doors: Control
) -> None:
    await book(bench)
    await end_stay(bench)
    assert await ring(bench, "revoke") is None
    code = await code_of(bench)
    assert (code.state, code.pin_sealed, doors.log()) == ("cancelled", None, [])
    operations = await factories.operations(bench.db, code)
    assert {o.state for o in operations} == {"cancelled"}
    assert await factories.value(bench.db, "SELECT count(*) FROM tries WHERE outcome IS NULL") == 0


async def test_a_revoke_waits_for_a_create_that_may_still_take_effect(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    prompt.fault("late_apply", CREATE, seconds=60)
    await ring(bench, "generate")
    since = (await code_of(bench)).create_in_doubt_since
    assert since is not None
    await cancel(bench)
    error = await ring(bench, "revoke")
    assert isinstance(error, TryLater)
    assert error.retry_at == since + timedelta(seconds=90)
    assert (await code_of(bench)).state == "revoking"
    prompt.advance(61)
    assert len(held(prompt)) == 1
    await grace_is_over(bench)
    assert await ring(bench, "revoke") is None
    assert ((await code_of(bench)).state, held(prompt)) == ("revoked", [])


async def test_a_code_that_failed_is_still_looked_for_and_taken_off(
    bench: Workbench, prompt: Control
) -> None:
    """A lost answer may have left it on the door."""
    await book(bench)
    prompt.fault("reset_after", CREATE)
    await ring(bench, "generate")
    prompt.fault("code", LIST, code=1106)
    assert isinstance(await ring(bench, "generate"), LockRefused)
    assert ((await code_of(bench)).state, len(held(prompt))) == ("failed", 1)
    await end_stay(bench)
    await grace_is_over(bench)
    assert await ring(bench, "revoke") is None
    assert ((await code_of(bench)).state, held(prompt)) == ("revoked", [])


async def test_other_peoples_pins_stay_on_the_lock(bench: Workbench, prompt: Control) -> None:
    code = await put_on_door(bench, prompt)
    theirs = digits(bench, code)[::-1]
    await bench.gateway.create_pin(door_of(code), "the cleaner", Pin(theirs), window_of(code))
    await cancel(bench)
    assert await ring(bench, "revoke") is None
    assert [pin for pin, *_ in held(prompt)] == [theirs]


async def test_an_empty_list_alone_does_not_make_a_pin_gone(
    bench: Workbench, prompt: Control
) -> None:
    """A cloud that forgets what it lists is told to remove by id, and asked once more."""
    code = await put_on_door(bench, prompt)
    await execute(bench.db, "UPDATE access_codes SET remote_name = 'pq-not-in-any-list'")
    await cancel(bench)
    assert await ring(bench, "revoke") is None
    assert (performed(prompt, "DELETE"), held(prompt)) == (1, [])
    assert code.remote_id in {entry["password_id"] for entry in prompt.log()}
