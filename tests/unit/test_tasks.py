"""When a job that failed is launched again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from procrastinate.jobs import Job

from pinqueue.errors import DatabaseUnavailable, SourceBusy, SourceUnreachable
from pinqueue.tasks import FETCH_RETRIES, AsTheSenderAllows


def fetch_waits(error: BaseException, attempts: int = 0) -> timedelta | None:
    job = Job(
        id=1, lock=None, queueing_lock=None, task_name="fetch", queue="fetch", attempts=attempts
    )
    decision = AsTheSenderAllows().get_retry_decision(exception=error, job=job)
    if decision is None:
        return None
    assert decision.retry_at is not None
    return decision.retry_at - datetime.now(UTC)


@pytest.mark.parametrize(
    ("error", "attempts", "waits"),
    [
        (SourceUnreachable(), 0, timedelta(seconds=5)),
        (SourceUnreachable(), 3, timedelta(seconds=40)),
        (SourceUnreachable(), FETCH_RETRIES - 1, timedelta(minutes=30)),
        (SourceBusy(retry_after=90.0), 0, timedelta(seconds=90)),
        (SourceBusy(retry_after=1e6), 0, timedelta(days=1)),
        (SourceBusy(retry_after=1e12), 0, timedelta(days=1)),
        (DatabaseUnavailable(), 0, timedelta(seconds=5)),
        (KeyError("nobody foresaw it"), 0, timedelta(seconds=5)),
        (asyncio.CancelledError(), 0, timedelta(seconds=5)),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_fetch_is_tried_again_with_growing_gaps_or_as_late_as_its_sender_asks_within_a_day(
    error: BaseException, attempts: int, waits: timedelta
) -> None:
    waited = fetch_waits(error, attempts)
    assert waited is not None
    assert abs(waited - waits) < timedelta(seconds=2)


def test_a_fetch_whose_tries_are_spent_is_not_tried_again() -> None:
    assert fetch_waits(SourceUnreachable(), FETCH_RETRIES) is None
