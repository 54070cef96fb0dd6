"""A listing's times are changed, and a source is given its sender's API."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pinqueue import inventory, reservations, store
from pinqueue.db import Database
from pinqueue.errors import InputInvalid, NotFound
from pinqueue.fetchers import checked_api
from pinqueue.reservations import Planner
from tests import factories
from tests.operating import WAITING_FOR_A_LOCK, until

pytestmark = pytest.mark.anyio

TODAY = datetime.now(UTC).replace(microsecond=0)


async def change(db: Database, planner: Planner, **changes: Any) -> int:
    async with db.transaction() as session:
        return await inventory.set_listing(session, planner, "test", "apt-7", **changes)


async def test_stays_ahead_follow_a_listings_buffers_and_lead(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    check_in = TODAY + timedelta(days=2)
    await factories.receive(db, planner, factories.booking(check_in=check_in.isoformat()))
    half, lead = timedelta(minutes=30), timedelta(hours=5)
    assert await change(db, planner, buffer_before=half, lead=lead) == 1
    (code,) = await factories.codes(db)
    assert code.starts_at == check_in - half
    (generate, _) = await factories.operations(db, code)
    assert generate.due_at == check_in - half - lead


async def test_default_times_count_from_the_next_telling_on(db: Database, planner: Planner) -> None:
    await factories.add_listing(db, time_zone="Europe/Berlin")
    await change(db, planner, check_in_time="17:00", check_out_time="09:30")
    told = factories.booking(check_in="2027-07-01", check_out="2027-07-02")
    await factories.receive(db, planner, told)
    (stay,) = await factories.rows(db, "SELECT check_in_at, check_out_at FROM reservations")
    assert stay["check_in_at"] == datetime(2027, 7, 1, 15, 0, tzinfo=UTC)
    assert stay["check_out_at"] == datetime(2027, 7, 2, 7, 30, tzinfo=UTC)


@pytest.mark.parametrize("then", ["cancelled", "scheduled"])
async def test_a_change_waits_for_a_stay_that_is_changed_twice_and_is_not_waited_for(
    db: Database, planner: Planner, then: str
) -> None:
    await factories.add_listing(db)
    await factories.receive(db, planner, factories.booking())
    async with db.transaction() as session:
        now = await store.now(session)
        await reservations.withhold(session, "test", "res-1", now)
        changing = asyncio.create_task(change(db, planner, lead=timedelta(hours=5)))
        await until(lambda: factories.rows(db, WAITING_FOR_A_LOCK))
        if then == "cancelled":
            await reservations.cancel(session, planner, "test", "res-1", now)
        else:
            await reservations.schedule(session, planner, "test", "res-1", now, lead=timedelta(0))
    await changing


async def test_a_change_and_a_booking_told_at_once_wait_in_one_direction(
    db: Database, planner: Planner
) -> None:
    await factories.add_listing(db)
    await factories.receive(db, planner, factories.booking())
    for hours in range(2, 7):
        moved = (TODAY + timedelta(days=hours)).isoformat()
        await asyncio.gather(
            change(db, planner, lead=timedelta(hours=hours)),
            factories.receive(db, planner, factories.booking(check_in=TODAY.isoformat())),
            factories.receive(
                db, planner, factories.booking(check_in=TODAY.isoformat(), check_out=moved)
            ),
        )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"check_in_time": "late"}, "check_in_time"),
        ({"check_out_time": "11:00+02:00"}, "check_out_time"),
        ({"buffer_before": timedelta(hours=25)}, "buffer_before"),
        ({"buffer_after": -timedelta(seconds=1)}, "buffer_after"),
        ({"lead": -timedelta(seconds=1)}, "lead"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_bad_change_names_its_field(
    db: Database, planner: Planner, changes: dict[str, Any], field: str
) -> None:
    await factories.add_listing(db)
    with pytest.raises(InputInvalid) as refused:
        await change(db, planner, **changes)
    assert refused.value.field == field


async def test_an_api_is_stored_sealed_and_compared_at_once(db: Database, planner: Planner) -> None:
    await factories.add_source(db, planner.sealer)
    api = checked_api("smoobu", "", "the-token", "")
    async with db.transaction() as session:
        await inventory.set_api(session, planner.sealer, "test", "main", api.dump())
    (source,) = await factories.rows(db, "SELECT api, reconciled_at FROM sources")
    assert b"the-token" not in source["api"]
    assert planner.sealer.open("api:main", source["api"]) == api.dump()
    assert source["reconciled_at"] is None


async def test_an_unknown_source_or_listing_is_not_found(db: Database, planner: Planner) -> None:
    async with db.transaction() as session:
        with pytest.raises(NotFound):
            await inventory.set_api(session, planner.sealer, "test", "nobody", "{}")
        with pytest.raises(NotFound):
            await inventory.set_listing(session, planner, "test", "nowhere")


@pytest.mark.parametrize("url", ["http://example.com", "ftp://x", "nowhere"])
def test_a_token_goes_by_https_alone(url: str) -> None:
    with pytest.raises(InputInvalid, match="api_url"):
        checked_api("smoobu", url, "token", "")
