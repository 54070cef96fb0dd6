"""Audit: what happened, as the views tell it."""

from __future__ import annotations

from typing import Annotated

import typer

from pinqueue.cli.later import audit, config, tables
from pinqueue.cli.options import Json, OfStay
from pinqueue.cli.sessions import with_session

commands = typer.Typer()


@commands.command("audit")
def audit_(
    view: Annotated[str | None, typer.Argument(help="Its name; none lists them.")] = None,
    reservation: OfStay = None,
    since: Annotated[str | None, typer.Option(help="Of the last 24h, 7d, ... only.")] = None,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Run an audit view, or list them."""
    if view is None:
        tables.show(audit.views(), title="views", as_json=json, as_csv=csv)
        return
    window = config.parse_duration("since", since) if since else None
    found = with_session(lambda s: audit.view(s, view, reservation, window))
    if reservation and not (json or csv):  # room for what differs
        found = [{k: v for k, v in row.items() if k != "reservation_id"} for row in found]
    tables.show(found, title=view, as_json=json, as_csv=csv)
