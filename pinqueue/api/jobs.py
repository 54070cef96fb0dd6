"""The queue utilities, over HTTP."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pinqueue import jobs
from pinqueue.api.calls import Call, Table
from pinqueue.api.shapes import (
    CancelledJobs,
    Cleared,
    GenerateBody,
    Job,
    Jobs,
    JobsAsked,
    JobsOf,
    JobsOfReservation,
    JobStatus,
    OfJob,
    OfQueue,
    Retried,
    RevokeBody,
    ScheduledJob,
    ScheduledJobs,
)
from pinqueue.errors import NotFound
from pinqueue.lifecycle import OperationKind
from pinqueue.store.queue import JobFilter

TABLE = Table("Jobs")


@TABLE.route("GET", "/api/jobs", "read", {200: Jobs})
async def list_jobs(call: Call, given: JobsAsked) -> tuple[int, Jobs]:
    """List jobs by queue, state, lock, listing, reservation and due time.

    The next first, or the newest. A cursor stays good while jobs come and go. `delayed` jobs ring
    later, `waiting` ones are due.
    """
    which = replace(
        _filter(given), state=given.state, due_from=given.due_from, due_before=given.due_before
    )
    page = await jobs.find_jobs(
        call.session,
        which,
        newest_first=given.order == "newest",
        cursor=given.cursor,
        limit=given.limit,
    )
    found = [Job.model_validate(job) for job in page.jobs]
    return 200, Jobs(jobs=found, next_cursor=page.next_cursor)


@TABLE.route("GET", "/api/jobs/{reservation_id}/generate", "read", {200: JobStatus}, refused=[404])
async def get_generate_status(call: Call, given: JobsOfReservation) -> tuple[int, JobStatus]:
    """Get the status of a reservation's generate job. It outlives the job's row."""
    return await _status(call, given.reservation_id, OperationKind.GENERATE)


@TABLE.route("GET", "/api/jobs/{reservation_id}/revoke", "read", {200: JobStatus}, refused=[404])
async def get_revoke_status(call: Call, given: JobsOfReservation) -> tuple[int, JobStatus]:
    """Get the status of a reservation's revoke job. It outlives the job's row."""
    return await _status(call, given.reservation_id, OperationKind.REVOKE)


@TABLE.route(
    "POST",
    "/api/jobs/{reservation_id}/generate",
    "operate",
    {200: ScheduledJobs},
    refused=[404, 409],
)
async def schedule_generate(
    call: Call, given: JobsOfReservation, body: GenerateBody
) -> tuple[int, ScheduledJobs]:
    """Schedule a reservation's PINs, again where they were cancelled, or at another time.

    Their removal at check-out is scheduled with them. 409: the reservation is not confirmed.
    """
    scheduled = await jobs.schedule_generate_pin(
        call.session,
        given.reservation_id,
        body.check_in,
        lead=body.lead,
        planner=call.planner,
        actor=call.actor,
    )
    return 200, _scheduled(scheduled)


@TABLE.route(
    "POST",
    "/api/jobs/{reservation_id}/revoke",
    "operate",
    {200: ScheduledJobs},
    refused=[404, 409],
)
async def schedule_revoke(
    call: Call, given: JobsOfReservation, body: RevokeBody
) -> tuple[int, ScheduledJobs]:
    """Schedule the removal of a reservation's PINs, or move it.

    Its PINs are scheduled with it where they were cancelled. 409: the reservation is not confirmed.
    """
    scheduled = await jobs.schedule_revoke_pin(
        call.session,
        given.reservation_id,
        body.check_out,
        planner=call.planner,
        actor=call.actor,
    )
    return 200, _scheduled(scheduled)


@TABLE.route("DELETE", "/api/jobs/{reservation_id}", "operate", {200: CancelledJobs})
async def cancel_scheduled_jobs(call: Call, given: JobsOfReservation) -> tuple[int, CancelledJobs]:
    """Cancel what is scheduled for a reservation, until it is scheduled again.

    The reservation stays confirmed. A PIN on a door is taken off at once. Both false: there was
    nothing to cancel.
    """
    told = await jobs.cancel_scheduled_jobs(call.session, given.reservation_id, actor=call.actor)
    return 200, CancelledJobs.model_validate(told)


@TABLE.route("POST", "/api/jobs/{id}/retry", "operate", {200: JobStatus}, refused=[404, 409])
async def retry_job(call: Call, given: OfJob) -> tuple[int, JobStatus]:
    """Begin a failed job again, at once. 409: it has not failed, or nothing is left to do."""
    status = await jobs.retry_job(call.session, given.id, actor=call.actor)
    return 200, JobStatus.model_validate(status)


@TABLE.route("POST", "/api/jobs/failed/retry", "operate", {200: Retried})
async def retry_failed_jobs(call: Call, given: JobsOf) -> tuple[int, Retried]:
    """Begin all failed jobs again that match, at once."""
    told = await jobs.retry_failed_jobs(call.session, _filter(given), actor=call.actor)
    return 200, Retried.model_validate(told)


@TABLE.route("DELETE", "/api/jobs/failed", "operate", {200: Cleared})
async def clear_failed_jobs(call: Call, given: OfQueue) -> tuple[int, Cleared]:
    """Clear a queue's failed jobs. The audit keeps what happened."""
    told = await jobs.clear_failed_jobs(call.session, given.queue, actor=call.actor)
    return 200, Cleared.model_validate(told)


async def _status(call: Call, reservation_id: str, kind: OperationKind) -> tuple[int, JobStatus]:
    status = await jobs.get_scheduled_job_status(call.session, reservation_id, kind)
    if status is None:
        raise NotFound(f"reservation {reservation_id} never had a {kind} job")
    return 200, JobStatus.model_validate(status)


def _scheduled(found: list[dict[str, Any]]) -> ScheduledJobs:
    return ScheduledJobs(jobs=[ScheduledJob.model_validate(job) for job in found])


def _filter(given: JobsOf) -> JobFilter:
    return JobFilter(
        queues=(given.queue,) if given.queue else (),
        lock_id=given.lock,
        listing_id=given.listing,
        reservation_id=given.reservation,
    )
