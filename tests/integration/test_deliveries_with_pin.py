"""An endpoint that was added for it is posted the PIN: on record, and from nowhere but the seal."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from pinqueue import codes, deliveries, store
from pinqueue.errors import TryLater
from pinqueue.models import AccessCode
from pinqueue.operations import Workbench
from pinqueue.posting import Poster
from pinqueue.sealing import Sealer
from pinqueue.simulator import Control
from tests import factories
from tests.leaks import dump, leaks
from tests.operating import book, cancel, code_of, digits, execute, ring
from tests.receiving import Receiver

pytestmark = pytest.mark.anyio


@pytest.fixture
async def active(bench: Workbench, seal: Sealer, receiver: Receiver, prompt: Control) -> AccessCode:
    """A code whose PIN has come on its door, which an endpoint is about to be told, PIN and all."""
    await book(bench)
    await factories.add_endpoint(bench.db, seal, receiver.url, name="trusted", with_pin=True)
    assert await ring(bench, "generate") is None
    return await code_of(bench)


async def post(bench: Workbench, poster: Poster) -> TryLater | None:
    """Post what waits, as though its time had come."""
    await execute(bench.db, "UPDATE deliveries SET next_at = now() WHERE next_at > now()")
    waiting = await factories.rows(
        bench.db, "SELECT id FROM deliveries WHERE state = 'waiting' ORDER BY id"
    )
    for delivery in waiting:
        try:
            await deliveries.deliver(bench.db, bench.planner.sealer, poster, delivery["id"])
        except TryLater as later:
            return later
    return None


async def revealed(bench: Workbench) -> list[dict[str, Any]]:
    return await factories.rows(
        bench.db,
        "SELECT actor, access_code_id, reservation_id, lock_id FROM audit_events"
        " WHERE event = 'code:revealed' ORDER BY id",
    )


async def test_the_pin_is_posted_on_record_and_stored_nowhere(
    bench: Workbench, poster: Poster, receiver: Receiver, active: AccessCode
) -> None:
    before = await factories.value(bench.db, "SELECT body FROM deliveries")
    assert await post(bench, poster) is None
    (posted,) = receiver.posted
    body = posted.verified()
    assert body["data"].pop("pin") == digits(bench, active)
    assert body == before == await factories.value(bench.db, "SELECT body FROM deliveries")
    assert await revealed(bench) == [
        {
            "actor": "endpoint:trusted",
            "access_code_id": active.id,
            "reservation_id": "res-1",
            "lock_id": active.lock_id,
        }
    ]
    assert leaks(await dump(bench.db), [digits(bench, active)]) == set()


async def test_each_try_is_on_record_and_no_answer_that_quotes_it_is_kept(
    bench: Workbench, poster: Poster, receiver: Receiver, active: AccessCode
) -> None:
    receiver.status, receiver.echoes = 500, True
    later = await post(bench, poster)
    assert leaks(str(later), [digits(bench, active)]) == set()
    receiver.status = 410
    assert await post(bench, poster) is None
    assert [one.verified()["data"]["pin"] for one in receiver.posted] == [digits(bench, active)] * 2
    assert len(await revealed(bench)) == 2
    assert await factories.value(bench.db, "SELECT last_error FROM deliveries") == "HTTP 410"
    assert await factories.value(bench.db, "SELECT disabled_reason FROM endpoints") == "HTTP 410"
    assert leaks(await dump(bench.db), [digits(bench, active)]) == set()


async def test_an_endpoint_that_was_not_added_for_it_is_posted_none(
    bench: Workbench, seal: Sealer, poster: Poster, receiver: Receiver, prompt: Control
) -> None:
    await factories.add_endpoint(bench.db, seal, receiver.url)
    await book(bench)
    assert await ring(bench, "generate") is None
    await post(bench, poster)
    assert [one.verified()["type"] for one in receiver.posted] == ["code.scheduled", "code.active"]
    assert not any("pin" in one.verified()["data"] for one in receiver.posted)
    assert await revealed(bench) == []


async def test_it_is_the_pin_of_the_moment_it_is_posted(
    bench: Workbench, seal: Sealer, poster: Poster, receiver: Receiver
) -> None:
    await factories.add_endpoint(bench.db, seal, receiver.url, with_pin=True)
    code = await book(bench)
    async with bench.db.transaction() as session:
        now = await store.now(session)
        await codes.reissue(session, bench.planner.sealer, "key:desk", code.id, now=now)
    await post(bench, poster)
    told = [(one.verified()["type"], one.verified()["data"]["pin"]) for one in receiver.posted]
    pin = digits(bench, await code_of(bench))
    assert pin != digits(bench, code)
    assert told == [("code.scheduled", pin), ("code.changed", pin)]


async def test_a_pin_that_is_taken_back_or_wiped_is_posted_no_more(
    bench: Workbench, poster: Poster, receiver: Receiver, active: AccessCode
) -> None:
    await cancel(bench)
    await post(bench, poster)
    assert await ring(bench, "revoke") is None
    await post(bench, poster)
    told = [(one.verified()["type"], one.verified()["data"]["pin"]) for one in receiver.posted]
    assert told == [("code.active", None), ("code.revoked", None)]
    assert await revealed(bench) == []


async def test_nothing_is_posted_where_it_cannot_be_put_on_record(
    bench: Workbench, poster: Poster, receiver: Receiver, active: AccessCode
) -> None:
    await execute(
        bench.db,
        "ALTER TABLE audit_events ADD CONSTRAINT no_reveal CHECK (event <> 'code:revealed')",
    )
    with pytest.raises(DBAPIError):
        await post(bench, poster)
    assert receiver.posted == []


async def test_a_pin_that_no_key_opens_is_told_as_the_reason_and_tried_again(
    bench: Workbench, poster: Poster, receiver: Receiver, active: AccessCode
) -> None:
    await execute(bench.db, "UPDATE access_codes SET pin_sealed = 'not sealed by us'")
    assert await post(bench, poster) is not None
    assert receiver.posted == []
    last_error = await factories.value(bench.db, "SELECT last_error FROM deliveries")
    assert "PINQUEUE_SECRET_KEYS" in last_error
    assert await revealed(bench) == []


async def test_that_it_was_added_for_pins_is_on_record(
    bench: Workbench, active: AccessCode
) -> None:
    added = await factories.value(
        bench.db, "SELECT detail FROM audit_events WHERE event = 'endpoint:added'"
    )
    assert added["with_pin"] is True
