"""A real worker: the job follows what the operation's row says."""

from __future__ import annotations

from typing import Any

import pytest

from pinqueue.config import Settings
from pinqueue.operations import Workbench
from pinqueue.simulator import Control
from tests import factories
from tests.operating import (
    LIST,
    WIFI,
    a_worker,
    book,
    cancel,
    code_of,
    creates,
    digits,
    held,
    operation_of,
    until,
)

pytestmark = pytest.mark.anyio


async def job_of(bench: Workbench, kind: str) -> dict[str, Any]:
    operation = await operation_of(bench, kind)
    (job,) = await factories.rows(
        bench.db,
        "SELECT status::text AS status, scheduled_at FROM procrastinate_jobs WHERE id = :id",
        id=operation.job_id,
    )
    return job


async def test_a_stay_is_carried_to_the_door_and_back(
    settings: Settings, bench: Workbench, prompt: Control
) -> None:
    pin = digits(bench, await book(bench))

    async def state() -> str:
        return (await code_of(bench)).state

    async def is_active() -> bool:
        return await state() == "active"

    async def is_revoked() -> bool:
        return await state() == "revoked"

    async with a_worker(settings):
        await until(is_active)
        assert [digits for digits, *_ in held(prompt)] == [pin]
        await cancel(bench)
        await until(is_revoked)
    assert (held(prompt), creates(prompt)) == ([], 1)
    assert {
        job["status"] for job in (await job_of(bench, "generate"), await job_of(bench, "revoke"))
    } == {"succeeded"}


async def test_a_refused_operation_fails_its_job(
    settings: Settings, bench: Workbench, prompt: Control
) -> None:
    await book(bench)
    due_at = (await operation_of(bench, "generate")).due_at
    prompt.fault("code", LIST, code=28841105)

    async def job_has_failed() -> bool:
        return await job_of(bench, "generate") == {"status": "failed", "scheduled_at": due_at}

    async with a_worker(settings):
        await until(job_has_failed)
    assert (await operation_of(bench, "generate")).state == "failed"
    assert (await code_of(bench)).state == "failed"
    assert (await job_of(bench, "revoke"))["status"] == "todo"


async def test_an_operation_that_has_to_wait_rings_again_by_the_same_job(
    settings: Settings, bench: Workbench, doors: Control
) -> None:
    await book(bench, WIFI)

    async def job_waits_again() -> bool:
        operation, job = await operation_of(bench, "generate"), await job_of(bench, "generate")
        again = {"status": "todo", "scheduled_at": operation.next_at}
        return operation.epoch > 0 and job == again

    async def is_active() -> bool:
        return (await code_of(bench)).state == "active"

    first = (await operation_of(bench, "generate")).job_id
    async with a_worker(settings):
        await until(job_waits_again)
        doors.wake(WIFI)
        await until(is_active, seconds=15)
    assert (await operation_of(bench, "generate")).job_id == first
    assert creates(doors) == 1
