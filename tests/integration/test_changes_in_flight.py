"""A booking changes while a call to its lock is in flight, whichever call that is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from pinqueue import reservations, store
from pinqueue.lifecycle import ReservationStatus
from pinqueue.operations import Workbench
from pinqueue.simulator import Control
from tests import factories
from tests.operating import (
    CHANGE,
    CREATE,
    LIST,
    book,
    cancel,
    code_of,
    digits,
    held,
    put_on_door,
    ring,
    ring_all,
    tell,
    until,
)

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)


async def longer(bench: Workbench, stay: str) -> None:
    await tell(bench, stay, stay, lasts=5 * DAY)


async def next_month(bench: Workbench, stay: str) -> None:
    await tell(bench, stay, stay, starts_in=30 * DAY)


async def over(bench: Workbench, stay: str) -> None:
    await tell(bench, stay, stay, starts_in=-3 * DAY, lasts=DAY)


async def cancelled(bench: Workbench, stay: str) -> None:
    await cancel(bench, stay, stay)


async def blocked(bench: Workbench, stay: str) -> None:
    await tell(bench, stay, stay, status=ReservationStatus.BLOCKED)


async def booked_again(bench: Workbench, stay: str) -> None:
    await cancel(bench, stay, stay)
    await tell(bench, stay, stay)


CHANGES: dict[str, Callable[[Workbench, str], Awaitable[None]]] = {
    **{"longer": longer, "next-month": next_month, "booked-again": booked_again},
    **{"over": over, "cancelled": cancelled, "blocked": blocked},
}
"""Each to a stay of its own, by whose name its lock is called too."""
CALLS: dict[str, dict[str, Any]] = {
    "look": {"match": LIST},
    "create": {"match": CREATE},
    "look after the create": {"match": LIST, "after": 1},
    "change": {"match": CHANGE},
}


@pytest.mark.parametrize("call", CALLS)
async def test_f6_the_door_ends_as_the_booking_does_and_the_pin_is_the_same(
    benches: tuple[Workbench, Workbench], prompt: Control, call: str
) -> None:
    a, b = benches
    pins = {}
    for stay in CHANGES:
        prompt.add_door(stay, "zigbee")
        pins[stay] = digits(a, await book(a, stay, stay))
        if call == "change":
            assert await ring(a, "generate", stay) is None
            await tell(a, stay, stay, lasts=3 * DAY)
        where = CALLS[call]["match"] | {"device": stay}
        prompt.fault("slow", where, seconds=3, after=CALLS[call].get("after", 0))
    rings = [asyncio.create_task(ring(a, "generate", stay)) for stay in CHANGES]
    await until(lambda: all_in_flight(prompt))
    await asyncio.gather(*(change(b, stay) for stay, change in CHANGES.items()))
    assert not any(ringing.done() for ringing in rings), "all of them changed in flight"
    await asyncio.gather(*rings)
    await ring_all(b)

    for stay in ("longer", "next-month"):
        (code,) = await factories.codes(b.db, stay)
        assert (code.state, digits(b, code)) == ("active", pins[stay])
        assert held(prompt, stay) == [(pins[stay], code.starts_at, code.ends_at)]
        assert ends(prompt, stay) <= {"changed", None}, "it never left the door"
    for stay in ("over", "cancelled", "blocked"):
        (code,) = await factories.codes(b.db, stay)
        assert (code.state, code.pin_sealed, held(prompt, stay)) == ("revoked", None, [])
    first, second = await factories.codes(b.db, "booked-again")
    assert (first.state, second.state) == ("revoked", "active")
    ((pin, _, _),) = held(prompt, "booked-again")
    assert pin == digits(b, second)
    assert pin != pins["booked-again"]


async def all_in_flight(doors: Control) -> bool:
    return sum(entry["fault"] is not None for entry in doors.log()) == len(CHANGES)


def ends(doors: Control, lock: str) -> set[str | None]:
    """How each PIN's time on a lock came to its end, with each window it had."""
    return {entry["ended_by"] for entry in doors.ledger(lock)}


class UndoneError(Exception):
    """Rolls a transaction back."""


async def test_a_change_of_dates_moves_rows_and_jobs_together_or_not_at_all(
    bench: Workbench, prompt: Control
) -> None:
    code = await put_on_door(bench, prompt)
    longer = factories.booking(
        listing_id=code.lock_id,
        check_in=code.starts_at.isoformat(),
        check_out=(code.ends_at + DAY).isoformat(),
    )
    before = await rows_and_jobs(bench)
    with contextlib.suppress(UndoneError):
        async with bench.db.transaction() as session:
            now = await store.now(session)
            await reservations.receive(session, bench.planner, None, longer, now)
            assert await rows_and_jobs(bench) == before, "nobody sees it before COMMIT"
            raise UndoneError
    assert await rows_and_jobs(bench) == before
    await factories.receive(bench.db, bench.planner, longer)
    moved = await factories.rows(
        bench.db,
        "SELECT kind, scheduled_at AS at FROM operations"
        " JOIN procrastinate_jobs job ON job.id = job_id"
        " WHERE state = 'waiting' AND status = 'todo' ORDER BY kind",
    )
    now = await factories.value(bench.db, "SELECT now()")
    assert [row["kind"] for row in moved] == ["generate", "revoke"]
    assert (moved[0]["at"] <= now, moved[1]["at"]) == (True, code.ends_at + DAY)


async def rows_and_jobs(bench: Workbench) -> list[Any]:
    return [
        await factories.rows(bench.db, f"SELECT * FROM {table} ORDER BY id")
        for table in ("reservations", "access_codes", "operations", "procrastinate_jobs")
    ]


async def test_the_new_code_of_a_stay_booked_again_rings_at_once_when_the_old_one_is_off(
    bench: Workbench, prompt: Control
) -> None:
    """Not only when the sweep comes by: its job commits with the removal."""
    await put_on_door(bench, prompt)
    await cancel(bench)
    await tell(bench)
    assert await ring(bench, "revoke") is None
    new = await code_of(bench)
    job = await factories.rows(
        bench.db,
        "SELECT status::text, scheduled_at <= now() AS due FROM operations"
        " JOIN procrastinate_jobs job ON job.id = job_id"
        " WHERE access_code_id = :id AND kind = 'generate'",
        id=new.id,
    )
    assert (new.state, job) == ("scheduled", [{"status": "todo", "due": True}])
