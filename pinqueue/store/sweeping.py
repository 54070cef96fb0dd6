"""What the sweep asks: operations that no living job rings for, rows that have had their day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Text, and_, func, or_, select, text, update

from pinqueue.db import Session
from pinqueue.lifecycle import OPERATION_OPEN, CodeState, OperationState
from pinqueue.models import AccessCode, Operation, Try, WebhookEvent
from pinqueue.store import rows
from pinqueue.store.access_codes import code_for_update

STRANDED_AFTER = timedelta(seconds=60)
DIED = "its worker died"
LONGEST_RING = timedelta(minutes=5)
"""No ring lasts that long: each of its calls to a lock is bounded, and they are few."""
PIN_REST = timedelta(days=90)
"""How long a PIN that was on a lock is not used there again."""


@dataclass(frozen=True)
class Silent:
    """An open operation that no living job will ring for."""

    operation_id: int
    access_code_id: int
    job_id: int | None
    broke: bool
    """Whether its last job broke down at it, and was not merely lost, taken back or not begun."""
    worker_id: int | None = None
    """The worker that died at it, where one did and is still known."""
    silent_since: datetime | None = None
    """Its last sign of life."""


async def due_without_job(session: Session, patience: timedelta, limit: int) -> list[Silent]:
    """Open operations that should have rung `patience` ago and that no job will ring for."""
    job_status = (
        # A waiting job that is planned for later was put off by a worker whose clock is wrong.
        text(
            "SELECT CASE WHEN status = 'todo' AND scheduled_at > now() + interval '1 minute'"
            " THEN 'put off' ELSE status::text END"
            " FROM procrastinate_jobs WHERE id = operations.job_id"
        )
        .columns(status=Text)
        .scalar_subquery()
        .label("job_status")
    )
    rows = await session.execute(
        select(Operation.id, Operation.access_code_id, Operation.job_id, job_status)
        .where(
            Operation.state.in_(OPERATION_OPEN),
            Operation.next_at <= func.now() - patience,
            or_(
                func.coalesce(job_status, "").not_in(("todo", "doing")),
                # Its worker lives and is done with it, but could not write that down: nobody would
                # ever take that job for stalled.
                and_(
                    job_status == "doing",
                    Operation.state == OperationState.WAITING,
                    Operation.next_at <= func.now() - STRANDED_AFTER,
                ),
                and_(
                    job_status == "doing",
                    Operation.state == OperationState.ACTIVE,
                    Operation.claimed_at <= func.now() - LONGEST_RING,
                ),
            ),
        )
        .order_by(Operation.next_at)
        .limit(limit)
    )
    return [
        Silent(id_, code_id, job_id, status == "failed") for id_, code_id, job_id, status in rows
    ]


async def hold_silent(session: Session, silent: Silent) -> tuple[Operation, AccessCode] | None:
    """Its rows, held; None when somebody has given it another job, or closed it, meanwhile."""
    held = await hold_open(session, silent.operation_id, silent.access_code_id)
    return held if held is not None and held[0].job_id == silent.job_id else None


async def hold_open(
    session: Session, operation_id: int, access_code_id: int
) -> tuple[Operation, AccessCode] | None:
    """An operation and its code, held; None when it is closed."""
    code = await code_for_update(session, access_code_id)
    operation = await session.scalar(
        select(Operation)
        .where(Operation.id == operation_id, Operation.state.in_(OPERATION_OPEN))
        .with_for_update()
    )
    return None if operation is None else (operation, code)


@dataclass(frozen=True)
class Unconfirmed:
    """An open operation that was due a while ago, with what decides whether it is late."""

    operation_id: int
    access_code_id: int
    kind: str
    due_at: datetime
    starts_at: datetime
    late_since: datetime | None
    """What it is known to be late since."""


async def unconfirmed(session: Session, waited: timedelta) -> list[Unconfirmed]:
    """Operations that should have been done so long ago, the longest first.

    Their codes are read one by one: that few operations are both open and due the planner does not
    know, and for a join it would read all codes there are.
    """
    starts_at = (
        select(AccessCode.starts_at)
        .where(AccessCode.id == Operation.access_code_id)
        .scalar_subquery()
    )
    rows = await session.execute(
        select(
            Operation.id,
            Operation.access_code_id,
            Operation.kind,
            Operation.due_at,
            starts_at,
            Operation.late_since,
        )
        .where(Operation.state.in_(OPERATION_OPEN), Operation.due_at <= func.now() - waited)
        .order_by(Operation.due_at)
    )
    return [Unconfirmed(*row) for row in rows]


@dataclass(frozen=True)
class Stalled:
    """A job whose worker has given no sign of life."""

    job_id: int
    worker_id: int | None
    """None where it is forgotten already."""
    silent_since: datetime | None


@dataclass(frozen=True)
class Silence:
    """Which workers are taken for dead by their silence."""

    gone_after: timedelta
    """Where the lock that a worker holds while it lives is held by nobody."""
    dead_after: timedelta
    """Where somebody holds it, and it may be frozen or cut off."""
    living: int
    """The first key of those locks; the second is the worker's id."""


