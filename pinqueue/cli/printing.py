"""What a command prints: what it did, as text or as JSON, and why it did not."""

from __future__ import annotations

import json as jsonlib
import re
from typing import Any

import typer

from pinqueue.cli.later import tables
from pinqueue.errors import InputInvalid, PinQueueError


def tell(json: bool, text: str, **facts: Any) -> None:
    """What was done: a text, or the facts of it."""
    typer.echo(tables.dumps(facts) if json else text)


def failure_as_text(error: PinQueueError) -> str:
    return typer.style("pinqueue:", fg="red") + f" {error}"


def failure_as_json(error: PinQueueError) -> str:
    """With the code that the API has for it."""
    if isinstance(error, InputInvalid):
        fault = {"field": error.field, "message": str(error).removeprefix(f"{error.field}: ")}
        return as_json("invalid_input", str(error), fault)
    name = type(error).__name__.removeprefix("Database")
    return as_json(re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower(), str(error))


def as_json(code: str, message: str, *details: dict[str, str]) -> str:
    """A failure in the shape of the API's errors."""
    return jsonlib.dumps({"error": {"code": code, "message": message, "details": details}})
