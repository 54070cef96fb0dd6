"""Guests come and go: each is booked by webhook, as a sender does it, until it is taken."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any

import httpx2
from standardwebhooks import Webhook

from pinqueue.bench.ground import Deployment
from pinqueue.errors import DatabaseUnavailable

SOURCE = "bench"
MOST_STAYING = 60
"""Guests who are booked, or about to be, and have not left: more arrive only then. What is broken
slows everything down, and more than can be worked off would measure nothing but that."""
SEND_AGAIN_AFTER = 0.3
"""Seconds until an event that was not answered 2xx is sent again, under the same id."""

HERE, AHEAD = timedelta(minutes=-1), timedelta(hours=1, seconds=10)
"""When guests arrive, in turn: the PIN of one is due at once, that of the next in ten seconds, by
when it may be hashed already."""

ON_DOOR = """
    SELECT reservation_id AS id FROM access_codes WHERE state = 'active'
      AND reservation_id = ANY(:staying)
"""


@dataclass
class Guests:
    """Who was booked and taken, and who of them has left again: what was asked for."""

    urls: Sequence[str]
    """Of the web processes, tried in turn as by a balancer before them."""
    signer: Webhook
    listings: Sequence[str]
    taken: dict[str, str] = field(default_factory=dict)
    """The listing of each stay that was answered 2xx, by its id."""
    left: set[str] = field(default_factory=set)
    """Those whose cancel was answered 2xx."""
    answers: Counter[int] = field(default_factory=Counter)
    """Status codes of the web process."""
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at each of them."""
    _begun: int = 0

    def __post_init__(self) -> None:
        self._turns = cycle(self.urls)

    async def arrive(self, every: float, until: asyncio.Event) -> None:
        """Book a guest, now and then, until that is set; the last is taken."""
        async with asyncio.TaskGroup() as group, httpx2.AsyncClient(trust_env=False) as client:
            sent = []
            while not until.is_set():
                if self._begun - len(self.left) < MOST_STAYING:
                    sent.append(group.create_task(self._book(client)))
                await asyncio.sleep(every)
            await asyncio.gather(*sent)

    async def leave(self, deployment: Deployment) -> None:
        """Cancel the stay of everybody whose PIN is on his door, until cancelled itself."""
        async with asyncio.TaskGroup() as group, httpx2.AsyncClient(trust_env=False) as client:
            leaving: set[str] = set()
            while True:
                staying = sorted(self.taken.keys() - leaving)
                with suppress(DatabaseUnavailable):  # the next look finds them
                    for row in await deployment.rows(ON_DOOR, staying=staying):
                        leaving.add(row["id"])
                        group.create_task(self._cancel(client, row["id"]))
                await asyncio.sleep(0.2)

    async def _book(self, client: httpx2.AsyncClient) -> None:
        number = self._begun
        self._begun += 1
        stay, listing = f"stay-{number}", self.listings[number % len(self.listings)]
        now = datetime.now(UTC).replace(microsecond=0)
        told = {
            "reservation_id": stay,
            "listing_id": listing,
            "status": "confirmed",
            "check_in": (now + (AHEAD if number % 2 else HERE)).isoformat(),
            "check_out": (now + timedelta(hours=6)).isoformat(),
            "updated_at": now.isoformat(),
        }
        await self._send(client, "reservation.created", told)
        self.taken[stay] = listing

    async def _cancel(self, client: httpx2.AsyncClient, stay: str) -> None:
        await self._send(client, "reservation.cancelled", {"reservation_id": stay})
        self.left.add(stay)

    async def _send(self, client: httpx2.AsyncClient, kind: str, told: dict[str, Any]) -> None:
        """Until it is answered 2xx, whoever dies meanwhile."""
        now = datetime.now(UTC)
        body = json.dumps({"type": kind, "timestamp": now.isoformat(), "data": told})
        event_id = f"{kind.replace('.', '-')}-{told['reservation_id']}"
        while True:
            at = datetime.now(UTC)
            headers = {
                "content-type": "application/json",
                "webhook-id": event_id,
                "webhook-timestamp": str(int(at.timestamp())),
                "webhook-signature": self.signer.sign(event_id, at, body),
            }
            try:
                url = next(self._turns)
                answer = await client.post(
                    f"{url}/webhooks/{SOURCE}", content=body, headers=headers
                )
                self.answers[answer.status_code] += 1
                self.answered.set()
                if answer.is_success:
                    return
            except (httpx2.HTTPError, OSError, AttributeError):
                # Nobody is there, or who was there is gone; anyio raises the last of these for a
                # connection that is lost before it was begun.
                pass
            await asyncio.sleep(SEND_AGAIN_AFTER)
