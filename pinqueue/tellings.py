"""RULE: what counts of all that was told of a stay: of each field the newest telling.

Senders tell a stay in any order, late and twice, and some tell a part of it. Field by field the
newest telling wins, so what counts in the end is the same in whatever order they arrive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, order=True)
class Version:
    """Orders any two tellings of one stay the same way, whichever arrives first."""

    updated_at: datetime
    """When the sender last changed the stay."""
    event_at: datetime
    cancels: bool
    """Of two that tell of the same moment, a cancel comes last: no PIN is the safer mistake."""
    event_id: str


@dataclass(frozen=True)
class Telling:
    """One telling of a stay, whole or in part, in the sender's own words."""

    version: Version
    fields: dict[str, str]


def merge(told: Sequence[Telling], new: Telling) -> list[Telling]:
    """All tellings that still count, the newest first, each without what a newer one tells.

    The same as `told` when the new one is stale: everything it tells is told anew already.
    """
    merged: list[Telling] = []
    seen: set[str] = set()
    for telling in sorted([*told, new], key=lambda one: one.version, reverse=True):
        fields = {name: text for name, text in telling.fields.items() if name not in seen}
        seen |= fields.keys()
        if fields:
            merged.append(replace(telling, fields=fields))
    return merged


def current(told: Sequence[Telling]) -> dict[str, str]:
    """What counts of each field; one that nobody told is missing."""
    return {name: text for telling in told for name, text in telling.fields.items()}


def dump(told: Sequence[Telling]) -> list[dict[str, Any]]:
    """As JSON, for the stay's row."""
    return [
        {
            "updated_at": one.version.updated_at.astimezone(UTC).isoformat(),
            "event_at": one.version.event_at.astimezone(UTC).isoformat(),
            "cancels": one.version.cancels,
            "event_id": one.version.event_id,
            "fields": one.fields,
        }
        for one in told
    ]


def load(stored: Sequence[dict[str, Any]]) -> list[Telling]:
    return [
        Telling(
            Version(
                datetime.fromisoformat(one["updated_at"]),
                datetime.fromisoformat(one["event_at"]),
                one["cancels"],
                one["event_id"],
            ),
            one["fields"],
        )
        for one in stored
    ]
