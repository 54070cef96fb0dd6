"""The request signature, checked as the cloud checks it (tuya.md 3 and 6).

Not kind on purpose: it hashes the bytes that came and sorts the query itself, so a client that
signs its query unsorted, hashes a body it does not send, or writes its JSON twice gets 1004.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from pinqueue.simulator.replies import Refusal

TOLERANCE_MS: Final = 300_000
"""How far `t` may be from the real time. The true figure is unknown; an hour is refused."""


def is_token_path(path: str) -> bool:
    """Token calls are signed without an access token, whether or not one is sent along."""
    return path == "/v1.0/token" or path.startswith("/v1.0/token/")


def sign(secret: str, method: str, raw_path: str, body: bytes, headers: Mapping[str, str]) -> str:
    """The signature these headers should carry. Header names are lower case."""
    path, _, query = raw_path.partition("?")
    url = path
    if query:
        pairs = sorted(parse_qsl(query, keep_blank_values=True))
        url += "?" + "&".join(f"{name}={value}" for name, value in pairs)
    signed_headers = "".join(
        f"{name}:{headers.get(name.lower(), '')}\n"
        for name in headers.get("signature-headers", "").split(":")
        if name
    )
    token = "" if is_token_path(path) else headers.get("access_token", "")
    to_sign = (
        f"{headers['client_id']}{token}{headers['t']}{headers.get('nonce', '')}"
        f"{method}\n{hashlib.sha256(body).hexdigest()}\n{signed_headers}\n{url}"
    )
    return hmac.new(secret.encode(), to_sign.encode(), hashlib.sha256).hexdigest().upper()


def verify(
    access_id: str,
    secret: str,
    method: str,
    raw_path: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    now_ms: int,
) -> None:
    """Raise the refusal the cloud would answer with; return nothing for a good signature."""
    for name in ("client_id", "sign", "t", "sign_method"):
        if name not in headers:
            raise Refusal(1105)
    if headers["client_id"] != access_id:
        raise Refusal(1005)
    t = headers["t"]
    if not (t.isascii() and t.isdigit()) or abs(int(t) - now_ms) > TOLERANCE_MS:
        raise Refusal(1013)
    expected = sign(secret, method, raw_path, body, headers)
    if not hmac.compare_digest(expected.encode(), headers["sign"].encode()):
        raise Refusal(1004)
