"""Three ledgers compared: what was asked for, what our rows say, what each lock held and holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from pinqueue.bench.chaos.guests import Guests
from pinqueue.bench.chaos.havoc import AT_ONCE, QUARANTINED
from pinqueue.bench.figures import percentile
from pinqueue.bench.ground import Deployment
from pinqueue.simulator import Control

CODES = """
    SELECT code.reservation_id AS stay, code.lock_id AS lock, code.remote_name AS name, code.state,
           code.active_at IS NOT NULL AS was_active, code.revoked_at
    FROM access_codes code
"""
STORY = """
    SELECT event || coalesce(' (' || (detail ->> 'reason') || ')', '') AS told FROM audit_timeline
    WHERE reservation_id = :stay AND event NOT LIKE 'reservation:%' ORDER BY at DESC LIMIT 8
"""
AGAIN = """
    SELECT rescue.reservation_id AS stay,
           extract(epoch FROM following.started_at
                              - CAST(rescue.detail ->> 'silent_since' AS timestamptz)) AS seconds
    FROM audit_events rescue
    CROSS JOIN LATERAL (
        SELECT started_at FROM tries
        WHERE operation_id = rescue.operation_id AND started_at > rescue.at
        ORDER BY started_at LIMIT 1) following
    WHERE rescue.event IN ('generate:rescued', 'revoke:rescued')
      AND rescue.detail ->> 'silent_since' IS NOT NULL
"""
LATE = """
    SELECT coalesce(percentile_cont(0.99) WITHIN GROUP (
        ORDER BY extract(epoch FROM first_claimed_at - due_at)), 0) FROM operations
"""
INCOMPLETE = """
    SELECT stay FROM unnest(CAST(:stays AS text[])) stay
    WHERE (SELECT count(*) FROM webhook_events WHERE event_id = 'reservation-created-' || stay) <> 1
       OR (SELECT count(*) FROM reservations WHERE id = stay) <> 1
       OR (SELECT count(*) FROM access_codes WHERE reservation_id = stay) <> 1
       OR (SELECT array_agg(DISTINCT kind ORDER BY kind)
           FROM operations operation JOIN access_codes code ON code.id = access_code_id
           WHERE code.reservation_id = stay
             AND EXISTS (SELECT FROM job_records WHERE operation_id = operation.id))
          IS DISTINCT FROM ARRAY['generate', 'revoke']
"""
SEEN = """
    SELECT id FROM reservations
    UNION
    SELECT substr(event_id, length('reservation-created-') + 1) FROM webhook_events
    WHERE type = 'reservation.created'
"""
"""Stays of which anything is there."""
RUNG_TWICE = """
    SELECT 'operation ' || (args ->> 'operation_id') AS told FROM procrastinate_jobs
    WHERE status = 'succeeded' AND queue_name IN ('generate_pin', 'revoke_pin')
    GROUP BY args ->> 'operation_id' HAVING count(*) > 1
"""
OVERWRITTEN = """
    SELECT DISTINCT late.reservation_id || ': ' || late.event || ' after ' || before.event AS told
    FROM audit_events late
    JOIN audit_events before
      ON before.access_code_id = late.access_code_id AND before.id < late.id
    WHERE (before.event = 'code:revoked' AND late.event LIKE 'code:%'
           AND late.event <> 'code:stray')
       OR (before.event = 'revoke:started' AND late.event IN ('code:sent', 'code:active'))
"""
REFUSED = """
    SELECT coalesce(sum(value), 0) FROM metric_totals
    WHERE name = 'pinqueue_operations_total' AND labels ->> 'outcome' = 'overtaken'
"""
DONE_AGAIN = """
    SELECT extract(epoch FROM min(finished_at) - CAST(:at AS timestamptz)) AS seconds FROM tries
    WHERE started_at > :at AND outcome <> 'rescued'
