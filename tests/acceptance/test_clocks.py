"""Workers and web processes whose clocks are wrong: all that is due is due by the database's."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinqueue.processes import free_port
from pinqueue.simulator import Control
from tests.acceptance.processes import House, answers, post, stay

FAKE_CLOCK = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
LATE = """
    SELECT max(extract(epoch FROM first_claimed_at - due_at))::float8 AS latest,
           min(extract(epoch FROM first_claimed_at - due_at))::float8 AS soonest FROM operations
"""

pytestmark = pytest.mark.skipif(
    FAKE_CLOCK is None,
    reason="only libfaketime gives a process another clock: apt install faketime",
)


def at(minutes: int) -> dict[str, str]:
    """The environment of a process whose clock is wrong by that."""
    return {
        "LD_PRELOAD": str(FAKE_CLOCK),
        "FAKETIME": f"{minutes * 60:+d}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # it counts, and is never set
        "DONT_FAKE_MONOTONIC": "1",
    }


@pytest.mark.parametrize("minutes", [10, pytest.param(-10, marks=pytest.mark.slow)])
def test_r16_clocks_that_are_ten_minutes_wrong_move_nothing(
    house: House, doors: Control, minutes: int
) -> None:
    """The web process's clock is wrong, and the worker's is wrong the other way round."""
    house.set_up({"sim-zigbee-1": "zigbee"})
    doors.settings(zigbee_seconds=0)
    port = free_port()
    web = house.start("web", f"--port={port}", settings=at(minutes))
    url = f"http://127.0.0.1:{port}"
    answers(f"{url}/readyz", web)
    worker = house.start("worker", settings=at(-minutes))
    worker.logged("worker-started")
    assert post(url, stay("res-1", -60, 15)).json() == {"status": "accepted"}
    house.reach("active", within=60)
    house.reach("revoked", within=60)
    (late,) = house.ask(LATE)
    assert 0 <= late["soonest"] <= late["latest"] < 30
    (entry,) = doors.ledger()
    assert entry["ended_by"] == "deleted"
    (told, *_) = worker.logged_as("clock-is-wrong")
    assert told["seconds_behind_tuya"] == pytest.approx(minutes * 60, abs=30)
