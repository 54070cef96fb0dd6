"""What the queue promises, name by name as it was announced, from Python, over HTTP and on the
command line: the same is asked, and the same must come of it.

Where else each promise is shown: docs/queue.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime, timedelta

import pytest

from pinqueue.simulator import Control
from tests.acceptance.hands import HANDS, Hand, Refused
from tests.acceptance.processes import House, until

LOCK = "sim-zigbee-1"
TODAY = datetime.now(UTC).replace(microsecond=0)
CHECK_IN, CHECK_OUT = TODAY + timedelta(days=1), TODAY + timedelta(days=3)
HOUR = timedelta(hours=1)
BOTH = {"generate_pin_cancelled": True, "revoke_pin_cancelled": True}
NEITHER = {"generate_pin_cancelled": False, "revoke_pin_cancelled": False}
FAIL = """
    WITH operation AS (
        UPDATE operations SET state = 'failed', finished_at = now(), last_error = 'refused'
        FROM access_codes code WHERE code.id = access_code_id AND kind = 'generate'
        AND reservation_id = '{stay}' RETURNING job_id, access_code_id
    ), code AS (
        UPDATE access_codes SET state = 'failed', failed_at = now()
        FROM operation WHERE id = access_code_id
    )
    UPDATE procrastinate_jobs SET status = 'failed' FROM operation WHERE id = job_id
"""
"""A stay's generate, ended as a worker ends it that was refused."""


@pytest.fixture(params=HANDS)
def hand(request: pytest.FixtureRequest, house: House) -> Iterator[Hand]:
    with HANDS[request.param](house) as made:
        yield made


@pytest.fixture
def listing(house: House, doors: Control) -> House:
    """The listing apt-7 with one lock, which takes at once what it is sent."""
    house.add_listing({LOCK: "zigbee"}, "apt-7")
    doors.settings(zigbee_seconds=0)
    return house


@pytest.fixture
def booked(listing: House) -> House:
    """The stay res-1 there, from tomorrow for two days."""
    book(listing, "res-1")
    return listing


def book(
    house: House, stay: str, check_in: datetime = CHECK_IN, check_out: datetime = CHECK_OUT
) -> None:
    house.receive(stay, check_in=check_in.isoformat(), check_out=check_out.isoformat())


def state(hand: Hand, kind: str, stay: str = "res-1") -> str:
    told = hand.status(stay, kind)
    assert told is not None
    return str(told["state"])


def windows(house: House) -> list[tuple[datetime, datetime]]:
    found = house.ask("SELECT starts_at, ends_at FROM access_codes ORDER BY id")
    return [(row["starts_at"], row["ends_at"]) for row in found]


# Schedule: three


@pytest.mark.usefixtures("booked")
def test_schedule_generate_rings_one_hour_before_check_in(hand: Hand) -> None:
    (job,) = hand.generate("res-1")
    assert set(job) == {"job_id", "lock_id", "scheduled_at"}
    assert (job["lock_id"], job["scheduled_at"]) == (LOCK, CHECK_IN - HOUR)


@pytest.mark.usefixtures("booked")
def test_schedule_generate_in_the_past_rings_at_once(hand: Hand) -> None:
    asked_at = datetime.now(UTC)
    (job,) = hand.generate("res-1", (asked_at - 5 * HOUR).isoformat())
    assert asked_at - timedelta(seconds=1) < job["scheduled_at"] <= datetime.now(UTC)
    assert state(hand, "generate") == "waiting"


def test_schedule_generate_twice_moves_the_time_and_doubles_nothing(
    booked: House, hand: Hand
) -> None:
    later = CHECK_IN + 6 * HOUR
    hand.generate("res-1")
    (job,) = hand.generate("res-1", later.isoformat())
    assert job["scheduled_at"] == later - HOUR
    (listed,) = hand.listed("generate_pin")["waiting"]
    assert listed["job_id"] == job["job_id"]
    assert windows(booked) == [(later, CHECK_OUT)]


