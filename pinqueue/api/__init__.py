"""The HTTP API. `calls` takes a call, `routes` is the table they are declared in, `shapes` what
goes in and out; the handlers lie by matter."""

from __future__ import annotations

from pinqueue.api import endpoints, health, inventory, jobs, reservations

TABLE = [
    *reservations.TABLE,
    *reservations.CODES,
    *jobs.TABLE,
    *endpoints.TABLE,
    *inventory.TABLE,
    *health.TABLE,
]
