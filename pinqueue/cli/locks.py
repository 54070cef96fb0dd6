"""Locks: set up the devices on the doors."""

from __future__ import annotations

from typing import Annotated

import typer

from pinqueue.cli.later import audit, inventory, tables
from pinqueue.cli.options import Json
from pinqueue.cli.printing import tell
from pinqueue.cli.sessions import actor, configured_planner, rows, with_session

commands = typer.Typer(no_args_is_help=True, help="The devices on the doors.")


@commands.command("add")
def locks_add(
    lock: Annotated[str, typer.Argument(help="A name of your own for it.")],
    device_id: Annotated[str, typer.Option(help="Tuya's id of the device.")],
    protocol: Annotated[str, typer.Option(help="wifi, zigbee or bluetooth.")],
    json: Json = False,
) -> None:
    """Add a lock."""
    with_session(lambda s: inventory.add_lock(s, actor(), lock, device_id, protocol))
    tell(json, f"lock {lock} added", lock=lock, device_id=device_id, protocol=protocol)


@commands.command("set")
def locks_set(
    lock: str,
    device_id: Annotated[str | None, typer.Option(help="Tuya's id of the device.")] = None,
    protocol: Annotated[str | None, typer.Option(help="wifi, zigbee or bluetooth.")] = None,
    json: Json = False,
) -> None:
    """Correct a lock that was added wrongly, while its device holds no PIN."""
    if device_id is None and protocol is None:
        raise typer.BadParameter("give --device-id or --protocol")
    planner = configured_planner()
    ahead = with_session(
        lambda s: inventory.set_lock(
            s, planner, actor(), lock, device_id=device_id, protocol=protocol
        )
    )
    tell(json, f"lock {lock} changed; {ahead} stays planned", lock=lock, stays_planned=ahead)


@commands.command("list")
def locks_list(json: Json = False) -> None:
    """List the locks and the listings they belong to."""
    tables.show(rows(audit.LOCKS), title="locks", as_json=json)
