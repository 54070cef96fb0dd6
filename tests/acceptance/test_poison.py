"""One operation kills every worker that takes it up: it is set aside, and the others go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from pinqueue.simulator import Control
from tests.acceptance.processes import House, until
from tests.acceptance.test_commands import done
from tests.exposition import Exposition
from tests.factories import SECRET
from tests.receiving import receiving

KILLER = """
import os, signal
from pinqueue.locks.tuya import TuyaGateway

create_pin = TuyaGateway.create_pin

async def die_or_create_pin(gateway, door, *given):
    if door.device_id == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    return await create_pin(gateway, door, *given)

TuyaGateway.create_pin = die_or_create_pin
"""
"""Taken in by Python itself when a worker starts. What a library's fault would do that one lock
provokes: the process is gone, and says nothing."""

SLOW = [f"slow-{number}" for number in range(4)]
"""With five operations at a time, these are at their doors whenever the poison is taken up."""
BESIDE = [f"beside-{number}" for number in range(8)]
LATER = [f"later-{number}" for number in range(1, 5)]
"""Due when the worker has died that many times."""
OTHERS = (*SLOW, *BESIDE, *LATER)
DONE = "SELECT * FROM audit_operations WHERE state = 'completed'"
SWEPT = "SELECT event FROM audit_timeline WHERE actor = 'sweep' AND reservation_id = %s ORDER BY at"


@contextmanager
def kept_running(house: House) -> Iterator[list[datetime]]:
    """A worker, started again whenever it dies, as a service manager does; yields when it died."""
    (house.folder / "killer").mkdir()
    (house.folder / "killer" / "sitecustomize.py").write_text(KILLER)
    died: list[datetime] = []
    stopping = threading.Event()

    def keep_running() -> None:
        while not stopping.is_set():
            worker = house.start("worker", settings={"PYTHONPATH": str(house.folder / "killer")})
            while worker.alive() and not stopping.wait(0.02):
                pass
            worker.ask_to_stop()
            if worker.code() == -signal.SIGKILL:
                died.append(datetime.now(UTC))

    thread = threading.Thread(target=keep_running, name="service manager")
    thread.start()
    try:
        yield died
    finally:
        stopping.set()
        thread.join()


def wait_until_it_died(died: list[datetime], times: int) -> None:
    until(lambda: len(died) == times, f"the worker has died {times} times", within=60)


def book(house: House, *doors: str) -> None:
    """A stay behind each, all due now."""
    for door in doors:
        house.receive(f"res-{door}", listing_id=door, check_in=datetime.now(UTC).isoformat())


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_kills_its_worker_is_quarantined_after_three_rescues_and_the_others_go_on(
    house: House, doors: Control
) -> None:
    doors.settings(zigbee_seconds=0)
    for door in ("poison", *OTHERS):
        doors.add_door(door, "zigbee")
        house.add_listing({door: "zigbee"}, door)
    for door in SLOW:
        create = {"method": "POST", "path": "/temp-password", "device": door}
        doors.fault("slow", create, seconds=2.0, times=None)
    url, _ = house.web()
    with receiving() as receiver:
        done(house.run("endpoints", "add", "desk", receiver.url, "--secret", SECRET))

        def told() -> list[dict[str, str]]:
            failed = [one for one in receiver.bodies() if one["type"] == "code.failed"]
            return [one["data"] for one in failed]

        def quarantined() -> float | None:
            scrape = httpx2.get(f"{url}/metrics", trust_env=False).text
            labels = {"kind": "generate", "outcome": "quarantined"}
            return Exposition(scrape).value("pinqueue_operations_total", **labels)

        book(house, *SLOW, "poison", *BESIDE)
        with kept_running(house) as died:
            for times, door in enumerate(LATER, 1):
                wait_until_it_died(died, times)
                book(house, door)
            house.reach("failed", "res-poison", within=60)
            for door in OTHERS:
                house.reach("active", f"res-{door}", within=60)
            until(told, "the endpoint is told")
            until(quarantined, "it is counted")
        assert len(died) == len(LATER), "it kills no more"
        assert house.running[-1].code() == 0

    why = "quarantined: its worker died 4 times"
    assert [(one["lock_id"], one["error"]) for one in told()] == [("poison", why)]
    assert quarantined() == 1
    (failed,) = house.ask("SELECT lock_id, kind, last_error FROM audit_failed")
    assert failed == {"lock_id": "poison", "kind": "generate", "last_error": why}
    swept = house.ask(SWEPT, "res-poison")
    assert [row["event"] for row in swept] == ["generate:rescued"] * 3 + ["generate:quarantined"]

    ended = {
        row["lock_id"]: row["finished_at"] - max(row["due_at"], died[0]) for row in house.ask(DONE)
    }
    assert set(ended) == set(OTHERS)
    assert max(ended.values()) < timedelta(seconds=60)
    assert sorted(entry["device"] for entry in doors.ledger()) == sorted(OTHERS), "each done once"
    assert max(row["rescues"] for row in house.ask(DONE)) <= 2, "then it was tried alone"
