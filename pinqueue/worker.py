"""The worker process: runs Procrastinate's worker and the sweep, and outlives database restarts."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Sequence

import procrastinate

from pinqueue import logs, sweep
from pinqueue.config import LOCK_CLOUD, STORE, Settings
from pinqueue.db import KEEPALIVE, WORKER_LIMITS, Database
from pinqueue.errors import PinQueueError
from pinqueue.locks import LockGateway
from pinqueue.mutex import Mutex
from pinqueue.operations import Workbench
from pinqueue.reservations import Planner
from pinqueue.sealing import sealer
from pinqueue.tasks import tasks

log = logs.get(__name__)

POLL_EVERY = 1.0  # seconds; notifications wake the worker at once, planned times only this does
HEARTBEAT_EVERY = 5.0
GRACEFUL_STOP = 30.0
RESTART_AFTER = (0.2, 0.5, 1.0, 2.0, 5.0)  # seconds; the last one repeats


async def run(
    settings: Settings, gateway: LockGateway, *, concurrency: int, queues: Sequence[str]
) -> None:
    """Work until SIGTERM or SIGINT; what runs then is finished, or handed over after 30 seconds."""
    settings.require(*STORE, *LOCK_CLOUD)
    stopping = _stop_signal()
    db = Database(settings.database_url, pool_size=concurrency + 2, name="pinqueue-worker")
    mutex = Mutex(settings.database_url)
    bench = Workbench(
        db=db,
        mutex=mutex,
        gateway=gateway,
        planner=Planner(sealer(settings), settings.lead),
        retries=settings.retries,
        retry_backoff=settings.retry_backoff,
        grace=settings.tuya_grace,
    )

    async def work() -> None:
        await _work(settings.database_url, bench, concurrency, queues)

    async def sweep_now_and_then() -> None:
        while True:
            await sweep.sweep(db, settings.retention)
            await asyncio.sleep(sweep.EVERY.total_seconds())

    log.info("worker-started", concurrency=concurrency, queues=list(queues))
    try:
        await asyncio.gather(
            _keep_up("worker", work, stopping), _keep_up("sweep", sweep_now_and_then, stopping)
        )
    finally:
        await mutex.close()
        await db.close()
        await gateway.close()
    log.info("worker-stopped")


async def _work(url: str, bench: Workbench, concurrency: int, queues: Sequence[str]) -> None:
    """Procrastinate's worker, until cancelled. It returns by itself when a side task of it breaks,
    for instance its listener at a database restart."""
    app = procrastinate.App(
        connector=procrastinate.PsycopgConnector(
            conninfo=url,
            kwargs={**KEEPALIVE, "options": WORKER_LIMITS, "application_name": "pinqueue-jobs"},
            min_size=2,
            max_size=min(concurrency, 10) + 3,
            timeout=10.0,
        )
    )
    app.add_tasks_from(tasks, namespace="")
    async with app.open_async():
        await app.run_worker_async(
            queues=list(queues),
            concurrency=concurrency,
            fetch_job_polling_interval=POLL_EVERY,
            update_heartbeat_interval=HEARTBEAT_EVERY,
            shutdown_graceful_timeout=GRACEFUL_STOP,
            additional_context={"bench": bench},
            install_signal_handlers=False,
        )


async def _keep_up(name: str, work: Callable[[], Awaitable[None]], stopping: asyncio.Event) -> None:
    """Run something again whenever it ends or breaks, until we are asked to stop.

    Procrastinate's worker ends as if all were well when the database restarts: without this the
    process would exit 0 and nobody would start it again.
    """
    failures = 0
    while not stopping.is_set():
        task = asyncio.ensure_future(work())
        asked = asyncio.ensure_future(stopping.wait())
        started = asyncio.get_running_loop().time()
        await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if stopping.is_set():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            try:
                await task
                reason = "it ended by itself"
            except (PinQueueError, procrastinate.exceptions.ProcrastinateException) as error:
                reason = f"{type(error).__name__}: {error}"
            except Exception as error:
                # Not foreseen, so with its traceback; but a guest waits, so the work goes on.
                log.exception("broke", part=name)
                reason = type(error).__name__
            if stopping.is_set():
                return
            if asyncio.get_running_loop().time() - started > 60:
                failures = 0
            wait = RESTART_AFTER[min(failures, len(RESTART_AFTER) - 1)]
            failures += 1
            log.warning("restarting", part=name, reason=reason, seconds=wait)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), wait)


def _stop_signal() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping
