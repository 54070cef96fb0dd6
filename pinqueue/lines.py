"""The lines to PostgreSQL: how each is made, and how one that has fallen silent is noticed.

A worker that died is noticed by its server, and a server that died by its clients. What neither
notices is a network that drops everything without a word, or a process that stands still while its
kernel goes on saying that all is well. So who waits for an answer asks now and then whether
anybody is there, and the server ends by itself what a silent client would hold on to.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import psycopg

from pinqueue import logs
from pinqueue.errors import ConfigInvalid, DatabaseUnavailable
from pinqueue.patience import within

log = logs.get(__name__)

KEEPALIVE: dict[str, Any] = {
    # A connection whose other end vanished without a word is noticed in about a minute, not in the
    # two hours of Linux's defaults: until then a guest's PIN would wait behind it.
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
    "connect_timeout": 5,  # seconds, for each host of several
    # A database made with SQL_ASCII would otherwise give bytes where text is meant.
    "client_encoding": "utf8",
}
"""How every connection is made."""

_SERVERS_END = {
    # The same from the server's side: it ends the session of a client that vanished.
    "tcp_keepalives_idle": "30s",
    "tcp_keepalives_interval": "10s",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20s",
    # And of one that nothing was heard of, where the network acknowledges all the same: what it
    # left would fill the server. A session that only has nothing to do is made again when needed.
    "idle_session_timeout": "60s",
}
_NO_COMPILER = {
    # Up to PostgreSQL 17 what a plan is told to avoid has a cost without end, so that the server
    # would compile each fetch of jobs, for seconds of its processor. Nothing of ours wins by it.
    "jit": "off",
}
WEB_LIMITS = {
    # A sender that waits gets its 503 before it gives up (Cloudbeds: 2 s).
    "lock_timeout": "1s",
    "statement_timeout": "1400ms",
    # No row stays locked for long by a process that stands still in the middle.
    "idle_in_transaction_session_timeout": "5s",
    **_NO_COMPILER,
    **_SERVERS_END,
}
WORKER_LIMITS = {
    "lock_timeout": "10s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "15s",
    # A plan cached while the job table was tiny makes a check-in burst quadratic (queues.md, E22).
    "plan_cache_mode": "force_custom_plan",
    **_NO_COMPILER,
    **_SERVERS_END,
}
BY_KEY = {
    # A statement that finds each row by its key has but one good plan, and to make it anew takes
    # longer than to carry it out. It is the one that is kept, also where tables were empty then.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
}
LOCKS_LIMITS = {
    # A table that somebody alters must not keep a worker from saying that it lives: it has five
    # seconds for that, and what reads the table comes before it.
    "lock_timeout": "1s",
    "statement_timeout": "30s",
    **_SERVERS_END,
    **_NO_COMPILER,
    **BY_KEY,
    # Locks that nobody asks about any more are free for another worker, whatever became of ours.
    "idle_session_timeout": "30s",
}

ASK_EVERY, ANSWER_WITHIN = 5.0, 10.0
"""Seconds between questions whether the server is there, and until there will be no answer."""

_open: WeakSet[psycopg.AsyncConnection[Any]] = WeakSet()


def options(limits: Mapping[str, str]) -> str:
    """Limits as PostgreSQL takes them when a session begins."""
    return " ".join(f"-c {name}={value}" for name, value in limits.items())


async def connect(*words: Any, options: str, **told: Any) -> psycopg.AsyncConnection[Any]:
    """A line with these options, or without them where a pooler takes none: whoever finds a pooler
    there, by `is_pooled`, has to set its limits anew in each transaction."""
    try:
        line = await psycopg.AsyncConnection.connect(*words, options=options, **told)
    except psycopg.OperationalError as error:
        if "startup parameter" not in str(error):
            raise
        line = await psycopg.AsyncConnection.connect(*words, **told)
    note(line)
    return line


async def is_pooled(line: psycopg.AsyncConnection[Any]) -> bool:
    """Whether a pooler stands between, of whatever kind: then our session is not the one we were
    told of when we connected."""
    before = line.autocommit
    await line.set_autocommit(True)
    row = await (await line.execute("SELECT pg_backend_pid()")).fetchone()
    await line.set_autocommit(before)
    return row is not None and row[0] != line.info.backend_pid


def note(connection: psycopg.AsyncConnection[Any]) -> None:
    """Have this line hung up when the server is found silent."""
    _open.add(connection)


def has_nothing_to_say(connection: Any) -> bool:
    """Of one that is at rest: had its server hung up, there would be something to read. Raises
    psycopg.OperationalError where it is closed."""
    if not hasattr(select, "poll"):  # another system than ours: it is asked each time
        return False
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    return not waiting.poll(0)


async def watch(url: str) -> None:
    """Ask every few seconds whether the server is there; when it does not answer, hang up every
    line of this process, so that whoever waits there learns of it and is connected anew.

    Until cancelled. TCP alone is not enough: a proxy, or a server that stands still, may take what
    is sent to it for ever without any answer.
    """
    while True:
        try:
            await _ask(url)
        except (TimeoutError, psycopg.errors.ConnectionTimeout):
            log.warning("database-silent", lines=hang_up())
        except psycopg.OperationalError:
            pass  # it is away, and says so itself to whoever asks it for something
        await asyncio.sleep(ASK_EVERY)


async def _ask(url: str) -> None:
    connection = await psycopg.AsyncConnection.connect(
        url, autocommit=True, application_name="pinqueue-watch", **KEEPALIVE
    )
    try:
        while True:
            await within(ANSWER_WITHIN, connection.execute("SELECT"))
            await asyncio.sleep(ASK_EVERY)
    finally:
        _shut(connection)
        await connection.close()


def hang_up() -> int:
    """As if the other end had gone: whoever waits for an answer gets an error, and who takes a line
    from a pool gets another. Returns how many there were."""
    lines = [line for line in _open if not line.closed]
    for line in lines:
        _shut(line)
    _open.clear()
    return len(lines)


def _shut(line: psycopg.AsyncConnection[Any]) -> None:
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(line.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


ROUNDS = 20


def insist_own_session(url: str) -> None:
    """Raise ConfigInvalid where a pooler hands a session from client to client at the end of each
    transaction: it would give a process's locks to others, and others' to it.

    One transaction of another client in between is enough to be given another session, or to see
    ours given away. A pooler that is busy may hide that some times, hardly so often.
    """
    asked = {**KEEPALIVE, "prepare_threshold": None}  # which such a pooler would not bear
    try:
        with (
            psycopg.connect(url, autocommit=True, **asked) as first,
            psycopg.connect(url, **asked) as other,
        ):
            ours = _session(first)
            for _ in range(ROUNDS):
                theirs = _session(other)  # in a transaction, so it keeps that one until its end
                if theirs == ours or _session(first) != ours:
                    raise ConfigInvalid(
                        "PINQUEUE_DATABASE_URL leads through a pooler in transaction mode, which "
                        "gives the locks of one worker to another: name PostgreSQL itself there, "
                        "or set pool_mode = session for this database (PgBouncer)"
                    )
                other.rollback()
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"the database cannot be reached: {error}") from error


def _session(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return int(row[0]) if row else 0