@pytest.mark.usefixtures("booked")
def test_schedule_generate_with_a_lead_of_its_own_rings_so_long_before(hand: Hand) -> None:
    (job,) = hand.generate("res-1", lead=timedelta(hours=5, minutes=30))
    assert job["scheduled_at"] == CHECK_IN - 5.5 * HOUR


@pytest.mark.parametrize("made", HANDS.values(), ids=HANDS)
def test_schedule_generate_without_a_lead_rings_as_long_before_as_the_settings_say(
    booked: House, made: Callable[[House], AbstractContextManager[Hand]]
) -> None:
    booked.environment["PINQUEUE_LEAD"] = "3h"
    with made(booked) as hand:
        (job,) = hand.generate("res-1")
    assert job["scheduled_at"] == CHECK_IN - 3 * HOUR


def test_schedule_of_a_stay_that_is_over_schedules_nothing(listing: House, hand: Hand) -> None:
    book(listing, "res-1", TODAY - 72 * HOUR, TODAY - HOUR)
    assert (hand.generate("res-1"), hand.revoke("res-1")) == ([], [])
    assert listing.states() == []


def test_f22_two_locks_of_one_listing_do_not_collide(house: House, hand: Hand) -> None:
    locks = {LOCK, "sim-zigbee-2"}
    house.add_listing(dict.fromkeys(locks, "zigbee"), "apt-7")
    book(house, "res-1")
    scheduled = hand.generate("res-1")
    assert {job["lock_id"] for job in scheduled} == locks
    assert {job["job_id"] for job in scheduled} == {
        job["job_id"] for job in hand.listed("generate_pin")["waiting"]
    }
    assert hand.cancel("res-1") == BOTH
    told = hand.status("res-1", "revoke")
    assert told is not None
    assert {lock["lock_id"]: lock["state"] for lock in told["data"]["locks"]} == dict.fromkeys(
        locks, "cancelled"
    )


# Revoke: two


@pytest.mark.usefixtures("booked")
def test_schedule_revoke_rings_at_check_out(hand: Hand) -> None:
    (job,) = hand.revoke("res-1")
    assert (job["lock_id"], job["scheduled_at"]) == (LOCK, CHECK_OUT)


def test_schedule_revoke_twice_moves_the_time_and_the_window(booked: House, hand: Hand) -> None:
    hand.revoke("res-1")
    (job,) = hand.revoke("res-1", (CHECK_OUT + 24 * HOUR).isoformat())
    assert job["scheduled_at"] == CHECK_OUT + 24 * HOUR
    (listed,) = hand.listed("revoke_pin")["waiting"]
    assert listed["job_id"] == job["job_id"]
    assert windows(booked) == [(CHECK_IN, CHECK_OUT + 24 * HOUR)]


# Cancel: three


@pytest.mark.usefixtures("booked")
def test_cancel_both(hand: Hand) -> None:
    assert hand.cancel("res-1") == BOTH
    assert [state(hand, kind) for kind in ("generate", "revoke")] == ["cancelled"] * 2
    assert hand.cancel("res-1") == NEITHER
    assert len(hand.generate("res-1")) == 1


def test_cancel_partly_when_the_pin_is_on_the_door_and_take_it_off_at_once(
    listing: House, hand: Hand, doors: Control
) -> None:
    book(listing, "res-1", TODAY)
    listing.worker()
    listing.reach("active")
    assert hand.cancel("res-1") == {**NEITHER, "revoke_pin_cancelled": True}
    listing.reach("revoked")
    assert doors.pins(LOCK) == []
    assert hand.cancel("res-1") == NEITHER


def test_cancel_where_nothing_is_scheduled(hand: Hand) -> None:
    assert hand.cancel("res-unknown") == NEITHER


# Status: three


@pytest.mark.usefixtures("booked")
def test_status_of_a_delayed_job(hand: Hand) -> None:
    told = hand.status("res-1", "generate")
    assert told is not None
    assert set(told) == {"job_id", "state", "data", "attempts", "delay"}
    assert (told["state"], told["attempts"]) == ("delayed", 0)
    assert (told["data"]["reservation_id"], told["data"]["kind"]) == ("res-1", "generate")
    due_in = (CHECK_IN - HOUR - datetime.now(UTC)).total_seconds()
    assert abs(told["delay"] / 1000 - due_in) < 10


