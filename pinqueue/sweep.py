"""The sweep: finds what no job will ring for any more, and puts it right.

It reads our own rows, so that whatever becomes of a job row costs at most a minute, never a guest.
"""

from __future__ import annotations

from datetime import timedelta

from pinqueue import jobs, logs, store
from pinqueue.db import Database, Session
from pinqueue.errors import StateChanged
from pinqueue.lifecycle import CodeState, OperationKind
from pinqueue.models import Operation

log = logs.get(__name__)

ACTOR = "sweep"
EVERY = timedelta(seconds=15)
DEAD_AFTER = timedelta(seconds=20)
"""A worker whose heartbeat (every 5 s) is older than this is taken for dead. Should it live after
all, its epoch is spent: it can record nothing."""
PATIENCE = timedelta(seconds=5)
MOST_RESCUES = 3
BATCH = 100


async def sweep(db: Database, retention: timedelta) -> None:
    """One round. Rows another sweep holds are left to it."""
    await rescue_stalled(db)
    await defer_jobless(db)
    async with db.transaction() as session:
        await store.prune_jobs(session, retention)
        await store.forget_rested_pins(session)


async def rescue_stalled(db: Database) -> int:
    """Take jobs from dead workers; returns how many. Each in a transaction of its own, so that one
    that cannot be rescued holds up no other."""
    async with db.transaction() as session:
        stalled = await store.stalled_jobs(session, DEAD_AFTER)
    for job_id in stalled:
        async with db.transaction() as session:
            if await store.fail_stalled_job(session, job_id, DEAD_AFTER):
                await _ring_again(session, job_id)
    return len(stalled)


async def defer_jobless(db: Database) -> int:
    """Give a job to every operation that should have rung and has none; returns how many."""
    async with db.transaction() as session:
        found = await store.due_without_job(session, PATIENCE, BATCH)
        for operation, broke in found:
            await _revive(session, operation, counts=broke, why="its job was lost")
    return len(found)


async def _ring_again(session: Session, job_id: int) -> None:
    operation = await store.open_operation_of_job(session, job_id)
    if operation is not None:
        await _revive(session, operation, counts=True, why="its worker died")


async def _revive(session: Session, operation: Operation, *, counts: bool, why: str) -> None:
    """Defer another job, unless this operation has broken too many workers: then a person looks."""
    code = await store.code_for_update(session, operation.access_code_id)
    operation.rescues += 1 if counts else 0
    if operation.rescues > MOST_RESCUES:
        reason = f"quarantined: {why} {operation.rescues} times"
        try:
            await store.fail_operation(session, operation, reason)
            if operation.kind == OperationKind.GENERATE:
                await store.move_code(
                    session, code, CodeState.FAILED, failed_at=operation.finished_at
                )
        except StateChanged as changed:
            log.info("quarantine-overtaken", operation_id=operation.id, reason=str(changed))
            return
        event = f"{operation.kind}:quarantined"
    else:
        reason, event = why, f"{operation.kind}:rescued"
        operation.next_at = await store.now(session)
        await session.flush()
        await jobs.put(session, [operation])
    log.warning(event.replace(":", "-"), operation_id=operation.id, reason=reason)
    await store.record(session, ACTOR, event, code=code, operation_id=operation.id, reason=reason)
