"""RULE: the states of an access code and of an operation, what each means, and the allowed moves.

           due                accepted            delivered
scheduled ───────► generating ──────────► sent ──────────────► active
    │ cancel           │ cancel             │ cancel, due         │ cancel, due
    ▼                  ▼                    ▼                     ▼
cancelled           revoking  ◄─────────────┴─────────────────────┘
                       │ confirmed off the door
                       ▼
                    revoked              any before ► failed ► revoking, or generating again
"""

from __future__ import annotations

import enum
from typing import Final


class CodeState(enum.StrEnum):
    """One PIN on one door for one stay."""

    SCHEDULED = "scheduled"
    """Planned. Nothing of it is on the lock. A generate operation waits; its due time ends this."""
    GENERATING = "generating"
    """A worker is at it, or will be again: the lock may or may not have it."""
    SENT = "sent"
    """The lock's cloud has accepted it. Not a promise that the door opens. Looks move it on."""
    ACTIVE = "active"
    """Seen on the door: it opens inside its window. Its revoke operation moves it on."""
    REVOKING = "revoking"
    """To be taken off, not yet seen to be off. Stays so, overdue, until it is: never given up."""
    REVOKED = "revoked"
    """Seen to be off the door. Final. Its digits are wiped."""
    CANCELLED = "cancelled"
    """Never put on the door and never will be. Final. Its digits are wiped."""
    FAILED = "failed"
    """The lock refused, or the tries are spent: a person is needed. Its revoke operation still
    rings at the end of the stay, since a lost answer may have left it on the door."""


class OperationKind(enum.StrEnum):
    GENERATE = "generate"
    REVOKE = "revoke"


class OperationState(enum.StrEnum):
    """One thing to do to an access code."""

    WAITING = "waiting"
    """Rings at `next_at`. If its job is lost, the sweep defers another."""
    ACTIVE = "active"
    """Claimed by a worker, whose `epoch` this is. If that worker dies, the sweep has it rescued."""
    COMPLETED = "completed"
    """Done and seen to be done. Final."""
    FAILED = "failed"
    """Refused, spent or quarantined: a person is needed. Final."""
    CANCELLED = "cancelled"
    """No longer wanted. Final. A worker that was at it finds its claim gone and records nothing."""


class DeliveryState(enum.StrEnum):
    """One event on its way to one endpoint."""

    WAITING = "waiting"
    """Is posted at `next_at`. If its job is lost, the sweep defers another."""
    DELIVERED = "delivered"
    """The endpoint has answered that it took it. Final, unless a person has it posted again."""
    FAILED = "failed"
    """Every try is spent, or the endpoint is gone. The same."""


class EventType(enum.StrEnum):
    """What endpoints and hooks are told of an access code, and of what is done to it."""

    CODE_SCHEDULED = "code.scheduled"
    """It is planned and its PIN is chosen. Told in the transaction of the booking."""
    CODE_ACTIVE = "code.active"
    """Seen on the door; again once a change of its window is."""
    CODE_CHANGED = "code.changed"
    """What its guest was told changes: the window or the digits. Told when that is planned."""
    CODE_FAILED = "code.failed"
    """An operation of it failed: a person is needed."""
    CODE_REVOKED = "code.revoked"
    """Off the door, or never put there."""
    CODE_MISSING = "code.missing"
    """Its lock lists it no more, though nobody asked for that: it is put there again."""
    CODE_STRAY = "code.stray"
    """It was on its lock though it had been taken off, by a call that took effect late."""
    OPERATION_LATE = "operation.late"
    """An operation threatens its deadline (schedule.late_since): a person may still mend it."""


class ReservationStatus(enum.StrEnum):
    PENDING = "pending"
    """Known, but no PIN: an inquiry, a request, a hold, or a stay of which a part is not told."""
    CONFIRMED = "confirmed"
    BLOCKED = "blocked"
    """No guest: the owner's own time, maintenance. No PIN."""
    CANCELLED = "cancelled"


CODE_MOVES: Final[dict[CodeState, frozenset[CodeState]]] = {
    CodeState.SCHEDULED: frozenset({CodeState.GENERATING, CodeState.FAILED, CodeState.CANCELLED}),
    CodeState.GENERATING: frozenset({CodeState.SENT, CodeState.FAILED, CodeState.REVOKING}),
    CodeState.SENT: frozenset(
        {CodeState.GENERATING, CodeState.ACTIVE, CodeState.FAILED, CodeState.REVOKING}
    ),
    CodeState.ACTIVE: frozenset(
        {CodeState.GENERATING, CodeState.SENT, CodeState.FAILED, CodeState.REVOKING}
    ),
    CodeState.REVOKING: frozenset({CodeState.REVOKED}),
    CodeState.FAILED: frozenset({CodeState.GENERATING, CodeState.REVOKING}),
    CodeState.REVOKED: frozenset(),
    CodeState.CANCELLED: frozenset(),
}
"""From each state, where a code may go. ACTIVE → SENT: its window was changed on the lock. Back to
GENERATING: the lock refused it after all, or somebody took it off, so it is created anew."""

CODE_ENDED: Final = frozenset({CodeState.REVOKED, CodeState.CANCELLED})
"""Nothing of it is on a door or ever will be."""

OPERATION_OPEN: Final = frozenset({OperationState.WAITING, OperationState.ACTIVE})


def sources_of(target: CodeState) -> tuple[CodeState, ...]:
    """The states from which an access code may come to `target`: what a guarded write expects."""
    return tuple(state for state, targets in CODE_MOVES.items() if target in targets)
