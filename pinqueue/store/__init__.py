"""Every query and every guarded write, a file for each kind of rows; here is what many of them use.

Each joins the caller's transaction; none commits.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Select, func, select, text

from pinqueue.db import Session
from pinqueue.models import AccessCode, AuditEvent

T = TypeVar("T")


def held(query: Select[T]) -> Select[T]:
    """Its rows locked until the transaction ends, and read as they are now: a caller's session may
    know them from before it had to wait for somebody who changed them.

    FOR NO KEY UPDATE, since no id ever changes. A foreign key's check, which takes its rows in an
    order of its own, would wait for FOR UPDATE and so for somebody who waits for it.
    """
    return query.with_for_update(key_share=True).execution_options(populate_existing=True)


async def now(session: Session) -> datetime:
    """The database's clock, which alone decides what is due: workers' clocks differ."""
    moment = await session.scalar(select(func.now()))
    assert isinstance(moment, datetime)  # noqa: S101  # now() is never NULL
    return moment


async def record(
    session: Session,
    actor: str,
    event: str,
    *,
    code: AccessCode | None = None,
    reservation_id: str | None = None,
    operation_id: int | None = None,
    lock_id: str | None = None,
    **detail: Any,
) -> None:
    """Append an audit event. `detail` is JSON and never holds a PIN."""
    session.add(
        AuditEvent(
            actor=actor,
            event=event,
            reservation_id=code.reservation_id if code else reservation_id,
            access_code_id=code.id if code else None,
            lock_id=code.lock_id if code else lock_id,
            operation_id=operation_id,
            detail=detail,
        )
    )


async def rows(session: Session, query: str, **parameters: Any) -> list[dict[str, Any]]:
    """A read-only question in SQL, as dicts."""
    result = await session.execute(text(query), parameters)
    return [dict(row) for row in result.mappings()]
