"""Runs the migrations: one transaction each, one process at a time, no long wait for a lock."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from alembic import context
from pinqueue.config import read_settings
from pinqueue.db import sqlalchemy_url
from pinqueue.lines import KEEPALIVE
from pinqueue.models import Base

MIGRATING = 0x50494E51  # "PINQ": the advisory lock that lets one process migrate at a time


def ours(
    item: Any, name: str | None, kind: str, reflected: bool, compare_to: Any
) -> bool | Literal[True]:
    """Procrastinate's tables come from its own files and are not in our models."""
    table = name if kind == "table" else getattr(getattr(item, "table", None), "name", "")
    return not (table or "").startswith("procrastinate_")


def run() -> None:
    url = context.config.attributes.get("url") or read_settings().database_url
    engine = create_engine(sqlalchemy_url(url), poolclass=NullPool, connect_args=dict(KEEPALIVE))
    with engine.connect() as connection:
        # A session lock, taken before the transaction: the second process waits here, then finds
        # nothing left to do.
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATING})
        connection.execute(text("SET lock_timeout = '4s'"))
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            include_object=ours,
            transaction_per_migration=True,
            compare_server_default=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run()
