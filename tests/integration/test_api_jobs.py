"""The queue utilities over HTTP."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from tests.calling import Client, client, instant, soon, stay
from tests.serving import Web

FAILED = """
    WITH code AS (
        UPDATE access_codes SET state = 'failed', failed_at = now()
        WHERE reservation_id = %s RETURNING id
    ), operation AS (
        UPDATE operations SET state = 'failed', finished_at = now(), last_error = 'refused'
        FROM code WHERE access_code_id = code.id AND kind = 'generate' RETURNING job_id
    )
    UPDATE procrastinate_jobs SET status = 'failed' FROM operation WHERE job_id = id RETURNING id
"""
"""A stay's generate, ended as a worker ends it that was refused."""


@pytest.fixture
def desk(web: Web) -> Client:
    """Three stays behind two locks: res-1 and res-2 in apt-7, res-3 in apt-8."""
    web.set_up_listing("apt-8", {"sim-wifi-1": "wifi"})
    who = client(web, "operate")
    for name, listing in (("res-1", "apt-7"), ("res-2", "apt-7"), ("res-3", "apt-8")):
        who.told(201, "PUT", f"/api/reservations/{name}", stay(listing_id=listing))
    return who


def fail(who: Client, reservation_id: str) -> int:
    job_id: int = who.web.value(FAILED, reservation_id)
    return job_id


