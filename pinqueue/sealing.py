"""Keeps secrets at rest: all are sealed; PINs are hashed and fingerprinted under a pepper besides.

A stolen database alone gives no PIN: the keys and the pepper live outside it. The bcrypt hash
proves a PIN without opening the seal; against someone who also holds the pepper it adds little,
because six digits are quickly tried.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Sequence
from functools import lru_cache

import bcrypt
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from pinqueue.config import Settings
from pinqueue.errors import ConfigInvalid
from pinqueue.pins import Pin

BCRYPT_ROUNDS = 10
"""About 60 ms. The pepper, not the cost, is what protects so few digits (see the module's text)."""


class Sealer:
    """Seals with the first of several keys and opens with any of them, so that keys can rotate."""

    def __init__(self, secret_keys: Sequence[str], pepper: str) -> None:
        keys = [Fernet(key) for key in secret_keys]
        self._fernet, self._newest = MultiFernet(keys), keys[0]
        self._pepper = pepper.encode()
        self.open_often = lru_cache(maxsize=256)(self.open)
        """The same as `open`, but done once: for what every request asks for, never for a PIN."""

    def seal(self, owner: str, text: str) -> bytes:
        """`owner` names the row, e.g. `access_code:7`: a seal moved to another row is refused."""
        return self._fernet.encrypt(f"{owner}\n{text}".encode())

    def open(self, owner: str, sealed: bytes | memoryview) -> str:
        """Raises ConfigInvalid when no key opens it, or when it was sealed for another row."""
        try:
            sealed_for, _, text = self._fernet.decrypt(bytes(sealed)).decode().partition("\n")
        except InvalidToken:
            raise _no_key_opens(owner) from None
        if sealed_for != owner:
            raise ConfigInvalid(
                f"{owner} holds what was sealed for another row: it was moved there"
            )
        return text

    def seal_anew(self, sealed: bytes) -> bytes | None:
        """The same under the newest key; None where that has sealed it already. Raises
        ConfigInvalid when no key opens it."""
        try:
            self._newest.decrypt(sealed)
        except InvalidToken:
            try:
                return self._fernet.rotate(sealed)
            except InvalidToken:
                raise _no_key_opens("it") from None
        return None

    def seal_pin(self, access_code_id: int, pin: Pin) -> bytes:
        return self.seal(f"access_code:{access_code_id}", pin.digits())

    def open_pin(self, access_code_id: int, sealed: bytes) -> Pin:
        return Pin(self.open(f"access_code:{access_code_id}", sealed))

    def fingerprint(self, lock_id: str, pin: Pin) -> bytes:
        """The same PIN on the same lock always gives the same 32 bytes, for a unique index."""
        return self._keyed("pin-fingerprint", lock_id, pin.digits())

    async def hash_pin(self, access_code_id: int, pin: Pin) -> str:
        """bcrypt over the peppered PIN, off the event loop: it releases the GIL but takes long."""
        salted = await asyncio.to_thread(
            bcrypt.hashpw, self._peppered(access_code_id, pin), bcrypt.gensalt(BCRYPT_ROUNDS)
        )
        return salted.decode()

    async def matches(self, access_code_id: int, pin: Pin, pin_hash: str) -> bool:
        return await asyncio.to_thread(
            bcrypt.checkpw, self._peppered(access_code_id, pin), pin_hash.encode()
        )

    def _peppered(self, access_code_id: int, pin: Pin) -> bytes:
        # base64, because bcrypt stops at a NUL and refuses more than 72 bytes (this is 44).
        return base64.b64encode(self._keyed("pin-hash", str(access_code_id), pin.digits()))

    def _keyed(self, purpose: str, *parts: str) -> bytes:
        message = "\x00".join((purpose, *parts)).encode()
        return hmac.new(self._pepper, message, hashlib.sha256).digest()


def _no_key_opens(owner: str) -> ConfigInvalid:
    return ConfigInvalid(
        f"no key in PINQUEUE_SECRET_KEYS opens {owner}: add the key it was sealed with"
    )


def sealer(settings: Settings) -> Sealer:
    """The sealer of this deployment; raises ConfigInvalid when keys or pepper are missing."""
    settings.require("secret_keys", "pin_pepper")
    return Sealer(
        [key.get_secret_value() for key in settings.secret_keys],
        settings.pin_pepper.get_secret_value(),
    )
