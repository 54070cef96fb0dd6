"""What people ask of the queues: jobs by state, their counts, who works and who holds what.

Every question stays fast with millions of jobs ahead and behind: it walks an index and stops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from pinqueue.db import Session
from pinqueue.store import rows

STATES = ("waiting", "delayed", "active", "completed", "failed", "cancelled")
_BRANCHES = {
    "waiting": ("status = 'todo' AND scheduled_at <= now()",),
    "delayed": ("status = 'todo' AND scheduled_at > now()",),
    "active": ("status = 'doing'",),
    "completed": ("status = 'succeeded'",),
    "failed": ("status = 'failed'",),
    "cancelled": ("status = 'cancelled'", "status = 'aborted'"),
}
"""Procrastinate's words for each state: one index range a branch."""

_STATE = """
    CASE job.status
        WHEN 'todo' THEN CASE WHEN job.scheduled_at > now() THEN 'delayed' ELSE 'waiting' END
        WHEN 'doing' THEN 'active'
        WHEN 'succeeded' THEN 'completed'
        WHEN 'failed' THEN 'failed'
        ELSE 'cancelled'
    END
"""
_JOB = f"""
    SELECT job.id AS job_id, job.queue_name AS queue, {_STATE} AS state,
           operation.id AS operation_id, code.id AS access_code_id, code.reservation_id,
           stay.listing_id, code.lock_id, job.scheduled_at, operation.epoch AS attempts,
           operation.last_error
"""
_RINGS_FOR = """
    JOIN job_records record ON record.job_id = job.id
    JOIN operations operation ON operation.id = record.operation_id
    JOIN access_codes code ON code.id = operation.access_code_id
    JOIN reservations stay ON stay.id = code.reservation_id
"""


@dataclass(frozen=True)
class JobFilter:
    """Which jobs; None and () leave open."""

    queues: Sequence[str] = ()
    state: str | None = None
    lock_id: str | None = None
    listing_id: str | None = None
    reservation_id: str | None = None
    due_from: datetime | None = None
    due_before: datetime | None = None

    @property
    def of_codes(self) -> dict[str, str]:
        """The conditions that only the access code or its stay can answer."""
        asked = {
            "code.lock_id": self.lock_id,
            "stay.listing_id": self.listing_id,
            "code.reservation_id": self.reservation_id,
        }
        return {column: value for column, value in asked.items() if value is not None}


