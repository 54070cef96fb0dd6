"""What is changed of a source holds for the very next webhook, though a process keeps in mind for a
second what its sources are like."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pinqueue import inventory
from pinqueue.db import Database
from pinqueue.reservations import Planner
from tests import factories
from tests.factories import SECRET
from tests.serving import Web

NEW = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


@pytest.fixture
def seen(web: Web) -> Web:
    """A web process that has just taken a webhook of `main`."""
    assert web.tell(factories.event("res-before")).outcome == "accepted"
    return web


EVENTS = [
    pytest.param(lambda: factories.event("res-after"), id="of a new stay"),
    pytest.param(lambda: factories.event("res-before", "reservation.updated"), id="of a known one"),
]
for_each = pytest.mark.parametrize("event", EVENTS)


@for_each
def test_one_that_is_switched_off_is_asked_to_come_again(seen: Web, event: Any) -> None:
    before = seen.counts()
    seen.execute("UPDATE sources SET enabled = false")
    assert seen.tell(event()).status == 503
    assert seen.counts() == before
    seen.execute("UPDATE sources SET enabled = true")
    assert seen.tell(event()).outcome == "accepted"


@for_each
def test_of_one_that_got_another_secret_the_old_one_proves_nothing(seen: Web, event: Any) -> None:
    async def rotate(db: Database, planner: Planner) -> None:
        async with db.transaction() as session:
            await inventory.rotate_source(
                session, planner.sealer, "test", "main", NEW, timedelta(0)
            )

    seen.do(rotate)
    before = seen.counts()
    assert seen.tell(event(), secret=SECRET).status == 401
    assert seen.counts() == before
    assert seen.tell(event(), secret=NEW).outcome == "accepted"


def test_one_that_is_gone_is_not_found(web: Web) -> None:
    assert web.tell({"type": "something.else"}).outcome == "ignored"
    web.execute("DELETE FROM webhook_events")
    web.execute("DELETE FROM sources")
    assert web.tell(factories.event()).status == 404
