"""Listings: set up the rented units, their times and their locks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pinqueue.cli.later import audit, config, inventory, tables, webhooks
from pinqueue.cli.options import Json, Lead
from pinqueue.cli.printing import tell
from pinqueue.cli.sessions import actor, configured_planner, rows, with_session

if TYPE_CHECKING:
    from pinqueue.db import Session

commands = typer.Typer(no_args_is_help=True, help="The rented units, with their locks.")


@commands.command("add")
def listings_add(
    listing: Annotated[str, typer.Argument(help="The id its webhooks use.")],
    time_zone: Annotated[str, typer.Option(help="IANA name, e.g. America/Sao_Paulo.")],
    lock: Annotated[list[str] | None, typer.Option(help="A lock of it. May be repeated.")] = None,
    lead: Lead = None,
    json: Json = False,
) -> None:
    """Add a listing. Bookings that came in for it before are taken up now."""
    planner = configured_planner()
    before = config.parse_duration("lead", lead) if lead else None

    async def add(session: Session) -> int:
        await inventory.add_listing(session, actor(), listing, time_zone, lock or [], before)
        return await webhooks.adopt_unmapped(session, planner, listing)

    adopted = with_session(add)
    text = f"listing {listing} added" + f", {adopted} waiting events taken up" * bool(adopted)
    tell(json, text, listing=listing, time_zone=time_zone, locks=lock or [], taken_up=adopted)


@commands.command("set")
def listings_set(
    listing: str,
    check_in: Annotated[
        str | None, typer.Option(help="Local time for stays told by date alone, e.g. 15:00.")
    ] = None,
    check_out: Annotated[str | None, typer.Option(help="The same at the end, e.g. 11:00.")] = None,
    buffer_before: Annotated[
        str | None, typer.Option(help="PINs open so long before check-in, e.g. 15m.")
    ] = None,
    buffer_after: Annotated[str | None, typer.Option(help="and so long after check-out.")] = None,
    lead: Lead = None,
    json: Json = False,
) -> None:
    """Change a listing's times. Stays ahead follow buffers and lead."""
    if not any((check_in, check_out, buffer_before, buffer_after, lead)):
        raise typer.BadParameter("give at least one of the times to change")
    planner = configured_planner()
    durations = {
        name: config.parse_duration(name.replace("_", "-"), text) if text is not None else None
        for name, text in {
            "buffer_before": buffer_before,
            "buffer_after": buffer_after,
            "lead": lead,
        }.items()
    }
    ahead = with_session(
        lambda s: inventory.set_listing(
            s,
            planner,
            actor(),
            listing,
            check_in_time=check_in,
            check_out_time=check_out,
            **durations,
        )
    )
    tell(json, f"listing {listing} changed; {ahead} stays ahead planned", listing=listing)


@commands.command("link")
def listings_link(listing: str, lock: str, json: Json = False) -> None:
    """Add a lock to a listing. Stays ahead get a PIN on it too."""
    planner = configured_planner()
    planned = with_session(lambda s: inventory.link_lock(s, planner, actor(), listing, lock))
    text = f"lock {lock} belongs to listing {listing}; {planned} stays ahead planned"
    tell(json, text, listing=listing, lock=lock, stays_planned=planned)


@commands.command("unlink")
def listings_unlink(listing: str, lock: str, json: Json = False) -> None:
    """Take a lock from a listing. Its guests' PINs come off that lock."""
    planner = configured_planner()
    ahead = with_session(lambda s: inventory.unlink_lock(s, planner, actor(), listing, lock))
    text = f"lock {lock} belongs to listing {listing} no more; {ahead} stays ahead planned"
    tell(json, text, listing=listing, lock=lock, stays_planned=ahead)


@commands.command("list")
def listings_list(json: Json = False) -> None:
    """List the listings with their locks."""
    tables.show(rows(audit.LISTINGS), title="listings", as_json=json)
