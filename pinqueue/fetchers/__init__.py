"""Reading bookings from senders' APIs: one file per sender, with `booking` and `bookings`.

The senders' webhooks are hints: some name a booking only, some tell a part of it, some get lost.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx2

from pinqueue.errors import InputInvalid, SourceBusy, SourceRefused, SourceUnreachable
from pinqueue.fetchers import cloudbeds, guesty, hospitable, hostaway, lodgify, smoobu, stays
from pinqueue.fetchers.reading import Rooms
from pinqueue.patience import asked_wait
from pinqueue.reservations import Booking
from pinqueue.trust import authorities

TIMEOUT = httpx2.Timeout(20.0, connect=5.0)
"""For each piece of an answer, and for the connection."""
LONGEST_WAIT = 86400.0
"""Seconds. What a `Retry-After` asks beyond that is not granted."""
ANSWER_WITHIN, LARGEST_ANSWER = 60.0, 16 * 1024 * 1024
"""Seconds and bytes, inflated, of a whole answer: one that drips or never ends must not hold a
worker that has PINs to program."""


@dataclass(frozen=True)
class Api:
    """How a source's bookings are read. Stored sealed: it is as good as the sender's password."""

    url: str
    """Without a slash at its end."""
    token: str
    """An API key, or the password or secret that belongs to `user`."""
    user: str = ""
    """A login, client id or account id, for senders that want one."""

    def dump(self) -> str:
        return json.dumps(asdict(self))

    def __repr__(self) -> str:
        return f"Api({self.url!r})"


class Fetcher(Protocol):
    """How one kind of sender is read.

    A booking's version is the sender's own time of its last change where both its webhooks and its
    API tell that, else `client.asked_at` here and the time of arrival there.
    """

    URL: str
    """Where its API lives, unless the source says otherwise."""

    async def booking(self, client: Client, reservation_id: str) -> Booking | Rooms | None:
        """One booking as it is now; None when the sender has none by that id (any more)."""

    def bookings(self, client: Client, since: date, until: date) -> AsyncIterator[Booking | Rooms]:
        """Every booking, cancelled ones too, of which some night lies between these days."""


class Client:
    """Asks one source's API, and says by its errors what to do next."""

    def __init__(
        self,
        http: httpx2.AsyncClient,
        api: Api,
        asked_at: datetime,
        kept: Mapping[str, str] | None = None,
        save: Callable[[Mapping[str, str]], Awaitable[None]] | None = None,
    ) -> None:
        """`kept` is what `save` was told in an earlier run."""
        self._http = http
        self._save = save
        self.api = api
        self.asked_at = asked_at
        """By the database's clock, before anything was asked."""
        self.kept: dict[str, str] = dict(kept or {})
        """What a fetcher keeps between its requests, and what earlier runs kept for it."""

    async def keep(self, **values: str) -> None:
        """Keep this for later runs too, those of other workers included. It is stored sealed."""
        self.kept |= values
        if self._save is not None:
            await self._save(self.kept)

    async def get(self, path: str, *, headers: dict[str, str], **query: str | int) -> Any:
        """The JSON that a GET is answered with, None for 404 and 410; raises SourceError."""
        return await self.ask("GET", path, headers=headers, params=query)

    async def ask(self, method: str, path: str, **request: Any) -> Any:
        content = bytearray()
        try:
            async with (
                asyncio.timeout(ANSWER_WITHIN),
                self._http.stream(method, self.api.url + path, **request) as answer,
            ):
                async for piece in answer.aiter_bytes():
                    content += piece
                    if len(content) > LARGEST_ANSWER:
                        raise SourceUnreachable("the answer of the sender's API does not end")
        except (httpx2.HTTPError, TimeoutError) as error:
            raise SourceUnreachable(f"no answer: {type(error).__name__}") from None
        return _read(answer, content)


def _read(answer: httpx2.Response, content: bytes | bytearray) -> Any:
    if answer.status_code in (404, 410):
        return None
    if answer.status_code in (401, 403):
        raise SourceRefused(f"the sender's API answered {answer.status_code}: check its token")
    if answer.status_code == 429:
        raise SourceBusy("the sender's API asks for patience", retry_after=_retry_after(answer))
    if answer.status_code != 200:
        raise SourceUnreachable(f"the sender's API answered {answer.status_code}")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise SourceUnreachable("the sender's API answered with something else than JSON") from None
    if found is None:  # it would read like a 404
        raise SourceUnreachable("the sender's API answered with nothing")
    return found


def _retry_after(answer: httpx2.Response) -> float | None:
    text = answer.headers.get("retry-after", "")
    if not text and (until := answer.headers.get("x-ratelimit-retry-after", "")).isdecimal():
        return max(float(until[:12]) - datetime.now(UTC).timestamp(), 0)  # Smoobu tells an instant
    return asked_wait(text, LONGEST_WAIT)


def http_client() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        verify=authorities(), timeout=TIMEOUT, follow_redirects=False, trust_env=False
    )


def checked_api(kind: str, url: str, token: str, user: str) -> Api:
    """An Api, its URL the sender's own where none is given; raises InputInvalid."""
    if kind not in FETCHERS:
        raise InputInvalid("api", f"{kind} has no API that PinQueue reads")
    url = (url or FETCHERS[kind].URL).rstrip("/")
    parts = urlsplit(url)
    loopback = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and loopback)):
        raise InputInvalid("api_url", "must be https, or http on loopback: it carries the token")
    if not token:
        raise InputInvalid("api_token", "is needed to read the sender's API")
    return Api(url, token, user)


FETCHERS: dict[str, Fetcher] = {
    "stays": stays,
    "hospitable": hospitable,
    "hostaway": hostaway,
    "lodgify": lodgify,
    "guesty": guesty,
    "cloudbeds": cloudbeds,
    "smoobu": smoobu,
}
"""By source kind; a sender whose API is not read has none."""

ENDS: dict[str, frozenset[str]] = {
    "cloudbeds": frozenset({"reservation/deleted"}),
    "smoobu": frozenset({"cancelReservation", "deleteReservation"}),
}
"""By source kind: the types of events that end a booking. The API need not have it any more then,
and the two together are no mere absence."""