def test_status_of_a_completed_job_outlives_its_row(listing: House, hand: Hand) -> None:
    book(listing, "res-1", TODAY)
    listing.worker()
    done = "SELECT FROM procrastinate_jobs WHERE status = 'succeeded'"
    until(lambda: listing.ask(done), "the end of the job is written down")
    listing.change("DELETE FROM procrastinate_jobs WHERE status = 'succeeded'")
    told = hand.status("res-1", "generate")
    assert told is not None
    assert (told["state"], told["attempts"], told["delay"]) == ("completed", 1, 0)


@pytest.mark.usefixtures("booked")
def test_status_of_a_stay_without_jobs_is_none(hand: Hand) -> None:
    assert hand.status("res-unknown", "generate") is None
    assert hand.status("res-unknown", "revoke") is None


# List: two


def test_list_sorts_the_jobs_of_a_queue_by_state(booked: House, hand: Hand) -> None:
    book(booked, "res-2", TODAY - HOUR)
    book(booked, "res-3")
    booked.change(FAIL.format(stay="res-3"))
    listed = hand.listed("generate_pin")
    assert set(listed) == {"waiting", "active", "completed", "failed"}
    assert [(job["reservation_id"], job["state"]) for job in listed["waiting"]] == [
        ("res-2", "waiting"),
        ("res-1", "delayed"),
    ]
    (failed,) = listed["failed"]
    assert (failed["reservation_id"], failed["last_error"]) == ("res-3", "refused")
    assert (listed["active"], listed["completed"]) == ([], [])


@pytest.mark.parametrize("newest_first", [False, True], ids=["next first", "newest first"])
def test_list_pages_through_every_job_once_while_others_come(
    booked: House, hand: Hand, newest_first: bool
) -> None:
    for number in (2, 3, 4):
        book(booked, f"res-{number}", CHECK_IN + number % 3 * HOUR)
    there = {row["id"] for row in booked.ask("SELECT id FROM procrastinate_jobs")}
    seen, cursor = [], None
    for turn in range(9):
        page = hand.page(limit=4, cursor=cursor, newest_first=newest_first)
        seen += page["jobs"]
        book(booked, f"res-new-{turn}", CHECK_IN - turn * HOUR)
        cursor = page["next_cursor"]
        if cursor is None:
            break
    ids = [job["job_id"] for job in seen]
    assert len(ids) == len(set(ids))
    assert there <= set(ids)
    due = [(job["scheduled_at"], job["job_id"]) for job in seen]
    assert due == sorted(due, reverse=newest_first)


# Errors: a bad date, a missing reservation


@pytest.mark.usefixtures("booked")
@pytest.mark.parametrize(
    ("given", "field"),
    [
        ("24/12/2026", "check_in"),
        ((CHECK_OUT + HOUR).isoformat(), "check_out"),
    ],
    ids=["no date", "after check-out"],
)
def test_a_bad_date_names_its_field_and_changes_nothing(hand: Hand, given: str, field: str) -> None:
    before = hand.listed("generate_pin")
    with pytest.raises(Refused) as refused:
        hand.generate("res-1", given)
    assert (refused.value.code, refused.value.fields) == ("invalid_input", [field])
    assert refused.value.message.startswith(f"{field}: ")
    assert hand.listed("generate_pin") == before


def test_a_missing_reservation_is_not_found(hand: Hand) -> None:
    for schedule in (hand.generate, hand.revoke):
        with pytest.raises(Refused) as refused:
            schedule("res-1")
        assert refused.value.code == "not_found"
        assert refused.value.message.startswith("there is no reservation res-1: ")


# The failed ones


