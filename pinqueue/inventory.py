"""What a deployment is set up with: its locks, listings, sources, endpoints and API keys."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import time, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pinqueue import codes, posting, reservations, store
from pinqueue.db import Session
from pinqueue.errors import Conflict, InputInvalid, NotFound
from pinqueue.lifecycle import CodeState, EventType, OperationState
from pinqueue.models import (
    AccessCode,
    ApiKey,
    Endpoint,
    Listing,
    ListingLock,
    Lock,
    Reservation,
    Source,
)
from pinqueue.pins import LENGTHS
from pinqueue.reservations import Planner
from pinqueue.schedule import check_lead
from pinqueue.sealing import Sealer
from pinqueue.store import access_codes, keys, listings, operations, stays

SCOPES = ("read", "operate", "reveal", "admin")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_SIGNING_SECRET = re.compile(r"whsec_[A-Za-z0-9+/]{32,88}={0,2}")
_PATH_SECRET = re.compile(r"[A-Za-z0-9_-]{24,128}( [^:\s]+:\S+)?")


async def add_lock(
    session: Session, actor: str, lock_id: str, device_id: str, protocol: str
) -> None:
    _check_name("lock", lock_id)
    reservations.check_id("device_id", device_id)
    protocol = _protocol(protocol)
    await _insist_absent(session, Lock, lock_id)
    await _insist_free(session, device_id)
    session.add(Lock(id=lock_id, device_id=device_id, protocol=protocol))
    await store.record(session, actor, "lock:added", lock=lock_id, protocol=protocol)


async def set_lock(
    session: Session,
    planner: Planner,
    actor: str,
    lock_id: str,
    *,
    device_id: str | None = None,
    protocol: str | None = None,
) -> int:
    """Correct a lock that was added wrongly, while its device holds no PIN of ours. What failed is
    begun again; where PINs get another length, the guests ahead get others. Returns how many stays
    that concerns. Raises NotFound, InputInvalid and Conflict.
    """
    lock = await session.get(Lock, lock_id, with_for_update={"key_share": True})
    if lock is None:
        raise NotFound(f"there is no lock {lock_id}: `pinqueue locks add` makes one")
    # Held against bookings and workers under way: they see the lock as it will be, or are seen.
    concerned = await stays.stays_at_lock(session, lock_id)
    planned = await access_codes.live_codes_at_lock(session, lock_id)
    await _insist_untouched(session, planned)
    length = LENGTHS[lock.protocol]
    if protocol is not None:
        lock.protocol = _protocol(protocol)
    if device_id is not None and device_id != lock.device_id:
        reservations.check_id("device_id", device_id)
        await _insist_free(session, device_id)
        lock.device_id = device_id
    await session.flush()
    await store.record(
        session,
        actor,
        "lock:changed",
        lock=lock_id,
        device_id=lock.device_id,
        protocol=lock.protocol,
    )
    now = await store.now(session)
    for code in planned:
        if length != LENGTHS[lock.protocol] or code.state == CodeState.REVOKING:
            await codes.withdraw(session, actor, code, now=now)
    return await _plan(session, planner, actor, concerned)


async def _insist_untouched(session: Session, planned: Sequence[AccessCode]) -> None:
    """Raise Conflict where the device has the PIN of one of these codes, or may have it."""
    for code in planned:
        if code.remote_id is not None or code.create_in_doubt_since is not None:
            raise Conflict(
                f"its device may hold the PIN of access code {code.id}: cancel reservation"
                f" {code.reservation_id}, or wait until the PIN is off"
            )
        for operation in (await operations.open_operations(session, code)).values():
            if operation.state == OperationState.ACTIVE:
                raise Conflict(f"a worker is at access code {code.id}: try again in a minute")


async def add_listing(
    session: Session,
    actor: str,
    listing_id: str,
    time_zone: str,
    lock_ids: Sequence[str],
    lead: timedelta | None,
) -> None:
    """`listing_id` is the id its webhooks use. Events that waited for it the caller adopts."""
    reservations.check_id("listing", listing_id)
    try:
        ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: `America` is a folder
        raise InputInvalid(
            "time_zone", f"{time_zone!r} is not an IANA name such as America/Sao_Paulo"
        ) from None
    if lead is not None:
        check_lead(lead)
    await _insist_absent(session, Listing, listing_id)
    session.add(Listing(id=listing_id, time_zone=time_zone, lead=lead))
    await session.flush()
    for lock_id in lock_ids:
        await _link(session, listing_id, lock_id)
    await store.record(session, actor, "listing:added", listing=listing_id, locks=list(lock_ids))


async def set_listing(
    session: Session,
    planner: Planner,
    actor: str,
    listing_id: str,
    *,
    check_in_time: str | None = None,
    check_out_time: str | None = None,
    buffer_before: timedelta | None = None,
    buffer_after: timedelta | None = None,
    lead: timedelta | None = None,
) -> int:
    """Change what is given of a listing; returns how many stays ahead follow. The default times
    count for stays told from now on, buffers and lead for those already told too."""
    listing = await session.get(Listing, listing_id, with_for_update=True)
    if listing is None:
        raise NotFound(f"there is no listing {listing_id}: `pinqueue listings add` makes one")
    if check_in_time is not None:
        listing.check_in_time = _time_of_day("check_in_time", check_in_time)
    if check_out_time is not None:
        listing.check_out_time = _time_of_day("check_out_time", check_out_time)
    if buffer_before is not None:
        listing.buffer_before = _buffer("buffer_before", buffer_before)
    if buffer_after is not None:
        listing.buffer_after = _buffer("buffer_after", buffer_after)
    if lead is not None:
        listing.lead = check_lead(lead)
    await session.flush()
    await store.record(session, actor, "listing:changed", listing=listing_id)
    return await _plan(session, planner, actor, await stays.upcoming_stays(session, listing_id))


async def _plan(
    session: Session, planner: Planner, actor: str, ahead: Sequence[Reservation]
) -> int:
    now = await store.now(session)
    for stay in ahead:
        await reservations.plan(session, planner, stay, actor=actor, now=now)
    return len(ahead)


def _time_of_day(field: str, text: str) -> time:
    try:
        found = time.fromisoformat(text)
    except ValueError:
        raise InputInvalid(field, "must be a time of day, e.g. 15:00") from None
    if found.tzinfo is not None:
        raise InputInvalid(field, "must have no offset: it is in the listing's time zone")
    return found


def _buffer(field: str, value: timedelta) -> timedelta:
    if not timedelta(0) <= value <= stays.BUFFER_MOST:
        raise InputInvalid(field, "must be from 0s to 1d")
    return value


async def source_kind(session: Session, source_id: str) -> str:
    """Raises NotFound."""
    return (await _source(session, source_id)).kind


async def set_api(session: Session, sealer: Sealer, actor: str, source_id: str, api: str) -> None:
    """Let a source's bookings be read from its sender's API; `api` is fetchers.Api's text. They are
    compared within a minute."""
    source = await _source(session, source_id)
    source.api = sealer.seal(f"api:{source_id}", api)
    source.api_error = source.list_fault = None
    source.reconciled_at = source.bookings_listed = None
    await store.record(session, actor, "source:api_set", source=source_id)


async def link_lock(
    session: Session, planner: Planner, actor: str, listing_id: str, lock_id: str
) -> int:
    """Guests of the listing get a PIN on this lock; returns how many stays ahead that concerns."""
    # Held against bookings under way: each either sees the lock, or is seen by us below.
    if await session.get(Listing, listing_id, with_for_update=True) is None:
        raise NotFound(f"there is no listing {listing_id}: `pinqueue listings add` makes one")
    await _link(session, listing_id, lock_id)
    await session.flush()
    await store.record(session, actor, "listing:lock_linked", listing=listing_id, lock=lock_id)
    return await _plan(session, planner, actor, await stays.upcoming_stays(session, listing_id))


async def unlink_lock(
    session: Session, planner: Planner, actor: str, listing_id: str, lock_id: str
) -> int:
    """Guests of the listing get no PIN on this lock any more, and those who have one lose it.
    Returns how many stays ahead that concerns. Raises NotFound."""
    if await session.get(Listing, listing_id, with_for_update=True) is None:
        raise NotFound(f"there is no listing {listing_id}: `pinqueue listings add` makes one")
    link = await session.get(ListingLock, (listing_id, lock_id))
    if link is None:
        raise NotFound(
            f"lock {lock_id} does not belong to listing {listing_id}:"
            " `pinqueue listings list` shows which do"
        )
    await session.delete(link)
    await session.flush()
    await store.record(session, actor, "listing:lock_unlinked", listing=listing_id, lock=lock_id)
    return await _plan(session, planner, actor, await stays.upcoming_stays(session, listing_id))


async def add_source(
    session: Session, sealer: Sealer, actor: str, source_id: str, kind: str, secret: str | None
) -> str:
    """Returns the secret its webhooks prove themselves with, a new one where none is given and the
    sender lets us choose. It is not shown again."""
    _check_name("source", source_id)
    if kind not in _SECRETS:
        raise InputInvalid("kind", f"must be one of {', '.join(_SECRETS)}, not {kind!r}")
    await _insist_absent(session, Source, source_id)
    secret = _SECRETS[kind](secret)
    session.add(Source(id=source_id, kind=kind, secret=sealer.seal(f"source:{source_id}", secret)))
    await store.record(session, actor, "source:added", source=source_id, kind=kind)
    return secret


async def rotate_source(
    session: Session,
    sealer: Sealer,
    actor: str,
    source_id: str,
    secret: str | None,
    keep_old: timedelta,
) -> str:
    """Give a source another secret; the old one verifies for `keep_old` longer. Returns the new."""
    source = await _source(session, source_id)
    secret = _SECRETS[source.kind](secret)
    until = await store.now(session) + keep_old
    source.previous_secret, source.previous_secret_until = source.secret, until
    source.secret = sealer.seal(f"source:{source_id}", secret)
    await store.record(session, actor, "source:rotated", source=source_id)
    return secret


async def add_endpoint(
    session: Session,
    sealer: Sealer,
    actor: str,
    endpoint_id: str,
    url: str,
    *,
    events: Sequence[str] = (),
    secret: str | None = None,
    private: bool = False,
    with_pin: bool = False,
) -> str:
    """Have events posted there, of all types where none is named, with the PIN where that is asked
    for. Returns the signing secret, a new one where none is given. It is not shown again."""
    _check_name("endpoint", endpoint_id)
    posting.check_url(url, private=private)
    if unknown := sorted(set(events) - set(EventType)):
        raise InputInvalid("event", f"{unknown[0]!r} is not one of {', '.join(EventType)}")
    await _insist_absent(session, Endpoint, endpoint_id)
    secret = _signing_secret(secret)
    session.add(
        Endpoint(
            id=endpoint_id,
            url=url,
            secret=sealer.seal(f"endpoint:{endpoint_id}", secret),
            events=list(dict.fromkeys(events)) or list(EventType),
            private=private,
            with_pin=with_pin,
        )
    )
    await store.record(
        session,
        actor,
        "endpoint:added",
        endpoint=endpoint_id,
        events=list(events),
        private=private,
        with_pin=with_pin,
    )
    return secret


async def enable_endpoint(session: Session, actor: str, endpoint_id: str) -> None:
    """Post there again what happens from now on. Twice is as once."""
    endpoint = await endpoint_of(session, endpoint_id)
    if not endpoint.enabled:
        endpoint.enabled, endpoint.disabled_at, endpoint.disabled_reason = True, None, None
        await store.record(session, actor, "endpoint:enabled", endpoint=endpoint_id)


async def remove_endpoint(session: Session, actor: str, endpoint_id: str) -> None:
    """What is still on its way there is dropped."""
    await session.delete(await endpoint_of(session, endpoint_id))
    await store.record(session, actor, "endpoint:removed", endpoint=endpoint_id)


async def endpoint_of(session: Session, endpoint_id: str) -> Endpoint:
    """The endpoint, held. Raises NotFound."""
    endpoint = await session.get(Endpoint, endpoint_id, with_for_update=True)
    if endpoint is None:
        raise unknown_endpoint(endpoint_id)
    return endpoint


def unknown_endpoint(endpoint_id: str) -> NotFound:
    return NotFound(f"there is no endpoint {endpoint_id}: `pinqueue endpoints add` makes one")


async def create_key(session: Session, actor: str, name: str, scopes: Sequence[str]) -> str:
    """Returns the key, `pq_ID_SECRET` with 256 random bits. Only its hash is stored."""
    _check_name("key", name)
    if unknown := sorted(set(scopes) - set(SCOPES)):
        raise InputInvalid("scope", f"{unknown[0]!r} is not one of {', '.join(SCOPES)}")
    if await keys.key_by_name(session, name):
        raise Conflict(f"key {name} is there already: choose another name")
    key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    key = f"pq_{key_id}_{secret}"
    session.add(
        ApiKey(id=key_id, name=name, key_sha256=key_hash(key), scopes=list(scopes) or ["read"])
    )
    await store.record(session, actor, "key:created", key=name, scopes=list(scopes))
    return key


async def revoke_key(session: Session, actor: str, name: str) -> None:
    key = await keys.key_by_name(session, name)
    if key is None:
        raise NotFound(f"there is no key {name}: `pinqueue keys list` shows them")
    key.revoked_at = key.revoked_at or await store.now(session)
    await store.record(session, actor, "key:revoked", key=name)


def key_hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def new_webhook_secret() -> str:
    """A Standard Webhooks secret of 32 random bytes."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


