"""What was scheduled when, kept after Procrastinate has pruned its job."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from pinqueue.db import Session


async def insert_job_records(session: Session, told: list[dict[str, Any]]) -> None:
    """`told` gives the job's id, operation, queue, task and planned time; the rest is looked up."""
    columns = ("job_id", "operation_id", "queue", "task", "scheduled_at")
    await session.execute(
        text("""
            INSERT INTO job_records
                (job_id, operation_id, queue, task, scheduled_at, next_at, lock_id, listing_id)
            SELECT told.*, told.scheduled_at, code.lock_id, stay.listing_id
            FROM unnest(
                CAST(:job_id AS bigint[]), CAST(:operation_id AS bigint[]), CAST(:queue AS text[]),
                CAST(:task AS text[]), CAST(:scheduled_at AS timestamptz[])
            ) told (job_id, operation_id, queue, task, scheduled_at)
            JOIN operations operation ON operation.id = told.operation_id
            JOIN access_codes code ON code.id = operation.access_code_id
            JOIN reservations stay ON stay.id = code.reservation_id
        """),
        {column: [row[column] for row in told] for column in columns},
    )