def test_a_failed_job_is_retried_alone_or_with_all_that_match(booked: House, hand: Hand) -> None:
    book(booked, "res-2")
    for stay in ("res-1", "res-2"):
        booked.change(FAIL.format(stay=stay))
    first = next(
        job["job_id"]
        for job in hand.listed("generate_pin")["failed"]
        if job["reservation_id"] == "res-1"
    )
    told = hand.retry(first)
    assert (told["state"], told["delay"]) == ("waiting", 0)
    assert hand.retry_all(queue="generate_pin", lock="none") == {"retried": 0, "left": 0}
    assert hand.retry_all(queue="generate_pin", lock=LOCK) == {"retried": 1, "left": 0}
    assert hand.listed("generate_pin")["failed"] == []


def test_failed_jobs_are_cleared_and_counted(booked: House, hand: Hand) -> None:
    booked.change(FAIL.format(stay="res-1"))
    assert hand.clear_failed("revoke_pin") == {"cleared": 0}
    assert hand.clear_failed("generate_pin") == {"cleared": 1}
    assert hand.clear_failed("generate_pin") == {"cleared": 0}
    assert state(hand, "generate") == "failed"


def test_health_counts_each_queue_by_state(booked: House, hand: Hand) -> None:
    book(booked, "res-2", TODAY - HOUR)
    book(booked, "res-3")
    booked.change(FAIL.format(stay="res-3"))
    none = dict.fromkeys(("waiting", "delayed", "active", "completed", "failed", "cancelled"), 0)
    told = hand.health()
    assert told["queues"] == {
        "generate_pin": {**none, "delayed": 1, "waiting": 1, "failed": 1},
        "revoke_pin": {**none, "delayed": 3},
    }
    assert (told["workers"], told["locks_held"], told["overdue_pins"]) == ([], [], 0)


def test_health_shows_who_holds_which_lock_for_how_long(listing: House, doors: Control) -> None:
    book(listing, "res-1", TODAY)
    doors.fault("slow", {"method": "GET", "path": "temp-passwords"}, seconds=9)
    listing.worker()
    until(lambda: doors.faults()[0]["struck"], "the worker is at the lock")
    for made in HANDS.values():
        with made(listing) as hand:
            told = hand.health()
        (held,) = told["locks_held"]
        assert (held["lock_id"], held["reservation_id"]) == (LOCK, "res-1")
        assert (held["kind"], held["holder"]) == ("generate", "pinqueue-mutex")
        assert 0 <= held["held_seconds"] < 20
        assert [worker["active_jobs"] for worker in told["workers"]] == [1]


# The whole cycle


def test_the_whole_cycle_from_schedule_to_revoked(
    booked: House, hand: Hand, doors: Control
) -> None:
    booked.worker()
    hand.generate("res-1", (TODAY - HOUR).isoformat())
    booked.reach("active")
    (held,) = doors.pins(LOCK)
    assert doors.open(LOCK, held["pin"])
    assert state(hand, "revoke") == "delayed"

    hand.revoke("res-1", (TODAY - timedelta(seconds=1)).isoformat())
    booked.reach("revoked")
    assert doors.pins(LOCK) == []
    assert not doors.open(LOCK, held["pin"])
    assert len(doors.ledger()) == 1

    done = "SELECT FROM procrastinate_jobs WHERE status = 'succeeded'"
    until(lambda: len(booked.ask(done)) == 2, "the end of both jobs is written down")
    for kind in ("generate", "revoke"):
        assert state(hand, kind) == "completed"
        (job,) = hand.listed(f"{kind}_pin")["completed"]
        assert job["reservation_id"] == "res-1"
    assert hand.cancel("res-1") == NEITHER


# And word for word


def test_all_three_tell_the_same_of_the_same_jobs(booked: House) -> None:
    book(booked, "res-2", TODAY - HOUR)
    book(booked, "res-3")
    booked.change(FAIL.format(stay="res-3"))
    with ExitStack() as stack:
        first, *others = [stack.enter_context(made(booked)) for made in HANDS.values()]
        for hand in others:
            assert hand.listed("generate_pin") == first.listed("generate_pin")
            for stay in ("res-2", "res-3"):
                assert hand.status(stay, "generate") == first.status(stay, "generate")
            assert hand.page(limit=2, cursor=None, newest_first=False) == first.page(
                limit=2, cursor=None, newest_first=False
            )
            assert hand.health()["queues"] == first.health()["queues"]
