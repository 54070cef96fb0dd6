"""The world a test needs, made the way a person would make it, the unimportant filled in."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from standardwebhooks import Webhook

from pinqueue import inventory, reservations, store
from pinqueue.db import Database
from pinqueue.lifecycle import ReservationStatus
from pinqueue.models import AccessCode, Operation
from pinqueue.reservations import Booking, Planner
from pinqueue.sealing import Sealer
from pinqueue.store import listings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
_numbers = count(1)


async def add_listing(
    db: Database,
    listing: str = "apt-7",
    locks: dict[str, str] | None = None,
    *,
    time_zone: str = "America/Sao_Paulo",
    lead: timedelta | None = None,
) -> None:
    """A listing with locks: `{device id of the simulator: protocol}`."""
    locks = {"sim-zigbee-1": "zigbee"} if locks is None else locks
    async with db.transaction() as session:
        for device, protocol in locks.items():
            if await listings.lock_of_device(session, device) is None:
                await inventory.add_lock(session, "test", device, device, protocol)
        await session.flush()
        await inventory.add_listing(session, "test", listing, time_zone, list(locks), lead)


async def add_source(
    db: Database, seal: Sealer, source: str = "main", secret: str = SECRET
) -> None:
    async with db.transaction() as session:
        await inventory.add_source(session, seal, "test", source, "pinqueue", secret)


async def add_endpoint(
    db: Database,
    seal: Sealer,
    url: str,
    *,
    name: str = "desk",
    events: tuple[str, ...] = (),
    with_pin: bool = False,
) -> None:
    async with db.transaction() as session:
        await inventory.add_endpoint(
            session,
            seal,
            "test",
            name,
            url,
            events=events,
            secret=SECRET,
            with_pin=with_pin,
        )


def booking(reservation_id: str = "res-1", **changes: Any) -> Booking:
    """A confirmed stay from tomorrow for two days, told now."""
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "reservation_id": reservation_id,
        "status": ReservationStatus.CONFIRMED,
        "updated_at": now,
        "event_at": now,
        "event_id": f"msg_{next(_numbers)}",
        "listing_id": "apt-7",
        "check_in": (now + timedelta(days=1)).isoformat(),
        "check_out": (now + timedelta(days=3)).isoformat(),
        "guest_name": "Ana",
    }
    return Booking(**{**values, **changes})


async def receive(db: Database, planner: Planner, told: Booking, source: str | None = None) -> str:
    async with db.transaction() as session:
        now = await store.now(session)
        return await reservations.receive(session, planner, source, told, now)


def event(
    reservation_id: str = "res-1", kind: str = "reservation.created", **data: Any
) -> dict[str, Any]:
    """The body of our own webhook shape."""
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "reservation_id": reservation_id,
        "listing_id": "apt-7",
        "status": "confirmed",
        "check_in": (now + timedelta(days=1)).isoformat(),
        "check_out": (now + timedelta(days=3)).isoformat(),
        "updated_at": now.isoformat(),
        "guest": {"name": "Ana", "phone": "+55 11 5550 0100"},
    }
    return {"type": kind, "timestamp": now.isoformat(), "data": {**values, **data}}


def signed(
    body: dict[str, Any] | bytes,
    *,
    event_id: str | None = None,
    secret: str = SECRET,
    at: datetime | None = None,
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a webhook as a sender posts it."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    event_id = event_id or f"msg_{next(_numbers)}"
    at = at or datetime.now(UTC)
    return raw, {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(event_id, at, raw.decode("utf-8", "replace")),
    }


async def codes(db: Database, reservation_id: str = "res-1") -> list[AccessCode]:
    """A stay's access codes, ended ones too, oldest first."""
    from sqlalchemy import select

    async with db.transaction() as session:
        found = await session.scalars(
            select(AccessCode).filter_by(reservation_id=reservation_id).order_by(AccessCode.id)
        )
        return list(found)


async def operations(db: Database, code: AccessCode) -> list[Operation]:
    from sqlalchemy import select

    async with db.transaction() as session:
        found = await session.scalars(
            select(Operation).filter_by(access_code_id=code.id).order_by(Operation.id)
        )
        return list(found)


async def rows(db: Database, query: str, **parameters: Any) -> list[dict[str, Any]]:
    async with db.transaction() as session:
        return await store.rows(session, query, **parameters)


async def value(db: Database, query: str, **parameters: Any) -> Any:
    """The one value that a question has for an answer."""
    (row,) = await rows(db, query, **parameters)
    (only,) = row.values()
    return only
