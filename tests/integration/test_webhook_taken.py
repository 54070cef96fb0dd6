"""The bad-input catalogue, what is taken: each answer, and what it causes.

The number in a test's name or id is the row of the catalogue that it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from pinqueue.db import Database
from pinqueue.reservations import Planner
from tests import factories
from tests.serving import EVENT, PLANNED, STAY, Web

OTHER_SECRET = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


def new_id(prefix: str = "res") -> str:
    return f"{prefix}-{uuid4().hex}"


def in_days(days: float) -> str:
    return (datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)).isoformat()


def good(**changes: Any) -> Callable[[], dict[str, Any]]:
    return lambda: factories.event(**{"reservation_id": new_id(), **changes})


def no_guest() -> dict[str, Any]:
    event = factories.event(new_id())
    del event["data"]["guest"]
    return event


TAKEN: dict[str, tuple[Callable[[], dict[str, Any]], str, dict[str, int]]] = {
    "38-no-guest": (no_guest, "accepted", PLANNED),
    "38-no-guest-null": (good(guest=None), "accepted", PLANNED),
    "39-type-of-a-thousand": (lambda: {"type": "x" * 1000}, "ignored", EVENT),
    "pending": (good(status="pending"), "accepted", STAY),
    "49-none": (good(guest={"phone": None}), "accepted", PLANNED),
}


@pytest.mark.parametrize("name", TAKEN)
def test_taken(shared_web: Web, name: str) -> None:
    event, outcome, rows = TAKEN[name]
    before = shared_web.counts()
    answer = shared_web.tell(event())
    assert (answer.status, answer.json()) == (200, {"status": outcome})
    assert shared_web.added(before) == rows


@pytest.mark.parametrize(
    ("dates", "field"),
    [
        ({"check_out": in_days(1), "check_in": in_days(1)}, "data.check_out"),
        ({"check_out": in_days(1), "check_in": in_days(2)}, "data.check_out"),
        ({"check_in": in_days(1), "check_out": in_days(366.1)}, "data.check_out"),
        ({"check_in": "0001-01-01T00:00:00+14:00"}, "data.check_in"),
        ({"check_out": "9999-12-31T23:59:59-12:00"}, "data.check_out"),
        ({"check_out": str(2**63)}, "data.check_out"),
        ({"check_in": "2027-12-24T15:00:00[America/Nowhere]"}, "data.check_in"),
        ({"check_in": "2027-12-24T15:00:00 Mars/Olympus"}, "data.check_in"),
        ({"check_in": "tomorrow"}, "data.check_in"),
    ],
)
def test_41_a_stay_that_cannot_be_is_refused_and_audited(
    shared_web: Web, dates: dict[str, str], field: str
) -> None:
    reservation = new_id()
    before = shared_web.counts()
    answer = shared_web.tell(factories.event(reservation, **dates))
    assert (answer.status, answer.outcome) == (422, "invalid_booking")
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == [field]
    assert shared_web.added(before) == {}
    task = "SELECT event FROM audit_events WHERE reservation_id = %s"
    assert shared_web.value(task, reservation) == "webhook:refused"


def test_42_a_stay_that_is_running_gets_its_pin_at_once(web: Web) -> None:
    """F13 too: booked at the last minute, or told late."""
    web.tell(factories.event(check_in=in_days(-1), check_out=in_days(1)))
    query = "SELECT scheduled_at <= now() FROM procrastinate_jobs WHERE task_name = 'generate_pin'"
    assert web.value(query) is True


def test_45_a_stay_cancelled_before_it_was_created_gets_no_pin(web: Web) -> None:
    """F22 too: the prototype schedules a create without looking at what was cancelled."""
    before = web.counts()
    created = factories.event("res-1")
    cancel = {"type": "reservation.cancelled", "timestamp": in_days(0.01)}
    assert web.tell({**cancel, "data": {"reservation_id": "res-1"}}).outcome == "accepted"
    assert web.tell(created).outcome == "stale"
    assert web.added(before) == {"webhook_events": 2, "reservations": 1}


def test_f22_an_update_that_comes_first_schedules_what_it_tells(web: Web) -> None:
    """The prototype stores its dates, then finds them unchanged, and schedules nothing."""
    before = web.counts()
    check_in, check_out = in_days(4), in_days(6)
    update = factories.event("res-1", "reservation.updated", check_in=check_in, check_out=check_out)
    assert web.tell(update).outcome == "accepted"
    assert web.added(before) == PLANNED
    assert web.tell(factories.event("res-1", updated_at=in_days(-0.1))).outcome == "stale"
    jobs = web.ask("SELECT scheduled_at FROM procrastinate_jobs ORDER BY scheduled_at")
    assert [job["scheduled_at"] for job in jobs] == [
        datetime.fromisoformat(check_in) - timedelta(hours=1),
        datetime.fromisoformat(check_out),
    ]


def test_47_a_stay_that_ends_earlier_while_it_runs_has_its_window_and_job_shortened(
    web: Web,
) -> None:
    web.tell(factories.event("res-1", check_in=in_days(-1), check_out=in_days(5)))
    web.execute("UPDATE access_codes SET state = 'generating'")
    earlier = in_days(0.5)
    change = {"check_in": in_days(-1), "check_out": earlier, "updated_at": in_days(0.001)}
    assert web.tell(factories.event("res-1", "reservation.updated", **change)).status == 200
    ends_at = datetime.fromisoformat(earlier)
    assert web.value("SELECT ends_at FROM access_codes") == ends_at
    query = "SELECT scheduled_at FROM procrastinate_jobs WHERE status = 'todo' AND task_name = %s"
    assert web.value(query, "revoke_pin") == ends_at
    assert web.value(query, "generate_pin") < ends_at  # it rings at once, to change the door


def test_a_stay_belongs_to_the_source_that_told_of_it_first(web: Web) -> None:
    async def add(db: Database, planner: Planner) -> None:
        await factories.add_source(db, planner.sealer, "other", OTHER_SECRET)

    web.do(add)
    web.tell(factories.event("res-1"))
    before = web.counts()
    raw, headers = factories.signed(
        factories.event("res-1", "reservation.cancelled"), secret=OTHER_SECRET
    )
    answer = web.post(raw, headers, path="/webhooks/other")
    assert (answer.status, answer.outcome) == (409, "conflict")
    assert b"main" not in answer.body  # who owns it is not the other's business
    assert web.added(before) == {}
    (alert,) = web.audited("webhook:refused")
    assert "belongs to source main" in alert["reason"]
