"""What people ask of the queues: jobs by state, their counts, who works and who holds what.

Every question stays fast with millions of jobs ahead and behind: it walks an index and stops.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from pinqueue.db import Session
from pinqueue.store import rows

STATES = ("waiting", "delayed", "active", "completed", "failed", "cancelled")
RETRYABLE = "retryable"
"""A failed job of which something is left to do: `codes.retry` begins it again."""
_RANGES = {
    "waiting": ("job.status = 'todo' AND {at} <= now()",),
    "delayed": ("job.status = 'todo' AND {at} > now()",),
    "active": ("job.status = 'doing'",),
    "completed": ("job.status = 'succeeded' AND {at} <= now()",),
    "failed": ("job.status = 'failed'",),
    "cancelled": ("job.status = 'cancelled'", "job.status = 'aborted'"),
    RETRYABLE: (
        """job.status = 'failed' AND EXISTS (
            SELECT FROM job_records mine
            JOIN operations operation ON operation.id = mine.operation_id
            JOIN access_codes code ON code.id = operation.access_code_id
            WHERE mine.job_id = job.id AND (
                (operation.kind = 'generate' AND code.state = 'failed' AND code.ends_at > now())
                OR (operation.kind = 'revoke' AND code.state = 'revoking')
                OR EXISTS (SELECT FROM operations other
                           WHERE other.access_code_id = code.id AND other.kind = operation.kind
                             AND other.state IN ('waiting', 'active'))))""",
    ),
}
"""Procrastinate's words for each state: one index range each. Nothing is completed before its time,
and saying so spares a walk past all that is ahead."""
_SELDOM = ("waiting", "active", "failed", "cancelled", RETRYABLE)
_FEW = 10_000
"""Jobs that are looked up one by one rather than found among all of their owner's: an owner may
have ten times as many, and to have walked past them cost ten times as long."""
_AT_A_TIME = 1000
"""Jobs that one statement deletes: a web process gives no statement more than a second or so."""

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
    def owners(self) -> dict[str, str]:
        """The conditions on what a job rings for."""
        asked = {
            "record.lock_id = :lock_id": self.lock_id,
            "record.listing_id = :listing_id": self.listing_id,
            _OF_STAY: self.reservation_id,
        }
        return {condition: value for condition, value in asked.items() if value is not None}


_OF_STAY = """
    record.operation_id IN (
        SELECT operation.id FROM access_codes code
        JOIN operations operation ON operation.access_code_id = code.id
        WHERE code.reservation_id = :reservation_id)
"""


async def jobs(
    session: Session,
    which: JobFilter,
    *,
    newest_first: bool,
    after: tuple[datetime, int] | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Jobs in the order they are due, or the reverse; `after` the last one of the page before.

    The page is cut before anything else is joined, from an index that has it in order.
    """
    direction = "DESC" if newest_first else "ASC"
    page, parameters = await _chosen(session, which, direction, after)
    return await rows(
        session,
        f"{_JOB} FROM ({page}) job {_RINGS_FOR}"
        f" ORDER BY job.scheduled_at {direction}, job.id {direction}",
        **parameters,
        limit=limit,
    )


async def count(session: Session, which: JobFilter) -> int:
    """How many jobs a list of them would have."""
    chosen, parameters = await _chosen(session, which, "ASC", None)
    (row,) = await rows(
        session,
        f"SELECT count(*) AS jobs FROM ({chosen}) job",  # noqa: S608  # our own text
        **parameters,
        limit=None,
    )
    counted: int = row["jobs"]
    return counted


async def _chosen(
    session: Session, which: JobFilter, direction: str, after: tuple[datetime, int] | None
) -> tuple[str, dict[str, Any]]:
    """The query for the rows of these jobs, and its parameters but for `limit`."""
    # A plan made once for all of them would take a lock with five jobs for one with a million.
    await session.execute(text("SET LOCAL plan_cache_mode = force_custom_plan"))
    parameters = _parameters(which, after)
    if which.owners and which.state in _SELDOM:
        found = await rows(
            session, _ids(which, direction, parameters), **parameters, limit=_FEW + 1
        )
        if len(found) <= _FEW:
            parameters["few"] = [row["id"] for row in found]
    page = _page_of_owner if which.owners else _page
    return page(which, direction, parameters), parameters


def _parameters(which: JobFilter, after: tuple[datetime, int] | None) -> dict[str, Any]:
    values = {key: value for key, value in vars(which).items() if value is not None}
    queues = values.pop("queues")
    values.pop("state", None)
    if after is not None:
        values |= {"at": after[0], "id": after[1]}
    return values | {f"queue{number}": queue for number, queue in enumerate(queues)}


def _ids(which: JobFilter, direction: str, asked: Collection[str]) -> str:
    """Of the jobs of a page what an index tells by itself, of those that have rested a while."""
    return _page(which, direction, asked, columns="id, scheduled_at")


