"""What tests of operations do: book a stay that is due, ring, look at the row and at the door."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from pinqueue import hashing, sealing, store, worker
from pinqueue.config import Settings
from pinqueue.db import Database
from pinqueue.errors import PinQueueError
from pinqueue.lifecycle import ReservationStatus
from pinqueue.locks import Door, Window
from pinqueue.locks.tuya import TuyaGateway
from pinqueue.metrics import Metrics
from pinqueue.models import AccessCode, Operation
from pinqueue.mutex import Mutex
from pinqueue.operations import Workbench, generating, revoking
from pinqueue.reservations import Planner
from pinqueue.simulator import Control
from pinqueue.store import claiming
from tests import factories

PERFORM = {"generate": generating.generate, "revoke": revoking.revoke}
ZIGBEE, WIFI, BLUETOOTH = "sim-zigbee-1", "sim-wifi-1", "sim-bluetooth-1"
PROTOCOLS = {ZIGBEE: "zigbee", WIFI: "wifi", BLUETOOTH: "bluetooth"}
CREATE = {"method": "POST", "path": "temp-password"}
CHANGE = {"method": "PUT", "path": "modify-password"}
LIST = {"method": "GET", "path": "temp-passwords"}
DELETE = {"method": "DELETE"}
WAITING_FOR_A_LOCK = """
    SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
_TO_RING = """
    SELECT operation.id AS operation_id, access_code_id, job_id
    FROM operations operation JOIN procrastinate_jobs job ON job.id = job_id
    WHERE kind = :kind AND state IN ('waiting', 'active') AND status = 'todo'
    ORDER BY access_code_id
"""


@asynccontextmanager
async def a_worker(settings: Settings, *, concurrency: int = 5) -> AsyncIterator[None]:
    """worker.run as its command runs it, stopped as a service manager stops it."""
    queues = ("generate_pin", "revoke_pin")
    gateway = a_gateway(settings)
    running = asyncio.create_task(
        worker.run(settings, gateway, concurrency=concurrency, queues=queues)
    )
    try:
        yield
    finally:
        await asyncio.sleep(0)  # it sets up its signal handlers first
        if not running.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await running
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)


def a_gateway(
    settings: Settings, *, timeout: float = 10.0, metrics: Metrics | None = None
) -> TuyaGateway:
    return TuyaGateway(
        region=settings.tuya_region,
        access_id=settings.tuya_access_id,
        access_secret=settings.tuya_access_secret.get_secret_value(),
        url=settings.tuya_url,
        concurrency=20,
        timeout=timeout,
        metrics=metrics,
    )


@asynccontextmanager
async def a_workbench(
    settings: Settings, db: Database, planner: Planner, *, patience: float = 10.0
) -> AsyncIterator[Workbench]:
    """As worker.py makes one; `patience` in seconds bounds each call to the cloud."""
    metrics = Metrics()
    gateway = a_gateway(settings, timeout=patience, metrics=metrics)
    mutex = Mutex(settings.database_url)
    try:
        yield Workbench(
            db=db,
            mutex=mutex,
            gateway=gateway,
            planner=planner,
            retries=settings.retries,
            retry_backoff=settings.retry_backoff,
            grace=settings.tuya_grace,
            metrics=metrics,
        )
    finally:
        await mutex.close()
        await gateway.close()


async def book(
    bench: Workbench,
    lock: str = ZIGBEE,
    reservation_id: str = "res-1",
    *,
    starts_in: timedelta = timedelta(minutes=30),
    lasts: timedelta = timedelta(days=2),
    hashed: bool = True,
) -> AccessCode:
    """A stay behind one lock that begins within the lead: its generate is due at once. Its PIN is
    `hashed` already, as though it had been booked a while ago."""
    if not await factories.rows(bench.db, "SELECT id FROM listings WHERE id = :id", id=lock):
        await factories.add_listing(bench.db, lock, {lock: PROTOCOLS.get(lock, "zigbee")})
    await tell(bench, reservation_id, lock, starts_in=starts_in, lasts=lasts)
    if hashed:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sealing, "BCRYPT_ROUNDS", 4)  # its cost is not the matter here
            await hashing.hash_ahead(bench.db, bench.planner.sealer, rest=0)
    return await code_of(bench, reservation_id)


