"""PINs are hashed ahead, each for its own digits, and what is due then only uses the hash."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from pinqueue import codes, hashing, store
from pinqueue.config import Settings
from pinqueue.operations import Workbench
from pinqueue.pins import Pin
from pinqueue.sealing import Sealer
from pinqueue.simulator import Control
from pinqueue.store import access_codes
from tests.operating import a_worker, book, code_of, digits, execute, ring, until

pytestmark = pytest.mark.anyio


async def hash_ahead(bench: Workbench, most: int = 100) -> int:
    return await hashing.hash_ahead(bench.db, bench.planner.sealer, most=most, rest=0)


async def hash_of(bench: Workbench, reservation_id: str) -> str | None:
    return (await code_of(bench, reservation_id)).pin_hash


async def test_a_planned_pin_is_hashed_once_and_the_hash_proves_it(bench: Workbench) -> None:
    pin = digits(bench, await book(bench, hashed=False))
    assert await hash_ahead(bench) == 1
    code = await code_of(bench)
    assert code.pin_hash is not None
    assert await bench.planner.sealer.matches(code.id, Pin(pin), code.pin_hash)
    assert await hash_ahead(bench) == 0


async def test_the_nearest_stays_pin_is_hashed_first(bench: Workbench) -> None:
    for name, hours in {"third": 30, "first": 1, "second": 5}.items():
        await book(bench, f"lock{hours}", name, starts_in=timedelta(hours=hours), hashed=False)
    assert await hash_ahead(bench, most=2) == 2
    assert await hash_of(bench, "first")
    assert await hash_of(bench, "second")
    assert await hash_of(bench, "third") is None


async def test_workers_that_hash_at_once_hash_each_pin_once(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    stays = [f"res-{number}" for number in range(6)]
    for number, stay in enumerate(stays):
        await book(bench, f"lock{number}", stay, hashed=False)
    hashed: list[int] = []
    real = Sealer.hash_pin

    async def counted(sealer: Sealer, access_code_id: int, pin: Pin) -> str:
        hashed.append(access_code_id)
        return await real(sealer, access_code_id, pin)

    monkeypatch.setattr(Sealer, "hash_pin", counted)
    assert sum(await asyncio.gather(*(hash_ahead(bench) for _ in range(3)))) == 6
    assert sorted(hashed) == sorted([(await code_of(bench, stay)).id for stay in stays])


async def test_a_pin_that_is_replaced_meanwhile_does_not_get_the_hash_of_the_old_one(
    bench: Workbench,
) -> None:
    code = await book(bench, hashed=False)
    old = bytes(code.pin_sealed or b"")
    async with bench.db.transaction() as session:
        now = await store.now(session)
        await codes.reissue(session, bench.planner.sealer, "test", code.id, now=now)
    async with bench.db.transaction() as session:
        assert not await access_codes.keep_hash(session, code.id, old, "of the old one")
    assert await hash_of(bench, "res-1") is None


async def test_a_pin_that_no_key_opens_keeps_no_other_from_its_hash(bench: Workbench) -> None:
    await book(bench, "lock1", "sealed elsewhere", starts_in=timedelta(minutes=5), hashed=False)
    await book(bench, "lock2", "fine", hashed=False)
    other = Sealer(["YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE="], "another pepper")
    code = await code_of(bench, "sealed elsewhere")
    await execute(
        bench.db,
        "UPDATE access_codes SET pin_sealed = :sealed WHERE id = :id",
        sealed=other.seal_pin(code.id, Pin("123456")),
        id=code.id,
    )
    assert await hash_ahead(bench) == 1
    assert await hash_of(bench, "fine")


async def test_what_is_due_uses_the_hash_that_is_there(bench: Workbench, prompt: Control) -> None:
    await book(bench, hashed=False)
    await hash_ahead(bench)
    before = await hash_of(bench, "res-1")
    assert await ring(bench, "generate") is None
    assert await hash_of(bench, "res-1") == before


async def test_a_worker_hashes_what_is_booked_ahead(settings: Settings, bench: Workbench) -> None:
    await book(bench, starts_in=timedelta(days=60), hashed=False)

    async def is_hashed() -> bool:
        return await hash_of(bench, "res-1") is not None

    async with a_worker(settings):
        await until(is_hashed)
