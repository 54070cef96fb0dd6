"""A source of a property system, and what the worker does about it, for tests not async."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from starlette.responses import Response

from pinqueue import fetching, inventory
from pinqueue.db import Database
from pinqueue.errors import SourceBusy, SourceError
from pinqueue.fetchers import Api
from pinqueue.models import Source
from pinqueue.reservations import Planner
from tests import factories
from tests.senders.api import Played
from tests.serving import Web

JSON = {"content-type": "application/json"}
STATUS = "SELECT status FROM reservations"
FETCHED = "SELECT id FROM webhook_events WHERE outcome = 'fetching' ORDER BY id"
JOBS = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'fetch_booking'"


async def add_source(
    db: Database,
    planner: Planner,
    kind: str,
    secret: str,
    api: Api | None = None,
    name: str | None = None,
) -> None:
    """The source is called as its kind is, unless it has a name."""
    name = name or kind
    async with db.transaction() as session:
        await inventory.add_source(session, planner.sealer, "test", name, kind, secret)
        await session.flush()
        if api is not None:
            source = await session.get_one(Source, name)
            source.api = planner.sealer.seal(f"api:{name}", api.dump())


def set_up(
    web: Web,
    kind: str,
    secret: str,
    api: Api | None = None,
    *,
    listings: Sequence[str] = (),
    time_zone: str = "America/Sao_Paulo",
) -> None:
    """A source, and listings that share one lock."""

    async def add(db: Database, planner: Planner) -> None:
        await add_source(db, planner, kind, secret, api)
        for listing in listings:
            await factories.add_listing(db, listing, time_zone=time_zone)

    web.do(add)


def fetch(web: Web) -> None:
    """What the jobs of all events do that wait for their booking to be read."""
    rows = [row["id"] for row in web.ask(FETCHED)]
    assert rows, "no event waits for its booking"
    assert web.value(JOBS) >= len(rows)

    async def run(db: Database, planner: Planner) -> None:
        for row in rows:
            await fetching.fetch(db, planner, row)

    web.do(run)


def reconcile(web: Web) -> None:
    """Compare all sources' bookings now, whenever that was done last."""

    async def run(db: Database, planner: Planner) -> None:
        await fetching.reconcile(db, planner, every=timedelta(0))

    web.do(run)


def outcomes(web: Web) -> list[str]:
    return [row["outcome"] for row in web.ask("SELECT outcome FROM webhook_events ORDER BY id")]


def stays(web: Web) -> list[dict[str, Any]]:
    return web.ask(
        "SELECT id, status, listing_id, check_in_at, check_out_at, guest_name, guest_phone"
        " FROM reservations ORDER BY id"
    )


# What an API may do to us, where its bookings are read


def fetch_past(web: Web, played: Played, fault: Response, raised: type[SourceError]) -> None:
    """An answer that tells nothing changes nothing, and the booking is asked for again."""
    played.faults.append(fault)
    with pytest.raises(raised) as caught:
        fetch(web)
    if isinstance(caught.value, SourceBusy):
        assert caught.value.retry_after == (7.0 if "retry-after" in fault.headers else None)
    assert (outcomes(web)[-1], stays(web)) == ("fetching", [])
    fetch(web)
    assert [stay["status"] for stay in stays(web)] == ["confirmed"]


def compare_past(web: Web, played: Played, *faults: Response) -> None:
    """A list that cannot be read, or breaks off, removes nothing."""
    reconcile(web)
    played.faults += faults
    reconcile(web)
    assert [stay["status"] for stay in stays(web)] == ["confirmed"]


def compare_without(web: Web, played: Played, gone: slice) -> None:
    """What four bookings lose from one list to the next is not removed."""
    reconcile(web)
    del played.bookings[gone]
    reconcile(web)
    assert [stay["status"] for stay in stays(web)] == ["confirmed"] * 4
