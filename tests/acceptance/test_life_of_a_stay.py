"""From a signed webhook to a door that opens, and no longer does: each part a process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from pinqueue.processes import free_port
from pinqueue.simulator import Control
from tests.acceptance.processes import House, answers, post, stay, until

LOCKS = {"flat": "wifi", "street": "zigbee"}


@pytest.fixture
def town(house: House) -> Iterator[Control]:
    """Two doors at a simulated Tuya cloud that is a process of its own."""
    url = f"http://127.0.0.1:{free_port()}"
    devices = [f"--device={device}:{protocol}" for device, protocol in LOCKS.items()]
    process = house.start("simulator", "--port", url.rpartition(":")[2], *devices)
    answers(f"{url}/_sim/devices", process)
    house.environment |= {"PINQUEUE_TUYA_URL": url, "PINQUEUE_LEAD": "6s"}
    with Control(url) as doors:
        doors.settings(zigbee_seconds=0.1)
        yield doors


def reveal(house: House, reservation_id: str) -> dict[str, str]:
    """The PIN on each lock, as a person at the command line sees it."""
    codes = house.ask(
        "SELECT id, lock_id FROM access_codes WHERE reservation_id = %s", reservation_id
    )
    found = {}
    for code in codes:
        shown = house.run("codes", "reveal", str(code["id"]))
        assert shown.returncode == 0, shown.stderr
        found[code["lock_id"]] = shown.stdout.strip()
    return found


def held(doors: Control) -> dict[str, str]:
    """The digits in each lock itself; no lock holds more than one PIN."""
    found = {device: doors.pins(device) for device in LOCKS}
    assert all(len(pins) <= 1 for pins in found.values())
    return {device: pins[0]["pin"] for device, pins in found.items() if pins}


def opened(doors: Control, pins: dict[str, str]) -> set[str]:
    return {device for device, pin in pins.items() if doors.open(device, pin)}


def reach(house: House, doors: Control, state: str) -> None:
    """Guests touch the sleeping Wi-Fi lock meanwhile: only then does it ask for news."""

    def all_there() -> bool:
        doors.wake("flat")
        states = house.states()
        return bool(states) and set(states) == {state}

    until(all_there, f"both codes are {state}")


def sleep_until(moment: str) -> None:
    wait = datetime.fromisoformat(moment) - datetime.now(UTC)
    time.sleep(max(0.0, wait.total_seconds()) + 0.1)


def times(event: dict[str, Any]) -> tuple[str, str]:
    return event["data"]["check_in"], event["data"]["check_out"]


def test_a_pin_opens_both_doors_inside_its_window_and_only_there(
    house: House, town: Control
) -> None:
    house.set_up(LOCKS)
    url, _ = house.web()
    house.worker()
    told = stay("res-1", 11, 17)
    check_in, check_out = times(told)
    assert post(url, told).json() == {"status": "accepted"}
    assert town.ledger() == []  # its time has not come
    pins = reveal(house, "res-1")
    assert {device: len(pin) for device, pin in pins.items()} == {"flat": 7, "street": 6}

    reach(house, town, "active")
    assert datetime.now(UTC) < datetime.fromisoformat(check_in)
    assert opened(town, pins) == set()
    sleep_until(check_in)
    assert opened(town, pins) == {"flat", "street"}
    sleep_until(check_out)
    assert opened(town, pins) == set()
    reach(house, town, "revoked")
    assert opened(town, pins) == set()
    assert held(town) == {}
    assert len(town.ledger()) == 2
    assert house.ask("SELECT * FROM audit_overdue_pins") == []
    assert {row["state"] for row in house.ask("SELECT state FROM audit_jobs")} == {"completed"}


def test_f22_a_cancel_takes_the_pin_off_both_doors_in_the_middle_of_the_stay(
    house: House, town: Control
) -> None:
    house.set_up(LOCKS)
    url, _ = house.web()
    house.worker()
    told = stay("res-1", -3600, 3600)
    post(url, told)
    reach(house, town, "active")
    pins = held(town)
    assert opened(town, pins) == {"flat", "street"}

    cancel = stay("res-1", -3600, 3600, status="cancelled")
    answer = post(url, {**cancel, "type": "reservation.cancelled"})
    assert answer.json() == {"status": "accepted"}
    reach(house, town, "revoked")
    assert opened(town, pins) == set()
    assert held(town) == {}


def test_f5_a_change_of_dates_changes_the_window_that_the_lock_knows_and_keeps_the_pin(
    house: House, town: Control
) -> None:
    house.set_up(LOCKS)
    url, _ = house.web()
    house.worker()
    post(url, stay("res-1", -60, 3600))
    reach(house, town, "active")
    pins = held(town)

    longer = stay("res-1", -60, 7200)
    post(url, {**longer, "type": "reservation.updated"})
    ends = datetime.fromisoformat(times(longer)[1]).replace(microsecond=0)

    def known_ends() -> set[datetime]:
        town.wake("flat")
        known = [pin for device in LOCKS for pin in town.pins(device)]
        return {datetime.fromisoformat(pin["ends_at"]) for pin in known}

    until(lambda: known_ends() == {ends}, "both locks know the later end")
    reach(house, town, "active")
    assert opened(town, pins) == {"flat", "street"}
    assert held(town) == pins
    assert len(pins) == 2

    shorter = stay("res-1", -60, 4)
    post(url, {**shorter, "type": "reservation.updated"})
    reach(house, town, "revoked")
    assert opened(town, pins) == set()
