"""Requests to Tuya, as tinytuya writes and signs them.

tinytuya's own code does that here, up to the line that would send. It does not send: tinytuya 1.20
waits without a timeout, renews its token by words found anywhere in an answer, repeats a POST on
the way, and stays dead after an outage. None of that code is reached.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pinqueue.errors import LockFaulted

with contextlib.redirect_stdout(sys.stdout), contextlib.redirect_stderr(sys.stderr):
    # Importing tinytuya starts colorama, which swaps the whole process's output streams. This puts
    # them back.
    import tinytuya

_SILENT = logging.Logger("tinytuya", logging.CRITICAL + 1)
"""tinytuya logs secrets at DEBUG. This logger is outside the hierarchy: no set-up turns it on."""


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    """Path and query as they were signed."""
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class _Written(Exception):
    """Raised out of tinytuya in place of sending."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self.request = request


class _Taken:
    """Stands where tinytuya's code expects the module `requests`, and takes what it would send.

    What a later tinytuya may say about timeouts and the like is ignored: those are the sender's.
    """

    @staticmethod
    def get(url: str, headers: dict[str, str], **_: object) -> NoReturn:
        _Taken.request("GET", url, headers, {})

    @staticmethod
    def request(
        method: str, url: str, headers: dict[str, str], data: str | dict[str, Any], **_: object
    ) -> NoReturn:
        # tinytuya adds the access secret in clear to token calls. It takes no part in the
        # signature, Tuya's documentation does not ask for it, and it opens every door: it stays.
        headers.pop("secret", None)
        target = "/" + url.split("://", 1)[1].split("/", 1)[1]
        raise _Written(
            Request(method, target, headers, data.encode() if isinstance(data, str) else b"")
        )


class _Clock:
    """Stands where tinytuya's code expects the module `time`: ours, put right by what Tuya says."""

    ahead = 0.0

    def time(self) -> float:
        return time.time() + self.ahead


_ANY = "any token keeps tinytuya's constructor from asking for one"


class Writer:
    """tinytuya's own code for writing and signing a request."""

    def __init__(self, region: str, access_id: str, access_secret: str) -> None:
        self._cloud = tinytuya.Cloud(region, access_id, access_secret, initial_token=_ANY)
        self.host: str = self._cloud.urlhost
        # The same code object with other names among its globals, for this object alone: the
        # rest of the process keeps tinytuya as it is. (`tinytuya.Cloud` is the class; its module is
        # only in `sys.modules`.)
        original = tinytuya.Cloud._tuyaplatform
        self._clock = _Clock()
        ours = {"requests": _Taken, "log": _SILENT, "time": self._clock}
        names = {**vars(sys.modules["tinytuya.Cloud"]), **ours}
        self._run = types.FunctionType(original.__code__, names, None, original.__defaults__)

    def set_clock(self, milliseconds: object) -> float | None:
        """Sign from now on by Tuya's clock, which shows that; returns by how many seconds ours is
        behind. None where it is no time."""
        if not isinstance(milliseconds, int) or isinstance(milliseconds, bool):
            return None
        self._clock.ahead = milliseconds / 1000 - time.time()
        return self._clock.ahead

    def write(
        self, method: str, path: str, body: Mapping[str, object] | None, token: str | None
    ) -> Request:
        self._cloud.token = token
        # tinytuya names the type of a body only for POST, and then signs that name.
        content_type = None if body is None else "application/json"
        try:
            self._run(
                self._cloud, path, action=method, post=body, ver=None, content_type=content_type
            )
        except _Written as written:
            return written.request
        raise LockFaulted("this version of tinytuya no longer sends by `requests`: install 1.20")
