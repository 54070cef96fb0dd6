"""The functions that jobs launch, and when a job that failed is launched again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import procrastinate
from procrastinate.jobs import Job
from procrastinate.retry import BaseRetryStrategy, RetryDecision

from pinqueue import fetching
from pinqueue.alarms import DELIVER, QUEUES
from pinqueue.errors import DatabaseUnavailable, LockError, SourceBusy, TryLater
from pinqueue.lifecycle import OperationKind
from pinqueue.operations import Workbench, generating, revoking

BREAKDOWN_RETRIES = 3
BREAKDOWN_WAIT = timedelta(seconds=5)
FETCH_RETRIES, FETCH_WAIT, FETCH_LONGEST = 50, timedelta(seconds=5), timedelta(minutes=30)
FETCH_GRANTED = 86400.0
"""Seconds. A sender may ask for years by mistake, and no calendar holds them."""


class AsTheRowSays(BaseRetryStrategy):
    """The operation's row, or the delivery's, holds when it rings next; the job follows it.

    A job that broke down before it could record anything is launched a few times more; after that
    the sweep takes the row up, and counts.
    """

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if isinstance(exception, TryLater):
            return RetryDecision(retry_at=exception.retry_at)
        if isinstance(exception, asyncio.CancelledError):  # this worker stops: another may have it
            return RetryDecision(retry_at=datetime.now(UTC))
        if isinstance(exception, LockError):
            return None
        if isinstance(exception, DatabaseUnavailable) or job.attempts < BREAKDOWN_RETRIES:
            return RetryDecision(retry_at=datetime.now(UTC) + BREAKDOWN_WAIT)
        return None


class AsTheSenderAllows(BaseRetryStrategy):
    """A sender's API is asked again with growing gaps for a day, also where the asking broke down
    in a way that nobody foresaw; then comparing finds it."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if job.attempts >= FETCH_RETRIES:
            return None
        asked = exception.retry_after if isinstance(exception, SourceBusy) else None
        gap = min(FETCH_WAIT * 2.0 ** min(job.attempts, 20), FETCH_LONGEST)
        wait = max(gap, timedelta(seconds=min(asked or 0, FETCH_GRANTED)))
        return RetryDecision(retry_at=datetime.now(UTC) + wait)


tasks = procrastinate.Blueprint()


def _bench(context: procrastinate.JobContext) -> Workbench:
    bench: Any = context.additional_context["bench"]
    assert isinstance(bench, Workbench)  # noqa: S101  # worker.py puts it there
    return bench


@tasks.task(
    name=QUEUES[OperationKind.GENERATE],
    queue=QUEUES[OperationKind.GENERATE],
    retry=AsTheRowSays(),
    pass_context=True,
)
async def generate_pin(context: procrastinate.JobContext, *, operation_id: int) -> None:
    await generating.generate(_bench(context), operation_id, context.job.id)


@tasks.task(
    name=QUEUES[OperationKind.REVOKE],
    queue=QUEUES[OperationKind.REVOKE],
    retry=AsTheRowSays(),
    pass_context=True,
)
async def revoke_pin(context: procrastinate.JobContext, *, operation_id: int) -> None:
    await revoking.revoke(_bench(context), operation_id, context.job.id)


@tasks.task(name=DELIVER, queue=DELIVER, retry=AsTheRowSays(), pass_context=True)
async def deliver(context: procrastinate.JobContext, *, delivery_id: int) -> None:
    await context.additional_context["deliver"](delivery_id)


@tasks.task(name=fetching.FETCH, queue=fetching.FETCH, retry=AsTheSenderAllows(), pass_context=True)
async def fetch_booking(context: procrastinate.JobContext, *, event_row: int) -> None:
    bench = _bench(context)
    await fetching.fetch(bench.db, bench.planner, event_row)
