"""The database brought to this version's schema, by Alembic.

Apart from `schema`, which every process needs at its start: to import Alembic took a tenth of that,
and only who migrates needs it.
"""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import OperationalError, ProgrammingError

from alembic import command
from pinqueue import lines, schema
from pinqueue.errors import DatabaseUnavailable, SchemaWrong


def migrate(url: str, revision: str = "head") -> None:
    """Bring the database to a revision, or leave it at a newer one that serves us too. Safe to run
    from several processes at once."""
    lines.insist_own_session(url)  # it holds the lock that keeps those apart
    if revision == "head" and schema.found(url).serves(schema.REVISION):
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


def _config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_script_location()))
    config.attributes["url"] = url
    return config


def _script_location() -> Path:
    """In an installed wheel the migrations lie inside the package, in a checkout beside it."""
    here = Path(__file__).parent
    installed, checkout = here / "alembic", here.parent / "alembic"
    return installed if installed.is_dir() else checkout
