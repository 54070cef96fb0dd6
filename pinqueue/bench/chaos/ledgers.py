"""Three ledgers compared: what was asked for, what our rows say, what each lock held and holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from pinqueue.bench.chaos.guests import Guests
from pinqueue.bench.ground import Deployment
from pinqueue.simulator import Control

CODES = """
    SELECT code.reservation_id AS stay, code.lock_id AS lock, code.remote_name AS name, code.state,
           code.active_at IS NOT NULL AS was_active
    FROM access_codes code
"""
STORY = """
    SELECT event || coalesce(' (' || (detail ->> 'reason') || ')', '') AS told FROM audit_timeline
    WHERE reservation_id = :stay AND event NOT LIKE 'reservation:%' ORDER BY at DESC LIMIT 8
"""
AGAIN = """
    SELECT coalesce(max(extract(epoch FROM following.started_at - broken.started_at)), 0)
    FROM tries broken
    JOIN tries following
      ON following.operation_id = broken.operation_id AND following.epoch = broken.epoch + 1
    WHERE broken.outcome = 'rescued'
"""
LATE = """
    SELECT coalesce(percentile_cont(0.99) WITHIN GROUP (
        ORDER BY extract(epoch FROM first_claimed_at - due_at)), 0) FROM operations
"""
OVERDUE = "SELECT count(*) FROM audit_overdue_pins"
LOCKS_HELD = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
CONNECTED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'pinqueue-w%'
"""


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
    run_again_seconds: float
    """The longest from a try whose worker died to the next."""
    late_p99_seconds: float
    overdue: int

    @property
    def holds(self) -> bool:
        return not (self.lost or self.duplicated or self.orphaned or self.overdue)

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "holds": self.holds}


async def compare(deployment: Deployment, control: Control, guests: Guests) -> Verdict:
    codes = await deployment.rows(CODES)
    ours = {(code["lock"], code["name"]): code for code in codes}
    done = {code["stay"] for code in codes if code["state"] == "revoked" and code["was_active"]}
    ever = control.ledger()
    given = Counter((entry["device"], entry["pin"]) for entry in ever)
    held = [(door, pin["name"]) for door in guests.listings for pin in control.pins(door)]
    return Verdict(
        operations=int(await deployment.value("SELECT count(*) FROM operations")),
        lost=[await _story(deployment, stay) for stay in sorted(guests.taken.keys() - done)],
        duplicated=[f"{door} {times} times" for (door, _), times in given.items() if times > 1],
        orphaned=[
            f"{door} {name}"
            for door, name in held
            if (door, name) not in ours or ours[door, name]["state"] in ("revoked", "cancelled")
        ],
        run_again_seconds=round(await deployment.value(AGAIN), 1),
        late_p99_seconds=round(await deployment.value(LATE), 1),
        overdue=int(await deployment.value(OVERDUE)),
    )


async def _story(deployment: Deployment, stay: str) -> str:
    last = [row["told"] for row in await deployment.rows(STORY, stay=stay)]
    return f"{stay}: {', '.join(reversed(last)) or 'nothing'}"


async def left_behind(deployment: Deployment) -> dict[str, int]:
    """What processes that have ended must not leave: locks held, connections open."""
    return {
        "locks_held": int(await deployment.value(LOCKS_HELD)),
        "connections": int(await deployment.value(CONNECTED)),
    }
