"""The bad-input catalogue, what is taken: each answer, and what it causes.

The number in a test's name or id is the row of the catalogue that it holds.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from pinqueue.db import Database
from pinqueue.reservations import Planner
from tests import factories
from tests.serving import EVENT, PLANNED, STAY, Web, sign

OTHER_SECRET = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


def new_id(prefix: str = "res") -> str:
    return f"{prefix}-{uuid4().hex}"


def in_days(days: float) -> str:
    return (datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)).isoformat()


def good(**changes: Any) -> Callable[[], dict[str, Any]]:
    return lambda: factories.event(**{"reservation_id": new_id(), **changes})


def extra() -> dict[str, Any]:
    event = factories.event(new_id(), extra={"a": [1.5, None, {}]}, pin="1234")
    return {**event, "more": True, "guest": {"age": 7}}


def no_guest() -> dict[str, Any]:
    event = factories.event(new_id())
    del event["data"]["guest"]
    return event


TAKEN: dict[str, tuple[Callable[[], dict[str, Any]], str, dict[str, int]]] = {
    "38-extra-fields": (extra, "accepted", PLANNED),
    "38-no-guest": (no_guest, "accepted", PLANNED),
    "38-no-guest-null": (good(guest=None), "accepted", PLANNED),
    "39-unknown-type": (lambda: {"type": "payment.made", "data": 7}, "ignored", EVENT),
    "39-type-of-a-thousand": (lambda: {"type": "x" * 1000}, "ignored", EVENT),
    "40-unknown-listing": (good(listing_id="nobody's"), "unmapped", EVENT),
    "42-over": (good(check_in=in_days(-3), check_out=in_days(-1)), "accepted", STAY),
    "42-running": (good(check_in=in_days(-1)), "accepted", PLANNED),
    "pending": (good(status="pending"), "accepted", STAY),
    "48-right-to-left": (good(guest={"name": "\u202e\u05d7\u05e0\u05d4"}), "accepted", PLANNED),
    "48-emoji": (good(guest={"name": "\N{WOMAN}\u200d\N{GIRL}"}), "accepted", PLANNED),
    "48-script": (good(guest={"name": "<script>alert(1)</script>"}), "accepted", PLANNED),
    "48-formula": (good(guest={"name": "=cmd()"}), "accepted", PLANNED),
    "48-line-break": (good(guest={"name": "A\r\nSet-Cookie: a=b"}), "accepted", PLANNED),
    "48-sql": (good(guest={"name": "'; DROP TABLE reservations; --"}), "accepted", PLANNED),
    "49-n/a": (good(guest={"phone": "N/A"}), "accepted", PLANNED),
    "49-plus-zero": (good(guest={"phone": "+0"}), "accepted", PLANNED),
    "49-none": (good(guest={"phone": None}), "accepted", PLANNED),
    "49-a-thousand-digits": (good(guest={"phone": "1" * 1000}), "accepted", PLANNED),
}


@pytest.mark.parametrize("name", TAKEN)
def test_taken(shared_web: Web, name: str) -> None:
    event, outcome, rows = TAKEN[name]
    before = shared_web.counts()
    answer = shared_web.tell(event())
    assert (answer.status, answer.json()) == (200, {"status": outcome})
    assert shared_web.added(before) == rows


def test_39_an_event_of_unknown_type_is_kept(web: Web) -> None:
    web.tell({"type": "payment.made", "amount": 7})
    assert web.ask("SELECT type, body, outcome FROM webhook_events") == [
        {
            "type": "payment.made",
            "body": {"type": "payment.made", "amount": 7},
            "outcome": "ignored",
        }
    ]


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


def test_40_an_unknown_listing_is_a_task_for_the_operator(web: Web) -> None:
    web.tell(factories.event("res-1", listing_id="apt-9"))
    task = "SELECT reservation_id, detail FROM audit_events WHERE event = 'webhook:unmapped'"
    assert web.ask(task) == [{"reservation_id": "res-1", "detail": {"listing_id": "apt-9"}}]


def test_42_a_stay_that_is_running_gets_its_pin_at_once(web: Web) -> None:
    """F13 too: booked at the last minute, or told late."""
    web.tell(factories.event(check_in=in_days(-1), check_out=in_days(1)))
    query = "SELECT scheduled_at <= now() FROM procrastinate_jobs WHERE task_name = 'generate_pin'"
    assert web.value(query) is True


def test_44_overlapping_stays_both_get_a_pin_and_the_operator_an_alarm(web: Web) -> None:
    assert web.tell(factories.event("res-1")).outcome == "accepted"
    assert web.tell(factories.event("res-2")).outcome == "accepted"
    assert web.counts()["access_codes"] == 2
    assert web.audited("reservation:overlaps") == [{"others": ["res-1"]}]


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


def test_46_an_older_telling_after_a_newer_one_is_stale(web: Web) -> None:
    web.tell(factories.event("res-1", updated_at=in_days(0)))
    older = factories.event("res-1", "reservation.cancelled", updated_at=in_days(-0.1))
    assert web.tell(older).outcome == "stale"
    assert web.value("SELECT status FROM reservations") == "confirmed"


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


def test_48_a_guest_name_is_cut_to_200_characters(web: Web) -> None:
    web.tell(factories.event(guest={"name": "Ñ" * 10_000}))
    assert web.value("SELECT guest_name FROM reservations") == "Ñ" * 200


def test_48_the_name_on_the_lock_says_nothing_of_the_guest(web: Web) -> None:
    web.tell(factories.event("res-1", guest={"name": "Ana", "phone": "123"}))
    name = web.value("SELECT remote_name FROM access_codes")
    assert name.isascii()
    assert not {"Ana", "123", "res"} & set(name.split("-"))


def test_50_a_url_in_an_event_is_never_fetched(web: Web) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bait:
        url = f"http://127.0.0.1:{bait.getsockname()[1]}/latest/meta-data"
        event = factories.event(callback_url=url, guest={"name": url, "email": f"a@{url}"})
        assert web.tell({**event, "callback_url": url}).status == 200
        bait.settimeout(0)
        with pytest.raises(BlockingIOError):
            bait.accept()


def test_56_a_query_is_ignored(web: Web) -> None:
    raw = json.dumps(factories.event()).encode()
    answer = web.post(raw, sign(raw), path="/webhooks/main?pin=1234&source=other")
    assert answer.outcome == "accepted"


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
