"""Generate: have the lock hold the code's PIN with the code's window, and see that it does."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime, timedelta

from pinqueue.errors import (
    ConfigInvalid,
    LockError,
    LockFaulted,
    LockFull,
    LockUnreachable,
    PinRejected,
    TryLater,
)
from pinqueue.lifecycle import CodeState
from pinqueue.locks import NOT_TAKEN, Delivery, RemotePin, Window
from pinqueue.operations import Ring, Workbench, door
from pinqueue.operations.recording import (
    fill_room,
    let_others_try,
    record_accepted,
    record_active,
    record_gone,
    record_intent,
    record_no_effect,
    see_accepted,
)
from pinqueue.operations.tries import claimed
from pinqueue.pins import Pin
from pinqueue.schedule import next_look

OVERLAP_WAIT = timedelta(minutes=15)
"""At most, before a lock that takes no overlapping windows is asked again: each ask costs it
battery, but the PIN that is in the way may be taken off early."""


async def generate(bench: Workbench, operation_id: int, job_id: int | None) -> None:
    """Have the lock hold the code's PIN with the code's window, and see that it does.

    Raises TryLater while it does not yet, and the LockError that ended it when it never will.
    """
    async with claimed(bench, operation_id, job_id) as ring:
        if ring is None:
            return
        remote, accepted = await door.look(bench, ring), None
        if remote is None:
            ring, remote_id = await _create(bench, ring)
            remote, accepted = await see_accepted(bench, ring, remote_id)
        elif remote.delivery is Delivery.REMOVING:
            pass  # somebody took it off: it is created anew once it is gone
        elif _has_to_go(ring, remote):
            await _start_over(bench, ring, remote)
        elif _has_to_make_room(ring, remote):
            await _make_room(bench, ring, remote)
        elif _has_to_change(ring, remote):
            await _change(bench, ring, remote)
            remote, accepted = await see_accepted(bench, ring, remote.remote_id)
        elif ring.code.state == CodeState.GENERATING:
            await record_accepted(bench, ring, remote.remote_id)
        if remote is None or remote.delivery is not Delivery.ON_DOOR:
            why = remote.reason if remote else ""
            raise door.waits(ring, why or "the lock has not confirmed the PIN yet")
        await record_active(bench, ring, remote.window, accepted)
        await let_others_try(bench, ring)


async def _create(bench: Workbench, ring: Ring) -> tuple[Ring, int]:
    """Ask for the PIN, unless an earlier ask may still take effect; its id at the lock's cloud."""
    await door.insist_no_create_in_doubt(bench, ring)
    ring = await _insist_gone(bench, ring)
    pin = _pin(bench, ring)
    pin_hash = ring.code.pin_hash or await bench.planner.sealer.hash_pin(ring.code.id, pin)
    await record_intent(bench, ring, pin_hash)

    def create(window: Window) -> Awaitable[int]:
        return bench.gateway.create_pin(ring.door, ring.code.remote_name, pin, window)

    await door.insist_ours(bench, ring)
    wanted = door.wanted_window(ring.code, None, ring.now())
    try:
        remote_id = await door.ask_for(wanted, ring, create)
    except LockError as error:
        if not error.in_doubt:
            await record_no_effect(bench, ring)
        raise
    return ring, remote_id


async def _insist_gone(bench: Workbench, ring: Ring) -> Ring:
    """What was accepted once and is not listed may be listed late, and be a second PIN beside the
    next: unless it was seen on the door before, it is given time to show; then it is deleted by its
    id, before another is created."""
    if ring.code.remote_id is None:
        return ring
    sent_at, seen = ring.code.sent_at, ring.code.active_at is not None
    if not seen and sent_at is not None and sent_at + bench.grace > ring.now():
        raise door.waits(ring, "the lock's cloud does not list the PIN it accepted")
    await door.delete(bench, ring, ring.code.remote_id)
    ring = await record_gone(bench, ring)
    await fill_room(bench, ring)
    return ring