"""
TAKEN_AGAIN = """
    SELECT extract(epoch FROM min(received_at) - CAST(:at AS timestamptz)) AS seconds
    FROM webhook_events WHERE received_at > :at
"""
OVERDUE = "SELECT count(*) FROM audit_overdue_pins"
LOCKS_HELD = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
CONNECTED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'pinqueue-w%'
"""


AGAIN_WITHIN = {
    "restart-database": 15.0,
    "break-connections": 15.0,
    "outage": 60.0,
    "failover": 30.0,
    "disk-full": 15.0,
    # From when new connections are heard again; up to 20 seconds come before.
    "silence-database": 100.0,
    "silence-cloud": 100.0,
}
"""Seconds from the end of a fault until something that began after it is done, at the latest."""
RUN_AGAIN_WITHIN = 60.0
"""Seconds from the last sign of life of a worker that died until what it was at is tried again,
where nothing but processes dies."""


@dataclass(frozen=True)
class Verdict:
    """Each list names what it is about, so that a failed run can be looked into."""

    operations: int
    lost: list[str]
    """Stays that were taken whose PIN never was on its door, or never came off, with what befell
    them last."""
    duplicated: list[str]
    """PINs that a lock was given more than once."""
    orphaned: list[str]
    """PINs on a lock that no row of ours accounts for."""
    strays: int
    """PINs that a call put on a lock which took effect when all was over, and that the patrol has
    taken off again."""
    stray_seconds: float
    """The longest that one of them was there."""
    run_again_seconds: dict[str, float]
    """From the last sign of life of a worker that died to the next try of what it was at."""
    run_again_late: list[str]
    """Stays for which that took too long, with what befell them last."""
    late_p99_seconds: float
    overdue: int
    incomplete: list[str]
    """Stays whose event was answered 2xx, and of which not every row is there, once."""
    seen_in_part: list[str]
    """Stays of which some rows were there and others not, at a look in the middle of it all."""
    answers: dict[int, int]
    """Of the web process, by status code: a booking that cannot be taken now is answered 503."""
    quarantined: int
    """Operations that were taken for what kills their workers."""
    rung_twice: list[str]
    """Operations for which two jobs rang to their end; the second found nothing to do."""
    overwritten: list[str]
    """States that were written after what ended them."""
    refused: int
    """Writes of workers whose claim had been taken over."""
    done_again_seconds: dict[str, dict[str, float]]
    """By fault, from its end until a worker has done what it began after it."""
    taken_again_seconds: dict[str, dict[str, float]]
    """The same of the next webhook."""

    @property
    def slow(self) -> list[str]:
        """Faults after which it took too long until something was done."""
        again = self.done_again_seconds
        return [f for f, most in AGAIN_WITHIN.items() if f in again and again[f]["worst"] > most]

    @property
    def holds(self) -> bool:
        return not (
            self.answers.keys() - {200, 503}
            or self.seen_in_part
            or self.lost
            or self.duplicated
            or self.orphaned
            or self.overdue
            or self.incomplete
            or self.overwritten
            or self.slow
            or self.run_again_late
        )

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "slow": self.slow, "holds": self.holds}


