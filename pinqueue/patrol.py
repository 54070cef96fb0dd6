"""The patrol: from lock to lock, now and then, it compares what each lists with what our rows want.

What they want no more is taken off: a call whose answer was lost may take effect when nobody looks
for it any more. What they want and the lock lists no more is put there again. It acts on what a
list shows, and hardly on what it does not show: a list that cannot be read whole, or that is empty
although PINs should be there, is an alarm and nothing else, and a PIN is missing only where two
lists agree. A name that no row of ours ever gave is another's, whatever it looks like.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from pinqueue import codes, logs, outcomes, store
from pinqueue.db import Database, Session
from pinqueue.errors import LockBusy, LockError
from pinqueue.lifecycle import CODE_ENDED, CodeState, EventType
from pinqueue.locks import Delivery, LockGateway, RemotePin
from pinqueue.metrics import Metrics
from pinqueue.models import AccessCode
from pinqueue.store import access_codes, patrolling
from pinqueue.store.patrolling import Turn

log = logs.get(__name__)

ACTOR = "patrol"
APART = timedelta(seconds=1)
"""Between two locks: the cloud's rate is for guests."""
AGAIN_AFTER = timedelta(minutes=1)
"""Until a look is repeated: it failed for the first time, or another list has to agree with it."""
GOING = (Delivery.REMOVING, Delivery.REMOVED)
THERE = (Delivery.ON_DOOR, Delivery.ACCEPTED)


@dataclass(frozen=True)
class Finding:
    """What a look came to."""

    what: str
    """One of metrics.FINDINGS."""
    fault: str | None = None
    stray: Sequence[tuple[AccessCode, RemotePin]] = ()
    missing: Sequence[AccessCode] = ()


async def look_at_next(
    db: Database, gateway: LockGateway, every: timedelta, metrics: Metrics
) -> bool:
    """Look at the lock whose turn it is; False when it is no lock's."""
    async with db.transaction() as session:
        turn = await patrolling.claim_turn(session, every)
    if turn is None:
        return False
    try:
        listed = await gateway.list_pins(turn.door)
    except LockError as error:
        await _not_read(db, turn, error)
        metrics.patrol_found("unread")
        return True
    async with db.transaction() as session:
        found = await _compare(session, turn, listed)
        await _end(session, turn, found)
    metrics.patrol_found(found.what)
    for _ in found.missing:
        metrics.patrol_found("missing")
    for code, pin in found.stray:
        await _take_off(db, gateway, turn, code, pin)
        metrics.patrol_found("stray")
    return True


async def _compare(session: Session, turn: Turn, listed: Sequence[RemotePin]) -> Finding:
    believed = await patrolling.believed(session, turn)
    if believed and not listed:
        return Finding(
            "doubted", f"lists nothing, though {len(believed)} PINs should be on it: not believed"
        )
    shown = [
        pin
        for pin in listed
        if pin.name.startswith(codes.REMOTE_PREFIX) and pin.delivery not in GOING
    ]
    # Read after the list was: a name is in its row before it is on a lock.
    named = await patrolling.codes_named(session, turn.lock_id, [pin.name for pin in shown])
    owners = {name: code for code in named for name in (*code.past_names, code.remote_name)}
    unknown = sum(pin.name not in owners for pin in shown)
    return Finding(
        "unknown" if unknown else "as_wanted",
        f"holds {unknown} PINs that are named as ours are and are not ours" if unknown else None,
        [
            (code, pin)
            for pin in shown
            if (code := owners.get(pin.name)) is not None and _is_stray(turn, code, pin.name)
        ],
        await _put_back(session, turn, believed, {p.name for p in shown if p.delivery in THERE}),
    )


def _is_stray(turn: Turn, code: AccessCode, name: str) -> bool:
    """Whether no row wants that PIN; not one that was taken off while the list was read."""
    if code.revoked_at is not None and code.revoked_at >= turn.began_at:
        return False
    return code.state in CODE_ENDED or code.remote_name != name


async def _put_back(
    session: Session, turn: Turn, believed: Sequence[AccessCode], there: Collection[str]
) -> list[AccessCode]:
    """Have what is missing generated again, where an earlier list missed it too."""
    changed = [code.id for code in believed if code.missing_since or code.remote_name not in there]
    put_back = []
    for code in await access_codes.codes_for_update(session, changed):
        if code.state != CodeState.ACTIVE:
            continue  # it is being changed or taken off by now
        if code.remote_name in there:
            code.missing_since = None
        elif code.missing_since is None:
            code.missing_since = turn.began_at
            await patrolling.look_by(session, turn.lock_id, turn.began_at + AGAIN_AFTER)
        else:
            code.missing_since = None
            await codes.put_back(session, ACTOR, code, now=await store.now(session))
            put_back.append(code)
    return put_back


async def _take_off(
    db: Database, gateway: LockGateway, turn: Turn, code: AccessCode, pin: RemotePin
) -> None:
    """Ask for the removal of a PIN that no row wants. The next look sees whether it is gone."""
    reason = None
    try:
        await gateway.delete_pin(turn.door, pin.remote_id)
    except LockError as error:
        reason = str(error)
    async with db.transaction() as session:
        await patrolling.look_by(session, turn.lock_id, await store.now(session) + AGAIN_AFTER)
        await store.record(session, ACTOR, "code:stray", code=code, name=pin.name, reason=reason)
        await outcomes.announce(session, EventType.CODE_STRAY, code)
    log.warning("stray-pin", lock_id=turn.lock_id, access_code_id=code.id, reason=reason)


async def _not_read(db: Database, turn: Turn, error: LockError) -> None:
    async with db.transaction() as session:
        if isinstance(error, LockBusy) or turn.fault is None:
            asked = getattr(error, "retry_after", None) or 0
            soon = max(timedelta(seconds=asked), AGAIN_AFTER)
            await patrolling.look_by(session, turn.lock_id, await store.now(session) + soon)
        await _end(session, turn, Finding("unread", f"its list was not read: {error}"))


async def _end(session: Session, turn: Turn, found: Finding) -> None:
    """Record how a look ended; in the audit and the log where that has changed."""
    believed = found.what not in ("unread", "doubted")
    await patrolling.end_turn(session, turn, found.fault, believed=believed)
    if found.fault != turn.fault:
        event = f"lock:{found.what}"
        await store.record(session, ACTOR, event, lock_id=turn.lock_id, reason=found.fault)
        log.warning("lock-patrolled", lock_id=turn.lock_id, found=found.what, reason=found.fault)
