"""The options and arguments that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]
CodeId = Annotated[
    int, typer.Argument(min=1, max=2**63 - 1, help="Its number in `pinqueue codes list`.")
]
StayId = Annotated[str, typer.Argument(help="The id its source gave it.")]
LogLevel = Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")]
Lead = Annotated[str | None, typer.Option(help="Program PINs so long before check-in, e.g. 1d.")]
Queue = Annotated[str | None, typer.Option(help="generate_pin or revoke_pin; both if not given.")]
JobState = Annotated[
    str | None,
    typer.Option(help="waiting, delayed, active, completed, failed or cancelled."),
]
OfLock = Annotated[str | None, typer.Option(help="Of this lock only.")]
OfListing = Annotated[str | None, typer.Option(help="Of this listing only.")]
OfStay = Annotated[str | None, typer.Option(help="Of this stay only.")]
DueFrom = Annotated[
    str | None, typer.Option(help="Due then or later: 2026-12-24T15:00Z, or 2h or -2h from now.")
]
DueBefore = Annotated[str | None, typer.Option(help="Due before then.")]
