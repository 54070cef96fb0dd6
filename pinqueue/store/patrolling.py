"""What the patrol asks and writes: whose turn it is, and what our rows say of what a lock lists."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select, update

from pinqueue.db import Session
from pinqueue.lifecycle import OPERATION_OPEN, CodeState, OperationKind
from pinqueue.locks import Door
from pinqueue.models import AccessCode, Lock, Operation


@dataclass(frozen=True)
class Turn:
    """A lock that is to be looked at, and when its turn came, by the database's clock."""

    lock_id: str
    device_id: str
    protocol: str
    fault: str | None
    """What was wrong at the last look."""
    began_at: datetime

    @property
    def door(self) -> Door:
        return Door(self.device_id, self.protocol)


async def claim_turn(session: Session, every: timedelta) -> Turn | None:
    """The lock whose turn is the longest past, now ours to look at; None when it is no lock's."""
    turn = (
        select(Lock.id)
        .where(Lock.patrol_at <= func.now())
        .order_by(Lock.patrol_at)
        .limit(1)
        .with_for_update(skip_locked=True, key_share=True)
    )
    row = (
        await session.execute(
            update(Lock)
            .where(Lock.id == turn.scalar_subquery())
            # Not all at the same pace, so that locks that were added together drift apart.
            .values(patrol_at=func.now() + every * (0.9 + 0.1 * func.random()))
            .returning(Lock.id, Lock.device_id, Lock.protocol, Lock.patrol_fault, func.now())
        )
    ).one_or_none()
    return None if row is None else Turn(*row)


async def look_by(session: Session, lock_id: str, at: datetime) -> None:
    """Have a lock's turn come at that time, where it is not to come sooner."""
    await session.execute(
        update(Lock).where(Lock.id == lock_id, Lock.patrol_at > at).values(patrol_at=at)
    )


async def end_turn(session: Session, turn: Turn, fault: str | None, *, believed: bool) -> None:
    """What was wrong, None for nothing, and whether its list was read whole and believed."""
    values = {"patrolled_at": turn.began_at} if believed else {}
    await session.execute(
        update(Lock).where(Lock.id == turn.lock_id).values(patrol_fault=fault, **values)
    )


async def codes_named(
    session: Session, lock_id: str, names: Collection[str]
) -> Sequence[AccessCode]:
    """The access codes of a lock that have, or had, one of these names there."""
    found = await session.scalars(
        select(AccessCode).where(
            AccessCode.lock_id == lock_id,
            or_(
                AccessCode.remote_name.in_(names),
                AccessCode.past_names.op("&&", is_comparison=True)(list(names)),
            ),
        )
    )
    return found.all()


async def believed(session: Session, turn: Turn) -> Sequence[AccessCode]:
    """Access codes whose PIN we take to be on the door since before this turn, with nothing under
    way that would put it there or take it off."""
    at_work = select(Operation).where(
        Operation.access_code_id == AccessCode.id,
        Operation.state.in_(OPERATION_OPEN),
        Operation.kind == OperationKind.GENERATE,
    )
    found = await session.scalars(
        select(AccessCode)
        .where(
            AccessCode.lock_id == turn.lock_id,
            AccessCode.state == CodeState.ACTIVE,
            AccessCode.active_at < turn.began_at,
            AccessCode.ends_at > func.now(),
            ~at_work.exists(),
        )
        .order_by(AccessCode.id)
    )
    return found.all()
