"""Connections: the engine, transactions, and the raw connection a job is deferred on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL, event
from sqlalchemy.engine import Connection, ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import ConnectionPoolEntry as PoolRecord

from pinqueue import lines, logs
from pinqueue.errors import DatabaseUnavailable
from pinqueue.lines import BY_KEY, KEEPALIVE, WEB_LIMITS, WORKER_LIMITS

log = logs.get(__name__)

T = TypeVar("T")
Session: TypeAlias = AsyncSession
Event: TypeAlias = Mapping[str, Any]
Row: TypeAlias = tuple[Any, ...]
Run: TypeAlias = Callable[[str, Mapping[str, Any]], Awaitable[list[Row]]]
"""Runs a statement in psycopg's own words, without a session's: `%(name)s` is a parameter."""

SURE_FOR = 1.0
"""Seconds that a connection is taken to be there after it was last of use."""


class Database:
    """One process's connections to PostgreSQL."""

    def __init__(
        self,
        url: str,
        *,
        limits: Mapping[str, str] = WORKER_LIMITS,
        pool_size: int = 10,
        name: str = "pinqueue",
        listener: Callable[[Event], None] | None = None,
    ) -> None:
        """`listener` is told each event that a transaction announced, once that has committed."""
        self._listener = listener
        self._url, self._name = url, name
        self._limits, self._pooled = limits, False
        self._own: psycopg.AsyncConnection[Any] | None = None
        self._own_used, self._own_turn = 0.0, asyncio.Lock()
        self.engine: AsyncEngine = create_async_engine(
            sqlalchemy_url(url),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=1.0 if limits is WEB_LIMITS else 30.0,
            pool_use_lifo=True,  # what is not needed falls idle, and is ended by the server
            hide_parameters=True,  # an error must not print the row it failed on
            connect_args={
                **KEEPALIVE,
                "options": lines.options(limits),
                "application_name": name,
                "async_creator_fn": self._connect,
            },
        )
        event.listen(self.engine.sync_engine, "handle_error", _forget_the_row)
        event.listen(self.engine.sync_engine, "begin", self._limit)
        event.listen(self.engine.sync_engine, "checkin", _note_use)
        event.listen(self.engine.sync_engine, "checkout", self._insist_alive)
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        looking = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._looks = async_sessionmaker(looking, expire_on_commit=False)

    @property
    def listens(self) -> bool:
        """Whether anybody is told what a transaction announced."""
        return self._listener is not None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """A session whose transaction commits at the end of the block, or leaves no trace.

        Raises DatabaseUnavailable when the server cannot be reached, is shutting down, or took too
        long: the same call may succeed later.
        """
        with _database_errors():
            async with self._sessions.begin() as session:
                yield session
            if self._listener is not None:
                for told in session.info.get(_ANNOUNCED, ()):
                    self._listener(told)

    @asynccontextmanager
    async def look(self) -> AsyncIterator[Session]:
        """A session for one statement that only reads, without the round trips of BEGIN and COMMIT.
        Raises as `transaction` does."""
        with _database_errors():
            async with self._looks() as session:
                yield session

    async def at_once(self, statement: str, parameters: Mapping[str, Any]) -> list[Row]:
        """One statement that finds its rows by their keys, committed when this returns: its rows.

        It costs one round trip, on a connection that is kept for this alone; one caller at a time
        has it, so nothing that may have to wait for somebody's row belongs here. Raises as
        `transaction` does.
        """
        with _database_errors():
            async with self._own_turn:
                connection = await self._own_connection()
                try:
                    cursor = await connection.execute(statement.encode(), parameters)
                    found = await cursor.fetchall() if cursor.description else []
                except psycopg.OperationalError:
                    if connection.closed:
                        self._own = None
                    raise
                self._own_used = time.monotonic()
                return found

    async def _own_connection(self) -> psycopg.AsyncConnection[Any]:
        """It, and not one that the server has ended since."""
        if self._own is not None and time.monotonic() - self._own_used > SURE_FOR:
            try:
                await self._own.execute("SELECT")
            except psycopg.OperationalError:
                await self._own.close()
                self._own = None
        if self._own is None:
            limits = {**self._limits, **BY_KEY}
            made = await self._connect(
                self._url,
                autocommit=True,
                options=lines.options(limits),
                application_name=self._name,
                **KEEPALIVE,
            )
            if self._pooled:
                await made.execute(_set_for("false", limits).encode())
            self._own = made
        return self._own

    async def close(self) -> None:
        if self._own is not None:
            await self._own.close()
        await self.engine.dispose()

    async def _connect(self, *words: Any, **told: Any) -> psycopg.AsyncConnection[Any]:
        line = await lines.connect(*words, **told)
        try:
            self._pooled = await lines.is_pooled(line)
        except BaseException:
            await line.close()
            raise
        if self._pooled:
            # A prepared statement stays with the session that prepared it, and that is another's
            # in the next transaction.
            line.prepare_threshold = None
        return line

    def _insist_alive(self, line: DBAPIConnection, record: PoolRecord, _: object) -> None:
        """Before a connection is handed out; one that has died is replaced, and all others with
        it. One that was in use just now is not asked for an answer, which takes a fifth of the time
        of a transaction: had its server hung up, there would be something to read."""
        used_at = record.info.get(_USED_AT)
        if used_at is None:  # it is new
            return
        try:
            lately = time.monotonic() - used_at < USED_JUST_NOW
            if not (lately and lines.has_nothing_to_say(record.driver_connection)):
                self.engine.dialect.do_ping(line)
        except psycopg.Error as error:
            raise InvalidatePoolError from error

    def _limit(self, connection: Connection) -> None:
        """Behind a pooler a session has no limits of ours: each transaction brings its own."""
        if self._pooled:
            connection.exec_driver_sql(_set_for("true", self._limits))


