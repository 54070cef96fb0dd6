"""What to do next about each thing Tuya's cloud may answer.

Codes: developer.tuya.com "Error codes", the tables in Tuya's Node.js and Java SDKs, and replies
people recorded. A code that is not here becomes LockFaulted: a few retries, then a person.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pinqueue.errors import (
    LockBusy,
    LockError,
    LockFaulted,
    LockFull,
    LockRefused,
    LockUnreachable,
    NameTaken,
    PinRejected,
    WindowPassed,
)
from pinqueue.metrics import OTHER
from pinqueue.pins import LENGTHS

DEAD_TOKEN: Final = frozenset({1010, 1011, 1012, 1400})
"""The token has expired or was revoked. Nothing was done: renew it and ask again."""

WRONG_CLOCK: Final = 1013
"""The request was signed at another time than Tuya's clock shows, by some minutes."""

GONE: Final = frozenset({"2304", "2310", "2321", "2323", "2324"})
"""Answers to a removal that mean there is nothing to remove: expired, not found, no such record, or
in a state that allows no removal (one is under way). The caller's next look confirms each."""

_OUTAGE: Final = 500
_MISSING = (
    "the PIN is not on the lock in the way PinQueue last saw it: it has to be looked up again"
)
_RATE = "Tuya asks for a slower pace"
_FULL = "the lock holds as many PINs as it can: remove some in the Tuya app"
_CREDENTIALS = (
    "check PINQUEUE_TUYA_ACCESS_ID and PINQUEUE_TUYA_ACCESS_SECRET against the project at Tuya"
)
_LINKED = (
    "the project may not use this device: link the app account that owns the lock to the Tuya"
    " project, and check PINQUEUE_TUYA_REGION and the device id"
)
_SUBSCRIBE = (
    "subscribe the Tuya project to 'Smart Lock Open Service' and authorise it"
    " (iot.tuya.com: Cloud, project, Service API)"
)
_ITS_OWN = "Tuya refuses the very tokens it issues"
_UNSUPPORTED = (
    "this device cannot do that: check that the device id is that of a lock with a keypad"
)

_KNOWN: Final[Mapping[int, tuple[type[LockError], str]]] = {
    _OUTAGE: (LockUnreachable, "Tuya reports a fault of its own"),
    1001: (LockRefused, _CREDENTIALS),
    1002: (LockRefused, _CREDENTIALS),
    1004: (LockRefused, f"Tuya does not accept the signature: {_CREDENTIALS}"),
    1005: (LockRefused, _CREDENTIALS),
    1010: (LockUnreachable, _ITS_OWN),
    1011: (LockUnreachable, _ITS_OWN),
    1012: (LockUnreachable, _ITS_OWN),
    WRONG_CLOCK: (LockRefused, "the clock of this machine is wrong: set it (NTP)"),
    1106: (LockRefused, _LINKED),
    1108: (LockRefused, "Tuya does not know this call: check PINQUEUE_TUYA_URL and the device id"),
    # Also where the ticket has expired or was used up by another create: the next try gets its own.
    1109: (
        LockFaulted,
        "Tuya cannot read the PIN or its window: should that last, it is a fault of PinQueue",
    ),
    1110: (LockBusy, _RATE),
    1111: (LockBusy, _RATE),
    1113: (LockBusy, _RATE),
    1199: (LockBusy, _RATE),
    1400: (LockUnreachable, _ITS_OWN),
    2001: (LockUnreachable, "the lock is offline"),
    2003: (LockRefused, _UNSUPPORTED),
    2004: (LockRefused, _UNSUPPORTED),
    2008: (LockRefused, _UNSUPPORTED),
    2009: (LockRefused, _UNSUPPORTED),
    2010: (LockRefused, "there is no such device: check the device id"),
    2303: (LockFull, _FULL),
    2304: (LockFaulted, _MISSING),
    2305: (LockFull, _FULL),
    2307: (LockFull, _FULL),
    2308: (LockFull, _FULL),
    2310: (LockFaulted, _MISSING),
    2311: (LockBusy, "the gateway is still setting other PINs"),
    2312: (LockUnreachable, "the lock is offline"),
    2313: (LockUnreachable, "the lock is still starting up"),
    2314: (LockRefused, "the PIN has the wrong length for this lock: check the lock's protocol"),
    2316: (NameTaken, "the lock already holds a PIN by this name"),
    2317: (LockBusy, "the gateway is busy"),
    2318: (WindowPassed, "the window begins, or ends, in the past"),
    2321: (LockFaulted, _MISSING),
    2322: (PinRejected, "the lock already holds the same PIN under another name"),
    2323: (LockFaulted, _MISSING),
    2324: (LockFaulted, _MISSING),
    2328: (LockBusy, "the lock is busy with another operation"),
    28841001: (LockRefused, f"Tuya grants no permission: {_SUBSCRIBE}"),
    28841002: (LockRefused, "the Tuya cloud plan has expired: renew it at iot.tuya.com"),
    28841004: (
        LockRefused,
        "the quota of the Tuya trial is used up: upgrade the plan at iot.tuya.com",
    ),
    28841101: (LockRefused, _SUBSCRIBE),
    28841105: (LockRefused, _SUBSCRIBE),
    28841106: (LockRefused, _SUBSCRIBE),
}


_LABELS: Final = frozenset(map(str, _KNOWN)) | {"429"}


def label_of(code: str) -> str:
    """An error's code for metrics: a code we do not know could be any number."""
    return "none" if not code else code if code in _LABELS else OTHER


def code_of(answer: Mapping[str, object]) -> int | None:
    """The error code of an answer; None where it has none, or one that is not a number."""
    code = answer.get("code")
    if isinstance(code, str) and code.isascii() and code.isdecimal():
        return int(code)
    return code if isinstance(code, int) else None


def refusal(answer: Mapping[str, object], *, writes: bool) -> LockError:
    """The error for an answer with `success: false`; `writes` if it was asked to change a lock.

    A known code is a refusal, so nothing was done. After an outage's 500, or a code we do not know,
    a write may have been done all the same.
    """
    code = code_of(answer)
    known = None if code is None else _KNOWN.get(code)
    kind, remedy = known or (LockFaulted, "Tuya answered with an error that PinQueue does not know")
    error = kind(
        f"{remedy} (Tuya {code}: {_one_line(answer.get('msg'))})",
        code="" if code is None else str(code),
        in_doubt=writes and (known is None or code == _OUTAGE),
    )
    if isinstance(error, LockUnreachable):
        error.cloud_away = code == _OUTAGE
    return error


_PIN: Final = re.compile(rf"(?<!\d)\d{{{min(LENGTHS.values())},{max(LENGTHS.values())}}}(?!\d)")


def _one_line(text: object) -> str:
    """The vendor's words, safe for a log line, a table and whoever is told of it: no mark that a
    database refuses, and nothing that could be the PIN it was asked for."""
    words = " ".join(str(text).split())
    return _PIN.sub("***", "".join(mark for mark in words if mark.isprintable()))[:200]
