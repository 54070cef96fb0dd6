"""The database's schema: brought to today by Alembic, and looked at before anything starts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.pool import NullPool

from alembic import command
from pinqueue import lines
from pinqueue.db import Session, sqlalchemy_url
from pinqueue.errors import DatabaseUnavailable, SchemaWrong
from pinqueue.lines import KEEPALIVE


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


def migrate(url: str, revision: str = "head") -> None:
    """Bring the database to a revision, or leave it at a newer one that serves us too. Safe to run
    from several processes at once."""
    lines.insist_own_session(url)  # it holds the lock that keeps those apart
    if revision == "head" and found(url).serves(expected()):
        return
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
    """The revision the database is at; raises SchemaWrong unless we can work with it."""
    actual = found(url)
    if (wrong := fault(actual)) is not None:
        raise SchemaWrong(wrong)
    return actual.revision or ""


def fault(actual: Found) -> str | None:
    """What is wrong with a database of that schema, and what to do; None when nothing is."""
    if actual.revision == expected() or actual.serves(expected()):
        return None
    if actual.revision is None:
        return "the database holds no PinQueue schema yet: run `pinqueue migrate`"
    return (
        f"the database is at revision {actual.revision}, this PinQueue needs {expected()}: "
        "run `pinqueue migrate`, or install the version that fits"
    )


@cache
def expected() -> str:
    """The revision this version of PinQueue was written for."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None  # noqa: S101  # our migrations come with us
    return head


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
    revision = MigrationContext.configure(connection).get_current_revision()
    told = revision and connection.scalar(text("SELECT to_regclass('schema_support')"))
    oldest = told and connection.scalar(text("SELECT oldest_revision FROM schema_support"))
    return Found(revision, oldest)


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
