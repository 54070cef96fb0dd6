"""How due jobs reach the worker, and how their ends are written down.

Procrastinate as it comes polls for what is due, reads every job that waits each time, takes one at
a time, and in the order in which they were deferred. Here an alarm rings at the next due time, one
statement walks an index to all that is due and free slots can take, and whoever is needed first
goes first. Its tables, its rules and its worker are as they were: a job manager is what it lets
others bring.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import procrastinate
import psycopg
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager, NotificationCallback
from psycopg_pool import AsyncConnectionPool

from pinqueue import lines, logs
from pinqueue.lines import KEEPALIVE, WORKER_LIMITS
from pinqueue.mutex import Mutex
from pinqueue.together import Together

log = logs.get(__name__)

LOOK_EVERY = 5.0
"""Seconds between looks at what is due next: what is notified of is due within 30 seconds."""
CONNECTIONS = 4
"""One fetches, one writes ends, one is for heartbeats; one that listens comes on top."""
LIMITS = {**WORKER_LIMITS, "enable_sort": "off"}
"""Told by statistics from when hardly a job waited, PostgreSQL would read an index of all that wait
and sort the few it thinks to find, rather than take the one that has them in order."""
AGAIN_AFTER = 0.01
"""Seconds, where all that was due was just being taken by other workers."""
SURE_FOR = 1.0
"""Seconds that a connection is taken to be there after it was."""
SETTLE_WITHIN = 5.0
WRITES, WRITE_AGAIN_AFTER = 4, 0.5  # each waits 10 seconds for a connection, if need be

_TAKE = """
first AS MATERIALIZED (
    SELECT id, place FROM candidates ORDER BY place LIMIT 2 * %(most)s + 20
), taken AS (
    SELECT job.id, place FROM first JOIN procrastinate_jobs job USING (id)
    -- As text no index of all that wait fits, which would be read from end to end to find these.
    WHERE job.status::text = 'todo' ORDER BY place LIMIT %(most)s FOR UPDATE OF job SKIP LOCKED
), begun AS (
    UPDATE procrastinate_jobs job SET status = 'doing', worker_id = %(worker_id)s
    FROM taken WHERE job.id = taken.id RETURNING job.*, place
)
"""
FETCH = """
WITH due AS MATERIALIZED (
    SELECT job.*
    FROM unnest(%(queues)s::text[]) AS queue (name),
    LATERAL (
        (SELECT * FROM procrastinate_jobs
         WHERE queue_name = queue.name AND status = 'todo' AND scheduled_at IS NULL
         ORDER BY scheduled_at, id LIMIT %(window)s)
        UNION ALL
        (SELECT * FROM procrastinate_jobs
         WHERE queue_name = queue.name AND status = 'todo' AND scheduled_at <= now()
         ORDER BY scheduled_at, id LIMIT %(window)s)
    ) job
    -- Procrastinate's rule: a job waits for those of its lock that run, or come before it.
    WHERE job.lock IS NULL OR NOT EXISTS (
        SELECT FROM procrastinate_jobs other
        WHERE other.lock = job.lock
          AND (other.status = 'doing'
               OR other.status = 'todo'
                  AND (other.priority > job.priority
                       OR other.priority = job.priority AND other.id < job.id)))
), candidates AS MATERIALIZED (
    SELECT id, lock, row_number() OVER (
        ORDER BY
            -- A revoke at the end of a stay may wait for guests who arrive within the hour.
            CASE WHEN queue_name = 'revoke_pin' AND priority < 0
                 THEN least(priority, -60 - (extract(epoch FROM now()) / 60)::integer)
                 ELSE priority END DESC,
            scheduled_at NULLS FIRST, id
    ) AS place
    FROM due ORDER BY place LIMIT %(ahead)s
), {take}
SELECT begun.*,
       (SELECT count(*) FROM candidates) AS candidates,
       CASE WHEN place IS NOT DISTINCT FROM (SELECT min(place) FROM begun) THEN (
           SELECT array_agg(id ORDER BY place) FROM candidates HAVING bool_and(lock IS NULL)
       ) END AS in_order,
       (SELECT extract(epoch FROM min(job.scheduled_at) - clock_timestamp())::float8
        FROM unnest(%(queues)s::text[]) AS queue (name),
        LATERAL (SELECT scheduled_at FROM procrastinate_jobs
                 WHERE queue_name = queue.name AND status = 'todo' AND scheduled_at > now()
                 ORDER BY scheduled_at LIMIT 1) job) AS next_in
