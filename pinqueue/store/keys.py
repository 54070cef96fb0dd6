"""API keys."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, or_, select, update

from pinqueue.db import Session
from pinqueue.models import ApiKey
from pinqueue.store import held

KEY_USE_EVERY = timedelta(minutes=1)


async def key_by_name(session: Session, name: str) -> ApiKey | None:
    key: ApiKey | None = await session.scalar(held(select(ApiKey).filter_by(name=name)))
    return key


async def api_key(session: Session, key_id: str) -> ApiKey | None:
    return await session.get(ApiKey, key_id)


async def note_key_use(session: Session, key: ApiKey) -> None:
    """Keep when a key was last used, to the minute. Nobody waits for another who notes the same."""
    stale = (
        select(ApiKey.id)
        .where(
            ApiKey.id == key.id,
            or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at <= func.now() - KEY_USE_EVERY),
        )
        .with_for_update(skip_locked=True)
    )
    await session.execute(
        update(ApiKey).where(ApiKey.id.in_(stale)).values(last_used_at=func.now())
    )