_STALLED = """
    SELECT job.id AS job_id, job.worker_id, worker.last_heartbeat AS silent_since
    FROM procrastinate_jobs job
    LEFT JOIN procrastinate_workers worker ON worker.id = job.worker_id
    WHERE job.status = 'doing' AND job.queue_name IN ('generate_pin', 'revoke_pin')
      AND (worker.id IS NULL OR worker.last_heartbeat < now() - CAST(:dead_after AS interval)
           OR (worker.last_heartbeat < now() - CAST(:gone_after AS interval)
               AND worker.id NOT IN (
                   SELECT objid::bigint FROM pg_locks
                   WHERE locktype = 'advisory' AND granted AND objsubid = 1
                     AND classid::bigint = :living
                     AND database = (
                         SELECT oid FROM pg_database WHERE datname = current_database()))))
"""


async def stalled_jobs(session: Session, silence: Silence) -> list[Stalled]:
    """Jobs whose worker has been silent for too long."""
    return [Stalled(**row) for row in await rows(session, _STALLED, **vars(silence))]


async def end_stalled_job(session: Session, stalled: Stalled, silence: Silence) -> bool:
    """End a stalled job as its operation ended, or as failed where that is still open: so its
    worker, should it live, cannot finish another in its name.

    False when it is no longer stalled, or another sweep has it.
    """
    held = await session.scalar(
        text(_STALLED + " AND job.id = :job_id FOR UPDATE OF job SKIP LOCKED"),
        {**vars(silence), "job_id": stalled.job_id},
    )
    if held is None:
        return False
    # An operation that has another job by now rang no more for this one.
    await session.execute(
        text("""
            SELECT procrastinate_finish_job_v1(:job_id, coalesce((
                SELECT CASE state WHEN 'completed' THEN 'succeeded' WHEN 'cancelled' THEN 'aborted'
                                  ELSE 'failed' END
                FROM operations WHERE job_id = :job_id
            ), 'aborted')::procrastinate_job_status, false)
        """),
        {"job_id": stalled.job_id},
    )
    return True


async def silenced_by(session: Session, stalled: Stalled) -> Silent | None:
    """The open operation that a job rang for which has just been ended.

    It is not to blame where the database was restarted, or a standby took over, meanwhile: a worker
    that lost it then is silent for a while, or begins anew under another id, whatever it was at.
    """
    begun = (
        select(Try)
        .where(
            Try.job_id == stalled.job_id,
            Try.outcome.is_(None),
            Try.started_at > func.pg_postmaster_start_time(),
            # Of a standby that took over: what it had from its primary at last. Else NULL.
            func.coalesce(Try.started_at > func.pg_last_xact_replay_timestamp(), True),
        )
        .exists()
    )
    row = (
        await session.execute(
            select(Operation.id, Operation.access_code_id, begun).where(
                Operation.job_id == stalled.job_id, Operation.state.in_(OPERATION_OPEN)
            )
        )
    ).one_or_none()
    return None if row is None else Silent(row[0], row[1], broke=row[2], **vars(stalled))


async def died_without_it(
    session: Session, operation_id: int, *, lost: int, worker_id: int | None = None
) -> int:
    """How many other workers died, at other operations only, since this one lost the first of those
    that it `lost` in a row; `worker_id` is one more, which is not on record yet."""
    (row,) = await rows(
        session,
        """
        WITH deaths AS (
            SELECT id, operation_id, detail ->> 'worker' AS worker FROM audit_events
            WHERE event IN ('generate:rescued', 'revoke:rescued') AND detail ->> 'reason' = :died
              AND at >= (SELECT min(at) FROM (
                  SELECT at FROM audit_events
                  WHERE reservation_id = (
                      SELECT code.reservation_id
                      FROM operations operation JOIN access_codes code ON code.id = access_code_id
                      WHERE operation.id = :operation_id)
                    AND operation_id = :operation_id
                    AND event IN ('generate:rescued', 'revoke:rescued')
                    AND detail ->> 'reason' = :died
                  ORDER BY id DESC LIMIT :lost) own)
        )
        SELECT count(DISTINCT worker) AS workers FROM deaths
        WHERE worker IS DISTINCT FROM :worker
          AND worker NOT IN (
              SELECT worker FROM deaths WHERE operation_id = :operation_id AND worker IS NOT NULL)
        """,
        operation_id=operation_id,
        lost=lost,
        worker=None if worker_id is None else str(worker_id),
        died=DIED,
    )
    workers: int = row["workers"]
    return workers


