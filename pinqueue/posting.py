"""Posting a signed webhook: by Standard Webhooks, and only to where it may go.

Whoever may add an endpoint could otherwise have us post into networks that only we can reach, a
cloud's metadata service for one. So an endpoint's name is resolved here, its addresses are judged,
and the very address that was judged is connected to: a name that answers differently a moment later
gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import math
import re
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import httpx2
from standardwebhooks import Webhook

from pinqueue.config import LOOPBACK
from pinqueue.errors import InputInvalid
from pinqueue.patience import asked_wait
from pinqueue.trust import authorities

WITHIN: Final = 15.0
"""Seconds for a whole try, as Standard Webhooks recommends."""
CONNECT_WITHIN: Final = 5.0  # seconds, for each of an endpoint's addresses
LONGEST_URL: Final = 2048
_LONGEST_ANSWER: Final = 200
"""Characters of an answer that are kept, to tell a person what was wrong."""
_LONGEST_WAIT: Final = 86400.0
"""Seconds. What a `Retry-After` asks beyond that is not granted."""
_METADATA: Final = frozenset(
    ipaddress.ip_address(address)
    for address in (
        *("100.100.100.200", "192.0.0.192", "168.63.129.16"),
        *("fd00:ec2::254", "fd20:ce::254"),
    )
)
"""Where clouds tell a machine its secrets, as far as these are not link-local anyway."""
_HOST: Final = re.compile(rb"[A-Za-z0-9._:-]+")
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Answer:
    """What came of one try."""

    status: int | None
    """None where there was no answer."""
    reason: str
    """The beginning of the answer, or why there was none."""
    retry_after: float | None = None
    """Seconds that the endpoint asks to be left alone for."""

    def __str__(self) -> str:
        if self.status is None:
            return self.reason
        return f"HTTP {self.status}: {self.reason}".removesuffix(": ")

    @property
    def taken(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        return self.status == httpx2.codes.GONE


class Poster:
    """Belongs to one event loop; safe for many posts at a time."""

    def __init__(self, *, trust: ssl.SSLContext | None = None) -> None:
        """`trust` stands in for the system's certificates. Nothing is sent yet."""
        self._http = httpx2.AsyncClient(
            verify=trust or authorities(),
            trust_env=False,
            follow_redirects=False,
            # Two endpoints may share an address: no connection made for one serves the other.
            limits=httpx2.Limits(max_keepalive_connections=0),
        )
        # Not the loop's own threads: names that take long must not hold up anything at a lock.
        self._resolving = ThreadPoolExecutor(2, "resolve")

    async def post(
        self,
        url: str,
        secret: str,
        event_id: str,
        body: Mapping[str, Any],
        at: datetime,
        *,
        private: bool,
    ) -> Answer:
        """Post once, signed as sent at that time. Raises nothing: what went wrong is the answer."""
        raw = json.dumps(body, separators=(",", ":"))
        headers = {
            "content-type": "application/json",
            "user-agent": "PinQueue",
            "accept-encoding": "identity",
            "webhook-id": event_id,
            "webhook-timestamp": str(math.floor(at.timestamp())),
            "webhook-signature": Webhook(secret).sign(event_id, at.astimezone(UTC), raw),
        }
        try:
            async with asyncio.timeout(WITHIN):
                return await self._send(httpx2.URL(url), headers, raw.encode(), private)
        except TimeoutError:
            return Answer(None, f"no answer within {WITHIN:.0f} s")
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            return Answer(None, _told(error))

    async def close(self) -> None:
        self._resolving.shutdown(wait=False, cancel_futures=True)
        await self._http.aclose()

    async def _send(
        self, url: httpx2.URL, headers: Mapping[str, str], raw: bytes, private: bool
    ) -> Answer:
        found = await self._resolve(url)
        allowed = [one for one in found if may_post_to(one, url.host, private=private)]
        if not allowed:
            return Answer(None, _not_allowed(url.host, found))
        for number, address in enumerate(allowed, 1):
            try:
                return await self._send_to(address, url, headers, raw)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                if number == len(allowed):
                    raise
        raise AssertionError("unreachable")

    async def _resolve(self, url: httpx2.URL) -> list[Address]:
        """The addresses of a host, those to be tried first in front."""
        # As bytes: of a text, Python itself would refuse some names, and not by an OSError.
        found = await asyncio.get_running_loop().run_in_executor(
            self._resolving, lambda: socket.getaddrinfo(url.raw_host, None, type=socket.SOCK_STREAM)
        )
        texts = dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found)
        return [ipaddress.ip_address(text) for text in texts]

    async def _send_to(
        self, address: Address, url: httpx2.URL, headers: Mapping[str, str], raw: bytes
    ) -> Answer:
        async with self._http.stream(
            "POST",
            url.copy_with(host=str(address)),
            headers={**headers, "host": url.netloc.decode("ascii")},
            content=raw,
            timeout=httpx2.Timeout(WITHIN, connect=CONNECT_WITHIN),
            # The certificate is still asked for, and checked against, the endpoint's own name.
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        ) as response:
            wait = asked_wait(response.headers.get("retry-after", ""), _LONGEST_WAIT)
            said = "" if response.is_success else await _beginning(response)
            return Answer(response.status_code, said, wait)


