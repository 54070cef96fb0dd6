"""The worker process: runs Procrastinate's worker and the sweep, and outlives database restarts."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import procrastinate
import psycopg

from pinqueue import (
    deliveries,
    fetching,
    forgetting,
    hashing,
    hooks,
    lines,
    logs,
    patrol,
    ringing,
    sweep,
)
from pinqueue.alarms import DELIVER, QUEUES
from pinqueue.config import LOCK_CLOUD, STORE, Settings
from pinqueue.db import Database
from pinqueue.errors import DatabaseUnavailable, PinQueueError
from pinqueue.lines import KEEPALIVE
from pinqueue.locks import LockGateway
from pinqueue.metrics import Metrics
from pinqueue.monitoring import Monitor
from pinqueue.mutex import Mutex
from pinqueue.operations import Workbench
from pinqueue.posting import Poster
from pinqueue.reservations import Planner
from pinqueue.sealing import sealer
from pinqueue.tasks import tasks

log = logs.get(__name__)

HEARTBEAT_EVERY = 2.0
GRACEFUL_STOP = 15.0
STUCK_AFTER = 120.0
"""Seconds without a turn of the event loop after which the process ends itself."""
AT_THE_DATABASE = 11
"""Connections for operations, however many there are: most of their time they are at the door, and
what they write down at the same time goes over one of its own."""
BESIDE_AT_A_TIME = 4
"""Deliveries, and bookings fetched: other people's servers, beside the operations."""
RESTART_AFTER = (0.2, 0.5, 1.0, 2.0, 5.0)  # seconds; the last one repeats


async def run(
    settings: Settings,
    gateway: LockGateway,
    *,
    concurrency: int,
    queues: Sequence[str],
    metrics: Metrics | None = None,
    heartbeat: Path | None = None,
) -> None:
    """Work until SIGTERM or SIGINT; what runs then is finished, or handed over after 15 seconds.

    `metrics` is where the gateway counts; `heartbeat` a file that is touched at each sign of life.
    """
    metrics = metrics or Metrics()
    settings.require(*STORE, *LOCK_CLOUD)
    listeners = hooks.load()
    stopping = _stop_signal()
    db = Database(
        settings.database_url,
        pool_size=min(concurrency, AT_THE_DATABASE) + BESIDE_AT_A_TIME + 3,
        name="pinqueue-worker",
        listener=listeners.tell if listeners else None,
    )
    mutex = Mutex(settings.database_url)
    poster = Poster()
    bench = Workbench(
        db=db,
        mutex=mutex,
        gateway=gateway,
        planner=Planner(sealer(settings), settings.lead),
        retries=settings.retries,
        retry_backoff=settings.retry_backoff,
        grace=settings.tuya_grace,
        metrics=metrics,
    )
    context = {
        "bench": bench,
        "deliver": partial(deliveries.deliver, db, bench.planner.sealer, poster),
    }

    async def work() -> None:
        app = ringing.app(
            settings.database_url,
            concurrency=concurrency,
            stopping=stopping,
            heartbeat=heartbeat,
            mutex=mutex,
        )
        await _work(settings.database_url, app, context, concurrency, queues)

    async def work_beside() -> None:
        # Never among the operations: no slow endpoint or sender keeps a PIN waiting.
        app = ringing.app(
            settings.database_url, concurrency=BESIDE_AT_A_TIME, stopping=stopping, counted=False
        )
        await _work(
            settings.database_url, app, context, BESIDE_AT_A_TIME, [DELIVER, fetching.FETCH]
        )

    async def reconcile_now_and_then() -> None:
        await fetching.reconcile(db, bench.planner, every=fetching.AT_START)
        while True:
            await asyncio.sleep(fetching.LOOK_EVERY.total_seconds())
            await fetching.reconcile(db, bench.planner)

    async def rescue_now_and_then() -> None:
        while True:
            await sweep.rescue_stalled(db, metrics)
            await asyncio.sleep(sweep.RESCUE_EVERY.total_seconds())

    async def sweep_now_and_then() -> None:
        while True:
            await sweep.sweep(db, settings.retention, metrics)
            await asyncio.sleep(sweep.EVERY.total_seconds())

    async def forget_now_and_then() -> None:
        while True:
            await forgetting.forget(db, settings)
            await asyncio.sleep(forgetting.EVERY.total_seconds())

    async def patrol_now_and_then() -> None:
        while True:
            await patrol.look_at_next(db, gateway, settings.patrol_every, metrics)
            await asyncio.sleep(patrol.APART.total_seconds())

    async def hash_now_and_then() -> None:
        while True:
            await hashing.hash_ahead(db, bench.planner.sealer)
            await asyncio.sleep(hashing.EVERY)

    async def watch() -> None:
        await lines.watch(settings.database_url)

    for name in ("procrastinate.worker", "procrastinate.worker.worker"):
        logging.getLogger(name).addFilter(_worth_telling)
    log.info("worker-started", concurrency=concurrency, queues=list(queues))
    try:
        async with Monitor(db, metrics).adding():
            await asyncio.gather(
                _keep_up("worker", work, stopping),
                _keep_up("beside", work_beside, stopping),
                _keep_up("reconcile", reconcile_now_and_then, stopping),
                _keep_up("rescue", rescue_now_and_then, stopping),
                _keep_up("sweep", sweep_now_and_then, stopping),
                _keep_up("patrol", patrol_now_and_then, stopping),
                _keep_up("hashing", hash_now_and_then, stopping),
                _keep_up("forgetting", forget_now_and_then, stopping),
                _keep_up("mutex", mutex.keep, stopping),
                _keep_up("watch", watch, stopping),
                _keep_up("watchdog", _feed_watchdog, stopping),
            )
    finally:
        await listeners.close()
        await poster.close()
        await mutex.close()
        await db.close()
        await gateway.close()
    log.info("worker-stopped")


