"""`pinqueue jobs`, `reservations` and `codes verify` as a person and as a program use them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.processes import House
from tests.acceptance.test_commands import done, refused
from tests.conftest import PYTHON

FAIL = """
UPDATE operations SET state = 'failed', finished_at = now(), last_error = 'it broke'
WHERE kind = 'generate';
UPDATE access_codes SET state = 'failed', failed_at = now();
UPDATE procrastinate_jobs SET status = 'failed' WHERE queue_name = 'generate_pin';
"""


@pytest.fixture
def booked(house: House) -> House:
    """Two stays, one on a lock each."""
    house.set_up({"d-1": "zigbee"})
    house.receive("res-1")
    house.receive("res-2")
    return house


def told(house: House, *command: str) -> Any:
    return json.loads(done(house.run(*command, "--json")))


def shown(house: House, *command: str) -> str:
    return done(house.run(*command, COLUMNS="200"))


def test_jobs_are_listed_a_page_at_a_time_with_a_cursor_to_go_on(booked: House) -> None:
    pages: list[Any] = []
    cursor: list[str] = []
    while not pages or cursor:
        page = told(booked, "jobs", "list", "--limit", "3", *cursor)
        pages.append(page["jobs"])
        cursor = ["--cursor", page["next_cursor"]] if page["next_cursor"] else []
    jobs = [job for page in pages for job in page]
    assert [len(page) for page in pages] == [3, 1]
    assert len({job["job_id"] for job in jobs}) == 4
    assert [job["scheduled_at"] for job in jobs] == sorted(job["scheduled_at"] for job in jobs)
    newest = told(booked, "jobs", "list", "--order", "newest")["jobs"]
    assert [job["job_id"] for job in newest] == [job["job_id"] for job in reversed(jobs)]
    drawn = shown(booked, "jobs", "list", "--limit", "3")
    assert "scheduled_at (UTC)" in drawn
    assert "more: --cursor " in drawn


FILTERS = [
    (("--queue", "generate_pin"), 2),
    (("--state", "delayed"), 4),
    (("--state", "failed"), 0),
    (("--lock", "d-1", "--reservation", "res-1"), 2),
    (("--listing", "apt-7"), 4),
    (("--listing", "apt-8"), 0),
    (("--due-before", "30d"), 4),
    (("--due-before", "30d", "--due-from", "5m"), 4),
    (("--due-from=-1h", "--due-before=1m"), 0),
    (("--due-from", "2099-01-01"), 0),
    (("--due-from", "2001-01-01T00:00:00+02:00"), 4),
]


def test_jobs_are_listed_by_what_is_asked(booked: House) -> None:
    found = [
        (options, len(told(booked, "jobs", "list", *options)["jobs"])) for options, _ in FILTERS
    ]
    assert found == FILTERS


def test_what_cannot_be_asked_of_jobs_is_refused_with_what_can(booked: House) -> None:
    for options, message in (
        (("--state", "odd"), "state: must be one of waiting, delayed"),
        (("--queue", "odd"), "queue: must be one of generate_pin, revoke_pin"),
        (("--order", "odd"), "order: must be next or newest"),
        (("--cursor", "odd"), "cursor: must be the next_cursor"),
        (("--due-from", "odd"), "--due-from: write 2026-12-24T15:00Z, or 2h or -2h"),
    ):
        assert message in refused(booked.run("jobs", "list", *options), 2)
        error = json.loads(refused(booked.run("jobs", "list", *options, "--json"), 2))["error"]
        assert message in error["message"]
        assert set(error) == {"code", "message", "details"}


def test_the_status_of_a_stay_is_told(booked: House) -> None:
    status = told(booked, "jobs", "status", "res-1", "generate")
    assert (status["state"], status["attempts"], status["data"]["lock_id"]) == ("delayed", 0, "d-1")
    assert status["delay"] > 0
    drawn = shown(booked, "jobs", "status", "res-1", "revoke")
    assert "delayed" in drawn
    missing = booked.run("jobs", "status", "res-9", "generate")
    assert "reservation res-9 never had a generate job" in refused(missing)


def test_jobs_are_cancelled_and_scheduled_again(booked: House) -> None:
    both = {"generate_pin_cancelled": True, "revoke_pin_cancelled": True}
    assert told(booked, "jobs", "cancel", "res-1") == both
    assert told(booked, "jobs", "cancel", "res-1") == dict.fromkeys(both, False)
    assert shown(booked, "jobs", "cancel", "res-1") == "nothing was scheduled"
    assert told(booked, "jobs", "status", "res-1", "generate")["state"] == "cancelled"
    check_in = (datetime.now(UTC) + timedelta(days=20)).replace(microsecond=0)
    check_out = check_in + timedelta(days=2)
    dates = ("--check-in", check_in.isoformat(), "--check-out", check_out.isoformat())
    planned = told(booked, "jobs", "schedule", "res-1", *dates, "--lead", "2h")
    at = datetime.fromisoformat(planned["generate"]["data"]["scheduled_at"])
    assert at == check_in - timedelta(hours=2)
    assert planned["revoke"]["state"] == "delayed"
    assert "d-1" in shown(booked, "jobs", "schedule", "res-1")
    actors = booked.ask("SELECT DISTINCT actor FROM audit_events WHERE event LIKE 'reservation:%%'")
    assert any(row["actor"].startswith("cli:") for row in actors)


def test_a_failed_job_is_begun_again_alone_or_with_all_that_match(booked: House) -> None:
    booked.change(FAIL)
    first, second = told(booked, "jobs", "list", "--state", "failed")["jobs"]
    status = told(booked, "jobs", "retry", str(first["job_id"]))
    assert status["state"] in ("waiting", "active")
    nothing = ("jobs", "retry", "--all", "--lock", "d-2")
    assert told(booked, *nothing) == {"retried": 0, "left": 0}
    rest = ("jobs", "retry", "--all", "--reservation", second["reservation_id"])
    assert told(booked, *rest) == {"retried": 1, "left": 0}
    assert told(booked, "jobs", "list", "--state", "failed")["jobs"] == []
    assert "there is no job 999999" in refused(booked.run("jobs", "retry", "999999"))
    for usage in ((), ("7", "--all"), ("7", "--lock", "d-1")):
        assert "or --all with filters" in refused(booked.run("jobs", "retry", *usage), 2)


def test_failed_jobs_are_cleared_from_one_queue_or_both(booked: House) -> None:
    booked.change(FAIL)
    assert told(booked, "jobs", "clear-failed", "--queue", "revoke_pin") == {"cleared": 0}
    assert shown(booked, "jobs", "clear-failed") == "2 failed jobs cleared"
    assert booked.value("SELECT count(*) FROM audit_jobs WHERE state = 'failed'") == 2


def test_a_stay_is_put_confirmed_and_cancelled_without_a_property_system(booked: House) -> None:
    dates = ("--check-in", "2098-12-24T15:00", "--check-out", "2098-12-26T10:00")
    stay = ("--listing", "apt-7", *dates)
    put = told(booked, "reservations", "put", "my-1", *stay, "--guest", "Ana", "--pending")
    assert (put["status"], put["guest_name"], put["codes"]) == ("pending", "Ana", [])
    assert put["check_in_at"] == "2098-12-24T18:00:00+00:00"  # São Paulo is three hours behind
    confirmed = told(booked, "reservations", "confirm", "my-1")
    assert [code["state"] for code in confirmed["codes"]] == ["scheduled"]
    assert told(booked, "reservations", "show", "my-1") == confirmed
    assert "scheduled" in shown(booked, "reservations", "show", "my-1")
    cancelled = told(booked, "reservations", "cancel", "my-1")
    assert (cancelled["status"], cancelled["generate_pin_cancelled"]) == ("cancelled", True)
    again = told(booked, "reservations", "cancel", "my-1")
    assert (again["status"], again["generate_pin_cancelled"]) == ("cancelled", False)
    listed = told(booked, "reservations", "list", "--status", "confirmed", "--listing", "apt-7")
    assert {row["reservation_id"] for row in listed} == {"res-1", "res-2"}
    for verb in ("show", "confirm", "cancel"):
        missing = booked.run("reservations", verb, "nobody")
        assert "there is no reservation nobody" in refused(missing)
    ungranted = booked.run("reservations", "grant", "my-1", "--early-check-in", "odd")
    assert "early_check_in: must be a date" in refused(ungranted, 2)
    nothing = refused(booked.run("reservations", "grant", "my-1"), 2)
    assert "give --early-check-in or --late-check-out" in nothing


def test_a_same_day_turnover_is_told(booked: House) -> None:
    stay = told(booked, "reservations", "show", "res-1")
    out, listing = stay["check_out_at"], stay["listing_id"]
    until = (datetime.fromisoformat(out) + timedelta(days=2)).isoformat()
    dates = ("--check-in", out, "--check-out", until)
    told(booked, "reservations", "put", "res-9", "--listing", listing, *dates)
    assert told(booked, "reservations", "show", "res-1")["same_day_turnover"] == "res-9"
    listed = told(booked, "reservations", "list", "--listing", listing)
    assert {one["reservation_id"]: one["same_day_turnover"] for one in listed} == {
        "res-1": "res-9",
        "res-2": "res-9",
        "res-9": None,
    }


def test_a_pin_is_verified_from_stdin_on_record_and_never_printed(booked: House) -> None:
    code = str(booked.value("SELECT min(id) FROM access_codes"))
    pin = told(booked, "codes", "reveal", code)["pin"]
    other = f"{(int(pin) + 1) % 10**6:06d}"
    right = verify(booked, code, pin, "--json")
    assert (right.returncode, json.loads(right.stdout)) == (0, {"code": int(code), "matches": True})
    wrong = verify(booked, code, other)
    assert wrong.returncode == 1
    assert wrong.stdout.strip() == f"that is not the PIN of access code {code}"
    odd = verify(booked, code, "12x")
    assert (odd.returncode, odd.stdout) == (2, "")
    assert "a PIN is made of the digits 0 to 9" in odd.stderr
    record = "SELECT detail, actor FROM audit_events WHERE event = 'code:verified' ORDER BY id"
    assert [row["detail"] for row in booked.ask(record)] == [{"matches": True}, {"matches": False}]
    for ended in (right, wrong, odd):
        assert pin not in ended.stdout + ended.stderr
        assert other not in ended.stdout + ended.stderr
    missing = verify(booked, "999999", pin)
    assert "there is no access code 999999" in missing.stderr


def test_a_stay_gets_another_pin(booked: House) -> None:
    code = str(booked.value("SELECT min(id) FROM access_codes"))
    before = told(booked, "codes", "reveal", code)["pin"]
    assert told(booked, "codes", "reissue", code)["state"] == "scheduled"
    assert told(booked, "codes", "reveal", code)["pin"] != before
    assert "has another PIN" in shown(booked, "codes", "reissue", code)
    now = told(booked, "codes", "reveal", code)["pin"]
    would = told(booked, "codes", "reissue", "--reservation", "res-1", "--dry-run")
    assert (would["dry_run"], would["codes"][0]["comes_off_first"]) == (True, False)
    text = shown(booked, "codes", "reissue", code, "--dry-run")
    assert text.endswith("it would get another PIN at once")
    assert told(booked, "codes", "reveal", code)["pin"] == now
    assert not told(booked, "codes", "reissue", "--reservation", "res-1")["dry_run"]
    assert told(booked, "codes", "reveal", code)["pin"] != now
    for wrong in ([], [code, "--reservation", "res-1"]):
        assert booked.run("codes", "reissue", *wrong).returncode == 2
    assert "there is no access code 999999" in refused(booked.run("codes", "reissue", "999999"))


def test_a_pin_that_is_typed_is_not_seen(booked: House) -> None:
    code = str(booked.value("SELECT min(id) FROM access_codes"))
    pin = told(booked, "codes", "reveal", code)["pin"]
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [PYTHON, "-m", "pinqueue", "codes", "verify", code],
        env=booked.environment,
        cwd=booked.folder,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    os.close(terminal)
    seen = b""
    try:
        while b"PIN: " not in seen:
            seen += os.read(controller, 1024)
        os.write(controller, f"{pin}\n".encode())
        assert process.wait(30) == 0
        seen += os.read(controller, 4096)
    finally:
        process.kill()
        process.wait(10)
        os.close(controller)
    assert b"that is the PIN of access code" in seen
    assert pin.encode() not in seen


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def verify(house: House, code: str, pin: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, "-m", "pinqueue", "codes", "verify", code, *options],
        env=house.environment,
        cwd=house.folder,
        input=f"{pin}\n",
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_views_are_listed_and_set_up_is_told_as_json(house: House) -> None:
    views = told(house, "audit")
    assert {"view", "tells"} == set(views[0])
    assert "audit_overdue_pins" in shown(house, "audit")
    lock = ("--device-id", "d-1", "--protocol", "zigbee")
    assert told(house, "locks", "add", "front", *lock)["lock"] == "front"
    listing = ("--time-zone", "UTC")
    assert told(house, "listings", "add", "apt-7", *listing)["taken_up"] == 0
    assert told(house, "listings", "link", "apt-7", "front")["stays_planned"] == 0
    assert told(house, "sources", "add", "main")["secret"].startswith("whsec_")
    assert told(house, "sources", "rotate", "main")["old_verifies_for"] == 86400
    key = told(house, "keys", "create", "ops", "--scope", "read")
    assert key["key"].startswith("pq_")
    assert told(house, "keys", "revoke", "ops") == {"name": "ops", "revoked": True}
    assert set(told(house, "keys", "generate")) == {"PINQUEUE_SECRET_KEYS", "PINQUEUE_PIN_PEPPER"}
    assert told(house, "migrate")["revision"] == told(house, "check")["revision"]
