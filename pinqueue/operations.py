"""One ring of an operation: claim it, go to the door, record what came of it.

Intent is committed before a call to the lock and the outcome after it; no transaction is open while
the network is. Three guards together make each operation happen once on the door, none of them does
alone: the mutex keeps two workers apart, the epoch lets a late worker change nothing, and the look
by name finds what an unanswered call did.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from pinqueue import codes, logs, outcomes, reservations, store
from pinqueue.db import Database, Session
from pinqueue.errors import (
    ConfigInvalid,
    InDoubt,
    LockBusy,
    LockError,
    LockFaulted,
    LockFull,
    LockRefused,
    LockUnreachable,
    PinRejected,
    StateChanged,
    TryLater,
    WindowPassed,
)
from pinqueue.ledger import Ledger
from pinqueue.lifecycle import CodeState, EventType, OperationKind
from pinqueue.locks import NOT_TAKEN, Delivery, Door, LockGateway, RemotePin, Window
from pinqueue.metrics import Metrics
from pinqueue.models import AccessCode, Operation
from pinqueue.mutex import Mutex
from pinqueue.pins import Pin
from pinqueue.schedule import LONGEST_GAP, next_look, next_retry
from pinqueue.store import access_codes, claiming, operations, patrolling, stays
from pinqueue.store.claiming import Claimed, ClaimedCode
from pinqueue.store.claims import Accepted, Due, Intent, Seen

log = logs.get(__name__)

T = TypeVar("T")

ACTOR = "worker"
MUTEX_WAIT = timedelta(seconds=2)
SURE_FOR = timedelta(seconds=10)
"""How long a claim is trusted to be ours. With the ten seconds that a call may take it stays below
the time after which a silent worker is taken for dead."""
SUSPECT_FROM, SUSPECT_WAIT = 2, timedelta(seconds=1)
"""Rescues. One death says little; who was there when a second worker died is tried alone."""
BUSY_WAIT = timedelta(seconds=2)
SOON = timedelta(minutes=1)
"""The start that is asked for where the lock's cloud calls now the past."""
CLOUD_GAP = timedelta(minutes=1)
"""At most, before a cloud that is away is asked again: that costs no lock any battery, and when it
is back all doors wait for it."""
OVERLAP_WAIT = timedelta(minutes=15)
"""At most, before a lock that takes no overlapping windows is asked again: each ask costs it
battery, but the PIN that is in the way may be taken off early."""


