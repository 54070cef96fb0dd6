"""The signature of Standard Webhooks 1.0.0, which Svix's is but for the names of its headers.

Source: standard-webhooks.com, spec/standard-webhooks.md, `v1` (HMAC-SHA256).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook
from starlette.datastructures import Headers

from pinqueue.webhooks.sender import Received

_ID = re.compile(r"[A-Za-z0-9_\-]{1,128}")
_TIMESTAMP = re.compile(r"[0-9]{10}")
_SIGNATURE = re.compile(r"v1,[A-Za-z0-9+/]{43}=")
_LONGEST_HEADER, _MOST_SIGNATURES = 2048, 10
_TOLERANCE = 300  # seconds, as every official library has it


def verify(secrets: Sequence[str], received: Received, prefix: str) -> bool:
    """Whether one of the secrets signed these very bytes within five minutes of `received.at`.

    `prefix` is what its three headers begin with: "webhook", or "svix" for who sends through Svix.
    """
    values = [
        received.headers.getlist(f"{prefix}-{name}") for name in ("id", "timestamp", "signature")
    ]
    if any(len(value) != 1 for value in values):
        return False
    (event_id,), (timestamp,), (signature,) = values
    if not (_ID.fullmatch(event_id) and _TIMESTAMP.fullmatch(timestamp)):
        return False
    if len(signature) > _LONGEST_HEADER:
        return False
    if clock_is_off(received.headers, received.at, prefix):
        return False
    tokens = [token for token in signature.split(" ") if token.startswith("v1,")]
    verified = False
    for token in tokens[:_MOST_SIGNATURES]:  # one at a time: junk cannot hide a good one
        for secret in secrets:
            # No early exit: which secret fitted must not show in the time it takes.
            verified |= _fits(secret, received.raw, event_id, timestamp, token)
    return verified


def _fits(secret: str, raw: bytes, event_id: str, timestamp: str, token: str) -> bool:
    """Not by the library's own `verify`, which asks this process's clock what time it is."""
    if not _SIGNATURE.fullmatch(token):
        return False
    signed_at = datetime.fromtimestamp(int(timestamp), UTC)
    try:
        wanted = Webhook(secret).sign(event_id, signed_at, raw.decode())
    except Exception:  # a body that is no text, whatever else: the request is not verified
        return False
    return hmac.compare_digest(wanted, token)


def clock_is_off(headers: Headers, now: datetime, prefix: str) -> bool:
    """Whether its time alone keeps a request from verifying: a reason to log, never to tell."""
    sent_at = headers.get(f"{prefix}-timestamp", "")
    return bool(_TIMESTAMP.fullmatch(sent_at)) and abs(int(sent_at) - now.timestamp()) > _TOLERANCE
