"""Outgoing webhooks: what is told to whom, when again, and what becomes of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pinqueue import deliveries, inventory, outcomes, sweep
from pinqueue.config import Settings
from pinqueue.db import Database
from pinqueue.errors import TryLater
from pinqueue.lifecycle import EventType
from pinqueue.models import AccessCode, Operation
from pinqueue.operations import Workbench
from pinqueue.posting import Poster
from pinqueue.sealing import Sealer
from pinqueue.simulator import Control
from pinqueue.store import deliveries as stored
from pinqueue.worker import BESIDE_AT_A_TIME
from tests import factories
from tests.factories import add_endpoint
from tests.leaks import leaks
from tests.operating import (
    LIST,
    a_worker,
    book,
    cancel,
    code_of,
    digits,
    execute,
    operation_of,
    put_on_door,
    ring,
    until,
)
from tests.receiving import Receiver

pytestmark = pytest.mark.anyio

RETENTION = timedelta(hours=24)
REFUSED = 28841105


@pytest.fixture
async def told(bench: Workbench, seal: Sealer, receiver: Receiver, prompt: Control) -> AccessCode:
    """A code whose PIN has come on its door, which the endpoint `desk` is about to be told."""
    await book(bench)
    await add_endpoint(bench.db, seal, receiver.url)
    assert await ring(bench, "generate") is None
    return await code_of(bench)


async def all_deliveries(db: Database) -> list[dict[str, Any]]:
    return await factories.rows(db, "SELECT * FROM deliveries ORDER BY id")


async def the_delivery(db: Database) -> dict[str, Any]:
    (only,) = await all_deliveries(db)
    return only


async def jobs(db: Database) -> list[dict[str, Any]]:
    return await factories.rows(
        db,
        "SELECT id, status::text AS status, args, scheduled_at FROM procrastinate_jobs"
        " WHERE queue_name = 'deliver' ORDER BY id",
    )


async def post(bench: Workbench, poster: Poster) -> datetime | None:
    """Ring for the one delivery, as though its time had come; when it is to be tried again."""
    await execute(bench.db, "UPDATE deliveries SET next_at = now() WHERE next_at > now()")
    delivery = await the_delivery(bench.db)
    try:
        await deliveries.deliver(bench.db, bench.planner.sealer, poster, delivery["id"])
    except TryLater as later:
        return later.retry_at
    return None


async def test_a_worker_posts_what_happened_signed_and_without_the_pin(
    settings: Settings, bench: Workbench, seal: Sealer, receiver: Receiver, prompt: Control
) -> None:
    await add_endpoint(bench.db, seal, receiver.url)
    pin = digits(bench, await book(bench))

    async def all_delivered() -> bool:
        states = [row["state"] for row in await all_deliveries(bench.db)]
        return states == ["delivered"] * 3

    async def is_active() -> bool:
        return (await code_of(bench)).state == "active"

    async with a_worker(settings):
        await until(is_active)
        await cancel(bench)
        await until(all_delivered)
    by_type = {one.verified()["type"]: one.verified() for one in receiver.posted}
    assert set(by_type) == {"code.scheduled", "code.active", "code.revoked"}
    assert len({one.event_id for one in receiver.posted}) == 3
    assert all(one.event_id.startswith("evt_") for one in receiver.posted)
    code, operation = await code_of(bench), await operation_of(bench, "generate")
    data = by_type["code.active"]["data"]
    assert data.pop("late_seconds") >= 0
    of_the_code = {
        "reservation_id": "res-1",
        "listing_id": code.lock_id,
        "lock_id": code.lock_id,
        "access_code_id": code.id,
        "starts_at": code.starts_at.astimezone(UTC).isoformat(),
        "ends_at": code.ends_at.astimezone(UTC).isoformat(),
    }
    assert data == {
        **of_the_code,
        "state": "active",
        "operation_id": operation.id,
        "kind": "generate",
        "attempts": 1,
        "error": None,
    }
    nothing = dict.fromkeys(("operation_id", "kind", "late_seconds", "attempts", "error"))
    assert by_type["code.scheduled"]["data"] == {**of_the_code, "state": "scheduled", **nothing}
    assert by_type["code.revoked"]["data"]["state"] == "revoked"
    assert leaks(str([(one.headers, one.raw) for one in receiver.posted]), [pin]) == set()
    assert [row["status"] for row in await jobs(bench.db)] == ["succeeded"] * 3


async def test_a_job_of_a_delivery_carries_its_id_alone(bench: Workbench, told: AccessCode) -> None:
    delivery = await the_delivery(bench.db)
    (job,) = await jobs(bench.db)
    assert job["args"] == {"delivery_id": delivery["id"]}
    assert (job["id"], job["scheduled_at"]) == (delivery["job_id"], delivery["next_at"])


async def test_a_rollback_leaves_no_delivery_no_job_and_tells_no_listener(
    bench: Workbench, told: AccessCode, database_url: str
) -> None:
    heard: list[object] = []
    db = Database(database_url, pool_size=1, listener=heard.append)
    operation, before = await operation_of(bench, "generate"), await jobs(db)

    async def announce(*, then_fail: bool) -> None:
        async with db.transaction() as session:
            await outcomes.announce(
                session,
                EventType.CODE_ACTIVE,
                await session.get_one(AccessCode, told.id),
                operation=await session.get_one(Operation, operation.id),
            )
            assert heard == []
            if then_fail:
                raise ValueError("rolled back")

    with pytest.raises(ValueError, match="rolled back"):
        await announce(then_fail=True)
    assert (len(await all_deliveries(db)), await jobs(db), heard) == (1, before, [])
    await announce(then_fail=False)
    assert (len(await all_deliveries(db)), len(await jobs(db)), len(heard)) == (2, 2, 1)
    await db.close()


@pytest.mark.parametrize(("kind", "state"), [("generate", "failed"), ("revoke", "revoking")])
async def test_what_failed_is_told_with_its_reason(
    bench: Workbench, seal: Sealer, receiver: Receiver, prompt: Control, kind: str, state: str
) -> None:
    await book(bench)
    if kind == "revoke":
        assert await ring(bench, "generate") is None
        await cancel(bench)
    await add_endpoint(bench.db, seal, receiver.url)
    prompt.fault("code", LIST, code=REFUSED)
    error = await ring(bench, kind)
    body = (await the_delivery(bench.db))["body"]
    assert (body["type"], body["data"]["kind"]) == ("code.failed", kind)
    assert (body["data"]["state"], body["data"]["error"]) == (state, str(error))


@pytest.mark.parametrize(("kind", "state"), [("generate", "failed"), ("revoke", "revoking")])
async def test_a_quarantine_is_told(
    bench: Workbench, seal: Sealer, receiver: Receiver, prompt: Control, kind: str, state: str
) -> None:
    await put_on_door(bench, prompt) if kind == "revoke" else await book(bench)
    await add_endpoint(bench.db, seal, receiver.url)
    await execute(
        bench.db,
        "UPDATE operations SET rescues = 3, next_at = now() - interval '1 minute'"
        " WHERE kind = :kind",
        kind=kind,
    )
    await execute(bench.db, "UPDATE procrastinate_jobs SET status = 'doing'")
    await execute(bench.db, "UPDATE procrastinate_jobs SET status = 'failed'")
    assert await sweep.defer_jobless(bench.db) == 1
    body = (await the_delivery(bench.db))["body"]
    assert (body["type"], body["data"]["state"]) == ("code.failed", state)
    assert body["data"]["kind"] == kind
    assert "quarantined" in body["data"]["error"]


async def test_an_endpoint_is_told_of_the_types_it_wants_and_each_gets_the_same_event(
    bench: Workbench, seal: Sealer, receiver: Receiver, prompt: Control
) -> None:
    await add_endpoint(bench.db, seal, receiver.url, name="all")
    await add_endpoint(bench.db, seal, receiver.url, name="good", events=("code.active",))
    await add_endpoint(bench.db, seal, receiver.url, name="bad", events=("code.failed",))
    await put_on_door(bench, prompt)
    found = await all_deliveries(bench.db)
    told = [(row["endpoint_id"], row["type"]) for row in found]
    assert told == [("all", "code.scheduled"), ("all", "code.active"), ("good", "code.active")]
    assert found[1]["event_id"] == found[2]["event_id"] != found[0]["event_id"]


async def test_a_failed_post_is_tried_again_with_the_same_id_and_another_timestamp(
    bench: Workbench, poster: Poster, receiver: Receiver, told: AccessCode
) -> None:
    receiver.status = 500
    assert await post(bench, poster) is not None
    await asyncio.sleep(1.1)  # the header counts seconds
    receiver.status = 204
    assert await post(bench, poster) is None
    first, second = receiver.posted
    assert first.event_id == second.event_id == (await the_delivery(bench.db))["event_id"]
    assert first.timestamp < second.timestamp
    assert first.verified() == second.verified()
    delivery = await the_delivery(bench.db)
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 2)
    assert (delivery["last_status"], delivery["last_error"]) == (204, None)
    assert delivery["finished_at"] is not None


async def test_the_gaps_are_those_of_standard_webhooks_and_then_it_has_failed_on_record(
    bench: Workbench, poster: Poster, receiver: Receiver, told: AccessCode
) -> None:
    receiver.status, receiver.answer = 503, b"closed\x00 for today\n" + b"x" * 9000
    gaps = []
    while (retry_at := await post(bench, poster)) is not None:
        delivery = await the_delivery(bench.db)
        assert delivery["next_at"] == retry_at
        now = await factories.value(bench.db, "SELECT now()")
        gaps.append(round((retry_at - now).total_seconds() / 5) * 5)
    minute, hour = 60, 3600
    assert gaps == [
        *(5, 5 * minute, 30 * minute),
        *(2 * hour, 5 * hour, 10 * hour, 14 * hour, 20 * hour, 24 * hour),
    ]
    delivery = await the_delivery(bench.db)
    assert (delivery["state"], delivery["attempts"], len(receiver.posted)) == ("failed", 10, 10)
    assert delivery["last_error"].startswith("HTTP 503: closed for today xxx")
    assert len(delivery["last_error"]) == len("HTTP 503: ") + 200
    (audited,) = await factories.rows(
        bench.db, "SELECT * FROM audit_events WHERE event = 'delivery:failed'"
    )
    assert audited["reservation_id"] == "res-1"
    assert audited["detail"]["endpoint"] == "desk"
    assert audited["detail"]["event_id"] == delivery["event_id"]


async def test_a_worker_tries_again_by_the_same_job(
    settings: Settings, bench: Workbench, receiver: Receiver, told: AccessCode
) -> None:
    receiver.status = 500

    async def waits_again() -> bool:
        delivery, (job,) = await the_delivery(bench.db), await jobs(bench.db)
        again = job["status"] == "todo" and job["scheduled_at"] == delivery["next_at"]
        return bool(again and delivery["attempts"] == 1)

    async def delivered() -> bool:
        return bool((await the_delivery(bench.db))["state"] == "delivered")

    async with a_worker(settings):
        await until(waits_again)
        receiver.status = 200
        await until(delivered, seconds=15)
    assert [one.event_id for one in receiver.posted] == [receiver.posted[0].event_id] * 2


@pytest.mark.parametrize(
    ("asked", "seconds"), [("3600", 3600), ("1", 5), ("9999999", 86400), ("soon", 5)]
)
async def test_a_retry_after_is_granted_within_a_day(
    bench: Workbench,
    poster: Poster,
    receiver: Receiver,
    told: AccessCode,
    asked: str,
    seconds: int,
) -> None:
    receiver.status, receiver.headers = 429, {"Retry-After": asked}
    retry_at = await post(bench, poster)
    assert retry_at is not None
    now = await factories.value(bench.db, "SELECT now()")
    assert seconds - 4 < (retry_at - now).total_seconds() <= seconds


async def test_a_410_disables_the_endpoint_and_nothing_more_is_posted_there(
    bench: Workbench, poster: Poster, receiver: Receiver, told: AccessCode
) -> None:
    receiver.status = 410
    await execute(
        bench.db,
        "INSERT INTO deliveries (endpoint_id, event_id, type, body)"
        " SELECT endpoint_id, 'evt_later', type, body FROM deliveries",
    )
    for delivery in await all_deliveries(bench.db):
        await deliveries.deliver(bench.db, bench.planner.sealer, poster, delivery["id"])
    assert len(receiver.posted) == 1
    assert [(row["state"], row["last_error"]) for row in await all_deliveries(bench.db)] == [
        ("failed", "HTTP 410"),
        ("failed", "the endpoint is disabled"),
    ]
    (endpoint,) = await factories.rows(bench.db, "SELECT * FROM endpoints")
    assert (endpoint["enabled"], endpoint["disabled_reason"]) == (False, "HTTP 410")
    await cancel(bench)
    assert await ring(bench, "revoke") is None
    assert len(await all_deliveries(bench.db)) == 2
    async with bench.db.transaction() as session:
        await inventory.enable_endpoint(session, "test", "desk")
    assert await factories.value(bench.db, "SELECT enabled FROM endpoints") is True


async def test_a_redirect_is_not_followed(
    bench: Workbench, poster: Poster, receiver: Receiver, told: AccessCode
) -> None:
    receiver.status, receiver.headers = 307, {"Location": f"{receiver.url}/elsewhere"}
    assert await post(bench, poster) is not None
    assert [one.path for one in receiver.posted] == ["/pins"]
    assert (await the_delivery(bench.db))["last_status"] == 307


async def test_slow_endpoints_hold_up_no_pin(
    settings: Settings, bench: Workbench, seal: Sealer, receiver: Receiver, prompt: Control
) -> None:
    await add_endpoint(bench.db, seal, receiver.url, events=("code.active",))
    await put_on_door(bench, prompt)
    await execute(
        bench.db,
        "INSERT INTO deliveries (endpoint_id, event_id, type, body, next_at)"
        " SELECT endpoint_id, 'evt_' || n, type, body, now() - interval '1 minute'"
        " FROM deliveries, generate_series(1, 20) n",
    )
    await sweep.defer_deliveries(bench.db)
    answering = receiver.hold()

    async def all_are_held() -> bool:
        return len(receiver.posted) == BESIDE_AT_A_TIME

    async def is_active() -> bool:
        return (await code_of(bench, "res-2")).state == "active"

    async with a_worker(settings, concurrency=1):
        await until(all_are_held)
        await book(bench, "sim-zigbee-2", "res-2")
        await until(is_active, seconds=5)
        assert len(receiver.posted) == BESIDE_AT_A_TIME
        answering.set()


async def test_a_delivery_worker_is_not_counted_among_those_that_program_pins(
    settings: Settings, bench: Workbench, receiver: Receiver, told: AccessCode
) -> None:
    async def delivered() -> bool:
        return bool((await the_delivery(bench.db))["state"] == "delivered")

    async with a_worker(settings):
        await until(delivered)
        assert await factories.value(bench.db, "SELECT count(*) FROM procrastinate_workers") == 1


LOST = {
    "its job was deleted": "DELETE FROM procrastinate_jobs WHERE queue_name = 'deliver'",
    "its job failed": "UPDATE procrastinate_jobs SET status = 'failed' WHERE status = 'doing'",
    "its worker died": "UPDATE procrastinate_events SET at = now() - interval '2 minutes'",
}


@pytest.mark.parametrize("how", LOST)
async def test_a_delivery_gets_another_job_when(
    bench: Workbench, poster: Poster, receiver: Receiver, told: AccessCode, how: str
) -> None:
    await execute(
        bench.db,
        "UPDATE procrastinate_jobs SET status = 'doing' WHERE queue_name = 'deliver'",
    )
    (old,) = await jobs(bench.db)
    await execute(bench.db, LOST[how])
    await execute(bench.db, "UPDATE deliveries SET next_at = now() - interval '1 minute'")
    await asyncio.gather(*(sweep.sweep(bench.db, RETENTION) for _ in range(3)))
    (new,) = await jobs(bench.db)
    assert (new["status"], new["id"] != old["id"]) == ("todo", True)
    assert (await the_delivery(bench.db))["job_id"] == new["id"]
    assert await post(bench, poster) is None


@pytest.mark.parametrize("status", ["todo", "doing"])
async def test_a_delivery_whose_job_waits_or_has_just_begun_is_left_alone(
    bench: Workbench, told: AccessCode, status: str
) -> None:
    if status == "doing":
        await execute(
            bench.db,
            "UPDATE procrastinate_jobs SET status = 'doing' WHERE queue_name = 'deliver'",
        )
    await execute(bench.db, "UPDATE deliveries SET next_at = now() - interval '1 hour'")
    before = await jobs(bench.db)
    assert await sweep.defer_deliveries(bench.db) == 0
    assert await jobs(bench.db) == before


async def test_a_worker_that_lost_its_claim_records_nothing(
    bench: Workbench, poster: Poster, receiver: Receiver, told: AccessCode, database_url: str
) -> None:
    def another_claims() -> None:
        with psycopg.connect(database_url) as connection:
            connection.execute("UPDATE deliveries SET attempts = attempts + 1")

    receiver.meanwhile = another_claims
    assert await post(bench, poster) is None
    delivery = await the_delivery(bench.db)
    assert (delivery["state"], delivery["attempts"], delivery["last_status"]) == (
        "waiting",
        2,
        None,
    )


async def test_a_delivery_that_has_ended_or_is_not_due_is_not_posted(
    bench: Workbench, poster: Poster, receiver: Receiver, told: AccessCode
) -> None:
    delivery = await the_delivery(bench.db)
    await execute(bench.db, "UPDATE deliveries SET next_at = now() + interval '1 hour'")
    await deliveries.deliver(bench.db, bench.planner.sealer, poster, delivery["id"])
    assert receiver.posted == []
    await post(bench, poster)
    await deliveries.deliver(bench.db, bench.planner.sealer, poster, delivery["id"])
    assert len(receiver.posted) == 1


async def test_a_delivery_whose_every_try_breaks_its_worker_fails_in_the_end(
    bench: Workbench, poster: Poster, receiver: Receiver, told: AccessCode
) -> None:
    await execute(bench.db, "UPDATE deliveries SET attempts = 10")
    assert await post(bench, poster) is None
    assert receiver.posted == []
    assert (await the_delivery(bench.db))["last_error"] == "every try broke down"


async def test_a_removed_endpoint_takes_its_deliveries_along_and_its_jobs_find_nothing(
    bench: Workbench, poster: Poster, receiver: Receiver, told: AccessCode
) -> None:
    delivery = await the_delivery(bench.db)
    async with bench.db.transaction() as session:
        await inventory.remove_endpoint(session, "test", "desk")
    await deliveries.deliver(bench.db, bench.planner.sealer, poster, delivery["id"])
    assert (await all_deliveries(bench.db), receiver.posted) == ([], [])


async def test_an_endpoint_removed_at_this_moment_does_not_take_the_outcome_down_with_it(
    bench: Workbench, seal: Sealer, receiver: Receiver, prompt: Control
) -> None:
    await add_endpoint(bench.db, seal, receiver.url)
    await book(bench)
    async with bench.db.transaction() as session:
        await inventory.remove_endpoint(session, "test", "desk")
        await session.flush()
        ringing = asyncio.create_task(ring(bench, "generate"))

        async def waits_for_us() -> bool:
            return bool(
                await factories.value(
                    bench.db,
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                    " AND datname = current_database()",
                )
            )

        await until(waits_for_us)
    assert await ringing is None
    assert ((await code_of(bench)).state, await all_deliveries(bench.db)) == ("active", [])


async def test_a_wrong_key_is_told_as_the_reason_and_tried_again(
    bench: Workbench, poster: Poster, receiver: Receiver, told: AccessCode
) -> None:
    await execute(bench.db, "UPDATE endpoints SET secret = 'not sealed by us'")
    assert await post(bench, poster) is not None
    assert receiver.posted == []
    assert "PINQUEUE_SECRET_KEYS" in (await the_delivery(bench.db))["last_error"]


@pytest.mark.parametrize(("hours", "left"), [(25, 0), (23, 1)])
async def test_what_ended_is_pruned_after_the_retention_with_its_job(
    bench: Workbench, poster: Poster, told: AccessCode, hours: int, left: int
) -> None:
    await post(bench, poster)
    await execute(
        bench.db,
        "UPDATE deliveries SET finished_at = now() - make_interval(hours => :hours)",
        hours=hours,
    )
    await sweep.sweep(bench.db, RETENTION)
    assert (len(await all_deliveries(bench.db)), len(await jobs(bench.db))) == (left, left)


async def test_what_waits_is_never_pruned(bench: Workbench, told: AccessCode) -> None:
    await execute(bench.db, "UPDATE deliveries SET created_at = now() - interval '1 year'")
    async with bench.db.transaction() as session:
        assert await stored.prune(session, timedelta(0)) == 0
