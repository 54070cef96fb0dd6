"""What a lock does when somebody types: one use, daily hours, offline passwords."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from pinqueue.simulator.doors import make_door
from pinqueue.simulator.lock import Lock
from pinqueue.simulator.offline import issue_offline
from pinqueue.simulator.replies import Refusal
from pinqueue.simulator.settings import Settings
from pinqueue.simulator.terms import DailyHours, Terms, zone

NOW = 1_800_000_000.0
HOUR = 3600
TERMS = Terms("stay-1", "480917", int(NOW), int(NOW) + 30 * 24 * HOUR)


def multiple(seconds: int) -> dict[str, object]:
    start = int(NOW)
    return {"type": "multiple", "effective_time": start, "invalid_time": start + seconds}


def test_other_digits_do_not_open() -> None:
    lock = Lock()
    lock.put(1, TERMS, NOW)
    assert not lock.open("480918", NOW)


def test_a_one_time_pin_opens_once_and_does_not_come_back() -> None:
    lock = Lock()
    once = replace(TERMS, one_time=True)
    lock.put(1, once, NOW)
    assert [lock.open("480917", NOW), lock.open("480917", NOW)] == [True, False]
    lock.put(1, once, NOW + 1)
    assert not lock.open("480917", NOW + 1)
    assert lock.ledger[0].ended_by == "used"


def test_daily_hours_hold_in_the_zone_of_the_password() -> None:
    lock = Lock()
    # Bits 1, 2 and 5: Monday, Tuesday, Friday, the documentation's own example.
    hours = DailyHours(450, 600, 0b00100110)
    lock.put(1, replace(TERMS, schedule=(hours,), time_zone="-03:00"), NOW)
    # 2027-01-18 is a Monday.
    monday = datetime(2027, 1, 18, 7, 30, tzinfo=zone("-03:00"))
    assert lock.open("480917", monday.timestamp())
    assert not lock.open("480917", (monday - timedelta(minutes=1)).timestamp())
    assert not lock.open("480917", (monday + timedelta(minutes=150)).timestamp())
    assert not lock.open("480917", (monday + timedelta(days=2)).timestamp())
    assert lock.open("480917", (monday + timedelta(days=4)).timestamp())


@pytest.mark.parametrize("name", ["Nowhere/Land", "+3", "../etc/passwd"])
def test_a_zone_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        zone(name)


def test_an_offline_password_opens_with_the_network_gone() -> None:
    door = make_door("d", "wifi", Settings())
    door.set_state(NOW, online=False, asleep=True)
    made = issue_offline(door, multiple(2 * HOUR), NOW)
    digits = str(made["offline_temp_password"])
    assert len(digits) == 10
    assert door.lock.open(digits, NOW + 60)


def test_an_offline_password_not_used_for_a_day_is_dead() -> None:
    door = make_door("d", "wifi", Settings())
    made = issue_offline(door, multiple(72 * HOUR), NOW)
    assert not door.lock.open(str(made["offline_temp_password"]), NOW + 25 * HOUR)


def test_a_clearing_code_typed_at_the_lock_ends_an_offline_password() -> None:
    door = make_door("d", "wifi", Settings())
    once = issue_offline(door, {"type": "once"}, NOW)
    wanted = {"type": "clear_one", "password_id": once["offline_temp_password_id"]}
    clearing = issue_offline(door, wanted, NOW)
    assert not door.lock.open(str(clearing["offline_temp_password"]), NOW)
    assert not door.lock.open(str(once["offline_temp_password"]), NOW)
    assert door.lock.ledger[0].ended_by == "cleared"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, 1100),
        ({"type": "sometimes"}, 1109),
        ({"type": "multiple"}, 1100),
        ({"type": "clear_one"}, 1100),
        ({"type": "multiple", "effective_time": 1, "invalid_time": 2}, 2318),
    ],
)
def test_an_offline_password_asked_for_wrongly_is_refused(
    body: dict[str, object], code: int
) -> None:
    with pytest.raises(Refusal) as caught:
        issue_offline(make_door("d", "wifi", Settings()), body, NOW)
    assert caught.value.code == code
