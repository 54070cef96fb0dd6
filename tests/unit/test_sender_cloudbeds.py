"""Cloudbeds: what its events and its reservations say."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinqueue.errors import SourceUnreachable
from pinqueue.fetchers.cloudbeds import STATUSES, _rooms, _rows, status_of
from pinqueue.fetchers.reading import Rooms
from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Booking
from pinqueue.webhooks.body import Refusal
from pinqueue.webhooks.cloudbeds import LAG, read
from tests.senders.cloudbeds import Cloudbeds, as_one_has_it, room
from tests.senders.junk import JUNK

NOW = datetime(2021, 1, 27, 15, tzinfo=UTC)
EXAMPLE: dict[str, Any] = Cloudbeds().event("31415926")


def booking(**changes: Any) -> Booking:
    told = read("e", {**EXAMPLE, **changes}, NOW).booking
    assert told is not None
    return told


def stays(*rooms: dict[str, Any], **changes: Any) -> list[Booking]:
    played = Cloudbeds()
    played.put("13")
    read = _rooms({**played.bookings["13"], **changes}, list(rooms), NOW)
    assert isinstance(read, Rooms)
    return list(read.stays)


def test_the_published_example_is_read() -> None:
    told = read("e", EXAMPLE, NOW)
    at = datetime(2021, 1, 27, 14, 35, 57, 431234, tzinfo=UTC)
    assert (told.type, told.fetch, told.fetch_after) == (
        "reservation/dates_changed",
        "31415926",
        LAG,
    )
    assert told.booking == Booking(
        "31415926", None, at, at, "e", "12345", "2020-05-19", "2020-05-21"
    )


@pytest.mark.parametrize("name", ["reservationID", "reservationId"])
@pytest.mark.parametrize("id_", [31415926, "31415926"])
def test_the_reservations_id_is_spelt_in_two_ways(name: str, id_: Any) -> None:
    assert read("e", {"event": "reservation/created", name: id_}, NOW).fetch == "31415926"


@pytest.mark.parametrize(
    "told",
    [{"propertyID": 9}, {"propertyId": "9"}, {"propertyId_str": "9"}, {"propertyID_str": "9"}],
)
def test_so_is_the_propertys(told: dict[str, Any]) -> None:
    body = {"event": "reservation/created", "reservationID": "1", **told}
    found = read("e", body, NOW).booking
    assert found is not None
    assert found.listing_id == "9"


@pytest.mark.parametrize("id_", [None, True, "", "../1", "1 3", 1.5, [1], -1, "1" * 65])
def test_what_is_no_id_is_refused(id_: Any) -> None:
    with pytest.raises(Refusal) as caught:
        read("e", {"event": "reservation/created", "reservationId": id_}, NOW)
    assert caught.value.status == 422


@pytest.mark.parametrize("timestamp", [None, "x", True, -1, 1e300, 10**30, float("1e17")])
def test_without_a_time_that_can_be_it_is_the_arrivals(timestamp: Any) -> None:
    assert booking(timestamp=timestamp).updated_at == NOW


def test_the_time_orders_events_to_the_microsecond() -> None:
    earlier, later = booking(timestamp=1611758157.431234), booking(timestamp=1611758157.431235)
    assert earlier.telling.version < later.telling.version


def test_a_status_is_believed_where_it_is_the_reservations() -> None:
    assert booking(event="reservation/status_changed", status="canceled").status == "cancelled"
    room = booking(event="reservation/accommodation_status_changed", status="in_house")
    assert room.status is None
    assert booking(event="reservation/deleted").status == "cancelled"


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ("confirmed", ReservationStatus.CONFIRMED),
        ("not_confirmed", ReservationStatus.PENDING),
        ("canceled", ReservationStatus.CANCELLED),
        ("cancelled", ReservationStatus.CANCELLED),
        ("checked_in", ReservationStatus.CONFIRMED),
        ("checked_out", ReservationStatus.CONFIRMED),
        ("no_show", ReservationStatus.CONFIRMED),
        ("something_new", ReservationStatus.PENDING),
    ],
)
def test_every_status_has_its_meaning_and_an_unknown_one_gives_no_pin(
    told: str, status: ReservationStatus
) -> None:
    assert status_of(told) == status
    assert len(STATUSES) == 7


def test_a_room_is_the_listing_and_has_days_of_its_own() -> None:
    (stay,) = stays({"roomID": "601917-0", "startDate": "2020-05-19", "endDate": "2020-05-21"})
    assert (stay.reservation_id, stay.listing_id) == ("13", "601917-0")
    assert (stay.check_in, stay.check_out) == ("2020-05-19", "2020-05-21")
    assert (stay.guest_name, stay.guest_phone) == ("John Doe", "+1 555 0100")


def test_rooms_have_the_same_ids_in_whatever_order_and_from_the_list_or_alone() -> None:
    rooms = [room("13", "a", 10), room("13-2", "b", 10), room("13-3", None, 10)]
    alone = [as_one_has_it(each) for each in rooms]
    assert [stay.reservation_id for stay in stays(*rooms)] == ["13", "13-2", "13-3"]
    assert stays(*rooms) == stays(*reversed(rooms)) == stays(*alone)


def test_a_guest_who_changes_rooms_during_the_stay_gets_into_both() -> None:
    found = stays(room("13", "b", 12), room("13", "a", 10))
    assert [(stay.reservation_id, stay.listing_id) for stay in found] == [
        ("13", "a"),
        ("13-b", "b"),
    ]


def test_an_id_of_a_room_that_is_not_made_from_the_reservations_is_put_behind_it() -> None:
    assert [stay.reservation_id for stay in stays(room("77", "a", 10))] == ["13-77"]


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["reservationID", "status", "guestList", "propertyID"]), JUNK),
    JUNK | st.lists(st.dictionaries(st.sampled_from(sorted(room("1", "2", 3))), JUNK), max_size=3),
)
def test_a_reservation_is_read_whatever_it_holds(junk: dict[str, Any], rooms: Any) -> None:
    played = Cloudbeds()
    played.put("13")
    told = {**played.bookings["13"], **junk, "rooms": rooms}
    with suppress(SourceUnreachable):
        assert _rooms(told, list(_rows(told, "rooms")), NOW)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(EXAMPLE)), JUNK))
def test_an_event_of_any_shape_raises_nothing_but_a_refusal(junk: dict[str, Any]) -> None:
    with suppress(Refusal):
        assert isinstance(read("e", {**EXAMPLE, **junk}, NOW).type, str)
