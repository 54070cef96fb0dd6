"""What came of it at the door, written down under the claim."""

from __future__ import annotations

import time
from dataclasses import replace

from pinqueue import codes, outcomes, reservations, store
from pinqueue.errors import LockFull, TryLater
from pinqueue.lifecycle import CodeState, EventType, OperationKind
from pinqueue.locks import Delivery, RemotePin, Window
from pinqueue.operations import ACTOR, Ring, Workbench, door
from pinqueue.store import access_codes, claiming, operations, stays
from pinqueue.store.claiming import ClaimedCode
from pinqueue.store.claims import Accepted, Intent, Seen

FRESH = 1.0
"""Seconds that a claim may be old which intends a create: it is from then that the grace counts."""


async def record_intent(bench: Workbench, ring: Ring, pin_hash: str) -> None:
    """Before a create: should no answer come, whoever looks next knows of it. A first try knows it
    from its claim."""
    code, now = ring.code, ring.now()
    if ring.claim.intends and time.monotonic() - ring.claim.asked_on < FRESH:
        code.create_in_doubt_since = ring.claim.now
        return
    intended = await bench.ledger.intend(Intent(ring.claim, now, pin_hash))
    if (other := intended.nearer_arrival) is not None:
        raise LockFull(f"the lock is full, and access code {other} is for an earlier arrival")
    code.starts_at, code.ends_at = intended.starts_at, intended.ends_at
    code.pin_hash, code.create_in_doubt_since = pin_hash, now


async def record_no_effect(bench: Workbench, ring: Ring) -> None:
    """After a create that certainly did nothing."""
    async with bench.db.transaction() as session:
        _, code = await claiming.hold_claim(session, ring.claim)
        code.create_in_doubt_since = None


async def record_gone(bench: Workbench, ring: Ring) -> Ring:
    """The lock holds nothing of it: the next create is a new one."""
    async with bench.db.transaction() as session:
        _, code = await claiming.hold_claim(session, ring.claim)
        await codes.begin_anew(session, code)
        gone = ClaimedCode.of(code)
    return replace(ring, claim=replace(ring.claim, code=gone))


async def record_accepted(bench: Workbench, ring: Ring, remote_id: int) -> None:
    """generating or active → sent: the lock's cloud has it, or its latest change."""
    await bench.ledger.accept(Accepted(ring.claim, ring.now(), remote_id)).written()


async def see_accepted(
    bench: Workbench, ring: Ring, remote_id: int
) -> tuple[RemotePin | None, Accepted | None]:
    """Look at once for what the lock's cloud accepted, while that is written down. Where the look
    finds it on the door before the writing has begun, the acceptance is given back, to be written
    down with the end of the operation."""
    accepting = bench.ledger.accept(Accepted(ring.claim, ring.now(), remote_id))
    taken_back = False
    try:
        remote = await door.look(bench, ring)
        on_door = remote is not None and remote.delivery is Delivery.ON_DOOR
        taken_back = on_door and accepting.take_back()
    finally:
        if not taken_back:
            await accepting.written()
    return remote, accepting.asked if taken_back else None


async def record_active(
    bench: Workbench, ring: Ring, told: Window, accepted: Accepted | None
) -> None:
    """sent → active, unless the window was moved while we were at the door: then once more. What
    was `accepted` and not written down yet is, either way."""
    now = ring.now()
    fits = door.wanted_window(ring.code, told, now) == told
    if fits and await bench.ledger.complete(Seen(ring.claim, now, accepted)):
        return
    if accepted is not None:
        await bench.ledger.accept(accepted).written()
    raise TryLater("the window was moved meanwhile", retry_at=now)


async def record_revoked(bench: Workbench, ring: Ring) -> None:
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
    await fill_room(bench, ring)


async def fill_room(bench: Workbench, ring: Ring) -> None:
    async with bench.db.transaction() as session:
        await codes.fill_room(session, ring.code.lock_id, now=ring.now())


async def let_others_try(bench: Workbench, ring: Ring) -> None:
    """What had to wait for its lock got through: others need not wait out gaps that have grown."""
    if ring.claim.operation.first_claimed_at == ring.claim.now:
        return
    async with bench.db.transaction() as session:
        others = await operations.waiting_for_lock(session, ring.code.lock_id)
    for code_id, kind in others:
        async with bench.db.transaction() as session:
            await codes.try_now(session, code_id, OperationKind(kind), now=ring.now())
