"""Guesty: who is believed, and what its events tell."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Booking
from pinqueue.webhooks import guesty as sender
from pinqueue.webhooks.body import Refusal
from pinqueue.webhooks.sender import Received, Told
from tests.senders.guesty import (
    LEAN,
    LEGACY,
    LISTING,
    NESTED,
    SECRET,
    STAY,
    day,
    lean,
    legacy,
    reservation,
    sign,
    third,
)

NOW = datetime(2026, 11, 1, 10, 0, 1, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def verified(headers: dict[str, str], body: bytes = b"{}") -> bool:
    return sender.verify([SECRET], Received(body, Headers(headers)))


def told(body: dict[str, Any]) -> Told:
    return sender.read("msg_1", body, NOW)


def booking(body: dict[str, Any]) -> Booking:
    found = told(body).booking
    assert found is not None
    return found


def window(**fields: Any) -> tuple[str | None, str | None]:
    """What a reservation says of its check-in and check-out."""
    found = booking({"event": "reservation.updated", "reservation": {"_id": STAY, **fields}})
    return found.check_in, found.check_out


def test_what_svix_signs_verifies() -> None:
    assert verified(sign(b"{}"))
    assert not verified(sign(b"{}"), b"{ }"), "only the raw bytes count"
    assert not verified(sign(b"{}", secret="whsec_" + "A" * 32))


def test_the_same_signature_under_the_names_of_standard_webhooks_does_not() -> None:
    renamed = {name.replace("svix-", "webhook-"): text for name, text in sign(b"{}").items()}
    assert not verified(renamed)


@pytest.mark.parametrize("missing", ["svix-id", "svix-timestamp", "svix-signature"])
def test_each_header_is_needed(missing: str) -> None:
    headers = sign(b"{}")
    del headers[missing]
    assert not verified(headers)


@pytest.mark.parametrize(("seconds", "off"), [(-301, True), (-290, False), (290, False)])
def test_a_clock_that_is_off_is_known_as_the_reason(seconds: int, off: bool) -> None:
    now = datetime.now(UTC)
    headers = sign(b"{}", at=now + timedelta(seconds=seconds))
    assert verified(headers) is not off
    assert sender.clock_is_off(Headers(headers), now) is off


def test_the_published_event_of_the_first_generation_is_read_whole() -> None:
    told_at = datetime(2017, 10, 1, 16, 13, 25, 711000, tzinfo=UTC)
    assert told(LEGACY) == Told(
        "reservation.new",
        Booking(
            reservation_id=STAY,
            status=ReservationStatus.PENDING,
            updated_at=told_at,
            event_at=told_at,
            event_id="msg_1",
            listing_id=LISTING,
            check_in="2017-10-04T12:00:00+00:00",
            check_out="2017-10-08T07:00:00+00:00",
        ),
        fetch=STAY,
    )


def test_the_lean_event_tells_its_status_alone() -> None:
    cancelled = Booking("r9", ReservationStatus.CANCELLED, NOW, NOW, "msg_1")
    assert told(LEAN) == Told("reservation.updated.v2", cancelled, fetch="r9")


def test_the_nested_event_tells_its_id_alone() -> None:
    nothing = Booking("65f19af19824d7e6ff848f11", None, NOW, NOW, "msg_1")
    assert told(NESTED) == Told("reservation.updated.v2", nothing, fetch=nothing.reservation_id)


def test_the_second_generation_calls_a_listing_a_unit() -> None:
    days = {"checkInDateLocalized": "2026-12-24", "checkOutDateLocalized": "2026-12-26"}
    found = booking(lean(unitId=LISTING, unitTypeId="a-type", status="confirmed", **days))
    assert (found.listing_id, found.status) == (LISTING, "confirmed")
    assert (found.check_in, found.check_out) == ("2026-12-24", "2026-12-26")


@pytest.mark.parametrize(
    "body",
    [
        {"reservation": {"_id": STAY}},
        {"reservation": {"reservationId": STAY}},
        {"reservation": {"id": STAY}},
        {"data": {"reservationId": STAY, "id": "evt_1"}},
        {"data": {"_id": STAY}},
        {"data": {"id": STAY}},
        {"data": {"reservation": {"_id": STAY}, "id": "evt_1"}},
        {"reservationId": STAY, "id": "evt_1", "_id": "evt_1"},
    ],
    ids=str,
)
def test_the_id_is_found_wherever_it_lies(body: dict[str, Any]) -> None:
    found = told({"event": "reservation.updated.v2", **body})
    assert found.fetch == STAY
    assert found.booking is not None
    assert found.booking.reservation_id == STAY


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("top", "2026-10-31T09:00:00.123Z"),
        ("meta", "2026-10-31T09:00:00.123Z"),
        ("data", "2026-10-31T06:00:00.123-03:00"),
    ],
)
def test_the_time_of_publishing_orders_events(place: str, text: str) -> None:
    body = lean()
    del body["publishedAt"]
    inner = {"top": body, "meta": body.setdefault("meta", {}), "data": body["data"]}[place]
    inner["publishedAt"] = text
    found = booking(body)
    published = datetime(2026, 10, 31, 9, 0, 0, 123000, tzinfo=UTC)
    assert (found.updated_at, found.event_at) == (published, published)


@pytest.mark.parametrize("text", [None, "", "now", "2026-10-31T09:00:00", 1_793_527_200, [], {}])
def test_without_a_time_of_its_own_an_event_is_as_new_as_its_arrival(text: Any) -> None:
    assert booking({**lean(), "publishedAt": text}).updated_at == NOW


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        ("confirmed", "confirmed"),
        ("checked_in", "confirmed"),
        ("checked-in", "confirmed"),
        ("checked_out", "confirmed"),
        ("no_show", "confirmed"),
        ("inquiry", "pending"),
        ("reserved", "pending"),
        ("awaiting_payment", "pending"),
        ("awaiting-payment", "pending"),
        ("Awaiting payment", "pending"),
        ("canceled", "cancelled"),
        ("cancelled", "cancelled"),
        ("closed", "cancelled"),
        ("declined", "cancelled"),
        ("expired", "cancelled"),
        ("Confirmed", "confirmed"),
        ("waitlisted", "pending"),
    ],
)
def test_a_status_decides_whether_there_is_a_pin(status: str, wanted: str) -> None:
    assert booking(legacy(status=status)).status == wanted


DAYS = {"checkInDateLocalized": "2026-12-24", "checkOutDateLocalized": "2026-12-26"}
UTC_TIMES = {"checkIn": "2026-12-24T18:00:00.000Z", "checkOut": "2026-12-26T14:00:00.000Z"}
PLANNED = {"plannedArrival": "13:30", "plannedDeparture": "9:00"}


def test_planned_times_of_the_local_days_come_first() -> None:
    wanted = ("2026-12-24T13:30", "2026-12-26T09:00")
    assert window(**DAYS, **UTC_TIMES, **PLANNED) == wanted
    assert window(**DAYS, **PLANNED) == wanted


def test_then_the_instants() -> None:
    wanted = ("2026-12-24T18:00:00+00:00", "2026-12-26T14:00:00+00:00")
    assert window(**DAYS, **UTC_TIMES) == wanted
    assert window(**UTC_TIMES) == wanted
    assert window(**UTC_TIMES, **PLANNED) == wanted


def test_then_the_days_which_get_the_listings_times() -> None:
    assert window(**DAYS) == ("2026-12-24", "2026-12-26")


def test_one_planned_time_leaves_the_other_as_it_was() -> None:
    found = window(**DAYS, **UTC_TIMES, plannedArrival="20:00")
    assert found == ("2026-12-24T20:00", "2026-12-26T14:00:00+00:00")


@pytest.mark.parametrize("time", [None, "", "24:00", "13:60", "noon", "1 pm", 13, [], {}, "13"])
def test_a_planned_time_that_is_none_does_not_count(time: Any) -> None:
    planned = {"plannedArrival": time, "plannedDeparture": time}
    assert window(**DAYS, **planned) == ("2026-12-24", "2026-12-26")


def test_an_instant_of_another_day_was_left_behind_and_does_not_count() -> None:
    moved = {"checkInDateLocalized": "2026-12-27", "checkOutDateLocalized": "2026-12-30"}
    assert window(**moved, **UTC_TIMES) == ("2026-12-27", "2026-12-30")


def test_an_instant_may_be_of_the_day_beside_the_local_one() -> None:
    late = {"checkIn": "2026-12-25T08:00:00Z", "checkOut": "2026-12-25T22:00:00Z"}
    assert window(**DAYS, **late) == ("2026-12-25T08:00:00+00:00", "2026-12-25T22:00:00+00:00")


@pytest.mark.parametrize("wrong", [None, 7, "", "soon", "2026-13-40", [], {}])
def test_days_and_instants_that_are_none_were_not_told(wrong: Any) -> None:
    assert window(**dict.fromkeys([*DAYS, *UTC_TIMES], wrong)) == (None, None)


def test_the_third_generation_keeps_unit_and_days_in_segments() -> None:
    found = booking({"event": "reservation.created.v2", "data": third()})
    assert found.listing_id == LISTING
    days = {"checkInDateLocalized": day(10), "checkOutDateLocalized": day(13)}
    segment = {"listingId": LISTING, "plannedArrival": "16:00", **days}
    alone = booking(lean(stay=[segment]))
    assert (alone.listing_id, alone.check_in) == (LISTING, f"{day(10)}T16:00")
    assert alone.check_out == day(13)


def test_a_stay_in_two_units_is_whole_in_time_and_has_no_unit() -> None:
    first = {"unitId": "u1", "checkInDateLocalized": "2026-12-24"}
    second = {"unitId": "u2", "checkOutDateLocalized": "2026-12-29"}
    found = booking(lean(stay=[first, second]))
    assert (found.listing_id, found.check_in, found.check_out) == (None, "2026-12-24", "2026-12-29")


@pytest.mark.parametrize(
    ("guest", "wanted"),
    [
        ({"fullName": "Ana Rojas", "phone": "+506"}, ("Ana Rojas", "+506")),
        ({"firstName": "Ana", "lastName": "Rojas"}, ("Ana Rojas", None)),
        ({"firstName": "Ana", "phones": ["+506", "+507"]}, ("Ana", "+506")),
        ({"fullName": "N" * 10_000, "phone": "1" * 10_000}, ("N" * 200, "1" * 50)),
        ({"fullName": 7, "phone": [], "phones": {}}, (None, None)),
        (None, (None, None)),
        ("Ana", (None, None)),
    ],
)
def test_a_guest_may_be_told_in_several_ways(guest: Any, wanted: tuple[Any, Any]) -> None:
    found = booking(legacy(guest=guest))
    assert (found.guest_name, found.guest_phone) == wanted


def test_a_listing_may_be_told_as_an_object() -> None:
    told_of = reservation(listingId=None, listing={"_id": LISTING, "title": "Beach"})
    found = booking({"event": "reservation.updated", "reservation": told_of})
    assert found.listing_id == LISTING


@pytest.mark.parametrize(
    "event",
    [
        "reservation.new",
        "reservation.updated",
        "reservation.created.v2",
        "reservation.updated.v2",
        "reservation.updated.v3",
        "reservation.canceled",
        "reservation.cancelled",
        "reservation_update_shortlist",
    ],
)
def test_the_events_of_a_stay_are_known(event: str) -> None:
    assert told({**LEAN, "event": event}).fetch == "r9"


@pytest.mark.parametrize(
    "event",
    [
        "reservation.messageReceived",
        "reservation.messageSent",
        "listing.updated",
        "payments.failed",
        "calendar.updated.v2",
        "reservation.updated.v2.x",
        "",
        "x" * 500,
    ],
)
@pytest.mark.parametrize("data", [{"reservationId": "r9"}, None, [], 7])
def test_other_events_tell_of_no_stay(event: str, data: Any) -> None:
    assert told({"event": event, "data": data}) == Told(event[:128])


@pytest.mark.parametrize("wrong", [None, 7, [], {}])
def test_an_event_must_be_a_text(wrong: Any) -> None:
    with pytest.raises(Refusal) as caught:
        told({**LEAN, "event": wrong})
    assert [fault["field"] for fault in caught.value.details] == ["event"]


@pytest.mark.parametrize(
    "wrong", [None, "", " ", "../users", "a b", "a/b", True, 1.5, [], {}, "a" * 65]
)
def test_a_reservation_needs_an_id_that_can_be_read(wrong: Any) -> None:
    for data in ({"reservationId": wrong}, {"reservation": {"id": wrong}}, wrong):
        with pytest.raises(Refusal) as caught:
            told({"event": "reservation.updated.v2", "data": data})
        assert caught.value.status == 422
        assert [fault["field"] for fault in caught.value.details] == ["data.reservationId"]


FIELDS = st.sampled_from([*reservation(), "data", "meta", "reservation", "stay", "event"])


@given(st.dictionaries(FIELDS | st.text(), JSON), JSON)
def test_reading_junk_refuses_or_tells_and_nothing_else(junk: dict[str, Any], inner: Any) -> None:
    for body in (junk, LEAN | junk, legacy(**junk), lean(**junk), lean(stay=[inner, junk])):
        with suppress(Refusal):
            assert isinstance(told(body), Told)
