"""What is forgotten in its time, and on request; what is still needed never."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from pinqueue import forgetting, tables
from pinqueue.config import Settings
from pinqueue.db import Database
from pinqueue.errors import NotFound
from pinqueue.reservations import Planner
from pinqueue.store import personal
from tests import factories
from tests.calling import client, new_key
from tests.operating import a_worker, execute, until
from tests.serving import Web

NAME, PHONE = "Ana Maria Prestes", "+55 11 5550 0199"
GUEST: dict[str, Any] = {"guest": {"name": NAME, "phone": PHONE}}
EVERYTHING = """
    SELECT coalesce(string_agg(told, ' '), '') AS told FROM (
        SELECT reservations::text AS told FROM reservations
        UNION ALL SELECT body::text FROM webhook_events
        UNION ALL SELECT detail::text FROM audit_events
        UNION ALL SELECT args::text FROM procrastinate_jobs
        UNION ALL SELECT body::text FROM deliveries) all_of_it
"""
AGE_STAYS = """
    UPDATE reservations SET check_in_at = check_in_at - CAST(:ago AS interval),
        check_out_at = check_out_at - CAST(:ago AS interval)
"""
AGE_EVENTS = "UPDATE webhook_events SET received_at = received_at - CAST(:ago AS interval)"
OLD_AUDIT = """
    INSERT INTO audit_events (at, actor, event) VALUES (now() - CAST(:ago AS interval), 'x', 'a:b')