async def compare(
    deployment: Deployment,
    control: Control,
    guests: Guests,
    over: Sequence[tuple[str, datetime]],
    seen_in_part: set[str],
) -> Verdict:
    """`over` tells when each strike was."""
    codes = await deployment.rows(CODES)
    ours = {(code["lock"], code["name"]): code for code in codes}
    done = {code["stay"] for code in codes if code["state"] == "revoked" and code["was_active"]}
    ever = control.ledger()
    strays = [entry for entry in ever if _is_stray(entry, ours)]
    given = Counter((one["device"], one["pin"]) for one in ever if one not in strays)
    held = [(door, pin["name"]) for door in guests.listings for pin in control.pins(door)]
    again = await deployment.rows(AGAIN)
    only_died = {fault for fault, _ in over} <= AT_ONCE
    late = {one["stay"] for one in again if only_died and one["seconds"] > RUN_AGAIN_WITHIN}
    return Verdict(
        operations=int(await deployment.value("SELECT count(*) FROM operations")),
        lost=[await _story(deployment, stay) for stay in sorted(guests.taken.keys() - done)],
        duplicated=[f"{door} {times} times" for (door, _), times in given.items() if times > 1],
        orphaned=[
            f"{door} {name}"
            for door, name in held
            if (door, name) not in ours or ours[door, name]["state"] in ("revoked", "cancelled")
        ],
        strays=len(strays),
        stray_seconds=max([round(_held_for(entry), 1) for entry in strays], default=0.0),
        run_again_seconds=_spread([float(one["seconds"]) for one in again]),
        run_again_late=[await _story(deployment, stay) for stay in sorted(late)],
        late_p99_seconds=round(await deployment.value(LATE), 1),
        overdue=int(await deployment.value(OVERDUE)),
        incomplete=await _told(deployment, INCOMPLETE, stays=sorted(guests.taken)),
        seen_in_part=sorted(seen_in_part),
        answers=dict(guests.answers),
        quarantined=int(await deployment.value(QUARANTINED)),
        rung_twice=await _told(deployment, RUNG_TWICE),
        overwritten=await _told(deployment, OVERWRITTEN),
        refused=int(await deployment.value(REFUSED)),
        done_again_seconds=await _again(deployment, DONE_AGAIN, over),
        taken_again_seconds=await _again(deployment, TAKEN_AGAIN, over),
    )


async def look_for_parts(deployment: Deployment) -> list[str]:
    """Stays of which some rows are there now and others not. All is looked at as of one moment."""
    query = INCOMPLETE.replace("unnest(CAST(:stays AS text[])) stay", f"({SEEN}) seen (stay)")
    return await _told(deployment, query)


async def _told(deployment: Deployment, query: str, **parameters: object) -> list[str]:
    rows = await deployment.rows(query, **parameters)
    return sorted(str(next(iter(row.values()))) for row in rows)


async def _again(
    deployment: Deployment, query: str, over: Sequence[tuple[str, datetime]]
) -> dict[str, dict[str, float]]:
    """After the last strikes there may have been nothing to do any more."""
    took: dict[str, list[float]] = {}
    for fault, at in over:
        (row,) = await deployment.rows(query, at=at)
        if row["seconds"] is not None:
            took.setdefault(fault, []).append(float(row["seconds"]))
    return {fault: _spread(seconds) for fault, seconds in took.items()}


def _spread(seconds: list[float]) -> dict[str, float]:
    """Nothing of none."""
    if not seconds:
        return {}
    told = {"median": median(seconds), "p99": percentile(seconds, 0.99), "worst": max(seconds)}
    return {name: round(value, 1) for name, value in told.items()}


def _is_stray(entry: dict[str, Any], ours: dict[tuple[str, str], dict[str, Any]]) -> bool:
    code = ours.get((entry["device"], entry["name"]))
    revoked_at = code["revoked_at"] if code else None
    return revoked_at is not None and datetime.fromisoformat(entry["held_from"]) > revoked_at


def _held_for(entry: dict[str, Any]) -> float:
    until = entry["held_until"]
    if until is None:
        return float("inf")
    return (
        datetime.fromisoformat(until) - datetime.fromisoformat(entry["held_from"])
    ).total_seconds()


async def _story(deployment: Deployment, stay: str) -> str:
    last = [row["told"] for row in await deployment.rows(STORY, stay=stay)]
    return f"{stay}: {', '.join(reversed(last)) or 'nothing'}"


async def left_behind(deployment: Deployment) -> dict[str, int]:
    """What must not be left: locks held, connections open, processes."""
    return {
        "locks_held": int(await deployment.value(LOCKS_HELD)),
        "connections": int(await deployment.value(CONNECTED)),
        "processes": deployment.children.left(),
    }
