"""Simulator: a Tuya cloud with doors, for trying and testing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pinqueue import garbage
from pinqueue.cli.later import logs, processes, simulator
from pinqueue.cli.options import Host, Port
from pinqueue.errors import InputInvalid
from pinqueue.pins import LENGTHS

commands = typer.Typer()


@commands.command("simulator")
def simulator_(
    host: Host = "127.0.0.1",
    port: Port = 7777,
    device: Annotated[
        list[str] | None, typer.Option(help="A door, ID:PROTOCOL. May be given several times.")
    ] = None,
    access_id: Annotated[str | None, typer.Option(help="A made-up one if not given.")] = None,
    access_secret: Annotated[str | None, typer.Option(help="The same.")] = None,
    https: Annotated[
        Path | None,
        typer.Option(help="Serve https, and put the certificate to trust into this folder."),
    ] = None,
) -> None:
    """Run a Tuya cloud with simulated doors, for trying and testing."""
    logs.set_up()
    pairs = [tuple(text.rsplit(":", 1)) for text in device or []]
    if any(len(pair) != 2 or pair[1] not in LENGTHS for pair in pairs):
        raise InputInvalid("--device", f"write ID:PROTOCOL, the protocol {', '.join(LENGTHS)}")
    doors = [(p[0], p[1]) for p in pairs] or list(simulator.DEFAULT_DEVICES)
    processes.insist_free(host, port)
    logs.get(__name__).info(
        "simulator-started", host=host, port=port, doors=[door for door, _ in doors]
    )
    garbage.look_seldom()
    simulator.run(
        host,
        port,
        access_id or simulator.ACCESS_ID,
        access_secret or simulator.ACCESS_SECRET,
        doors,
        https,
    )
