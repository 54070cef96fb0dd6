"""Whatever is told of a stay, in any order, in part and again: a model says what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, TypeVar

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from psycopg.rows import dict_row

from pinqueue.config import Settings
from pinqueue.db import Database
from pinqueue.errors import BookingInvalid, TryLater
from pinqueue.lifecycle import ReservationStatus
from pinqueue.operations import Workbench
from pinqueue.reservations import WHOLE, Booking, Planner
from pinqueue.sealing import sealer
from pinqueue.simulator import Control
from tests import factories
from tests.operating import PERFORM, a_workbench, execute, held

T = TypeVar("T")

NOW = datetime.now(UTC).replace(microsecond=0)
GARDEN, ATTIC, STREET = "sim-zigbee-1", "sim-zigbee-2", "sim-bluetooth-1"
LISTINGS = {
    "garden": {GARDEN: "zigbee", STREET: "bluetooth"},
    "attic": {ATTIC: "zigbee", STREET: "bluetooth"},
}
STATUSES = [*ReservationStatus, *[ReservationStatus.CONFIRMED] * 3]
CHECK_INS = [NOW + timedelta(hours=hours) for hours in (-2, 3, 48)]
CHECK_OUTS = [NOW + timedelta(hours=hours) for hours in (-1, 24, 96)]
FIELDS = ("status", "listing_id", "check_in", "check_out", "guest_name")

_stays = count(1)

statuses, listings = st.sampled_from(STATUSES), st.sampled_from(sorted(LISTINGS))
check_ins = st.sampled_from(CHECK_INS).map(datetime.isoformat)
check_outs = st.sampled_from(CHECK_OUTS).map(datetime.isoformat)
guests = st.sampled_from(["Ana", "Rui"])
whole = st.fixed_dictionaries(
    dict(zip(FIELDS, (statuses, listings, check_ins, check_outs, guests), strict=True))
)
part = st.fixed_dictionaries(
    {}, optional=dict(zip(FIELDS, (statuses, listings, check_ins, check_outs, guests), strict=True))
).filter(bool)
ages = st.integers(1, 500)
"""Minutes ago that the sender changed the stay: tellings arrive in any order of these."""

ROW = """
    SELECT status, listing_id, check_in_at, check_out_at, guest_name FROM reservations
    WHERE id = %(stay)s
"""
CODES = """
    SELECT id, lock_id, state, starts_at, ends_at, pin_sealed FROM access_codes
    WHERE reservation_id = %(stay)s AND state NOT IN ('revoked', 'cancelled')
"""
WITHOUT_ITS_JOB = """
    SELECT operation.id, operation.kind, operation.state, operation.next_at, job.status,
           job.scheduled_at
    FROM access_codes code
    JOIN operations operation ON operation.access_code_id = code.id
    LEFT JOIN procrastinate_jobs job
        ON (job.args ->> 'operation_id')::bigint = operation.id AND job.status = 'todo'
    WHERE code.reservation_id = %(stay)s AND (
        (operation.state = 'waiting') <> (job.id IS NOT NULL)
        OR job.scheduled_at <> operation.next_at OR job.id <> operation.job_id
    )
"""
TO_DO = """
    SELECT operation.id, operation.kind FROM operations operation
    JOIN access_codes code ON code.id = operation.access_code_id
    WHERE code.reservation_id = %(stay)s AND operation.state = 'waiting'
      AND (operation.kind = 'generate' OR code.state = 'revoking')
    ORDER BY operation.kind DESC, operation.id
"""
BEGUN = "UPDATE operations SET next_at = now() WHERE id = :id"
ENDED = """
    UPDATE procrastinate_jobs job SET scheduled_at = operation.next_at,
        status = CASE operation.state WHEN 'waiting' THEN job.status ELSE 'succeeded' END
    FROM operations operation WHERE operation.id = :id AND job.id = operation.job_id
      AND job.status = 'todo'
