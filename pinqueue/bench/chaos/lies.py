"""What the lock cloud lies about, for its next few calls each time, and locks that fall silent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from pinqueue.bench.chaos.havoc import GRACE, LATEST, Havoc

Strike = Callable[[Havoc], Awaitable[None]]

MOST_CALLS = 5
WRITES = (
    {"method": "POST", "path": "/temp-password"},
    {"method": "DELETE", "path": "/temp-passwords/"},
)
"""A create and a removal; a change is as good as one of them."""
SILENT = (3.0, 10.0)
"""Seconds that locks are out of reach: what are hours at a real door."""
HANGS = 15.0
"""Seconds: longer than a worker waits for the cloud."""


def _to_next_calls(kind: str, **details: Any) -> Strike:
    """The next few calls, whatever they are, meet this fault of the simulator."""

    async def strike(havoc: Havoc) -> None:
        havoc.control.fault(kind, times=havoc.random.randint(1, MOST_CALLS), **details)

    return strike


def _applied_late(earliest: float, latest: float) -> Strike:
    """The next create or removal takes effect so many seconds after its connection broke."""

    async def strike(havoc: Havoc) -> None:
        seconds = havoc.random.uniform(earliest, latest)
        havoc.control.fault("late_apply", havoc.random.choice(WRITES), seconds=seconds)

    return strike


async def _revoke_token(havoc: Havoc) -> None:
    """At whichever step each operation is just then."""
    havoc.control.revoke_tokens()


async def _expire_tickets(havoc: Havoc) -> None:
    havoc.control.expire_tickets()


async def _silence(havoc: Havoc, *, well: dict[str, bool], ill: dict[str, bool]) -> None:
    """Some doors do not hear for a while."""
    chosen = havoc.random.sample(havoc.doors, len(havoc.doors) // 4)
    seconds = havoc.random.uniform(*SILENT)
    _put(havoc, chosen, ill)

    async def wake() -> None:
        try:
            await asyncio.sleep(seconds)
        finally:
            _put(havoc, chosen, well)

    havoc.lasts(wake())


def _put(havoc: Havoc, doors: Sequence[str], state: dict[str, bool]) -> None:
    for door in doors:
        havoc.control.state(door, **state)


LIES: dict[str, Strike] = {
    "lost-answer": _to_next_calls("lost_answer", seconds=0.2),
    "late-apply": _applied_late(0.5, GRACE / 2),
    "late-apply-beyond-grace": _applied_late(GRACE + 1, LATEST),
    "cloud-500": _to_next_calls("http_500"),
    "cloud-429": _to_next_calls("http_429", seconds=1),
    "cloud-html": _to_next_calls("http_502_html"),
    "cloud-empty": _to_next_calls("empty"),
    "cloud-cut-short": _to_next_calls("truncated"),
    "cloud-hangs": _to_next_calls("hang", seconds=HANGS),
    "token-revoked": _revoke_token,
    "ticket-expired": _expire_tickets,
    "lock-offline": partial(_silence, ill={"online": False}, well={"online": True}),
    "lock-asleep": partial(_silence, ill={"asleep": True}, well={"asleep": False}),
}
