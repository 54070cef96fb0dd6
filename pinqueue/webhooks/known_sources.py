"""Who sends webhooks: what a process knows of its sources, and how it learns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from pinqueue.arrivals import BATCH_WITHIN
from pinqueue.db import Database
from pinqueue.patience import within
from pinqueue.store import sources
from pinqueue.store.sources import SeenSource
from pinqueue.together import Together

LATELY = 1.0
"""Seconds for which a source is taken to be as it was. Whoever writes something down because of
that looks, in the same transaction, whether it still is."""


class Sources:
    """Of one web process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._together: Together[str, SeenSource | None] = Together(self._look_up)
        self._seen: dict[str, tuple[SeenSource, float]] = {}
        """Each with our own clock's time."""

    def lately(self, source_id: str) -> SeenSource | None:
        """A source as it was a moment ago, with the time that it is now by the database's clock;
        None where it was not looked up so lately."""
        seen, looked_at = self._seen.get(source_id, (None, 0.0))
        ago = time.monotonic() - looked_at
        if seen is None or ago > LATELY:
            return None
        return replace(seen, at=seen.at + timedelta(seconds=ago))

    def forget(self, source_id: str) -> None:
        """What it was like lately."""
        self._seen.pop(source_id, None)

    async def now(self, source_id: str) -> SeenSource | None:
        """As it is now; None where there is none by that name."""
        return await self._together.ask(source_id)

    async def _look_up(self, source_ids: Sequence[str]) -> Sequence[SeenSource | None]:
        """For many webhooks at once."""

        async def look() -> dict[str, SeenSource]:
            async with self._db.look() as session:
                return await sources.seen_sources(session, set(source_ids))

        found = await within(BATCH_WITHIN, look())
        looked_at = time.monotonic()
        for source_id in source_ids:
            if source_id in found:
                self._seen[source_id] = found[source_id], looked_at
            else:
                self.forget(source_id)
        return [found.get(source_id) for source_id in source_ids]
