"""The deployment's totals: what all its processes ever counted."""

from __future__ import annotations

import json

from sqlalchemy import select, text

from pinqueue.db import Session
from pinqueue.metrics import Series, Values
from pinqueue.models import MetricTotal


async def add(session: Session, growth: Values) -> str:
    """Add what a process counted; returns the id of the transaction that does.

    All processes write the same rows, so all write them in one order: nobody deadlocks.
    """
    rows = [
        {"name": name, "labels": dict(labels), "value": value}
        for (name, labels), value in growth.items()
    ]
    transaction: str = await session.scalar(
        text("""
            INSERT INTO metric_totals (name, labels, value)
            SELECT name, labels, value FROM jsonb_to_recordset(CAST(:rows AS jsonb))
                AS grown (name text, labels jsonb, value float8)
            ORDER BY name, labels
            ON CONFLICT (name, labels) DO UPDATE SET value = metric_totals.value + excluded.value
            RETURNING pg_current_xact_id()::text
        """),
        {"rows": json.dumps(rows)},
    )
    return transaction


async def outcome_of(session: Session, transaction: str) -> str | None:
    """What became of an earlier transaction: `committed`, `aborted` or `in progress`; None when it
    is so long ago that the server no longer knows."""
    outcome: str | None = await session.scalar(
        # The server refuses to tell of one that it has not begun yet, as after a fail-over.
        text("""
            SELECT CASE WHEN id < pg_snapshot_xmax(pg_current_snapshot()) THEN pg_xact_status(id)
                        ELSE 'in progress' END
            FROM CAST(CAST(:id AS text) AS xid8) id
        """),
        {"id": transaction},
    )
    return outcome


async def totals(session: Session) -> dict[Series, float]:
    rows = await session.execute(select(MetricTotal.name, MetricTotal.labels, MetricTotal.value))
    return {(name, tuple(sorted(labels.items()))): value for name, labels, value in rows}
