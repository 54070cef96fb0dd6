"""The three lock models: what the lock holds, apart from what the cloud says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pinqueue.simulator.doors import Door, make_door
from pinqueue.simulator.records import Operation, Record
from pinqueue.simulator.settings import Settings
from pinqueue.simulator.terms import Terms

NOW = 1_800_000_000.0
TERMS = Terms("stay-1", "480917", int(NOW), int(NOW) + 3600)


def door_of(protocol: str, **settings: object) -> Door:
    made = Settings()
    made.update(settings)
    return make_door("d", protocol, made)


def created(door: Door, terms: Terms = TERMS) -> Record:
    return door.create(1, terms, "", NOW)


def seen(door: Door, record: Record, now: float) -> tuple[Any, Any]:
    door.settle(now)
    item = door.item(record)
    return item["phase"], item.get("delivery_status")


def wake(door: Door, now: float) -> None:
    door.set_state(now, online=None, asleep=False)
    door.set_state(now, online=None, asleep=True)


def test_a_wifi_lock_starts_asleep_and_knows_nothing_of_a_new_pin() -> None:
    door = door_of("wifi")
    record = created(door)
    assert seen(door, record, NOW + 1000)[0] == 1
    assert not door.lock.open(TERMS.digits, NOW + 1000)


def test_a_wifi_lock_pulls_its_list_when_it_wakes() -> None:
    door = door_of("wifi")
    record = created(door)
    wake(door, NOW + 5)
    assert seen(door, record, NOW + 5)[0] == 2
    assert door.lock.open(TERMS.digits, NOW + 5)


def test_a_wifi_lock_that_wakes_without_network_pulls_nothing() -> None:
    door = door_of("wifi")
    record = created(door)
    door.set_state(NOW, online=False, asleep=False)
    assert seen(door, record, NOW + 5)[0] == 1
    door.set_state(NOW + 6, online=True, asleep=None)
    assert seen(door, record, NOW + 6)[0] == 2


def test_a_wifi_pin_deleted_in_the_cloud_opens_until_the_lock_wakes() -> None:
    door = door_of("wifi")
    record = created(door)
    wake(door, NOW + 1)
    door.delete(record, NOW + 2)
    assert seen(door, record, NOW + 100)[0] == 3
    assert door.lock.open(TERMS.digits, NOW + 100)
    wake(door, NOW + 101)
    assert seen(door, record, NOW + 101)[0] == 0
    assert not door.lock.open(TERMS.digits, NOW + 101)


def test_a_wifi_lock_keeps_the_old_window_until_it_wakes() -> None:
    door = door_of("wifi")
    record = created(door)
    wake(door, NOW + 1)
    later = replace(TERMS, effective_time=int(NOW) + 600)
    door.begin(record, Operation.MODIFY, NOW + 2, later)
    assert seen(door, record, NOW + 3)[0] == 1
    assert door.lock.open(TERMS.digits, NOW + 3)
    wake(door, NOW + 4)
    assert seen(door, record, NOW + 4)[0] == 2
    assert not door.lock.open(TERMS.digits, NOW + 599)
    assert door.lock.open(TERMS.digits, NOW + 600)


def test_a_wifi_lock_that_stays_awake_follows_at_once() -> None:
    door = door_of("wifi")
    door.set_state(NOW, online=True, asleep=False)
    record = created(door)
    assert seen(door, record, NOW)[0] == 2
    door.delete(record, NOW)
    assert door.lock.pins() == []


@pytest.mark.parametrize("protocol", ["wifi", "zigbee", "bluetooth"])
def test_no_lock_opens_outside_its_window(protocol: str) -> None:
    door = door_of(protocol)
    terms = replace(TERMS, effective_time=int(NOW) + 100, invalid_time=int(NOW) + 200)
    created(door, terms)
    wake(door, NOW + 2)
    answers = [door.lock.open(terms.digits, NOW + after) for after in (99.9, 100, 199.9, 200)]
    assert answers == [False, True, True, False]


def test_an_expired_pin_stays_in_a_lock_nobody_tells_to_forget_it() -> None:
    door = door_of("zigbee")
    created(door)
    door.settle(NOW + 100_000)
    assert [pin["name"] for pin in door.lock.pins()] == ["stay-1"]


def test_a_zigbee_pin_is_on_the_lock_after_the_gateway_reached_it() -> None:
    door = door_of("zigbee")
    record = created(door)
    assert seen(door, record, NOW + 0.9) == (1, 1)
    assert not door.lock.open(TERMS.digits, NOW + 0.9)
    assert seen(door, record, NOW + 1) == (2, 2)
    assert door.lock.open(TERMS.digits, NOW + 1)


def test_a_silent_zigbee_lock_fails_the_create_after_three_attempts() -> None:
    door = door_of("zigbee")
    door.set_state(NOW, online=None, asleep=True)
    record = created(door)
    assert seen(door, record, NOW + 2.9) == (1, 1)
    assert seen(door, record, NOW + 3) == (5, 3)
    assert door.lock.pins() == []


def test_a_zigbee_lock_that_answers_the_second_attempt_takes_the_pin() -> None:
    door = door_of("zigbee")
    door.set_state(NOW, online=None, asleep=True)
    record = created(door)
    door.set_state(NOW + 1.5, online=None, asleep=False)
    assert seen(door, record, NOW + 2) == (2, 2)


def test_a_zigbee_lock_frozen_does_not_open_and_unfrozen_does() -> None:
    door = door_of("zigbee")
    record = created(door)
    door.settle(NOW + 1)
    door.begin(record, Operation.FREEZE, NOW + 2)
    assert seen(door, record, NOW + 3) == (3, 2)
    assert not door.lock.open(TERMS.digits, NOW + 3)
    door.begin(record, Operation.UNFREEZE, NOW + 4)
    assert seen(door, record, NOW + 5) == (2, 2)
    assert door.lock.open(TERMS.digits, NOW + 5)


def test_a_zigbee_delete_reports_4_and_is_done_with_delivery_status_2() -> None:
    door = door_of("zigbee")
    record = created(door)
    door.settle(NOW + 1)
    door.delete(record, NOW + 2)
    assert seen(door, record, NOW + 2.5) == (4, 1)
    assert door.lock.open(TERMS.digits, NOW + 2.5)
    assert seen(door, record, NOW + 3) == (4, 2)
    assert not door.lock.open(TERMS.digits, NOW + 3)


def test_a_silent_zigbee_lock_keeps_the_deleted_pin_and_the_cloud_says_so() -> None:
    door = door_of("zigbee")
    record = created(door)
    door.set_state(NOW + 1, online=None, asleep=True)
    door.delete(record, NOW + 2)
    assert seen(door, record, NOW + 5) == (2, 3)
    assert door.lock.open(TERMS.digits, NOW + 5)


def test_synchronising_sends_again_what_a_zigbee_lock_did_not_take() -> None:
    door = door_of("zigbee")
    door.set_state(NOW, online=None, asleep=True)
    record = created(door)
    door.set_state(NOW + 10, online=None, asleep=False)
    door.synchronise(NOW + 10)
    assert seen(door, record, NOW + 11) == (2, 2)


def test_a_bluetooth_pin_goes_from_phase_1_to_2_while_the_window_is_open() -> None:
    door = door_of("bluetooth")
    record = created(door)
    assert seen(door, record, NOW) == (1, None)
    assert seen(door, record, NOW + 1) == (2, None)


def test_a_bluetooth_pin_waits_when_the_window_closes_under_it() -> None:
    door = door_of("bluetooth")
    record = created(door)
    door.set_state(NOW + 0.5, online=False, asleep=None)
    assert seen(door, record, NOW + 100)[0] == 1
    door.set_state(NOW + 200, online=True, asleep=None)
    assert seen(door, record, NOW + 201)[0] == 2
    assert door.lock.ledger[0].held_from == NOW + 201


def test_a_bluetooth_create_without_a_window_fails_with_phase_7_in_the_end() -> None:
    door = door_of("bluetooth", bluetooth_gives_up_seconds=60)
    door.set_state(NOW, online=False, asleep=None)
    record = created(door)
    assert seen(door, record, NOW + 60)[0] == 7


def test_a_bluetooth_delete_waits_for_a_window_without_end() -> None:
    door = door_of("bluetooth")
    record = created(door)
    door.set_state(NOW + 1, online=False, asleep=None)
    door.delete(record, NOW + 2)
    assert seen(door, record, NOW + 3000)[0] == 3
    assert door.lock.open(TERMS.digits, NOW + 3000)
    door.set_state(NOW + 90_000, online=True, asleep=None)
    assert seen(door, record, NOW + 90_001)[0] == 0
    assert door.lock.pins() == []


def test_a_record_only_delete_leaves_the_pin_on_the_lock() -> None:
    door = door_of("bluetooth")
    record = created(door)
    door.settle(NOW + 1)
    door.delete(record, NOW + 2, record_only=True)
    assert seen(door, record, NOW + 2)[0] == 0
    assert door.lock.open(TERMS.digits, NOW + 2)


def test_the_new_phases_count_from_11_for_every_protocol() -> None:
    for protocol in ("wifi", "zigbee", "bluetooth"):
        door = door_of(protocol, new_phases=True)
        record = created(door)
        assert seen(door, record, NOW)[0] == 11
        wake(door, NOW + 1)
        door.set_state(NOW + 1, online=True, asleep=False)
        assert seen(door, record, NOW + 2)[0] == 12
        door.delete(record, NOW + 3)
        assert seen(door, record, NOW + 5)[0] == 18


def test_the_ledger_remembers_every_window_a_lock_ever_held() -> None:
    door = door_of("zigbee")
    record = created(door)
    later = replace(TERMS, invalid_time=int(NOW) + 7200)
    door.settle(NOW + 1)
    door.begin(record, Operation.MODIFY, NOW + 9, later)
    door.settle(NOW + 10)
    door.delete(record, NOW + 19)
    door.settle(NOW + 50)
    told = [(e.terms.invalid_time, e.held_from, e.held_until, e.ended_by) for e in door.lock.ledger]
    assert told == [
        (TERMS.invalid_time, NOW + 1, NOW + 10, "changed"),
        (later.invalid_time, NOW + 10, NOW + 20, "deleted"),
    ]
