"""The command line: every command, nothing else. Each composes what it needs, calls one verb."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from pinqueue import garbage
from pinqueue.cli import (
    audit,
    bench,
    codes,
    endpoints,
    jobs,
    keys,
    listings,
    locks,
    processes,
    reservations,
    simulator,
    sources,
    upkeep,
)
from pinqueue.cli.printing import as_json, failure_as_json, failure_as_text
from pinqueue.errors import ConfigInvalid, InputInvalid, PinQueueError, PortTaken

EXITS = {ConfigInvalid: 2, InputInvalid: 2, PortTaken: 3}
EXIT_CODES = (
    "Exit codes: 0 done; 1 refused or failed, with a message, or not healthy; 2 wrong settings or"
    " input; 3 the port is taken. With --json a message is one JSON object on stderr."
)

cli = typer.Typer(
    no_args_is_help=True,
    help="Door PINs that work exactly when they should.",
    epilog=EXIT_CODES,
)
for own in (processes, upkeep, simulator, bench, audit):
    cli.add_typer(own.commands)
for name, group in {
    "jobs": jobs,
    "reservations": reservations,
    "locks": locks,
    "listings": listings,
    "sources": sources,
    "endpoints": endpoints,
    "keys": keys,
    "codes": codes,
}.items():
    cli.add_typer(group.commands, name=name)


def main() -> None:
    """Run the command line; a foreseen failure is one message and the exit code of its kind."""
    garbage.look_hardly()
    json = "--json" in sys.argv
    try:
        sys.exit(cli(standalone_mode=not json))
    except TyperException as error:  # wrong usage, which Typer tells itself where it is for people
        typer.echo(as_json("usage", error.format_message()), err=True)
        sys.exit(error.exit_code)
    except PinQueueError as error:
        typer.echo(failure_as_json(error) if json else failure_as_text(error), err=True)
        sys.exit(next((code for kind, code in EXITS.items() if isinstance(error, kind)), 1))


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"pinqueue {version('pinqueue')}")
        raise typer.Exit


@cli.callback()
def root(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    try:
        "".join(sys.argv).encode()
    except UnicodeEncodeError:  # it would get as far as the database, and end in a traceback
        raise typer.BadParameter("an argument is not UTF-8") from None
