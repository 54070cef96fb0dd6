"""One try to deliver an event: claim it, post it, record what came of it; and what people ask of
deliveries.

As with operations, no transaction is open while the network is, and a worker whose claim is spent
records nothing. A worker that dies in between posts again: endpoints tell repeats by `webhook-id`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pinqueue import alarms, audit, inventory, logs, store
from pinqueue.db import Database, Session
from pinqueue.errors import (
    ConfigInvalid,
    Conflict,
    InputInvalid,
    NotFound,
    StateChanged,
    TryLater,
)
from pinqueue.lifecycle import CODE_ENDED, CodeState, DeliveryState
from pinqueue.models import AccessCode, Delivery, Endpoint
from pinqueue.outcomes import new_event_id
from pinqueue.posting import Answer, Poster
from pinqueue.sealing import Sealer
from pinqueue.store import deliveries
from pinqueue.store.deliveries import Claimed

log = logs.get(__name__)

ACTOR = "worker"
PING = "ping"
AGAIN_AFTER: Final = tuple(
    timedelta(**{unit: number})
    for number, unit in (
        (5, "seconds"),
        (5, "minutes"),
        (30, "minutes"),
        (2, "hours"),
        (5, "hours"),
        (10, "hours"),
        (14, "hours"),
        (20, "hours"),
        (24, "hours"),
    )
)
"""From one try to the next, as Standard Webhooks has it: 75 hours in all."""


async def deliver(db: Database, sealer: Sealer, poster: Poster, delivery_id: int) -> None:
    """Raises TryLater while it is to be tried again."""
    async with db.transaction() as session:
        claim = await deliveries.claim(session, delivery_id)
        if claim is None or await _is_hopeless(session, claim):
            return
        letter = await _letter(session, sealer, claim)
    answer = letter if isinstance(letter, Answer) else await _post(poster, claim, letter)
    try:
        async with db.transaction() as session:
            retry_at = await _record(session, claim, answer)
    except StateChanged as overtaken:
        log.info("delivery-overtaken", delivery_id=delivery_id, reason=str(overtaken))
        return
    if retry_at is not None:
        told = f"HTTP {answer.status}" if answer.status else answer.reason
        raise TryLater(f"delivery {delivery_id}: {told}", retry_at=retry_at)


async def listed(
    session: Session,
    endpoint_id: str,
    *,
    state: str | None = None,
    before: int | None = None,
    limit: int,
) -> list[dict[str, Any]]:
    """What was, is or will be posted there, the newest first, beginning `before` a delivery. What
    has ended is kept for PINQUEUE_RETENTION. Raises NotFound, InputInvalid."""
    if await session.get(Endpoint, endpoint_id) is None:
        raise inventory.unknown_endpoint(endpoint_id)
    if state is not None and state not in set(DeliveryState):
        raise InputInvalid("state", f"must be one of {', '.join(DeliveryState)}, not {state!r}")
    return await deliveries.listed(session, endpoint_id, state=state, before=before, limit=limit)


async def redeliver(session: Session, actor: str, delivery_id: int) -> dict[str, Any]:
    """Post a delivery at once, whether it is delivered, has failed or waits, with all its tries
    before it and the same `webhook-id`. One that is due already is left alone. Returns it as it is
    listed. Raises NotFound, and Conflict where its endpoint is disabled."""
    held = await deliveries.hold(session, delivery_id)
    if held is None:
        raise NotFound(
            f"there is no delivery {delivery_id}: `pinqueue endpoints deliveries` lists them"
        )
    delivery, endpoint = held
    if not endpoint.enabled:
        raise Conflict(
            f"endpoint {endpoint.id} is disabled: `pinqueue endpoints enable {endpoint.id}`"
        )
    now = await store.now(session)
    if delivery.state != DeliveryState.WAITING or delivery.next_at > now:
        await _audit(session, actor, "repeated", delivery)
        await alarms.take_back(session, delivery)
        delivery.state, delivery.finished_at = DeliveryState.WAITING, None
        delivery.next_at, delivery.attempts = now, 0
        await session.flush()
        await alarms.put_deliveries(session, [delivery])
    return await deliveries.told(session, delivery_id)


async def ping(sealer: Sealer, poster: Poster, endpoint: Endpoint, at: datetime) -> Answer:
    """Post a signed `ping` there, once, whether it is enabled or not."""
    body = {"type": PING, "timestamp": at.astimezone(UTC).isoformat(), "data": {}}
    secret = _open_secret(sealer, endpoint)
    return await poster.post(
        endpoint.url, secret, new_event_id(), body, at, private=endpoint.private
    )


async def _is_hopeless(session: Session, claim: Claimed) -> bool:
    """End what need not be tried: its endpoint is off, or its worker never lived to say so."""
    if not claim.endpoint.enabled:
        await _fail(session, claim, "the endpoint is disabled")
    elif claim.attempt > len(AGAIN_AFTER) + 1:
        await _fail(session, claim, "every try broke down")
    else:
        return False
    return True


@dataclass(frozen=True)
class Letter:
    """What is posted and never stored: it may hold a PIN."""

    secret: str = field(repr=False)
    body: Mapping[str, Any] = field(repr=False)


async def _letter(session: Session, sealer: Sealer, claim: Claimed) -> Letter | Answer:
    """Made anew for each try; the answer that stands for it where a key is missing."""
    delivery, endpoint = claim.delivery, claim.endpoint
    body: dict[str, Any] = delivery.body
    try:
        secret = _open_secret(sealer, endpoint)
        if endpoint.with_pin:
            pin = await _pin(session, sealer, endpoint.id, body["data"]["access_code_id"])
            body = {**body, "data": {**body["data"], "pin": pin}}
    except ConfigInvalid as error:  # recorded as the reason, so that a person finds the setting
        return Answer(None, str(error))
    return Letter(secret, body)


async def _pin(
    session: Session, sealer: Sealer, endpoint_id: str, access_code_id: int
) -> str | None:
    """The digits as they are now, on record as revealed before they leave. None for a code whose
    PIN is wiped, or taken back: nobody is to be told a PIN that is coming off its door."""
    code = await session.get_one(AccessCode, access_code_id)
    if code.state in CODE_ENDED or code.state == CodeState.REVOKING:
        return None
    pin = await audit.reveal(session, sealer, f"endpoint:{endpoint_id}", access_code_id)
    return pin.digits()


async def _post(poster: Poster, claim: Claimed, letter: Letter) -> Answer:
    answer = await poster.post(
        claim.endpoint.url,
        letter.secret,
        claim.delivery.event_id,
        letter.body,
        claim.now,
        private=claim.endpoint.private,
    )
    if claim.endpoint.with_pin and answer.status is not None:
        return replace(answer, reason="")  # it may quote what was posted
    return answer


def _open_secret(sealer: Sealer, endpoint: Endpoint) -> str:
    return sealer.open(f"endpoint:{endpoint.id}", endpoint.secret)


async def _record(session: Session, claim: Claimed, answer: Answer) -> datetime | None:
    """When to try again; None once it has ended."""
    if answer.taken:
        await deliveries.end(
            session, claim, DeliveryState.DELIVERED, last_status=answer.status, last_error=None
        )
        await _audit(session, ACTOR, "delivered", claim.delivery)
        return None
    error = str(answer)
    if answer.gone:
        # The endpoint first: who removes it takes the rows in that order too.
        if await deliveries.disable(session, claim.endpoint.id, error):
            await store.record(
                session, ACTOR, "endpoint:disabled", endpoint=claim.endpoint.id, reason=error
            )
            log.warning("endpoint-disabled", endpoint=claim.endpoint.id, reason="HTTP 410")
        await _fail(session, claim, error, answer.status)
        return None
    if claim.attempt > len(AGAIN_AFTER):
        await _fail(session, claim, error, answer.status)
        return None
    wait = max(AGAIN_AFTER[claim.attempt - 1], timedelta(seconds=answer.retry_after or 0))
    retry_at = await store.now(session) + wait
    await deliveries.postpone(session, claim, retry_at, last_status=answer.status, last_error=error)
    return retry_at


async def _fail(session: Session, claim: Claimed, error: str, status: int | None = None) -> None:
    await deliveries.end(session, claim, DeliveryState.FAILED, last_status=status, last_error=error)
    await _audit(session, ACTOR, "failed", claim.delivery, reason=error)
    log.warning("delivery-failed", delivery_id=claim.delivery.id, endpoint=claim.endpoint.id)


async def _audit(
    session: Session, actor: str, what: str, delivery: Delivery, reason: str | None = None
) -> None:
    data = delivery.body["data"]
    await store.record(
        session,
        actor,
        f"delivery:{what}",
        reservation_id=data["reservation_id"],
        operation_id=data["operation_id"],
        endpoint=delivery.endpoint_id,
        type=delivery.type,
        event_id=delivery.event_id,
        attempts=delivery.attempts,
        reason=reason,
    )
