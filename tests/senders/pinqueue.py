"""Our own kind of source: its event, as the contract prints it."""

from __future__ import annotations

from typing import Any

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
