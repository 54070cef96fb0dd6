"""Events on their way to endpoints: written with what they tell of, claimed, ended, swept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Text, and_, any_, func, insert, literal, select, text, update
from sqlalchemy.dialects.postgresql import JSONB

from pinqueue.db import Session
from pinqueue.errors import StateChanged
from pinqueue.lifecycle import DeliveryState, EventType
from pinqueue.models import Delivery, Endpoint, Reservation
from pinqueue.store import rows

_WAITING = Delivery.state == DeliveryState.WAITING


def _wants(event: EventType) -> ColumnElement[bool]:
    return and_(Endpoint.enabled, literal(event, Text) == any_(Endpoint.events))


class Asked(NamedTuple):
    """What has to be known before a stay's event is told."""

    now: datetime
    listing_id: str | None
    wanted: bool
    """Whether any endpoint wants events of that type."""


async def asked(session: Session, reservation_id: str, event: EventType) -> Asked:
    wanted = select(Endpoint.id).where(_wants(event)).exists()
    row = await session.execute(
        select(func.now(), Reservation.listing_id, wanted).where(Reservation.id == reservation_id)
    )
    return Asked(*row.one())


async def insert_deliveries(
    session: Session, event_id: str, event: EventType, body: dict[str, Any]
) -> Sequence[Delivery]:
    """One for each enabled endpoint that wants the type.

    The endpoints are held: one that is removed at this moment cannot take what is told of down
    with it.
    """
    wanting = (
        select(Endpoint.id, literal(event_id, Text), literal(event, Text), literal(body, JSONB))
        .where(_wants(event))
        .order_by(Endpoint.id)
        .with_for_update(read=True, key_share=True)
    )
    made = await session.scalars(
        insert(Delivery)
        .from_select(["endpoint_id", "event_id", "type", "body"], wanting)
        .returning(Delivery)
    )
    return made.all()


@dataclass(frozen=True)
class Claimed:
    """A delivery as it was when a worker claimed it, and where it goes."""

    delivery: Delivery
    attempt: int
    endpoint: Endpoint
    now: datetime


async def claim(session: Session, delivery_id: int) -> Claimed | None:
    """Count a try of a delivery; None when it has ended, or is not due."""
    row = (
        await session.execute(
            select(Delivery, Endpoint, func.now())
            .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
            .where(Delivery.id == delivery_id, _WAITING, Delivery.next_at <= func.now())
            .with_for_update(of=Delivery)
        )
    ).one_or_none()
    if row is None:
        return None
    delivery, endpoint, now = row
    delivery.attempts += 1
    await session.flush()
    return Claimed(delivery, delivery.attempts, endpoint, now)


async def end(session: Session, claim: Claimed, state: DeliveryState, **values: Any) -> None:
    """waiting → delivered or failed; StateChanged unless the claim is still ours."""
    await _write(session, claim, state=state, finished_at=func.now(), **values)


async def postpone(session: Session, claim: Claimed, next_at: datetime, **values: Any) -> None:
    """It is posted again at `next_at`; StateChanged unless the claim is still ours."""
    await _write(session, claim, next_at=next_at, **values)


async def _write(session: Session, claim: Claimed, **values: Any) -> None:
    done = await session.execute(
        update(Delivery)
        .where(Delivery.id == claim.delivery.id, _WAITING, Delivery.attempts == claim.attempt)
        .values(**values)
        .returning(Delivery.id)
    )
    if done.one_or_none() is None:
        raise StateChanged(f"delivery {claim.delivery.id} is no longer as read")


async def disable(session: Session, endpoint_id: str, reason: str) -> bool:
    """False when it is disabled already, or removed."""
    done = await session.execute(
        update(Endpoint)
        .where(Endpoint.id == endpoint_id, Endpoint.enabled)
        .values(enabled=False, disabled_at=func.now(), disabled_reason=reason)
        .returning(Endpoint.id)
    )
    return done.one_or_none() is not None


