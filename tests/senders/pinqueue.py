"""Our own kind of source: its event, as the contract prints it."""

from __future__ import annotations

from itertools import count
from typing import Any

from tests import factories, serving
from tests.senders.stay import Stay

_numbers = count(1)

EXAMPLE: dict[str, Any] = {
    "type": "reservation.created",
    "timestamp": "2026-11-01T10:00:00Z",
    "data": {
        "reservation_id": "res-123",
        "listing_id": "apt-7",
        "status": "confirmed",
        "check_in": "2026-12-24T15:00:00-03:00",
        "check_out": "2026-12-26T10:00:00-03:00",
        "updated_at": "2026-11-01T09:59:58Z",
        "guest": {"name": "Ana", "phone": "+55 11 5550 0100"},
    },
}
CANCELLED: dict[str, Any] = {
    "type": "reservation.cancelled",
    "timestamp": "2026-11-02T10:00:00Z",
    "data": {"reservation_id": "res-123"},
}
"""As little as will do."""


def sign(
    raw: bytes, secret: str = factories.SECRET, *, event_id: str | None = None, **at: Any
) -> dict[str, str]:
    if event_id is None:
        event_id = f"msg_each_{next(_numbers)}"
    return serving.sign(raw, event_id, secret=secret, **at)


def tells(stay: Stay) -> dict[str, Any]:
    """Its times are the listing's clock."""
    return {
        "type": "reservation.cancelled" if stay.cancelled else "reservation.updated",
        "timestamp": stay.at.isoformat(),
        "data": {
            "reservation_id": f"res-{stay.number}",
            "listing_id": stay.listing or EXAMPLE["data"]["listing_id"],
            "status": "cancelled" if stay.cancelled else "confirmed",
            "check_in": f"{stay.arrives}T15:00:00",
            "check_out": f"{stay.leaves}T11:00:00",
            "updated_at": stay.at.isoformat(),
            "guest": {"name": stay.name, "phone": stay.phone},
        },
    }