@dataclass(frozen=True)
class Workbench:
    """What a worker has at hand for every operation."""

    db: Database
    mutex: Mutex
    gateway: LockGateway
    planner: reservations.Planner
    retries: int
    retry_backoff: timedelta
    grace: timedelta
    """How long a call whose answer was lost may still take effect."""
    metrics: Metrics = field(default_factory=Metrics)
    suspect: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while an operation rings whose last worker died."""
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ledger", Ledger(self.db))


@dataclass(frozen=True)
class Ring:
    """A claimed operation on its way through one ring."""

    claim: Claimed
    job_id: int | None = None
    claimed_on: float = field(default_factory=time.monotonic)

    @property
    def code(self) -> ClaimedCode:
        return self.claim.code

    @property
    def door(self) -> Door:
        return Door(self.claim.device_id, self.claim.protocol)

    @property
    def ids(self) -> dict[str, Any]:
        """What its log lines name it by."""
        return {
            "kind": self.claim.operation.kind,
            "operation_id": self.claim.operation.id,
            "epoch": self.claim.operation.epoch,
            "access_code_id": self.code.id,
            "reservation_id": self.code.reservation_id,
            "lock_id": self.code.lock_id,
            "job_id": self.job_id,
        }

    def now(self) -> datetime:
        """The database's time, carried on at our clock's pace: a wrong clock here does no harm."""
        return self.claim.now + timedelta(seconds=time.monotonic() - self.claimed_on)


async def generate(bench: Workbench, operation_id: int, job_id: int | None) -> None:
    """Have the lock hold the code's PIN with the code's window, and see that it does.

    Raises TryLater while it does not yet, and the LockError that ended it when it never will.
    """
    async with _claimed(bench, operation_id, job_id) as ring:
        if ring is None:
            return
        remote = await _look(bench, ring)
        if remote is None:
            ring = await _create(bench, ring)
            remote = await _look(bench, ring)
        elif remote.delivery is Delivery.REMOVING:
            pass  # somebody took it off: it is created anew once it is gone
        elif _has_to_go(ring, remote):
            await _start_over(bench, ring, remote)
        elif _has_to_make_room(ring, remote):
            await _make_room(bench, ring, remote)
        elif _has_to_change(ring, remote):
            await _change(bench, ring, remote)
            remote = await _look(bench, ring)
        elif ring.code.state == CodeState.GENERATING:
            await _record_accepted(bench, ring, remote.remote_id)
        if remote is None or remote.delivery is not Delivery.ON_DOOR:
            why = remote.reason if remote else ""
            raise _waits(ring, why or "the lock has not confirmed the PIN yet")
        await _record_active(bench, ring, remote.window)
        await _let_others_try(bench, ring)


async def revoke(bench: Workbench, operation_id: int, job_id: int | None) -> None:
    """Take the code's PIN off the lock, and see that it is off.

    Raises TryLater while it may still be there, and the LockError that ended it when a person must.
    """
    async with _claimed(bench, operation_id, job_id) as ring:
        if ring is None:
            return
        remote = await _look(bench, ring)
        remote_id = remote.remote_id if remote else ring.code.remote_id
        if remote_id is not None and (remote is None or remote.delivery is not Delivery.REMOVING):
            await _delete(bench, ring, remote_id)
            remote = await _look(bench, ring)
        if remote is not None:
            raise _waits(ring, "the lock has not confirmed the removal yet")
        await _insist_no_create_in_doubt(bench, ring)
        await _record_revoked(bench, ring)
        await _let_others_try(bench, ring)


# Claiming, and what becomes of the claim


@asynccontextmanager
async def _claimed(
    bench: Workbench, operation_id: int, job_id: int | None
) -> AsyncIterator[Ring | None]:
    """The operation, claimed for the block; None when there is nothing (more) to do.

    However the block ends is recorded, unless the claim was lost meanwhile.
    """
    operation = await bench.ledger.due(operation_id)
    if operation is None:
        yield None
        return
    async with _alone(bench, operation):
        ring = await _claim(bench, operation, job_id)
        if ring is None:
            yield None
            return
        try:
            yield ring
        except StateChanged as overtaken:
            await _end_try(bench, ring, "overtaken", str(overtaken))
            _tell_end(bench, ring, "overtaken", reason=str(overtaken))
        except (TryLater, LockError) as error:
            await _record_not_done(bench, ring, error)
        else:
            _tell_end(bench, ring, "completed")


@asynccontextmanager
async def _alone(bench: Workbench, operation: Due) -> AsyncIterator[None]:
    """No other worker at this access code for the block; and of the operations whose workers died
    more than once, no other in this process. One of them may have killed them: together it would
    take the others along time after time, until all of them were quarantined. Raises TryLater.
    """
    async with bench.mutex.hold(operation.access_code_id) as alone:
        if not alone:
            raise TryLater(
                f"another worker is at access code {operation.access_code_id}",
                retry_at=await _in(bench, MUTEX_WAIT),
            )
        if operation.rescues < SUSPECT_FROM:
            yield
            return
        if bench.suspect.locked():
            raise TryLater(
                "another operation whose worker died is tried first",
                retry_at=await _in(bench, SUSPECT_WAIT),
            )
        async with bench.suspect:
            yield


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


# At the door


async def _look(bench: Workbench, ring: Ring) -> RemotePin | None:
    """What the lock's cloud holds under our name; None when nothing is or will be on the lock.

    Should the cloud hold our name twice, the one on record stays and the others are deleted.
    """
    listed = await _ask(bench.gateway.list_pins(ring.door))
    ours = [
        pin
        for pin in listed
        if pin.name == ring.code.remote_name and pin.delivery is not Delivery.REMOVED
    ]
    if len(ours) > 1:
        ours = await _keep_one(bench, ring, ours)
    return ours[0] if ours else None


async def _keep_one(bench: Workbench, ring: Ring, ours: Sequence[RemotePin]) -> list[RemotePin]:
    keep = next((pin for pin in ours if pin.remote_id == ring.code.remote_id), ours[0])
    for pin in ours:
        if pin is not keep and pin.delivery is not Delivery.REMOVING:
            await _delete(bench, ring, pin.remote_id)
    return [keep]


async def _create(bench: Workbench, ring: Ring) -> Ring:
    """Ask for the PIN, unless an earlier ask may still take effect."""
    await _insist_no_create_in_doubt(bench, ring)
    ring = await _insist_gone(bench, ring)
    pin = _pin(bench, ring)
    pin_hash = ring.code.pin_hash or await bench.planner.sealer.hash_pin(ring.code.id, pin)
    await _record_intent(bench, ring, pin_hash)

    def create(window: Window) -> Awaitable[int]:
        return bench.gateway.create_pin(ring.door, ring.code.remote_name, pin, window)

    await _insist_ours(bench, ring)
    try:
        remote_id = await _ask_for(wanted_window(ring.code, None, ring.now()), ring, create)
    except LockError as error:
        if not error.in_doubt:
            await _record_no_effect(bench, ring)
        raise
    await _record_accepted(bench, ring, remote_id)
    return ring


async def _insist_gone(bench: Workbench, ring: Ring) -> Ring:
    """What was accepted once and is not listed may be listed late, and be a second PIN beside the
    next: unless it was seen on the door before, it is given time to show; then it is deleted by its
    id, before another is created."""
    if ring.code.remote_id is None:
        return ring
    sent_at, seen = ring.code.sent_at, ring.code.active_at is not None
    if not seen and sent_at is not None and sent_at + bench.grace > ring.now():
        raise _waits(ring, "the lock's cloud does not list the PIN it accepted")
    await _delete(bench, ring, ring.code.remote_id)
    ring = await _record_gone(bench, ring)
    await _fill_room(bench, ring)
    return ring


def _has_to_make_room(ring: Ring, remote: RemotePin) -> bool:
    """Whether it was asked to, by `codes.make_room`. Never once its window has begun: its own guest
    may be in."""
    begins_at = min(ring.code.starts_at, remote.window.starts_at)
    return ring.claim.operation.waits_for_room and begins_at > ring.now()


async def _make_room(bench: Workbench, ring: Ring, remote: RemotePin) -> None:
    """Leave the lock for now. The PIN stays the guest's, and is put there again when it can be."""
    await _delete(bench, ring, remote.remote_id)
    if await _look(bench, ring) is not None:
        raise _waits(ring, "the lock has not confirmed yet that it made room")
    ring = await _record_gone(bench, ring)
    await _fill_room(bench, ring)
    raise LockFull("the lock is full, and this PIN made room for an earlier arrival")


