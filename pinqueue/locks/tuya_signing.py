"""Tuya's cryptography: the signature under a request, the key in a ticket, the PIN in a password.

Pure functions. Sources: developer.tuya.com, "Sign Requests for Cloud Authorization"
(new-singnature, sic) and the door-lock password API (doorlock-api-password).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

_SECRET_BYTES = 32
_SESSION_KEY_BYTES = 16
_BLOCK_BITS = 128


def sign(
    method: str,
    url: str,
    *,
    access_id: str,
    access_secret: str,
    at_ms: str,
    body: bytes = b"",
    token: str = "",
    nonce: str = "",
    headers: Mapping[str, str] | None = None,
) -> str:
    """The `sign` header of one request, upper hex.

    `url` is path and query, un-encoded, keys in ascending order. `token` stays empty for the token
    call. `headers` are those that `Signature-Headers` names, in its order. `at_ms` is the header
    `t`: milliseconds since 1970, as text.
    """
    signed_headers = "".join(f"{name}:{value}\n" for name, value in (headers or {}).items())
    request = "\n".join((method, hashlib.sha256(body).hexdigest(), signed_headers, url))
    text = access_id + token + at_ms + nonce + request
    return hmac.new(access_secret.encode(), text.encode(), hashlib.sha256).hexdigest().upper()


def open_ticket(ticket_key: str, access_secret: str) -> bytes:
    """The session key inside a ticket: AES-256-ECB under the whole access secret.

    A wrong secret is certain to show: the second of the two blocks is padding and nothing else.
    Raises ValueError then.
    """
    secret = access_secret.encode("ascii")
    if len(secret) != _SECRET_BYTES:
        raise ValueError("the access secret must be 32 characters long")
    session_key = _unpad(_ecb(secret, bytes.fromhex(ticket_key), encrypt=False))
    if len(session_key) != _SESSION_KEY_BYTES:
        raise ValueError("the ticket does not hold a key of 16 bytes")
    return session_key


def seal_pin(digits: str, session_key: bytes) -> str:
    """The `password` field: the digits in AES-128-ECB, upper hex as in Tuya's own samples."""
    padder = PKCS7(_BLOCK_BITS).padder()
    padded = padder.update(digits.encode("ascii")) + padder.finalize()
    return _ecb(session_key, padded, encrypt=True).hex().upper()


def _ecb(key: bytes, data: bytes, *, encrypt: bool) -> bytes:
    # ECB is harmless here: one block, under a key that lives for minutes.
    cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305  # it is Tuya's choice
    operation = cipher.encryptor() if encrypt else cipher.decryptor()
    return operation.update(data) + operation.finalize()


def _unpad(padded: bytes) -> bytes:
    unpadder = PKCS7(_BLOCK_BITS).unpadder()
    return unpadder.update(padded) + unpadder.finalize()
