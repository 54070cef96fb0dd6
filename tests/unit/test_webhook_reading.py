"""Our own webhook shape: what an event tells of a stay, and what it may not say."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Booking
from pinqueue.webhooks.body import Refusal
from pinqueue.webhooks.pinqueue import TYPES, read
from pinqueue.webhooks.sender import Told
from tests.senders.pinqueue import EXAMPLE

NOW = datetime(2026, 11, 1, 10, 0, 1, tzinfo=UTC)


def example(kind: str = "reservation.created", **data: Any) -> dict[str, Any]:
    body = copy.deepcopy(EXAMPLE)
    return {**body, "type": kind, "data": {**body["data"], **data}}


def booking(body: dict[str, Any]) -> Booking:
    told = read("msg_1", body, NOW).booking
    assert told is not None
    return told


def refused(body: dict[str, Any]) -> list[str]:
    """The fields that are named."""
    with pytest.raises(Refusal) as caught:
        read("msg_1", body, NOW)
    assert (caught.value.status, caught.value.code) == (422, "invalid_body")
    return [detail["field"] for detail in caught.value.details]


def test_the_example_of_the_contract_is_read_whole() -> None:
    assert read("msg_1", EXAMPLE, NOW) == Told(
        "reservation.created",
        Booking(
            reservation_id="res-123",
            status=ReservationStatus.CONFIRMED,
            updated_at=datetime(2026, 11, 1, 9, 59, 58, tzinfo=UTC),
            event_at=datetime(2026, 11, 1, 10, 0, tzinfo=UTC),
            event_id="msg_1",
            listing_id="apt-7",
            check_in="2026-12-24T15:00:00-03:00",
            check_out="2026-12-26T10:00:00-03:00",
            guest_name="Ana",
            guest_phone="+55 11 5550 0100",
        ),
    )


def test_without_updated_at_the_time_of_the_event_is_its_version() -> None:
    told = booking(example(updated_at=None))
    assert told.updated_at == told.event_at


@pytest.mark.parametrize("kind", ["reservation.created", "reservation.updated"])
def test_a_status_of_cancelled_cancels_whatever_the_type(kind: str) -> None:
    assert booking(example(kind, status="cancelled")).status == ReservationStatus.CANCELLED


@pytest.mark.parametrize("status", ["confirmed", "pending", None])
def test_the_type_cancelled_cancels_whatever_the_status(status: str | None) -> None:
    told = booking(example("reservation.cancelled", status=status))
    assert told.status == ReservationStatus.CANCELLED


def test_a_cancel_needs_no_more_than_the_reservation() -> None:
    body = {**EXAMPLE, "type": "reservation.cancelled", "data": {"reservation_id": "res-1"}}
    assert booking(body).reservation_id == "res-1"


@pytest.mark.parametrize("name", ["listing_id", "status", "check_in", "check_out"])
def test_a_stay_that_is_not_cancelled_needs_it_all(name: str) -> None:
    body = example()
    del body["data"][name]
    assert refused(body)


def test_every_wrong_field_is_named_at_once() -> None:
    body = example(reservation_id=7, check_in=True, guest={"name": 1})
    named = {"data.reservation_id", "data.check_in", "data.guest.name"}
    assert set(refused({**body, "timestamp": 1})) == named | {"timestamp"}


@pytest.mark.parametrize("kind", ["payment.made", "", "Reservation.created", "x" * 500])
def test_another_type_tells_of_no_stay(kind: str) -> None:
    assert read("msg_1", {"type": kind}, NOW) == Told(kind[:128])


@pytest.mark.parametrize("kind", [None, 1, True, [], {}, ["reservation.created"]])
def test_a_type_that_is_no_text_is_refused(kind: Any) -> None:
    assert "type" in refused({**EXAMPLE, "type": kind})


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-01T10:00:00",
        "2026-11-01",
        "now",
        "",
        "1999-12-31T23:59:59Z",
        "2201-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-12:00",
        "2026-02-30T10:00:00Z",
        "2026-11-01T10:00:00Z" + " " * 64,
        1_793_527_200,
    ],
)
def test_the_versions_are_instants_of_this_age(text: Any) -> None:
    assert refused(example(updated_at=text)) == ["data.updated_at"]
    assert refused({**EXAMPLE, "timestamp": text}) == ["timestamp"]


@pytest.mark.parametrize("text", ["", " r", "r ", "r\n", "r\u202e", "r\u200b", "r" * 129])
def test_an_id_is_plain_text(text: str) -> None:
    assert refused(example(reservation_id=text)) == ["data.reservation_id"]
    assert refused(example(listing_id=text)) == ["data.listing_id"]


@pytest.mark.parametrize("text", ["7", "r 1", "\u00e4pt", "a/b?c=d", "'; --", "r" * 128])
def test_an_id_may_be_whatever_its_sender_uses(text: str) -> None:
    assert booking(example(reservation_id=text)).reservation_id == text


@pytest.mark.parametrize("guest", [None, {}, {"name": None}, {"name": "", "phone": ""}])
def test_a_guest_may_have_no_name(guest: Any) -> None:
    told = booking(example(guest=guest))
    assert (told.guest_name, told.guest_phone) == (None, None)


def test_name_and_phone_are_cut() -> None:
    told = booking(example(guest={"name": "N" * 10_000, "phone": "1" * 10_000}))
    assert (told.guest_name, told.guest_phone) == ("N" * 200, "1" * 50)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
TIMES = st.datetimes(timezones=st.none() | st.timezones()).map(datetime.isoformat) | st.text(
    "0123456789-:.+TZW ", max_size=40
)
PATHS = st.sampled_from(
    [("type",), ("timestamp",), ("data",)]
    + [("data", name) for name in EXAMPLE["data"]]
    + [("data", "guest", "name"), ("data", "guest", "phone")]
)


@given(st.dictionaries(st.sampled_from(["type", "timestamp", "data", "x"]), ANY))
def test_read_raises_nothing_but_a_refusal(body: dict[str, Any]) -> None:
    _read(body)


@given(st.lists(st.tuples(PATHS, st.none() | ANY | TIMES, st.booleans()), max_size=4))
def test_read_raises_nothing_but_a_refusal_of_an_event_that_is_nearly_good(
    changes: list[tuple[tuple[str, ...], Any, bool]],
) -> None:
    body = copy.deepcopy(EXAMPLE)
    for path, value, leaves in changes:
        place: Any = body
        for name in path[:-1]:
            place = place.get(name) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place.pop(path[-1], None) if leaves else place.update({path[-1]: value})
    _read(body)


def _read(body: dict[str, Any]) -> None:
    try:
        told = read("msg_1", body, NOW)
    except Refusal as refusal:
        told = Told("")
        named = [set(detail) for detail in refusal.details]
    else:
        named = [{"field", "message"}]
    assert named
    assert all(names == {"field", "message"} for names in named)
    assert told.booking is None or (told.type in TYPES and told.booking.telling.version)
