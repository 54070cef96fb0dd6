"""Hostaway: what its events and its reservations say."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinqueue.fetchers.hostaway import STATUSES, booking_of
from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Booking
from pinqueue.webhooks.body import Refusal
from pinqueue.webhooks.hostaway import read
from tests.senders.hostaway import RESERVATION
from tests.senders.junk import JUNK

NOW = datetime(2017, 7, 1, 10, tzinfo=UTC)
PENDING, CONFIRMED = ReservationStatus.PENDING, ReservationStatus.CONFIRMED
BLOCKED, CANCELLED = ReservationStatus.BLOCKED, ReservationStatus.CANCELLED


def booking(**changes: Any) -> Booking:
    return booking_of({**RESERVATION, **changes}, NOW, "e")


def test_the_official_object_is_read() -> None:
    assert booking() == Booking(
        reservation_id="13",
        status=CONFIRMED,
        updated_at=NOW,
        event_at=NOW,
        event_id="e",
        listing_id="40160",
        check_in="2017-07-15",
        check_out="2017-07-16",
        guest_name="Andrew Peterson",
        guest_phone="+75125551212",
    )


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ("new", CONFIRMED),
        ("modified", CONFIRMED),
        ("cancelled", CANCELLED),
        ("ownerStay", BLOCKED),
        ("pending", PENDING),
        ("awaitingPayment", PENDING),
        ("declined", CANCELLED),
        ("expired", CANCELLED),
        ("unconfirmed", PENDING),
        ("awaitingGuestVerification", PENDING),
        ("inquiry", PENDING),
        ("inquiryPreapproved", PENDING),
        ("inquiryDenied", CANCELLED),
        ("inquiryTimedout", CANCELLED),
        ("inquiryNotPossible", CANCELLED),
        ("unknown", PENDING),
        ("something new", PENDING),
    ],
)
def test_f26_every_status_has_its_meaning_and_an_unknown_one_gives_no_pin(
    told: str, status: ReservationStatus
) -> None:
    assert booking(status=told).status == status


def test_no_status_is_left_out_above() -> None:
    assert len(STATUSES) == 16


@pytest.mark.parametrize("flag", [1, "1", True])
def test_unspecified_dates_are_no_dates(flag: Any) -> None:
    told = booking(isDatesUnspecified=flag)
    assert (told.check_in, told.check_out, told.status) == (None, None, CONFIRMED)


@pytest.mark.parametrize(
    ("hour", "time"),
    [(0, "T00:00:00"), (9, "T09:00:00"), (23, "T23:00:00"), ("16", "T16:00:00")]
    + [(wrong, "") for wrong in (None, 24, -1, 15.5, "", "noon", True, 10**30)],
)
def test_an_hour_is_added_where_there_is_one(hour: Any, time: str) -> None:
    told = booking(checkInTime=hour, checkOutTime=hour)
    assert (told.check_in, told.check_out) == (f"2017-07-15{time}", f"2017-07-16{time}")


def test_what_is_left_out_was_not_told() -> None:
    assert booking_of({"id": 13}, NOW, "e") == Booking("13", None, NOW, NOW, "e")


@pytest.mark.parametrize("id_", [13, "13"])
def test_an_id_may_be_a_number_or_a_text(id_: Any) -> None:
    assert read("e", {"event": "reservation.updated", "data": {"id": id_}}, NOW).fetch == "13"


@pytest.mark.parametrize("id_", [None, True, "", "../13", "1 3", 1.5, [13], -1, "1" * 21])
def test_what_is_no_id_is_refused(id_: Any) -> None:
    with pytest.raises(Refusal) as caught:
        read("e", {"event": "reservation.updated", "data": {"id": id_}}, NOW)
    assert [fault["field"] for fault in caught.value.details] == ["data.id"]


@pytest.mark.parametrize(
    "named",
    [
        {"event": "reservation.created"},
        {"event": "reservation.deleted"},
        {"event": "changed", "object": "reservation"},
        {"object": "reservation"},
        {"event": 7},
    ],
    ids=str,
)
def test_whatever_names_a_reservation_is_read(named: dict[str, Any]) -> None:
    assert read("e", {**named, "data": {"id": 13}}, NOW).fetch == "13"


def test_another_event_is_not_ours() -> None:
    told = read("e", {"object": "conversationMessage", "event": "message.received"}, NOW)
    assert (told.type, told.booking, told.fetch) == ("message.received", None, None)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(RESERVATION)), JUNK))
def test_a_reservation_is_read_whatever_it_holds(junk: dict[str, Any]) -> None:
    told = booking(**junk)
    assert told.status in {*ReservationStatus, None}


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["event", "object", "data", "accountId"]), JUNK))
def test_an_event_of_any_shape_raises_nothing_but_a_refusal(junk: dict[str, Any]) -> None:
    with suppress(Refusal):
        assert isinstance(read("e", junk, NOW).type, str)
