"""Webhook events: each taken once, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.dialects.postgresql import insert

from pinqueue.db import Session
from pinqueue.models import WebhookEvent
from pinqueue.store import held


async def insert_event(
    session: Session, source_id: str, event_id: str, body_sha256: bytes, kind: str, body: Any
) -> int | None:
    """Its row's id; None when the source sent this event id before.

    The same event arriving twice at once waits here for the first to commit or roll back.
    """
    row_id: int | None = await session.scalar(
        insert(WebhookEvent)
        .values(
            source_id=source_id,
            event_id=event_id,
            body_sha256=body_sha256,
            type=kind,
            body=body,
            outcome="ignored",
        )
        .on_conflict_do_nothing(index_elements=["source_id", "event_id"])
        .returning(WebhookEvent.id)
    )
    return row_id


async def event_body_sha256(session: Session, source_id: str, event_id: str) -> bytes | None:
    digest: bytes | None = await session.scalar(
        select(WebhookEvent.body_sha256).filter_by(source_id=source_id, event_id=event_id)
    )
    return digest


async def event_for_update(session: Session, source_id: str, event_id: str) -> WebhookEvent:
    """An event by the sender's id for it, held against whoever else would change it."""
    found = await session.scalars(
        held(select(WebhookEvent).filter_by(source_id=source_id, event_id=event_id))
    )
    return found.one()


async def set_event_outcome(
    session: Session, event_row: int, outcome: str, reservation_id: str, listing_id: str | None
) -> None:
    await session.execute(
        update(WebhookEvent)
        .where(WebhookEvent.id == event_row)
        .values(outcome=outcome, reservation_id=reservation_id, listing_id=listing_id)
    )


async def unmapped_events(session: Session, listing_id: str) -> Sequence[WebhookEvent]:
    """Events that wait for this listing to be set up, oldest first, held against other readers."""
    return (
        await session.scalars(
            held(
                select(WebhookEvent)
                .where(
                    WebhookEvent.outcome == "unmapped",
                    or_(
                        WebhookEvent.listing_id == listing_id,
                        WebhookEvent.source_id + ":" + WebhookEvent.listing_id == listing_id,
                    ),
                )
                .order_by(WebhookEvent.id)
            )
        )
    ).all()