async def tell(
    bench: Workbench,
    reservation_id: str = "res-1",
    lock: str = ZIGBEE,
    *,
    starts_in: timedelta = timedelta(minutes=30),
    lasts: timedelta = timedelta(days=2),
    status: ReservationStatus = ReservationStatus.CONFIRMED,
) -> None:
    """What the property system says of a stay."""
    starts_at = datetime.now(UTC).replace(microsecond=0) + starts_in
    told = factories.booking(
        reservation_id,
        listing_id=lock,
        check_in=starts_at.isoformat(),
        check_out=(starts_at + lasts).isoformat(),
        status=status,
    )
    assert await factories.receive(bench.db, bench.planner, told) == "accepted"


async def cancel(bench: Workbench, reservation_id: str = "res-1", lock: str = ZIGBEE) -> None:
    await tell(bench, reservation_id, lock, status=ReservationStatus.CANCELLED)


async def code_of(bench: Workbench, reservation_id: str = "res-1") -> AccessCode:
    """The stay's newest access code."""
    return (await factories.codes(bench.db, reservation_id))[-1]


async def operation_of(bench: Workbench, kind: str, reservation_id: str = "res-1") -> Operation:
    """The newest operation of that kind on the stay's newest access code."""
    code = await code_of(bench, reservation_id)
    return [o for o in await factories.operations(bench.db, code) if o.kind == kind][-1]


async def ring(
    bench: Workbench,
    kind: str,
    reservation_id: str = "res-1",
    *,
    as_if_due: bool = True,
    job_id: int | None = None,
) -> PinQueueError | None:
    """Ring for an operation, as though its time had come; returns what it raised."""
    operation = await operation_of(bench, kind, reservation_id)
    if as_if_due:
        await execute(
            bench.db,
            "UPDATE operations SET next_at = now() WHERE id = :id AND next_at > now()",
            id=operation.id,
        )
    try:
        await PERFORM[kind](bench, operation.id, job_id or operation.job_id)
    except PinQueueError as error:
        return error
    return None


async def bring_to(
    bench: Workbench, doors: Control, state: str, lock: str = ZIGBEE, reservation_id: str = "res-1"
) -> AccessCode:
    """A booked stay whose access code has come to that state, with doors that are prompt."""
    await book(bench, lock, reservation_id)
    refusals = {"generating": 2312, "failed": 28841105}
    if state in refusals:
        doors.fault("code", CREATE | {"device": lock}, code=refusals[state])
    if state == "sent":
        doors.settings(zigbee_seconds=1)
    if state != "scheduled":
        await ring(bench, "generate", reservation_id)
    if state in ("revoking", "revoked"):
        await cancel(bench, reservation_id, lock)
    if state == "revoking":
        doors.fault("code", DELETE | {"device": lock}, code=2312)
    if state in ("revoking", "revoked"):
        await ring(bench, "revoke", reservation_id)
    doors.settings(zigbee_seconds=0)
    code = await code_of(bench, reservation_id)
    assert code.state == state
    return code


async def ring_all(bench: Workbench, *, rounds: int = 20) -> None:
    """Ring for all that is due, again and again, as though no time passed between two tries."""
    due = "state IN ('waiting', 'active') AND due_at <= now()"
    for _ in range(rounds):
        await grace_is_over(bench, "%")
        await execute(bench.db, f"UPDATE operations SET next_at = now() WHERE {due}")
        found = await factories.rows(
            bench.db, f"SELECT id, kind, job_id FROM operations WHERE {due} ORDER BY id"
        )
        if not found:
            return
        for row in found:
            with contextlib.suppress(PinQueueError):  # its row says what became of it
                await PERFORM[row["kind"]](bench, row["id"], row["job_id"])
    raise AssertionError(f"still due after {rounds} rounds: {found}")


