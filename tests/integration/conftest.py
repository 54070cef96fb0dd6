"""Workers at the doors, with the simulated cloud behind them, and the web application on a port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from pinqueue.config import Settings
from pinqueue.db import Database
from pinqueue.operations import Workbench
from pinqueue.posting import Poster
from pinqueue.reservations import Planner
from pinqueue.simulator import Control
from tests.conftest import Server
from tests.operating import a_workbench
from tests.receiving import Receiver, receiving
from tests.senders import using
from tests.senders.each import SENDERS
from tests.serving import Web, serving


@pytest.fixture
async def bench(settings: Settings, db: Database, planner: Planner) -> AsyncIterator[Workbench]:
    """A worker's workbench."""
    async with a_workbench(settings, db, planner) as bench:
        yield bench


@pytest.fixture
async def benches(
    settings: Settings, planner: Planner
) -> AsyncIterator[tuple[Workbench, Workbench]]:
    """Two workers that share nothing but the database and the doors, as two processes do."""
    async with AsyncExitStack() as stack:
        made = []
        for name in ("pinqueue-worker-a", "pinqueue-worker-b"):
            db = Database(settings.database_url, pool_size=3, name=name)
            stack.push_async_callback(db.close)
            made.append(await stack.enter_async_context(a_workbench(settings, db, planner)))
        yield made[0], made[1]


@pytest.fixture
def prompt(doors: Control) -> Control:
    """Doors that take what they are sent at once, where they are within reach."""
    doors.settings(zigbee_seconds=0, bluetooth_seconds=0)
    return doors


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """An endpoint's server."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture
async def poster() -> AsyncIterator[Poster]:
    """What a worker posts with."""
    poster = Poster()
    yield poster
    await poster.close()


@pytest.fixture
def web(database_url: str) -> Iterator[Web]:
    """A web application with the source `main` and the listing `apt-7`, which has one lock."""
    with serving(database_url) as web:
        web.set_up()
        yield web


@pytest.fixture(scope="module")
def shared_web(server: Server, template: str) -> Iterator[Web]:
    """The same for all tests of a file, which count what each of them adds."""
    with server.database(template) as url, serving(url) as web:
        web.set_up()
        yield web


@pytest.fixture(scope="module")
def every_sender(server: Server, template: str) -> Iterator[Web]:
    """A web application with a source of every kind, without its API, and a listing and a lock for
    each, for all tests of a file."""
    with server.database(template) as url, serving(url) as web:
        for sender in SENDERS.values():
            using.set_up(web, sender.kind, sender.secret)
            web.set_up_listing(sender.listing, {f"door-{sender.kind}": "zigbee"})
        yield web


@pytest.fixture
def untouched(shared_web: Web) -> Iterator[Web]:
    """The same, and afterwards not one row or job more than before."""
    before = shared_web.counts()
    yield shared_web
    assert shared_web.counts() == before
