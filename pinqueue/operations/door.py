"""At the door: what is asked of the lock, and what has to be sure before."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from pinqueue.errors import InDoubt, LockError, LockFaulted, TryLater, WindowPassed
from pinqueue.locks import Delivery, RemotePin, Window
from pinqueue.models import AccessCode
from pinqueue.operations import Ring, Workbench
from pinqueue.schedule import next_look
from pinqueue.store import claiming, patrolling
from pinqueue.store.claiming import ClaimedCode

T = TypeVar("T")
SURE_FOR = timedelta(seconds=10)
"""How long a claim is trusted to be ours. With the ten seconds that a call may take it stays below
the time after which a worker that stands still is taken for dead. Who takes over from one that lost
its lock does so sooner, and waits until what was intended can have no effect any more."""
SOON = timedelta(minutes=1)
"""The start that is asked for where the lock's cloud calls now the past."""


async def look(bench: Workbench, ring: Ring) -> RemotePin | None:
    """What the lock's cloud holds under our name; None when nothing is or will be on the lock.

    Should the cloud hold our name twice, the one on record stays and the others are deleted.
    """
    listed = await ask(bench.gateway.list_pins(ring.door))
    ours = [
        pin
        for pin in listed
        if pin.name == ring.code.remote_name and pin.delivery is not Delivery.REMOVED
    ]
    if len(ours) > 1:
        ours = await _keep_one(bench, ring, ours)
    return ours[0] if ours else None


async def _keep_one(bench: Workbench, ring: Ring, ours: Sequence[RemotePin]) -> list[RemotePin]:
    keep = next((pin for pin in ours if pin.remote_id == ring.code.remote_id), ours[0])
    for pin in ours:
        if pin is not keep and pin.delivery is not Delivery.REMOVING:
            await delete(bench, ring, pin.remote_id)
    return [keep]


async def delete(bench: Workbench, ring: Ring, remote_id: int) -> None:
    await insist_ours(bench, ring)
    await ask(bench.gateway.delete_pin(ring.door, remote_id))


async def insist_ours(bench: Workbench, ring: Ring) -> None:
    """Before a call that changes the lock: nobody took the operation over while we stood still.

    A process that is stopped for a minute, and goes on just here, would make a PIN that nobody asks
    for any more. It is dead to others after `sweep.SILENCE`, so what was ours a few seconds ago
    still is; else the row is asked, until its answer is no older than that. Raises StateChanged.
    """
    sure_at = ring.claim.asked_on
    while time.monotonic() - sure_at > SURE_FOR.total_seconds():
        sure_at = time.monotonic()
        async with bench.db.transaction() as session:
            await claiming.hold_claim(session, ring.claim)


async def insist_no_create_in_doubt(bench: Workbench, ring: Ring) -> None:
    """A create that was never answered may yet take effect: until the grace is over, absence on the
    lock proves nothing, and a second create could make a second PIN. For what takes effect later
    still, the patrol comes by once more."""
    since = ring.code.create_in_doubt_since
    if since is not None and since + bench.grace > ring.now():
        async with bench.db.transaction() as session:
            await patrolling.look_by(session, ring.code.lock_id, since + 2 * bench.grace)
        raise InDoubt("an earlier call may still take effect", retry_at=since + bench.grace)


def waits(ring: Ring, why: str) -> TryLater:
    since = ring.claim.operation.first_claimed_at or ring.claim.now
    return TryLater(why, retry_at=next_look(since, ring.now()))


async def ask(call: Awaitable[T]) -> T:
    """A call to the lock: what an adapter raises beyond the port's errors is an unknown failure."""
    try:
        return await call
    except LockError:
        raise
    except Exception as error:
        raise LockFaulted(
            f"the lock's adapter broke: {type(error).__name__}", in_doubt=True
        ) from error


async def ask_for(window: Window, ring: Ring, call: Callable[[Window], Awaitable[T]]) -> T:
    """A call that tells the lock a window: from now on, or a minute later where that is late
    already when it gets there."""
    try:
        return await ask(call(window))
    except WindowPassed:
        soon = ring.now().replace(microsecond=0) + SOON
        if not window.starts_at < soon < window.ends_at:
            raise
        return await ask(call(replace(window, starts_at=soon)))


def wanted_window(code: AccessCode | ClaimedCode, told: Window | None, now: datetime) -> Window:
    """The window the lock should know, given the one it was told.

    A start in the past is sent as now, since vendors refuse history, and is then kept: two starts
    in the past open the door alike, and a change would take the PIN off the door for a while. One
    that the lock has put off by a minute is as good.
    """
    if told is not None and max(told.starts_at - SOON, code.starts_at) <= now:
        return Window(told.starts_at, code.ends_at)
    return Window(max(code.starts_at, now.replace(microsecond=0)), code.ends_at)
