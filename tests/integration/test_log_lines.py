"""Each change of state is one log line: a constant event name, and the ids to find the rest by."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from procrastinate.jobs import Status

from pinqueue import logs, sweep
from pinqueue.db import Database
from pinqueue.operations import Workbench
from pinqueue.reservations import Planner
from pinqueue.simulator import Control
from tests import factories
from tests.operating import (
    LIST,
    WIFI,
    book,
    cancel,
    code_of,
    execute,
    operation_of,
    ring,
    taken_by_a_worker,
)
from tests.queueing import a_queue
from tests.serving import Web

Lines = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """The lines with one of these event names, logged since; logging is as before afterwards."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in logs._QUIET}
    logs.set_up()
    (ours,) = root.handlers
    assert isinstance(ours, logging.StreamHandler)
    ours.setStream(written := io.StringIO())

    def read(*events: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in written.getvalue().splitlines()]
        written.seek(0)
        written.truncate()
        return [line for line in found if line["event"] in events]

    yield read
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, was in quiet.items():
        logging.getLogger(name).setLevel(was)
    structlog.configure(**before)


async def ids(bench: Workbench, kind: str, epoch: int) -> dict[str, Any]:
    operation, code = await operation_of(bench, kind), await code_of(bench)
    return {
        "kind": kind,
        "operation_id": operation.id,
        "epoch": epoch,
        "access_code_id": code.id,
        "reservation_id": "res-1",
        "lock_id": code.lock_id,
        "job_id": operation.job_id,
    }


def told(line: dict[str, Any], *without: str) -> dict[str, Any]:
    apart = {"timestamp", "logger", "seconds", *without}
    return {name: value for name, value in line.items() if name not in apart}


@pytest.mark.anyio
async def test_a_ring_that_completes_is_told_with_its_ids(
    bench: Workbench, prompt: Control, lines: Lines
) -> None:
    await book(bench)
    await ring(bench, "generate")
    of_it = await ids(bench, "generate", 1)
    started, ended = lines("operation-started", "operation-ended")
    assert told(started) == {"event": "operation-started", "level": "info", **of_it}
    outcome = {"event": "operation-ended", "level": "info", "outcome": "completed"}
    assert told(ended) == {**outcome, **of_it}
    assert ended["seconds"] > 0


@pytest.mark.anyio
async def test_a_ring_that_has_to_wait_is_told_with_its_reason_and_the_next_time(
    bench: Workbench, doors: Control, lines: Lines
) -> None:
    await book(bench, WIFI)
    for epoch in (1, 2):
        await ring(bench, "generate")
        (ended,) = lines("operation-ended")
        operation = await operation_of(bench, "generate")
        assert told(ended, "reason") == {
            "event": "operation-ended",
            "level": "info",
            "outcome": "later",
            "retry_at": operation.next_at.isoformat(),
            **await ids(bench, "generate", epoch),
        }
        assert "not confirmed" in ended["reason"]


@pytest.mark.anyio
async def test_a_ring_that_fails_is_a_warning_with_its_reason(
    bench: Workbench, prompt: Control, lines: Lines
) -> None:
    await book(bench)
    prompt.fault("code", LIST, code=28841105)
    await ring(bench, "generate")
    (ended,) = lines("operation-ended")
    assert (ended["level"], ended["outcome"]) == ("warning", "failed")
    assert "28841105" in ended["reason"]


@pytest.mark.anyio
async def test_an_alarm_with_nothing_to_do_tells_of_no_start_and_no_end(
    bench: Workbench, prompt: Control, lines: Lines
) -> None:
    await book(bench)
    await cancel(bench)
    await ring(bench, "generate")
    assert lines("operation-started", "operation-ended") == []