def check_url(url: str, *, private: bool) -> None:
    """Raise InputInvalid unless it is https, or http on loopback, to where we may post."""
    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise InputInvalid("url", f"is no URL: {error}") from None
    if not (parts.scheme == "https" or (parts.scheme == "http" and parts.host in LOOPBACK)):
        raise InputInvalid("url", "must be https, or http on loopback")
    if (
        not _HOST.fullmatch(parts.raw_host)
        or parts.userinfo
        or parts.fragment
        or len(url) > LONGEST_URL
    ):
        raise InputInvalid(
            "url", f"must be https://host/path of at most {LONGEST_URL} characters, without user"
        )
    try:
        address = ipaddress.ip_address(parts.host)
    except ValueError:
        return  # a name: judged by what it resolves to, whenever something is posted
    if not may_post_to(address, parts.host, private=private):
        raise InputInvalid("url", _not_allowed(parts.host, [address]))


def may_post_to(address: Address, host: str, *, private: bool) -> bool:
    """Public addresses; this machine, where the URL says so itself; private networks, where the
    endpoint may lie in one. Never link-local ones nor a cloud's metadata service."""
    address = _inner(address)
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    if address in _METADATA:
        return False
    if address.is_loopback:
        return private or host in LOOPBACK
    return private or address.is_global


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to, where it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _not_allowed(host: str, found: list[Address]) -> str:
    addresses = ", ".join(str(address) for address in found)
    where = addresses if addresses == host else f"{host} is at {addresses}"
    return (
        f"{where}: not public. An endpoint added with --private may lie in a private network, "
        "but never at a link-local or metadata address"
    )


async def _beginning(response: httpx2.Response) -> str:
    """The first characters of an answer, as one line that any log or table can hold."""
    content = bytearray()
    async for piece in response.aiter_raw():
        content += piece
        if len(content) >= 4 * _LONGEST_ANSWER:
            break
    text = " ".join(content.decode("utf-8", "replace").split())
    return "".join(mark for mark in text if mark.isprintable())[:_LONGEST_ANSWER]


def _told(error: Exception) -> str:
    """Why there was no answer, without the request that the exception carries."""
    if isinstance(error, socket.gaierror):
        return "its name does not resolve"
    if isinstance(error, httpx2.ConnectTimeout):
        return f"no connection within {CONNECT_WITHIN:.0f} s"
    if isinstance(error, httpx2.ConnectError):
        return f"no connection: {str(error)[:_LONGEST_ANSWER]}"
    return f"the exchange broke off ({type(error).__name__})"
