"""Another PIN for a stay: the old one comes off, the new one is another."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pinqueue import codes, jobs, store
from pinqueue.errors import Conflict, NotFound
from pinqueue.lifecycle import CodeState
from pinqueue.models import AccessCode
from pinqueue.operations import Workbench
from pinqueue.simulator import Control
from tests import factories
from tests.operating import (
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
