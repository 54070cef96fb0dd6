"""Lines to PostgreSQL: to whichever of several servers can be written to, and never waited on when
the other end is silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from procrastinate.exceptions import ConnectorException
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import text

from pinqueue import lines, migrating, ringing, schema, store
from pinqueue.config import read_settings
from pinqueue.db import Database
from pinqueue.errors import DatabaseUnavailable
from pinqueue.lines import KEEPALIVE, WEB_LIMITS
from pinqueue.mutex import Mutex
from pinqueue.operations import Workbench
from pinqueue.simulator import Control
from tests.conftest import settings_values
from tests.locking import hold
from tests.operating import a_worker, book, code_of, until
from tests.wires import Wire

pytestmark = pytest.mark.anyio


@pytest.fixture
async def watched(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The way by the wire, in a process that asks whether anybody is there."""
    monkeypatch.setattr(lines, "ASK_EVERY", 0.2)
    monkeypatch.setattr(lines, "ANSWER_WITHIN", 0.5)
    watching = asyncio.create_task(lines.watch(wire.url))
    yield wire.url
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


async def now(db: Database) -> Any:
    async with db.transaction() as session:
        return await store.now(session)


def two_hosts(url: str, form: str) -> str:
    """A server that is not there, and the one at this URL."""
    told = conninfo_to_dict(url)
    hosts: dict[str, Any] = {
        "host": f"127.0.0.1,{told.get('host', '')}",
        "port": f"9,{told.get('port', '5432')}",
        "target_session_attrs": "read-write",
    }
    if form == "words":
        return make_conninfo(**{**told, **hosts})
    told.pop("host", None), told.pop("port", None)
    query = "&".join(f"{name}={value}" for name, value in hosts.items())
    secret = f":{told['password']}" if "password" in told else ""
    return f"postgresql://{told['user']}{secret}@/{told['dbname']}?{query}"


@pytest.mark.parametrize("form", ["url", "words"])
async def test_of_several_servers_everything_finds_the_one_that_is_there(
    form: str, database_url: str, tuya: str, bench: Workbench, prompt: Control
) -> None:
    url = two_hosts(database_url, form)
    settings = read_settings(**settings_values(url, tuya), _env_file=None)
    migrating.migrate(settings.database_url)
    assert schema.check(settings.database_url) == schema.REVISION
    code = await book(bench)
    async with a_worker(settings):  # its sessions, its mutex and its queue's own pool

        async def active() -> bool:
            return (await code_of(bench)).state == "active"

        await until(active)
    assert len(prompt.pins("sim-zigbee-1")) == 1
    assert code.reservation_id == "res-1"


async def test_a_standby_is_never_taken_for_the_server_that_can_be_written_to(
    database_url: str,
) -> None:
    """Of two, the first lets nobody write; it is passed over."""
    name = conninfo_to_dict(database_url)["dbname"]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    db = Database(two_hosts(database_url, "url"), pool_size=1)
    with pytest.raises(DatabaseUnavailable, match="read-only"):
        await now(db)
    await db.close()


async def test_who_waits_for_a_server_that_fell_silent_learns_of_it_and_goes_on(
    watched: str, wire: Wire
) -> None:
    db = Database(watched, pool_size=2)
    mutex = Mutex(watched)
    app = ringing.app(watched, concurrency=1, mutex=None)
    async with app.open_async(), hold(mutex, 7) as alone:
        assert alone
        await now(db)
        wire.fall_silent()

        async def ask_the_queue() -> None:
            await app.job_manager.list_jobs_to_abort_async()

        async def take_a_lock() -> None:
            async with hold(mutex, 8):
                pass

        asked = [asyncio.create_task(ask()) for ask in (lambda: now(db), take_a_lock)]
        queue_asked = asyncio.create_task(ask_the_queue())
        async with asyncio.timeout(10):
            lost = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(error) for error in lost] == [DatabaseUnavailable] * 2
        # What was under way is lost; what begins now is heard. So it is where a route came back.
        wire.fell_silent.clear()
        await now(db)
        async with hold(mutex, 9) as alone:
            assert alone
        async with asyncio.timeout(20):
            await asyncio.gather(queue_asked, return_exceptions=True)
            await ask_the_queue()
    await mutex.close()
    await db.close()


