"""One ring of an operation: claim it, go to the door, record what came of it.

Intent is committed before a call to the lock and the outcome after it; no transaction is open while
the network is. Three guards together make each operation happen once on the door, none of them does
alone: the mutex keeps two workers apart, the epoch lets a late worker change nothing, and the look
by name finds what an unanswered call did.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pinqueue import reservations
from pinqueue.db import Database
from pinqueue.ledger import Ledger
from pinqueue.locks import Door, LockGateway
from pinqueue.metrics import Metrics
from pinqueue.mutex import Mutex
from pinqueue.store.claiming import Claimed, ClaimedCode

ACTOR = "worker"


@dataclass(frozen=True)
class Workbench:
    """What a worker has at hand for every operation."""

    db: Database
    mutex: Mutex
    gateway: LockGateway
    planner: reservations.Planner
    retries: int
    retry_backoff: timedelta
    grace: timedelta
    """How long a call whose answer was lost may still take effect."""
    metrics: Metrics = field(default_factory=Metrics)
    suspect: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while an operation rings that may have killed its last workers."""
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ledger", Ledger(self.db, self.mutex))


@dataclass(frozen=True)
class Ring:
    """A claimed operation on its way through one ring."""

    claim: Claimed
    job_id: int | None = None
    claimed_on: float = field(default_factory=time.monotonic)

    @property
    def code(self) -> ClaimedCode:
        return self.claim.code

    @property
    def door(self) -> Door:
        return Door(self.claim.device_id, self.claim.protocol)

    @property
    def ids(self) -> dict[str, Any]:
        """What its log lines name it by."""
        return {
            "kind": self.claim.operation.kind,
            "operation_id": self.claim.operation.id,
            "epoch": self.claim.operation.epoch,
            "access_code_id": self.code.id,
            "reservation_id": self.code.reservation_id,
            "lock_id": self.code.lock_id,
            "job_id": self.job_id,
        }

    def now(self) -> datetime:
        """The database's time, carried on at our clock's pace: a wrong clock here does no harm."""
        return self.claim.now + timedelta(seconds=time.monotonic() - self.claimed_on)
