"""What tests of the queue itself do: defer tasks that tell what ran, and work with our parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import procrastinate
import psycopg
from procrastinate.jobs import Job, Status
from psycopg.rows import dict_row

from pinqueue import ringing
from pinqueue.ringing import Ringer

QUEUE = "generate_pin"


@dataclass
class Ran:
    """What the tasks of one worker did, in order."""

    begun: list[Any] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    go_on: asyncio.Event = field(default_factory=asyncio.Event)


tasks = procrastinate.Blueprint()


@tasks.task(name="note", pass_context=True)
async def note(context: procrastinate.JobContext, *, name: Any) -> None:
    """Tells that it ran, and takes a moment."""
    ran: Ran = context.additional_context["ran"]
    ran.begun.append(name)
    ran.at_once += 1
    ran.most_at_once = max(ran.most_at_once, ran.at_once)
    await asyncio.sleep(0.01)
    ran.at_once -= 1


@tasks.task(name="wait", pass_context=True)
async def wait(context: procrastinate.JobContext, *, name: Any) -> None:
    """Runs until the test lets it go on."""
    ran: Ran = context.additional_context["ran"]
    ran.begun.append(name)
    await ran.go_on.wait()


@tasks.task(name="fail", pass_context=True)
async def fail(context: procrastinate.JobContext, *, name: Any) -> None:
    context.additional_context["ran"].begun.append(name)
    raise ValueError("as asked")


@tasks.task(
    name="retry",
    pass_context=True,
    retry=procrastinate.RetryStrategy(max_attempts=2, wait=0),
)
async def retry(context: procrastinate.JobContext, *, name: Any) -> None:
    context.additional_context["ran"].begun.append(name)
    raise ValueError("as asked")


@dataclass
class Queue:
    """A database's jobs, and an app with our parts that defers and works on them."""

    url: str
    app: procrastinate.App
    ran: Ran

    @property
    def manager(self) -> Ringer:
        manager = self.app.job_manager
        assert isinstance(manager, Ringer)
        return manager

    async def defer(
        self,
        name: Any,
        *,
        task: str = "note",
        queue: str = QUEUE,
        due: float | None = None,
        **how: Any,
    ) -> int:
        """`due` in seconds from now; None is a job without a time."""
        at = None if due is None else datetime.now(UTC) + timedelta(seconds=due)
        deferrer = self.app.configure_task(task, queue=queue, schedule_at=at, **how)
        job_id: int = await deferrer.defer_async(name=name)
        return job_id

    async def work(self, *, concurrency: int = 1, queues: tuple[str, ...] = (QUEUE,)) -> None:
        """Run a worker until nothing is due."""
        await self.app.run_worker_async(
            queues=list(queues),
            concurrency=concurrency,
            wait=False,
            additional_context={"ran": self.ran},
            install_signal_handlers=False,
        )

    @asynccontextmanager
    async def working(self, **options: Any) -> AsyncIterator[asyncio.Task[None]]:
        """A worker that never looks by itself within a test, but when it starts."""
        given: dict[str, Any] = {
            "queues": [QUEUE],
            "concurrency": 1,
            "fetch_job_polling_interval": 600.0,
            "abort_job_polling_interval": 600.0,
            "additional_context": {"ran": self.ran},
            "install_signal_handlers": False,
            **options,
        }
        running = asyncio.create_task(self.app.run_worker_async(**given))
        try:
            await self.until("SELECT count(*) > 0 AS so FROM procrastinate_workers")
            await self.until_it_listens()
            yield running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def fetch(self) -> Job | None:
        return await self.manager.fetch_job([QUEUE], None)

    async def finish(self, job: Job) -> None:
        """As a worker does, and wait until that is written down."""
        await self.manager.finish_job(job, Status.SUCCEEDED, delete_job=False)
        written = "SELECT status = 'succeeded' AS so FROM procrastinate_jobs WHERE id = %(id)s"
        await self.until(written, id=job.id)

    async def ask(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        connecting = psycopg.AsyncConnection.connect(
            self.url, autocommit=True, row_factory=dict_row
        )
        async with await connecting as connection:
            return await (await connection.execute(query.encode(), parameters)).fetchall()

    async def job(self, job_id: int) -> dict[str, Any]:
        (found,) = await self.ask(
            "SELECT status::text, attempts, worker_id, abort_requested FROM procrastinate_jobs"
            " WHERE id = %(id)s",
            id=job_id,
        )
        return found

    async def statuses(self) -> list[str]:
        rows = await self.ask("SELECT status::text FROM procrastinate_jobs ORDER BY id")
        return [row["status"] for row in rows]

    async def until(self, query: str, **parameters: Any) -> None:
        """Wait until a query tells that something is `so`."""
        async with asyncio.timeout(20):
            while not (await self.ask(query, **parameters))[0]["so"]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # rows give no signal

    async def until_it_listens(self) -> None:
        await self.until(
            "SELECT count(*) > 0 AS so FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN%%'"
        )

    async def until_begun(self, *names: Any) -> None:
        async with asyncio.timeout(20):
            while self.ran.begun != list(names):  # noqa: ASYNC110  # a list gives no signal
                await asyncio.sleep(0.01)


@asynccontextmanager
async def a_queue(url: str, *, concurrency: int = 1) -> AsyncIterator[Queue]:
    app = ringing.app(url, concurrency=concurrency)
    app.add_tasks_from(tasks, namespace="")
    async with app.open_async():
        yield Queue(url, app, Ran())
