"""Calls to Tuya's cloud: under a living token, each within a deadline, each failure told apart.

Sending is asynchronous, so a call that is cancelled or overdue ends there and then. A thread could
not be stopped, and might still send a create after its caller has gone.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import httpx2

from pinqueue import logs
from pinqueue.config import TUYA_REGIONS
from pinqueue.errors import ConfigInvalid, LockBusy, LockError, LockFaulted, LockUnreachable
from pinqueue.locks.tuya_errors import DEAD_TOKEN, WRONG_CLOCK, code_of, label_of, refusal
from pinqueue.locks.tuya_requests import Request, Writer
from pinqueue.metrics import Metrics
from pinqueue.patience import asked_wait
from pinqueue.trust import authorities

log = logs.get(__name__)

RENEW_BEFORE: Final = 60.0
"""Seconds before its end a token is renewed, so that none dies on its way to Tuya."""
_TOKENS_A_CALL = 5
"""Tokens one call may use up: somebody may revoke a fresh one, but hardly five in a row."""
_STAGE = 0.3
"""Share of the time left that waiting for a connection, connecting, and TLS may take each. Together
they stay below 1, so when the deadline itself strikes, the request was on its way."""
_LONGEST_ANSWER = 1 << 20
"""Bytes. A full lock lists 99 PINs in about 30 kB; more is not Tuya speaking."""
_LONGEST_WAIT = 300.0
"""Seconds. A `Retry-After` beyond that would have one odd answer lock a guest out."""
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout)


class TuyaCloud:
    """One Tuya project. Belongs to one event loop; safe for many calls at a time."""

    def __init__(
        self,
        *,
        region: str,
        access_id: str,
        access_secret: str,
        url: str | None = None,
        ca: str | None = None,
        concurrency: int = 5,
        timeout: float = 10.0,
        metrics: Metrics | None = None,
    ) -> None:
        """`timeout` in seconds bounds a call with everything it needs; `ca` is a file of
        certificates to trust instead of the system's. Nothing is sent yet."""
        _check(region, access_id, access_secret)
        self._writer = Writer(region, access_id, access_secret)
        self._base = httpx2.URL(url or f"https://{self._writer.host}")
        self._timeout = timeout
        self._metrics = metrics or Metrics()
        self._token = _NO_TOKEN
        self._renewing = asyncio.Lock()
        self._http = httpx2.AsyncClient(
            verify=_trusting(ca) if ca else authorities(),
            # Neither a proxy nor a certificate that somebody put into the environment comes between
            # us and the doors, and no redirect carries a signed request to another host.
            trust_env=False,
            follow_redirects=False,
            limits=httpx2.Limits(max_connections=concurrency),
        )

    def deadline(self) -> float:
        """When a call that starts now has to be over, on the event loop's clock."""
        return asyncio.get_running_loop().time() + self._timeout

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        writes: bool = False,
        deadline: float | None = None,
    ) -> object:
        """The `result` of one API call; raises a LockError, in doubt only where `writes` is set."""
        if deadline is None:
            deadline = self.deadline()
        answer: Mapping[str, object] = {}
        for _ in range(_TOKENS_A_CALL):
            token = await self._living_token(deadline)
            answer = await self._ask(
                method, path, body, token=token.text, writes=writes, by=deadline
            )
            if code_of(answer) not in DEAD_TOKEN:
                break
            self._forget(token)
        return _result(answer, writes=writes)

    @contextmanager
    def metered(self, call: str) -> Iterator[None]:
        """Count the block as one call, with its error. A call that had to wait for a token took
        that long, and has the token's error."""
        try:
            with self._timed(call):
                yield
        except LockError as error:
            self._metrics.lock_call_failed(call, type(error).__name__, label_of(error.code))
            raise

    @contextmanager
    def _timed(self, call: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self._metrics.lock_called(call, time.monotonic() - started)

    async def close(self) -> None:
        await self._http.aclose()

    async def _living_token(self, deadline: float) -> _Token:
        """The token all calls share. Who finds it dead renews it; the others wait for that."""
        clock = asyncio.get_running_loop().time
        if clock() < self._token.fresh_until:
            return self._token
        try:
            async with asyncio.timeout_at(deadline), self._renewing:
                if clock() >= self._token.fresh_until:
                    self._token = await self._new_token(deadline)
                return self._token
        except TimeoutError:
            failure = self._unanswered("gave no token in time", writes=False)
        raise failure

    async def _new_token(self, deadline: float) -> _Token:
        # grant_type=1 hands out the living token again, so that several processes can share one
        # project. The refresh call would kill the token of all the others.
        with self._timed("token"):
            answer = await self._ask("GET", "/v1.0/token?grant_type=1", None, by=deadline)
        result = _result(answer, writes=False)
        text = result.get("access_token") if isinstance(result, dict) else None
        seconds = result.get("expire_time") if isinstance(result, dict) else None
        if not (isinstance(text, str) and _VISIBLE.fullmatch(text) and isinstance(seconds, int)):
            raise LockFaulted("Tuya's answer to the request for a token holds none")
        return _Token(text, asyncio.get_running_loop().time() + seconds - RENEW_BEFORE)

    def _forget(self, dead: _Token) -> None:
        # Only the one that was refused: another call may have renewed it in the meantime.
        if self._token is dead:
            self._token = _NO_TOKEN

    async def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        *,
        by: float,
        token: str | None = None,
        writes: bool = False,
    ) -> Mapping[str, object]:
        """Tuya's answer to one request, whatever it says. No answer is a LockUnreachable.

        Where Tuya finds that our clock is wrong, it is asked once more by its own, which it tells:
        nothing was done, and a guest need not wait for somebody who sets a clock.
        """
        asked = partial(self._ask_once, method, path, body, by=by, token=token, writes=writes)
        answer = await asked()
        if code_of(answer) == WRONG_CLOCK:
            behind = self._writer.set_clock(answer.get("t"))
            if behind is not None:
                log.warning("clock-is-wrong", seconds_behind_tuya=round(behind, 1))
                answer = await asked()
        return answer

    async def _ask_once(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        *,
        by: float,
        token: str | None,
        writes: bool,
    ) -> Mapping[str, object]:
        request = self._writer.write(method, path, body, token)
        failure: LockError
        try:
            async with asyncio.timeout_at(by):
                status, wait, content = await self._send(request, by)
        except httpx2.PoolTimeout:
            failure = LockBusy(
                "every connection to Tuya is in use: raise the gateway's concurrency"
            )
        except _NOT_SENT as error:
            why = str(error) or "no connection in time"
            failure = LockUnreachable(
                f"{self._base.host} cannot be reached: {why}", cloud_away=True
            )
        except TimeoutError:
            failure = self._unanswered(f"gave no answer within {self._timeout:g} s", writes=writes)
        except (httpx2.HTTPError, OSError) as error:
            what = f"broke off the exchange ({type(error).__name__})"
            failure = self._unanswered(what, writes=writes)
        else:
            return self._read(status, wait, content, writes=writes)
        # Outside of the handlers on purpose: httpx2's exceptions carry the request with the token
        # in its headers, and as the context of ours they would reach every error reporter.
        raise failure

    async def _send(self, request: Request, by: float) -> tuple[int, str, bytes]:
        left = max(by - asyncio.get_running_loop().time(), 0.0)
        stage = left * _STAGE
        async with self._http.stream(
            request.method,
            self._base.copy_with(raw_path=request.target.encode()),
            headers=request.headers,
            content=request.body,
            timeout=httpx2.Timeout(left, connect=stage, pool=stage),
        ) as response:
            content = bytearray()
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > _LONGEST_ANSWER:
                    break
            return response.status_code, response.headers.get("Retry-After", ""), bytes(content)

    def _read(
        self, status: int, wait: str, content: bytes, *, writes: bool
    ) -> Mapping[str, object]:
        """The envelope. Tuya puts one around success and error alike, with HTTP status 200."""
        if status == httpx2.codes.TOO_MANY_REQUESTS:
            asked = asked_wait(wait, _LONGEST_WAIT)
            raise LockBusy("Tuya asks for a slower pace", code=str(status), retry_after=asked)
        answer = _json(content)
        if not (isinstance(answer, dict) and isinstance(answer.get("success"), bool)):
            raise self._unanswered(f"answered HTTP {status} with something else", writes=writes)
        return answer

    def _unanswered(self, what: str, *, writes: bool) -> LockUnreachable:
        return LockUnreachable(
            f"Tuya's cloud is away: {self._base.host} {what}", in_doubt=writes, cloud_away=True
        )


