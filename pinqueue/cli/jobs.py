"""Jobs: see, schedule, cancel and retry what rings for PINs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pinqueue.cli.later import alarms, config, jobs, reservations, store, tables
from pinqueue.cli.later import queue as queues
from pinqueue.cli.options import (
    DueBefore,
    DueFrom,
    JobState,
    Json,
    Lead,
    OfListing,
    OfLock,
    OfStay,
    Queue,
    StayId,
)
from pinqueue.cli.printing import tell
from pinqueue.cli.sessions import actor, configured_planner, with_session
from pinqueue.errors import InputInvalid, NotFound

if TYPE_CHECKING:
    from pinqueue.db import Session

COLUMNS = ("job_id", "queue", "state", "reservation_id", "lock_id", "scheduled_at", "attempts")

commands = typer.Typer(no_args_is_help=True, help="What rings for PINs to be put on and taken off.")


@commands.command("list")
def jobs_list(
    queue: Queue = None,
    state: JobState = None,
    lock: OfLock = None,
    listing: OfListing = None,
    reservation: OfStay = None,
    due_from: DueFrom = None,
    due_before: DueBefore = None,
    order: Annotated[str, typer.Option(help="next or newest first.")] = "next",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    json: Json = False,
) -> None:
    """List jobs, a page at a time."""
    if order not in ("next", "newest"):
        raise InputInvalid("order", f"must be next or newest, not {order!r}")
    which = _filter(queue, state, lock, listing, reservation, due_from, due_before)
    page = with_session(
        lambda s: jobs.find_jobs(
            s, which, newest_first=order == "newest", cursor=cursor, limit=limit
        )
    )
    if json:
        typer.echo(tables.dumps({"jobs": page.jobs, "next_cursor": page.next_cursor}))
        return
    tables.show([{key: job[key] for key in COLUMNS} for job in page.jobs], title="jobs")
    if page.next_cursor:
        typer.echo(f"more: --cursor {page.next_cursor}")


@commands.command("status")
def jobs_status(
    reservation: StayId,
    kind: Annotated[str, typer.Argument(help="generate or revoke.")],
    json: Json = False,
) -> None:
    """Show how a stay's PIN fares: put on, or taken off."""
    status = with_session(lambda s: jobs.get_scheduled_job_status(s, reservation, kind))
    if status is None:
        raise NotFound(f"reservation {reservation} never had a {kind} job")
    if json:
        typer.echo(tables.dumps(status))
        return
    told = {key: value for key, value in status.items() if key != "data"}
    data = {key: value for key, value in status["data"].items() if key != "locks"}
    tables.show_facts({**told, **data}, title=f"{kind} of {reservation}")
    tables.show(status["data"]["locks"], title="locks")


@commands.command("schedule")
def jobs_schedule(
    reservation: StayId,
    check_in: Annotated[str | None, typer.Option(help="Move the check-in there.")] = None,
    check_out: Annotated[str | None, typer.Option(help="Move the check-out there.")] = None,
    lead: Lead = None,
    json: Json = False,
) -> None:
    """Schedule a confirmed stay's PINs, again where they were cancelled, or at other times."""
    planner = configured_planner()
    before = config.parse_duration("lead", lead) if lead else None

    async def schedule(session: Session) -> dict[str, Any]:
        now = await store.now(session)
        # Both dates at once: one after the other, the stay might end before it begins.
        moved = {"check_in": check_in, "check_out": check_out}
        await reservations.schedule(
            session, planner, actor(), reservation, now, **moved, lead=before
        )
        return {
            kind: await jobs.get_scheduled_job_status(session, reservation, kind)
            for kind in alarms.QUEUES
        }

    planned = with_session(schedule)
    if json:
        typer.echo(tables.dumps(planned))
        return
    found = [
        {"kind": kind, **lock}
        for kind, job in planned.items()
        for lock in (job["data"]["locks"] if job else ())
    ]
    tables.show(found, title=f"jobs of {reservation}")


@commands.command("cancel")
def jobs_cancel(reservation: StayId, json: Json = False) -> None:
    """Cancel what is scheduled for a stay, until it is scheduled again. No PIN stays on a door."""
    told = with_session(lambda s: jobs.cancel_scheduled_jobs(s, reservation, actor=actor()))
    gone = [name.removesuffix("_cancelled") for name, cancelled in told.items() if cancelled]
    text = f"{reservation}: cancelled {' and '.join(gone)}" if gone else "nothing was scheduled"
    tell(json, text, **told)


@commands.command("retry")
def jobs_retry(
    job: Annotated[
        int | None,
        typer.Argument(min=1, max=2**63 - 1, help="Its number in `pinqueue jobs list`."),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All failed ones that match.")] = False,
    queue: Queue = None,
    lock: OfLock = None,
    listing: OfListing = None,
    reservation: OfStay = None,
    due_from: DueFrom = None,
    due_before: DueBefore = None,
    json: Json = False,
) -> None:
    """Begin a failed job again, at once; or all that match."""
    filters = (queue, lock, listing, reservation, due_from, due_before)
    if (job is None) != all_ or (job is not None and any(filters)):
        raise typer.BadParameter("give the number of a job, or --all with filters")
    if job is not None:
        status = with_session(lambda s: jobs.retry_job(s, job, actor=actor()))
        tell(json, f"job {job} begun again as job {status['job_id']}", **status)
        return
    which = _filter(queue, None, lock, listing, reservation, due_from, due_before)
    told = with_session(lambda s: jobs.retry_failed_jobs(s, which, actor=actor()))
    tell(json, f"{told['retried']} begun again, {told['left']} left", **told)


@commands.command("clear-failed")
def jobs_clear_failed(queue: Queue = None, json: Json = False) -> None:
    """Delete failed jobs. The audit views keep what happened."""

    async def clear(session: Session) -> dict[str, int]:
        names = [queue] if queue else list(alarms.QUEUES.values())
        done = [await jobs.clear_failed_jobs(session, n, actor=actor()) for n in names]
        return {"cleared": sum(one["cleared"] for one in done)}

    told = with_session(clear)
    tell(json, f"{told['cleared']} failed jobs cleared", **told)


def _filter(
    queue: str | None,
    state: str | None,
    lock: str | None,
    listing: str | None,
    reservation: str | None,
    due_from: str | None,
    due_before: str | None,
) -> queues.JobFilter:
    return queues.JobFilter(
        queues=(queue,) if queue else (),
        state=state,
        lock_id=lock,
        listing_id=listing,
        reservation_id=reservation,
        due_from=config.parse_instant("due-from", due_from) if due_from else None,
        due_before=config.parse_instant("due-before", due_before) if due_before else None,
    )
