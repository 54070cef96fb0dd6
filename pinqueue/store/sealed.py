"""Every column that holds something sealed, a batch of rows at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import InstrumentedAttribute

from pinqueue.db import Session
from pinqueue.models import AccessCode, Endpoint, Source

Column = InstrumentedAttribute[Any]

COLUMNS: Final[tuple[Column, ...]] = (
    Source.secret,
    Source.previous_secret,
    Source.api,
    Endpoint.secret,
    AccessCode.pin_sealed,
)


def table_of(column: Column) -> str:
    return str(column.class_.__tablename__)


async def hold_sealed(
    session: Session, column: Column, after: object, limit: int
) -> dict[Any, bytes]:
    """The next rows by id with what each holds sealed, held until the transaction ends. What
    another transaction holds is left out: nobody waits for this one, nor this one for anybody."""
    return await _sealed(session, column, after, limit, hold=True)


async def sealed(session: Session, column: Column, after: object, limit: int) -> dict[Any, bytes]:
    """The same to look at only, and nothing left out."""
    return await _sealed(session, column, after, limit, hold=False)


async def _sealed(
    session: Session, column: Column, after: object, limit: int, *, hold: bool
) -> dict[Any, bytes]:
    key = column.class_.id
    query = select(key, column).where(column.is_not(None)).order_by(key).limit(limit)
    if after is not None:
        query = query.where(key > after)
    if hold:
        query = query.with_for_update(skip_locked=True, key_share=True)
    return {id_: bytes(sealed) for id_, sealed in await session.execute(query)}


async def replace_sealed(session: Session, column: Column, new: Mapping[Any, bytes]) -> None:
    """Of rows that the caller holds."""
    if not new:
        return
    table = column.class_.__table__
    statement = (
        update(table)
        .where(table.c.id == bindparam("of"))
        .values({column.key: bindparam("becomes")})
    )
    connection = await session.connection()
    await connection.execute(statement, [{"of": key, "becomes": new[key]} for key in new])
