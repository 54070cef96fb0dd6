"""When a PIN opens, as docs/bookings.md says."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from pinqueue import inventory, reservations, store
from pinqueue.config import parse_duration
from pinqueue.db import Database
from pinqueue.reservations import Planner
from tests import factories

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parents[2] / "docs" / "bookings.md").read_text()
EXAMPLES = [
    [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
    for line in PAGE.partition("\n## Time\n")[2].partition("\n## ")[0].splitlines()
    if line.startswith("| `")
]


async def test_each_example_opens_and_closes_when_the_page_says(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db, time_zone="Europe/Lisbon")
    for number, (check_in, check_out, buffers, granted, opens, closes, _) in enumerate(EXAMPLES):
        stay = f"res-{number}"
        await set_buffers(db, planner, *(buffers or "0s, 0s").split(", "))
        told = factories.booking(stay, check_in=check_in, check_out=check_out)
        assert await factories.receive(db, planner, told) == "accepted"
        if granted:
            await grant(db, planner, stay, granted)
        (code,) = await factories.codes(db, stay)
        expected = [datetime.fromisoformat(moment) for moment in (opens, closes)]
        assert [code.starts_at, code.ends_at] == expected, EXAMPLES[number]
    assert len(EXAMPLES) == 12


async def set_buffers(db: Database, planner: Planner, before: str, after: str) -> None:
    async with db.transaction() as session:
        await inventory.set_listing(
            session,
            planner,
            "test",
            "apt-7",
            buffer_before=parse_duration("before", before),
            buffer_after=parse_duration("after", after),
        )


async def grant(db: Database, planner: Planner, stay: str, early: str) -> None:
    async with db.transaction() as session:
        now = await store.now(session)
        await reservations.grant(session, planner, "test", stay, now, early_check_in=early)
