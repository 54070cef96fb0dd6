"""The simulated clock: runs at the pace of the real one, and can be moved."""

from __future__ import annotations

import time
from datetime import datetime

from pinqueue.simulator.terms import iso


class Clock:
    """The only place of the simulator that reads the time."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def now(self) -> float:
        """Simulated time, in epoch seconds."""
        return time.time() + self._ahead

    def real_ms(self) -> int:
        """The true time. What the product signs with is checked against this one."""
        return int(time.time() * 1000)

    def advance(self, seconds: float) -> None:
        self._ahead += seconds

    def set(self, instant: datetime) -> None:
        if instant.tzinfo is None:
            raise ValueError("an instant needs its offset")
        self._ahead = instant.timestamp() - time.time()

    def as_json(self) -> dict[str, object]:
        return {"now": iso(self.now()), "ahead_seconds": round(self._ahead, 3)}
