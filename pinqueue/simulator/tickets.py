"""Tickets: the session keys under which a PIN travels, and the AES around them (tuya.md 2).

Written apart from the product's own crypto, so that each checks the other.
"""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from pinqueue.simulator.replies import Refusal

LIFE_SECONDS: Final = 300


def make_ticket_key(session_key: bytes, access_secret: str) -> str:
    """The session key under AES-256-ECB with the whole 32-character secret: 64 hex digits."""
    padder = PKCS7(128).padder()
    plain = padder.update(session_key) + padder.finalize()
    key = access_secret.encode("ascii")
    cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305  # ECB is the cloud's choice
    encryptor = cipher.encryptor()
    return (encryptor.update(plain) + encryptor.finalize()).hex().upper()


def unseal_pin(password: str, session_key: bytes) -> str:
    """The digits inside `password`; ValueError for anything that does not decrypt to digits."""
    cipher = Cipher(algorithms.AES(session_key), modes.ECB())  # noqa: S305  # as above
    decryptor = cipher.decryptor()
    padded = decryptor.update(bytes.fromhex(password)) + decryptor.finalize()
    unpadder = PKCS7(128).unpadder()
    digits = (unpadder.update(padded) + unpadder.finalize()).decode("ascii")
    if not digits.isdigit():
        raise ValueError("not digits")
    return digits


@dataclass(frozen=True)
class Ticket:
    id: str
    session_key: bytes = field(repr=False)
    expires: float


class TicketOffice:
    """One living ticket per device, handed out again with the time it has left."""

    def __init__(self, access_secret: str) -> None:
        self._secret = access_secret
        self._tickets: dict[str, Ticket] = {}

    def issue(self, device_id: str, now: float) -> dict[str, object]:
        ticket = self._tickets.get(device_id)
        if ticket is None or ticket.expires - now < 1:
            ticket = Ticket(_ticket_id(), secrets.token_bytes(16), now + LIFE_SECONDS)
            self._tickets[device_id] = ticket
        return {
            "ticket_id": ticket.id,
            "ticket_key": make_ticket_key(ticket.session_key, self._secret),
            "expire_time": int(ticket.expires - now),
        }

    def expire(self) -> None:
        """End the life of all that were handed out."""
        self._tickets.clear()

    def unseal(
        self, device_id: str, ticket_id: str, password: str, now: float, *, single_use: bool
    ) -> str:
        """The digits; 1109 for an unknown, expired or foreign ticket, and for a wrong key alike."""
        ticket = self._tickets.get(device_id)
        if ticket is None or ticket.id != ticket_id or ticket.expires <= now:
            raise Refusal(1109)
        if single_use:
            del self._tickets[device_id]
        try:
            return unseal_pin(password, ticket.session_key)
        except ValueError:
            raise Refusal(1109) from None


def _ticket_id() -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(8))