def _pin(bench: Workbench, ring: Ring) -> Pin:
    try:
        return bench.planner.sealer.open_pin(ring.code.id, ring.code.pin_sealed or b"")
    except ConfigInvalid as error:  # recorded as the reason, so that a person finds the setting
        raise LockFaulted(str(error)) from error


def _has_to_make_room(ring: Ring, remote: RemotePin) -> bool:
    """Whether it was asked to, by `codes.make_room`. Never once its window has begun: its own guest
    may be in."""
    begins_at = min(ring.code.starts_at, remote.window.starts_at)
    return ring.claim.operation.waits_for_room and begins_at > ring.now()


async def _make_room(bench: Workbench, ring: Ring, remote: RemotePin) -> None:
    """Leave the lock for now. The PIN stays the guest's, and is put there again when it can be."""
    await door.delete(bench, ring, remote.remote_id)
    if await door.look(bench, ring) is not None:
        raise door.waits(ring, "the lock has not confirmed yet that it made room")
    ring = await record_gone(bench, ring)
    await fill_room(bench, ring)
    raise LockFull("the lock is full, and this PIN made room for an earlier arrival")


def _has_to_change(ring: Ring, remote: RemotePin) -> bool:
    """Whether the lock has to be told the window: another one, or again the one it did not take."""
    wanted = door.wanted_window(ring.code, remote.window, ring.now())
    return remote.delivery in NOT_TAKEN or remote.window != wanted


async def _change(bench: Workbench, ring: Ring, remote: RemotePin) -> None:
    """Give a PIN that the lock's cloud has another window; the digits stay the same."""
    pin = _pin(bench, ring)

    def change(window: Window) -> Awaitable[None]:
        return bench.gateway.change_pin(
            ring.door, remote.remote_id, ring.code.remote_name, pin, window
        )

    await door.insist_ours(bench, ring)
    wanted = door.wanted_window(ring.code, remote.window, ring.now())
    try:
        await door.ask_for(wanted, ring, change)
    except PinRejected as error:
        # The PIN is on the door: other digits would make a second one beside it.
        raise LockFaulted(str(error), code=error.code) from error


def _has_to_go(ring: Ring, remote: RemotePin) -> bool:
    """Whether only another create can help. What was on the door once is not in that case: it may
    open there still, and a guest may be using it."""
    never_there = remote.delivery in NOT_TAKEN and ring.code.active_at is None
    return never_there or remote.delivery is Delivery.REJECTED


async def _start_over(bench: Workbench, ring: Ring, remote: RemotePin) -> None:
    """The lock did not take it: remove it and ask again, with other digits if these are the reason.

    Not before it is gone: its name is the only thread that leads to it, and the next one gets
    another, since vendors may keep the name of what is gone.
    """
    why = f"the lock did not take the PIN: {remote.reason or 'no reason given'}"
    await door.delete(bench, ring, remote.remote_id)
    left = await door.look(bench, ring)
    if remote.delivery is Delivery.REJECTED and (
        left is None or left.delivery is Delivery.REMOVING
    ):
        raise PinRejected(why)
    if left is not None:
        raise door.waits(ring, why)
    await record_gone(bench, ring)
    if remote.delivery is Delivery.OVERLAPS:
        raise TryLater(why, retry_at=await _overlap_ends(bench, ring))
    raise (LockFull if remote.delivery is Delivery.NO_ROOM else LockUnreachable)(why)


async def _overlap_ends(bench: Workbench, ring: Ring) -> datetime:
    """When the first of the windows ends that overlap ours on the lock, whoever's they are: then
    the lock may take ours. Between the usual look and a quarter of an hour."""
    now = ring.now()
    ours = door.wanted_window(ring.code, None, now)
    listed = await door.ask(bench.gateway.list_pins(ring.door))
    ends = [
        pin.window.ends_at
        for pin in listed
        if pin.delivery is not Delivery.REMOVED and pin.window.overlaps(ours)
    ]
    soonest = next_look(ring.claim.operation.first_claimed_at or now, now)
    return max(soonest, min([*ends, now + OVERLAP_WAIT]))