async def prune_jobs(session: Session, retention: timedelta, limit: int = 1000) -> int:
    """Delete job rows that ended so long ago, keeping their last state in our own record of them.

    Procrastinate's own pruning goes by the latest event, and a cancelled job's is its planned time:
    a stay cancelled a year ahead would stay for a year. Failed jobs stay until somebody clears
    them.
    """
    ended = await session.scalars(
        text("""
            SELECT job.id FROM procrastinate_events event
            JOIN procrastinate_jobs job ON job.id = event.job_id
            WHERE event.type IN ('succeeded', 'cancelled', 'aborted')
              AND event.at < now() - CAST(:retention AS interval)
              AND job.status IN ('succeeded', 'cancelled', 'aborted')
            ORDER BY event.at LIMIT :limit FOR UPDATE OF job SKIP LOCKED
        """),
        {"retention": retention, "limit": limit},
    )
    pruned = await session.execute(
        text("""
            WITH gone AS (
                DELETE FROM procrastinate_jobs WHERE id = ANY(:ended) RETURNING id, status
            )
            UPDATE job_records SET state = gone.status::text FROM gone WHERE job_id = gone.id
            RETURNING job_id
        """),
        {"ended": list(ended)},
    )
    return len(pruned.all())


async def delete_job(session: Session, job_id: int | None) -> None:
    """Delete a job that failed, keeping its last state in our own record of it."""
    await session.execute(
        text("""
            WITH gone AS (
                DELETE FROM procrastinate_jobs WHERE id = :job_id AND status = 'failed'
                RETURNING id, status
            )
            UPDATE job_records SET state = gone.status::text FROM gone WHERE job_id = gone.id
        """),
        {"job_id": job_id},
    )


async def fold_job_counts(session: Session) -> None:
    """Sum up what the counts of jobs changed by, so that they stay few rows."""
    await session.execute(
        text("""
            WITH folded AS (DELETE FROM job_counts RETURNING queue, status, change)
            INSERT INTO job_counts (queue, status, change)
            SELECT queue, status, sum(change) FROM folded GROUP BY 1, 2 HAVING sum(change) <> 0
        """)
    )


@dataclass(frozen=True)
class LostFetch:
    """An event whose booking is still to be fetched, and which no living job will fetch."""

    event_row: int
    job_id: int | None
    job_status: str | None
    """`failed` when its tries are spent, `doing` when its worker died; None when it is gone."""


async def lost_fetches(session: Session, patience: timedelta, limit: int) -> list[LostFetch]:
    found = await session.execute(
        text("""
            SELECT event.id, event.job_id, job.status::text FROM webhook_events event
            LEFT JOIN procrastinate_jobs job ON job.id = event.job_id
            WHERE event.outcome = 'fetching'
              AND event.received_at < now() - CAST(:patience AS interval)
              AND (job.id IS NULL OR job.status NOT IN ('todo', 'doing')
                   OR (job.status = 'doing' AND NOT EXISTS (
                           SELECT FROM procrastinate_events started
                           WHERE started.job_id = job.id AND started.type = 'started'
                             AND started.at > now() - CAST(:longest AS interval))))
            ORDER BY event.id LIMIT :limit
        """),
        {"patience": patience, "longest": LONGEST_RING, "limit": limit},
    )
    return [LostFetch(*row) for row in found]


async def hold_lost_fetch(session: Session, lost: LostFetch) -> WebhookEvent | None:
    """Its event, held, its dead job deleted; None when another sweep was first."""
    event: WebhookEvent | None = await session.scalar(
        select(WebhookEvent)
        .where(
            WebhookEvent.id == lost.event_row,
            WebhookEvent.outcome == "fetching",
            WebhookEvent.job_id.is_not_distinct_from(lost.job_id),
        )
        .with_for_update(skip_locked=True)
    )
    if event is not None:
        await session.execute(
            text("DELETE FROM procrastinate_jobs WHERE id = :id"), {"id": lost.job_id}
        )
    return event


async def given_up(session: Session, rested: timedelta) -> Sequence[int]:
    """Access codes whose last operation failed so long ago, and which nothing moves on any more:
    to be taken off their door, or to be put there for a stay that is not over."""
    of_this_code = select(Operation).where(Operation.access_code_id == AccessCode.id)
    return (
        await session.scalars(
            select(AccessCode.id).where(
                or_(
                    and_(
                        AccessCode.state == CodeState.REVOKING,
                        ~of_this_code.where(
                            Operation.state.in_(OPERATION_OPEN), Operation.kind == "revoke"
                        ).exists(),
                    ),
                    and_(
                        AccessCode.state == CodeState.FAILED,
                        AccessCode.ends_at > func.now(),
                        ~of_this_code.where(
                            Operation.state.in_(OPERATION_OPEN), Operation.kind == "generate"
                        ).exists(),
                    ),
                ),
                ~of_this_code.where(Operation.finished_at > func.now() - rested).exists(),
            )
        )
    ).all()


async def forget_rested_pins(session: Session) -> int:
    """Let PINs that have been off their lock for 90 days be chosen there again."""
    done = await session.execute(
        update(AccessCode)
        .where(
            AccessCode.pin_fingerprint.is_not(None),
            AccessCode.pin_sealed.is_(None),
            func.coalesce(AccessCode.revoked_at, AccessCode.cancelled_at) < func.now() - PIN_REST,
        )
        .values(pin_fingerprint=None)
        .returning(AccessCode.id)
    )
    return len(done.all())
