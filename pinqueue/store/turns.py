"""Turns at a lock cloud, whose rate all processes share."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import text

from pinqueue.db import Session

LONGEST_QUEUE = timedelta(minutes=5)
"""At a lock cloud. Longer none is, as long as the clock goes on."""


async def take_turns(session: Session, project: str, calls: int, gap: float) -> float:
    """Take so many turns at a lock cloud, each so many seconds after the one before, whoever took
    that; returns the seconds until the first. A clock that was set back stops nobody for long."""
    wait: float = await session.scalar(
        text("""
            INSERT INTO paces AS pace (project, next_at)
            VALUES (:project, clock_timestamp() + CAST(:taken AS interval))
            ON CONFLICT (project) DO UPDATE
            SET next_at = CAST(:taken AS interval) + CASE
                WHEN pace.next_at - clock_timestamp() BETWEEN interval '0' AND :most
                THEN pace.next_at ELSE clock_timestamp() END
            RETURNING extract(epoch FROM next_at - CAST(:taken AS interval) - clock_timestamp())
        """),
        {"project": project, "taken": timedelta(seconds=calls * gap), "most": LONGEST_QUEUE},
    )
    return float(wait)