def _has_to_change(ring: Ring, remote: RemotePin) -> bool:
    """Whether the lock has to be told the window: another one, or again the one it did not take."""
    wanted = wanted_window(ring.code, remote.window, ring.now())
    return remote.delivery in NOT_TAKEN or remote.window != wanted


async def _change(bench: Workbench, ring: Ring, remote: RemotePin) -> None:
    """Give a PIN that the lock's cloud has another window; the digits stay the same."""
    pin = _pin(bench, ring)

    def change(window: Window) -> Awaitable[None]:
        return bench.gateway.change_pin(
            ring.door, remote.remote_id, ring.code.remote_name, pin, window
        )

    await _insist_ours(bench, ring)
    try:
        await _ask_for(wanted_window(ring.code, remote.window, ring.now()), ring, change)
    except PinRejected as error:
        # The PIN is on the door: other digits would make a second one beside it.
        raise LockFaulted(str(error), code=error.code) from error
    await _record_accepted(bench, ring, remote.remote_id)


def _has_to_go(ring: Ring, remote: RemotePin) -> bool:
    """Whether only another create can help. What was on the door once is not in that case: it may
    open there still, and a guest may be using it."""
    never_there = remote.delivery in NOT_TAKEN and ring.code.active_at is None
    return never_there or remote.delivery is Delivery.REJECTED


