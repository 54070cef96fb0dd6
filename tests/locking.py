"""The lock of an access code, held as a worker holds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pinqueue.mutex import LOCK, NAMESPACE, Mutex
from pinqueue.store.claims import Due


@asynccontextmanager
async def hold(mutex: Mutex, access_code_id: int) -> AsyncIterator[bool]:
    """For the block; yields whether nobody else has it."""

    async def take() -> Due:
        ((got,),) = await mutex.ask(LOCK, {"key": NAMESPACE + access_code_id})
        return Due(0, access_code_id, 0, got)

    async with mutex.hold(asyncio.ensure_future(take())) as (_, alone):
        yield alone