"""


async def forget(db: Database, settings: Settings) -> dict[str, int]:
    """What was forgotten, by kind."""
    counts = await forgetting.forget(db, settings)
    return {kind: count for kind, count in counts.items() if count}


def tells_of_the_guest(web: Web) -> bool:
    return any(secret in web.value(EVERYTHING) for secret in (NAME, PHONE))


@pytest.mark.anyio
async def test_r26_a_guest_is_forgotten_30_days_after_check_out_and_not_a_day_before(
    db: Database, planner: Planner, settings: Settings
) -> None:
    await factories.add_listing(db)
    told = factories.booking(guest_name=NAME, guest_phone=PHONE)
    await factories.receive(db, planner, told)
    await execute(db, AGE_STAYS, ago=timedelta(days=32))  # it was to end in three days
    assert await forget(db, settings) == {}
    await execute(db, AGE_STAYS, ago=timedelta(days=2))
    assert await forget(db, settings) == {"guests": 1}
    assert NAME not in await factories.value(db, EVERYTHING)
    assert PHONE not in await factories.value(db, EVERYTHING)
    assert await forget(db, settings) == {}


@pytest.mark.anyio
async def test_r26_a_cancelled_stay_without_dates_is_forgotten_too(
    db: Database, settings: Settings
) -> None:
    await execute(
        db,
        "INSERT INTO reservations (id, status, guest_name, updated_at, cancelled_at)"
        " VALUES ('r', 'cancelled', :name, now() - interval '31 days', now())",
        name=NAME,
    )
    assert await forget(db, settings) == {"guests": 1}


def test_r26_a_body_is_forgotten_after_14_days_and_its_repeat_is_still_a_duplicate(
    web: Web,
) -> None:
    told = factories.event(**GUEST)
    web.tell(told, event_id="msg_1")
    web.do(lambda db, _: execute(db, AGE_EVENTS, ago=timedelta(days=13, hours=23)))
    assert web.do(lambda db, _: forget(db, web.settings)) == {}
    web.do(lambda db, _: execute(db, AGE_EVENTS, ago=timedelta(hours=2)))
    assert web.do(lambda db, _: forget(db, web.settings)) == {"bodies": 1}
    assert web.value("SELECT body FROM webhook_events") == {}
    assert web.tell(told, event_id="msg_1").outcome == "duplicate"


def test_what_waits_for_its_listing_keeps_its_body_for_a_year(web: Web) -> None:
    web.tell(factories.event(**{"listing_id": "not-yet", **GUEST}))
    web.do(lambda db, _: execute(db, AGE_EVENTS, ago=timedelta(days=364)))
    assert web.do(lambda db, _: forget(db, web.settings)) == {}
    assert tells_of_the_guest(web)
    web.do(lambda db, _: execute(db, AGE_EVENTS, ago=timedelta(days=2)))
    assert web.do(lambda db, _: forget(db, web.settings)) == {"unmapped": 1}
    assert not tells_of_the_guest(web)


@pytest.mark.anyio
async def test_r26_the_audit_is_kept_for_a_year(db: Database, settings: Settings) -> None:
    for days in (366, 364):
        await execute(db, OLD_AUDIT, ago=timedelta(days=days))
    assert await forget(db, settings) == {"audit": 1}
    assert await factories.value(db, "SELECT now() - max(at) < '365 days' FROM audit_events")


@pytest.mark.anyio
async def test_more_than_one_batch_is_forgotten(
    db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "BATCH", 2)
    for _ in range(5):
        await execute(db, OLD_AUDIT, ago=timedelta(days=366))
    assert await forget(db, settings) == {"audit": 5}


@pytest.mark.anyio
async def test_a_worker_forgets(db: Database, settings: Settings) -> None:
    await execute(db, OLD_AUDIT, ago=timedelta(days=366))

    async def gone() -> bool:
        old = "SELECT count(*) FROM audit_events WHERE at < now() - interval '365 days'"
        return not await factories.value(db, old)

    async with a_worker(settings):
        await until(gone)


def test_a_stay_is_exported_with_all_that_is_stored_of_it_and_without_its_pin(
    web: Web,
) -> None:
    web.tell(factories.event(**GUEST), event_id="msg_1")

    async def export(db: Database, _: Planner) -> dict[str, Any]:
        async with db.transaction() as session:
            return await forgetting.export(session, "res-1")

    told = web.do(export)
    assert set(told) == set(personal.OF_A_STAY)
    assert (told["reservation"][0]["guest_name"], told["webhooks"][0]["event_id"]) == (
        NAME,
        "msg_1",
    )
    assert {row["kind"] for row in told["operations"]} == {"generate", "revoke"}
    assert told["audit_events"]
    assert not {"pin_sealed", "pin_hash", "pin_fingerprint"} & told["access_codes"][0].keys()


def test_a_stay_is_exported_over_http_as_by_the_command(web: Web) -> None:
    web.tell(factories.event(**GUEST), event_id="msg_1")

    async def export(db: Database, _: Planner) -> str:
        async with db.transaction() as session:
            return tables.dumps(await forgetting.export(session, "res-1"))

    answer = client(web).call("GET", "/api/reservations/res-1/export")
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    text = answer.body.decode().replace('Z"', '+00:00"')
    assert json.loads(text) == json.loads(web.do(export))
    assert PHONE in text


def test_a_guest_is_erased_over_http_and_the_audit_names_the_key(web: Web) -> None:
    web.tell(factories.event(**GUEST))
    desk = client(web, "operate", "reveal")
    for method, path in (("GET", "export"), ("POST", "erase")):
        assert "lacks the scope admin" in str(
            desk.refused(403, method, f"/api/reservations/res-1/{path}")
        )
    assert tells_of_the_guest(web)
    admin = desk.with_key(new_key(web, "admin", name="privacy"))
    for method, path in (("GET", "export"), ("POST", "erase")):
        admin.refused(404, method, f"/api/reservations/res-9/{path}")
    told = admin.told(200, "POST", "/api/reservations/res-1/erase")
    assert told == {"reservation": "res-1", "erased": True}
    assert not tells_of_the_guest(web)
    query = "SELECT actor FROM audit_events WHERE event = 'reservation:erased'"
    assert web.ask(query) == [{"actor": "key:privacy"}]


def test_an_erased_guest_is_nowhere_in_the_database_and_the_pin_goes_on(web: Web) -> None:
    web.tell(factories.event(**GUEST))
    web.tell(factories.event(kind="reservation.updated", **GUEST))
    before = web.ask("SELECT state, pin_sealed FROM access_codes")

    async def erase(db: Database, _: Planner) -> None:
        async with db.transaction() as session:
            await forgetting.erase(session, "cli:ana", "res-1")

    assert tells_of_the_guest(web)
    web.do(erase)
    assert not tells_of_the_guest(web)
    assert web.ask("SELECT state, pin_sealed FROM access_codes") == before
    query = "SELECT actor FROM audit_events WHERE event = 'reservation:erased'"
    assert web.ask(query) == [{"actor": "cli:ana"}]


def test_a_stay_whose_guest_was_erased_is_told_on_in_its_order(web: Web) -> None:
    """The words about the guest went, the times of the tellings stayed."""
    late, early = factories.event(**GUEST), factories.event(kind="reservation.updated")
    early["data"]["updated_at"] = "2020-01-01T00:00:00+00:00"
    early["data"]["check_out"] = early["data"]["check_in"]
    web.tell(late)

    async def erase(db: Database, _: Planner) -> None:
        async with db.transaction() as session:
            await forgetting.erase(session, "cli:ana", "res-1")

    before = web.ask("SELECT check_in_at, check_out_at FROM reservations")
    web.do(erase)
    web.tell(early)
    assert web.ask("SELECT check_in_at, check_out_at FROM reservations") == before


@pytest.mark.anyio
async def test_a_stay_that_is_not_there_is_neither_exported_nor_erased(db: Database) -> None:
    async with db.transaction() as session:
        with pytest.raises(NotFound, match="res-9"):
            await forgetting.export(session, "res-9")
        with pytest.raises(NotFound, match="res-9"):
            await forgetting.erase(session, "cli:ana", "res-9")
