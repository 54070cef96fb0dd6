"""Whose certificates count where nobody says otherwise: the system's."""

from __future__ import annotations

import ssl
from functools import cache

import httpx2


@cache
def authorities() -> ssl.SSLContext:
    """What a client verifies by, never what somebody put into the environment. Read once in a
    process: it takes 20 ms of a processor, more than a call."""
    return httpx2.create_ssl_context(trust_env=False)
