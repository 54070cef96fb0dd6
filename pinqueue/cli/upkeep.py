"""Migrate, check, health: whether the database, and all that works on it, is as it should be."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import NoReturn

import typer

from pinqueue.cli.later import config, db, health, migrating, schema, sealing, tables
from pinqueue.cli.options import Json
from pinqueue.cli.printing import tell

HEALTH_WITHIN, HEALTH_AT_LEAST = 0.8, 0.2
"""Seconds `health` has from its start, not counting those in which others have the processor, and
in any case after its imports."""

commands = typer.Typer()


@commands.command("migrate")
def migrate(json: Json = False) -> None:
    """Bring the database to this version's schema. Safe from several processes at once."""
    settings = config.read_settings()
    settings.require("database_url")
    migrating.migrate(settings.database_url)
    revision = schema.check(settings.database_url)
    tell(json, f"the database is at revision {revision}", revision=revision)


@commands.command("check")
def check(json: Json = False) -> None:
    """Check settings, database and schema without starting anything."""
    settings = config.read_settings()
    settings.require(*config.STORE)
    sealing.sealer(settings)
    revision = schema.check(settings.database_url)
    missing = [name for name in config.LOCK_CLOUD if not getattr(settings, name)]
    missing = [f"PINQUEUE_{name.upper()}" for name in missing]
    project = f"no Tuya project: set {', '.join(missing)}" if missing else "Tuya project set"
    unknown = config.unknown_settings()
    strange = f"\nno setting, so without effect: {', '.join(unknown)}" if unknown else ""
    tell(
        json,
        f"database: reachable, revision {revision}\nlocks: {project}{strange}",
        database="ok",
        revision=revision,
        lock_cloud="not set" if missing else "set",
        missing=missing,
        unknown=unknown,
    )


@commands.command("health")
def health_(json: Json = False) -> None:
    """Whether PINs will be on time: database, workers, lock cloud, what is overdue. Exit code 1 if
    not. Answers within a second, whatever hangs."""
    settings = config.read_settings()
    settings.require("database_url")

    ask, print_out = health.report, tables.show_health  # imported now, so that it counts

    async def answer() -> NoReturn:
        database = db.Database(settings.database_url, pool_size=1, name="pinqueue-cli")
        left = max(HEALTH_WITHIN - time.process_time(), HEALTH_AT_LEAST)
        report = await ask(settings, database, within=left)
        if report["database"] == "ok":
            await database.close()
        print_out(report, as_json=json)
        sys.stdout.flush()
        # Not sys.exit: that waits for a name server that does not answer.
        os._exit(0 if report["healthy"] else 1)

    asyncio.run(answer())
