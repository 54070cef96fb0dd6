"""Check-out and check-in of many at once, on a lock cloud that allows few calls a second."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from pinqueue.simulator import Control
from tests.acceptance.processes import House, post, stay, until

ALLOWED, CALLS_EACH, ROOM = 10, 3, 1.2
"""Calls a second, of which an operation takes a list, a call that changes something and a list; a
create asks for a ticket besides. R14 gives 2,000 operations 12 minutes for 6,000 calls."""
DOORS = 100


@pytest.mark.parametrize(
    "stays",
    [
        pytest.param(50, marks=pytest.mark.slow),
        pytest.param(1000, marks=[pytest.mark.chaos, pytest.mark.timeout(1500)]),
    ],
)
def test_r14_as_many_pins_come_off_as_go_on_at_ten_calls_a_second(
    stays: int, house: House, doors: Control
) -> None:
    for number in range(DOORS):
        doors.add_door(f"d-{number}", "zigbee")
        add = house.add_listing if number else house.set_up
        add({f"d-{number}": "zigbee"}, f"apt-{number}")
    doors.settings(zigbee_seconds=0)
    url, _ = house.web()

    def tell(number: int, name: str, **told: Any) -> None:
        event = stay(f"{name}-{number}", -60, 86400, listing_id=f"apt-{number % DOORS}", **told)
        if told:
            event["type"] = "reservation.cancelled"
        sent = partial(post, url, event)
        until(lambda: sent().status_code == 200, "taken")

    house.environment["PINQUEUE_TUYA_RATE"] = "1000"
    for number in range(stays):
        tell(number, "leaving")
    worker = house.worker()
    house.reach("active", within=300)
    worker.ask_to_stop()
    worker.code()
    for number in range(stays):
        tell(number, "leaving", status="cancelled")
        tell(number, "coming")
    doors.clear_log()
    doors.settings(rate_per_second=ALLOWED)
    house.environment["PINQUEUE_TUYA_RATE"] = str(ALLOWED)
    house.worker()
    limit = ROOM * 2 * stays * CALLS_EACH / ALLOWED
    left = "SELECT count(*) FROM operations WHERE state IN ('waiting', 'active') AND due_at < now()"
    until(lambda: house.value(left) == 0, "all is done", within=limit)
    states = "SELECT state, count(*) FROM access_codes GROUP BY 1 ORDER BY 1"
    assert [tuple(row.values()) for row in house.ask(states)] == [
        ("active", stays),
        ("revoked", stays),
    ]
    held = [pin["pin"] for number in range(DOORS) for pin in doors.pins(f"d-{number}")]
    assert len(held) == stays
