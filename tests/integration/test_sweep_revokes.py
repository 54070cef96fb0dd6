"""The sweep begins again where a revoke failed: a former guest's PIN is never given up."""

from __future__ import annotations

import pytest

from pinqueue import sweep
from pinqueue.errors import LockRefused
from pinqueue.operations import Workbench
from pinqueue.simulator import Control
from tests import factories
from tests.operating import (
    ZIGBEE,
    cancel,
    code_of,
    execute,
    held,
    operation_of,
    put_on_door,
    ring,
)

pytestmark = pytest.mark.anyio

ASIDE = "UPDATE operations SET finished_at = finished_at - interval '16 minutes'"


@pytest.fixture
async def refused(bench: Workbench, prompt: Control) -> Workbench:
    """A cancelled stay whose PIN is on the door because Tuya refused to remove it."""
    await put_on_door(bench, prompt)
    await cancel(bench)
    prompt.fault("code", {"method": "DELETE"}, code=1106)
    assert isinstance(await ring(bench, "revoke"), LockRefused)
    assert (await operation_of(bench, "revoke")).state == "failed"
    assert len(held(prompt)) == 1
    return bench


async def test_f9_a_failed_revoke_is_begun_again_after_a_quarter_of_an_hour(
    refused: Workbench, prompt: Control
) -> None:
    assert await sweep.begin_again(refused.db) == 0
    await execute(refused.db, ASIDE)
    assert await sweep.begin_again(refused.db) == 1
    assert await ring(refused, "revoke", as_if_due=False) is None
    assert (await code_of(refused)).state == "revoked"
    assert held(prompt) == []


async def test_it_is_begun_once_by_two_sweeps(refused: Workbench) -> None:
    await execute(refused.db, ASIDE)
    await sweep.begin_again(refused.db)
    assert await sweep.begin_again(refused.db) == 0
    code = await code_of(refused)
    open_ = [o for o in await factories.operations(refused.db, code) if o.state == "waiting"]
    assert [o.kind for o in open_] == ["revoke"]


async def test_a_person_who_cancels_again_begins_it_at_once(
    refused: Workbench, prompt: Control
) -> None:
    await cancel(refused)
    assert await ring(refused, "revoke", as_if_due=False) is None
    assert held(prompt) == []


async def test_a_code_that_is_off_its_door_is_left_alone(bench: Workbench, prompt: Control) -> None:
    await put_on_door(bench, prompt)
    await cancel(bench)
    assert await ring(bench, "revoke") is None
    await execute(bench.db, ASIDE)
    assert await sweep.begin_again(bench.db) == 0
    assert held(prompt, ZIGBEE) == []