async def _start_over(bench: Workbench, ring: Ring, remote: RemotePin) -> None:
    """The lock did not take it: remove it and ask again, with other digits if these are the reason.

    Not before it is gone: its name is the only thread that leads to it, and the next one gets
    another, since vendors may keep the name of what is gone.
    """
    why = f"the lock did not take the PIN: {remote.reason or 'no reason given'}"
    await _delete(bench, ring, remote.remote_id)
    left = await _look(bench, ring)
    if remote.delivery is Delivery.REJECTED and (
        left is None or left.delivery is Delivery.REMOVING
    ):
        raise PinRejected(why)
    if left is not None:
        raise _waits(ring, why)
    await _record_gone(bench, ring)
    if remote.delivery is Delivery.OVERLAPS:
        raise TryLater(why, retry_at=await _overlap_ends(bench, ring))
    raise (LockFull if remote.delivery is Delivery.NO_ROOM else LockUnreachable)(why)


async def _overlap_ends(bench: Workbench, ring: Ring) -> datetime:
    """When the first of the windows ends that overlap ours on the lock, whoever's they are: then
    the lock may take ours. Between the usual look and a quarter of an hour."""
    now = ring.now()
    ours = wanted_window(ring.code, None, now)
    listed = await _ask(bench.gateway.list_pins(ring.door))
    ends = [
        pin.window.ends_at
        for pin in listed
        if pin.delivery is not Delivery.REMOVED and pin.window.overlaps(ours)
    ]
    soonest = next_look(ring.claim.operation.first_claimed_at or now, now)
    return max(soonest, min([*ends, now + OVERLAP_WAIT]))


async def _insist_ours(bench: Workbench, ring: Ring) -> None:
    """Before a call that changes the lock: nobody took the operation over while we stood still.

    A process that is stopped for a minute, and goes on just here, would make a PIN that nobody asks
    for any more. It is dead to others after `sweep.DEAD_AFTER`, so what was ours a few seconds ago
    still is; else the row is asked, until its answer is no older than that. Raises StateChanged.
    """
    sure_at = ring.claimed_on
    while time.monotonic() - sure_at > SURE_FOR.total_seconds():
        sure_at = time.monotonic()
        async with bench.db.transaction() as session:
            await claiming.hold_claim(session, ring.claim)


async def _delete(bench: Workbench, ring: Ring, remote_id: int) -> None:
    await _insist_ours(bench, ring)
    await _ask(bench.gateway.delete_pin(ring.door, remote_id))


async def _ask(call: Awaitable[T]) -> T:
    """A call to the lock: what an adapter raises beyond the port's errors is an unknown failure."""
    try:
        return await call
    except LockError:
        raise
    except Exception as error:
        raise LockFaulted(
            f"the lock's adapter broke: {type(error).__name__}", in_doubt=True
        ) from error


async def _ask_for(window: Window, ring: Ring, call: Callable[[Window], Awaitable[T]]) -> T:
    """A call that tells the lock a window: from now on, or a minute later where that is late
    already when it gets there."""
    try:
        return await _ask(call(window))
    except WindowPassed:
        soon = ring.now().replace(microsecond=0) + SOON
        if not window.starts_at < soon < window.ends_at:
            raise
        return await _ask(call(replace(window, starts_at=soon)))


def _pin(bench: Workbench, ring: Ring) -> Pin:
    try:
        return bench.planner.sealer.open_pin(ring.code.id, ring.code.pin_sealed or b"")
    except ConfigInvalid as error:  # recorded as the reason, so that a person finds the setting
        raise LockFaulted(str(error)) from error


def wanted_window(code: AccessCode | ClaimedCode, told: Window | None, now: datetime) -> Window:
    """The window the lock should know, given the one it was told.

    A start in the past is sent as now, since vendors refuse history, and is then kept: two starts
    in the past open the door alike, and a change would take the PIN off the door for a while. One
    that the lock has put off by a minute is as good.
    """
    if told is not None and max(told.starts_at - SOON, code.starts_at) <= now:
        return Window(told.starts_at, code.ends_at)
    return Window(max(code.starts_at, now.replace(microsecond=0)), code.ends_at)


