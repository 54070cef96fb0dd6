"""Every sender in one table: how it proves itself, and how its API is played and read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from pinqueue.fetchers import Api
from tests import factories
from tests.senders import guesty, hospitable, lodgify, pinqueue, playing, stays
from tests.senders.cloudbeds import Cloudbeds
from tests.senders.hostaway import Hostaway
from tests.senders.smoobu import Smoobu
from tests.serving import Answer, Web

Json = dict[str, Any]
Sign = Callable[[bytes, str], dict[str, str]]
"""The headers of a body, signed with a secret."""
Reads = Callable[..., AbstractContextManager[Api | None]]
"""Plays an API that has these bookings, and says how it is read. It tells them as they are then."""


@dataclass(frozen=True)
class Sender:
    kind: str
    secret: str
    listing: str
    """What it calls the listing of its published payload."""
    sign: Sign | None = None
    """None: its secret is in its path."""
    api: Reads = lambda *bookings: nullcontext()
    """Our own kind has none."""

    def post(self, web: Web, body: bytes | Json, source: str = "", secret: str = "") -> Answer:
        """To the source that is called as its kind is, proved by the sender's own secret, unless
        said otherwise."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.post(raw, self.headers(raw, secret), self.path(source, secret))

    def headers(self, raw: bytes, secret: str = "") -> dict[str, str]:
        return self.sign(raw, secret or self.secret) if self.sign else dict(playing.JSON)

    def path(self, source: str = "", secret: str = "") -> str:
        path = f"/webhooks/{source or self.kind}"
        return path if self.sign else f"{path}/{secret or self.secret}"


@contextmanager
def _stays(*bookings: Json) -> Iterator[Api]:
    with stays.api(*bookings) as played:
        yield Api(played.url, stays.PASSWORD, stays.LOGIN)


@contextmanager
def _hospitable(*bookings: Json) -> Iterator[Api]:
    with hospitable.api(*bookings) as played:
        yield Api(f"{played.url}/v2", hospitable.TOKEN)


@contextmanager
def _lodgify(*bookings: Json) -> Iterator[Api]:
    with lodgify.api(*bookings) as played:
        yield Api(played.url, lodgify.KEY)


@contextmanager
def _guesty(*bookings: Json) -> Iterator[Api]:
    with guesty.api(*bookings) as played:
        yield Api(played.url, guesty.CLIENT_SECRET, guesty.CLIENT_ID)


def _of(make: Callable[[], playing.Played], id_: str = "id") -> Reads:
    @contextmanager
    def api(*bookings: Json) -> Iterator[Api]:
        played = make()
        played.bookings = {str(booking[id_]): booking for booking in bookings}
        with playing.playing(played):
            yield played.api

    return api


SENDERS = {
    sender.kind: sender
    for sender in (
        Sender(
            "pinqueue",
            factories.SECRET,
            pinqueue.EXAMPLE["data"]["listing_id"],
            lambda raw, secret: factories.signed(raw, secret=secret)[1],
        ),
        Sender("stays", stays.SECRET, stays.LISTING, api=_stays),
        Sender("hospitable", hospitable.SECRET, hospitable.PROPERTY, hospitable.sign, _hospitable),
        Sender("hostaway", playing.SECRET, Hostaway.LISTING, api=_of(Hostaway)),
        Sender("lodgify", lodgify.SECRET, lodgify.PROPERTY, lodgify.sign, _lodgify),
        Sender(
            "guesty",
            guesty.SECRET,
            guesty.LISTING,
            lambda raw, secret: guesty.sign(raw, secret=secret),
            _guesty,
        ),
        Sender("cloudbeds", playing.SECRET, Cloudbeds.LISTING, api=_of(Cloudbeds, "reservationID")),
        Sender("smoobu", playing.SECRET, Smoobu.LISTING, api=_of(Smoobu)),
    )
}
"""By kind."""