@pytest.mark.anyio
@pytest.mark.parametrize(("rescues", "what"), [(0, "rescued"), (3, "quarantined")])
async def test_what_the_sweep_puts_right_is_told_with_its_ids(
    bench: Workbench, lines: Lines, rescues: int, what: str
) -> None:
    await book(bench)
    of_it = await ids(bench, "generate", 0)
    await execute(bench.db, "UPDATE operations SET rescues = :n WHERE kind = 'generate'", n=rescues)
    await taken_by_a_worker(bench)
    await sweep.rescue_stalled(bench.db)
    (line,) = lines("put-right")
    assert told(line, "reason") == {
        "event": "put-right",
        "level": "warning",
        "what": what,
        **{name: of_it[name] for name in of_it if name not in ("epoch", "lock_id")},
    }
    assert "its worker died" in line["reason"]


@pytest.mark.anyio
async def test_an_operation_that_threatens_its_deadline_is_told_with_its_ids(
    bench: Workbench, lines: Lines
) -> None:
    await book(bench)
    of_it = await ids(bench, "generate", 0)
    await execute(bench.db, "UPDATE operations SET due_at = due_at - interval '6 minutes'")
    await sweep.tell_late(bench.db)
    (line,) = lines("operation-late", "put-right")
    assert told(line) == {
        "event": "operation-late",
        "level": "warning",
        "what": "late",
        **{name: of_it[name] for name in of_it if name not in ("epoch", "lock_id")},
    }


@pytest.mark.anyio
async def test_what_the_sweep_could_not_commit_is_not_told_as_put_right(
    db: Database, planner: Planner, lines: Lines
) -> None:
    await factories.add_listing(db)
    await factories.receive(db, planner, factories.booking())
    await execute(
        db,
        "UPDATE procrastinate_jobs SET status = 'doing' WHERE task_name = 'generate_pin'",
    )
    await execute(
        db,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'no' USING ERRCODE = '57014'; END $$",
    )
    await execute(
        db,
        "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON procrastinate_jobs DEFERRABLE"
        " INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    await sweep.rescue_stalled(db)
    (line,) = lines("put-right", "not-rescued")
    assert line["event"] == "not-rescued"


def test_an_answer_to_a_webhook_is_told_with_the_ids_of_its_event(web: Web, lines: Lines) -> None:
    answer = web.tell(factories.event("res-7"), event_id="msg_7")
    (line,) = lines("webhook-answered", "webhook-refused")
    assert told(line, "ip", "size") == {
        "event": "webhook-answered",
        "level": "info",
        "outcome": "accepted",
        "source": "main",
        "request_id": answer.headers["x-request-id"],
        "event_id": "msg_7",
        "reservation_id": "res-7",
    }


def test_a_webhook_nobody_signed_is_told_without_what_it_claims(web: Web, lines: Lines) -> None:
    raw, headers = factories.signed(factories.event("res-7"), event_id="msg_7")
    web.post(raw, {**headers, "webhook-signature": "v1,AAAA"})
    (line,) = lines("webhook-answered", "webhook-refused")
    assert line["event"] == "webhook-refused"
    assert not {"event_id", "reservation_id"} & set(line)


@pytest.mark.anyio
async def test_an_end_that_nobody_waits_for_and_that_cannot_be_is_told_and_costs_no_other(
    database_url: str, lines: Lines
) -> None:
    async with a_queue(database_url, concurrency=2) as queue:
        first, second = await queue.defer("first"), await queue.defer("second")
        one, another = await queue.fetch(), await queue.fetch()
        assert one
        assert another
        ended = "UPDATE procrastinate_jobs SET status = 'failed' WHERE id = %(id)s RETURNING id"
        await queue.ask(ended, id=first)
        worker_id = await queue.manager.register_worker()
        for job in (one, another):
            await queue.manager.finish_job(job, Status.SUCCEEDED, delete_job=False)
        await queue.manager.unregister_worker(worker_id)
        jobs = [await queue.job(id_) for id_ in (first, second)]
    assert [job["status"] for job in jobs] == ["failed", "succeeded"]
    assert [line["job_id"] for line in lines("job-end-given-up")] == [first]
