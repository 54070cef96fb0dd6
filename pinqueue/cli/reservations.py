"""Reservations: see, make and change stays, with or without a property system."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pinqueue.cli.later import audit, config, forgetting, jobs, reservations, store, tables
from pinqueue.cli.options import Json, Lead, OfListing, StayId
from pinqueue.cli.printing import tell
from pinqueue.cli.sessions import actor, configured_planner, with_session
from pinqueue.lifecycle import ReservationStatus

if TYPE_CHECKING:
    from pinqueue.db import Session

commands = typer.Typer(no_args_is_help=True, help="Stays, with or without a property system.")


@commands.command("list")
def reservations_list(
    listing: OfListing = None,
    status: Annotated[str | None, typer.Option(help="pending, confirmed or cancelled.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the latest first.")] = 100,
    json: Json = False,
) -> None:
    """List stays, the latest check-in first."""
    asked = {"listing": listing, "status": status, "limit": limit}
    found = with_session(lambda s: audit.stays(s, **asked))
    tables.show(found, title="reservations", as_json=json)


@commands.command("export")
def reservations_export(reservation: StayId, json: Json = False) -> None:
    """Show all that is stored of a stay and its guest, without its PINs."""
    found = with_session(lambda s: forgetting.export(s, reservation))
    if json:
        typer.echo(tables.dumps(found))
        return
    for kind, rows in found.items():
        tables.show(rows, title=kind)


@commands.command("erase")
def reservations_erase(reservation: StayId, json: Json = False) -> None:
    """Forget the guest of a stay: name, phone, and what its webhooks told. Its PIN goes on."""
    with_session(lambda s: forgetting.erase(s, actor(), reservation))
    tell(json, f"the guest of {reservation} is forgotten", reservation=reservation, erased=True)


@commands.command("show")
def reservations_show(reservation: StayId, json: Json = False) -> None:
    """Show a stay and its access codes, without their PINs."""
    found = with_session(lambda s: audit.stay(s, reservation))
    if json:
        typer.echo(tables.dumps(found))
        return
    tables.show_facts({k: v for k, v in found.items() if k != "codes"}, title=reservation)
    tables.show(found["codes"], title="codes")


@commands.command("put")
def reservations_put(
    reservation: Annotated[str, typer.Argument(help="An id of your own for it.")],
    listing: Annotated[str, typer.Option(help="The unit.")],
    check_in: Annotated[
        str, typer.Option(help="2026-12-24T15:00; without offset, in the listing's time zone.")
    ],
    check_out: Annotated[str, typer.Option(help="Written the same.")],
    guest: Annotated[str | None, typer.Option(help="The guest's name.")] = None,
    lead: Lead = None,
    pending: Annotated[bool, typer.Option("--pending", help="No PIN until confirmed.")] = False,
    json: Json = False,
) -> None:
    """Create or change a stay that no property system tells of."""
    planner = configured_planner()
    before = config.parse_duration("lead", lead) if lead else None

    async def put(session: Session) -> dict[str, Any]:
        now = await store.now(session)
        booking = reservations.Booking(
            reservation_id=reservation,
            status=ReservationStatus.PENDING if pending else ReservationStatus.CONFIRMED,
            updated_at=now,
            event_at=now,
            event_id=secrets.token_hex(8),
            listing_id=listing,
            check_in=check_in,
            check_out=check_out,
            guest_name=guest,
            lead=before,
        )
        await reservations.put(session, planner, actor(), booking, now)
        return await audit.stay(session, reservation)

    _tell_stay(json, with_session(put))


@commands.command("grant")
def reservations_grant(
    reservation: StayId,
    early_check_in: Annotated[
        str | None, typer.Option(help="In place of check-in; '' takes it back.")
    ] = None,
    late_check_out: Annotated[
        str | None, typer.Option(help="In place of check-out; '' takes it back.")
    ] = None,
    json: Json = False,
) -> None:
    """Let a guest in earlier, or out later, than was booked. The listing's buffers stay."""
    if early_check_in is None and late_check_out is None:
        raise typer.BadParameter("give --early-check-in or --late-check-out")
    planner = configured_planner()

    async def grant(session: Session) -> dict[str, Any]:
        now = await store.now(session)
        await reservations.grant(
            session,
            planner,
            actor(),
            reservation,
            now,
            early_check_in=early_check_in,
            late_check_out=late_check_out,
        )
        return await audit.stay(session, reservation)

    _tell_stay(json, with_session(grant))


@commands.command("confirm")
def reservations_confirm(reservation: StayId, json: Json = False) -> None:
    """Confirm a stay and schedule its PINs."""
    planner = configured_planner()

    async def confirm(session: Session) -> dict[str, Any]:
        now = await store.now(session)
        await reservations.confirm(session, planner, actor(), reservation, now)
        return await audit.stay(session, reservation)

    _tell_stay(json, with_session(confirm))


@commands.command("cancel")
def reservations_cancel(reservation: StayId, json: Json = False) -> None:
    """Cancel a stay: its PINs come off, or are never put on."""
    planner = configured_planner()

    async def cancel(session: Session) -> tuple[dict[str, Any], dict[str, bool]]:
        cancelled = await jobs.cancel_scheduled_jobs(session, reservation, actor=actor())
        now = await store.now(session)
        await reservations.cancel(session, planner, actor(), reservation, now)
        return await audit.stay(session, reservation), cancelled

    stay, cancelled = with_session(cancel)
    _tell_stay(json, stay, **cancelled)


def _tell_stay(json: bool, stay: dict[str, Any], **facts: Any) -> None:
    codes_ = ", ".join(f"{code['lock_id']} {code['state']}" for code in stay["codes"])
    text = f"reservation {stay['reservation_id']} is {stay['status']}; codes: {codes_ or 'none'}"
    tell(json, text, **stay, **facts)
