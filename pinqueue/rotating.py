"""Seals anew, under the newest key, all that older keys have sealed: then these can be thrown away.

Reads, bookings and workers go on meanwhile: each batch is a short transaction, what somebody holds
is left for the next round, and every key that is set opens what it has sealed until the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from pinqueue import logs, store
from pinqueue.db import Database
from pinqueue.errors import ConfigInvalid, DatabaseUnavailable
from pinqueue.sealing import Sealer
from pinqueue.store.sealed import COLUMNS, Column, hold_sealed, replace_sealed, sealed, table_of

log = logs.get(__name__)

BATCH = 500
ROUNDS = 60
REST = 1.0
"""Seconds before a row that somebody held is tried again."""


async def rotate_secrets(db: Database, sealer: Sealer, actor: str) -> dict[str, int]:
    """How many were sealed anew in each table.

    Raises ConfigInvalid when no key that is set opens one of them, and DatabaseUnavailable when
    somebody held one for a whole minute; in both cases after all others were sealed anew.
    """
    counts = {table_of(column): 0 for column in COLUMNS}
    for _ in range(ROUNDS):
        for column in COLUMNS:
            counts[table_of(column)] += await _seal_anew(db, sealer, column)
        held, lost = await _left(db, sealer)
        if not held:
            break
        log.info("held-by-others", rows=len(held))
        await asyncio.sleep(REST)
    async with db.transaction() as session:
        detail: dict[str, Any] = {**counts, "left": len(held), "lost": len(lost)}
        await store.record(session, actor, "keys:secrets_rotated", **detail)
    if lost:
        raise ConfigInvalid(
            f"no key in PINQUEUE_SECRET_KEYS opens {_some(lost)}: add the key they were sealed with"
        )
    if held:
        raise DatabaseUnavailable(f"somebody holds {_some(held)}: run it again")
    return counts


async def _seal_anew(db: Database, sealer: Sealer, column: Column) -> int:
    """One round through a column; returns how many it sealed anew."""
    done, after = 0, None
    while True:
        async with db.transaction() as session:
            rows = await hold_sealed(session, column, after, BATCH)
            if not rows:
                return done
            new, _ = _anew(sealer, rows)
            await replace_sealed(session, column, new)
        done, after = done + len(new), max(rows)


async def _left(db: Database, sealer: Sealer) -> tuple[list[str], list[str]]:
    """What is still sealed by an older key, and what no key opens."""
    held, lost = [], []
    for column in COLUMNS:
        after = None
        while True:
            async with db.transaction() as session:
                rows = await sealed(session, column, after, BATCH)
            if not rows:
                break
            old, unopened = _anew(sealer, rows)
            held += [f"{table_of(column)} {key}" for key in old]
            lost += [f"{table_of(column)} {key}" for key in unopened]
            after = max(rows)
    return held, lost


def _anew(sealer: Sealer, rows: Mapping[Any, bytes]) -> tuple[dict[Any, bytes], list[Any]]:
    """What the newest key has not sealed yet, under it, by id; and the ids of what no key opens."""
    new: dict[Any, bytes] = {}
    lost = []
    for key, old in rows.items():
        try:
            if (seal := sealer.seal_anew(old)) is not None:
                new[key] = seal
        except ConfigInvalid:
            lost.append(key)
    return new, lost


def _some(rows: Sequence[str]) -> str:
    """The first few, and how many more."""
    return ", ".join(rows[:3]) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")