def _page(which: JobFilter, direction: str, asked: Collection[str], *, columns: str = "*") -> str:
    """Jobs whosever they are: of each queue and status, one range of an index."""
    order = f"ORDER BY scheduled_at {direction}, id {direction} LIMIT :limit"
    due = _due("job.scheduled_at", "job.id", direction, asked)
    ranges = (
        f"(SELECT {columns} FROM procrastinate_jobs job"  # noqa: S608  # our own text
        f" WHERE job.queue_name = :queue{number} AND {range_}{due} {order})"
        for number in range(len(which.queues))
        for range_ in _ranges(which.state, "job.scheduled_at")
    )
    return f"SELECT * FROM ({' UNION ALL '.join(ranges)}) job {order}"  # noqa: S608  # our own text


def _page_of_owner(which: JobFilter, direction: str, asked: Collection[str]) -> str:
    """The jobs of a lock, a listing or a stay: our record of a job says when it rings, too."""
    queues = ", ".join(f":queue{number}" for number in range(len(which.queues)))
    conditions = ["record.state IS NULL", f"job.queue_name IN ({queues})", *which.owners]
    if which.state is not None:
        conditions.append(f"({' OR '.join(_ranges(which.state, 'record.next_at'))})")
    if "few" in asked:
        conditions.append("record.job_id = ANY(:few)")
    due = _due("record.next_at", "record.job_id", direction, asked)
    return (
        f"SELECT job.* FROM job_records record"  # noqa: S608  # our own text
        f" JOIN procrastinate_jobs job ON job.id = record.job_id"
        f" WHERE {' AND '.join(conditions)}{due}"
        f" ORDER BY record.next_at {direction}, record.job_id {direction} LIMIT :limit"
    )


def _ranges(state: str | None, at: str) -> list[str]:
    return [one.format(at=at) for name in ([state] if state else STATES) for one in _RANGES[name]]


def _due(at: str, job_id: str, direction: str, asked: Collection[str]) -> str:
    """The conditions on when a job rings, of those that are asked for."""
    further = "<" if direction == "DESC" else ">"
    conditions = {
        "due_from": f" AND {at} >= :due_from",
        "due_before": f" AND {at} < :due_before",
        "at": f" AND ({at}, {job_id}) {further} (:at, :id)",
    }
    return "".join(condition for name, condition in conditions.items() if name in asked)


async def counts(session: Session) -> list[dict[str, Any]]:
    """How many jobs, by queue and state; what is not there is not listed."""
    return await rows(
        session,
        """
        WITH counted AS (
            SELECT queue, status, sum(change)::bigint AS jobs FROM job_counts GROUP BY 1, 2
        ), due AS (
            SELECT queue_name AS queue, count(*) AS jobs FROM procrastinate_jobs
            WHERE queue_name IN (SELECT queue FROM counted)
              AND status = 'todo' AND scheduled_at <= now() GROUP BY 1
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
    and the operations stay as they are. One that is being retried is left to who does that."""
    deleted = 0
    while gone := await _delete_failed(
        session,
        "SELECT id FROM procrastinate_jobs WHERE status = 'failed' AND queue_name = :queue"
        " LIMIT :limit FOR UPDATE SKIP LOCKED",
        queue=queue,
        limit=_AT_A_TIME,
    ):
        deleted += gone
    return deleted


async def delete_failed_of(session: Session, access_code_ids: Sequence[int], kind: str) -> int:
    """The same for what failed of these access codes."""
    return await _delete_failed(
        session,
        "SELECT record.job_id FROM operations operation"
        " JOIN job_records record ON record.operation_id = operation.id"
        " WHERE operation.access_code_id = ANY(:access_code_ids) AND operation.kind = :kind",
        access_code_ids=access_code_ids,
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
    """`oldest_overdue_seconds`, 0 when nothing due waits, `late_operations`, which threaten their
    deadline, `failed_pins` of stays that last, `doubted_locks` at which something was wrong when
    they were last looked at, `doubted_sources` whose bookings could not be read or believed, and
    `overdue_pins`, which must be 0."""
    (row,) = await rows(
        session,
        """
        SELECT coalesce(extract(epoch FROM now() - (
                   SELECT min(next_at) FROM operations
                   WHERE state IN ('waiting', 'active') AND next_at <= now()
               )), 0)::float8 AS oldest_overdue_seconds,
               (SELECT count(*) FROM operations
                WHERE state IN ('waiting', 'active') AND due_at <= now()
                  AND late_since IS NOT NULL) AS late_operations,
               (SELECT count(*) FROM access_codes
                WHERE state = 'failed' AND ends_at > now()) AS failed_pins,
               (SELECT count(*) FROM locks WHERE patrol_fault IS NOT NULL) AS doubted_locks,
               (SELECT count(*) FROM sources
                WHERE enabled AND coalesce(api_error, list_fault) IS NOT NULL) AS doubted_sources,
               (SELECT count(*) FROM audit_overdue_pins) AS overdue_pins
        """,
    )
    return row
