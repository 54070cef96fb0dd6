"""Smoobu: what its events and its bookings say."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinqueue.fetchers.smoobu import booking_of
from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Booking
from pinqueue.webhooks.body import Refusal
from pinqueue.webhooks.smoobu import read
from tests.senders.junk import JUNK

NOW = datetime(2024, 7, 1, 10, tzinfo=UTC)
PENDING, CONFIRMED = ReservationStatus.PENDING, ReservationStatus.CONFIRMED
BLOCKED, CANCELLED = ReservationStatus.BLOCKED, ReservationStatus.CANCELLED
WHOLE: dict[str, Any] = {
    "id": 292,
    "type": "reservation",
    "arrival": "2024-07-15",
    "departure": "2024-07-18",
    "modifiedAt": "2024-07-01 12:00:00",
    "apartment": {"id": 38, "name": "Apartment 1"},
    "channel": {"id": 70, "name": "Homepage"},
    "guest-name": "Erika Muster",
    "phone": "+49 30 5550100",
    "check-in": "16:00",
    "check-out": "10:00",
    "is-blocked-booking": False,
}


def booking(**changes: Any) -> Booking:
    return booking_of({**WHOLE, **changes}, NOW, "e")


def test_a_booking_is_read() -> None:
    assert booking() == Booking(
        reservation_id="292",
        status=CONFIRMED,
        updated_at=NOW,
        event_at=NOW,
        event_id="e",
        listing_id="38",
        check_in="2024-07-15T16:00:00",
        check_out="2024-07-18T10:00:00",
        guest_name="Erika Muster",
        guest_phone="+49 30 5550100",
    )


def test_the_published_sample_is_read() -> None:
    data = {"id": 292, "arrival": "2024-07-15", "apartment": {"id": 38, "name": "Apartment 1"}}
    told = read("e", {"action": "newReservation", "data": data}, NOW)
    assert (told.type, told.fetch) == ("newReservation", "292")
    assert told.booking == Booking("292", CONFIRMED, NOW, NOW, "e", "38")


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"type": "reservation"}, CONFIRMED),
        ({"type": "modification of booking"}, CONFIRMED),
        ({"type": "cancellation"}, CANCELLED),
        ({"type": "cancellation", "is-blocked-booking": True}, CANCELLED),
        ({"is-blocked-booking": True}, BLOCKED),
        ({"is-blocked-booking": 1}, BLOCKED),
        ({"is-blocked-booking": "false"}, CONFIRMED),
        ({"channel": {"id": 11, "name": "Blocked channel"}}, BLOCKED),
        ({"type": "something new"}, PENDING),
        ({"type": None}, None),
    ],
)
def test_every_type_has_its_meaning_and_an_unknown_one_gives_no_pin(
    changes: dict[str, Any], status: ReservationStatus | None
) -> None:
    assert booking(**changes).status == status


@pytest.mark.parametrize(
    ("action", "status"),
    [
        ("newReservation", CONFIRMED),
        ("updateReservation", None),
        ("cancelReservation", CANCELLED),
        ("deleteReservation", CANCELLED),
    ],
)
def test_an_action_tells_the_status_where_nothing_else_does(
    action: str, status: ReservationStatus | None
) -> None:
    told = read("e", {"action": action, "data": {"id": 292}}, NOW).booking
    assert told is not None
    assert told.status == status


def test_an_end_is_one_though_the_booking_is_told_as_it_was() -> None:
    told = read("e", {"action": "deleteReservation", "data": WHOLE}, NOW).booking
    assert told is not None
    assert told.status == CANCELLED


@pytest.mark.parametrize("wrong", [None, "", "noon", "24:00", "16", 16, "16:00 Uhr", [], "١٦:00"])
def test_a_time_that_is_none_is_the_listings(wrong: Any) -> None:
    assert booking(**{"check-in": wrong}).check_in == "2024-07-15"


def test_a_name_may_come_in_two_parts() -> None:
    told = {**WHOLE, "guest-name": "", "firstname": "Erika", "lastname": "Muster"}
    assert booking_of(told, NOW, "e").guest_name == "Erika Muster"


@pytest.mark.parametrize("id_", [292, "292"])
def test_an_id_may_be_a_number_or_a_text(id_: Any) -> None:
    assert read("e", {"action": "newReservation", "data": {"id": id_}}, NOW).fetch == "292"


@pytest.mark.parametrize("data", [None, {}, [], {"id": None}, {"id": True}, {"id": "../1"}])
def test_what_names_no_booking_is_refused(data: Any) -> None:
    with pytest.raises(Refusal) as caught:
        read("e", {"action": "newReservation", "data": data}, NOW)
    assert caught.value.status == 422


def test_another_action_is_not_ours() -> None:
    told = read("e", {"action": "updateRates", "data": None}, NOW)
    assert (told.type, told.booking, told.fetch) == ("updateRates", None, None)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(WHOLE)), JUNK))
def test_a_booking_is_read_whatever_it_holds(junk: dict[str, Any]) -> None:
    assert booking(**junk).status in {*ReservationStatus, None}


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["action", "data", "user"]), JUNK))
def test_an_event_of_any_shape_raises_nothing_but_a_refusal(junk: dict[str, Any]) -> None:
    with suppress(Refusal):
        assert isinstance(read("e", junk, NOW).type, str)