# What people ask


async def listed(
    session: Session, endpoint_id: str, *, state: str | None, before: int | None, limit: int
) -> list[dict[str, Any]]:
    """An endpoint's deliveries, the newest first; those `before` one of them."""
    return await rows(
        session,
        f"{_TOLD} WHERE endpoint_id = :endpoint_id"
        " AND (CAST(:state AS text) IS NULL OR state = :state)"
        " AND (CAST(:before AS bigint) IS NULL OR id < :before)"
        " ORDER BY id DESC LIMIT :limit",
        endpoint_id=endpoint_id,
        state=state,
        before=before,
        limit=limit,
    )


async def told(session: Session, delivery_id: int) -> dict[str, Any]:
    """One of them, as it is listed."""
    (row,) = await rows(session, f"{_TOLD} WHERE id = :id", id=delivery_id)
    return row


_TOLD = """
    SELECT id AS delivery, endpoint_id AS endpoint, event_id, type,
           body #>> '{data,reservation_id}' AS reservation_id,
           state, attempts, last_status, last_error, created_at,
           CASE WHEN state = 'waiting' THEN next_at END AS next_at, finished_at
    FROM deliveries
"""


async def hold(session: Session, delivery_id: int) -> tuple[Delivery, Endpoint] | None:
    """A delivery, held, and where it goes; None when there is none, or it was pruned."""
    row = await session.execute(
        select(Delivery, Endpoint)
        .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
        .where(Delivery.id == delivery_id)
        .with_for_update(of=Delivery)
    )
    found = row.one_or_none()
    return None if found is None else (found[0], found[1])


# What the sweep asks

_SILENT = text("""
    NOT EXISTS (
        SELECT FROM procrastinate_jobs job WHERE job.id = deliveries.job_id AND (
            (job.status = 'todo' AND job.scheduled_at <= now() + interval '1 minute')
            OR (job.status = 'doing' AND EXISTS (
                SELECT FROM procrastinate_events event
                WHERE event.job_id = job.id AND event.type = 'started'
                  AND event.at > now() - interval '1 minute'
            ))
        )
    )
""")
"""A try takes seconds: a job that has run for a minute has lost its worker."""


async def due_without_job(session: Session, patience: timedelta, limit: int) -> Sequence[int]:
    """Deliveries that should have been posted `patience` ago and that no job rings for."""
    return (
        await session.scalars(
            select(Delivery.id)
            .where(_WAITING, Delivery.next_at <= func.now() - patience, _SILENT)
            .order_by(Delivery.next_at)
            .limit(limit)
        )
    ).all()


async def hold_silent(session: Session, delivery_id: int) -> Delivery | None:
    """The delivery, held, its dead job deleted; None when it has ended, or a job rings again."""
    delivery: Delivery | None = await session.scalar(
        select(Delivery)
        .where(Delivery.id == delivery_id, _WAITING, _SILENT)
        .with_for_update(skip_locked=True)
    )
    if delivery is not None:
        await session.execute(
            text("DELETE FROM procrastinate_jobs WHERE id = :id"), {"id": delivery.job_id}
        )
    return delivery


async def prune(session: Session, retention: timedelta, limit: int = 1000) -> int:
    """Delete deliveries that ended so long ago, with what is left of their jobs."""
    pruned = await session.execute(
        text("""
            WITH gone AS (
                DELETE FROM deliveries WHERE id IN (
                    SELECT id FROM deliveries
                    WHERE finished_at < now() - CAST(:retention AS interval)
                    ORDER BY finished_at LIMIT :limit FOR UPDATE SKIP LOCKED
                )
                RETURNING id, job_id
            ), jobs AS (
                DELETE FROM procrastinate_jobs USING gone WHERE procrastinate_jobs.id = gone.job_id
            )
            SELECT id FROM gone
        """),
        {"retention": retention, "limit": limit},
    )
    return len(pruned.all())
