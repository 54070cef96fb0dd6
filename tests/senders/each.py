"""Every sender in one table: how it proves itself, and how its API is played and read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import pytest

from pinqueue.fetchers import Api
from tests import factories
from tests.senders import (
    cloudbeds,
    guesty,
    hospitable,
    hostaway,
    lodgify,
    pinqueue,
    playing,
    smoobu,
    stays,
)
from tests.senders.cloudbeds import Cloudbeds
from tests.senders.hostaway import Hostaway
from tests.senders.smoobu import Smoobu
from tests.senders.stay import Stay
from tests.serving import Answer, Web

Json = dict[str, Any]
Sign = Callable[..., dict[str, str]]
"""The headers of a body that is signed with a secret; some take the event's id and time too."""
Reads = Callable[..., AbstractContextManager[Api | None]]
"""Plays an API that has these bookings, and says how it is read. It tells them as they are then."""

OTHER_SECRET = "another-secret-of-32-characters-y"
OTHER_SIGNING_SECRET = "whsec_" + "A" * 32


@dataclass(frozen=True)
class Sender:
    kind: str
    listing: str
    """What it calls the listing of its published payload."""
    tells: Callable[[Stay], Json]
    """An event that tells the whole of a stay."""
    ids: tuple[tuple[str, ...], ...]
    """Where such an event names it."""
    published: tuple[bytes | Json, ...]
    """Its events as they are known, and as its documentation describes them."""
    secret: str
    other_secret: str = OTHER_SECRET
    sign: Sign | None = None
    """None: its secret is in its path."""
    api: Reads = lambda *bookings: nullcontext()
    """Our own kind has none."""
    lists: Callable[[Stay], Json] | None = None
    """A stay as its API tells it; for senders whose events cannot be ordered."""

    def post(
        self, web: Web, body: bytes | Json, source: str = "", secret: str = "", **signing: Any
    ) -> Answer:
        """To the source that is called as its kind is, proved by the sender's own secret, unless
        said otherwise."""
        raw = as_bytes(body)
        return web.post(raw, self.headers(raw, secret, **signing), self.path(source, secret))

    def headers(self, raw: bytes, secret: str = "", **signing: Any) -> dict[str, str]:
        if self.sign is None:
            return dict(playing.JSON)
        return self.sign(raw, secret or self.secret, **signing)

    def path(self, source: str = "", secret: str = "") -> str:
        path = f"/webhooks/{source or self.kind}"
        return path if self.sign else f"{path}/{secret or self.secret}"


def as_bytes(body: bytes | Json) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


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
            pinqueue.EXAMPLE["data"]["listing_id"],
            pinqueue.tells,
            (("data", "reservation_id"),),
            (pinqueue.EXAMPLE, pinqueue.CANCELLED),
            factories.SECRET,
            OTHER_SIGNING_SECRET,
            pinqueue.sign,
        ),
        Sender(
            "stays",
            stays.LISTING,
            stays.tells,
            (("payload", "id"), ("payload", "_id")),
            (stays.CREATED, stays.CANCELED, stays.DELETED),
            stays.SECRET,
            api=_stays,
        ),
        Sender(
            "hospitable",
            hospitable.PROPERTY,
            hospitable.tells,
            (("data", "id"), ("id",)),
            (hospitable.COMPACT, hospitable.CHANGED),
            hospitable.SECRET,
            sign=hospitable.sign,
            api=_hospitable,
        ),
        Sender(
            "hostaway",
            Hostaway.LISTING,
            hostaway.tells,
            (("data", "id"),),
            (hostaway.ENVELOPE, {**hostaway.ENVELOPE, "data": hostaway.RESERVATION}),
            playing.SECRET,
            api=_of(Hostaway),
            lists=hostaway.lists,
        ),
        Sender(
            "lodgify",
            lodgify.PROPERTY,
            lodgify.tells,
            (("booking", "id"),),
            (lodgify.EXAMPLE,),
            lodgify.SECRET,
            sign=lodgify.sign,
            api=_lodgify,
            lists=lodgify.lists,
        ),
        Sender(
            "guesty",
            guesty.LISTING,
            guesty.tells,
            (("reservation", "_id"),),
            (guesty.LEGACY, guesty.LEAN, guesty.NESTED),
            guesty.SECRET,
            OTHER_SIGNING_SECRET,
            guesty.sign,
            _guesty,
        ),
        Sender(
            "cloudbeds",
            Cloudbeds.LISTING,
            cloudbeds.tells,
            (("reservationId",),),
            (cloudbeds.EXAMPLE,),
            playing.SECRET,
            api=_of(Cloudbeds, "reservationID"),
        ),
        Sender(
            "smoobu",
            Smoobu.LISTING,
            smoobu.tells,
            (("data", "id"),),
            (smoobu.SAMPLE,),
            playing.SECRET,
            api=_of(Smoobu),
            lists=smoobu.lists,
        ),
    )
}
"""By kind."""

SIGN_NOTHING = "stays hostaway cloudbeds smoobu"
SIGN_NO_TIME = f"{SIGN_NOTHING} hospitable lodgify"
TELL_NO_VERSION = "hostaway lodgify smoobu"


def for_each(but: Mapping[str, str] | None = None) -> pytest.MarkDecorator:
    """Has a test run for every sender; `but` says of which it does not, and why."""
    left_out = {kind for kinds in but or {} for kind in kinds.split()}
    assert left_out <= set(SENDERS), left_out
    chosen = [sender for sender in SENDERS.values() if sender.kind not in left_out]
    return pytest.mark.parametrize("sender", chosen, ids=lambda sender: sender.kind)
