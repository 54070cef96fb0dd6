"""Events for a listing that is not set up yet: they wait, and are taken up when it is added."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pinqueue import codes, inventory, webhooks
from pinqueue.db import Database
from pinqueue.reservations import Planner
from tests import factories
from tests.serving import Web

OUTCOMES = "SELECT event_id, outcome FROM webhook_events ORDER BY id"


def add_listing(web: Web, listing: str = "apt-9") -> int:
    """As `pinqueue listings add` does it; returns how many events were taken up."""

    async def do(db: Database, planner: Planner) -> int:
        async with db.transaction() as session:
            await inventory.add_listing(
                session, "test", listing, "America/Sao_Paulo", ["sim-zigbee-1"], None
            )
            return await webhooks.adopt_unmapped(session, planner, listing)

    return web.do(do)


def event(reservation: str = "res-1", kind: str = "reservation.created", **data: Any) -> Any:
    return factories.event(reservation, kind, **{"listing_id": "apt-9", **data})


def outcomes(web: Web) -> dict[str, str]:
    return {row["event_id"]: row["outcome"] for row in web.ask(OUTCOMES)}


def test_a_booking_that_waited_is_planned_when_its_listing_is_added(web: Web) -> None:
    assert web.tell(event()).outcome == "unmapped"
    assert web.counts()["procrastinate_jobs"] == 0
    assert add_listing(web) == 1
    assert web.counts()["procrastinate_jobs"] == 2
    assert web.value("SELECT state FROM access_codes") == "scheduled"


def test_its_event_is_accepted_then_and_a_repeat_of_it_a_duplicate(web: Web) -> None:
    web.tell(event(), event_id="msg_1")
    add_listing(web)
    assert outcomes(web) == {"msg_1": "accepted"}
    assert web.value("SELECT source_id FROM reservations") == "main"


def test_a_repeat_while_it_waits_is_a_duplicate(web: Web) -> None:
    told = event()
    web.tell(told, event_id="msg_1")
    assert web.tell(told, event_id="msg_1").outcome == "duplicate"


def test_the_newest_telling_wins_in_whatever_order_they_waited(web: Web) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    newer, older = now + timedelta(days=9), now + timedelta(days=5)
    web.tell(event(check_out=newer.isoformat(), updated_at=now.isoformat()), event_id="msg_new")
    earlier = (now - timedelta(hours=1)).isoformat()
    web.tell(event(check_out=older.isoformat(), updated_at=earlier), event_id="msg_old")
    add_listing(web)
    assert outcomes(web) == {"msg_new": "accepted", "msg_old": "stale"}
    assert web.value("SELECT check_out_at FROM reservations") == newer


def test_a_booking_cancelled_while_it_waited_gets_no_pin(web: Web) -> None:
    web.tell(event())
    cancel = event(kind="reservation.cancelled", listing_id=None, check_in=None, check_out=None)
    assert web.tell(cancel).outcome == "accepted"
    add_listing(web)
    assert web.counts()["access_codes"] == 0


def test_events_for_other_listings_go_on_waiting(web: Web) -> None:
    web.tell(event(listing_id="apt-10"), event_id="msg_1")
    assert add_listing(web) == 0
    assert outcomes(web) == {"msg_1": "unmapped"}


def test_one_that_cannot_be_is_audited_and_keeps_no_other_waiting(web: Web) -> None:
    over = event("res-wrong", check_out="2027-01-01T10:00:00", check_in="2027-01-02T15:00:00")
    web.tell(over, event_id="msg_wrong")
    web.tell(event("res-right"), event_id="msg_right")
    assert add_listing(web) == 1
    assert outcomes(web) == {"msg_wrong": "ignored", "msg_right": "accepted"}
    refused = "SELECT reservation_id FROM audit_events WHERE event = 'webhook:refused'"
    assert web.value(refused) == "res-wrong"


def test_one_that_fails_half_way_leaves_no_half_of_it(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes, "CHOICES", 0)  # as though no PIN were free on the lock
    web.tell(event(), event_id="msg_1")
    assert add_listing(web) == 0
    assert outcomes(web) == {"msg_1": "ignored"}
    assert web.counts()["reservations"] == 0


def test_a_source_that_is_switched_off_meanwhile_keeps_no_booking_waiting(web: Web) -> None:
    web.tell(event())
    web.execute("UPDATE sources SET enabled = false")
    assert add_listing(web) == 1
    assert web.counts()["access_codes"] == 1
