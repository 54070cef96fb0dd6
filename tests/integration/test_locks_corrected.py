"""What was added or linked wrongly is put right, and no PIN is left where it should not be."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from pinqueue import inventory, reservations, store
from pinqueue.errors import Conflict, InputInvalid, NotFound
from pinqueue.operations import Workbench
from pinqueue.simulator import Control
from tests import factories
from tests.operating import (
    BLUETOOTH,
    WIFI,
    ZIGBEE,
    bring_to,
    code_of,
    digits,
    held,
    put_on_door,
    ring,
    ring_all,
    taken_by_a_worker,
    tell,
    until,
)

pytestmark = pytest.mark.anyio


async def correct(bench: Workbench, lock: str, **changes: str) -> int:
    async with bench.db.transaction() as session:
        return await inventory.set_lock(session, bench.planner, "test", lock, **changes)


async def unlink(bench: Workbench, listing: str, lock: str) -> int:
    async with bench.db.transaction() as session:
        return await inventory.unlink_lock(session, bench.planner, "test", listing, lock)


async def lock_row(bench: Workbench, lock: str) -> tuple[str, str]:
    query = "SELECT device_id, protocol FROM locks WHERE id = :lock"
    (row,) = await factories.rows(bench.db, query, lock=lock)
    return row["device_id"], row["protocol"]


async def test_a_pin_that_failed_for_the_wrong_protocol_comes_with_the_right_one(
    bench: Workbench, prompt: Control
) -> None:
    await factories.add_listing(bench.db, "apt-7", {ZIGBEE: "wifi"})
    await tell(bench, lock="apt-7")
    assert "check the lock's protocol" in str(await ring(bench, "generate"))
    assert (await code_of(bench)).state == "failed"
    assert await correct(bench, ZIGBEE, protocol="zigbee") == 1
    await ring_all(bench)
    code = await code_of(bench)
    assert (code.state, len(digits(bench, code))) == ("active", 6)
    assert [pin for pin, _, _ in held(prompt)] == [digits(bench, code)]


async def test_a_pin_that_failed_for_the_wrong_device_comes_on_the_right_one_with_its_digits(
    bench: Workbench, prompt: Control
) -> None:
    await factories.add_listing(bench.db, "apt-7", {"mistyped": "zigbee"})
    await tell(bench, lock="apt-7")
    assert "and the device id" in str(await ring(bench, "generate"))
    failed = await code_of(bench)
    assert await correct(bench, "mistyped", device_id=ZIGBEE) == 1
    assert await ring(bench, "generate") is None
    assert [pin for pin, _, _ in held(prompt)] == [digits(bench, failed)]
    assert (await code_of(bench)).id == failed.id


async def test_a_removal_that_failed_for_the_wrong_device_is_begun_again(
    bench: Workbench, prompt: Control
) -> None:
    await factories.add_listing(bench.db, "apt-7", {"mistyped": "zigbee"})
    await tell(bench, lock="apt-7")
    await ring(bench, "generate")
    await unlink(bench, "apt-7", "mistyped")
    assert await ring(bench, "revoke") is not None
    await correct(bench, "mistyped", device_id=ZIGBEE)
    assert await ring(bench, "revoke") is None
    assert (await code_of(bench)).state == "revoked"


@pytest.mark.parametrize(("protocol", "others"), [("wifi", True), ("bluetooth", False)])
async def test_guests_ahead_get_other_digits_only_where_their_length_changes(
    bench: Workbench, protocol: str, others: bool
) -> None:
    await factories.add_listing(bench.db, "apt-7", {ZIGBEE: "zigbee"})
    await tell(bench, lock="apt-7", starts_in=timedelta(days=9))
    before = await code_of(bench)
    assert await correct(bench, ZIGBEE, protocol=protocol) == 1
    after = await code_of(bench)
    assert (after.state, after.id != before.id) == ("scheduled", others)
    assert (len(digits(bench, after)) == 7) == others
    assert await lock_row(bench, ZIGBEE) == (ZIGBEE, protocol)


@pytest.mark.parametrize("state", ["sent", "active", "revoking"])
async def test_a_lock_whose_device_may_hold_a_pin_stays_as_it_is(
    bench: Workbench, prompt: Control, state: str
) -> None:
    code = await bring_to(bench, prompt, state)
    for changes in ({"device_id": "another"}, {"protocol": "wifi"}):
        with pytest.raises(Conflict, match=f"may hold the PIN of access code {code.id}: cancel"):
            await correct(bench, ZIGBEE, **changes)
    assert await lock_row(bench, ZIGBEE) == (ZIGBEE, "zigbee")


async def test_a_booking_that_is_under_way_is_waited_for_and_gets_the_right_digits(
    bench: Workbench,
) -> None:
    await factories.add_listing(bench.db, "apt-7", {ZIGBEE: "wifi"})
    waits = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with bench.db.transaction() as session:
        now = await store.now(session)
        told = factories.booking()
        await reservations.receive(session, bench.planner, None, told, now)
        correcting = asyncio.create_task(correct(bench, ZIGBEE, protocol="zigbee"))
        await until(lambda: factories.value(bench.db, waits))
    assert await correcting == 1
    assert len(digits(bench, await code_of(bench))) == 6


async def test_a_lock_stays_as_it_is_while_a_worker_is_at_it(bench: Workbench) -> None:
    await factories.add_listing(bench.db, "apt-7", {ZIGBEE: "zigbee"})
    await tell(bench, lock="apt-7")
    await taken_by_a_worker(bench)
    with pytest.raises(Conflict, match="a worker is at access code"):
        await correct(bench, ZIGBEE, device_id="another")
    assert await lock_row(bench, ZIGBEE) == (ZIGBEE, "zigbee")


async def test_what_cannot_be_is_refused_by_name(bench: Workbench) -> None:
    await factories.add_listing(bench.db, "apt-7", {ZIGBEE: "zigbee", WIFI: "wifi"})
    with pytest.raises(InputInvalid, match="protocol: must be one of wifi"):
        await correct(bench, ZIGBEE, protocol="fax")
    with pytest.raises(Conflict, match=f"device {WIFI} is lock {WIFI} already"):
        await correct(bench, ZIGBEE, device_id=WIFI)
    with pytest.raises(NotFound, match="there is no lock gate: `pinqueue locks add` makes one"):
        await correct(bench, "gate", protocol="wifi")
    with pytest.raises(NotFound, match="lock gate does not belong to listing apt-7"):
        await unlink(bench, "apt-7", "gate")
    with pytest.raises(NotFound, match="there is no listing apt-9"):
        await unlink(bench, "apt-9", ZIGBEE)


async def test_a_lock_that_is_unlinked_loses_the_listings_pins_and_no_others(
    bench: Workbench, prompt: Control
) -> None:
    await put_on_door(bench, prompt)
    await factories.add_listing(bench.db, "apt-8", {ZIGBEE: "zigbee", BLUETOOTH: "bluetooth"})
    await tell(bench, "res-8", "apt-8", starts_in=timedelta(days=9))
    assert await unlink(bench, ZIGBEE, ZIGBEE) == 1
    assert await ring(bench, "revoke") is None
    assert held(prompt) == []
    assert (await code_of(bench)).state == "revoked"
    assert await unlink(bench, "apt-8", BLUETOOTH) == 1
    there = {code.lock_id: code.state for code in await factories.codes(bench.db, "res-8")}
    assert there == {ZIGBEE: "scheduled", BLUETOOTH: "cancelled"}
