"""Endpoints and what is posted to them, over HTTP."""

from __future__ import annotations

from pinqueue import audit, deliveries
from pinqueue.api import cursors
from pinqueue.api.calls import Call, Table
from pinqueue.api.shapes import (
    Deliveries,
    DeliveriesAsked,
    Delivery,
    Endpoint,
    Endpoints,
    OfDelivery,
)
from pinqueue.errors import InputInvalid

TABLE = Table("Endpoints")


@TABLE.route("GET", "/api/endpoints", "read", {200: Endpoints})
async def list_endpoints(call: Call) -> tuple[int, Endpoints]:
    """List the endpoints that events are posted to, without their secrets."""
    found = await audit.rows(call.session, audit.ENDPOINTS)
    return 200, Endpoints(endpoints=[Endpoint.model_validate(endpoint) for endpoint in found])


@TABLE.route("GET", "/api/endpoints/{id}/deliveries", "read", {200: Deliveries}, refused=[404])
async def list_deliveries(call: Call, given: DeliveriesAsked) -> tuple[int, Deliveries]:
    """List what was, is or will be posted to an endpoint, the newest first."""
    found = await deliveries.listed(
        call.session,
        given.id,
        state=given.state,
        before=_delivery(cursors.read(given.cursor)),
        limit=given.limit + 1,
    )
    page = [Delivery.model_validate(delivery) for delivery in found[: given.limit]]
    more = cursors.made(str(page[-1].id)) if len(found) > given.limit else None
    return 200, Deliveries(deliveries=page, next_cursor=more)


@TABLE.route(
    "POST", "/api/deliveries/{id}/redeliver", "operate", {200: Delivery}, refused=[404, 409]
)
async def redeliver(call: Call, given: OfDelivery) -> tuple[int, Delivery]:
    """Post a delivery again, at once, with the same `webhook-id`.

    One that is due already is left alone. 409: its endpoint is disabled.
    """
    told = await deliveries.redeliver(call.session, call.actor, given.id)
    return 200, Delivery.model_validate(told)


def _delivery(last: str | None) -> int | None:
    """The number that a cursor of deliveries holds."""
    if last is None:
        return None
    if not (last.isascii() and last.isdigit() and len(last) < 19):
        raise InputInvalid("cursor", "must be the next_cursor of a page")
    return int(last)