def _set_for(transaction: str, limits: Mapping[str, str]) -> str:
    settings = (f"set_config('{name}', '{value}', {transaction})" for name, value in limits.items())
    return f"SELECT {', '.join(settings)}"


_USED_AT = "used_at"
USED_JUST_NOW = 0.01
"""Seconds."""


def _note_use(_: object, record: PoolRecord) -> None:
    record.info[_USED_AT] = time.monotonic()


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except PoolExhausted as error:
        raise DatabaseUnavailable("no database connection became free in time") from error
    except Exception as error:
        if isinstance(error, psycopg.Error):
            _shorten(error)
        if is_passing(error):
            raise DatabaseUnavailable(f"the database did not answer: {_cause(error)}") from error
        raise


_ANNOUNCED = "announced"


def announce(session: Session, event: Event) -> None:
    """Tell this to the database's listener after COMMIT, and never where there is none."""
    session.info.setdefault(_ANNOUNCED, []).append(event)


async def driver_connection(session: Session) -> psycopg.AsyncConnection[Any]:
    """The psycopg connection under a session: what Procrastinate defers on, in our transaction."""
    raw = await (await session.connection()).get_raw_connection()
    connection = raw.driver_connection
    assert isinstance(connection, psycopg.AsyncConnection)  # noqa: S101  # the engine is psycopg's
    return connection


def run_in(session: Session) -> Run:
    """To run statements in the transaction of a session."""

    async def run(statement: str, parameters: Mapping[str, Any]) -> list[Row]:
        connection = await driver_connection(session)
        cursor = await connection.execute(statement.encode(), parameters)
        return await cursor.fetchall() if cursor.description else []

    return run


def is_passing(error: Exception) -> bool:
    """Whether the same may succeed later: an outage, a time-out, a deadlock, a full disk."""
    driver = _driver_error(error)
    if driver is None:
        return False
    state = driver.sqlstate or ""
    return (
        (isinstance(error, DBAPIError) and error.connection_invalidated)
        or (isinstance(driver, psycopg.OperationalError) and not state)
        or state[:2] in ("08", "40", "53", "57", "58")
        or state in ("55P03", "25006")
    )


_UNDONE = ("40001", "40P01", "55P03", "57014")


def is_away(error: Exception) -> bool:
    """Whether the database cannot be asked at all. It can where it has only undone a transaction,
    for a deadlock or since it waited too long for somebody."""
    if not isinstance(error, DatabaseUnavailable):
        return False
    cause = error.__cause__
    driver = _driver_error(cause) if isinstance(cause, Exception) else None
    return driver is None or driver.sqlstate not in _UNDONE


def _driver_error(error: Exception) -> psycopg.Error | None:
    """psycopg's own error, also under SQLAlchemy's or, when a job is deferred, Procrastinate's."""
    if isinstance(error, psycopg.Error):
        return error
    driver = error.orig if isinstance(error, DBAPIError) else error.__cause__
    return driver if isinstance(driver, psycopg.Error) else None


def _forget_the_row(context: ExceptionContext) -> None:
    """Keep the first line of PostgreSQL's message: the rest quotes the row, and so the guest."""
    driver, wrapper = context.original_exception, context.sqlalchemy_exception
    if isinstance(driver, psycopg.Error):
        whole = str(driver)
        short = _shorten(driver)
        if wrapper is not None:
            wrapper.args = tuple(str(told).replace(whole, short) for told in wrapper.args)


def _shorten(error: psycopg.Error) -> str:
    if short := error.diag.message_primary:
        error.args = (short,)
    return str(error)


def sqlalchemy_url(url: str) -> URL:
    """What libpq reads in a URL, several hosts too, for the one driver that ORM and queue speak."""
    told = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    return URL.create(
        "postgresql+psycopg",
        username=told.pop("user", None),
        password=told.pop("password", None),
        database=told.pop("dbname", None),
        query=told,
    )


def _cause(error: Exception) -> str:
    return (str(_driver_error(error) or "").strip() or "?").splitlines()[0]