"""


@dataclass
class Reality:
    """PostgreSQL, and a lock cloud behind HTTP; one for all examples, each with its own stay."""

    runner: asyncio.Runner
    bench: Workbench
    doors: Control
    reader: psycopg.Connection[dict[str, Any]]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def rows(self, query: str, stay: str) -> list[dict[str, Any]]:
        return self.reader.execute(query, {"stay": stay}).fetchall()

    def tell(self, booking: Booking) -> str:
        return self.run(factories.receive(self.bench.db, self.bench.planner, booking, "main"))

    def ring(self, operation: dict[str, Any]) -> None:
        """As its job does, which is over then, or rings again when the operation wants it to."""
        self.run(execute(self.bench.db, BEGUN, id=operation["id"]))
        with contextlib.suppress(TryLater):
            self.run(PERFORM[operation["kind"]](self.bench, operation["id"], None))
        self.run(execute(self.bench.db, ENDED, id=operation["id"]))


@pytest.fixture
def reality(database_url: str, settings: Settings, doors: Control) -> Iterator[Reality]:
    doors.settings(zigbee_seconds=0, bluetooth_seconds=0, single_use_tickets=True)

    async def open_bench(stack: AsyncExitStack) -> Workbench:
        db = Database(database_url, pool_size=3, name="pinqueue-tests")
        stack.push_async_callback(db.close)
        planner = Planner(sealer(settings), settings.lead)
        for listing, locks in LISTINGS.items():
            await factories.add_listing(db, listing, locks)
        await factories.add_source(db, planner.sealer)
        return await stack.enter_async_context(a_workbench(settings, db, planner))

    with (
        asyncio.Runner() as runner,
        psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as reader,
    ):
        stack = AsyncExitStack()
        try:
            yield Reality(runner, runner.run(open_bench(stack)), doors, reader)
        finally:
            runner.run(stack.aclose())


class Stay(RuleBasedStateMachine):
    """One stay: what was told of it so far, what a reader of that must make of it, and reality."""

    reality: Reality

    @initialize()
    def begin(self) -> None:
        self.id = f"main-{next(_stays)}"
        self.told: list[Booking] = []
        self.dates: tuple[str, datetime, datetime] | None = None
        self.pins: dict[int, bytes] = {}

    @rule(age=ages, fields=st.one_of(whole, part))
    def tell(self, age: int, fields: dict[str, Any]) -> None:
        at = NOW - timedelta(minutes=age)
        fields = {**dict.fromkeys(FIELDS), **fields}
        event_id = f"evt_{len(self.told)}"
        self.deliver(Booking(self.id, **fields, updated_at=at, event_at=at, event_id=event_id))

    @rule(data=st.data())
    def tell_again(self, data: st.DataObject) -> None:
        if self.told:
            self.deliver(data.draw(st.sampled_from(self.told)))

    @rule()
    def cancel(self) -> None:
        at = NOW - timedelta(minutes=250)
        status = ReservationStatus.CANCELLED
        self.deliver(Booking(self.id, status, at, at, f"evt_{len(self.told)}"))

    @rule()
    def work(self) -> None:
        """A worker takes up what is to be done next."""
        if to_do := self.reality.rows(TO_DO, self.id):
            self.reality.ring(to_do[0])

    @rule()
    def work_it_off(self) -> None:
        """Workers have time: then the doors are as the stay wants them."""
        for _ in range(20):
            to_do = self.reality.rows(TO_DO, self.id)
            if not to_do:
                break
            self.reality.ring(to_do[0])
        assert {code["state"] for code in self.codes()} <= {"active"}
        self.the_doors_hold_what_is_wanted()

    def deliver(self, booking: Booking) -> None:
        whole = self.wanted().keys() | _fields_of(booking).keys() >= WHOLE
        if _contradicts_itself(booking) and not whole:
            booking = replace(booking, check_in=None, check_out=None)
        if not _fields_of(booking):
            assert self.reality.tell(booking) in ("accepted", "incomplete")
        elif _contradicts_itself(booking) and self.is_news(booking):
            with pytest.raises(BookingInvalid):
                self.reality.tell(booking)
        else:
            news = self.is_news(booking)
            self.told.append(booking)
            self.outcome_fits(self.reality.tell(booking), news=news)

    def is_news(self, booking: Booking) -> bool:
        newest = self.wanted()
        return any(
            field not in newest or newest[field][0] < _version(booking)
            for field in _fields_of(booking)
        )

    def outcome_fits(self, outcome: str, *, news: bool) -> None:
        wanted = {field: value for field, (_, value) in self.wanted().items()}
        if {"listing_id", "check_in", "check_out"} <= wanted.keys():
            check_in, check_out = (
                datetime.fromisoformat(wanted[name]) for name in ("check_in", "check_out")
            )
            if check_in < check_out:
                self.dates = (wanted["listing_id"], check_in, check_out)
        if not news:
            assert outcome == "stale"
        elif self.status() != "cancelled":
            dates = (wanted.get("listing_id"), wanted.get("check_in"), wanted.get("check_out"))
            told = self.dates and (self.dates[0], *(at.isoformat() for at in self.dates[1:]))
            whole = wanted.keys() >= WHOLE and dates == told
            assert outcome == ("accepted" if whole else "incomplete")

    def wanted(self) -> dict[str, tuple[Any, Any]]:
        """Of each field, the newest telling of it and what that says."""
        newest: dict[str, tuple[Any, Any]] = {}
        for booking in sorted(self.told, key=_version):
            for field, value in _fields_of(booking).items():
                newest[field] = (_version(booking), value)
        return newest

    def status(self) -> str:
        _, told = self.wanted().get("status", (None, ReservationStatus.PENDING))
        pending = self.dates is None and told != ReservationStatus.CANCELLED
        return "pending" if pending else str(told)

    def codes(self) -> list[dict[str, Any]]:
        return self.reality.rows(CODES, self.id)

    def wanted_doors(self) -> dict[str, tuple[datetime, datetime]]:
        if self.dates is None or self.status() != "confirmed" or self.dates[2] <= NOW:
            return {}
        listing, check_in, check_out = self.dates
        return dict.fromkeys(LISTINGS[listing], (check_in, check_out))

    @invariant()
    def the_row_tells_the_newest_of_each_field(self) -> None:
        rows = self.reality.rows(ROW, self.id)
        if not self.told:
            assert rows == []
            return
        listing, check_in, check_out = self.dates or (None, None, None)
        _, guest = self.wanted().get("guest_name", (None, None))
        assert rows == [
            {
                "status": self.status(),
                "listing_id": listing,
                "check_in_at": check_in,
                "check_out_at": check_out,
                "guest_name": guest,
            }
        ]

    @invariant()
    def every_door_wanted_has_one_code_with_the_window_wanted(self) -> None:
        codes = self.codes()
        live = {
            c["lock_id"]: (c["starts_at"], c["ends_at"]) for c in codes if c["state"] != "revoking"
        }
        going = {c["lock_id"] for c in codes if c["state"] == "revoking"}
        wanted = self.wanted_doors()
        assert live == {lock: window for lock, window in wanted.items() if lock not in going}
        assert len(codes) == len(live) + len(going)

    @invariant()
    def a_code_never_changes_its_pin(self) -> None:
        for code in self.codes():
            assert self.pins.setdefault(code["id"], code["pin_sealed"]) == code["pin_sealed"]

    @invariant()
    def every_waiting_operation_has_its_job_and_no_other_has_one(self) -> None:
        assert self.reality.rows(WITHOUT_ITS_JOB, self.id) == []

    def the_doors_hold_what_is_wanted(self) -> None:
        sealed = self.reality.bench.planner.sealer
        wanted = {
            lock: [(digits_of(sealed, code), window[1])]
            for lock, window in self.wanted_doors().items()
            for code in self.codes()
            if code["lock_id"] == lock
        }
        for lock in (GARDEN, ATTIC, STREET):
            there = [(pin, until) for pin, _, until in held(self.reality.doors, lock)]
            assert there == wanted.get(lock, [])

    def teardown(self) -> None:
        """The next example finds empty doors."""
        self.work_it_off()
        newest = max([NOW, *(booking.updated_at for booking in self.told)])
        off = Booking(self.id, ReservationStatus.CANCELLED, newest, newest, "evt_off")
        self.deliver(off)
        self.work_it_off()
        assert self.codes() == []


def digits_of(seal: Any, code: dict[str, Any]) -> str:
    pin: str = seal.open_pin(code["id"], code["pin_sealed"]).digits()
    return pin


def _fields_of(booking: Booking) -> dict[str, Any]:
    if booking.status == ReservationStatus.CANCELLED:
        return {"status": booking.status}
    told = {field: getattr(booking, field) for field in FIELDS}
    return {field: value for field, value in told.items() if value is not None}


def _version(booking: Booking) -> tuple[Any, ...]:
    cancels = booking.status == ReservationStatus.CANCELLED
    return (booking.updated_at, booking.event_at, cancels, booking.event_id)


def _contradicts_itself(booking: Booking) -> bool:
    if booking.status == ReservationStatus.CANCELLED or not (
        booking.check_in and booking.check_out
    ):
        return False
    return datetime.fromisoformat(booking.check_in) >= datetime.fromisoformat(booking.check_out)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("stays", [50, pytest.param(200, marks=pytest.mark.slow)])
def test_r4_in_whatever_order_a_stay_is_told_rows_jobs_and_doors_end_the_same(
    reality: Reality, stays: int
) -> None:
    class AStay(Stay):
        pass

    AStay.reality = reality
    run_state_machine_as_test(
        AStay,
        settings=settings(
            max_examples=stays,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
