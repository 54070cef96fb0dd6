"""Whether PINs will be on time: what the database says of workers and of what is overdue."""

from __future__ import annotations

from typing import Any

from pinqueue import store
from pinqueue.db import Session

LATE = 120
"""Seconds. A due operation that old means that nobody is working: sound the alarm."""


async def report(session: Session) -> dict[str, Any]:
    """`healthy`: a worker lives and every due operation is taken up in time; and the figures."""
    (row,) = await store.rows(
        session,
        """
        SELECT (SELECT count(*) FROM procrastinate_workers
                WHERE last_heartbeat > now() - interval '30 s') AS workers,
               (SELECT count(*) FROM operations
                WHERE state IN ('waiting', 'active') AND next_at > now()) AS operations_ahead,
               count(*) AS operations_due,
               coalesce(extract(epoch FROM now() - min(next_at)), 0)::float8
                   AS oldest_overdue_seconds,
               (SELECT count(*) FROM audit_overdue_pins) AS overdue_pins
        FROM operations WHERE state IN ('waiting', 'active') AND next_at <= now()
        """,
    )
    healthy = row["oldest_overdue_seconds"] <= LATE and row["workers"] > 0
    return {"healthy": healthy, "database": "ok", **row}