async def _insist_no_create_in_doubt(bench: Workbench, ring: Ring) -> None:
    """A create that was never answered may yet take effect: until the grace is over, absence on the
    lock proves nothing, and a second create could make a second PIN. For what takes effect later
    still, the patrol comes by once more."""
    since = ring.code.create_in_doubt_since
    if since is not None and since + bench.grace > ring.now():
        async with bench.db.transaction() as session:
            await patrolling.look_by(session, ring.code.lock_id, since + 2 * bench.grace)
        raise InDoubt("an earlier call may still take effect", retry_at=since + bench.grace)


def _waits(ring: Ring, why: str) -> TryLater:
    since = ring.claim.operation.first_claimed_at or ring.claim.now
    return TryLater(why, retry_at=next_look(since, ring.now()))


# Recording


async def _record_intent(bench: Workbench, ring: Ring, pin_hash: str) -> None:
    """Before a create: should no answer come, whoever looks next knows of it."""
    code, now = ring.code, ring.now()
    intended = await bench.ledger.intend(Intent(ring.claim, now, pin_hash))
    if (other := intended.nearer_arrival) is not None:
        raise LockFull(f"the lock is full, and access code {other} is for an earlier arrival")
    code.starts_at, code.ends_at = intended.starts_at, intended.ends_at
    code.pin_hash, code.create_in_doubt_since = pin_hash, now


async def _record_no_effect(bench: Workbench, ring: Ring) -> None:
    """After a create that certainly did nothing."""
    async with bench.db.transaction() as session:
        _, code = await claiming.hold_claim(session, ring.claim)
        code.create_in_doubt_since = None


async def _record_gone(bench: Workbench, ring: Ring) -> Ring:
    """The lock holds nothing of it: the next create is a new one."""
    async with bench.db.transaction() as session:
        _, code = await claiming.hold_claim(session, ring.claim)
        await codes.begin_anew(session, code)
        gone = ClaimedCode.of(code)
    return replace(ring, claim=replace(ring.claim, code=gone))


async def _record_accepted(bench: Workbench, ring: Ring, remote_id: int) -> None:
    """generating or active → sent: the lock's cloud has it, or its latest change."""
    await bench.ledger.accept(Accepted(ring.claim, ring.now(), remote_id))


async def _record_active(bench: Workbench, ring: Ring, told: Window) -> None:
    """sent → active, unless the window was moved while we were at the door: then once more."""
    now = ring.now()
    fits = wanted_window(ring.code, told, now) == told
    if not fits or not await bench.ledger.complete(Seen(ring.claim, now)):
        raise TryLater("the window was moved meanwhile", retry_at=now)


async def _record_revoked(bench: Workbench, ring: Ring) -> None:
    """revoking → revoked, digits wiped; a stay that wants the door again gets a new code."""
    async with bench.db.transaction() as session:
        stay = await stays.reservation_for_update(session, ring.code.reservation_id)
        operation, code = await claiming.hold_claim(session, ring.claim)
        await access_codes.move_code(
            session,
            code,
            CodeState.REVOKED,
            revoked_at=ring.now(),
            pin_sealed=None,
            pin_hash=None,
            create_in_doubt_since=None,
        )
        await operations.complete_operation(session, operation)
        await claiming.end_try(session, ring.claim, "completed")
        await store.record(session, ACTOR, "code:revoked", code=code, operation_id=operation.id)
        await outcomes.announce(session, EventType.CODE_REVOKED, code, operation=operation)
        if stay is not None:
            await reservations.plan(session, bench.planner, stay, actor=ACTOR, now=ring.now())
    await _fill_room(bench, ring)


async def _fill_room(bench: Workbench, ring: Ring) -> None:
    async with bench.db.transaction() as session:
        await codes.fill_room(session, ring.code.lock_id, now=ring.now())


async def _let_others_try(bench: Workbench, ring: Ring) -> None:
    """What had to wait for its lock got through: others need not wait out gaps that have grown."""
    if ring.claim.operation.first_claimed_at == ring.claim.now:
        return
    async with bench.db.transaction() as session:
        others = await operations.waiting_for_lock(session, ring.code.lock_id)
    for code_id, kind in others:
        async with bench.db.transaction() as session:
            await codes.try_now(session, code_id, OperationKind(kind), now=ring.now())


async def _end_try(bench: Workbench, ring: Ring, outcome: str, error: str) -> None:
    async with bench.db.transaction() as session:
        await claiming.end_try(session, ring.claim, outcome, error)


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
