"""One try of an operation: claimed for one worker, and recorded however it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

from pinqueue import codes, logs, outcomes, store
from pinqueue.db import Session
from pinqueue.errors import (
    DatabaseUnavailable,
    InDoubt,
    LockBusy,
    LockError,
    LockFull,
    LockRefused,
    LockUnreachable,
    PinRejected,
    StateChanged,
    TryLater,
)
from pinqueue.lifecycle import CodeState, EventType, OperationKind
from pinqueue.models import AccessCode, Operation
from pinqueue.operations import ACTOR, Ring, Workbench
from pinqueue.patience import within
from pinqueue.schedule import LONGEST_GAP, next_look, next_retry
from pinqueue.store import access_codes, claiming, operations, sweeping
from pinqueue.store.claims import Due

log = logs.get(__name__)

MUTEX_WAIT = timedelta(seconds=2)
SUSPECT_FROM, ALONE_FROM = 2, 10
"""Rescues. One death says little; who was there when a second worker died is tried alone, unless as
many died without it. After so many it is whoever else dies: two that kill speak for each other."""
FORGET_WITHIN = 2.0
"""Seconds of the fifteen that a worker has to stop."""
SUSPECT_WAIT = timedelta(seconds=1)
BUSY_WAIT = timedelta(seconds=2)
CLOUD_GAP = timedelta(minutes=1)
"""At most, before a cloud that is away is asked again: that costs no lock any battery, and when it
is back all doors wait for it."""


@asynccontextmanager
async def claimed(
    bench: Workbench, operation_id: int, job_id: int | None
) -> AsyncIterator[Ring | None]:
    """The operation, claimed for the block; None when there is nothing (more) to do.

    However the block ends is recorded, unless the claim was lost meanwhile.
    """
    async with _alone(bench, operation_id) as operation:
        ring = await _claim(bench, operation, job_id) if operation else None
        if ring is None:
            yield None
            return
        try:
            yield ring
        except StateChanged as overtaken:
            await _end_try(bench, ring, "overtaken", str(overtaken))
            _tell_end(bench, ring, "overtaken", reason=str(overtaken))
        except asyncio.CancelledError:  # this worker stops: another may have it at once
            with suppress(DatabaseUnavailable, TimeoutError):
                await within(FORGET_WITHIN, _forget_intent(bench, ring))
            raise
        except (TryLater, LockError) as error:
            await _record_not_done(bench, ring, error)
        else:
            _tell_end(bench, ring, "completed")


@asynccontextmanager
async def _alone(bench: Workbench, operation_id: int) -> AsyncIterator[Due | None]:
    """The operation if it is due, and for the block no other worker at its access code. Of those
    that may have killed their workers, no other in this process: together one would take the others
    along time after time, until all of them were quarantined. Raises TryLater.
    """
    async with bench.mutex.hold(bench.ledger.due(operation_id)) as (operation, alone):
        if operation is None:
            yield None
            return
        if not alone:
            raise TryLater(
                f"another worker is at access code {operation.access_code_id}",
                retry_at=await _in(bench, MUTEX_WAIT),
            )
        if not await _is_suspect(bench, operation):
            yield operation
            return
        if bench.suspect.locked():
            raise TryLater(
                "another operation whose worker died is tried first",
                retry_at=await _in(bench, SUSPECT_WAIT),
            )
        async with bench.suspect:
            yield operation


async def _is_suspect(bench: Workbench, operation: Due) -> bool:
    """Whether it lost workers more than once in a row, and not as many died without it meanwhile:
    where somebody kills them all, whoever is tried alone waits for all others."""
    if operation.rescues < SUSPECT_FROM:
        return False
    async with bench.db.transaction() as session:
        others = await sweeping.died_without_it(session, operation.id, lost=operation.rescues)
    return operation.rescues > min(others, ALONE_FROM)


async def _claim(bench: Workbench, operation: Due, job_id: int | None) -> Ring | None:
    claim = await bench.ledger.claim(operation.id, job_id)
    if claim is None:
        return await _claim_with_care(bench, operation, job_id)
    ring = Ring(claim, job_id)
    _tell_start(bench, ring)
    return ring


async def _claim_with_care(bench: Workbench, operation: Due, job_id: int | None) -> Ring | None:
    """The same where more has to be done, or nothing."""
    try:
        async with bench.db.transaction() as session:
            row, code = await claiming.claim_operation(
                session, operation.id, operation.access_code_id, job_id
            )
            now = await store.now(session)
            begun = await _begin(session, row, code, now)
            claim = await claiming.claimed(session, row, code, now)
            if begun:
                await store.record(
                    session,
                    ACTOR,
                    f"{row.kind}:started",
                    code=code,
                    operation_id=row.id,
                    epoch=row.epoch,
                )
            else:
                await claiming.end_try(session, claim, "completed")
        ring = Ring(claim, job_id)
    except StateChanged as closed:
        log.info("operation-closed", operation_id=operation.id, job_id=job_id, reason=str(closed))
        return None
    _tell_start(bench, ring)
    if begun:
        return ring
    _tell_end(bench, ring, "completed")
    return None


async def _begin(session: Session, operation: Operation, code: AccessCode, now: datetime) -> bool:
    """Move the code to where this operation works on it; False when there is nothing to work on."""
    if operation.kind == OperationKind.GENERATE:
        if code.state in (CodeState.SCHEDULED, CodeState.FAILED):
            await access_codes.move_code(session, code, CodeState.GENERATING, failed_at=None)
        return True
    if code.state == CodeState.SCHEDULED:  # the stay went by and its PIN was never begun
        await codes.withdraw(session, ACTOR, code, now=now)
        return False
    await codes.stop_generating(session, code)
    if code.state != CodeState.REVOKING:
        await access_codes.move_code(session, code, CodeState.REVOKING, failed_at=None)
    return True


async def _record_not_done(bench: Workbench, ring: Ring, error: TryLater | LockError) -> None:
    """Record why it is not done and when it rings again, and raise what the queue needs to know."""
    try:
        async with bench.db.transaction() as session:
            operation, code = await claiming.hold_claim(session, ring.claim)
            if _came_to_nothing(ring):
                code.create_in_doubt_since = None
            retry_at = _retry_at(bench, ring, operation, code, error)
            if isinstance(error, PinRejected) and retry_at is not None:
                await codes.replace_pin(session, bench.planner.sealer, ACTOR, code)
            outcome = "later" if retry_at else "failed"
            await claiming.end_try(session, ring.claim, outcome, str(error))
            await store.record(
                session,
                ACTOR,
                f"{operation.kind}:{outcome}",
                code=code,
                operation_id=operation.id,
                reason=str(error),
                retry_at=retry_at.isoformat() if retry_at else None,
            )
            if retry_at is None:
                await _give_up(session, operation, code, str(error))
            else:
                await operations.postpone_operation(
                    session,
                    operation,
                    retry_at,
                    failures=operation.failures + (1 if _counts(error) else 0),
                    # What was not tried did not prove to be harmless either.
                    lived=not isinstance(error, InDoubt),
                    last_error=str(error),
                    waits_for_room=isinstance(error, LockFull),
                )
    except StateChanged as overtaken:
        await _end_try(bench, ring, "overtaken", str(error))
        _tell_end(bench, ring, "overtaken", reason=str(overtaken))
        return
    if isinstance(error, LockFull) and retry_at and not ring.claim.operation.waits_for_room:
        # Once: where a place that was made does not help, more guests without a PIN do not either.
        async with bench.db.transaction() as session:
            await codes.make_room(session, ring.code, now=ring.now())
    if retry_at is None:
        _tell_end(bench, ring, "failed", reason=str(error))
        raise error
    _tell_end(bench, ring, "later", reason=str(error), retry_at=retry_at.isoformat())
    raise TryLater(str(error), retry_at=retry_at) from error


async def _give_up(session: Session, operation: Operation, code: AccessCode, why: str) -> None:
    """A generate that fails leaves a failed code. A code being revoked stays so: it may open."""
    await operations.fail_operation(session, operation, why)
    if operation.kind == OperationKind.GENERATE:
        await access_codes.move_code(
            session, code, CodeState.FAILED, failed_at=operation.finished_at
        )
    await outcomes.announce(session, EventType.CODE_FAILED, code, operation=operation)


def _retry_at(
    bench: Workbench,
    ring: Ring,
    operation: Operation,
    code: AccessCode,
    error: TryLater | LockError,
) -> datetime | None:
    """When to try again after this error; None when a person must act."""
    now = ring.now()
    if isinstance(error, TryLater):
        return error.retry_at
    if (code.starts_at, code.ends_at) != (ring.code.starts_at, ring.code.ends_at):
        return now  # the stay was moved meanwhile: what was asked for is no longer what is wanted
    if isinstance(error, LockRefused):
        return None
    if operation.kind == OperationKind.GENERATE and now >= code.ends_at:
        return None  # the stay is over: a PIN would help nobody
    if isinstance(error, LockUnreachable | LockFull):
        away = isinstance(error, LockUnreachable) and error.cloud_away
        longest = CLOUD_GAP if away else LONGEST_GAP
        return next_look(operation.first_claimed_at or now, now, longest)
    if isinstance(error, LockBusy):
        return now + max(BUSY_WAIT, timedelta(seconds=error.retry_after or 0))
    if isinstance(error, PinRejected):
        return now if operation.failures < bench.retries else None
    return next_retry(operation.failures + 1, bench.retries, bench.retry_backoff, now)


def _counts(error: TryLater | LockError) -> bool:
    """Whether this is a failure of the kind that PINQUEUE_RETRIES bounds."""
    return not isinstance(error, TryLater | LockUnreachable | LockFull | LockBusy | LockRefused)


async def _end_try(bench: Workbench, ring: Ring, outcome: str, error: str) -> None:
    async with bench.db.transaction() as session:
        await claiming.end_try(session, ring.claim, outcome, error)
    await _forget_intent(bench, ring)


async def _forget_intent(bench: Workbench, ring: Ring) -> None:
    """Or whoever comes next would wait until what was never asked for can have no effect."""
    if _came_to_nothing(ring):
        async with bench.db.transaction() as session:
            await claiming.forget_intent(session, ring.claim)


def _came_to_nothing(ring: Ring) -> bool:
    """Whether a create was intended with the claim, and it did not come to that."""
    return ring.claim.intends and ring.code.create_in_doubt_since is None


def _tell_start(bench: Workbench, ring: Ring) -> None:
    """Once it is committed, in the log and the metrics."""
    operation = ring.claim.operation
    if operation.first_claimed_at == ring.claim.now:  # for the first time
        late = ring.claim.now - operation.due_at
        bench.metrics.operation_taken_up(operation.kind, late.total_seconds())
    log.info("operation-started", **ring.ids)


def _tell_end(bench: Workbench, ring: Ring, outcome: str, **detail: Any) -> None:
    """The same of how a try ended."""
    seconds = time.monotonic() - ring.claimed_on
    bench.metrics.operation_ended(ring.claim.operation.kind, outcome, seconds)
    tell = log.warning if outcome == "failed" else log.info
    tell("operation-ended", outcome=outcome, seconds=round(seconds, 3), **detail, **ring.ids)


async def _in(bench: Workbench, wait: timedelta) -> datetime:
    async with bench.db.transaction() as session:
        return await store.now(session) + wait
