"""docs/questions.md: every answer is one that PostgreSQL gives, about stays that came and went."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from pinqueue import audit
from pinqueue.operations import Workbench
from pinqueue.simulator import Control
from tests import factories
from tests.operating import LIST, book, cancel, execute, put_on_door, ring, tell
from tests.pages import blocks, text_of

pytestmark = pytest.mark.anyio

PAGE = "docs/questions.md"
ASKED = re.findall(r"\*\*(\d+)\. (.*?)\*\*.*?```sql\n(.*?)```", text_of(PAGE), re.DOTALL)
EVENT = """
    INSERT INTO webhook_events (source_id, event_id, body_sha256, type, body, outcome, listing_id,
                                reservation_id)
    VALUES ('main', :id, '', 'reservation.created', '{}', :outcome, :listing, :stay)
"""
NOTHING_TO_TELL = {"12", "15", "16"}
"""Of a world in which all went well in the end."""


@pytest.fixture
async def world(bench: Workbench, prompt: Control) -> Workbench:
    """A guest whose PIN is on the door and was seen, one who has left, one at a lock out of reach,
    one whose PIN the lock refuses, one who arrives tomorrow."""
    code = await put_on_door(bench, prompt)
    async with bench.db.transaction() as session:
        await audit.reveal(session, bench.planner.sealer, "cli:ana", code.id)
    aged = "UPDATE access_codes SET starts_at = :at - interval '5 h', active_at = :at"
    await execute(
        bench.db, aged.replace(":at", "now() - interval '2 h'") + " WHERE reservation_id = 'res-1'"
    )
    for lock in ("lock-2", "lock-4"):
        prompt.add_door(lock, "zigbee")
    await book(bench, "lock-2", "left")
    assert await ring(bench, "generate", "left") is None
    await cancel(bench, "left", "lock-2")
    assert await ring(bench, "revoke", "left") is None
    await book(bench, "lock-3", "unlucky")  # the cloud knows no such lock
    await ring(bench, "generate", "unlucky")
    await book(bench, "lock-4", "waits")
    prompt.fault("http_500", LIST)
    await ring(bench, "generate", "waits")
    await tell(bench, "tomorrow", "lock-4", starts_in=timedelta(hours=9))
    await factories.add_source(bench.db, bench.planner.sealer)
    told = {"id": "msg_1", "outcome": "accepted", "listing": None, "stay": "res-1"}
    await execute(bench.db, EVENT, **told)
    return bench


def test_there_are_twenty_in_order() -> None:
    assert [int(number) for number, *_ in ASKED] == list(range(1, 21))
    assert [sql for *_, sql in ASKED] == blocks(PAGE)


async def test_each_is_answered(world: Workbench) -> None:
    answers = {number: await factories.rows(world.db, sql) for number, _, sql in ASKED}
    assert {number for number, rows in answers.items() if not rows} == NOTHING_TO_TELL


async def test_what_all_went_well_hides_is_told_when_it_does_not(world: Workbench) -> None:
    await execute(
        world.db,
        "UPDATE access_codes SET starts_at = now() - interval '9 h', ends_at = now()"
        " WHERE reservation_id = 'res-1'",
    )
    await execute(
        world.db,
        "UPDATE access_codes SET state = 'cancelled', cancelled_at = now(), pin_sealed = NULL"
        " WHERE reservation_id = 'tomorrow'",
    )
    waits = {"id": "msg_2", "outcome": "unmapped", "listing": "nowhere", "stay": "res-9"}
    await execute(world.db, EVENT, **waits)
    told = {number: await factories.rows(world.db, sql) for number, _, sql in ASKED}
    assert [row["reservation_id"] for row in told["12"]] == ["res-1"]
    assert [row["id"] for row in told["15"]] == ["tomorrow"]
    assert [row["listing_id"] for row in told["16"]] == ["nowhere"]
