"""Operations that are due at set instants, booked ahead of them as any others are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from sqlalchemy import insert

from pinqueue import alarms, codes, pins, store
from pinqueue.bench.figures import Round, percentile
from pinqueue.bench.ground import BenchFailed, Deployment
from pinqueue.lifecycle import CodeState, OperationKind, ReservationStatus
from pinqueue.models import AccessCode, Listing, Lock, Operation, Reservation
from pinqueue.store import access_codes, listings

LISTING = "bench"
HASHED_AHEAD = "$2b$10$" + 53 * "."
"""What a booking's PIN has a minute after it came in. These are due sooner than that."""
_numbers = count(1)


async def put(
    deployment: Deployment, offsets: Sequence[timedelta], *, ahead: timedelta | None = None
) -> datetime:
    """A generate operation for each offset from a start that lies some seconds ahead, each on a
    lock of its own, with its job; returns that start.

    Raises BenchFailed when writing them down took until then, unless it is said how far `ahead`
    the start is: what follows would count it in.
    """
    rows = [_rows(deployment, next(_numbers)) for _ in offsets]
    async with deployment.db.transaction() as session:
        enough = timedelta(seconds=3, milliseconds=15 * len(offsets))
        start = await store.now(session) + (enough if ahead is None else ahead)
        window = {"starts_at": _whole(start, hours=1), "ends_at": _whole(start, hours=25)}
        if await listings.listing(session, LISTING) is None:
            await session.execute(insert(Listing).values(id=LISTING, time_zone="UTC"))
        await session.execute(insert(Lock), [row["lock"] for row in rows])
        dates = {"check_in_at": window["starts_at"], "check_out_at": window["ends_at"]}
        await session.execute(insert(Reservation), [row["stay"] | dates for row in rows])
        ids = await access_codes.new_code_ids(session, len(rows))
        sealer = deployment.planner.sealer
        sealed = [
            {
                "id": id_,
                "pin_sealed": sealer.seal_pin(id_, row["pin"]),
                "pin_fingerprint": sealer.fingerprint(row["lock"]["id"], row["pin"]),
            }
            for id_, row in zip(ids, rows, strict=True)
        ]
        booked = [
            AccessCode(**row["code"], **one, **window)
            for row, one in zip(rows, sealed, strict=True)
        ]
        session.add_all(booked)
        await session.flush()
        operations = [
            Operation(
                access_code_id=id_, kind=OperationKind.GENERATE, due_at=start + o, next_at=start + o
            )
            for id_, o in zip(ids, offsets, strict=True)
        ]
        session.add_all(operations)
        await session.flush()
        await alarms.put(session, operations)
    async with deployment.db.transaction() as session:
        if ahead is None and await store.now(session) > start:
            raise BenchFailed("the work could not be written down in time: this machine is busy")
    return start


def _rows(deployment: Deployment, number: int) -> dict[str, Any]:
    name = f"due-{number}"
    return {
        "pin": pins.choose(pins.LENGTHS["zigbee"]),
        "lock": {"id": name, "device_id": name, "protocol": "zigbee"},
        "stay": {
            "id": name,
            "listing_id": LISTING,
            "status": ReservationStatus.CONFIRMED,
        },
        "code": {
            "reservation_id": name,
            "lock_id": name,
            "state": CodeState.SCHEDULED,
            "pin_hash": HASHED_AHEAD,
            "remote_name": codes.new_remote_name(),
        },
    }


def _whole(moment: datetime, *, hours: int) -> datetime:
    return moment.replace(microsecond=0) + timedelta(hours=hours)


LEFT = """
    SELECT count(*) FROM procrastinate_jobs
    WHERE queue_name = 'generate_pin' AND status IN ('todo', 'doing') AND scheduled_at < :until
"""
CONNECTIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name <> 'pinqueue-bench'
"""
ENDED = """
    SELECT extract(epoch FROM max(pg_xact_commit_timestamp(xmin)) - CAST(:start AS timestamptz))
    FROM procrastinate_jobs WHERE status = 'succeeded'
"""
LATENESS = """
    SELECT extract(epoch FROM operation.first_claimed_at - operation.due_at) * 1000
    FROM operations operation JOIN access_codes code ON code.id = operation.access_code_id
    WHERE operation.due_at >= :start AND operation.state = 'completed' AND code.state = 'active'
"""


async def finished(deployment: Deployment, start: datetime, jobs: int, *, within: float) -> float:
    """Wait until all that was put is done, on its door, and written down; returns how many
    connections to the database the workers had at most."""
    until, most = start + timedelta(days=1), 0.0

    async def none_left() -> bool:
        nonlocal most
        most = max(most, await deployment.value(CONNECTIONS))
        return await deployment.value(LEFT, until=until) == 0

    await deployment.until(none_left, f"{jobs} operations are done", within=within)
    return most


async def done(deployment: Deployment, start: datetime, jobs: int, *, within: float) -> Round:
    """Wait until all that was put is done; then its figures.

    Lateness counts up to when a worker had claimed the operation; the end is the commit of the last
    job's own end.
    """
    connections = await finished(deployment, start, jobs, within=within)
    late = sorted(await deployment.column(LATENESS, start=start))
    if len(late) != jobs:
        raise BenchFailed(f"{len(late)} of {jobs} operations were done at the first try")
    seconds = await deployment.value(ENDED, start=start)
    return {
        "late_p50_ms": percentile(late, 0.5),
        "late_p99_ms": percentile(late, 0.99),
        "late_max_ms": late[-1],
        "seconds": seconds,
        "per_second": jobs / seconds,
        "connections": connections,
    }


def told(printed: dict[str, Any], jobs: int) -> Round:
    """What the peer's worker printed, under the same names."""
    seconds = printed["drain"] / 1000
    return {
        "late_p50_ms": printed["late_p50"],
        "late_p99_ms": printed["late_p99"],
        "late_max_ms": printed["late_max"],
        "seconds": seconds,
        "per_second": jobs / seconds,
    }
