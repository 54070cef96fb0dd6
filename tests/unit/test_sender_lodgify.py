"""Lodgify: who is believed, and what its events tell."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from pinqueue.lifecycle import ReservationStatus
from pinqueue.reservations import Booking
from pinqueue.webhooks import lodgify as sender
from pinqueue.webhooks.body import Refusal
from pinqueue.webhooks.sender import Received, Told
from tests.senders.lodgify import EXAMPLE, event

NOW = datetime(2026, 11, 1, 10, 0, 1, tzinfo=UTC)
# `openssl dgst -sha256 -hmac secret` of {}
SIGNED = "77325902caca812dc259733aacd046b73817372c777b8d95b402647474516e13"
# GitHub signs in the same way; its page "Validating webhook deliveries" prints this.
GITHUB = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def verified(*signatures: str, secrets: tuple[str, ...] = ("secret",), body: bytes = b"{}") -> bool:
    headers = Headers(raw=[(b"ms-signature", s.encode("latin-1")) for s in signatures])
    return sender.verify(secrets, Received(body, headers))


def told(body: dict[str, Any]) -> Told:
    return sender.read("e1", body, NOW)


def booking(body: dict[str, Any]) -> Booking:
    found = told(body).booking
    assert found is not None
    return found


def refused(body: dict[str, Any]) -> list[str]:
    """The fields that are named."""
    with pytest.raises(Refusal) as caught:
        told(body)
    assert caught.value.status == 422
    return [detail["field"] for detail in caught.value.details]


def test_the_bytes_are_signed_under_the_secret() -> None:
    assert verified(f"sha256={SIGNED}")
    assert verified(f"sha256={SIGNED.upper()}")
    assert not verified(f"sha256={SIGNED}", body=b"{} "), "only the raw bytes count"
    assert not verified(f"sha256={SIGNED}", secrets=("another",))


def test_a_vector_that_github_publishes_of_the_same_scheme_verifies() -> None:
    body, signature = b"Hello, World!", GITHUB
    assert verified(signature, secrets=("It's a Secret to Everybody",), body=body)


@pytest.mark.parametrize(
    "secrets", [("secret other third",), ("other secret",), ("new newer", "old secret older")]
)
def test_each_subscription_may_have_its_own_secret(secrets: tuple[str, ...]) -> None:
    assert verified(f"sha256={SIGNED}", secrets=secrets)


@pytest.mark.parametrize(
    "signatures",
    [
        (),
        ("",),
        ("sha256=",),
        (SIGNED,),
        (f"sha1={SIGNED}",),
        (f"sha256={SIGNED[:-1]}",),
        (f"sha256={SIGNED}0",),
        (f"sha256= {SIGNED}",),
        (f"sha256={SIGNED},sha256={SIGNED}",),
        (f"sha256={SIGNED}", f"sha256={SIGNED}"),
        ("sha256=" + "\xe9" * 64,),
        ("sha256=" + "0" * 10_000,),
    ],
)
def test_another_signature_does_not(signatures: tuple[str, ...]) -> None:
    assert not verified(*signatures)


@pytest.mark.parametrize("secret", ["", " "])
def test_no_secret_proves_nothing(secret: str) -> None:
    empty = "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad"
    assert not verified(f"sha256={empty}", secrets=(secret,), body=b"")


@given(raw=st.binary(), signature=st.text(st.characters(max_codepoint=255), max_size=80))
def test_verify_answers_false_to_whatever_is_not_signed(raw: bytes, signature: str) -> None:
    assert verified(signature, body=raw) is False


def test_the_example_is_read_whole() -> None:
    assert told(EXAMPLE) == Told(
        "booking_new_status_booked",
        Booking(
            reservation_id="123456",
            status=ReservationStatus.CONFIRMED,
            updated_at=NOW,
            event_at=NOW,
            event_id="e1",
            listing_id="10000",
            check_in="2022-05-21",  # midnight means no time: the listing's own counts
            check_out="2022-05-24",
            guest_name="John Doe",
            guest_phone="667675867768",
        ),
        fetch="123456",
    )


def test_an_event_is_known_by_its_bytes() -> None:
    first, second = (sender.event_id(Received(raw, Headers()), {}) for raw in (b"{}", b"{ }"))
    assert first == sender.event_id(Received(b"{}", Headers()), {})
    assert first != second
    assert max(len(first), len(second)) <= 128


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        ("Booked", "confirmed"),
        ("Tentative", "pending"),
        ("Open", "pending"),
        ("Unavailable", "blocked"),
        ("Declined", "cancelled"),
        ("Canceled", "cancelled"),
        ("Cancelled", "cancelled"),
        ("booked", "confirmed"),
        ("DECLINED", "cancelled"),
        ("Overbooked", "pending"),
    ],
)
def test_a_status_decides_whether_there_is_a_pin(status: str, wanted: str) -> None:
    assert booking(event(status=status)).status == wanted


@pytest.mark.parametrize("status", ["Booked", "Tentative", None])
def test_what_is_in_the_trash_is_cancelled(status: str | None) -> None:
    assert booking(event(status=status, is_deleted=True)).status == "cancelled"


@pytest.mark.parametrize(
    ("action", "wanted"),
    [
        ("booking_new_status_booked", "confirmed"),
        ("booking_status_change_booked", "confirmed"),
        ("booking_status_change_tentative", "pending"),
        ("booking_status_change_open", "pending"),
        ("booking_status_change_declined", "cancelled"),
        ("booking_new_any_status", None),
        ("booking_change", None),
    ],
)
@pytest.mark.parametrize("status", [None, "", 7])
def test_without_a_status_the_action_may_name_it(
    action: str, wanted: str | None, status: Any
) -> None:
    assert booking(event(action, status=status)).status == wanted


def test_the_status_of_the_booking_counts_for_more_than_the_name_of_the_action() -> None:
    told = booking(event("booking_new_status_booked", status="Declined"))
    assert told.status == "cancelled"


def test_ids_may_be_numbers_or_texts() -> None:
    for written in (123456, "123456"):
        told_of = told(event(id=written, property_id=str(written)))
        assert told_of.fetch == "123456"
        assert told_of.booking is not None
        assert (told_of.booking.reservation_id, told_of.booking.listing_id) == ("123456",) * 2


@pytest.mark.parametrize("wrong", [None, "", "../users", "12 3", -1, 1.5, True, [], {}, "1" * 21])
def test_a_booking_needs_an_id_that_can_be_read(wrong: Any) -> None:
    assert refused(event(id=wrong)) == ["booking.id"]


@pytest.mark.parametrize("wrong", [None, 7, [], "123456"])
def test_a_booking_must_be_there(wrong: Any) -> None:
    assert refused({"action": "booking_change", "booking": wrong}) == ["booking"]
    assert refused({"action": "booking_change"}) == ["booking"]


@pytest.mark.parametrize("wrong", [None, 7, [], {}])
def test_an_action_must_be_a_text(wrong: Any) -> None:
    assert refused({**EXAMPLE, "action": wrong}) == ["action"]


@pytest.mark.parametrize(
    "body",
    [
        {"action": "rate_change", "property_id": 1000, "room_type_ids": [12345]},
        {
            "action": "availability_change",
            "property_id": 1000,
            "room_type_ids": [1233],
            "start": "2022-06-13T00:00:00",
            "end": "2022-06-14T00:00:00",
            "source": "Manual",
        },
        {"action": "guest_message_received", "inbox_uid": "B12345", "message": "example"},
        {"action": "booking_archived", "booking": []},
        {"action": ""},
    ],
    ids=lambda body: body["action"] or "none",
)
def test_other_actions_tell_of_no_stay(body: dict[str, Any]) -> None:
    assert told(body) == Told(body["action"])


@pytest.mark.parametrize("wrong", [None, 7, [], {}])
def test_what_cannot_be_used_was_not_told(wrong: Any) -> None:
    fields = {"status": wrong, "date_arrival": wrong, "date_departure": wrong}
    found = booking({**event(**fields), "guest": wrong})
    assert found.status is None
    assert found.check_in is None
    assert found.check_out is None
    assert (found.guest_name, found.guest_phone) == (None, None)


def test_name_and_phone_are_cut() -> None:
    found = booking({**event(), "guest": {"name": "N" * 10_000, "phone_number": "1" * 10_000}})
    assert (found.guest_name, found.guest_phone) == ("N" * 200, "1" * 50)


@given(st.dictionaries(st.sampled_from(["action", "booking", "guest"]) | st.text(), JSON), JSON)
def test_reading_junk_refuses_or_tells_and_nothing_else(junk: dict[str, Any], inner: Any) -> None:
    bodies = [junk, {**EXAMPLE, **junk}, {**EXAMPLE, "booking": inner}, event(status=inner)]
    for body in bodies:
        with suppress(Refusal):
            assert isinstance(told(body), Told)
