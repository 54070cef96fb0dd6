"""Workers and web processes are killed in the middle of the work: everything is done, and once."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx2
import psycopg
import pytest

from pinqueue.simulator import Control
from tests.acceptance.processes import House, port_of, post, stay, until

CREATE = {"method": "POST", "path": "/temp-password"}
DELETE = {"method": "DELETE", "path": "/temp-passwords/"}
DOORS = ("done-1", "not-done-1", "done-2", "not-done-2")


def test_f24_what_a_killed_worker_was_at_is_done_once_by_the_next(
    house: House, doors: Control
) -> None:
    """kill -9 while four calls are out: two creates and two deletes, of each one that took effect
    and one that did not. Nobody will ever know the answers."""
    for door in DOORS:
        doors.add_door(door, "zigbee")
    house.set_up({"done-1": "zigbee", "not-done-1": "zigbee"}, "coming")
    house.add_listing({"done-2": "zigbee", "not-done-2": "zigbee"}, "leaving")
    doors.settings(zigbee_seconds=0)
    url, _ = house.web()
    worker = house.worker()
    post(url, stay("res-leaving", -3600, 3600, listing_id="leaving"))
    house.reach("active")

    doors.fault("slow", {**CREATE, "device": "done-1"}, seconds=30)
    doors.fault("hang", {**CREATE, "device": "not-done-1"}, seconds=30)
    doors.fault("slow", {**DELETE, "device": "done-2"}, seconds=30)
    doors.fault("hang", {**DELETE, "device": "not-done-2"}, seconds=30)
    post(url, stay("res-coming", -3600, 3600, listing_id="coming"))
    cancel = stay("res-leaving", -3600, 3600, listing_id="leaving", status="cancelled")
    post(url, {**cancel, "type": "reservation.cancelled"})
    until(lambda: all(fault["struck"] for fault in doors.faults()), "all four calls are out")
    worker.kill()

    doors.clear_faults()
    house.worker()
    house.reach("active", "res-coming", within=60)
    house.reach("revoked", "res-leaving", within=60)
    ledger = doors.ledger()
    assert sorted(entry["device"] for entry in ledger) == sorted(DOORS)
    assert {door: len(doors.pins(door)) for door in DOORS} == {
        "done-1": 1,
        "not-done-1": 1,
        "done-2": 0,
        "not-done-2": 0,
    }
    ended = house.ask("SELECT kind, state FROM operations WHERE finished_at IS NOT NULL ORDER BY 1")
    assert [tuple(row.values()) for row in ended] == (
        [("generate", "completed")] * 4 + [("revoke", "completed")] * 2
    )


AGAIN = """
    SELECT extract(epoch FROM max(started_at) - min(started_at))::float8 FROM tries
"""


def test_r8_what_a_killed_worker_was_at_is_begun_again_within_a_minute(
    house: House, doors: Control
) -> None:
    house.set_up({"sim-zigbee-1": "zigbee"})
    doors.settings(zigbee_seconds=0)
    doors.fault("slow", CREATE, seconds=30)
    doomed = house.worker()
    house.receive("res-1", check_in=datetime.now(UTC).isoformat())
    until(lambda: doors.faults()[0]["struck"], "the call is out")
    house.worker()
    doomed.kill()
    house.reach("active", within=120)
    assert house.value(AGAIN) < 60
    assert len(doors.ledger()) == 1


def test_a_worker_that_is_asked_to_stop_finishes_what_it_is_at_and_begins_nothing(
    house: House, doors: Control
) -> None:
    house.set_up({"sim-zigbee-1": "zigbee"})
    doors.settings(zigbee_seconds=0)
    doors.fault("slow", CREATE, seconds=3)
    url, _ = house.web()
    worker = house.worker()
    post(url, stay("res-1", -60, 3600))
    until(lambda: doors.faults()[0]["struck"], "the call is out")
    worker.ask_to_stop()
    worker.logged("Stop requested")
    post(url, stay("res-2", -60, 3600))
    assert worker.code() == 0
    assert house.states() == ["active", "scheduled"]
    assert len(doors.ledger()) == 1
    assert house.value("SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing'") == 0


@pytest.mark.slow
def test_a_worker_that_is_asked_to_stop_hands_over_what_takes_longer_than_its_limit_and_exits_0(
    house: House, doors: Control
) -> None:
    house.set_up({"sim-zigbee-1": "zigbee"})
    doors.settings(zigbee_seconds=0)
    doors.fault("slow", {"method": "GET", "path": "/temp-passwords"}, seconds=9)
    doors.fault("slow", {"method": "POST", "path": "/password-ticket"}, seconds=9)
    house.receive("res-1", check_in=datetime.now(UTC).isoformat())
    house.change("UPDATE procrastinate_jobs SET attempts = 9 WHERE queue_name = 'generate_pin'")
    worker = house.worker()
    until(lambda: doors.faults()[0]["struck"], "the first call is out")
    asked_at = time.monotonic()
    worker.ask_to_stop()
    house.worker()
    assert worker.code() == 0
    assert time.monotonic() - asked_at < 25
    house.reach("active")
    assert len(doors.ledger()) == 1
    tries = house.ask("SELECT outcome, job_id FROM tries ORDER BY epoch")
    assert [row["outcome"] for row in tries] == ["rescued", "completed"]
    assert len({row["job_id"] for row in tries}) == 1, "handed over, not found by the sweep"


MOST_AT_A_TIME = """
    WITH share AS (SELECT started_at, finished_at FROM tries WHERE operation_id = ANY(%s))
    SELECT max((
        SELECT count(*) FROM share other
        WHERE other.started_at <= one.started_at AND one.started_at < other.finished_at
    )) FROM share one
