"""Adds up what the processes count, so that any web process can tell of the whole deployment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pinqueue import jobs, logs
from pinqueue.db import Database
from pinqueue.errors import DatabaseUnavailable
from pinqueue.metrics import (
    DATABASE_UP,
    JOBS,
    OLDEST_OVERDUE,
    OVERDUE_PINS,
    WORKERS,
    Gauges,
    Metrics,
    Values,
    added_up,
)
from pinqueue.patience import within
from pinqueue.store import metrics as totals

log = logs.get(__name__)

ADD_EVERY = 5.0
ADD_WITHIN, READ_WITHIN = 2.0, 0.8
"""Seconds. A scrape is answered within one, whatever the database does."""
ALIVE = 30.0
"""Seconds since its last sign of life, of a worker that counts as living."""


class Monitor:
    """One process's part: it adds its counts to the deployment's totals, and tells these.

    What is counted is added once. While the database is away it is kept; where the answer to a
    COMMIT was lost, the server is asked what became of it before anything is added again.
    """

    def __init__(self, db: Database, metrics: Metrics) -> None:
        self._db, self._metrics = db, metrics
        self._alone = asyncio.Lock()
        self._in_doubt: tuple[str, Values] | None = None
        self._totals: Values | None = None

    @asynccontextmanager
    async def adding(self) -> AsyncIterator[None]:
        """Add every few seconds while the block runs, and once more at its end."""
        ending = asyncio.Event()
        task = asyncio.create_task(self._keep_adding(ending))
        try:
            yield
        finally:
            ending.set()
            await task

    async def scrape(self, accept: str = "") -> tuple[bytes, str]:
        """The figures of the whole deployment, as text of an accepted type.

        When the database is away: its totals as last known, and what this process counted since.
        Told from this process alone they would fall, and rise again by everything ever counted.
        """
        try:
            gauges = await within(READ_WITHIN, self._read())
            known = self._totals
        except (DatabaseUnavailable, TimeoutError) as error:
            log.warning("scrape-without-database", reason=str(error))
            gauges, known = {DATABASE_UP: {(): 0}}, self._last_known()
        return self._metrics.exposition(known, gauges, accept)

    async def add_up(self) -> None:
        """Add what this process counted to the totals, and learn these."""
        async with self._alone:
            await self._settle()
            if growth := self._metrics.growth():
                await self._add(growth)
            async with self._db.transaction() as session:
                self._totals = await totals.totals(session)

    def _last_known(self) -> Values | None:
        if self._totals is None:
            return None
        return added_up(self._totals, self._metrics.growth())

    async def _settle(self) -> None:
        if self._in_doubt is None:
            return
        transaction, growth = self._in_doubt
        async with self._db.transaction() as session:
            outcome = await totals.outcome_of(session, transaction)
        if outcome == "in progress":
            raise DatabaseUnavailable("what was added last is not committed yet")
        if outcome != "aborted":
            self._note_added(growth)
        self._in_doubt = None

    async def _add(self, growth: Values) -> None:
        async with self._db.transaction() as session:
            transaction = await totals.add(session, growth)
            self._in_doubt = (transaction, growth)
        self._note_added(growth)
        self._in_doubt = None

    def _note_added(self, growth: Values) -> None:
        self._metrics.mark_added(growth)
        if self._totals is not None:
            self._totals = added_up(self._totals, growth)

    async def _read(self) -> Gauges:
        await self.add_up()
        async with self._db.transaction() as session:
            return _gauges(await jobs.get_queue_health(session))

    async def _keep_adding(self, ending: asyncio.Event) -> None:
        while not ending.is_set():
            await self._add_up_if_possible()
            try:
                await asyncio.wait_for(ending.wait(), ADD_EVERY)
            except TimeoutError:
                continue
        await self._add_up_if_possible()

    async def _add_up_if_possible(self) -> None:
        try:
            await within(ADD_WITHIN, self.add_up())
        except (DatabaseUnavailable, TimeoutError) as error:
            log.warning("metrics-not-added", reason=str(error))
        except Exception:  # not foreseen; but no PIN is late because of what is counted
            log.exception("metrics-not-added")


def _gauges(health: dict[str, Any]) -> Gauges:
    alive = [one for one in health["workers"] if one["heartbeat_age_seconds"] <= ALIVE]
    return {
        DATABASE_UP: {(): 1},
        JOBS: {
            (queue, state): count
            for queue, states in health["queues"].items()
            for state, count in states.items()
        },
        OLDEST_OVERDUE: {(): health["oldest_overdue_seconds"]},
        OVERDUE_PINS: {(): health["overdue_pins"]},
        WORKERS: {(): len(alive)},
    }
