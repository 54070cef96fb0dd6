"""Revoke: take the code's PIN off the lock, and see that it is off."""

from __future__ import annotations

from pinqueue.locks import Delivery
from pinqueue.operations import Workbench, door
from pinqueue.operations.recording import let_others_try, record_revoked
from pinqueue.operations.tries import claimed


async def revoke(bench: Workbench, operation_id: int, job_id: int | None) -> None:
    """Take the code's PIN off the lock, and see that it is off.

    Raises TryLater while it may still be there, and the LockError that ended it when a person must.
    """
    async with claimed(bench, operation_id, job_id) as ring:
        if ring is None:
            return
        remote = await door.look(bench, ring)
        remote_id = remote.remote_id if remote else ring.code.remote_id
        if remote_id is not None and (remote is None or remote.delivery is not Delivery.REMOVING):
            await door.delete(bench, ring, remote_id)
            remote = await door.look(bench, ring)
        if remote is not None:
            raise door.waits(ring, "the lock has not confirmed the removal yet")
        await door.insist_no_create_in_doubt(bench, ring)
        await record_revoked(bench, ring)
        await let_others_try(bench, ring)
