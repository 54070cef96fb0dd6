"""A client of the control API, for the demo and for tests."""

from __future__ import annotations

import ssl
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import httpx2


class Control:
    """What a person at the door, or behind the cloud, could see and do."""

    def __init__(self, base_url: str, trust: ssl.SSLContext | None = None) -> None:
        # trust_env off: a proxy of the environment has no business with the loopback. None trusts
        # nobody: plain http needs no certificates, and loading them takes 50 ms.
        self._client = httpx2.Client(
            base_url=f"{base_url}/_sim",
            timeout=10,
            trust_env=False,
            verify=trust or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def devices(self) -> list[dict[str, Any]]:
        return self._list("GET", "/devices")

    def add_door(self, device_id: str, protocol: str, name: str = "") -> None:
        self._ask("POST", "/devices", {"id": device_id, "protocol": protocol, "name": name})

    def pins(self, device_id: str) -> list[dict[str, Any]]:
        """What the lock holds, digits and all."""
        return self._list("GET", f"/devices/{device_id}/pins")

    def open(self, device_id: str, pin: str) -> bool:
        """Type these digits at the door."""
        return bool(self._ask("POST", f"/devices/{device_id}/open", {"pin": pin})["opened"])

    def state(self, device_id: str, **changes: bool | int) -> None:
        """`online`, `asleep`, and for a Zigbee lock `delivery_status`."""
        self._ask("POST", f"/devices/{device_id}/state", changes)

    def wake(self, device_id: str) -> None:
        """Wake a lock for a moment, long enough to pull its list, and let it sleep again."""
        self.state(device_id, asleep=False)
        self.state(device_id, asleep=True)

    def fault(self, kind: str, match: dict[str, str] | None = None, **details: Any) -> None:
        self._ask("POST", "/faults", {"fault": kind, "match": match or {}} | details)

    def faults(self) -> list[dict[str, Any]]:
        return self._list("GET", "/faults")

    def clear_faults(self) -> None:
        self._ask("DELETE", "/faults")

    def settings(self, **changes: object) -> dict[str, Any]:
        """Change these, and return all."""
        answer: dict[str, Any] = self._ask("POST", "/settings", changes)
        return answer

    def revoke_tokens(self) -> None:
        self._ask("POST", "/tokens/revoke")

    def expire_tickets(self) -> None:
        self._ask("POST", "/tickets/expire")

    def clock(self) -> datetime:
        return datetime.fromisoformat(self._ask("GET", "/clock")["now"])

    def advance(self, seconds: float) -> None:
        self._ask("POST", "/clock", {"advance_seconds": seconds})

    def set_clock(self, instant: datetime) -> None:
        self._ask("POST", "/clock", {"set": instant.isoformat()})

    def log(self, device_id: str | None = None) -> list[dict[str, Any]]:
        return self._list("GET", "/log", device_id)

    def clear_log(self) -> None:
        self._ask("DELETE", "/log")

    def ledger(self, device_id: str | None = None) -> list[dict[str, Any]]:
        """Every PIN every lock ever held, with from and until when."""
        return self._list("GET", "/ledger", device_id)

    def _list(self, method: str, path: str, device_id: str | None = None) -> list[dict[str, Any]]:
        params = {} if device_id is None else {"device": device_id}
        answer: list[dict[str, Any]] = self._ask(method, path, params=params)
        return answer

    def _ask(
        self, method: str, path: str, body: object = None, params: dict[str, str] | None = None
    ) -> Any:
        response = self._client.request(method, path, json=body, params=params)
        if response.is_error:
            raise RuntimeError(f"{method} /_sim{path}: {response.status_code} {response.text}")
        return response.json()
