"""The modules that commands use, each imported when something of it is first used.

All of them take most of a second: `health` has one for everything, and a shell that completes a
word has less.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import uvicorn as uvicorn
    import uvloop as uvloop
    from rich import console as console

    from pinqueue import alarms as alarms
    from pinqueue import audit as audit
    from pinqueue import bench as bench
    from pinqueue import codes as codes
    from pinqueue import config as config
    from pinqueue import db as db
    from pinqueue import deliveries as deliveries
    from pinqueue import demo as demo
    from pinqueue import fetchers as fetchers
    from pinqueue import forgetting as forgetting
    from pinqueue import health as health
    from pinqueue import inventory as inventory
    from pinqueue import jobs as jobs
    from pinqueue import lines as lines
    from pinqueue import logs as logs
    from pinqueue import metrics as metrics
    from pinqueue import migrating as migrating
    from pinqueue import pace as pace
    from pinqueue import posting as posting
    from pinqueue import processes as processes
    from pinqueue import reservations as reservations
    from pinqueue import rotating as rotating
    from pinqueue import schema as schema
    from pinqueue import sealing as sealing
    from pinqueue import simulator as simulator
    from pinqueue import store as store
    from pinqueue import tables as tables
    from pinqueue import up as up
    from pinqueue import web as web
    from pinqueue import webhooks as webhooks
    from pinqueue import worker as worker
    from pinqueue.bench import chaos as chaos
    from pinqueue.locks import tuya as tuya
    from pinqueue.store import queue as queue

else:
    MODULES = """
        uvicorn uvloop rich.console
        pinqueue.alarms pinqueue.audit pinqueue.bench pinqueue.bench.chaos pinqueue.codes
        pinqueue.config pinqueue.db pinqueue.deliveries pinqueue.demo pinqueue.fetchers
        pinqueue.forgetting pinqueue.health pinqueue.inventory pinqueue.jobs pinqueue.lines
        pinqueue.locks.tuya pinqueue.logs pinqueue.metrics pinqueue.migrating pinqueue.pace
        pinqueue.posting pinqueue.processes pinqueue.reservations pinqueue.rotating pinqueue.schema
        pinqueue.sealing pinqueue.simulator pinqueue.store pinqueue.store.queue pinqueue.tables
        pinqueue.up pinqueue.web pinqueue.webhooks pinqueue.worker
    """

    @dataclass(frozen=True)
    class Later:
        """Stands for a module until something of it is asked for."""

        module: str

        def __getattr__(self, name: str) -> Any:
            return getattr(importlib.import_module(self.module), name)

    for module in MODULES.split():
        globals()[module.rpartition(".")[2]] = Later(module)