def listed(who: Client, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = who.get(f"/api/jobs?{query}")["jobs"]
    return found


def test_list_tells_each_job_with_what_it_rings_for(desk: Client) -> None:
    (job,) = listed(desk, "reservation=res-1&queue=generate_pin")
    assert {key: job[key] for key in ("queue", "state", "lock_id", "listing_id", "attempts")} == {
        "queue": "generate_pin",
        "state": "delayed",
        "lock_id": "sim-zigbee-1",
        "listing_id": "apt-7",
        "attempts": 0,
    }


def test_list_filters(desk: Client) -> None:
    failed = fail(desk, "res-2")
    assert len(listed(desk)) == 6
    assert {job["job_id"] for job in listed(desk, "state=failed")} == {failed}
    assert {job["reservation_id"] for job in listed(desk, "lock=sim-wifi-1")} == {"res-3"}
    assert {job["reservation_id"] for job in listed(desk, "listing=apt-8")} == {"res-3"}
    assert len(listed(desk, "queue=revoke_pin")) == 3
    noon = quote(soon(days=2))
    assert {job["queue"] for job in listed(desk, f"due_before={noon}")} == {"generate_pin"}
    assert {job["queue"] for job in listed(desk, f"due_from={noon}")} == {"revoke_pin"}


def test_list_is_in_the_order_of_due_times_or_the_reverse(desk: Client) -> None:
    due = [instant(job["scheduled_at"]) for job in listed(desk)]
    assert due == sorted(due)
    reverse = [instant(job["scheduled_at"]) for job in listed(desk, "order=newest")]
    assert reverse == due[::-1]


def test_list_pages_through_every_job_once(desk: Client) -> None:
    seen, cursor = [], ""
    while cursor is not None:
        page = desk.get(f"/api/jobs?limit=4{'&cursor=' + cursor if cursor else ''}")
        seen += [job["job_id"] for job in page["jobs"]]
        cursor = page["next_cursor"]
    assert (len(seen), len(set(seen))) == (6, 6)


def test_a_cursor_of_the_other_order_is_refused(desk: Client) -> None:
    cursor = desk.get("/api/jobs?limit=1")["next_cursor"]
    error = desk.refused(422, "GET", f"/api/jobs?order=newest&cursor={cursor}")
    assert [fault["field"] for fault in error["details"]] == ["cursor"]


def test_status_of_a_delayed_job(desk: Client) -> None:
    told = desk.get("/api/jobs/res-1/generate")
    assert set(told) == {"job_id", "state", "data", "attempts", "delay"}
    assert (told["state"], told["attempts"], told["data"]["kind"]) == ("delayed", 0, "generate")
    assert 22 * 3600 * 1000 < told["delay"] <= 23 * 3600 * 1000


def test_status_of_a_failed_job_says_why(desk: Client) -> None:
    fail(desk, "res-1")
    told = desk.get("/api/jobs/res-1/generate")
    assert (told["state"], told["data"]["last_error"], told["delay"]) == ("failed", "refused", 0)


def test_schedule_moves_the_jobs_of_a_reservation_and_tells_them(desk: Client) -> None:
    check_in, check_out = soon(days=1, hours=6), soon(days=4)
    body = {"check_in": check_in, "lead": "2h"}
    (job,) = desk.told(200, "POST", "/api/jobs/res-1/generate", body)["jobs"]
    assert (job["lock_id"], instant(job["scheduled_at"])) == (
        "sim-zigbee-1",
        instant(check_in) - timedelta(hours=2),
    )
    body = {"check_out": check_out}
    (job,) = desk.told(200, "POST", "/api/jobs/res-1/revoke", body)["jobs"]
    assert instant(job["scheduled_at"]) == instant(check_out)
    told = desk.get("/api/reservations/res-1")
    assert (instant(told["check_in"]), instant(told["check_out"])) == (
        instant(check_in),
        instant(check_out),
    )


def test_cancel_takes_the_jobs_alone_until_they_are_scheduled_again(desk: Client) -> None:
    both = {"generate_pin_cancelled": True, "revoke_pin_cancelled": True}
    assert desk.told(200, "DELETE", "/api/jobs/res-1") == both
    assert desk.told(200, "DELETE", "/api/jobs/res-1") == dict.fromkeys(both, False)
    assert desk.get("/api/reservations/res-1")["status"] == "confirmed"
    assert len(listed(desk, "state=delayed")) == 4
    assert len(desk.told(200, "POST", "/api/jobs/res-1/generate")["jobs"]) == 1
    assert len(listed(desk, "state=delayed")) == 6


def test_who_scheduled_and_cancelled_is_audited_by_the_key(desk: Client) -> None:
    desk.told(200, "DELETE", "/api/jobs/res-1")
    desk.told(200, "POST", "/api/jobs/res-1/revoke")
    rows = desk.web.ask(
        "SELECT event, actor FROM audit_events WHERE event IN"
        " ('reservation:pins_withheld', 'reservation:scheduled') ORDER BY id"
    )
    assert [row["event"] for row in rows] == ["reservation:pins_withheld", "reservation:scheduled"]
    assert all(row["actor"].startswith("key:") for row in rows)


def test_retry_begins_a_failed_job_again_at_once(desk: Client) -> None:
    job = fail(desk, "res-1")
    told = desk.told(200, "POST", f"/api/jobs/{job}/retry")
    assert (told["state"], told["delay"]) == ("waiting", 0)
    assert listed(desk, "state=failed") == []
    assert desk.refused(404, "POST", f"/api/jobs/{job}/retry")["code"] == "not_found"


def test_retry_takes_failed_jobs_alone(desk: Client) -> None:
    job = desk.get("/api/jobs/res-1/generate")["job_id"]
    error = desk.refused(409, "POST", f"/api/jobs/{job}/retry")
    assert error["message"] == f"job {job} is delayed: only a failed one is retried"


def test_retry_all_that_match(desk: Client) -> None:
    for name in ("res-1", "res-2", "res-3"):
        fail(desk, name)
    told = desk.told(200, "POST", "/api/jobs/failed/retry?listing=apt-7&queue=generate_pin")
    assert told == {"retried": 2, "left": 0}
    assert [job["reservation_id"] for job in listed(desk, "state=failed")] == ["res-3"]
    assert desk.told(200, "POST", "/api/jobs/failed/retry") == {"retried": 1, "left": 0}


def test_clear_failed_counts_them_and_is_audited_by_the_key(desk: Client) -> None:
    fail(desk, "res-1")
    assert desk.told(200, "DELETE", "/api/jobs/failed?queue=revoke_pin") == {"cleared": 0}
    assert desk.told(200, "DELETE", "/api/jobs/failed?queue=generate_pin") == {"cleared": 1}
    assert listed(desk, "state=failed") == []
    row = desk.web.ask("SELECT * FROM audit_events WHERE event = 'jobs:cleared' ORDER BY id")[-1]
    assert (row["actor"][:4], row["detail"]) == ("key:", {"queue": "generate_pin", "cleared": 1})


def test_clear_failed_needs_to_be_told_the_queue(desk: Client) -> None:
    for query in ("", "?queue=", "?queue=other"):
        error = desk.refused(422, "DELETE", f"/api/jobs/failed{query}")
        assert [fault["field"] for fault in error["details"]] == ["queue"]
