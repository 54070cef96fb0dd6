"""Putting jobs, in the caller's transaction, and taking them back.

A job is an alarm clock: it carries the id of an operation and nothing else. What to do is read from
our rows when it rings.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import procrastinate
from procrastinate.jobs import Job

from pinqueue.db import Session, driver_connection
from pinqueue.lifecycle import OperationKind
from pinqueue.locks import Window
from pinqueue.models import AccessCode, Delivery, Operation
from pinqueue.store import job_records, queue

QUEUES = {OperationKind.GENERATE: "generate_pin", OperationKind.REVOKE: "revoke_pin"}
"""The queue, and the task of the same name, that rings for each kind of operation."""

DELIVER = "deliver"
"""The queue, and the task, of outgoing webhooks. It is no operation's: people ask about those."""

_app = procrastinate.App(connector=procrastinate.PsycopgConnector())
"""Never opened: it defers only on connections it is handed, so that a job and the rows it rings for
commit together or not at all."""


FIRST = 0
"""The urgency of what goes before all guests."""


async def put(session: Session, operations: Sequence[Operation], *, first: bool = False) -> None:
    """Defer a job for each operation at its `next_at`; `first` says that it goes before all others
    of the `ringing.WINDOW` due longest, whoever's deadline is nearer; also when it rings again.

    `lock=` and `queueing_lock=` stay unused: together with a planned time they block every later
    job with the same lock.
    """
    if not operations:
        return
    codes = [await session.get_one(AccessCode, one.access_code_id) for one in operations]
    jobs = [
        Job(
            queue=QUEUES[OperationKind(operation.kind)],
            task_name=QUEUES[OperationKind(operation.kind)],
            lock=None,
            queueing_lock=None,
            priority=FIRST
            if first
            else urgency(operation.kind, operation.due_at, Window(code.starts_at, code.ends_at)),
            scheduled_at=operation.next_at,
            task_kwargs={"operation_id": operation.id},
        )
        for operation, code in zip(operations, codes, strict=True)
    ]
    connection = await driver_connection(session)
    deferred = await _app.job_manager.batch_defer_jobs_async(jobs, connection=connection)
    for operation, job in zip(operations, deferred, strict=True):
        operation.job_id = job.id
    await session.flush()
    await job_records.insert_job_records(
        session,
        [
            {
                "job_id": job.id,
                "operation_id": operation.id,
                "queue": job.queue,
                "task": job.task_name,
                "scheduled_at": job.scheduled_at,
            }
            for operation, job in zip(operations, deferred, strict=True)
        ],
    )


def urgency(kind: str, due_at: datetime, window: Window) -> int:
    """Whose job goes first where several are due: the higher, as Procrastinate has it.

    It is the deadline, in minutes since 1970 and below zero: the guest who arrives first is served
    first, and a retry does not lose its place. A PIN that comes off before its end, and so may open
    until it is off, goes before all guests. How urgent one is that its lock no longer takes, since
    its end is past, depends on the hour: `ringing.FETCH` says so.
    """
    if kind == OperationKind.REVOKE and due_at < window.ends_at:
        return FIRST
    deadline = window.ends_at if kind == OperationKind.REVOKE else window.starts_at
    return -int(deadline.timestamp() / 60)


async def defer(
    session: Session, name: str, at: datetime | None = None, *, priority: int = 0, **arguments: int
) -> int:
    """Defer a job on the queue and for the task of that name, which is no operation's; returns its
    id. Of those that are due the highest priority comes first."""
    connection = await driver_connection(session)
    task = _app.configure_task(
        name, queue=name, schedule_at=at, priority=priority, connection=connection
    )
    job_id: int = await task.defer_async(**arguments)
    return job_id


async def put_deliveries(session: Session, deliveries: Sequence[Delivery]) -> None:
    """Defer a job for each delivery at its `next_at`."""
    for delivery in deliveries:
        delivery.job_id = await defer(session, DELIVER, delivery.next_at, delivery_id=delivery.id)
    await session.flush()


async def take_back(session: Session, owner: Operation | Delivery) -> bool:
    """Cancel its waiting job; False when it has none, or it is running already."""
    if owner.job_id is None:
        return False
    return await _app.job_manager.cancel_job_by_id_async(
        owner.job_id, connection=await driver_connection(session)
    )


async def drop_failed(session: Session, codes: Sequence[AccessCode], kind: OperationKind) -> None:
    """Delete the failed jobs of access codes, now that others ring for them. The audit keeps
    them."""
    await queue.delete_failed_of(session, [code.id for code in codes], kind)


async def move(session: Session, operation: Operation) -> None:
    """Replace an operation's job by one at its `next_at`."""
    await take_back(session, operation)
    await put(session, [operation])