async def jobs(
    session: Session,
    which: JobFilter,
    *,
    newest_first: bool,
    after: tuple[datetime, int] | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Jobs in the order they are due, or the reverse; `after` the last one of the page before."""
    order = "DESC" if newest_first else "ASC"
    query, parameters = _query(which, order, after)
    return await rows(
        session,
        f"{_JOB} FROM {query} ORDER BY job.scheduled_at {order}, job.id {order} LIMIT :limit",
        **parameters,
        limit=limit,
    )


def _query(
    which: JobFilter, order: str, after: tuple[datetime, int] | None
) -> tuple[str, dict[str, Any]]:
    """The FROM clause and its parameters.

    Without conditions on codes, the jobs are cut to the page before anything is joined, so that no
    statistics can mislead the planner into reading a million rows. With them it has to choose.
    """
    conditions, parameters = ["queue_name = ANY(:queues)"], dict[str, Any]()
    parameters["queues"] = list(which.queues)
    if after is not None:
        conditions.append(f"(scheduled_at, id) {'<' if order == 'DESC' else '>'} (:at, :id)")
        parameters |= {"at": after[0], "id": after[1]}
    if which.due_from is not None:
        conditions.append("scheduled_at >= :due_from")
        parameters["due_from"] = which.due_from
    if which.due_before is not None:
        conditions.append("scheduled_at < :due_before")
        parameters["due_before"] = which.due_before
    if not which.of_codes:
        page = " UNION ALL ".join(
            f"(SELECT * FROM procrastinate_jobs WHERE {branch} AND {' AND '.join(conditions)}"  # noqa: S608
            f" ORDER BY scheduled_at {order}, id {order} LIMIT :limit)"
            for branch in _branches(which.state)
        )
        return f"({page}) job {_RINGS_FOR}", parameters
    if which.state is not None:
        conditions.append(f"({' OR '.join(_branches(which.state))})")
    inner = f"(SELECT * FROM procrastinate_jobs WHERE {' AND '.join(conditions)}) job"  # noqa: S608
    asked = []
    for number, (column, value) in enumerate(which.of_codes.items()):
        asked.append(f"{column} = :of{number}")
        parameters[f"of{number}"] = value
    return f"{inner} {_RINGS_FOR} WHERE {' AND '.join(asked)}", parameters


def _branches(state: str | None) -> Iterator[str]:
    for name in [state] if state else STATES:
        yield from _BRANCHES[name]


async def counts(session: Session) -> list[dict[str, Any]]:
    """How many jobs, by queue and state; what is not there is not listed."""
    return await rows(
        session,
        """
        WITH counted AS (
            SELECT queue, status, sum(change)::bigint AS jobs FROM job_counts GROUP BY 1, 2
        ), due AS (
            SELECT queue_name AS queue, count(*) AS jobs FROM procrastinate_jobs
            WHERE status = 'todo' AND scheduled_at <= now() GROUP BY 1
        )
        SELECT queue, 'waiting' AS state, jobs FROM due
        UNION ALL
        SELECT counted.queue, 'delayed', counted.jobs - coalesce(due.jobs, 0)
        FROM counted LEFT JOIN due ON due.queue = counted.queue WHERE status = 'todo'
        UNION ALL
        SELECT queue, CASE status WHEN 'doing' THEN 'active' WHEN 'succeeded' THEN 'completed'
                                  WHEN 'failed' THEN 'failed' ELSE 'cancelled' END,
               sum(jobs)::bigint
        FROM counted WHERE status <> 'todo' GROUP BY 1, 2
        """,
    )


async def latest_operations(
    session: Session, reservation_id: str, kind: str
) -> list[dict[str, Any]]:
    """For each lock the stay has or had a code on, its last operation of that kind, with its
    state in the words of jobs."""
    return await rows(
        session,
        """
        SELECT DISTINCT ON (code.lock_id)
               operation.job_id,
               CASE WHEN operation.state = 'waiting' AND operation.next_at > now() THEN 'delayed'
                    ELSE operation.state END AS state,
               operation.id AS operation_id, code.id AS access_code_id, code.reservation_id,
               code.lock_id, operation.next_at AS scheduled_at, operation.epoch AS attempts,
               operation.last_error,
               CASE WHEN operation.state = 'waiting'
                    THEN greatest(extract(epoch FROM operation.next_at - now()), 0)
                    ELSE 0 END::float8 AS due_in_seconds
        FROM access_codes code
        JOIN operations operation ON operation.access_code_id = code.id
        WHERE code.reservation_id = :reservation_id AND operation.kind = :kind
        ORDER BY code.lock_id, code.id DESC, operation.id DESC
        """,
        reservation_id=reservation_id,
        kind=kind,
    )


async def job(session: Session, job_id: int) -> dict[str, Any] | None:
    """One job with what it rings for; None when there is none, or it was pruned."""
    found = await rows(
        session,
        f"{_JOB} FROM procrastinate_jobs job {_RINGS_FOR} WHERE job.id = :job_id",
        job_id=job_id,
    )
    return found[0] if found else None


async def delete_failed(session: Session, queue: str) -> int:
    """Delete a queue's failed jobs; returns how many. Our own record of each keeps its last state,
    and the operations stay as they are."""
    return await _delete_failed(
        session,
        "SELECT id FROM procrastinate_jobs WHERE status = 'failed' AND queue_name = :queue",
        queue=queue,
    )


async def delete_failed_of(session: Session, access_code_id: int, kind: str) -> int:
    """The same for what failed of one access code."""
    return await _delete_failed(
        session,
        "SELECT record.job_id FROM operations operation"
        " JOIN job_records record ON record.operation_id = operation.id"
        " WHERE operation.access_code_id = :access_code_id AND operation.kind = :kind",
        access_code_id=access_code_id,
        kind=kind,
    )


async def _delete_failed(session: Session, which: str, **parameters: Any) -> int:
    gone = await session.execute(
        text(f"""
            WITH gone AS (
                DELETE FROM procrastinate_jobs WHERE status = 'failed' AND id IN ({which})
                RETURNING id
            )
            UPDATE job_records SET state = 'failed' FROM gone WHERE job_id = gone.id
            RETURNING job_id
        """),  # noqa: S608  # of our own text
        parameters,
    )
    return len(gone.all())


async def workers(session: Session) -> list[dict[str, Any]]:
    """The workers known, with the age of their last sign of life in seconds."""
    return await rows(
        session,
        """
        SELECT worker.id AS worker,
               extract(epoch FROM now() - worker.last_heartbeat)::float8 AS heartbeat_age_seconds,
               (SELECT count(*) FROM procrastinate_jobs job
                WHERE job.worker_id = worker.id AND job.status = 'doing') AS active_jobs
        FROM procrastinate_workers worker ORDER BY worker.id
        """,
    )


async def held_locks(session: Session, namespace: int) -> list[dict[str, Any]]:
    """Who holds the advisory lock of which access code, and for how many seconds."""
    return await rows(
        session,
        """
        SELECT held.objid::bigint AS access_code_id, code.reservation_id, code.lock_id,
               operation.id AS operation_id, operation.kind,
               holder.application_name AS holder, holder.pid,
               host(holder.client_addr) AS client,
               extract(epoch FROM now() - operation.claimed_at)::float8 AS held_seconds
        FROM pg_locks held
        JOIN pg_stat_activity holder ON holder.pid = held.pid
        LEFT JOIN access_codes code ON code.id = held.objid::bigint
        LEFT JOIN operations operation
            ON operation.access_code_id = code.id AND operation.state = 'active'
        WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1
          AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND held.classid::bigint = :high
        ORDER BY operation.claimed_at, held.objid
        """,
        high=namespace >> 32,
    )


async def overdue(session: Session) -> dict[str, Any]:
    """`oldest_overdue_seconds`, 0 when nothing due waits, and `overdue_pins`, which must be 0."""
    (row,) = await rows(
        session,
        """
        SELECT coalesce(extract(epoch FROM now() - (
                   SELECT min(next_at) FROM operations
                   WHERE state IN ('waiting', 'active') AND next_at <= now()
               )), 0)::float8 AS oldest_overdue_seconds,
               (SELECT count(*) FROM audit_overdue_pins) AS overdue_pins
        """,
    )
    return row
