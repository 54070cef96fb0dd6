"""PORT: what PinQueue asks of a lock, whoever made it.

An adapter translates the vendor's answers into these words and into the `LockError` classes of
`errors.py`, and nothing of the vendor's passes it. Accepted is not confirmed: only `ON_DOOR` says
that the PIN opens, and only a complete look without it (or `REMOVED`) says that it no longer does.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pinqueue.pins import Pin


class Delivery(enum.Enum):
    """How far a PIN has come between the cloud and the lock."""

    ACCEPTED = "accepted"
    """The cloud has it; the lock does not know it yet (or not yet its latest change)."""
    ON_DOOR = "on_door"
    """The lock has it: inside its window it opens."""
    REMOVING = "removing"
    """The cloud has marked it for removal; the lock may still open for it."""
    REMOVED = "removed"
    """The lock no longer has it; the cloud keeps a record of the past."""
    FAILED = "failed"
    """The lock did not take it, and the cloud has given up; asked again, it may. What the lock had
    before it may still open."""
    NO_ROOM = "no_room"
    """The lock did not take it: it holds as many PINs as it can."""
    OVERLAPS = "overlaps"
    """The lock did not take it: it takes no two PINs whose windows overlap."""
    REJECTED = "rejected"
    """The lock does not take these digits: it may take others."""


NOT_TAKEN = frozenset({Delivery.FAILED, Delivery.NO_ROOM, Delivery.OVERLAPS})
"""The lock did not take the PIN, or its latest change: what it had before may still open."""


@dataclass(frozen=True)
class Door:
    """A lock as its adapter needs to know it."""

    device_id: str
    protocol: str
    """`wifi`, `zigbee` or `bluetooth`: the same vendor figure means different things on each."""


@dataclass(frozen=True)
class Window:
    """When a PIN opens: from `starts_at` on, until before `ends_at`. Aware UTC, whole seconds."""

    starts_at: datetime
    ends_at: datetime

    def overlaps(self, other: Window) -> bool:
        return self.starts_at < other.ends_at and other.starts_at < self.ends_at


@dataclass(frozen=True)
class RemotePin:
    """A PIN as the lock's cloud lists it. The digits are never in a listing."""

    remote_id: int
    name: str
    window: Window
    delivery: Delivery
    reason: str = ""
    """Why it has come no further, where the vendor says so."""


class LockGateway(Protocol):
    """The calls. Each may take seconds and raise any `LockError`; none is retried inside."""

    async def list_pins(self, door: Door) -> Sequence[RemotePin]:
        """Every PIN of that lock the cloud knows, past ones too where the vendor lists them.

        Never a partial answer: what cannot be read whole raises.
        """
        ...

    async def create_pin(self, door: Door, name: str, pin: Pin, window: Window) -> int:
        """Ask for a PIN under a name that is unique on that lock; return the vendor's id for it."""
        ...

    async def change_pin(
        self, door: Door, remote_id: int, name: str, pin: Pin, window: Window
    ) -> None:
        """Ask for another window for a PIN that is there. The digits stay the same."""
        ...

    async def delete_pin(self, door: Door, remote_id: int) -> None:
        """Ask for removal. A PIN that is not there is a success."""
        ...

    async def close(self) -> None: ...
