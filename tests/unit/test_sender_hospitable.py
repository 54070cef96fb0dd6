"""Hospitable: who is believed, and what its events tell."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from pinqueue.fetchers.hospitable import CATEGORIES
from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Booking
from pinqueue.webhooks import hospitable as sender
from pinqueue.webhooks.body import Refusal
from pinqueue.webhooks.sender import Received, Told
from tests.senders import hospitable
from tests.senders.hospitable import PROPERTY, STAY, ULID, changed, event, status

NOW = datetime(2026, 11, 1, 10, 0, 1, tzinfo=UTC)
# developer.hospitable.com prints this signature beside `{"foo": "bar"}`; it belongs to the body
# without the space.
PRINTED = "cc99bf5947391ddb0d0d9866f5b9d3a68e8b273c5ac8f699b4ae2399a7433118"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def verified(raw: bytes, *signatures: str, secrets: tuple[str, ...] = ("123456",)) -> bool:
    headers = Headers(raw=[(b"signature", s.encode("latin-1")) for s in signatures])
    return sender.verify(secrets, Received(raw, headers))


def told(body: dict[str, Any]) -> Told:
    return sender.read("e1", body, NOW)


def booking(body: dict[str, Any]) -> Booking:
    found = told(body).booking
    assert found is not None
    return found


def test_the_printed_signature_verifies_the_bytes_it_was_made_of() -> None:
    assert verified(b'{"foo":"bar"}', PRINTED)
    assert not verified(b'{"foo": "bar"}', PRINTED), "only the raw bytes count"


def test_while_secrets_rotate_either_verifies() -> None:
    assert verified(b'{"foo":"bar"}', PRINTED, secrets=("new", "123456"))
    assert not verified(b'{"foo":"bar"}', PRINTED, secrets=("new", "123457"))


@pytest.mark.parametrize(
    "signatures",
    [
        (),
        ("",),
        (PRINTED, PRINTED),
        (PRINTED[:-1],),
        (PRINTED + "0",),
        (f"sha256={PRINTED}",),
        (f"{PRINTED},{PRINTED}",),
        ("\xe9" * 64,),
        ("0" * 10_000,),
    ],
)
def test_another_signature_does_not(signatures: tuple[str, ...]) -> None:
    assert not verified(b'{"foo":"bar"}', *signatures)


@given(raw=st.binary(), signature=st.text(st.characters(max_codepoint=255), max_size=80))
def test_verify_answers_false_to_whatever_is_not_signed(raw: bytes, signature: str) -> None:
    assert verified(raw, signature) is False


def test_a_whole_event_is_a_booking_and_asks_nobody() -> None:
    at = datetime(2026, 10, 31, 9, 35, 24, tzinfo=UTC)
    days = hospitable.days()
    assert told(event(created="2026-10-31T09:35:24Z")) == Told(
        "reservation.created",
        Booking(
            reservation_id=STAY,
            status=ReservationStatus.CONFIRMED,
            updated_at=at,
            event_at=at,
            event_id="e1",
            listing_id=PROPERTY,
            check_in=days["check_in"],
            check_out=days["check_out"],
            guest_name="Jane Doe",
            guest_phone="+14155550100",
        ),
    )


def test_the_published_compact_form_names_what_must_be_looked_up() -> None:
    body = json.loads(hospitable.COMPACT)
    assert told(body) == Told("reservation.created", fetch=ULID)


def test_the_documented_partial_change_is_told_and_looked_up() -> None:
    data = {"id": STAY, **json.loads(hospitable.PARTIAL)}
    event = told(changed(data, created="2026-10-31T09:35:24Z"))
    assert event.fetch == STAY
    assert event.booking == Booking(
        reservation_id=STAY,
        status=None,
        updated_at=datetime(2026, 10, 31, 9, 35, 24, tzinfo=UTC),
        event_at=datetime(2026, 10, 31, 9, 35, 24, tzinfo=UTC),
        event_id="e1",
        check_in="2019-01-03T16:30:00-05:00",
    )


def test_a_partial_change_under_the_id_of_a_delivery_is_nobodys_until_it_is_looked_up() -> None:
    data = json.loads(hospitable.PARTIAL)
    assert told(changed(data)) == Told("reservation.changed", fetch=ULID)


def test_a_partial_change_under_a_uuid_is_that_reservations() -> None:
    body = changed(json.loads(hospitable.PARTIAL), id=STAY.upper())
    assert (booking(body).reservation_id, told(body).fetch) == (STAY, STAY)


@pytest.mark.parametrize("action", sender.CHANGES)
def test_a_change_is_known_by_either_of_its_names(action: str) -> None:
    assert booking(event(action)).status == ReservationStatus.CONFIRMED


@pytest.mark.parametrize(
    ("category", "wanted"),
    [
        ("request", "pending"),
        ("accepted", "confirmed"),
        ("cancelled", "cancelled"),
        ("not accepted", "cancelled"),
        ("not_accepted", "cancelled"),
        ("Accepted", "confirmed"),
        ("checkpoint", "pending"),
        ("unknown", "pending"),
        ("something-new", "pending"),
    ],
)
def test_every_status_has_its_meaning_and_an_unknown_one_gets_no_pin(
    category: str, wanted: str
) -> None:
    data = hospitable.reservation(reservation_status=status(category))
    assert booking(event("reservation.changed", data=data)).status == wanted


def test_the_flat_status_counts_only_where_it_stands_alone() -> None:
    both = hospitable.reservation(reservation_status=status("accepted"), status="cancelled")
    assert booking(event(data=both)).status == "confirmed"
    for flat, wanted in {"denied": "cancelled", "booking": "confirmed", "new": "pending"}.items():
        alone = hospitable.reservation(reservation_status=None, status=flat)
        assert booking(event(data=alone)).status == wanted


@pytest.mark.parametrize(
    ("category", "wanted"), [("accepted", "blocked"), ("cancelled", "cancelled")]
)
def test_an_owners_stay_is_no_guests(category: str, wanted: str) -> None:
    data = hospitable.reservation(stay_type="owner_stay", reservation_status=status(category))
    assert booking(event(data=data)).status == wanted


def test_no_meaning_is_left_out() -> None:
    assert set(CATEGORIES.values()) | {ReservationStatus.BLOCKED} == set(ReservationStatus)


@pytest.mark.parametrize("action", sender.CANCELS)
def test_a_cancel_by_an_event_of_its_own_cancels(action: str) -> None:
    found = told(event(action, data={"id": STAY}))
    assert (found.booking and found.booking.status, found.fetch) == ("cancelled", None)


def test_a_cancel_that_its_change_leaves_out_is_not_taken_for_a_change_of_nothing() -> None:
    for trigger in ("status_changed", "listing_changed", "dates_changed", "checkin_changed"):
        assert told(changed({"id": STAY}, trigger)) == Told("reservation.changed", fetch=STAY)
        data = {"id": STAY, "triggers": [trigger]}
        assert told(changed(data)) == Told("reservation.changed", fetch=STAY)


@pytest.mark.parametrize(
    ("trigger", "data"),
    [
        ("status_changed", {"reservation_status": status("cancelled")}),
        ("listing_changed", {"property": {"id": PROPERTY}}),
        ("dates_changed", {"check_out": "2019-01-05T11:00:00-05:00"}),
        ("checkin_changed", json.loads(hospitable.PARTIAL)),
        ("notes_changed", {}),
        ("guests_changed", {"guests": {"total": 3}}),
        (7, {}),
    ],
)
def test_a_change_that_tells_what_its_trigger_says_is_told(trigger: Any, data: Any) -> None:
    found = told(changed({"id": STAY, **data}, trigger))
    assert (found.booking is not None, found.fetch) == (True, STAY)


def test_midnight_of_the_arrival_date_is_nobodys_hour() -> None:
    data = {"id": STAY, "arrival_date": "2019-01-03T00:00:00-05:00"}
    assert booking(changed(data)).check_in == "2019-01-03"
    assert booking(changed({**data, **json.loads(hospitable.PARTIAL)})).check_in == (
        "2019-01-03T16:30:00-05:00"
    )


@pytest.mark.parametrize(
    "property_",
    [
        {"properties": [{"id": PROPERTY}]},
        {"properties": [{"id": PROPERTY.upper()}]},
        {"property": {"id": PROPERTY}},
        {"properties": [], "property_id": PROPERTY},
    ],
)
def test_the_property_is_found_however_it_is_told(property_: dict[str, Any]) -> None:
    assert booking(changed({"id": STAY, **property_})).listing_id == PROPERTY


@pytest.mark.parametrize("name", ["id", "uuid"])
def test_the_reservation_is_found_however_its_id_is_spelt(name: str) -> None:
    assert booking(changed({name: STAY.upper()})).reservation_id == STAY


@pytest.mark.parametrize("created", [None, "", "soon", 17, "2023-10-01T09:35:24", "0001-01-01"])
def test_without_a_time_of_its_own_an_event_is_as_old_as_its_arrival(created: Any) -> None:
    assert booking(event(created=created)).updated_at == NOW


@pytest.mark.parametrize("when", ["soon", "2019-13-45T16:30:00-05:00", "16:30"])
@pytest.mark.parametrize("name", ["check_in", "check_out"])
def test_a_time_that_cannot_be_is_looked_up(name: str, when: str) -> None:
    assert told(event(data=hospitable.reservation(**{name: when}))).fetch == STAY


@pytest.mark.parametrize("when", [None, "", 16, []])
def test_a_time_that_is_not_told_is_the_listings_on_that_day(when: Any) -> None:
    found = booking(event(data=hospitable.reservation(check_in=when)))
    assert found.check_in == hospitable.days()["arrival_date"][:10]


@pytest.mark.parametrize(
    "action", ["property.changed", "property.merged", "message.created", "review.created", "x"]
)
@pytest.mark.parametrize("data", [None, [], 7, {"id": STAY}])
def test_another_action_tells_of_no_stay_whatever_its_shape(action: str, data: Any) -> None:
    assert told({"action": action, "data": data}) == Told(action)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "action"),
        ({"action": None, "data": {}}, "action"),
        ({"action": "reservation.created", "id": ULID}, "data"),
        ({"action": "reservation.created", "id": ULID, "data": []}, "data"),
        ({"action": "reservation.created", "data": {}}, "data.id"),
        ({"action": "reservation.created", "data": {"id": 1.5}, "id": []}, "data.id"),
    ],
)
def test_an_event_that_names_no_reservation_is_refused(body: dict[str, Any], field: str) -> None:
    with pytest.raises(Refusal) as caught:
        told(body)
    assert caught.value.status == 422
    assert field in [detail["field"] for detail in caught.value.details]


def test_an_event_id_is_the_senders_and_the_bodys() -> None:
    def id_of(raw: bytes, given: Any) -> str:
        return sender.event_id(Received(raw, Headers({})), {"id": given})

    assert id_of(b"{}", ULID) == id_of(b"{}", ULID)
    assert len({id_of(b"{}", ULID), id_of(b"{ }", ULID), id_of(b"{}", STAY)}) == 3
    assert id_of(b"{}", ULID).startswith(ULID)
    assert len(id_of(b"{}", "x" * 1000)) <= 128
    assert id_of(b"{}", None) == id_of(b"{}", [])


@given(body=st.dictionaries(st.text(), JSON) | st.fixed_dictionaries({"data": JSON, "id": JSON}))
def test_junk_raises_nothing_but_a_refusal(body: dict[str, Any]) -> None:
    for action in (*sender.CANCELS, *sender.CHANGES, "message.created"):
        with suppress(Refusal):
            assert sender.read("e1", {**body, "action": action}, NOW).type == action


FIELDS = ["reservation_status", "check_in", "check_out", "properties", "guest", "triggers", "uuid"]


@given(
    data=st.fixed_dictionaries({"id": st.just(STAY)}, optional=dict.fromkeys(FIELDS, JSON)),
    beside=st.fixed_dictionaries({}, optional={"created": JSON, "triggers": JSON, "id": JSON}),
)
def test_an_event_that_is_nearly_good_names_its_stay(
    data: dict[str, Any], beside: dict[str, Any]
) -> None:
    found = told({**beside, "action": "reservation.changed", "data": data})
    assert STAY in (found.fetch, found.booking and found.booking.reservation_id)
