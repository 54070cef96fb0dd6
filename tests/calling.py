"""What tests of the API do: make keys, call a served application with them, look at the answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from pinqueue import inventory
from tests.serving import Answer, Web

_numbers = count(1)


def new_key(web: Web, *scopes: str, name: str | None = None) -> str:
    name = name or f"key-{next(_numbers)}"

    async def create(db: Any, planner: Any) -> str:
        async with db.transaction() as session:
            return await inventory.create_key(session, "test", name, scopes or ("admin",))

    return web.do(create)


@dataclass(frozen=True)
class Client:
    """Somebody with a key, or without."""

    web: Web
    key: str | None = None

    def call(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> Answer:
        sent = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        raw = b""
        if body is not None:
            sent["Content-Type"] = "application/json"
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.web.post(raw, sent | (headers or {}), path, method)

    def get(self, path: str) -> Any:
        return self.told(200, "GET", path)

    def told(self, status: int, method: str, path: str, body: object = None) -> Any:
        """What an answer of that status holds."""
        answer = self.call(method, path, body)
        assert answer.status == status, answer
        return answer.json()

    def refused(self, status: int, method: str, path: str, body: object = None) -> dict[str, Any]:
        """The error that an answer of that status holds."""
        told = self.told(status, method, path, body)
        assert set(told) == {"error"}
        error: dict[str, Any] = told["error"]
        assert set(error) == {"code", "message", "details"}
        assert all(set(fault) == {"field", "message"} for fault in error["details"])
        return error

    def with_key(self, key: str | None) -> Client:
        return replace(self, key=key)


def client(web: Web, *scopes: str) -> Client:
    return Client(web, new_key(web, *scopes))


def stay(**changes: Any) -> dict[str, Any]:
    """The body of a PUT: a confirmed stay from tomorrow for two days."""
    now = datetime.now(UTC).replace(microsecond=0)
    values = {
        "listing_id": "apt-7",
        "check_in": (now + timedelta(days=1)).isoformat(),
        "check_out": (now + timedelta(days=3)).isoformat(),
    }
    return values | changes


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def soon(**ahead: float) -> str:
    return (datetime.now(UTC).replace(microsecond=0) + timedelta(**ahead)).isoformat()