FROM (SELECT) one LEFT JOIN begun ON true ORDER BY place
""".replace("{take}", _TAKE)
TAKE = """
WITH candidates AS MATERIALIZED (
    SELECT id, place FROM unnest(%(ids)s::bigint[]) WITH ORDINALITY asked (id, place)
), {take}
SELECT * FROM begun ORDER BY place
""".replace("{take}", _TAKE)
"""The same of candidates that are known already."""
AHEAD, AHEAD_FOR = 1000, 1.0
"""So many of them are remembered in their order, for so many seconds, unless something rings."""
AT_ONCE = 50
"""Jobs in one fetch, or entries in one statement: of a hundred operations one half is at the
database while the other works. All in one would wait for the database together, and it for them."""
WINDOW = 5000
"""Due jobs of a queue among which the most urgent are looked for: those due longest. So many are
sorted in 3 milliseconds; an outage that leaves more behind has them served from its beginning."""
FINISH = """
UPDATE procrastinate_jobs job
SET status = ended.status, abort_requested = false,
    attempts = CASE job.status WHEN 'doing' THEN attempts + 1 ELSE attempts END
FROM unnest(%(ids)s::bigint[], %(statuses)s::procrastinate_job_status[]) AS ended (id, status)
WHERE job.id = ended.id AND job.status::text IN ('todo', 'doing')
RETURNING job.id
"""
GIVE_BACK = """
UPDATE procrastinate_jobs SET status = 'todo', worker_id = NULL
WHERE id = ANY(%(ids)s) AND status = 'doing'
"""


def app(
    url: str,
    *,
    concurrency: int,
    stopping: asyncio.Event | None = None,
    counted: bool = True,
    heartbeat: Path | None = None,
    mutex: Mutex | None = None,
) -> procrastinate.App:
    """Procrastinate on this database for one worker, which is run with the same concurrency, and
    begins nothing once it is `stopping`; `counted` says whether a row tells that it lives, and
    `heartbeat` is a file that does too, as a lock of `mutex` does."""

    async def configure(connection: psycopg.AsyncConnection[Any]) -> None:
        # Each statement is a transaction of its own: without BEGIN and COMMIT as two more.
        await connection.set_autocommit(True)
        lines.note(connection)

    checked: WeakKeyDictionary[psycopg.AsyncConnection[Any], float] = WeakKeyDictionary()

    async def check(connection: psycopg.AsyncConnection[Any]) -> None:
        # In a burst each is taken a hundred times a second: asked each time whether it is there,
        # the server would do as much to say so as to write a job's end.
        lately = time.monotonic() - checked.get(connection, 0.0) < SURE_FOR
        if not (lately and lines.has_nothing_to_say(connection)):
            await AsyncConnectionPool.check_connection(connection)
            checked[connection] = time.monotonic()

    def pool(**given: Any) -> AsyncConnectionPool[psycopg.AsyncConnection[Any]]:
        return AsyncConnectionPool(**{**given, "check": check})

    made = procrastinate.App(
        connector=procrastinate.PsycopgConnector(
            pool_factory=pool,
            conninfo=url,
            kwargs={
                **KEEPALIVE,
                "options": lines.options(LIMITS),
                "application_name": "pinqueue-jobs",
            },
            configure=configure,
            min_size=2,
            max_size=CONNECTIONS,
            timeout=10.0,
        )
    )
    ringer = Ringer if counted else UncountedRinger
    made.job_manager = ringer(made.connector, concurrency, stopping, heartbeat, mutex)
    return made


class Ringer(JobManager):
    """The job manager of one worker."""

    def __init__(
        self,
        connector: Any,
        concurrency: int,
        stopping: asyncio.Event | None = None,
        heartbeat: Path | None = None,
        mutex: Mutex | None = None,
    ) -> None:
        super().__init__(connector)
        self._heartbeat = heartbeat
        self._mutex = mutex
        self._concurrency = concurrency
        self._stopping = stopping or asyncio.Event()
        self._fetched: deque[Job] = deque()
        self._in_order: list[int] = []
        self._in_order_until = 0.0
        self._listens = False
        self._running: set[int | None] = set()
        self._rung = 0
        self._due = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Future[None]] = set()
        self._ends: Together[tuple[int | None, Status], None] = Together(
            self._write_ends, most=AT_ONCE
        )

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int | None) -> Job | None:
        """The most urgent of what is due. For each slot that is free, up to AT_ONCE, one is fetched
        with it, and handed out when Procrastinate asks for the next, which it does before anything
        else."""
        while not self._fetched:
            rung = self._rung
            await self._fetch(list(queues or ()), worker_id)
            if self._rung == rung or self._stopping.is_set():
                break  # else something rang meanwhile, which Procrastinate forgets
        if self._stopping.is_set():  # it would begin what it is given also now
            await self._give_back()
        if not self._fetched:
            return None
        job = self._fetched.popleft()
        self._running.add(job.id)
        return job

    async def _fetch(self, queues: Sequence[str], worker_id: int | None) -> None:
        most = min(max(self._concurrency - len(self._running), 1), AT_ONCE)
        if await self._take_in_order(most, worker_id):
            return
        rung = self._rung
        rows = await self.connector.execute_query_all_async(
            FETCH,
            queues=queues,
            worker_id=worker_id,
            most=most,
            window=WINDOW,
            ahead=max(AHEAD, 2 * most + 20),
        )
        jobs = [_Rung.from_row(row) for row in rows if row["id"] is not None]
        self._fetched.extend(jobs)
        missed = len(jobs) < min(most, rows[0]["candidates"])
        self._set_alarm(AGAIN_AFTER if missed else rows[0]["next_in"])
        if self._listens and rung == self._rung and not missed:
            self._in_order = (rows[0]["in_order"] or [])[len(jobs) :]
            self._in_order_until = asyncio.get_running_loop().time() + AHEAD_FOR

    async def _take_in_order(self, most: int, worker_id: int | None) -> bool:
        """Take what comes next of those whose order is known. Nothing else is due before it, or it
        would have rung. False when nothing is known any more."""
        now = asyncio.get_running_loop().time()
        asked = self._in_order[: 2 * most + 20] if now < self._in_order_until else []
        if len(asked) < most:
            return False
        rows = await self.connector.execute_query_all_async(
            TAKE, ids=asked, worker_id=worker_id, most=most
        )
        self._fetched.extend(_Rung.from_row(row) for row in rows)
        if len(rows) < most:  # others are at it
            self._in_order = []
        elif self._in_order:  # nothing rang meanwhile
            self._in_order = self._in_order[rows[-1]["place"] :]
        return bool(rows)

    def _set_alarm(self, seconds: float | None) -> None:
        """Ring in so many seconds, None: not at all."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = None
        if seconds is not None:
            # A timer counts in milliseconds and may ring in the one before: then it is set again.
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_later(max(seconds, 0.001), self._due.set)

    async def listen_for_jobs(
        self, *, on_notification: NotificationCallback, queues: Iterable[str] | None = None
    ) -> None:
        """Tell the worker when a job is due, and of notifications, until cancelled: then what was
        fetched and not yet handed out is given back."""

        async def ring(*, channel: str, notification: Any) -> None:
            self._rung += 1
            self._in_order = []
            await on_notification(channel=channel, notification=notification)

        async def ring_when_due() -> None:
            while True:
                await self._due.wait()
                self._due.clear()
                await ring(channel="", notification={"type": "job_inserted", "job_id": 0})

        # Not in a group: it passes on the first cancellation only, and the listener may miss that.
        ringing = asyncio.create_task(ring_when_due())
        self._listens = True
        try:
            await super().listen_for_jobs(on_notification=ring, queues=queues)
        finally:
            self._listens, self._in_order = False, []
            ringing.cancel()
            self._set_alarm(None)
            await self._give_back()

    async def register_worker(self) -> int:
        worker_id = await super().register_worker()
        await self._hold_life(worker_id)
        self._show_life()
        return worker_id

    async def unregister_worker(self, worker_id: int) -> None:
        await self._settle()
        await super().unregister_worker(worker_id)

    async def update_heartbeat(self, worker_id: int) -> None:
        await self._hold_life(worker_id)
        await super().update_heartbeat(worker_id)
        self._show_life()

    async def _hold_life(self, worker_id: int) -> None:
        """The lock that is gone when we are: whoever finds that need not wait for our silence."""
        if self._mutex is not None:
            await self._mutex.live_as(worker_id)

    def _show_life(self) -> None:
        """Only after the database has taken the same sign: what cannot reach it does no work."""
        if self._heartbeat is not None:
            try:
                self._heartbeat.touch()
            except OSError as error:  # who watches the file acts; no PIN waits for it
                log.warning("heartbeat-not-shown", reason=error.strerror)

    async def _give_back(self) -> None:
        ids = [job.id for job in self._fetched]
        self._fetched.clear()
        if ids:
            await self.connector.execute_query_async(GIVE_BACK, ids=ids)

    async def _settle(self) -> None:
        """Before the worker ends."""
        try:
            await self._give_back()
        finally:
            if self._ending:
                await asyncio.wait(self._ending, timeout=SETTLE_WITHIN)

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """Also when the connection breaks at that very moment.

        Procrastinate lets such a job go: it stays `doing` under a worker that lives, so nobody ever
        takes it for stalled, and its PIN never comes.

        What it was about is written down already, so its slot does not wait for that, but where
        others wait for its lock: nobody rings for them.
        """
        try:
            if delete_job:
                await _written(super().finish_job, job, status, delete_job)
                return
            end = self._ends.begin((job.id, status))
            if job.lock is not None:
                await end
            else:
                self._ending.add(end)
                end.add_done_callback(partial(self._ended, job.id))
        finally:
            self._running.discard(job.id)

    def _ended(self, job_id: int | None, end: asyncio.Future[None]) -> None:
        self._ending.discard(end)
        if not end.cancelled() and (error := end.exception()) is not None:
            log.error("job-end-given-up", job_id=job_id, reason=str(error))

    async def retry_job(self, job: Job, *args: Any, **kwargs: Any) -> None:
        """The same of a job that is to ring again."""
        try:
            await _written(super().retry_job, job, *args, **kwargs)
        finally:
            self._running.discard(job.id)

    async def _write_ends(
        self, ends: Sequence[tuple[int | None, Status]]
    ) -> Sequence[Exception | None]:
        ids, statuses = [id_ for id_, _ in ends], [status.value for _, status in ends]
        rows = await _written(
            self.connector.execute_query_all_async, FINISH, ids=ids, statuses=statuses
        )
        written = {row["id"] for row in rows}
        return [None if id_ in written else _not_running(id_) for id_ in ids]


