"""Access codes: made, held, moved from state to state."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from pinqueue.db import Session
from pinqueue.errors import StateChanged
from pinqueue.lifecycle import CODE_ENDED, CodeState, sources_of
from pinqueue.models import AccessCode
from pinqueue.store import held


async def new_code_ids(session: Session, count: int) -> list[int]:
    """Ids for codes about to be inserted: a PIN is sealed for its row before there is one."""
    rows = await session.scalars(
        text("SELECT nextval('access_codes_id_seq') FROM generate_series(1, :count)"),
        {"count": count},
    )
    return list(rows)


async def insert_codes(session: Session, rows: list[dict[str, Any]]) -> list[AccessCode]:
    """In the order of their ids; without those whose PIN is in use, or was lately, on their lock.

    Another booking that has just taken such a PIN is waited for: it may yet roll back.
    """
    made = await session.scalars(
        insert(AccessCode)
        .values([{"state": CodeState.SCHEDULED, **row} for row in rows])
        .on_conflict_do_nothing(index_elements=["pin_fingerprint"])
        .returning(AccessCode)
    )
    return sorted(made, key=lambda code: code.id)


async def drop_codes(session: Session, codes: Sequence[AccessCode]) -> None:
    """Take back what was inserted in this very transaction."""
    await session.execute(delete(AccessCode).where(AccessCode.id.in_([code.id for code in codes])))


async def replace_pin(session: Session, code: AccessCode, **values: Any) -> bool:
    """Give a code other digits; False when they are in use, or were lately, on that lock."""
    try:
        async with session.begin_nested():
            await session.execute(
                update(AccessCode).where(AccessCode.id == code.id).values(**values)
            )
    except IntegrityError:
        return False
    await session.refresh(code)
    return True


async def unhashed_codes(session: Session, limit: int) -> Sequence[tuple[int, bytes]]:
    """Ids and sealed PINs of codes that are planned and have no hash yet, the nearest first."""
    rows = await session.execute(
        select(AccessCode.id, AccessCode.pin_sealed)
        .where(AccessCode.state == CodeState.SCHEDULED, AccessCode.pin_hash.is_(None))
        .order_by(AccessCode.starts_at)
        .limit(limit)
    )
    return [(code_id, sealed) for code_id, sealed in rows if sealed is not None]


_HASHING = 0x50510005_00000000
"""The advisory locks of codes that are being hashed, by their ids. See mutex.NAMESPACE."""


async def is_to_be_hashed(session: Session, code_id: int) -> bool:
    """Whether a code has no hash yet, and no other worker hashes it ahead: then none does until
    this transaction ends. No row is held, for which an operation would wait."""
    if not await session.scalar(select(func.pg_try_advisory_xact_lock(_HASHING + code_id))):
        return False
    # Looked at only now: who was at it may have ended a moment ago.
    unhashed = select(AccessCode.pin_hash.is_(None)).where(AccessCode.id == code_id)
    return await session.scalar(unhashed) is True


async def keep_hash(session: Session, code_id: int, sealed: bytes, pin_hash: str) -> bool:
    """False where the code has other digits by now, or none, or a hash."""
    kept = await session.scalar(
        update(AccessCode)
        .where(
            AccessCode.id == code_id, AccessCode.pin_sealed == sealed, AccessCode.pin_hash.is_(None)
        )
        .values(pin_hash=pin_hash)
        .returning(AccessCode.id)
    )
    return kept is not None


async def live_codes(session: Session, reservation_id: str) -> Sequence[AccessCode]:
    """A stay's codes that are on a door or may yet be, each held until the transaction ends."""
    return (
        await session.scalars(
            held(
                select(AccessCode)
                .where(AccessCode.reservation_id == reservation_id)
                .where(AccessCode.state.not_in(CODE_ENDED))
                .order_by(AccessCode.id)
            )
        )
    ).all()


async def live_codes_at_lock(session: Session, lock_id: str) -> Sequence[AccessCode]:
    """A lock's codes that are on its door or may yet be, each held until the transaction ends."""
    return (
        await session.scalars(
            held(
                select(AccessCode)
                .where(AccessCode.lock_id == lock_id, AccessCode.state.not_in(CODE_ENDED))
                .order_by(AccessCode.id)
            )
        )
    ).all()


async def code_for_update(session: Session, access_code_id: int) -> AccessCode:
    found = await session.scalars(held(select(AccessCode).where(AccessCode.id == access_code_id)))
    return found.one()


async def codes_for_update(session: Session, ids: Collection[int]) -> Sequence[AccessCode]:
    found = await session.scalars(
        held(select(AccessCode).where(AccessCode.id.in_(ids)).order_by(AccessCode.id))
    )
    return found.all()


async def move_code(session: Session, code: AccessCode, to: CodeState, **values: Any) -> None:
    """The one place where a code's state changes; StateChanged unless the move is allowed."""
    moved = await session.execute(
        update(AccessCode)
        .where(AccessCode.id == code.id, AccessCode.state.in_(sources_of(to)))
        .values(state=to, **values)
        .returning(AccessCode.id)
    )
    if moved.one_or_none() is None:
        raise StateChanged(f"access code {code.id} cannot become {to}: it is no longer as read")
    await session.refresh(code)
