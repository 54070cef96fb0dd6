"""The database's schema: brought to today by Alembic, and looked at before anything starts."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.pool import NullPool

from alembic import command
from pinqueue import lines
from pinqueue.db import Session, sqlalchemy_url
from pinqueue.errors import DatabaseUnavailable, SchemaWrong
from pinqueue.lines import KEEPALIVE


def migrate(url: str, revision: str = "head") -> None:
    """Bring the database to a revision. Safe to run from several processes at once."""
    lines.insist_own_session(url)  # it holds the lock that keeps those apart
    try:
        command.upgrade(_config(url), revision)
    except OperationalError as error:
        raise DatabaseUnavailable(f"the database cannot be migrated: {error.orig}") from error
    except ProgrammingError as error:
        # Rights are missing, or tables of these names are there and nobody's migrations made them.
        why = str(error.orig).splitlines()[0]
        raise SchemaWrong(f"the database cannot be migrated: {why}") from error
    except CommandError as error:
        raise SchemaWrong(
            f"the database cannot be migrated: {error}; a newer PinQueue made it: "
            "install the version that fits"
        ) from error


def check(url: str) -> str:
    """The revision the database is at; raises SchemaWrong unless it is the one we work with."""
    actual = current(url)
    if (wrong := fault(actual)) is not None:
        raise SchemaWrong(wrong)
    return actual or ""


def fault(actual: str | None) -> str | None:
    """What is wrong with a database at that revision, and what to do; None when nothing is."""
    if actual == expected():
        return None
    if actual is None:
        return "the database holds no PinQueue schema yet: run `pinqueue migrate`"
    return (
        f"the database is at revision {actual}, this PinQueue needs {expected()}: "
        "run `pinqueue migrate`, or install the version that fits"
    )


@cache
def expected() -> str | None:
    """The revision this version of PinQueue works with."""
    return ScriptDirectory.from_config(_config()).get_current_head()


async def revision(session: Session) -> str | None:
    """The revision of the database a session speaks to; None when it was never migrated."""
    connection = await session.connection()
    return await connection.run_sync(
        lambda connection: MigrationContext.configure(connection).get_current_revision()
    )


def current(url: str) -> str | None:
    """The revision the database is at, None when it was never migrated."""
    engine = create_engine(sqlalchemy_url(url), poolclass=NullPool, connect_args=dict(KEEPALIVE))
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except OperationalError as error:
        raise DatabaseUnavailable(f"the database cannot be reached: {error.orig}") from error
    finally:
        engine.dispose()


def _config(url: str = "") -> Config:
    config = Config()
    config.set_main_option("script_location", str(_script_location()))
    config.attributes["url"] = url
    return config


def _script_location() -> Path:
    """In an installed wheel the migrations lie inside the package, in a checkout beside it."""
    here = Path(__file__).parent
    installed, checkout = here / "alembic", here.parent / "alembic"
    return installed if installed.is_dir() else checkout
