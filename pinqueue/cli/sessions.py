"""What a command calls with: the database and the keys of the settings, and who typed it."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pinqueue.cli.later import audit, config, db, reservations, schema, sealing

if TYPE_CHECKING:
    from pinqueue.db import Session

T = TypeVar("T")


def with_session(use: Callable[[Session], Awaitable[T]]) -> T:
    """What one call returns, made in one transaction that commits if it does."""

    async def in_transaction(database: db.Database) -> T:
        async with database.transaction() as session:
            return await use(session)

    return with_database(in_transaction)


def with_database(use: Callable[[db.Database], Awaitable[T]]) -> T:
    """What one call returns that makes its own transactions, on a schema that is as it should."""
    settings = config.read_settings()
    settings.require("database_url")
    schema.check(settings.database_url)

    async def run() -> T:
        database = db.Database(settings.database_url, pool_size=1, name="pinqueue-cli")
        try:
            return await use(database)
        finally:
            await database.close()

    return asyncio.run(run())


def rows(query: str, **parameters: Any) -> list[dict[str, Any]]:
    return with_session(lambda s: audit.rows(s, query, **parameters))


def actor() -> str:
    """Who is at the command line, for the audit."""
    return f"cli:{getpass.getuser()}"


def configured_sealer() -> sealing.Sealer:
    return sealing.sealer(config.read_settings())


def configured_planner() -> reservations.Planner:
    settings = config.read_settings()
    return reservations.Planner(sealing.sealer(settings), settings.lead)
