"""When a worker reads the API of a property system: at its start, every half an hour, and what an
event names at once; and who hears of one that cannot be read, or believed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from pinqueue import fetching, health
from pinqueue.config import Settings
from pinqueue.db import Database
from pinqueue.reservations import Planner
from pinqueue.store import events
from tests import factories
from tests.operating import a_worker, execute, until
from tests.senders import playing, using
from tests.senders.hostaway import Hostaway

pytestmark = pytest.mark.anyio

STAYS = "SELECT id FROM reservations ORDER BY id"
COMPARED_AGO = "UPDATE sources SET reconciled_at = now() - CAST(:minutes AS int) * interval '1 min'"


@pytest.fixture
def api() -> Iterator[Hostaway]:
    """Of a property system that has the stay 13."""
    played = Hostaway()
    played.put("13")
    with playing.playing(played):
        yield played


@pytest.fixture
async def source(db: Database, planner: Planner, api: Hostaway) -> Database:
    """Its bookings were never compared."""
    await factories.add_listing(db, Hostaway.LISTING)
    await using.add_source(db, planner, "hostaway", playing.SECRET, api.api)
    return db


async def stays(db: Database) -> list[str]:
    return [row["id"] for row in await factories.rows(db, STAYS)]


async def test_a_worker_that_starts_finds_what_no_event_told(
    settings: Settings, source: Database
) -> None:
    async with a_worker(settings):
        await until(lambda: stays(source))
    assert await stays(source) == ["hostaway:13"]


async def test_a_running_worker_compares_again_when_half_an_hour_is_over(
    settings: Settings, source: Database, api: Hostaway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "LOOK_EVERY", timedelta(seconds=0.05))
    async with a_worker(settings):
        await until(lambda: stays(source))
        api.put("14")
        await execute(source, COMPARED_AGO, minutes=31)

        async def both() -> bool:
            return len(await stays(source)) == 2

        await until(both)


@pytest.mark.parametrize(("minutes", "compared"), [(29, False), (30, True)])
async def test_a_source_is_compared_every_half_an_hour_and_not_more_often(
    source: Database, planner: Planner, minutes: int, compared: bool
) -> None:
    await execute(source, COMPARED_AGO, minutes=minutes)
    await fetching.reconcile(source, planner)
    assert await stays(source) == ["hostaway:13"] * compared


async def test_a_worker_reads_at_once_the_booking_that_an_event_names(
    settings: Settings, source: Database
) -> None:
    await execute(source, COMPARED_AGO, minutes=0)
    async with source.transaction() as session:
        event = await events.insert_event(session, "hostaway", "msg_1", b"", "changed", {})
        assert event is not None
        await events.set_event_outcome(session, event, "fetching", "hostaway:13", None)
        await fetching.put(session, event)
    async with a_worker(settings):
        await until(lambda: stays(source))
    assert await factories.value(source, "SELECT outcome FROM webhook_events") == "fetched"


async def compare(db: Database, planner: Planner) -> None:
    await fetching.reconcile(db, planner, every=timedelta(0))


async def warned(settings: Settings, db: Database) -> bool:
    """Whether health warns of the source, which is the only one."""
    report = await health.report(settings, db)
    warning = (
        "the bookings of 1 sources cannot be read, or believed: `pinqueue sources list`"
        in report["warnings"]
    )
    assert report["doubted_sources"] == warning
    return warning


async def test_f1_health_warns_of_a_list_that_is_not_believed_until_one_is(
    settings: Settings, source: Database, planner: Planner, api: Hostaway
) -> None:
    await compare(source, planner)
    assert not await warned(settings, source)
    api.bookings.clear()
    await compare(source, planner)
    assert await warned(settings, source)
    told = await factories.value(source, "SELECT list_fault FROM sources")
    assert told == "it lists 0 bookings, after 1: none is removed for that"
    api.put("13")
    await compare(source, planner)
    assert not await warned(settings, source)


async def test_health_warns_of_an_api_that_refuses_until_it_answers(
    settings: Settings, source: Database, planner: Planner, api: Hostaway
) -> None:
    api.faults[:] = [playing.Fault(403)] * 9
    await compare(source, planner)
    assert await warned(settings, source)
    api.faults.clear()
    await compare(source, planner)
    assert not await warned(settings, source)