async def test_a_listener_that_hears_nothing_any_more_is_given_up(watched: str, wire: Wire) -> None:
    heard: list[str] = []

    async def hear(*, channel: str, payload: str) -> None:
        heard.append(payload)

    app = ringing.app(watched, concurrency=1, mutex=None)

    async def listen() -> None:
        while True:  # as the worker begins it again
            with suppress(ConnectorException):
                await app.connector.listen_notify(on_notification=hear, channels=["bell"])

    async with app.open_async():
        listening = asyncio.create_task(listen())

        async def rings(word: str) -> bool:
            await app.connector.execute_query_async("SELECT pg_notify('bell', %(word)s)", word=word)
            return word in heard

        await until(lambda: rings("first"))
        wire.fall_silent()
        await until(_given_up, seconds=10)
        wire.fell_silent.clear()
        await until(lambda: rings("second"), seconds=40)
        listening.cancel()


async def _given_up() -> bool:
    return not lines._open


async def test_locks_of_a_process_that_asks_no_more_are_freed_by_the_server(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(lines.LOCKS_LIMITS, "idle_session_timeout", "500ms")
    frozen, other = Mutex(database_url), Mutex(database_url)
    async with hold(frozen, 7):

        async def free() -> bool:
            async with hold(other, 7) as alone:
                return alone

        assert not await free()
        await until(free, seconds=10)
    await frozen.close()
    await other.close()


async def test_a_mutex_that_is_kept_holds_its_locks_for_as_long_as_its_process_wants(
    database_url: str, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(lines.LOCKS_LIMITS, "idle_session_timeout", "500ms")
    monkeypatch.setattr("pinqueue.mutex.KEEP_EVERY", 0.1)
    mutex, other = Mutex(database_url), Mutex(database_url)
    keeping = asyncio.create_task(mutex.keep())
    async with hold(mutex, 7):
        async with db.transaction() as session:
            await session.execute(text("SELECT pg_sleep(1.5)"))
        async with hold(other, 7) as alone:
            assert not alone
    keeping.cancel()
    await mutex.close()
    await other.close()


async def test_a_session_that_had_nothing_to_do_is_ended_by_the_server_and_made_again(
    db: Database, database_url: str
) -> None:
    limits = {**WEB_LIMITS, "idle_session_timeout": "200ms"}
    idle = Database(database_url, limits=limits, pool_size=1, name="pinqueue-idle")
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pinqueue-idle'"
    await now(idle)

    async def ended() -> bool:
        async with db.transaction() as session:
            return bool(await session.scalar(text(sessions)) == 0)

    await until(ended)
    await now(idle)
    await idle.close()


async def test_rows_that_a_process_holds_while_it_stands_still_are_let_go(
    database_url: str,
) -> None:
    limits = {**WEB_LIMITS, "idle_in_transaction_session_timeout": "300ms"}
    with (
        psycopg.connect(database_url, options=lines.options(limits), **KEEPALIVE) as frozen,
        psycopg.connect(database_url) as other,
    ):
        frozen.execute("LOCK TABLE operations")
        other.execute("SET lock_timeout = '10s'")
        other.execute("LOCK TABLE operations")
        other.rollback()
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            frozen.execute("SELECT")


def test_every_limit_is_one_that_the_server_knows(database_url: str) -> None:
    set_by_us = "SELECT name FROM pg_settings WHERE source = 'client' AND name = ANY(%s)"
    for limits in (lines.WEB_LIMITS, lines.WORKER_LIMITS, lines.LOCKS_LIMITS):
        with psycopg.connect(database_url, options=lines.options(limits)) as connection:
            found = connection.execute(set_by_us, [list(limits)]).fetchall()
            assert {name for (name,) in found} == set(limits)