async def _feed_watchdog() -> None:
    """Code that blocks the event loop would stop everything, silently and for ever. Where nobody
    comes by here any more, the process ends with what each thread was at (files and lines, no
    values), and whoever keeps it up starts another."""
    try:
        while True:
            faulthandler.dump_traceback_later(STUCK_AFTER, exit=True)
            await asyncio.sleep(HEARTBEAT_EVERY)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _worth_telling(record: logging.LogRecord) -> bool:
    """Of an operation our own lines tell how it began and ended. And a PIN that its lock has not
    confirmed yet is no failure: a line says so, not a page."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, PinQueueError):
        record.msg, record.exc_info = f"{record.msg}: {error}", None
    job = getattr(record, "job", {})
    told = getattr(record, "action", "") in ("start_job", "job_success")
    return not (told and job.get("task_name") in QUEUES.values())


async def _work(
    url: str,
    app: procrastinate.App,
    context: dict[str, Any],
    concurrency: int,
    queues: Sequence[str],
) -> None:
    """Procrastinate's worker, until cancelled. It returns by itself when a side task of it breaks,
    for instance its listener at a database restart."""
    await _insist_reachable(url)
    app.add_tasks_from(tasks, namespace="")
    async with app.open_async():
        await app.run_worker_async(
            queues=list(queues),
            concurrency=concurrency,
            fetch_job_polling_interval=ringing.LOOK_EVERY,
            update_heartbeat_interval=HEARTBEAT_EVERY,
            shutdown_graceful_timeout=GRACEFUL_STOP,
            additional_context=context,
            install_signal_handlers=False,
        )


async def _insist_reachable(url: str) -> None:
    """A pool waits longer and longer between its tries: it would sleep on after a long outage."""
    try:
        connection = await psycopg.AsyncConnection.connect(url, **KEEPALIVE)
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable("the database cannot be reached") from error
    await connection.close()


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
