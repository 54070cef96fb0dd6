"""What each telling does to an access code in each state, as docs/bookings.md says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from pinqueue import codes
from pinqueue.config import read_settings
from pinqueue.db import Database
from pinqueue.lifecycle import CodeState, ReservationStatus
from pinqueue.models import AccessCode
from pinqueue.reservations import Booking, Planner
from pinqueue.sealing import sealer
from pinqueue.store import access_codes, listings
from tests import factories
from tests.conftest import SECRETS, Server

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parents[2] / "docs" / "bookings.md").read_text()
TABLE = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.partition("## Events and states")[2].partition("## ")[0].splitlines()
    if line.startswith("|")
]
STATES = [cell.strip("`") for cell in TABLE[0][1:]]
CASES = [
    (row[0], state, cell) for row in TABLE[2:] for state, cell in zip(STATES, row[1:], strict=True)
]

TODAY = datetime.now(UTC).replace(microsecond=0)
CHECK_IN, CHECK_OUT = TODAY + timedelta(days=1), TODAY + timedelta(days=3)
EVENTS: dict[str, dict[str, Any]] = {
    "booked, confirmed, reactivated, told again; a no-show": {},
    "other guest": {"guest_name": "Rui"},
    "other dates": {"check_out": (CHECK_OUT + timedelta(days=1)).isoformat()},
    "other unit": {"listing_id": "attic"},
    "inquiry, request, hold": {"status": ReservationStatus.PENDING},
    "owner's block, maintenance": {"status": ReservationStatus.BLOCKED},
    "cancelled, declined, deleted": {"status": ReservationStatus.CANCELLED},
    "check-out now past": {
        "check_in": (TODAY - timedelta(days=2)).isoformat(),
        "check_out": (TODAY - timedelta(hours=1)).isoformat(),
    },
}
ON_LOCK = {"pin_hash": "$2b$", "remote_id": 1, "sent_at": TODAY, "active_at": TODAY}
WAY: dict[str, dict[CodeState, dict[str, Any]]] = {
    "generating": {CodeState.GENERATING: {}},
    "sent": {CodeState.GENERATING: {}, CodeState.SENT: ON_LOCK},
    "active": {CodeState.GENERATING: {}, CodeState.SENT: ON_LOCK, CodeState.ACTIVE: {}},
    "failed": {CodeState.GENERATING: {}, CodeState.FAILED: {"failed_at": TODAY}},
    "revoking": {CodeState.GENERATING: {}, CodeState.REVOKING: {}},
    "revoked": {
        CodeState.GENERATING: {},
        CodeState.REVOKING: {},
        CodeState.REVOKED: {"revoked_at": TODAY, "pin_sealed": None, "pin_hash": None},
    },
}
DONE = {
    "active": ["generate"],
    "failed": ["generate"],
    "revoking": ["generate"],
    "revoked": ["generate", "revoke"],
}
"""The kinds of operation that are over then."""
_stays = count(1)


@pytest.fixture(scope="module")
def shared_url(server: Server, template: str) -> Iterator[str]:
    """One database for all cases: each has a stay of its own."""
    with server.database(template) as url:
        yield url


@pytest.fixture
async def db(shared_url: str) -> AsyncIterator[Database]:
    db = Database(shared_url, pool_size=2, name="pinqueue-tests")
    async with db.transaction() as session:
        made = await listings.listing(session, "apt-7")
    if made is None:
        await factories.add_listing(db)
        await factories.add_listing(db, "attic", {"sim-zigbee-2": "zigbee"})
    yield db
    await db.close()


@pytest.fixture
def planner() -> Planner:
    settings = read_settings(**SECRETS, _env_file=None)
    return Planner(sealer(settings), settings.lead)


def test_every_event_and_every_state_is_in_the_table() -> None:
    assert {event for event, _, _ in CASES} == EVENTS.keys()
    assert sorted(STATES) == sorted(["no code", *CodeState])


@pytest.mark.parametrize(("event", "state", "cell"), CASES)
async def test_what_is_told_does_what_the_table_says(
    db: Database, planner: Planner, event: str, state: str, cell: str
) -> None:
    stay = f"res-{next(_stays)}"
    if state != "no code":
        await factories.receive(db, planner, booking(stay))
        await bring_to(db, planner, stay, state)
    before = await factories.codes(db, stay)
    await factories.receive(db, planner, booking(stay, **EVENTS[event]))
    assert await told(db, planner, before, await factories.codes(db, stay)) == cell


def booking(stay: str, **changes: Any) -> Booking:
    dates = {"check_in": CHECK_IN.isoformat(), "check_out": CHECK_OUT.isoformat()}
    return factories.booking(stay, **{**dates, **changes})


async def bring_to(db: Database, planner: Planner, stay: str, state: str) -> None:
    """Have the stay's code be in a state, by the moves that lead there."""
    async with db.transaction() as session:
        (code,) = await access_codes.live_codes(session, stay)
        if state == CodeState.CANCELLED:
            await codes.withdraw(session, "test", code, now=TODAY)
        for to, values in WAY.get(state, {}).items():
            await access_codes.move_code(session, code, to, **values)
        for kind in DONE.get(state, ()):
            done = "UPDATE operations SET state = :state, finished_at = now() WHERE kind = :kind"
            how = "failed" if state == CodeState.FAILED else "completed"
            mine = {"kind": kind, "state": how, "id": code.id}
            await session.execute(text(f"{done} AND access_code_id = :id"), mine)


async def told(
    db: Database, planner: Planner, before: list[AccessCode], after: list[AccessCode]
) -> str:
    """What became of the code there was, and which came to it, in the words of the table."""
    parts = []
    for old, now in zip(before, after, strict=False):
        moved = (old.starts_at, old.ends_at) != (now.starts_at, now.ends_at)
        open_kinds = [o.kind for o in await factories.operations(db, now) if o.state == "waiting"]
        again = now.state == CodeState.FAILED and "generate" in open_kinds
        assert now.pin_sealed in (old.pin_sealed, None)
        parts.append(now.state + ", window moved" * moved + ", tried again" * again)
    old_pins = {pin for code in before if (pin := digits(planner, code))}
    for new in after[len(before) :]:
        same_pin = ", same PIN" * (digits(planner, new) in old_pins)
        there = " there" * any(new.lock_id != old.lock_id for old in before)
        anew = " anew" * any(new.lock_id == old.lock_id for old in before)
        parts.append(new.state + there + anew + same_pin)
    return "; ".join(parts) or "none"


def digits(planner: Planner, code: AccessCode) -> str | None:
    return planner.sealer.open_pin(code.id, code.pin_sealed).digits() if code.pin_sealed else None
