"""Another PIN for a stay: the old one comes off, the new one is another."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pinqueue import codes, jobs, reservations, store
from pinqueue.errors import Conflict, NotFound
from pinqueue.lifecycle import CodeState
from pinqueue.models import AccessCode
from pinqueue.operations import Workbench
from pinqueue.simulator import Control
from tests import factories
from tests.operating import (
    PERFORM,
    ZIGBEE,
    book,
    cancel,
    code_of,
    digits,
    execute,
    held,
    operation_of,
    put_on_door,
    ring,
)

pytestmark = pytest.mark.anyio


async def reissue(bench: Workbench, code: AccessCode) -> AccessCode:
    async with bench.db.transaction() as session:
        now = await store.now(session)
        return await codes.reissue(session, bench.planner.sealer, "key:desk", code.id, now=now)


async def ring_of(bench: Workbench, kind: str, code: AccessCode) -> None:
    """Ring for this code's operation; `ring` rings for the stay's newest code."""
    found = [o for o in await factories.operations(bench.db, code) if o.kind == kind][-1]
    await execute(bench.db, "UPDATE operations SET next_at = now() WHERE id = :id", id=found.id)
    await PERFORM[kind](bench, found.id, found.job_id)


async def audited(bench: Workbench, event: str) -> int:
    count: int = await factories.value(
        bench.db, "SELECT count(*) FROM audit_events WHERE event = :event", event=event
    )
    return count


async def test_digits_never_near_a_door_are_replaced_at_once(bench: Workbench) -> None:
    before = await book(bench, starts_in=timedelta(days=2))
    after = await reissue(bench, before)
    assert (after.id, after.state) == (before.id, CodeState.SCHEDULED)
    assert digits(bench, after) != digits(bench, before)
    assert (await operation_of(bench, "generate")).state == "waiting"
    assert await audited(bench, "code:pin_replaced") == 1


async def test_what_is_put_on_the_door_then_are_the_new_digits(
    bench: Workbench, prompt: Control
) -> None:
    before = await book(bench)
    after = await reissue(bench, before)
    assert await ring(bench, "generate") is None
    assert [pin for pin, _, _ in held(prompt)] == [digits(bench, after)]


async def test_f23_a_pin_on_the_door_comes_off_and_another_goes_on(
    bench: Workbench, prompt: Control
) -> None:
    old = await put_on_door(bench, prompt)
    assert (await reissue(bench, old)).state == CodeState.REVOKING
    assert await ring(bench, "revoke") is None
    assert held(prompt) == []
    new = await code_of(bench)
    assert (new.id > old.id, new.state) == (True, CodeState.SCHEDULED)
    assert await ring(bench, "generate") is None
    assert [pin for pin, _, _ in held(prompt)] == [digits(bench, new)]
    assert digits(bench, new) != digits(bench, old)
    assert not prompt.open(ZIGBEE, digits(bench, old))
    assert await audited(bench, "code:reissued") == 1


async def test_asked_twice_it_happens_once(bench: Workbench, prompt: Control) -> None:
    old = await put_on_door(bench, prompt)
    await reissue(bench, old)
    assert (await reissue(bench, old)).state == CodeState.REVOKING
    assert await ring(bench, "revoke") is None
    assert len(await factories.codes(bench.db)) == 2
    assert await audited(bench, "code:reissued") == 1


async def reissue_stay(bench: Workbench, *, dry_run: bool = False) -> list[AccessCode]:
    async with bench.db.transaction() as session:
        now = await store.now(session)
        found = await reservations.reissue(
            session, bench.planner, "key:desk", "res-1", now, dry_run=dry_run
        )
        return list(found)


async def everything(bench: Workbench) -> list[list[dict[str, Any]]]:
    tables = ("access_codes", "operations", "audit_events", "procrastinate_jobs")
    return [
        await factories.rows(bench.db, f"SELECT * FROM {table} ORDER BY id") for table in tables
    ]


async def test_f23_a_stay_gets_one_other_pin_on_all_its_doors(
    bench: Workbench, prompt: Control
) -> None:
    doors = [ZIGBEE, "sim-zigbee-2", "sim-bluetooth-1"]
    locks = {ZIGBEE: "zigbee", "sim-zigbee-2": "zigbee", "sim-bluetooth-1": "bluetooth"}
    await factories.add_listing(bench.db, ZIGBEE, locks)
    await book(bench)
    old = await factories.codes(bench.db)
    for code in (old[0], old[2]):  # the second door's time has not come
        await ring_of(bench, "generate", code)
    told = await reissue_stay(bench)
    assert [codes.comes_off_first(code) for code in told] == [True, False, True]
    for code in (old[0], old[2]):
        await ring_of(bench, "revoke", code)
    live = [code for code in await factories.codes(bench.db) if code.pin_sealed]
    for code in live:
        await ring_of(bench, "generate", code)
    (pin,) = {digits(bench, code) for code in live}
    assert [[each for each, *_ in held(prompt, door)] for door in doors] == [[pin]] * 3
    assert pin != digits(bench, old[0])


@pytest.mark.parametrize("on_door", [False, True])
async def test_a_dry_run_says_what_would_be_done_and_changes_nothing(
    bench: Workbench, prompt: Control, on_door: bool
) -> None:
    code = await (put_on_door(bench, prompt) if on_door else book(bench))
    before = await everything(bench)
    prompt.clear_log()
    (told,) = await reissue_stay(bench, dry_run=True)
    assert (told.id, told.lock_id, told.state) == (code.id, ZIGBEE, code.state)
    assert codes.comes_off_first(told) is on_door
    async with bench.db.transaction() as session:
        now = await store.now(session)
        await codes.reissue(
            session, bench.planner.sealer, "key:desk", code.id, now=now, dry_run=True
        )
    assert await everything(bench) == before
    assert prompt.log() == []


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_stay_that_wants_no_pin_is_refused_whole(bench: Workbench, dry_run: bool) -> None:
    with pytest.raises(NotFound, match="there is no reservation res-1"):
        await reissue_stay(bench, dry_run=dry_run)
    await book(bench)
    await execute(bench.db, "UPDATE reservations SET pins_withheld_at = now()")
    with pytest.raises(Conflict, match="wants no PIN now"):
        await reissue_stay(bench, dry_run=dry_run)
    await cancel(bench)
    with pytest.raises(Conflict, match="has no PIN"):
        await reissue_stay(bench, dry_run=dry_run)


async def test_a_failed_code_is_taken_off_before_another_is_made(
    bench: Workbench, prompt: Control
) -> None:
    old = await book(bench)
    await execute(
        bench.db,
        "UPDATE access_codes SET state = 'failed', failed_at = now() WHERE id = :id",
        id=old.id,
    )
    assert (await reissue(bench, old)).state == CodeState.REVOKING
    assert await ring(bench, "revoke") is None
    assert (await code_of(bench)).id > old.id


async def test_the_code_of_a_cancelled_stay_is_not_reissued(
    bench: Workbench, prompt: Control
) -> None:
    old = await put_on_door(bench, prompt)
    await cancel(bench)
    with pytest.raises(Conflict, match="wants no PIN now"):
        await reissue(bench, old)


async def test_nor_is_one_whose_jobs_were_cancelled(bench: Workbench, prompt: Control) -> None:
    old = await put_on_door(bench, prompt)
    async with bench.db.transaction() as session:
        await jobs.cancel_scheduled_jobs(session, "res-1")
    with pytest.raises(Conflict, match="wants no PIN now"):
        await reissue(bench, old)


async def test_nor_one_that_is_off_the_door(bench: Workbench) -> None:
    old = await book(bench, starts_in=timedelta(days=2))
    await cancel(bench)
    with pytest.raises(Conflict, match="is cancelled: it has no PIN any more"):
        await reissue(bench, old)


async def test_no_code_no_reissue(bench: Workbench) -> None:
    await book(bench)
    missing = await code_of(bench)
    missing.id += 1000
    with pytest.raises(NotFound, match="there is no access code"):
        await reissue(bench, missing)
