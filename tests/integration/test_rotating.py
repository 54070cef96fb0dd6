"""Keys are rotated: what the old ones sealed is sealed anew, while reads and bookings go on."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from itertools import count

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import insert, update
from sqlalchemy.types import LargeBinary

from pinqueue import audit, inventory, rotating
from pinqueue.db import Database
from pinqueue.errors import ConfigInvalid, DatabaseUnavailable
from pinqueue.models import AccessCode, Base
from pinqueue.pins import Pin
from pinqueue.reservations import Planner
from pinqueue.rotating import rotate_secrets
from pinqueue.sealing import Sealer
from pinqueue.store import access_codes
from pinqueue.store.sealed import COLUMNS
from tests import factories
from tests.conftest import SECRETS

pytestmark = pytest.mark.anyio

OLD, NEW, PEPPER = SECRETS["secret_keys"], Fernet.generate_key().decode(), SECRETS["pin_pepper"]
BOTH = Sealer([NEW, OLD], PEPPER)
CODES = "SELECT id, pin_sealed FROM access_codes ORDER BY id"


async def sealed_pins(db: Database) -> dict[int, bytes]:
    return {row["id"]: row["pin_sealed"] for row in await factories.rows(db, CODES)}


async def set_up(db: Database, planner: Planner, stays: int = 1) -> None:
    """A source that rotates its own secret and has an API, an endpoint, and stays."""
    seal = planner.sealer
    await factories.add_listing(db)
    await factories.add_source(db, seal)
    await factories.add_endpoint(db, seal, "https://desk.example/hook")
    async with db.transaction() as session:
        await inventory.rotate_source(session, seal, "test", "main", None, timedelta(days=1))
    for number in range(stays):
        await factories.receive(db, planner, factories.booking(f"res-{number}"))


async def many_codes(db: Database, seal: Sealer, codes: int) -> None:
    """So many in bulk, like the one that is there."""
    async with db.transaction() as session:
        (like,) = await access_codes.live_codes(session, "res-0")
        ids = await access_codes.new_code_ids(session, codes)
        same = {"lock_id": like.lock_id, "starts_at": like.starts_at, "ends_at": like.ends_at}
        stays = [
            {
                "id": f"more-{id_}",
                "status": "confirmed",
                "listing_id": "apt-7",
                "check_in_at": like.starts_at,
                "check_out_at": like.ends_at,
            }
            for id_ in ids
        ]
        await session.execute(insert(Base.metadata.tables["reservations"]), stays)
        await session.execute(
            insert(AccessCode),
            [
                {
                    **same,
                    "id": id_,
                    "reservation_id": f"more-{id_}",
                    "state": "scheduled",
                    "remote_name": f"more-{id_}",
                    "pin_sealed": seal.seal_pin(id_, Pin(f"{id_ % 10**6:06}")),
                    "pin_fingerprint": str(id_).encode(),
                }
                for id_ in ids
            ],
        )


async def test_what_the_old_key_sealed_opens_with_the_new_one_alone_and_with_the_old_no_more(
    db: Database, planner: Planner
) -> None:
    await set_up(db, planner)
    counts = await rotate_secrets(db, BOTH, "cli:ana")
    assert counts == {"sources": 2, "endpoints": 1, "access_codes": 1}
    new = Sealer([NEW], PEPPER)
    for code_id, sealed in (await sealed_pins(db)).items():
        assert new.open_pin(code_id, sealed)
        with pytest.raises(ConfigInvalid):
            planner.sealer.open_pin(code_id, sealed)
    (source,) = await factories.rows(db, "SELECT secret, previous_secret FROM sources")
    assert [Fernet(NEW).decrypt(source[name]) for name in source]
    (endpoint,) = await factories.rows(db, "SELECT id, secret FROM endpoints")
    assert new.open(f"endpoint:{endpoint['id']}", endpoint["secret"])


async def test_a_second_time_there_is_nothing_to_do(db: Database, planner: Planner) -> None:
    await set_up(db, planner)
    await rotate_secrets(db, BOTH, "cli:ana")
    before = await sealed_pins(db)
    assert set((await rotate_secrets(db, BOTH, "cli:ana")).values()) == {0}
    assert await sealed_pins(db) == before


async def test_it_is_on_record_with_its_counts(db: Database, planner: Planner) -> None:
    await set_up(db, planner)
    await rotate_secrets(db, BOTH, "cli:ana")
    query = "SELECT actor, detail FROM audit_events WHERE event = 'keys:secrets_rotated'"
    (told,) = await factories.rows(db, query)
    detail = {"sources": 2, "endpoints": 1, "access_codes": 1, "left": 0, "lost": 0}
    assert told == {"actor": "cli:ana", "detail": detail}


@pytest.mark.parametrize("codes", [500, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_r24_many_codes_are_sealed_anew_while_each_read_and_booking_succeeds(
    db: Database, planner: Planner, codes: int
) -> None:
    """R24; every process has the new key first by then, as the README says."""
    await set_up(db, planner)
    await many_codes(db, planner.sealer, codes)
    ids = list(await sealed_pins(db))
    begun = time.monotonic()
    rotating_ = asyncio.create_task(rotate_secrets(db, BOTH, "cli:ana"))
    reads = 0
    for number in count(1):
        code_id = ids[number * 97 % len(ids)]
        async with db.transaction() as session:
            assert (await audit.reveal(session, BOTH, "test", code_id)).digits()
        await factories.receive(db, Planner(BOTH, planner.lead), factories.booking(f"new-{number}"))
        reads += 1
        if rotating_.done():
            break
    assert (await rotating_)["access_codes"] == codes + 1
    assert time.monotonic() - begun < 60
    assert reads > 1
    new = Sealer([NEW], PEPPER)
    assert all(new.open_pin(id_, sealed) for id_, sealed in (await sealed_pins(db)).items())


async def test_what_somebody_holds_is_sealed_anew_when_it_is_let_go(
    db: Database, planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotating, "REST", 0.01)
    await set_up(db, planner, stays=2)
    held, other = await sealed_pins(db)
    async with db.transaction() as session:
        await access_codes.code_for_update(session, held)
        rotating_ = asyncio.create_task(rotate_secrets(db, BOTH, "cli:ana"))
        new = Sealer([NEW], PEPPER)
        while not opens(new, other, (await sealed_pins(db))[other]):
            assert not rotating_.done()
        assert not opens(new, held, (await sealed_pins(db))[held])
    assert (await rotating_)["access_codes"] == 2


async def test_what_is_held_for_too_long_is_named(
    db: Database, planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotating, "REST", 0)
    monkeypatch.setattr(rotating, "ROUNDS", 2)
    await set_up(db, planner)
    (held,) = await sealed_pins(db)
    async with db.transaction() as session:
        await access_codes.code_for_update(session, held)
        with pytest.raises(DatabaseUnavailable, match=f"access_codes {held}: run it again"):
            await rotate_secrets(db, BOTH, "cli:ana")


async def test_what_no_key_opens_is_named_when_all_else_is_sealed_anew(
    db: Database, planner: Planner
) -> None:
    await set_up(db, planner, stays=5)
    first, *lost = await sealed_pins(db)
    stranger = Sealer([Fernet.generate_key().decode()], PEPPER)
    async with db.transaction() as session:
        for code_id in lost:
            seal = stranger.seal_pin(code_id, Pin("123456"))
            await session.execute(
                update(AccessCode).where(AccessCode.id == code_id).values(pin_sealed=seal)
            )
    named = ", ".join(f"access_codes {code_id}" for code_id in lost[:3])
    with pytest.raises(ConfigInvalid, match=f"opens {named} and 1 more: add the key"):
        await rotate_secrets(db, BOTH, "cli:ana")
    assert opens(Sealer([NEW], PEPPER), first, (await sealed_pins(db))[first])


def test_every_column_that_holds_a_seal_is_sealed_anew() -> None:
    no_seals = {"body_sha256", "pin_fingerprint", "key_sha256"}
    columns = {
        (table.name, column.name)
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, LargeBinary) and column.name not in no_seals
    }
    assert columns == {(column.class_.__tablename__, column.key) for column in COLUMNS}


def opens(seal: Sealer, code_id: int, sealed: bytes) -> bool:
    try:
        return bool(seal.open_pin(code_id, sealed))
    except ConfigInvalid:
        return False
