"""Bench: how fast it is, and what is lost when everything breaks."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from pinqueue import garbage
from pinqueue.cli.later import bench, chaos, logs, tables, uvloop
from pinqueue.cli.options import Json

commands = typer.Typer()


@commands.command("bench")
def bench_(
    name: Annotated[
        str,
        typer.Argument(help="late, rush, drain, pending, ingest, all, memory, year or chaos."),
    ],
    peer: Annotated[
        Path | None, typer.Option(help="The peer's programs: they do the same work, in turn.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Times each side does the work.")] = 3,
    scale: Annotated[
        float, typer.Option(min=0.001, max=1, help="Share of the work, for a quick look.")
    ] = 1.0,
    plots: Annotated[
        Path,
        typer.Option(exists=True, file_okay=False, help="Where `pending` and `year` draw."),
    ] = Path(),
    strikes: Annotated[int, typer.Option(min=1, help="Of `chaos`: how many.")] = 100,
    fault: Annotated[
        list[str] | None, typer.Option(help="Of `chaos`: one kind of strike; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of `chaos`: the same strikes again.")] = 1,
    beside: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Of `chaos`: a checkout of another version, put in ours' place by `deploy`.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure what the README says of speed, or break everything and count what is lost, on a
    PostgreSQL of its own. Leaves nothing behind."""
    logs.set_up(level="ERROR")
    garbage.look_seldom()

    def tell(line: str) -> None:
        typer.echo(line, err=True)

    try:
        if name == "chaos":
            striking = chaos.run(
                faults=fault or [], strikes=strikes, seed=seed, tell=tell, beside=beside
            )
            found = uvloop.run(striking)
            if json:
                typer.echo(tables.dumps(found))
            else:
                tables.show_facts(found, title="chaos")
            sys.exit(0 if found["holds"] else 1)
        measured = uvloop.run(
            bench.run(name, peer=peer, rounds=rounds, scale=scale, plots=plots, tell=tell)
        )
    except asyncio.CancelledError:
        tell("stopped")
        sys.exit(130)
    tables.show_bench(measured, as_json=json)
