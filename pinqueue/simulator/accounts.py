"""The project's account: access tokens, its plan, and how often it may call."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pinqueue.simulator.replies import Refusal
from pinqueue.simulator.settings import Settings

TOKEN_LIFE_SECONDS: Final = 7200


@dataclass(frozen=True)
class Token:
    access: str
    refresh: str
    expires: float


class Tokens:
    """One living token pair for the project, shared by all its processes (tuya.md 4.1)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._token: Token | None = None

    def issue(self, now: float) -> dict[str, object]:
        """The living pair with the seconds it has left, or a new one."""
        if self._token is None or self._token.expires - now < 1:
            self._token = _new_token(now)
        return _as_result(self._token, now)

    def refresh(self, refresh_token: str, now: float) -> dict[str, object]:
        """A new pair. The old one is dead from here on, its refresh token too."""
        if self._token is None or self._token.refresh != refresh_token:
            raise self._refusal("token invalid")
        self._token = _new_token(now)
        return _as_result(self._token, now)

    def revoke(self) -> None:
        self._token = None

    def check(self, access_token: str | None, now: float) -> None:
        if not access_token:
            raise Refusal(1002)
        if self._token is None or self._token.access != access_token:
            raise self._refusal("token invalid")
        if self._token.expires <= now:
            raise self._refusal("token is expired")

    def _refusal(self, what_happened: str) -> Refusal:
        return Refusal(self._settings.token_code, self._settings.token_text or what_happened)


class Allowance:
    """How often the project may call: the plan, the month's quota, each API's second."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._by_month: Counter[str] = Counter()
        self._second = 0
        self._by_api: Counter[str] = Counter()

    def spend(self, api: str, now: float, *, metered: bool) -> None:
        """Count one call of that API. Token calls are not metered, but their rate is limited."""
        if metered:
            self._spend_quota(now)
        limit = self._settings.rate_per_second
        if limit is None:
            return
        if int(now) != self._second:
            self._second = int(now)
            self._by_api.clear()
        self._by_api[api] += 1
        if self._by_api[api] > limit:
            raise Refusal(self._settings.rate_code)

    def _spend_quota(self, now: float) -> None:
        if self._settings.subscription_code is not None:
            raise Refusal(self._settings.subscription_code)
        quota = self._settings.monthly_quota
        month = datetime.fromtimestamp(now, UTC).strftime("%Y-%m")
        self._by_month[month] += 1
        if quota is not None and self._by_month[month] > quota:
            raise Refusal(28841004)


def _new_token(now: float) -> Token:
    return Token(secrets.token_hex(16), secrets.token_hex(16), now + TOKEN_LIFE_SECONDS)


def _as_result(token: Token, now: float) -> dict[str, object]:
    return {
        "access_token": token.access,
        "expire_time": int(token.expires - now),
        "refresh_token": token.refresh,
        "uid": "bay0000000000000sim",
    }
