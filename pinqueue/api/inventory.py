"""Setting up over HTTP: locks, listings and webhook senders."""

from __future__ import annotations

from typing import Any

from pinqueue import inventory, webhooks
from pinqueue.api.calls import Call, Table
from pinqueue.api.shapes import (
    AddedListing,
    LinkBody,
    LinkedListing,
    Listing,
    ListingBody,
    Listings,
    Lock,
    LockBody,
    Locks,
    OfLink,
    OfListing,
    OfSource,
    RotateBody,
    SecretSource,
    Source,
    SourceBody,
    Sources,
)
from pinqueue.errors import InputInvalid
from pinqueue.store import lists

TABLE = Table("Set-up")


@TABLE.route("GET", "/api/locks", "read", {200: Locks})
async def list_locks(call: Call) -> tuple[int, Locks]:
    """List the locks and the listings they belong to."""
    found = await lists.locks(call.session)
    return 200, Locks(locks=[Lock.model_validate(lock) for lock in found])


@TABLE.route("POST", "/api/locks", "admin", {201: Lock}, refused=[409])
async def add_lock(call: Call, body: LockBody) -> tuple[int, Lock]:
    """Add a lock. `pinqueue locks set` corrects a wrong device id or protocol."""
    await inventory.add_lock(call.session, call.actor, body.id, body.device_id, body.protocol)
    (lock,) = await lists.locks(call.session, body.id)
    return 201, Lock.model_validate(lock)


@TABLE.route("GET", "/api/listings", "read", {200: Listings})
async def list_listings(call: Call) -> tuple[int, Listings]:
    """List the listings with their locks."""
    found = await lists.listings(call.session)
    return 200, Listings(listings=[Listing.model_validate(listing) for listing in found])


@TABLE.route("POST", "/api/listings", "admin", {201: AddedListing}, refused=[404, 409])
async def add_listing(call: Call, body: ListingBody) -> tuple[int, AddedListing]:
    """Add a listing. Bookings that came in for it before are taken up now."""
    await inventory.add_listing(
        call.session, call.actor, body.id, body.time_zone, body.locks, body.lead
    )
    taken_up = await webhooks.adopt_unmapped(call.session, call.planner, body.id)
    return 201, AddedListing(**await _listing(call, body.id), events_taken_up=taken_up)


@TABLE.route("POST", "/api/listings/{id}/locks", "admin", {201: LinkedListing}, refused=[404, 409])
async def link_lock(call: Call, given: OfListing, body: LinkBody) -> tuple[int, LinkedListing]:
    """Add a lock to a listing. Stays ahead get a PIN on it too."""
    planned = await inventory.link_lock(call.session, call.planner, call.actor, given.id, body.lock)
    return 201, LinkedListing(**await _listing(call, given.id), stays_planned=planned)


@TABLE.route(
    "DELETE", "/api/listings/{id}/locks/{lock}", "admin", {200: LinkedListing}, refused=[404]
)
async def unlink_lock(call: Call, given: OfLink) -> tuple[int, LinkedListing]:
    """Take a lock from a listing. Its guests' PINs come off that lock."""
    planned = await inventory.unlink_lock(
        call.session, call.planner, call.actor, given.id, given.lock
    )
    return 200, LinkedListing(**await _listing(call, given.id), stays_planned=planned)


@TABLE.route("GET", "/api/sources", "read", {200: Sources})
async def list_sources(call: Call) -> tuple[int, Sources]:
    """List the webhook senders, without their secrets."""
    found = await lists.sources(call.session)
    return 200, Sources(sources=[Source.model_validate(source) for source in found])


@TABLE.route("POST", "/api/sources", "admin", {201: SecretSource}, refused=[409])
async def add_source(call: Call, body: SourceBody) -> tuple[int, SecretSource]:
    """Add a webhook sender. The answer holds its signing secret, this once."""
    if body.kind not in webhooks.SENDERS:
        raise InputInvalid("kind", f"must be one of {', '.join(webhooks.SENDERS)}")
    secret = await inventory.add_source(
        call.session, call.planner.sealer, call.actor, body.id, body.kind, body.secret
    )
    return 201, SecretSource(**await _source(call, body.id), secret=secret)


@TABLE.route("POST", "/api/sources/{id}/rotate", "admin", {200: SecretSource}, refused=[404])
async def rotate_source(call: Call, given: OfSource, body: RotateBody) -> tuple[int, SecretSource]:
    """Give a webhook sender another signing secret. The answer holds it, this once."""
    secret = await inventory.rotate_source(
        call.session, call.planner.sealer, call.actor, given.id, body.secret, body.keep_old
    )
    return 200, SecretSource(**await _source(call, given.id), secret=secret)


async def _listing(call: Call, listing_id: str) -> dict[str, Any]:
    (found,) = await lists.listings(call.session, listing_id)
    return found


async def _source(call: Call, source_id: str) -> dict[str, Any]:
    (found,) = await lists.sources(call.session, source_id)
    return found