async def _source(session: Session, source_id: str) -> Source:
    source = await session.get(Source, source_id, with_for_update=True)
    if source is None:
        raise NotFound(f"there is no source {source_id}: `pinqueue sources add` makes one")
    return source


async def _link(session: Session, listing_id: str, lock_id: str) -> None:
    if await session.get(Lock, lock_id) is None:
        raise NotFound(f"there is no lock {lock_id}: `pinqueue locks add` makes one")
    if await session.get(ListingLock, (listing_id, lock_id)) is not None:
        raise Conflict(f"lock {lock_id} belongs to listing {listing_id} already")
    session.add(ListingLock(listing_id=listing_id, lock_id=lock_id))
    await session.flush()


def _protocol(name: str) -> str:
    if name not in LENGTHS:
        raise InputInvalid("protocol", f"must be one of {', '.join(LENGTHS)}, not {name!r}")
    return name


async def _insist_free(session: Session, device_id: str) -> None:
    if other := await listings.lock_of_device(session, device_id):
        raise Conflict(f"device {device_id} is lock {other.id} already")


async def _insist_absent(
    session: Session, model: type[Lock | Listing | Source | Endpoint], key: str
) -> None:
    """Held until the transaction ends: of two that add the same at once, one finds the other's."""
    await listings.hold_set_up(session)
    if await session.get(model, key) is not None:
        kind = model.__name__.lower()
        raise Conflict(f"{kind} {key} is there already: choose another name")


