"""What is done to an access code: schedule it, move its window, withdraw it, give it other digits.

Everything here happens in the caller's transaction and calls no lock; `operations` does that
when the jobs ring.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from pinqueue import alarms, outcomes, pins, store
from pinqueue.db import Session
from pinqueue.errors import Conflict, NotFound
from pinqueue.lifecycle import (
    CODE_ENDED,
    CodeState,
    EventType,
    OperationKind,
    OperationState,
    ReservationStatus,
)
from pinqueue.locks import Window
from pinqueue.models import AccessCode, Lock, Operation, Reservation
from pinqueue.schedule import due_times
from pinqueue.sealing import Sealer
from pinqueue.store import access_codes, claiming, full_locks, operations, stays

REMOTE_PREFIX = "pq-"
CHOICES = 50
"""Tries to find a PIN that is free on a lock: of a million, some hundreds are in use at most."""


async def schedule(
    session: Session,
    sealer: Sealer,
    actor: str,
    reservation_id: str,
    doors: Sequence[Lock],
    window: Window,
    *,
    lead: timedelta,
    now: datetime,
    kept: Mapping[int, pins.Pin],
) -> None:
    """Create a stay's access codes with both operations: with the PIN it has already, `kept` by its
    length, where that is free; on all other doors that take the same length, with one new PIN."""
    due = due_times(window.starts_at, window.ends_at, lead, now)
    planned: list[Operation] = []
    made = await _insert_codes(session, sealer, reservation_id, doors, window, kept)
    for code in made:
        planned += [
            await operations.insert_operation(
                session, code, OperationKind.GENERATE, due.generate_at
            ),
            await operations.insert_operation(session, code, OperationKind.REVOKE, due.revoke_at),
        ]
        await store.record(
            session,
            actor,
            "code:scheduled",
            code=code,
            starts_at=window.starts_at.isoformat(),
            ends_at=window.ends_at.isoformat(),
            generate_at=due.generate_at.isoformat(),
        )
    await alarms.put(session, planned)
    await outcomes.announce(session, EventType.CODE_SCHEDULED, *made)


def pins_of(sealer: Sealer, codes: Iterable[AccessCode]) -> dict[int, pins.Pin]:
    """A stay's PINs by length, the newest of each: what the guest was told. Not one that is being
    taken off: it may be known to somebody it should not be, and no other door may open for it."""
    opened = [
        sealer.open_pin(code.id, code.pin_sealed)
        for code in codes
        if code.pin_sealed and code.state != CodeState.REVOKING
    ]
    return {len(pin.digits()): pin for pin in opened}


async def move(
    session: Session,
    actor: str,
    code: AccessCode,
    window: Window,
    *,
    lead: timedelta,
    now: datetime,
) -> None:
    """Give an access code another window. The PIN stays the same; what the lock already knows is
    changed there by a generate operation that rings at once."""
    due = due_times(window.starts_at, window.ends_at, lead, now)
    if (code.starts_at, code.ends_at) == (window.starts_at, window.ends_at):
        if code.state == CodeState.FAILED:
            await begin_again(session, actor, code, now=now)
        elif code.state == CodeState.SCHEDULED:
            await _follow_lead(session, actor, code, due.generate_at, now)
        return
    code.starts_at, code.ends_at = window.starts_at, window.ends_at
    await session.flush()
    generate_at = due.generate_at if code.state == CodeState.SCHEDULED else now
    await _ring(session, code, OperationKind.GENERATE, generate_at)
    await _ring(session, code, OperationKind.REVOKE, due.revoke_at)
    await store.record(
        session,
        actor,
        "code:moved",
        code=code,
        starts_at=window.starts_at.isoformat(),
        ends_at=window.ends_at.isoformat(),
    )
    await outcomes.announce(session, EventType.CODE_CHANGED, code)


async def withdraw(
    session: Session, actor: str, code: AccessCode, *, now: datetime
) -> set[OperationKind]:
    """Take an access code back: at once where nothing of it is on a door, else by revoking it.

    A generate operation that is running is not torn: it finds its claim gone, records nothing, and
    the revoke, which waits for it, undoes what it did. Returns the kinds of operation that were
    planned and will not happen as planned: one that has begun is not among them.
    """
    cancelled: set[OperationKind] = set()
    if await stop_generating(session, code):
        cancelled.add(OperationKind.GENERATE)
    if code.state == CodeState.SCHEDULED:
        if await _cancel(session, code, OperationKind.REVOKE):
            cancelled.add(OperationKind.REVOKE)
        await access_codes.move_code(
            session, code, CodeState.CANCELLED, cancelled_at=now, pin_sealed=None, pin_hash=None
        )
        await store.record(session, actor, "code:cancelled", code=code)
        await outcomes.announce(session, EventType.CODE_REVOKED, code)
    elif code.state == CodeState.REVOKING:
        await begin_again(session, actor, code, now=now)
    else:
        await access_codes.move_code(session, code, CodeState.REVOKING, failed_at=None)
        await store.record(session, actor, "code:withdrawn", code=code)
        if await _ring(session, code, OperationKind.REVOKE, now):
            cancelled.add(OperationKind.REVOKE)
    return cancelled


async def begin_again(session: Session, actor: str, code: AccessCode, *, now: datetime) -> None:
    """Begin again what failed: a generate of a failed code, a revoke of one still to be taken off.
    Nothing where one is still open."""
    revoking = code.state == CodeState.REVOKING
    kind = OperationKind.REVOKE if revoking else OperationKind.GENERATE
    if kind not in await operations.open_operations(session, code):
        await _begin_again(session, actor, [code], kind, now)


async def retry(
    session: Session, actor: str, code: AccessCode, kind: OperationKind, *, now: datetime
) -> None:
    """Begin again, at once, what failed of an access code. Raises Conflict when nothing of that
    kind is left to do.

    What is planned for later, since the stay was moved meanwhile, stays so: retrying a revoke must
    not take the PIN from a guest who stays longer.
    """
    operation = (await operations.open_operations(session, code)).get(kind)
    if operation is not None:
        await alarms.drop_failed(session, [code], kind)
        await _ring(session, code, kind, max(operation.due_at, now))
    elif not _is_left(code, kind, now):
        over = ", and its stay is over" if code.ends_at <= now else ""
        raise Conflict(f"nothing is left to retry: access code {code.id} is {code.state}{over}")
    else:
        await _begin_again(session, actor, [code], kind, now)


async def retry_all(
    session: Session, actor: str, code_ids: Collection[int], kind: OperationKind, *, now: datetime
) -> int:
    """Retry many, in few statements; returns of how many something was left to do."""
    codes = await access_codes.codes_for_update(session, code_ids)
    busy = await operations.codes_with_open_operation(session, code_ids, kind)
    for code in codes:
        if code.id in busy:
            await retry(session, actor, code, kind, now=now)
    left = [code for code in codes if code.id not in busy and _is_left(code, kind, now)]
    await _begin_again(session, actor, left, kind, now)
    return len(busy) + len(left)


def _is_left(code: AccessCode, kind: OperationKind, now: datetime) -> bool:
    """Whether a code without an open operation of that kind needs one."""
    if kind == OperationKind.REVOKE:
        return code.state == CodeState.REVOKING
    return code.state == CodeState.FAILED and code.ends_at > now


async def _begin_again(
    session: Session, actor: str, codes: Sequence[AccessCode], kind: OperationKind, now: datetime
) -> None:
    for code in codes:
        await store.record(session, actor, f"{kind}:begun_again", code=code)
    await _open(session, codes, kind, now)


async def fill_room(session: Session, lock_id: str, *, now: datetime) -> None:
    """A place on a lock that was full is free: the guest who arrives first gets it, at once."""
    code_id = await full_locks.nearest_arrival_waiting_for_room(session, lock_id)
    if code_id is None:
        return
    code = await access_codes.code_for_update(session, code_id)
    # Whoever held it until now may have withdrawn it: then nothing waits any more.
    if OperationKind.GENERATE in await operations.open_operations(session, code):
        await _ring(session, code, OperationKind.GENERATE, now)


async def make_room(session: Session, code: claiming.ClaimedCode, *, now: datetime) -> None:
    """Its lock is full: of those who arrive later, and have not arrived yet, the last gives up the
    place. `operations.generating` sees that it has to. Who is in stays in."""
    code_id = await full_locks.last_arrival_on_lock(session, code)
    if code_id is None:
        return
    last = await access_codes.code_for_update(session, code_id)
    if last.state not in (CodeState.SENT, CodeState.ACTIVE):
        return  # it is leaving already
    await _ring(session, last, OperationKind.GENERATE, now)
    operation = (await operations.open_operations(session, last))[OperationKind.GENERATE]
    operation.waits_for_room = True


async def put_back(session: Session, actor: str, code: AccessCode, *, now: datetime) -> None:
    """Have a PIN that its lock lists no more, and that is still wanted, put there again."""
    await _ring(session, code, OperationKind.GENERATE, now)
    await store.record(session, actor, "code:missing", code=code)
    await outcomes.announce(session, EventType.CODE_MISSING, code)


async def try_now(session: Session, code_id: int, kind: OperationKind, *, now: datetime) -> None:
    """Have an operation that waits for its next try ring at once."""
    code = await access_codes.code_for_update(session, code_id)
    operation = (await operations.open_operations(session, code)).get(kind)
    if operation is not None and operation.state == OperationState.WAITING:
        operation.next_at = now
        await session.flush()
        await alarms.move(session, operation)


async def stop_generating(session: Session, code: AccessCode) -> bool:
    """False when no generate operation was waiting: there is none, or it is running."""
    return await _cancel(session, code, OperationKind.GENERATE)


async def _cancel(session: Session, code: AccessCode, kind: OperationKind) -> bool:
    operation = (await operations.open_operations(session, code)).get(kind)
    if operation is None:
        return False
    waited = operation.state == OperationState.WAITING
    await alarms.take_back(session, operation)
    await operations.cancel_operation(session, operation)
    return waited


async def _follow_lead(
    session: Session, actor: str, code: AccessCode, generate_at: datetime, now: datetime
) -> None:
    """Move a planned generate operation when the lead is another than it was planned with."""
    operation = (await operations.open_operations(session, code)).get(OperationKind.GENERATE)
    if operation is not None and max(operation.due_at, now) != generate_at:
        await _ring(session, code, OperationKind.GENERATE, generate_at)
        await store.record(
            session, actor, "code:lead_changed", code=code, generate_at=generate_at.isoformat()
        )


async def _ring(session: Session, code: AccessCode, kind: OperationKind, at: datetime) -> bool:
    """Have the code's operation of that kind ring at another time; open one where there is none.

    One that is running stays: its worker reads the rows again before it records, and goes round
    once more. Returns whether one was waiting, and so was moved.
    """
    operation = (await operations.open_operations(session, code)).get(kind)
    if operation is None:
        await _open(session, [code], kind, at)
        return False
    if operation.state != OperationState.WAITING:
        return False
    operation.due_at = operation.next_at = at
    operation.failures, operation.first_claimed_at, operation.late_since = 0, None, None
    await session.flush()
    await alarms.move(session, operation)
    return True


async def _open(
    session: Session, codes: Sequence[AccessCode], kind: OperationKind, at: datetime
) -> None:
    await alarms.drop_failed(session, codes, kind)
    await alarms.put(session, await operations.insert_operations(session, codes, kind, at))


def by_length(doors: Iterable[Lock]) -> list[tuple[int, list[Lock]]]:
    """The doors that take a PIN of the same length, and so the same PIN, together. In one order for
    all bookings: two that want the same PINs on the same locks wait in turn."""
    ordered = sorted(doors, key=lambda door: (pins.LENGTHS[door.protocol], door.id))
    grouped = groupby(ordered, key=lambda door: pins.LENGTHS[door.protocol])
    return [(length, list(group)) for length, group in grouped]


async def _insert_codes(
    session: Session,
    sealer: Sealer,
    reservation_id: str,
    doors: Sequence[Lock],
    window: Window,
    kept: Mapping[int, pins.Pin],
) -> list[AccessCode]:
    made: list[AccessCode] = []
    for length, left in by_length(doors):
        if length in kept:
            same = await _insert_where_free(
                session, sealer, reservation_id, left, window, kept[length]
            )
            made += same
            taken = {code.lock_id for code in same}
            left = [door for door in left if door.id not in taken]
        if left:
            made += await _insert_with_one_pin(session, sealer, reservation_id, left, window)
    return made


async def _insert_with_one_pin(
    session: Session, sealer: Sealer, reservation_id: str, doors: Sequence[Lock], window: Window
) -> list[AccessCode]:
    """With a PIN that is free on every one of these doors."""
    length = pins.LENGTHS[doors[0].protocol]
    for _ in range(CHOICES):
        pin = pins.choose(length)
        made = await _insert_where_free(session, sealer, reservation_id, doors, window, pin)
        if len(made) == len(doors):
            return made
        await access_codes.drop_codes(session, made)
    names = ", ".join(door.id for door in doors)
    raise Conflict(f"no free PIN found for lock {names} in {CHOICES} tries")


async def _insert_where_free(
    session: Session,
    sealer: Sealer,
    reservation_id: str,
    doors: Sequence[Lock],
    window: Window,
    pin: pins.Pin,
) -> list[AccessCode]:
    """With this PIN, on those of the doors where nobody has it or had it lately."""
    ids = await access_codes.new_code_ids(session, len(doors))
    return await access_codes.insert_codes(
        session, new_rows(sealer, reservation_id, ids, doors, window, pin)
    )


def new_rows(
    sealer: Sealer,
    reservation_id: str,
    ids: Sequence[int],
    doors: Sequence[Lock],
    window: Window,
    pin: pins.Pin,
) -> list[dict[str, Any]]:
    """The columns of access codes with this PIN, with those ids, for those doors."""
    return [
        {
            "id": code_id,
            "reservation_id": reservation_id,
            "lock_id": door.id,
            "starts_at": window.starts_at,
            "ends_at": window.ends_at,
            "remote_name": new_remote_name(),
            "pin_sealed": sealer.seal_pin(code_id, pin),
            "pin_fingerprint": sealer.fingerprint(door.id, pin),
        }
        for code_id, door in zip(ids, doors, strict=True)
    ]


async def begin_anew(session: Session, code: AccessCode) -> None:
    """The lock holds nothing of it: the next create is a new one, under a name nobody has used."""
    if code.state != CodeState.GENERATING:
        await access_codes.move_code(
            session, code, CodeState.GENERATING, active_at=None, remote_id=None
        )
    code.past_names = [*code.past_names, code.remote_name]
    code.remote_name, code.remote_id, code.active_at = new_remote_name(), None, None
    await session.flush()


async def replace_pin(session: Session, sealer: Sealer, actor: str, code: AccessCode) -> None:
    """Other digits, and another name, for a code whose PIN its lock does not take."""
    await begin_anew(session, code)
    await _give_other_pin(session, sealer, actor, code, {})


async def reissue(
    session: Session,
    sealer: Sealer,
    actor: str,
    access_code_id: int,
    *,
    now: datetime,
    dry_run: bool = False,
) -> AccessCode:
    """Give a stay another PIN on this lock: its PIN may be known to somebody it should not be.

    Digits that never were near a door are replaced at once. Others come off first; once they are
    seen to be off, the stay is planned again and gets a new code. Asked again meanwhile, nothing
    more happens. Returns the code asked about, as it is now; with `dry_run` nothing is changed.

    Raises NotFound, and Conflict where no PIN is wanted any more.
    """
    found = await session.get(AccessCode, access_code_id)
    if found is None:
        raise unknown(access_code_id)
    # The stay first, then its codes: everybody locks in this order, so nobody deadlocks.
    stay = await stays.reservation_for_update(session, found.reservation_id)
    code = await access_codes.code_for_update(session, access_code_id)
    if code.state in CODE_ENDED:
        raise Conflict(f"access code {code.id} is {code.state}: it has no PIN any more")
    await reissue_all(session, sealer, actor, stay, [code], now=now, dry_run=dry_run)
    return code


def comes_off_first(code: AccessCode) -> bool:
    """Whether its PIN is on the door, or may be: before another is made, it is taken off."""
    return code.state != CodeState.SCHEDULED


async def reissue_all(
    session: Session,
    sealer: Sealer,
    actor: str,
    stay: Reservation | None,
    live: Sequence[AccessCode],
    *,
    now: datetime,
    dry_run: bool,
) -> None:
    """The same for several codes of a stay, whose doors get one PIN where their lengths allow."""
    if (
        stay is None
        or stay.status != ReservationStatus.CONFIRMED
        or stay.pins_withheld_at is not None
        or all(code.ends_at <= now for code in live)
    ):
        raise Conflict(f"reservation {live[0].reservation_id} wants no PIN now, so none is made")
    if dry_run:
        return
    preferred: dict[int, pins.Pin] = {}
    for code in live:
        if not comes_off_first(code):
            await _give_other_pin(session, sealer, actor, code, preferred)
            continue
        if code.state == CodeState.REVOKING:  # asked again
            await withdraw(session, actor, code, now=now)
            continue
        await store.record(session, actor, "code:reissued", code=code)
        await withdraw(session, actor, code, now=now)
        # Told as it is then, `revoking`: that it changes, and that its PIN counts no more.
        await outcomes.announce(session, EventType.CODE_CHANGED, code)


def unknown(access_code_id: int) -> NotFound:
    return NotFound(f"there is no access code {access_code_id}: `pinqueue codes list` shows them")


async def _give_other_pin(
    session: Session,
    sealer: Sealer,
    actor: str,
    code: AccessCode,
    preferred: dict[int, pins.Pin],
) -> None:
    """Digits of its stay's other doors, `preferred`, where they are free."""
    length = pins.LENGTHS[(await session.get_one(Lock, code.lock_id)).protocol]
    for _ in range(CHOICES):
        pin = preferred.get(length) or pins.choose(length)
        fingerprint = sealer.fingerprint(code.lock_id, pin)
        if fingerprint != code.pin_fingerprint and await access_codes.replace_pin(
            session,
            code,
            pin_sealed=sealer.seal_pin(code.id, pin),
            pin_fingerprint=fingerprint,
            pin_hash=None,
        ):
            preferred.setdefault(length, pin)
            await store.record(session, actor, "code:pin_replaced", code=code)
            await outcomes.announce(session, EventType.CODE_CHANGED, code)
            return
        preferred.pop(length, None)
    raise Conflict(f"no free PIN found for lock {code.lock_id} in {CHOICES} tries")


def new_remote_name() -> str:
    """19 ASCII characters (Tuya takes 20) that nobody else uses on a lock, and that say nothing."""
    return REMOTE_PREFIX + secrets.token_hex(8)
