"""The schema this version works with, and which one a database has: looked at before anything
starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from pinqueue.db import Session, sqlalchemy_url
from pinqueue.errors import DatabaseUnavailable, SchemaWrong
from pinqueue.lines import KEEPALIVE

REVISION: Final = "0027"
"""The last of our migrations. To ask Alembic for it would import all of that at each start."""


@dataclass(frozen=True)
class Found:
    """What schema a database has."""

    revision: str | None = None
    """None when it was never migrated."""
    oldest: str | None = None
    """The oldest revision whose PinQueue can still work with it; None where it does not say."""

    def serves(self, revision: str) -> bool:
        """Whether it is newer than that, and its PinQueue can work with it all the same: so old
        and new run side by side while machines are upgraded one by one."""
        return self.oldest is not None and self.oldest <= revision < (self.revision or "")


def check(url: str) -> str:
    """The revision the database is at; raises SchemaWrong unless we can work with it."""
    actual = found(url)
    if (wrong := fault(actual)) is not None:
        raise SchemaWrong(wrong)
    return actual.revision or ""


def fault(actual: Found) -> str | None:
    """What is wrong with a database of that schema, and what to do; None when nothing is."""
    if actual.revision == REVISION or actual.serves(REVISION):
        return None
    if actual.revision is None:
        return "the database holds no PinQueue schema yet: run `pinqueue migrate`"
    return (
        f"the database is at revision {actual.revision}, this PinQueue needs {REVISION}: "
        "run `pinqueue migrate`, or install the version that fits"
    )


async def found_in(session: Session) -> Found:
    """What schema the database has that a session speaks to."""
    return await (await session.connection()).run_sync(_found)


def found(url: str) -> Found:
    """The same of the database at a URL."""
    engine = create_engine(sqlalchemy_url(url), poolclass=NullPool, connect_args=dict(KEEPALIVE))
    try:
        with engine.connect() as connection:
            return _found(connection)
    except OperationalError as error:
        raise DatabaseUnavailable(f"the database cannot be reached: {error.orig}") from error
    finally:
        engine.dispose()


def _found(connection: Connection) -> Found:
    def only(table: str, query: str) -> str | None:
        """What the one row of a table tells; None where there is no such table yet."""
        there = connection.scalar(text("SELECT to_regclass(:table)"), {"table": table})
        return connection.scalar(text(query)) if there else None

    return Found(
        only("alembic_version", "SELECT version_num FROM alembic_version"),
        only("schema_support", "SELECT oldest_revision FROM schema_support"),
    )