"""


def test_workers_share_what_is_due_and_each_takes_as_much_at_a_time_as_it_was_told(
    house: House, doors: Control
) -> None:
    locks = [f"door-{number}" for number in range(8)]
    for lock in locks:
        doors.add_door(lock, "zigbee")
    house.add_listing(dict.fromkeys(locks, "zigbee"), "apt-7")
    doors.settings(zigbee_seconds=0)
    doors.fault("slow", CREATE, seconds=1.5, times=None)
    workers = [house.start("worker", "--concurrency=2") for _ in range(2)]
    for worker in workers:
        worker.logged("Starting worker on queues generate_pin")
    house.receive("res-1", check_in=datetime.now(UTC).isoformat())
    house.reach("active")
    shares = [
        {line["operation_id"] for line in worker.logged_as("operation-started")}
        for worker in workers
    ]
    assert (len(shares[0] | shares[1]), shares[0] & shares[1]) == (8, set())
    assert all(shares), "each has one"
    assert max(house.value(MOST_AT_A_TIME, list(share)) for share in shares) == 2
    assert sorted(entry["device"] for entry in doors.ledger()) == locks


ROWS = """
    SELECT (SELECT count(*) FROM webhook_events) AS events,
           (SELECT count(*) FROM reservations) AS reservations,
           (SELECT count(*) FROM access_codes) AS codes,
           (SELECT count(*) FROM operations) AS operations,
           (SELECT count(*) FROM procrastinate_jobs) AS jobs
"""


def sent_until_taken(url: str, event: dict[str, Any], event_id: str) -> str:
    """What a sender does: the same event again and again, until a 200."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            answer = post(url, event, event_id)
            if answer.status_code == 200:
                return str(answer.json()["status"])
            assert answer.status_code == 503, answer.text
        except httpx2.TransportError:
            pass  # nobody is there, or it went away in the middle
        time.sleep(0.05)
    raise AssertionError(f"{event_id} was never taken")


def test_a_web_process_killed_before_its_commit_leaves_nothing_and_the_next_try_leaves_all(
    house: House,
) -> None:
    house.set_up({"sim-zigbee-1": "zigbee"})
    url, web = house.web()
    waiting = (
        "SELECT FROM pg_stat_activity WHERE application_name = 'pinqueue-web'"
        " AND wait_event_type = 'Lock'"
    )
    with ThreadPoolExecutor() as pool:
        with psycopg.connect(house.database_url) as connection:
            connection.execute("LOCK TABLE operations")  # the event's row is written before these
            taken = pool.submit(sent_until_taken, url, stay("res-1", 3600, 7200), "msg_1")
            until(lambda: house.ask(waiting), "the transaction is half done")
            web.kill()
        assert set(house.ask(ROWS)[0].values()) == {0}
        house.web(port_of(url))
        assert taken.result() == "accepted"
    assert house.ask(ROWS) == [
        {"events": 1, "reservations": 1, "codes": 1, "operations": 2, "jobs": 2}
    ]


def test_web_processes_killed_at_any_moment_take_every_event_exactly_once(house: House) -> None:
    house.set_up({"sim-zigbee-1": "zigbee", "sim-zigbee-2": "zigbee"})
    url, web = house.web()
    count, moments = 40, random.Random(2)
    with ThreadPoolExecutor(6) as pool:
        sent = [
            pool.submit(sent_until_taken, url, stay(f"res-{n}", 3600, 7200), f"msg_{n}")
            for n in range(count)
        ]
        for enough in (10, 20):
            while sum(answer.done() for answer in sent) < enough:
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 0.05))
            web.kill()
            _, web = house.web(port_of(url))
        outcomes = {s.result() for s in sent}
    assert outcomes <= {"accepted", "duplicate"}
    assert house.ask(ROWS) == [
        {
            "events": count,
            "reservations": count,
            "codes": 2 * count,
            "operations": 4 * count,
            "jobs": 4 * count,
        }
    ]
