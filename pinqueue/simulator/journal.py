"""The request log: what was called, what came of it. Never a secret, token, body or PIN."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Final

LENGTH: Final = 200_000


@dataclass
class Entry:
    at: str
    """When the call came, by the simulated clock."""
    method: str
    path: str
    """Without its query; a refresh token in it is masked."""
    device: str | None
    api: str | None = None
    """The call by its pattern; None where it was refused before its path was looked at."""
    name: str | None = None
    password_id: int | None = None
    performed: bool = False
    """Whether it was carried out, whatever the caller was told."""
    code: int | None = None
    """The error code of the outcome; None is success."""
    status: int | None = None
    """The HTTP status sent; None where no answer was."""
    fault: str | None = None
    ms: float = 0


class Journal:
    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=LENGTH)

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)

    def clear(self) -> None:
        self._entries.clear()

    def as_json(self, device: str | None = None) -> list[dict[str, object]]:
        return [asdict(e) for e in self._entries if device in (None, e.device)]


def masked(path: str) -> str:
    head = "/v1.0/token/"
    return head + "***" if path.startswith(head) else path