def _check_name(what: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise InputInvalid(
            what, f"name it with letters, digits and _ . : - (1 to 64, not first), not {name!r}"
        )


def _signing_secret(secret: str | None) -> str:
    """The library takes a mistyped secret without a word; nothing would ever verify."""
    secret = secret or new_webhook_secret()
    try:
        good = _SIGNING_SECRET.fullmatch(secret) and (
            24 <= len(base64.b64decode(secret[6:] + "==")) <= 64
        )
    except ValueError:
        good = False
    if not good:
        raise InputInvalid("secret", "must be whsec_ and the base64 of 24 to 64 random bytes")
    return secret


def _given_signing_secret(secret: str | None) -> str:
    return _signing_secret(_given_secret(secret))


def _given_secret(secret: str | None) -> str:
    if not secret or not secret.strip():
        raise InputInvalid("secret", "give the one that the sender shows for this webhook")
    return secret.strip()


def _path_secret(secret: str | None) -> str:
    secret = secret or secrets.token_urlsafe(32)
    if not _PATH_SECRET.fullmatch(secret):
        raise InputInvalid(
            "secret",
            "must be 24 to 128 letters, digits, - and _, and may be followed by a space and"
            " USER:PASSWORD for basic auth",
        )
    return secret


_SECRETS: Final = {
    "pinqueue": _signing_secret,
    "guesty": _given_signing_secret,
    "hospitable": _given_secret,
    "lodgify": _given_secret,
    "stays": _path_secret,
    "hostaway": _path_secret,
    "cloudbeds": _path_secret,
    "smoobu": _path_secret,
}
"""What a source's webhooks prove themselves with: a signature, or a secret at the end of their
path where the sender signs nothing, or in a way it does not publish."""