async def taken_by_a_worker(
    bench: Workbench, heartbeat: str | None = None, *, kind: str = "generate", begun: bool = True
) -> None:
    """The jobs of that kind as a worker holds them, one that last gave a sign of life so long ago
    or, without, whose row is gone; `begun` says whether it is at the operations already."""
    db = bench.db
    if begun:
        await execute(db, "UPDATE operations SET next_at = now() WHERE kind = :kind", kind=kind)
        async with db.transaction() as session:
            for operation in await store.rows(session, _TO_RING, kind=kind):
                await claiming.claim_operation(session, **operation)
    await execute(
        db,
        """
        WITH worker AS (
            INSERT INTO procrastinate_workers (last_heartbeat)
            VALUES (now() - CAST(:heartbeat AS interval)) RETURNING id
        )
        UPDATE procrastinate_jobs SET status = 'doing', worker_id = worker.id
        FROM worker WHERE task_name = :task AND status = 'todo'
        """,
        heartbeat=heartbeat or "0 s",
        task=f"{kind}_pin",
    )
    if heartbeat is None:
        await execute(db, "DELETE FROM procrastinate_workers")


async def put_on_door(bench: Workbench, doors: Control, lock: str = ZIGBEE) -> AccessCode:
    """A booked stay whose PIN is on the door."""
    await book(bench, lock)
    if lock == WIFI:
        await ring(bench, "generate")
        doors.wake(lock)
    assert await ring(bench, "generate") is None
    code = await code_of(bench)
    assert code.state == "active"
    return code


def digits(bench: Workbench, code: AccessCode) -> str:
    assert code.pin_sealed is not None
    return bench.planner.sealer.open_pin(code.id, code.pin_sealed).digits()


def door_of(code: AccessCode) -> Door:
    return Door(code.lock_id, PROTOCOLS.get(code.lock_id, "zigbee"))


def window_of(code: AccessCode) -> Window:
    return Window(code.starts_at, code.ends_at)


def held(doors: Control, lock: str = ZIGBEE) -> list[tuple[str, datetime, datetime]]:
    """What the lock on the door holds: digits, from when and until when."""
    return [
        (
            pin["pin"],
            datetime.fromisoformat(pin["starts_at"]),
            datetime.fromisoformat(pin["ends_at"]),
        )
        for pin in doors.pins(lock)
    ]


def performed(doors: Control, method: str, path: str = "") -> int:
    """How many calls of that kind the cloud has carried out, whatever it answered."""
    return sum(
        entry["performed"] and entry["method"] == method and path in entry["path"]
        for entry in doors.log()
    )


def creates(doors: Control) -> int:
    return performed(doors, "POST", "/temp-password")


async def gap(
    bench: Workbench, kind: str, reservation_id: str = "res-1", *, since: str = "finished_at"
) -> float:
    """Seconds from the operation's last try until it rings again; `since` is `started_at` for what
    is at least so long, since what is decided in a try is recorded a moment later."""
    operation = await operation_of(bench, kind, reservation_id)
    tried = await factories.value(
        bench.db,
        f"SELECT max({since}) FROM tries WHERE operation_id = :id",
        id=operation.id,
    )
    seconds: float = (operation.next_at - tried).total_seconds()
    return seconds


async def execute(db: Database, statement: str, **parameters: Any) -> None:
    async with db.transaction() as session:
        await session.execute(text(statement), parameters)


async def grace_is_over(bench: Workbench, reservation_id: str = "res-1") -> None:
    """As though the last create had been sent two minutes earlier."""
    await execute(
        bench.db,
        "UPDATE access_codes SET create_in_doubt_since = create_in_doubt_since"
        " - interval '2 minutes', sent_at = sent_at - interval '2 minutes'"
        " WHERE reservation_id LIKE :id",
        id=reservation_id,
    )


async def until(
    true: Callable[[], Awaitable[object]], *, seconds: float = 10.0, every: float = 0.02
) -> None:
    """Wait until something is so; fails when it is not in time."""
    async with asyncio.timeout(seconds):
        while not await true():  # noqa: ASYNC110  # rows give no signal
            await asyncio.sleep(every)


async def somebody_waits(db: Database) -> bool:
    """Whether a transaction waits for a row that another holds."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(await factories.value(db, waiting))


async def struck(doors: Control) -> None:
    """Wait until a call has run into the fault that was ordered."""

    async def it_has() -> bool:
        return any(entry["fault"] for entry in doors.log())

    await until(it_has)
