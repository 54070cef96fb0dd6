"""Who calls the API: a key, proved by its hash, and what its scopes let it do."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from typing import Final

from pinqueue import inventory
from pinqueue.db import Session
from pinqueue.store import keys

GRANTS: Final = {
    "read": frozenset({"read"}),
    "operate": frozenset({"operate", "read"}),
    "reveal": frozenset({"reveal", "read"}),
    "admin": frozenset(inventory.SCOPES),
}
"""What each scope of a key lets it do. Who operates does not see PINs."""

_KEY = re.compile(r"pq_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")
_NO_HASH = bytes(32)


@dataclass(frozen=True)
class Caller:
    """Whose key it is, and all that it may do."""

    name: str
    scopes: frozenset[str]

    @property
    def actor(self) -> str:
        return f"key:{self.name}"


def is_key(text: str) -> bool:
    """Whether it could be a key at all: nobody asks the database about anything else."""
    return _KEY.fullmatch(text) is not None


async def caller(session: Session, key: str) -> Caller | None:
    """None for what is no key, not ours, or revoked: which of them, nobody is told."""
    shape = _KEY.fullmatch(key)
    if shape is None:
        return None
    found = await keys.api_key(session, shape[1])
    proved = hmac.compare_digest(found.key_sha256 if found else _NO_HASH, inventory.key_hash(key))
    if found is None or not proved or found.revoked_at is not None:
        return None
    await keys.note_key_use(session, found)
    return Caller(found.name, frozenset().union(*(GRANTS[scope] for scope in found.scopes)))