class _Rung(Job):
    """A job of Procrastinate's, which at each step puts together anew what it tells its log."""

    def log_context(self) -> dict[str, Any]:
        return self._told

    @cached_property
    def _told(self) -> dict[str, Any]:
        return super().log_context()


class UncountedRinger(Ringer):
    """Lets no row say that a worker lives which programs no PIN: health counts those rows.

    The sweep takes a delivery or a fetch from a dead worker by its job's age, not by such a row.
    """

    async def register_worker(self) -> int:
        return 0

    async def unregister_worker(self, worker_id: int) -> None:
        await self._settle()

    async def update_heartbeat(self, worker_id: int) -> None:
        """There is no row to update."""

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int | None) -> Job | None:
        return await super().fetch_job(queues, None)


def _not_running(job_id: int | None) -> ConnectorException:
    return ConnectorException(
        f'Job was not found or not in "doing" or "todo" status (job id: {job_id})'
    )


async def _written(write: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
    for left in reversed(range(WRITES)):
        try:
            return await write(*args, **kwargs)
        except ConnectorException as error:
            if not left or not isinstance(error.__cause__, psycopg.OperationalError):
                raise
            log.warning("job-end-not-written", reason=type(error.__cause__).__name__)
        await asyncio.sleep(WRITE_AGAIN_AFTER)
    raise AssertionError("the last try returns or raises")
