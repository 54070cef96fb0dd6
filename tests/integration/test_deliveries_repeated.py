"""What was posted is there to see, and is posted again when a person asks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pinqueue import deliveries
from pinqueue.config import Settings
from pinqueue.errors import Conflict, InputInvalid, NotFound, TryLater
from pinqueue.operations import Workbench
from pinqueue.posting import Poster
from pinqueue.sealing import Sealer
from tests import factories
from tests.operating import a_worker, book, execute, until
from tests.receiving import Receiver

pytestmark = pytest.mark.anyio

ENDED = "state = :state, attempts = 10, finished_at = now(), last_status = 503, last_error = 'no'"


@pytest.fixture
async def delivery(bench: Workbench, seal: Sealer, receiver: Receiver) -> int:
    """What `desk` is about to be told of a stay that was booked."""
    await factories.add_endpoint(bench.db, seal, receiver.url)
    await book(bench, starts_in=timedelta(days=2))
    number: int = await factories.value(bench.db, "SELECT id FROM deliveries")
    return number


async def redeliver(bench: Workbench, delivery: int) -> dict[str, Any]:
    async with bench.db.transaction() as session:
        return await deliveries.redeliver(session, "key:desk", delivery)


async def listed(bench: Workbench, **asked: Any) -> list[dict[str, Any]]:
    async with bench.db.transaction() as session:
        return await deliveries.listed(session, "desk", **{"limit": 100, **asked})


async def post(bench: Workbench, poster: Poster, delivery: int) -> TryLater | None:
    try:
        await deliveries.deliver(bench.db, bench.planner.sealer, poster, delivery)
    except TryLater as later:
        return later
    return None


async def jobs(bench: Workbench) -> list[tuple[int, str]]:
    rows = await factories.rows(
        bench.db,
        "SELECT id, status::text AS status FROM procrastinate_jobs"
        " WHERE queue_name = 'deliver' ORDER BY id",
    )
    return [(row["id"], row["status"]) for row in rows]


async def repeats(bench: Workbench) -> list[dict[str, Any]]:
    return await factories.rows(
        bench.db,
        "SELECT actor, reservation_id, detail FROM audit_events WHERE event = :event",
        event="delivery:repeated",
    )


async def test_what_was_delivered_is_posted_again_by_a_worker_with_the_same_id(
    settings: Settings, bench: Workbench, receiver: Receiver, delivery: int
) -> None:
    async def delivered() -> bool:
        return [row["state"] for row in await listed(bench)] == ["delivered"]

    async with a_worker(settings):
        await until(delivered)
        told = await redeliver(bench, delivery)
        assert (told["state"], told["attempts"], told["finished_at"]) == ("waiting", 0, None)
        await until(delivered)
    first, second = receiver.posted
    assert first.event_id == second.event_id == told["event_id"]
    assert first.verified() == second.verified()
    (repeat,) = await repeats(bench)
    assert (repeat["actor"], repeat["reservation_id"]) == ("key:desk", "res-1")
    assert repeat["detail"]["endpoint"] == "desk"
    assert repeat["detail"]["event_id"] == told["event_id"]


async def test_what_has_failed_is_posted_again_with_all_its_tries_before_it(
    bench: Workbench, poster: Poster, receiver: Receiver, delivery: int
) -> None:
    await execute(bench.db, f"UPDATE deliveries SET {ENDED}", state="failed")
    await redeliver(bench, delivery)
    receiver.status = 500
    assert await post(bench, poster, delivery) is not None
    (now,) = await listed(bench)
    assert (now["state"], now["attempts"], now["last_status"]) == ("waiting", 1, 500)
    assert now["next_at"] is not None


async def test_what_waits_for_its_next_try_is_posted_at_once_by_one_job(
    bench: Workbench, poster: Poster, receiver: Receiver, delivery: int
) -> None:
    receiver.status = 500
    await post(bench, poster, delivery)
    ((first, _),) = await jobs(bench)
    await redeliver(bench, delivery)
    assert [(status, job == first) for job, status in await jobs(bench)] == [
        ("cancelled", True),
        ("todo", False),
    ]
    receiver.status = 200
    assert await post(bench, poster, delivery) is None
    assert len(receiver.posted) == 2


async def test_what_is_due_already_is_left_alone(bench: Workbench, delivery: int) -> None:
    before = await jobs(bench)
    told = await redeliver(bench, delivery)
    assert (told["delivery"], told["state"]) == (delivery, "waiting")
    assert (await jobs(bench), await repeats(bench)) == (before, [])


async def test_a_repeat_that_is_rolled_back_leaves_no_trace(
    bench: Workbench, delivery: int
) -> None:
    await execute(bench.db, f"UPDATE deliveries SET {ENDED}", state="delivered")
    before = (await listed(bench), await jobs(bench))

    async def redeliver_and_fail() -> None:
        async with bench.db.transaction() as session:
            await deliveries.redeliver(session, "key:desk", delivery)
            raise ValueError("rolled back")

    with pytest.raises(ValueError, match="rolled back"):
        await redeliver_and_fail()
    assert (await listed(bench), await jobs(bench)) == before
    assert await repeats(bench) == []


async def test_what_goes_nowhere_is_not_repeated(bench: Workbench, delivery: int) -> None:
    await execute(
        bench.db,
        "UPDATE endpoints SET enabled = false, disabled_at = now(), disabled_reason = 'HTTP 410'",
    )
    with pytest.raises(Conflict, match="pinqueue endpoints enable desk"):
        await redeliver(bench, delivery)
    with pytest.raises(NotFound, match="pinqueue endpoints deliveries"):
        await redeliver(bench, delivery + 1)


async def test_deliveries_are_listed_by_state_the_newest_first_a_page_at_a_time(
    bench: Workbench, delivery: int
) -> None:
    await execute(
        bench.db,
        "INSERT INTO deliveries (endpoint_id, event_id, type, body)"
        " SELECT endpoint_id, 'evt_' || n, type, body FROM deliveries, generate_series(1, 4) n",
    )
    failed = "UPDATE deliveries SET state = 'failed', finished_at = now() WHERE event_id = :id"
    await execute(bench.db, failed, id="evt_2")
    found = await listed(bench)
    assert [one["delivery"] for one in found] == [delivery + n for n in (4, 3, 2, 1, 0)]
    assert await listed(bench, limit=2) == found[:2]
    assert await listed(bench, limit=2, before=found[1]["delivery"]) == found[2:4]
    (only,) = await listed(bench, state="failed")
    assert (only["event_id"], only["next_at"]) == ("evt_2", None)
    assert (only["reservation_id"], only["type"]) == ("res-1", "code.scheduled")
    with pytest.raises(InputInvalid, match="state: must be one of waiting, delivered, failed"):
        await listed(bench, state="lost")


async def test_of_an_endpoint_that_is_not_there_nothing_is_listed(bench: Workbench) -> None:
    with pytest.raises(NotFound, match="there is no endpoint desk"):
        await listed(bench)
