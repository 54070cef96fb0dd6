"""Smoobu: its webhooks over HTTP into rows and jobs, and its API read over HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from pinqueue.errors import SourceBusy
from pinqueue.fetchers import smoobu as fetcher
from tests.senders import contract, playing
from tests.senders.playing import Fault, compare, day, fetch, live_codes, stays, tell
from tests.senders.smoobu import SAMPLE, Smoobu
from tests.serving import Web


@pytest.fixture(scope="module")
def _played() -> Iterator[Smoobu]:
    played = Smoobu()
    with playing.playing(played):
        yield played


@pytest.fixture
def played(_played: Smoobu, monkeypatch: pytest.MonkeyPatch) -> Smoobu:
    monkeypatch.setattr(fetcher, "PACE", 0.0)
    _played.clear()
    return _played


class TestProof(contract.Proof):
    pass


class TestReading(contract.Reading):
    pass


class TestComparing(contract.Comparing):
    pass


def told(action: str = "newReservation", **data: Any) -> dict[str, Any]:
    """A webhook that tells a whole booking."""
    played = Smoobu()
    played.put("292")
    return {"action": action, "user": 7, "data": {**played.bookings["292"], **data}}


@pytest.fixture
def without_api(web: Web, played: Smoobu) -> Web:
    playing.set_up(web, played, api=False)
    return web


def test_the_published_sample_is_read_from_the_api(web: Web, played: Smoobu) -> None:
    playing.set_up(web, played)
    played.put("292")
    assert tell(web, SAMPLE).outcome == "fetching"
    assert fetch(web) == "fetched"
    assert stays(web) == {"pms:292": ("confirmed", f"{day(10)} 15:00", f"{day(13)} 11:00")}
    assert live_codes(web) == 1


def test_without_an_api_the_sample_tells_too_little_and_a_person_hears_of_it(
    without_api: Web,
) -> None:
    answer = tell(without_api, SAMPLE)
    assert (answer.status, answer.outcome) == (200, "incomplete")
    assert len(without_api.audited("webhook:incomplete")) == 1


def test_without_an_api_a_whole_booking_is_a_stay(without_api: Web) -> None:
    """The other sample that is published has a user, a departure, a guest and no type."""
    sample = {
        "user": 7,
        "action": "newReservation",
        "data": {
            **SAMPLE["data"],
            "arrival": day(10),
            "departure": day(13),
            "guest-name": "Erika Muster",
            "email": "erika@example.com",
        },
    }
    assert tell(without_api, sample).outcome == "accepted"
    assert stays(without_api)["pms:292"][0] == "confirmed"
    assert live_codes(without_api) == 1


@pytest.mark.parametrize("action", ["cancelReservation", "deleteReservation"])
def test_without_an_api_a_booking_that_ended_is_over_by_its_id_alone(
    without_api: Web, action: str
) -> None:
    tell(without_api, told())
    assert tell(without_api, {"action": action, "data": {"id": 292}}).outcome == "accepted"
    assert stays(without_api)["pms:292"][0] == "cancelled"
    assert live_codes(without_api) == 0


@pytest.mark.parametrize("action", ["cancelReservation", "deleteReservation"])
def test_a_booking_that_ended_is_over_though_the_api_has_it_no_more(
    web: Web, played: Smoobu, action: str
) -> None:
    playing.set_up(web, played)
    played.put("292")
    tell(web, SAMPLE)
    fetch(web)
    played.bookings.clear()
    tell(web, {"action": action, "data": {"id": 292}})
    assert fetch(web) == "fetched"
    assert stays(web)["pms:292"][0] == "cancelled"
    assert web.audited("source:booking_missing") == []


def test_an_end_that_the_api_denies_is_none(web: Web, played: Smoobu) -> None:
    """Anybody who learnt the path could tell one."""
    playing.set_up(web, played)
    played.put("292")
    tell(web, SAMPLE)
    fetch(web)
    tell(web, {"action": "deleteReservation", "data": {"id": 292}})
    assert fetch(web) == "fetched"
    assert live_codes(web) == 1


def test_an_end_that_came_first_leaves_a_tombstone(web: Web, played: Smoobu) -> None:
    playing.set_up(web, played)
    tell(web, {"action": "deleteReservation", "data": {"id": 292}})
    fetch(web)
    assert stays(web) == {"pms:292": ("cancelled", None, None)}


def test_f26_a_blocked_booking_gets_no_pin(web: Web, played: Smoobu) -> None:
    playing.set_up(web, played)
    played.put("292")
    played.bookings["292"]["is-blocked-booking"] = True
    compare(web)
    assert stays(web)["pms:292"][0] == "blocked"
    assert live_codes(web) == 0


def test_times_are_the_listings_clock(without_api: Web) -> None:
    tell(without_api, told(**{"check-in": "16:30", "check-out": "9:00"}))
    assert stays(without_api)["pms:292"][1:] == (f"{day(10)} 16:30", f"{day(13)} 09:00")


@pytest.mark.parametrize("action", ["updateRates", "newMessage", "onlineCheckInUpdate"])
def test_another_action_is_stored_and_ignored_whatever_it_holds(
    without_api: Web, action: str
) -> None:
    assert tell(without_api, {"action": action, "data": [1]}).outcome == "ignored"
    assert without_api.value("SELECT type FROM webhook_events") == action


def test_a_booking_without_an_id_is_refused_by_name(without_api: Web) -> None:
    answer = tell(without_api, {"action": "newReservation", "data": {"id": "x"}})
    assert answer.status == 422
    assert [fault["field"] for fault in answer.json()["error"]["details"]] == ["data.id"]


def test_a_stay_that_cannot_be_is_taken_as_not_told(without_api: Web) -> None:
    answer = tell(without_api, told(departure=day(9)))
    assert (answer.status, answer.outcome) == (200, "incomplete")


def test_its_own_word_for_when_to_come_back_is_understood(web: Web, played: Smoobu) -> None:
    """It names the moment, not how long until then."""
    playing.set_up(web, played)
    tell(web, SAMPLE)
    until = str(int(time.time()) + 40)
    played.faults.append(Fault(429, headers=(("X-RateLimit-Retry-After", until),)))
    with pytest.raises(SourceBusy) as caught:
        fetch(web)
    assert 30 < (caught.value.retry_after or 0) <= 40
