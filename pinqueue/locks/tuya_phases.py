"""How far a PIN has come, read from Tuya's `phase` and `delivery_status`.

Sources: developer.tuya.com, "Query temporary passwords" (the documented phases), and public code of
others for the second set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pinqueue.locks import Delivery

_State = tuple[Delivery, str]
_SECOND_SET: Final[dict[int, _State]] = {
    11: (Delivery.ACCEPTED, ""),
    12: (Delivery.ON_DOOR, ""),
    13: (Delivery.FAILED, "the lock did not take the PIN"),
    14: (Delivery.ACCEPTED, ""),
    15: (Delivery.ON_DOOR, ""),
    16: (Delivery.FAILED, "the lock did not take the change and keeps the earlier window"),
    17: (Delivery.REMOVING, ""),
    18: (Delivery.REMOVED, ""),
    # Still on the door, with nothing under way: whoever wants it gone has to ask again.
    19: (Delivery.ON_DOOR, "the lock did not carry out the removal"),
}
"""Phases that some locks of any protocol report: creating, changing and removing, each under way,
done or failed."""
_WIFI: Final[dict[int, _State]] = {
    0: (Delivery.REMOVED, ""),
    1: (Delivery.ACCEPTED, ""),
    2: (Delivery.ON_DOOR, ""),
    3: (Delivery.REMOVING, ""),
}
_BLUETOOTH: Final[dict[int, _State]] = {
    **_WIFI,
    7: (Delivery.FAILED, "the PIN could not be sent to the lock"),
}
_ZIGBEE: Final[dict[int, _State]] = {
    1: (Delivery.ACCEPTED, ""),
    2: (Delivery.ON_DOOR, ""),
    # Somebody froze it on purpose, and it does not open. Nothing that we send should undo that: the
    # caller keeps looking, and its deadline brings a person.
    3: (Delivery.ACCEPTED, "frozen: unfreeze it in the Tuya app"),
    4: (Delivery.REMOVED, ""),
    5: (Delivery.FAILED, "the lock did not take the PIN"),
}
_PHASES: Final = {"wifi": _WIFI, "bluetooth": _BLUETOOTH, "zigbee": _ZIGBEE}
"""The documented phases. 3 is frozen on Zigbee and being removed elsewhere."""
_DONE = 2
_ZIGBEE_TROUBLE: Final[Mapping[int, str]] = {
    3: "the lock did not answer its gateway",
    4: "the lock already holds the same PIN",
    5: "the lock holds as many PINs as it can",
    6: "the window overlaps that of another PIN",
}
"""`delivery_status` of Zigbee, beside 1, under way, and 2, done."""
_REFUSED: Final = {4: Delivery.REJECTED, 5: Delivery.NO_ROOM, 6: Delivery.OVERLAPS}
"""What of it the lock has refused itself: such a PIN was never on the door."""


def read_delivery(
    protocol: str, phase: int | None, status: int | None = None
) -> tuple[Delivery, str]:
    """How far a PIN of this `phase` and, on Zigbee, `delivery_status` has come; why no further."""
    known = _SECOND_SET | _PHASES[protocol]
    if phase is None or phase not in known:
        # For all we know neither on the door nor gone: the caller keeps looking, and its deadline
        # brings a person.
        return Delivery.ACCEPTED, f"Tuya reports phase {phase}, which PinQueue does not know"
    if protocol == "zigbee" and phase in _ZIGBEE and status is not None and status != _DONE:
        return _as_the_gateway_says(known[phase], status)
    return known[phase]


def _as_the_gateway_says(state: _State, status: int) -> _State:
    """The cloud's phase says what is wanted; `delivery_status` whether the lock has done it."""
    trouble = _ZIGBEE_TROUBLE.get(status, "")
    match state[0]:
        case Delivery.REMOVED if status not in _REFUSED:
            return Delivery.REMOVING, trouble
        case Delivery.ACCEPTED | Delivery.ON_DOOR | Delivery.FAILED if status in _REFUSED:
            return _REFUSED[status], trouble
        case Delivery.ACCEPTED | Delivery.ON_DOOR if trouble:
            return Delivery.FAILED, trouble
        case Delivery.ON_DOOR:
            return Delivery.ACCEPTED, ""
        case Delivery.FAILED if trouble:
            return Delivery.FAILED, trouble
    return state
