"""Where Tuya's cloud is, and whether anybody is there."""

from __future__ import annotations

import ssl
from functools import cache
from typing import Final

import httpx2

from pinqueue.trust import authorities

HOSTS: Final = {
    "cn": "openapi.tuyacn.com",
    "us": "openapi.tuyaus.com",
    "az": "openapi.tuyaus.com",
    "us-e": "openapi-ueaz.tuyaus.com",
    "ue": "openapi-ueaz.tuyaus.com",
    "eu": "openapi.tuyaeu.com",
    "eu-w": "openapi-weaz.tuyaeu.com",
    "we": "openapi-weaz.tuyaeu.com",
    "in": "openapi.tuyain.com",
    "sg": "openapi-sg.iotbing.com",
}
"""The data centres as tinytuya knows them. Asking it takes an import as long as all of this."""


def endpoint(region: str, url: str = "") -> str:
    """The URL that calls go to; `url` is another than the region's."""
    return url or f"https://{HOSTS[region]}"


async def answers(url: str, ca: str = "") -> bool:
    """Whether anything at all comes back from there. No credentials are sent.

    Waits without end: the caller knows how long it has.
    """
    try:
        async with httpx2.AsyncClient(
            verify=_trusting(ca) if url.startswith("https:") else False,
            trust_env=False,
            timeout=None,  # see above
        ) as http:
            await http.head(url)
    except (httpx2.HTTPError, OSError):
        return False
    return True


@cache
def _trusting(ca: str) -> ssl.SSLContext:
    # Reading the system's certificates takes longer than the question.
    return ssl.create_default_context(cafile=ca) if ca else authorities()
