"""What becomes of an operation that the lock or its cloud refuses: it depends on why."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pinqueue import jobs, sweep
from pinqueue.errors import LockFaulted, LockRefused, LockUnreachable, TryLater
from pinqueue.operations import Workbench
from pinqueue.pins import Pin
from pinqueue.simulator import Control
from tests import factories
from tests.operating import (
    CHANGE,
    CREATE,
    LIST,
    ZIGBEE,
    book,
    code_of,
    creates,
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
    tell,
    window_of,
)

pytestmark = pytest.mark.anyio

FAILED = "SELECT operation_id FROM audit_failed"
REPLACED = "SELECT count(*) FROM audit_timeline WHERE event = 'code:pin_replaced'"


async def test_f7_a_pin_that_somebody_else_put_on_the_lock_is_replaced_by_another(
    bench: Workbench, prompt: Control
) -> None:
    before = await book(bench)
    theirs = digits(bench, before)
    await bench.gateway.create_pin(door_of(before), "the cleaner", Pin(theirs), window_of(before))
    assert isinstance(await ring(bench, "generate"), TryLater)
    after = await code_of(bench)
    ours = digits(bench, after)
    assert (after.id, after.remote_name != before.remote_name) == (before.id, True)
    assert (ours != theirs, len(ours), after.create_in_doubt_since) == (True, len(theirs), None)
    assert after.pin_fingerprint != before.pin_fingerprint
    assert await factories.value(bench.db, REPLACED) == 1
    assert await ring(bench, "generate") is None
    assert {pin for pin, *_ in held(prompt)} == {theirs, ours}
    assert (await code_of(bench)).state == "active"


async def test_f7_a_pin_that_the_lock_itself_finds_taken_is_replaced_after_it_was_accepted(
    bench: Workbench, doors: Control
) -> None:
    doors.state(ZIGBEE, delivery_status=4)
    await book(bench)
    await ring(bench, "generate")
    before = await code_of(bench)
    assert before.state == "sent"
    doors.advance(1.1)
    assert isinstance(await ring(bench, "generate"), TryLater)
    after = await code_of(bench)
    assert (after.state, after.remote_id, after.pin_hash) == ("generating", None, None)
    assert digits(bench, after) != digits(bench, before)
    assert await factories.value(bench.db, REPLACED) == 1
    await ring(bench, "generate")
    doors.advance(1.1)
    assert await ring(bench, "generate") is None
    assert [pin for pin, *_ in held(doors)] == [digits(bench, after)]


async def test_f7_a_lock_that_takes_no_pin_at_all_gets_four_and_then_a_person(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    prompt.fault("code", CREATE, code=2322, times=9)
    for _ in range(3):
        assert isinstance(await ring(bench, "generate"), TryLater)
    assert not isinstance(await ring(bench, "generate"), TryLater)
    assert (await code_of(bench)).state == "failed"


async def test_a_lock_that_stays_silent_is_asked_again_with_the_same_pin(
    bench: Workbench, doors: Control
) -> None:
    doors.state(ZIGBEE, asleep=True)
    before = await book(bench)
    await ring(bench, "generate")
    for _ in range(3):
        doors.advance(4)
        assert isinstance(await ring(bench, "generate"), TryLater)
        assert await gap(bench, "generate", since="started_at") >= 2
    operation = await operation_of(bench, "generate")
    assert (operation.state, operation.failures) == ("waiting", 0)
    doors.state(ZIGBEE, asleep=False)
    for _ in range(4):
        doors.advance(4)
        if await ring(bench, "generate") is None:
            break
    after = await code_of(bench)
    assert (after.state, digits(bench, after)) == ("active", digits(bench, before))
    assert held(doors) == [(digits(bench, before), after.starts_at, after.ends_at)]


async def test_f10_a_change_that_the_lock_did_not_take_leaves_the_earlier_pin_until_it_does(
    bench: Workbench, doors: Control
) -> None:
    """The guest is in the room: the PIN must not leave the door, nor become another."""
    await book(bench)
    await ring(bench, "generate")
    doors.advance(1.1)
    assert await ring(bench, "generate") is None
    doors.state(ZIGBEE, asleep=True)
    code = await code_of(bench)
    on_door = held(doors)
    await tell(bench, lasts=timedelta(days=5))
    for _ in range(4):
        assert isinstance(await ring(bench, "generate"), TryLater)
        doors.advance(4)
        assert held(doors) == on_door
    doors.state(ZIGBEE, asleep=False)
    for _ in range(3):
        doors.advance(4)
        if await ring(bench, "generate") is None:
            break
    after = await code_of(bench)
    assert (after.state, after.id, after.ends_at > code.ends_at) == ("active", code.id, True)
    assert held(doors) == [(digits(bench, code), after.starts_at, after.ends_at)]
    assert performed(doors, "DELETE") == 0, "it was on the door all the time"


async def test_a_change_that_failed_before_the_pin_was_seen_leaves_no_pin_that_nobody_knows(
    bench: Workbench, doors: Control
) -> None:
    """It reached the door unseen, and the lock fell silent: the removal only seems to be done."""
    code = await book(bench)
    await ring(bench, "generate")
    doors.advance(1.1)
    doors.state(ZIGBEE, asleep=True)
    await tell(bench, lasts=timedelta(days=5))
    await ring(bench, "generate")
    doors.advance(4)
    assert isinstance(await ring(bench, "generate"), TryLater)
    name = (await code_of(bench)).remote_name
    assert (name, len(held(doors))) == (code.remote_name, 1), "there still, under the name we know"
    doors.state(ZIGBEE, asleep=False)
    await grace_is_over(bench)
    for _ in range(5):
        doors.advance(4)
        if await ring(bench, "generate") is None:
            break
    after = await code_of(bench)
    assert held(doors) == [(digits(bench, code), after.starts_at, after.ends_at)]


async def test_a_refused_pin_is_begun_anew_only_when_it_is_seen_to_be_gone(
    bench: Workbench, doors: Control
) -> None:
    """Its name is the only thread that leads to it: until it is gone, the name is kept."""
    doors.state(ZIGBEE, asleep=True)
    await book(bench)
    await ring(bench, "generate")
    doors.advance(4)
    name = (await code_of(bench)).remote_name
    doors.fault("code", {"method": "DELETE"}, code=2328)
    assert isinstance(await ring(bench, "generate"), TryLater)
    assert (await code_of(bench)).remote_name == name
    await ring(bench, "generate")
    assert (await code_of(bench)).remote_name != name


async def test_f21_a_refusal_ends_the_operation_at_once_and_says_why(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    prompt.fault("code", LIST, code=28841105)
    assert isinstance(await ring(bench, "generate"), LockRefused)
    operation, code = await operation_of(bench, "generate"), await code_of(bench)
    assert (operation.state, code.state) == ("failed", "failed")
    assert code.failed_at == operation.finished_at
    assert "28841105" in str(operation.last_error)
    assert (await operation_of(bench, "revoke")).state == "waiting"
    (failed,) = await factories.rows(bench.db, "SELECT * FROM audit_failed")
    assert (failed["kind"], failed["reservation_id"]) == ("generate", "res-1")
    prompt.clear_log()
    assert await ring(bench, "generate") is None
    assert prompt.log() == []


@pytest.mark.parametrize(
    ("asked", "fault", "says"),
    [
        (CREATE, 2314, "the PIN has the wrong length for this lock: check the lock's protocol"),
        (LIST, 1106, "the project may not use this device: link the app account"),
    ],
)
async def test_f21_a_permanent_fault_stops_at_its_first_try_and_names_the_remedy(
    bench: Workbench, prompt: Control, asked: dict[str, str], fault: int, says: str
) -> None:
    await book(bench)
    prompt.fault("code", asked, code=fault, times=9)
    assert isinstance(await ring(bench, "generate"), LockRefused)
    (failed,) = await factories.rows(bench.db, "SELECT last_error FROM audit_failed")
    assert says in failed["last_error"]
    prompt.clear_log()
    assert await ring(bench, "generate") is None
    assert await sweep.begin_again(bench.db) == 0
    assert prompt.log() == []


@pytest.mark.parametrize("outage", ["http_500", "http_502_html", "reset_before"])
async def test_f21_an_outage_of_the_cloud_is_told_as_one_and_never_as_failed(
    bench: Workbench, prompt: Control, outage: str
) -> None:
    await book(bench)
    prompt.fault(outage, LIST, times=12)
    for _ in range(12):
        assert isinstance(await ring(bench, "generate"), TryLater)
        assert (await code_of(bench)).state == "generating"
    async with bench.db.transaction() as session:
        status = await jobs.get_scheduled_job_status(session, "res-1", "generate")
    assert status is not None
    assert (status["state"], await factories.rows(bench.db, FAILED)) == ("delayed", [])
    assert "Tuya's cloud is away" in status["data"]["last_error"]
    assert await ring(bench, "generate") is None


@pytest.mark.parametrize("outage", ["http_500", "reset_before", "code"])
async def test_r12_a_cloud_that_was_away_for_hours_is_asked_every_minute_and_all_is_done_then(
    bench: Workbench, prompt: Control, outage: str
) -> None:
    for name in ("first", "second"):
        await book(bench, reservation_id=name)
    details = {"code": 500} if outage == "code" else {}
    prompt.fault(outage, LIST, times=4, **details)
    for name in ("first", "second"):
        await ring(bench, "generate", name)
    await execute(bench.db, "UPDATE operations SET first_claimed_at = now() - interval '6 h'")
    for name in ("first", "second"):
        assert isinstance(await ring(bench, "generate", name), TryLater)
        assert await gap(bench, "generate", name) == pytest.approx(60, abs=3)
    assert await ring(bench, "generate", "second") is None
    assert await ring(bench, "generate", "first", as_if_due=False) is None  # rung by the other
    assert {(await code_of(bench, name)).state for name in ("first", "second")} == {"active"}


async def test_an_unknown_failure_is_tried_again_after_2_4_and_8_seconds_and_then_failed_each_a_row(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    prompt.fault("code", LIST, code=7777, times=4)
    gaps = []
    for _ in range(3):
        assert isinstance(await ring(bench, "generate"), TryLater)
        gaps.append(await gap(bench, "generate"))
    assert gaps == pytest.approx([2, 4, 8], abs=0.5)
    assert isinstance(await ring(bench, "generate"), LockFaulted)
    operation = await operation_of(bench, "generate")
    assert (operation.state, operation.failures) == ("failed", 3)
    assert (await code_of(bench)).state == "failed"
    tries = await factories.rows(bench.db, "SELECT outcome, error FROM tries ORDER BY epoch")
    assert [row["outcome"] for row in tries] == ["later", "later", "later", "failed"]
    assert {row["error"] for row in tries} == {operation.last_error}
    assert "7777" in str(operation.last_error)


@pytest.mark.parametrize("code", [1110, 1111, 1199, 2328])
async def test_a_busy_lock_or_cloud_is_asked_again_in_two_seconds_without_end(
    bench: Workbench, prompt: Control, code: int
) -> None:
    await book(bench)
    prompt.fault("code", LIST, code=code, times=5)
    for _ in range(5):
        assert isinstance(await ring(bench, "generate"), TryLater)
        assert await gap(bench, "generate") == pytest.approx(2, abs=0.5)
    assert await ring(bench, "generate") is None


async def test_a_cloud_that_asks_for_patience_is_given_as_much_as_its_retry_after_says(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    prompt.fault("http_429", CREATE, seconds=17)
    assert isinstance(await ring(bench, "generate"), TryLater)
    assert await gap(bench, "generate") == pytest.approx(17, abs=0.5)
    assert await ring(bench, "generate") is None


async def test_f8_a_full_lock_is_tried_until_there_is_room(
    bench: Workbench, prompt: Control
) -> None:
    prompt.settings(max_live=0)
    await book(bench)
    for _ in range(5):
        assert isinstance(await ring(bench, "generate"), TryLater)
    prompt.settings(max_live=10)
    assert await ring(bench, "generate") is None


async def test_an_unreachable_lock_is_given_up_when_the_stay_is_over(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    prompt.fault("code", LIST, code=2312, times=2)
    assert isinstance(await ring(bench, "generate"), TryLater)
    await execute(
        bench.db, "UPDATE access_codes SET starts_at = now() - interval '2 h', ends_at = now()"
    )
    assert isinstance(await ring(bench, "generate"), LockUnreachable)
    assert (await code_of(bench)).state == "failed"


@pytest.mark.parametrize(("fault", "rings"), [(1108, 1), (1109, 4), (7777, 4)])
async def test_a_change_that_is_refused_needs_a_person_and_is_not_tried_for_ever(
    bench: Workbench, prompt: Control, fault: int, rings: int
) -> None:
    await put_on_door(bench, prompt)
    await tell(bench, lasts=timedelta(days=5))
    prompt.fault("code", CHANGE, code=fault, times=9)
    for _ in range(rings):
        error = await ring(bench, "generate")
    assert isinstance(error, LockRefused | LockFaulted)
    operation, code = await operation_of(bench, "generate"), await code_of(bench)
    assert (operation.state, code.state) == ("failed", "failed")
    assert (await operation_of(bench, "revoke")).state == "waiting"
    (live,) = await factories.rows(bench.db, "SELECT * FROM audit_live_pins")
    assert (live["state"], live["confirmed"]) == ("failed", False)


async def test_a_failed_code_is_generated_again_when_the_stay_changes(
    bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    prompt.fault("code", LIST, code=28841105)
    await ring(bench, "generate")
    await tell(bench, lasts=timedelta(days=3))
    assert await ring(bench, "generate") is None
    code = await code_of(bench)
    assert (code.state, code.failed_at, len(held(prompt))) == ("active", None, 1)
    assert creates(prompt) == 1
