"""What a library's fault would do that one operation provokes: its process is gone each time, and
says nothing. A copy of this file is `sitecustomize`, which Python itself takes in when a worker of
`pinqueue bench chaos` starts."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from pinqueue.locks.tuya import TuyaGateway

POISON = Path(__file__).parent
"""Where the copy lies, with an empty file for each door where the next PIN is to be poison, and for
each PIN that is, by its name at the door."""

create_pin = TuyaGateway.create_pin


async def create_or_die(gateway: TuyaGateway, door: Any, name: str, *given: Any) -> int:
    with suppress(FileNotFoundError):
        (POISON / door.device_id).rename(POISON / name)
    if (POISON / name).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return await create_pin(gateway, door, name, *given)


setattr(TuyaGateway, "create_pin", create_or_die)  # noqa: B010  # a name mypy would defend
