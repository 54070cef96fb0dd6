"""A Tuya cloud with doors, over real HTTP: strict as documented, and breakable on order."""

from pinqueue.simulator.app import ACCESS_ID, ACCESS_SECRET, DEFAULT_DEVICES, create_app
from pinqueue.simulator.control import Control
from pinqueue.simulator.server import run, running, serve

__all__ = [
    "ACCESS_ID",
    "ACCESS_SECRET",
    "DEFAULT_DEVICES",
    "Control",
    "create_app",
    "run",
    "running",
    "serve",
]
