"""Cloudbeds: its webhooks over HTTP into rows and jobs, and its API read over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from pinqueue.errors import SourceUnreachable
from pinqueue.fetchers import cloudbeds as fetcher
from tests import factories
from tests.senders import contract, playing
from tests.senders.cloudbeds import EXAMPLE, PROPERTY, Cloudbeds, room
from tests.senders.playing import Fault, compare, day, fetch, live_codes, stays, tell
from tests.serving import Web


@pytest.fixture(scope="module")
def _played() -> Iterator[Cloudbeds]:
    played = Cloudbeds()
    with playing.playing(played):
        yield played


@pytest.fixture
def played(_played: Cloudbeds, monkeypatch: pytest.MonkeyPatch) -> Cloudbeds:
    monkeypatch.setattr(fetcher, "PACE", 0.0)
    _played.clear()
    return _played


class TestProof(contract.Proof):
    pass


class TestReading(contract.Reading):
    pass


class TestComparing(contract.Comparing):
    pass


MOVED: dict[str, Any] = {
    "version": "1.0",
    "event": "reservation/accommodation_changed",
    "timestamp": 1611758158.1,
    "propertyId": 12345,
    "reservationId": "13",
    "subReservationId": "13",
    "roomIdPrev": "601917-0",
    "roomId": "601917-1",
}


def add_listing(web: Web, listing: str, device: str = "sim-zigbee-2") -> None:
    web.do(lambda db, _: factories.add_listing(db, listing, {device: "zigbee"}))


def listings(web: Web) -> dict[str, str]:
    """Where each stay is that is not over."""
    rows = web.ask("SELECT id, listing_id FROM reservations WHERE status <> 'cancelled'")
    return {row["id"]: row["listing_id"] for row in rows}


def after(web: Web, played: Cloudbeds, event: dict[str, Any], *rooms: dict[str, Any]) -> str:
    """Let the reservation have these rooms, tell so, and read it."""
    played.bookings["13"]["rooms"] = list(rooms)
    tell(web, event)
    return fetch(web)


@pytest.fixture
def told(web: Web, played: Cloudbeds) -> Web:
    """A stay in one room is told and read."""
    playing.set_up(web, played)
    add_listing(web, "601917-1")
    played.put("13")
    tell(web, played.event("13"))
    assert fetch(web) == "fetched"
    return web


def test_the_published_example_is_read_from_the_api_once_that_knows(
    web: Web, played: Cloudbeds
) -> None:
    playing.set_up(web, played)
    played.put("31415926")
    assert tell(web, EXAMPLE).outcome == "fetching"
    (job,) = web.ask("SELECT scheduled_at - now() AS wait FROM procrastinate_jobs")
    assert 5 < job["wait"].total_seconds() <= 15
    assert fetch(web) == "fetched"
    assert stays(web) == {"pms:31415926": ("confirmed", f"{day(10)} 15:00", f"{day(13)} 11:00")}


def test_without_an_api_an_event_tells_too_little_and_a_person_hears_of_it(
    web: Web, played: Cloudbeds
) -> None:
    playing.set_up(web, played, api=False)
    web.do(lambda db, planner: factories.add_listing(db, "12345"))
    answer = tell(web, EXAMPLE)
    assert (answer.status, answer.outcome) == (200, "incomplete")
    assert len(web.audited("webhook:incomplete")) == 1


def test_a_room_move_takes_the_pin_along(told: Web, played: Cloudbeds) -> None:
    assert after(told, played, MOVED, room("13", "601917-1", 10)) == "fetched"
    assert listings(told) == {"pms:13": "601917-1"}
    states = told.ask("SELECT lock_id, state FROM access_codes ORDER BY id")
    assert [tuple(row.values()) for row in states] == [
        ("sim-zigbee-1", "cancelled"),
        ("sim-zigbee-2", "scheduled"),
    ]


def test_each_room_is_a_stay_of_its_own(told: Web, played: Cloudbeds) -> None:
    rooms = room("13", "601917-0", 10), room("13-2", "601917-1", 10)
    after(told, played, MOVED, *rooms)
    assert listings(told) == {"pms:13": "601917-0", "pms:13-2": "601917-1"}
    assert live_codes(told) == 2


def test_a_room_that_the_reservation_has_no_more_is_over(told: Web, played: Cloudbeds) -> None:
    after(told, played, MOVED, room("13", "601917-0", 10), room("13-2", "601917-1", 10))
    after(told, played, MOVED | {"timestamp": 1611758159.0}, room("13-2", "601917-1", 10))
    assert listings(told) == {"pms:13-2": "601917-1"}
    assert live_codes(told) == 1


def test_a_reservation_of_which_no_room_is_told_keeps_its_own(told: Web, played: Cloudbeds) -> None:
    assert after(told, played, MOVED) == "fetched"
    assert listings(told) == {"pms:13": "601917-0"}
    assert live_codes(told) == 1


@pytest.mark.parametrize("way", ["webhook", "list"])
def test_a_cancellation_ends_every_room(told: Web, played: Cloudbeds, way: str) -> None:
    after(told, played, MOVED, room("13", "601917-0", 10), room("13-2", "601917-1", 10))
    played.bookings["13"] |= {"status": "canceled", "rooms": []}
    if way == "webhook":
        tell(told, MOVED | {"event": "reservation/status_changed", "status": "canceled"})
        fetch(told)
    else:
        compare(told)
    assert listings(told) == {}
    assert live_codes(told) == 0


def test_a_cancelled_room_in_the_list_is_over(told: Web, played: Cloudbeds) -> None:
    after(told, played, MOVED, room("13", "601917-0", 10), room("13-2", "601917-1", 10))
    played.bookings["13"]["rooms"][1]["roomStatus"] = "cancelled"
    compare(told)
    assert listings(told) == {"pms:13": "601917-0"}


def test_a_reservation_that_was_deleted_is_over_with_all_its_rooms(
    told: Web, played: Cloudbeds
) -> None:
    after(told, played, MOVED, room("13", "601917-0", 10), room("13-2", "601917-1", 10))
    del played.bookings["13"]
    tell(told, {"event": "reservation/deleted", "reservationID": "13", "timestamp": 1.5})
    assert fetch(told) == "fetched"
    assert listings(told) == {}
    assert live_codes(told) == 0


def test_a_deletion_that_the_api_denies_is_none(told: Web, played: Cloudbeds) -> None:
    tell(told, {"event": "reservation/deleted", "reservationID": "13", "timestamp": 1.5})
    assert fetch(told) == "fetched"
    assert live_codes(told) == 1


def test_another_reservation_whose_id_begins_alike_is_left_alone(
    told: Web, played: Cloudbeds
) -> None:
    played.put("131", listing="601917-1")
    tell(told, played.event("131"))
    fetch(told)
    played.bookings["13"]["status"] = "canceled"
    compare(told)
    assert listings(told) == {"pms:131": "601917-1"}


def test_before_a_room_is_assigned_the_stay_is_in_the_property(web: Web, played: Cloudbeds) -> None:
    playing.set_up(web, played)
    add_listing(web, PROPERTY)
    played.put("13")
    assert after(web, played, MOVED, room("13", None, 10)) == "fetched"
    assert listings(web) == {"pms:13": PROPERTY}
    event = MOVED | {"timestamp": 1611758159.0}
    assert after(web, played, event, room("13", "601917-0", 10)) == "fetched"
    assert listings(web) == {"pms:13": "601917-0"}


def test_a_room_without_a_listing_waits_for_it(web: Web, played: Cloudbeds) -> None:
    playing.set_up(web, played)
    played.put("13", listing="601917-1")
    tell(web, MOVED)
    assert fetch(web) == "unmapped"
    assert web.value("SELECT listing_id FROM webhook_events") == "601917-1"


@pytest.mark.parametrize(
    "event",
    ["roomblock/created", "roomblock/removed", "doorLockKey/key_requested", "guest/created"],
)
def test_what_is_no_reservation_is_stored_and_ignored(
    web: Web, played: Cloudbeds, event: str
) -> None:
    playing.set_up(web, played)
    block = {"event": event, "propertyID": 12345, "roomBlockType": "out_of_service", "rooms": 7}
    assert tell(web, block).outcome == "ignored"
    assert web.value("SELECT type FROM webhook_events") == event


def test_a_reservation_event_without_an_id_is_refused_by_name(web: Web, played: Cloudbeds) -> None:
    playing.set_up(web, played)
    answer = tell(web, {"event": "reservation/created", "propertyID": 12345})
    assert answer.status == 422
    (fault,) = answer.json()["error"]["details"]
    assert fault["field"] == "reservationID"


def test_the_answer_comes_within_two_seconds(web: Web, played: Cloudbeds) -> None:
    """Or Cloudbeds sends the event again."""
    playing.set_up(web, played)
    assert tell(web, EXAMPLE).seconds < 2


def test_what_the_api_says_is_wrong_is_told(told: Web, played: Cloudbeds) -> None:
    tell(told, MOVED)
    fault = {"success": False, "message": "Invalid Parameter Format: propertyID"}
    played.faults.append(Fault(200, json.dumps(fault)))
    with pytest.raises(SourceUnreachable, match="Invalid Parameter Format"):
        fetch(told)
