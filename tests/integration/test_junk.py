"""Junk, from those who prove themselves and those who do not: never our fault, never half kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinqueue import inventory, webhooks
from pinqueue.db import Database
from pinqueue.fetchers import Api
from pinqueue.reservations import Planner
from tests.senders import using
from tests.senders.each import SENDERS, Sender, as_bytes, for_each
from tests.senders.junk import JUNK, spoiled
from tests.senders.stay import Stay
from tests.serving import Answer, Web

SETTINGS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
NOWHERE = Api("http://127.0.0.1:9", "a-token")
"""Its bookings are to be read, and nobody does here."""


@pytest.fixture(scope="module")
def web(every_sender: Web) -> Web:
    """A source with an API besides, for each kind that has one."""
    for sender in SENDERS.values():
        if sender.kind != "pinqueue":
            every_sender.do(
                partial(
                    using.add_source,
                    kind=sender.kind,
                    secret=sender.secret,
                    api=NOWHERE,
                    name=f"{sender.kind}-read",
                )
            )
    return every_sender


def answered(web: Web, raw: bytes, headers: Mapping[str, str], path: str) -> Answer:
    """Posted again as long as a busy machine has no time for it, as senders do."""
    while (answer := web.post(raw, dict(headers), path)).status == 503:
        assert answer.outcome == "unavailable"
    return answer


@for_each()
def test_junk_that_proves_itself_is_never_our_fault_and_leaves_no_row_where_it_is_refused(
    web: Web, sender: Sender
) -> None:
    events = [json.loads(as_bytes(one)) for one in (*sender.published, sender.tells(Stay()))]
    sources = [sender.kind] if sender.kind == "pinqueue" else [sender.kind, f"{sender.kind}-read"]

    @SETTINGS
    @given(raw=spoiled(events), source=st.sampled_from(sources))
    def post(raw: bytes, source: str) -> None:
        before = web.counts()
        answer = answered(web, raw, sender.headers(raw), sender.path(source))
        added = web.added(before)
        if answer.status == 200:
            assert added.get("webhook_events", 0) <= 1
        else:
            assert answer.status in (400, 401, 422), answer
            assert added == {}

    post()
    take_up_what_waits(web, sender)


def take_up_what_waits(web: Web, sender: Sender) -> None:
    """Junk that names a listing waits for it, and must not keep it from being added."""
    for listing in waited_for(web):
        web.set_up_listing(listing, {f"door-{sender.kind}": "zigbee"})
        web.do(partial(adopt, listing=listing))
    assert waited_for(web) == []


def waited_for(web: Web) -> list[str]:
    """Of the listings that are not there, those that could be added."""
    query = "SELECT DISTINCT listing_id FROM webhook_events WHERE outcome = 'unmapped'"
    named = [row["listing_id"] for row in web.ask(query)]
    return [name for name in named if inventory.NAME.fullmatch(name)]


async def adopt(db: Database, planner: Planner, listing: str) -> int:
    async with db.transaction() as session:
        return await webhooks.adopt_unmapped(session, planner, listing)


PROOFS = [f"{kind}-{name}" for kind in ("webhook", "svix") for name in ("id", "timestamp")]
PROOFS += ["webhook-signature", "svix-signature", "ms-signature", "signature", "authorization"]
WORDS = st.sampled_from(["v1,", "sha256=", "1614265330", "msg_1", "Basic a", "identity"])
TEXT = st.lists(WORDS | st.text(max_size=20), max_size=4).map("".join)


@for_each()
def test_junk_that_proves_nothing_is_refused_and_leaves_no_row(web: Web, sender: Sender) -> None:
    events = spoiled([sender.tells(Stay())])
    raws = events | st.binary(max_size=300) | JUNK.map(json.dumps).map(str.encode)
    before = web.counts()

    @SETTINGS
    @given(raw=raws, proof=st.dictionaries(st.sampled_from(PROOFS), TEXT), secret=TEXT)
    def post(raw: bytes, proof: dict[str, str], secret: str) -> None:
        headers = {"content-type": "application/json"}
        headers |= {name: clean(text) for name, text in proof.items()}
        path = f"/webhooks/{sender.kind}/{quote(secret, safe='')}".rstrip("/")
        assert answered(web, raw, headers, path).status in (400, 401, 404, 415)

    post()
    assert web.counts() == before


def clean(text: str) -> str:
    """A header may hold it: what may not is on the wire's tests."""
    return "".join(c for c in text if c.isprintable()).strip()
