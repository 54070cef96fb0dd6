"""PINs are hashed before they are due: bcrypt takes 60 ms of a processor each, and at check-in time
a thousand are due at once."""

from __future__ import annotations

import asyncio

from pinqueue import logs
from pinqueue.db import Database
from pinqueue.errors import ConfigInvalid
from pinqueue.sealing import Sealer
from pinqueue.store import access_codes

log = logs.get(__name__)

EVERY = 15.0
REST = 0.2
"""Seconds after each, so that a thousand new bookings leave the processors to what is due."""


async def hash_ahead(db: Database, sealer: Sealer, *, most: int = 100, rest: float = REST) -> int:
    """Hash PINs that are planned and not on their door yet, those of the nearest stays first.
    Returns how many. Workers share what is to be hashed: started one after another, all of them
    hashed the same PINs, one as often as there were workers."""
    async with db.transaction() as session:
        unhashed = await access_codes.unhashed_codes(session, most)
    done = 0
    for code_id, sealed in unhashed:
        try:
            pin = sealer.open_pin(code_id, sealed)
        except ConfigInvalid as error:  # its operation says so again, to a person
            log.warning("pin-not-hashed", access_code_id=code_id, reason=str(error))
            continue
        async with db.transaction() as session:
            if not await access_codes.is_to_be_hashed(session, code_id):
                continue
            pin_hash = await sealer.hash_pin(code_id, pin)
            done += await access_codes.keep_hash(session, code_id, sealed, pin_hash)
        await asyncio.sleep(rest)
    return done
