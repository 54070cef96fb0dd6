"""How many webhooks one process takes, and of whom: of each source that proved itself, and of each
address that proved nothing. The two know nothing of each other, so a flood of the second kind
takes nothing from the first, though both may come from one proxy."""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address, ip_address, ip_network

from pinqueue.db import Database
from pinqueue.store import sources
from pinqueue.store.sources import SeenSource

SOURCE_BURST, STRANGER_BURST = 60.0, 10.0
"""Seconds: so many seconds' worth may come at once. A channel that is connected tells of a year's
bookings in a minute."""
MOST = 10_000
"""Sources or addresses that are remembered; the one that was quiet longest is forgotten first."""
LOOK_EVERY = 1.0
"""Seconds between two looks at all sources' secrets, on behalf of who has failed too often."""


class Buckets:
    """Token buckets by name: `rate` a second, and `burst` seconds' worth of that at once.

    A bucket is one number, the moment up to which its tokens are spent. `now` is in seconds of a
    clock that never goes back.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._interval, self._burst = 1 / rate, burst
        self._spent_until: dict[str, float] = {}

    def take(self, name: str, now: float) -> float:
        """0 and a token less, or seconds until there is one."""
        spent = max(self._spent_until.pop(name, now), now)  # the newest goes to the end
        wait = max(spent + self._interval - now - self._burst, 0.0)
        self._spent_until[name] = spent if wait else spent + self._interval
        if len(self._spent_until) > MOST:
            del self._spent_until[next(iter(self._spent_until))]
        return wait

    def give_back(self, name: str) -> None:
        """A token that was taken."""
        if name in self._spent_until:
            self._spent_until[name] -= self._interval


class Limits:
    def __init__(self, source_rate: float, stranger_rate: float) -> None:
        self.sources = Buckets(source_rate, SOURCE_BURST)
        self.strangers = Buckets(stranger_rate, STRANGER_BURST)
        self._looking = asyncio.Lock()
        self._seen: dict[str, SeenSource] = {}
        self._look_again_at = float("-inf")

    async def source(self, db: Database, source_id: str, now: float) -> SeenSource | None:
        """As it was a second ago: however many ask, the database is asked once. None where there
        is none by that name."""
        async with self._looking:
            if now >= self._look_again_at:
                async with db.transaction() as session:
                    self._seen = await sources.seen_sources(session)
                self._look_again_at = now + LOOK_EVERY
        return self._seen.get(source_id)


def stranger(host: str | None) -> str:
    """The address that a stranger is known by. Whoever has one of IPv6 has 2^64 of them."""
    try:
        address = ip_address(host or "")
    except ValueError:
        return (host or "")[:64]
    if not isinstance(address, IPv6Address):
        return str(address)
    return str(address.ipv4_mapped or ip_network((address, 64), strict=False))