@dataclass(frozen=True)
class _Token:
    text: str = field(repr=False)
    fresh_until: float


_NO_TOKEN = _Token("", float("-inf"))


_VISIBLE = re.compile(r"[!-~]+")
_SECRET_LENGTH = 32


def _check(region: str, access_id: str, access_secret: str) -> None:
    """tinytuya takes an unknown region for China and an empty secret for a file in the current
    directory, and an HTTP library quotes a header it cannot send: none of them gets that far."""
    if region not in TUYA_REGIONS:
        raise ConfigInvalid("PINQUEUE_TUYA_REGION must be one of " + ", ".join(TUYA_REGIONS))
    if not _VISIBLE.fullmatch(access_id):
        raise ConfigInvalid("PINQUEUE_TUYA_ACCESS_ID must be printable ASCII without spaces")
    if not (_VISIBLE.fullmatch(access_secret) and len(access_secret) == _SECRET_LENGTH):
        raise ConfigInvalid("PINQUEUE_TUYA_ACCESS_SECRET must be 32 characters, ASCII, no spaces")


def _trusting(ca: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError is one too
        raise ConfigInvalid(f"PINQUEUE_TUYA_CA: {ca} holds no certificates: {error}") from None


def _result(answer: Mapping[str, object], *, writes: bool) -> object:
    if answer["success"] is True:
        return answer.get("result")
    raise refusal(answer, writes=writes)


def _json(content: bytes) -> object:
    # None, not an exception: a JSONDecodeError would carry the answer, and with it a token.
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
