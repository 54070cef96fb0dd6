"""Who is silent is not waited for: a database that answers no more, a worker that stands still."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from pinqueue.simulator import Control
from tests.acceptance.processes import House, post, stay, until
from tests.conftest import PYTHON
from tests.wires import Wire

CREATE = {"method": "POST", "path": "/temp-password"}
SILENT = pytest.mark.timeout(300)


STUCK = """
import asyncio, time
from pinqueue import cli, worker
worker.STUCK_AFTER = 2.0
begin = worker._feed_watchdog

async def be_stuck():
    asyncio.get_running_loop().call_later(1, time.sleep, 60)
    await begin()

worker._feed_watchdog = be_stuck
cli.main()
"""


def test_a_worker_whose_event_loop_is_stuck_ends_and_says_where(house: House) -> None:
    done = subprocess.run(
        [PYTHON, "-c", STUCK, "worker"],
        env=house.environment,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "in run" in done.stderr


@pytest.mark.slow
@SILENT
def test_r11_a_worker_whose_database_fell_silent_goes_on_within_two_minutes(
    house: House, doors: Control, wire: Wire
) -> None:
    house.set_up({"sim-zigbee-1": "zigbee"})
    doors.settings(zigbee_seconds=0)
    doors.fault("slow", CREATE, seconds=1)
    url, _ = house.web()
    worker = house.start("worker", settings={"PINQUEUE_DATABASE_URL": wire.url})
    worker.logged("Starting worker on queues generate_pin")
    post(url, stay("res-1", -60, 3600))
    until(lambda: doors.faults()[0]["struck"], "the call is out")
    wire.fall_silent()
    fell_at = time.monotonic()
    worker.logged("database-silent", within=60)
    wire.fell_silent.clear()  # what was said is lost; who connects from now on is heard
    post(url, stay("res-2", -60, 3600))
    house.reach("active", within=120)
    assert time.monotonic() - fell_at < 120
    assert len(doors.ledger()) == 2


@pytest.mark.slow
@SILENT
def test_r11_what_a_worker_that_stands_still_was_at_is_done_by_another(
    house: House, doors: Control
) -> None:
    """It lives, its kernel answers, and its locks are its own; and when it goes on, it changes
    nothing."""
    house.set_up({"sim-zigbee-1": "zigbee"})
    doors.settings(zigbee_seconds=0)
    doors.fault("slow", CREATE, seconds=3)
    url, _ = house.web()
    frozen = house.worker()
    post(url, stay("res-1", -60, 3600))
    until(lambda: doors.faults()[0]["struck"], "the call is out")
    frozen.process.send_signal(signal.SIGSTOP)
    stopped_at = time.monotonic()
    house.worker()
    house.reach("active", within=90)
    assert time.monotonic() - stopped_at < 90
    frozen.process.send_signal(signal.SIGCONT)
    frozen.logged('"outcome": "overtaken"', within=30)
    assert house.states() == ["active"]
    assert len(doors.ledger()) == 1
    assert frozen.alive()
