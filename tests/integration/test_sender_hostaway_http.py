"""Hostaway: its webhooks over HTTP into rows and jobs, and its API read over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from pinqueue.fetchers import hostaway as fetcher
from tests import factories
from tests.senders import contract, playing
from tests.senders.hostaway import ENVELOPE, Hostaway
from tests.senders.playing import Fault, day, fetch, live_codes, stays, tell
from tests.serving import Web


@pytest.fixture(scope="module")
def _played() -> Iterator[Hostaway]:
    played = Hostaway()
    with playing.playing(played):
        yield played


@pytest.fixture
def played(_played: Hostaway, monkeypatch: pytest.MonkeyPatch) -> Hostaway:
    monkeypatch.setattr(fetcher, "PACE", 0.0)
    _played.clear()
    return _played


class TestProof(contract.Proof):
    pass


class TestReading(contract.Reading):
    pass


class TestComparing(contract.Comparing):
    pass


def told(**data: Any) -> dict[str, Any]:
    """A webhook that tells a whole reservation."""
    played = Hostaway()
    played.put("13")
    reservation = {**played.bookings["13"], **data}
    return {**ENVELOPE, "event": "reservation.created", "data": reservation}


def test_the_published_envelope_is_taken_and_the_api_is_believed(
    web: Web, played: Hostaway
) -> None:
    playing.set_up(web, played)
    played.put("1", ahead=10)
    assert tell(web, ENVELOPE).outcome == "fetching"
    assert fetch(web) == "fetched"
    assert stays(web) == {"pms:1": ("confirmed", *moments(10))}


def test_without_an_api_the_envelope_tells_too_little_and_a_person_hears_of_it(
    web: Web, played: Hostaway
) -> None:
    playing.set_up(web, played, api=False)
    web.do(lambda db, planner: factories.add_listing(db, "100"))
    answer = tell(web, ENVELOPE)
    assert (answer.status, answer.outcome) == (200, "incomplete")
    assert len(web.audited("webhook:incomplete")) == 1
    assert stays(web) == {"pms:1": ("pending", None, None)}


def test_without_an_api_a_whole_reservation_is_a_stay(web: Web, played: Hostaway) -> None:
    playing.set_up(web, played, api=False)
    assert tell(web, told()).outcome == "accepted"
    assert stays(web) == {"pms:13": ("confirmed", *moments(10))}
    assert live_codes(web) == 1


def test_dates_that_are_unspecified_move_no_stay(web: Web, played: Hostaway) -> None:
    """They are yesterday's: believed, they would take the guest's PIN off the door."""
    playing.set_up(web, played)
    played.put("13")
    tell(web, ENVELOPE | {"data": {"id": 13}})
    fetch(web)
    unspecified = {"arrivalDate": day(-1), "departureDate": day(-1), "isDatesUnspecified": 1}
    played.bookings["13"] |= unspecified
    tell(web, told(**unspecified))
    assert fetch(web) == "fetched"
    assert stays(web) == {"pms:13": ("confirmed", *moments(10))}
    assert live_codes(web) == 1


def test_a_stay_of_which_only_unspecified_dates_are_told_waits(web: Web, played: Hostaway) -> None:
    playing.set_up(web, played)
    played.put("13", status="inquiry")
    played.bookings["13"] |= {"isDatesUnspecified": 1}
    tell(web, told())
    assert fetch(web) == "incomplete"
    assert stays(web) == {"pms:13": ("pending", None, None)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"arrivalDate": day(10), "departureDate": day(10)},
        {"arrivalDate": day(10), "departureDate": day(9)},
        {"arrivalDate": day(10), "departureDate": day(500)},
        {"arrivalDate": "0001-01-01", "departureDate": "9999-12-31"},
        {"arrivalDate": 20260514, "departureDate": None},
        {"status": 7, "listingMapId": [], "guestName": {}, "phone": 1.5},
    ],
)
def test_an_event_with_an_id_is_never_answered_4xx(
    web: Web, played: Hostaway, wrong: dict[str, Any]
) -> None:
    """Hostaway would never send it again."""
    playing.set_up(web, played, api=False)
    assert tell(web, told(**wrong)).status == 200


def test_a_reservation_without_an_id_is_refused_by_name(web: Web, played: Hostaway) -> None:
    playing.set_up(web, played)
    answer = tell(web, {**ENVELOPE, "data": {}})
    assert answer.status == 422
    assert [fault["field"] for fault in answer.json()["error"]["details"]] == ["data.id"]


@pytest.mark.parametrize("data", [None, 7, {"id": "x"}])
def test_a_message_is_stored_and_ignored_whatever_it_holds(
    web: Web, played: Hostaway, data: Any
) -> None:
    playing.set_up(web, played)
    event = {"object": "conversationMessage", "event": "message.received", "data": data}
    assert tell(web, event).outcome == "ignored"
    assert web.value("SELECT type FROM webhook_events") == "message.received"


def test_hours_are_the_listings_clock(web: Web, played: Hostaway) -> None:
    playing.set_up(web, played, api=False)
    tell(web, told(checkInTime=17, checkOutTime=9))
    assert stays(web)["pms:13"][1:] == (f"{day(10)} 17:00", f"{day(13)} 09:00")


def test_one_token_does_for_all_and_a_revoked_one_is_replaced(web: Web, played: Hostaway) -> None:
    playing.set_up(web, played)
    played.put("13")
    fetcher._tokens.clear()
    for attempt in range(3):
        tell(web, {**played.event("13"), "attempt": attempt})
        fetch(web)
    assert sum("accessTokens" in asked for asked in played.asked) == 1
    played.tokens.clear()
    tell(web, {**played.event("13"), "attempt": "revoked"})
    assert fetch(web) == "fetched"
    assert sum("accessTokens" in asked for asked in played.asked) == 2


def test_a_list_that_does_not_end_is_left(web: Web, played: Hostaway) -> None:
    playing.set_up(web, played)
    played.put("13")
    page = {"status": "success", "result": [played.bookings["13"]]}
    played.faults += [Fault(200, json.dumps(page))] * 9
    playing.compare(web)
    assert web.audited("source:api_failed") == [{"reason": "the list of bookings does not end"}]


def test_a_limit_in_the_middle_of_the_list_keeps_what_was_read(web: Web, played: Hostaway) -> None:
    playing.set_up(web, played)
    for number in range(3):
        played.put(str(13 + number), ahead=10 + 4 * number)
    first = {"status": "success", "result": [played.bookings["13"]]}
    played.faults += [Fault(200, json.dumps(first)), Fault(429)]
    playing.compare(web)
    assert set(stays(web)) == {"pms:13"}
    playing.compare(web)
    assert set(stays(web)) == {"pms:13", "pms:14", "pms:15"}


def moments(ahead: int) -> tuple[str, str]:
    """Check-in and check-out by the listing's own times."""
    return f"{day(ahead)} 15:00", f"{day(ahead + 3)} 11:00"
