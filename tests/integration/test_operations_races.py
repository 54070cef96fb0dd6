"""Several workers at one operation, and workers back from the dead: one PIN all the same."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from pinqueue.errors import TryLater
from pinqueue.operations import Ring, Workbench, door, generating
from pinqueue.simulator import Control
from pinqueue.store import stays
from pinqueue.store.claiming import Claimed
from tests import factories
from tests.operating import (
    CREATE,
    DELETE,
    LIST,
    book,
    cancel,
    code_of,
    creates,
    digits,
    grace_is_over,
    held,
    operation_of,
    performed,
    put_on_door,
    ring,
    struck,
)

pytestmark = pytest.mark.anyio

Benches = tuple[Workbench, Workbench]
TRIES = "SELECT epoch, outcome FROM tries ORDER BY epoch"


def lose_mutexes(url: str) -> int:
    """Cut every connection that holds advisory locks, as a failing network does."""
    with psycopg.connect(url, autocommit=True) as connection:
        cut = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ).fetchall()
    return len(cut)


async def cut_off(
    worker: Workbench, kind: str, prompt: Control, url: str
) -> asyncio.Task[Exception | None]:
    """A ring that lost its locks while its call was out."""
    ringing = asyncio.create_task(ring(worker, kind))
    await struck(prompt)
    assert lose_mutexes(url) == 1
    return ringing


@pytest.mark.parametrize("kind", ["generate", "revoke"])
async def test_of_two_workers_that_ring_at_once_one_acts(
    benches: Benches, prompt: Control, kind: str
) -> None:
    a, b = benches
    await book(a)
    if kind == "revoke":
        await ring(a, "generate")
        await cancel(a)
    prompt.clear_log()
    prompt.settings(latency_ms=100)
    ended = await asyncio.gather(ring(a, kind), ring(b, kind))
    assert sorted(type(error).__name__ for error in ended) == ["NoneType", "TryLater"]
    assert "another worker" in str([error for error in ended if error])
    operation = await operation_of(a, kind)
    assert (operation.state, operation.epoch) == ("completed", 1)
    calls = performed(prompt, "POST", "/temp-password") + performed(prompt, "DELETE")
    assert calls == 1


async def test_f17_of_twenty_rings_at_once_one_acts(benches: Benches, prompt: Control) -> None:
    a, b = benches
    await book(a)
    operation = await operation_of(a, "generate")
    prompt.settings(latency_ms=50)

    async def once(bench: Workbench) -> str:
        try:
            await generating.generate(bench, operation.id, operation.job_id)
        except TryLater:
            return "later"
        return "done"

    await asyncio.gather(*(once(bench) for bench in (a, b) * 10))
    assert await factories.rows(a.db, TRIES) == [{"epoch": 1, "outcome": "completed"}]
    assert (creates(prompt), len(held(prompt))) == (1, 1)


async def test_a_worker_that_lost_its_claim_before_its_create_creates_nothing(
    benches: Benches, prompt: Control, database_url: str
) -> None:
    zombie, rescuer = benches
    await book(zombie)
    prompt.fault("slow", LIST, seconds=1.5)
    stalled = await cut_off(zombie, "generate", prompt, database_url)
    assert isinstance(await ring(rescuer, "generate"), TryLater), "it may be at its create by now"
    await grace_is_over(rescuer)
    assert await ring(rescuer, "generate") is None
    before = await everything(rescuer)
    assert await stalled is None
    assert await everything(rescuer) == before
    assert (creates(prompt), len(held(prompt))) == (1, 1)
    assert await factories.rows(rescuer.db, TRIES) == [
        {"epoch": 1, "outcome": "rescued"},
        {"epoch": 2, "outcome": "later"},
        {"epoch": 3, "outcome": "completed"},
    ]


async def test_a_worker_that_lost_its_claim_before_its_create_leaves_nothing_in_doubt(
    benches: Benches, prompt: Control, database_url: str
) -> None:
    zombie, rescuer = benches
    await book(zombie)
    prompt.fault("slow", LIST, seconds=1.5)
    stalled = await cut_off(zombie, "generate", prompt, database_url)
    assert isinstance(await ring(rescuer, "generate"), TryLater)
    assert await stalled is None
    assert (await code_of(rescuer)).create_in_doubt_since is None
    assert await ring(rescuer, "generate") is None
    assert (creates(prompt), len(held(prompt))) == (1, 1)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610])
async def test_a_worker_told_to_stop_at_any_moment_leaves_no_lock_and_no_doubt_without_a_create(
    bench: Workbench, prompt: Control, database_url: str, turns: int
) -> None:
    await book(bench)
    stopping = asyncio.create_task(ring(bench, "generate"))
    for _ in range(turns):  # of the event loop, until it is told so
        await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait({stopping})
    assert lose_mutexes(database_url) == 0
    assert (await code_of(bench)).create_in_doubt_since is None or creates(prompt) == 1


async def test_a_worker_that_lost_its_claim_during_its_create_leaves_one_pin_and_changes_no_row(
    benches: Benches, prompt: Control, database_url: str
) -> None:
    zombie, rescuer = benches
    await book(zombie)
    prompt.fault("slow", CREATE, seconds=1.0)
    stalled = await cut_off(zombie, "generate", prompt, database_url)
    assert isinstance(await ring(rescuer, "generate"), TryLater)
    before = await everything(rescuer)
    assert await stalled is None
    assert await everything(rescuer) == before
    await grace_is_over(rescuer)
    assert await ring(rescuer, "generate") is None
    code = await code_of(rescuer)
    assert code.state == "active"
    assert [pin for pin, *_ in held(prompt)] == [digits(rescuer, code)]
    assert creates(prompt) == 1


async def test_a_worker_that_lost_its_claim_during_its_removal_changes_no_row(
    benches: Benches, prompt: Control, database_url: str
) -> None:
    zombie, rescuer = benches
    await put_on_door(zombie, prompt)
    await cancel(zombie)
    prompt.fault("slow", DELETE, seconds=1.0)
    stalled = await cut_off(zombie, "revoke", prompt, database_url)
    assert await ring(rescuer, "revoke") is None
    before = await everything(rescuer)
    assert await stalled is None
    assert await everything(rescuer) == before
    assert ((await code_of(rescuer)).state, held(prompt)) == ("revoked", [])


async def test_a_failure_of_a_worker_that_lost_its_claim_changes_no_row(
    benches: Benches, prompt: Control, database_url: str
) -> None:
    zombie, rescuer = benches
    await book(zombie)
    prompt.fault("hang", LIST, seconds=1.0)
    stalled = await cut_off(zombie, "generate", prompt, database_url)
    await grace_is_over(rescuer)
    assert await ring(rescuer, "generate") is None
    before = await everything(rescuer)
    assert await stalled is None
    assert await everything(rescuer) == before


async def test_a_cancel_during_a_running_generate_tears_nothing_and_is_undone_by_the_revoke(
    benches: Benches, prompt: Control
) -> None:
    a, b = benches
    await book(a)
    prompt.fault("slow", CREATE, seconds=0.7)
    running = asyncio.create_task(ring(a, "generate"))
    await struck(prompt)
    await cancel(b)
    assert isinstance(await ring(b, "revoke"), TryLater), "the generate is still at the door"
    assert await running is None
    generate = await operation_of(a, "generate")
    assert (generate.state, (await code_of(a)).state) == ("cancelled", "revoking")
    await grace_is_over(b)
    assert await ring(b, "revoke") is None
    code = await code_of(a)
    assert (code.state, code.pin_sealed, held(prompt)) == ("revoked", None, [])
    assert creates(prompt) == 1


async def test_a_worker_does_not_wait_for_the_booking_that_waits_for_it(
    bench: Workbench, prompt: Control
) -> None:
    """It writes an access code twice in one transaction: then PostgreSQL looks at the stay again,
    which a booking holds that wants the code next."""
    await book(bench)
    async with bench.db.transaction() as booking:
        await stays.reservation_for_update(booking, "res-1")
        assert await ring(bench, "generate") is None


async def test_two_workers_with_ten_stays_leave_one_pin_on_each_door(
    benches: Benches, prompt: Control
) -> None:
    a, b = benches
    locks = [f"lock-{number}" for number in range(10)]
    for lock in locks:
        prompt.add_door(lock, "zigbee")
        await book(a, lock, f"stay-{lock}")

    async def ring_often(bench: Workbench, lock: str) -> None:
        while await ring(bench, "generate", f"stay-{lock}"):
            pass

    await asyncio.gather(*(ring_often(bench, lock) for bench in (a, b) for lock in locks))
    assert [len(held(prompt, lock)) for lock in locks] == [1] * len(locks)
    assert creates(prompt) == len(locks)


async def everything(bench: Workbench) -> list[Any]:
    """Every row that an operation may change, and the audit trail."""
    return [
        await factories.rows(bench.db, f"SELECT * FROM {table} ORDER BY id")
        for table in ("access_codes", "operations", "tries", "audit_events")
    ]


@pytest.mark.parametrize("write", ["create", "delete"])
async def test_r5b_a_worker_that_stood_still_right_before_a_call_does_not_make_it(
    benches: Benches,
    prompt: Control,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    write: str,
) -> None:
    """It goes on when another has done its work, and the guest has left."""
    frozen, other = benches
    if write == "create":
        await book(frozen)
    else:
        await put_on_door(frozen, prompt)
        await cancel(frozen)
    kind = "generate" if write == "create" else "revoke"
    standing, goes_on, insist = asyncio.Event(), asyncio.Event(), door.insist_ours

    async def stand_still(bench: Workbench, rung: Ring) -> None:
        if bench is frozen:
            standing.set()
            await goes_on.wait()
            rung = replace(rung, claim=replace(rung.claim, asked_on=rung.claim.asked_on - 60))
        await insist(bench, rung)

    monkeypatch.setattr(door, "insist_ours", stand_still)
    running = asyncio.create_task(ring(frozen, kind))
    await standing.wait()
    lose_mutexes(database_url)
    await grace_is_over(other)
    prompt.clear_log()
    assert await ring(other, kind) is None
    if write == "create":
        await cancel(other)
        assert await ring(other, "revoke") is None
    goes_on.set()
    assert await running is None
    assert held(prompt) == []
    assert performed(prompt, "POST", "/temp-password") == (1 if write == "create" else 0)
    assert performed(prompt, "DELETE") == 1


async def test_r5b_a_worker_that_stood_still_while_its_claim_was_answered_makes_no_pin(
    benches: Benches, prompt: Control, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its create was intended with the claim: it may have been waited for, and given up, since."""
    frozen, other = benches
    await book(frozen)
    standing, goes_on, claim = asyncio.Event(), asyncio.Event(), frozen.ledger.claim

    async def stand_still(operation_id: int, job_id: int | None) -> Claimed | None:
        claimed = await claim(operation_id, job_id)
        assert claimed
        assert claimed.intends
        standing.set()
        await goes_on.wait()
        return replace(claimed, asked_on=claimed.asked_on - 60)

    monkeypatch.setattr(frozen.ledger, "claim", stand_still)
    running = asyncio.create_task(ring(frozen, "generate"))
    await standing.wait()
    lose_mutexes(database_url)
    await grace_is_over(other)
    await cancel(other)
    assert await ring(other, "revoke") is None
    goes_on.set()
    assert await running is None
    assert (held(prompt), creates(prompt)) == ([], 0)
