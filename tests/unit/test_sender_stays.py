"""Stays.net: who is believed, and what its events tell."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from pinqueue.fetchers.stays import TYPES
from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Booking
from pinqueue.webhooks import stays as sender
from pinqueue.webhooks.body import Refusal
from pinqueue.webhooks.sender import Received, Told
from tests.senders import stays
from tests.senders.stays import LISTING, LONG, SECRET, SHORT

NOW = datetime(2026, 11, 1, 10, 0, 1, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def verified(path_secret: str, *secrets: str, **headers: str) -> bool:
    received = Received(b"{}", Headers(headers), path_secret)
    return sender.verify(secrets or (SECRET,), received)


def told(body: bytes | dict[str, Any]) -> Told:
    return sender.read("e1", json.loads(body) if isinstance(body, bytes) else body, NOW)


def booking(body: bytes) -> Booking:
    found = told(body).booking
    assert found is not None
    return found


def test_the_secret_of_the_path_is_believed() -> None:
    assert verified(SECRET)
    assert verified(SECRET, "another-one-of-24-letters", SECRET)


@pytest.mark.parametrize("path_secret", ["", SECRET[:-1], SECRET + "x", SECRET.upper(), "\udc80"])
def test_another_secret_is_not(path_secret: str) -> None:
    assert not verified(path_secret)


def test_the_client_id_and_an_unchecked_signature_prove_nothing() -> None:
    assert not verified("", **{"x-stays-client-id": stays.LOGIN, "x-stays-signature": "x" * 684})


def test_a_login_is_asked_for_where_the_source_has_one() -> None:
    secret = f"{SECRET} stays:letmein"
    assert verified(SECRET, secret, authorization="Basic c3RheXM6bGV0bWVpbg==")
    assert not verified(SECRET, secret)


def test_a_further_check_must_hold_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def signed(secrets: Any, received: Received) -> bool:
        return received.headers.get("x-stays-signature") == "good"

    monkeypatch.setattr(sender, "CHECKS", (*sender.CHECKS, signed))
    assert verified(SECRET, **{"x-stays-signature": "good"})
    assert not verified(SECRET, **{"x-stays-signature": "bad"})
    assert not verified("", **{"x-stays-signature": "good"})


def test_the_published_event_is_read_whole() -> None:
    at = datetime(2024, 7, 3, 15, 7, 2, 577000, tzinfo=UTC)
    assert told(stays.CREATED) == Told(
        "reservation.created",
        Booking(
            reservation_id="KR97I",
            other_id="668568de150f6a1f452de5b3",
            status=ReservationStatus.PENDING,
            updated_at=at,
            event_at=at,
            event_id="e1",
            listing_id="604e42ff500e5de7df1a1e11",
            check_in="2024-07-26",
            check_out="2024-07-30",
        ),
        fetch="KR97I",
    )


def test_a_cancel_with_an_id_alone_cancels_and_asks_nobody() -> None:
    event = told(stays.CANCELED)
    assert event.fetch is None
    assert event.booking == Booking(
        reservation_id="JM98I",
        status=ReservationStatus.CANCELLED,
        updated_at=NOW,
        event_at=NOW,
        event_id="e1",
        listing_id="604e42ff500e5de7df1a1e11",
    )


def test_a_delete_with_the_long_id_alone_cancels() -> None:
    found = booking(stays.DELETED)
    assert found.reservation_id == "696d19c9a90f0282b07c8f46"
    assert (found.status, found.check_in) == (ReservationStatus.CANCELLED, None)


@pytest.mark.parametrize("action", sender.CANCELS)
def test_whatever_type_a_cancel_still_has_it_cancels(action: str) -> None:
    assert booking(stays.event(action, type="booked")).status == ReservationStatus.CANCELLED


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("reserved", "pending"),
        ("booked", "confirmed"),
        ("contract", "confirmed"),
        ("blocked", "blocked"),
        ("ownerBlocked", "blocked"),
        ("maintenance", "blocked"),
        ("cleaning", "blocked"),
        ("canceled", "cancelled"),
        ("cancelled", "cancelled"),
        ("deleted", "cancelled"),
        ("Booked", "confirmed"),
        ("something-new", "pending"),
    ],
)
def test_every_type_has_its_status_and_an_unknown_one_gets_no_pin(kind: str, status: str) -> None:
    assert booking(stays.event("reservation.modified", type=kind)).status == status


def test_no_type_is_left_out_of_that_table() -> None:
    assert set(TYPES.values()) == set(ReservationStatus)


def test_a_reactivation_that_tells_no_type_is_read_from_the_api_or_by_a_person() -> None:
    body = {"action": "reservation.reactivated", "payload": {"id": "KR97I"}}
    assert told(body) == Told("reservation.reactivated", fetch="KR97I")


def test_a_reactivation_that_tells_all_is_a_booking() -> None:
    event = told(stays.event("reservation.reactivated"))
    assert (event.fetch, event.booking and event.booking.status) == (SHORT, "confirmed")


@pytest.mark.parametrize(
    ("time", "check_in"),
    [
        ("15:00", "2026-05-14T15:00"),
        ("9:30", "2026-05-14T09:30"),
        ("15:00:00", "2026-05-14T15:00"),
        (" 15:00 ", "2026-05-14T15:00"),
        ("", "2026-05-14"),
        (None, "2026-05-14"),
        ("24:00", "2026-05-14"),
        ("noon", "2026-05-14"),
        (15, "2026-05-14"),
    ],
)
def test_a_time_that_can_be_is_joined_to_its_date(time: Any, check_in: str) -> None:
    body = stays.event(checkInDate="2026-05-14", checkInTime=time)
    assert booking(body).check_in == check_in


@pytest.mark.parametrize(
    "at",
    [None, "", "soon", "2026-10-31T10:00:00", 17, "0001-01-01T00:00:00+14:00", "9999-12-31T23:00Z"],
)
def test_without_a_time_of_its_own_an_event_is_as_old_as_its_arrival(at: Any) -> None:
    body = {**json.loads(stays.event()), "_dt": at}
    found = told(body).booking
    assert found is not None
    assert (found.updated_at, found.event_at) == (NOW, NOW)


@pytest.mark.parametrize("action", stays.OTHERS)
@pytest.mark.parametrize("payload", [None, [], [{"_idlisting": LISTING}], 7, {"id": SHORT}])
def test_another_action_tells_of_no_stay_whatever_its_shape(action: str, payload: Any) -> None:
    assert told({"action": action, "payload": payload}) == Told(action)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "action"),
        ({"action": 7, "payload": {"id": "A"}}, "action"),
        ({"action": "reservation.created"}, "payload"),
        ({"action": "reservation.created", "payload": [{"id": "A"}]}, "payload"),
        ({"action": "reservation.canceled", "payload": {}}, "payload.id"),
        ({"action": "reservation.canceled", "payload": {"id": ""}}, "payload.id"),
        ({"action": "reservation.canceled", "payload": {"id": True}}, "payload.id"),
        ({"action": "reservation.canceled", "payload": {"id": "x" * 65}}, "payload.id"),
    ],
)
def test_an_event_that_names_no_reservation_is_refused(body: dict[str, Any], field: str) -> None:
    with pytest.raises(Refusal) as caught:
        told(body if "payload" in body or not body else {**body, "other": 1})
    assert caught.value.status == 422
    assert field in [detail["field"] for detail in caught.value.details]


@pytest.mark.parametrize("wrong", [None, 7, [], {}, ["booked"], "", True])
def test_a_field_of_another_kind_is_one_that_was_not_told(wrong: Any) -> None:
    fields = ("type", "checkInDate", "checkOutDate", "_idlisting", "guestsDetails", "client")
    found = booking(stays.event(**{**dict.fromkeys(fields, wrong), "_idlisting": None}))
    assert (found.reservation_id, found.other_id) == (SHORT, LONG)
    assert (found.status, found.check_in, found.listing_id) == (None, None, None)


def test_the_primary_guest_is_told() -> None:
    found = booking(stays.event(**stays.full()))
    assert (found.guest_name, found.guest_phone) == ("Fulana Silva", "+5561999101020")


@given(body=st.dictionaries(st.text(), JSON) | st.fixed_dictionaries({"payload": JSON}))
def test_junk_raises_nothing_but_a_refusal(body: dict[str, Any]) -> None:
    for action in (*sender.CANCELS, *sender.CHANGES, "message.added"):
        with suppress(Refusal):
            assert sender.read("e1", {**body, "action": action}, NOW).type == action


@given(
    payload=st.fixed_dictionaries(
        {"id": st.just(SHORT)},
        optional=dict.fromkeys(
            [
                "_id",
                "type",
                "checkInDate",
                "checkInTime",
                "checkOutDate",
                "_idlisting",
                "guestsDetails",
            ],
            JSON,
        ),
    ),
    at=JSON,
)
def test_an_event_that_is_nearly_good_is_read(payload: dict[str, Any], at: Any) -> None:
    event = told({"action": "reservation.modified", "payload": payload, "_dt": at})
    assert event.fetch == SHORT
    assert event.booking
    assert event.booking.telling.version
