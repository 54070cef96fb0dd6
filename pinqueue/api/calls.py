"""One call of the API: who calls, what is given, one transaction, one answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, get_type_hints

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pinqueue import keys, logs
from pinqueue.api.routes import BY_EVERY_BODY, BY_EVERY_KEY, Declared, Replies, needs_body
from pinqueue.api.shapes import Error, Nothing
from pinqueue.db import Database, Session
from pinqueue.errors import (
    Conflict,
    DatabaseUnavailable,
    InputInvalid,
    NotFound,
    PinQueueError,
    StateChanged,
)
from pinqueue.patience import within
from pinqueue.reservations import Planner
from pinqueue.webhooks.body import Refusal, parse, receive_body

log = logs.get(__name__)

Handler = Callable[..., Awaitable[tuple[int, BaseModel]]]
H = TypeVar("H", bound=Handler)
M = TypeVar("M", bound=BaseModel)

ANSWER_WITHIN = 30.0
"""Seconds. Long, for a retry of a thousand jobs; a database that says nothing must not hold calls
for ever."""
HEADERS: Final = {"Cache-Control": "no-store"}
"""On every answer: guests, PINs and secrets are nothing for a cache."""
MORE_HEADERS: Final = {
    401: {"WWW-Authenticate": "Bearer"},
    408: {"Connection": "close"},
    503: {"Retry-After": "5"},
}
REFUSALS: Final[dict[type[PinQueueError], tuple[int, str]]] = {
    NotFound: (404, "not_found"),
    Conflict: (409, "conflict"),
    StateChanged: (409, "state_changed"),
    DatabaseUnavailable: (503, "unavailable"),
}


@dataclass(frozen=True)
class Call:
    """What a handler works with."""

    session: Session
    planner: Planner
    actor: str


class Table(list[Declared]):
    """The routes of one matter. A handler's `given` are the parameters, its `body` the body; it
    returns the status and what to answer."""

    def __init__(self, tag: str) -> None:
        super().__init__()
        self._tag = tag

    def route(
        self,
        method: str,
        path: str,
        scope: str,
        replies: Replies,
        *,
        refused: Iterable[int] = (),
    ) -> Callable[[H], H]:
        def declare(handler: H) -> H:
            kinds = get_type_hints(handler)
            given, body = kinds.get("given", Nothing), kinds.get("body")
            every = BY_EVERY_BODY if body else {}
            self.append(
                Declared(
                    method,
                    path,
                    self._tag,
                    handler.__doc__ or "",
                    Served(handler, scope, given, body),
                    {**replies, **BY_EVERY_KEY, **every, **dict.fromkeys([422, *refused], Error)},
                    scope,
                    given,
                    body,
                )
            )
            return handler

        return declare


@dataclass(frozen=True)
class Served:
    """A handler as the web server calls it."""

    handler: Handler
    scope: str
    parameters: type[BaseModel]
    body: type[BaseModel] | None

    @property
    def __name__(self) -> str:
        return self.handler.__name__

    async def __call__(self, request: Request) -> Response:
        note = log.bind(request_id=request.state.request_id, call=self.__name__)
        try:
            caller, status, told = await within(ANSWER_WITHIN, self._handle(request))
        except (Refusal, PinQueueError, TimeoutError) as error:
            refusal = refusal_of(error)
            note.info("api-refused", status=refusal.status, code=refusal.code)
            return refused(refusal)
        note.info("api-answered", status=status, key_name=caller.name)
        return answer(status, told)

    async def _handle(self, request: Request) -> tuple[keys.Caller, int, BaseModel]:
        db: Database = request.state.db
        caller = await authenticate(request, self.scope, db)
        arguments: dict[str, Any] = {}
        if self.parameters is not Nothing:
            arguments["given"] = _checked(self.parameters, _parameters(request))
        else:
            _checked(Nothing, _parameters(request))
        if self.body is not None:
            arguments["body"] = _checked(self.body, await _body(request, self.body))
        async with db.transaction() as session:
            call = Call(session, request.state.planner, caller.actor)
            return caller, *await self.handler(call, **arguments)


async def authenticate(request: Request, scope: str, db: Database) -> keys.Caller:
    """Who calls; Refusal 401, or 403 where the key is not good for this.

    In a transaction of its own: a key's use is kept whatever becomes of the call, and nobody
    without a key has us take in a body.
    """
    sent = request.headers.getlist("authorization")
    scheme, _, key = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not keys.is_key(key):
        raise _unauthorized()
    async with db.transaction() as session:
        caller = await keys.caller(session, key)
    if caller is None:
        raise _unauthorized()
    if scope not in caller.scopes:
        remedy = f"`pinqueue keys create NAME --scope {scope}` makes one that has it"
        raise Refusal(403, "forbidden", f"this key lacks the scope {scope}: {remedy}")
    return caller


def _unauthorized() -> Refusal:
    """The same for every failed authentication: an answer must not say what was wrong."""
    return Refusal(401, "unauthorized", "send a valid key: Authorization: Bearer pq_...")


def _parameters(request: Request) -> dict[str, str]:
    found: dict[str, str] = dict(request.path_params)
    for name, value in request.query_params.multi_items():
        if name in found:
            raise _invalid([{"field": name, "message": "is given twice"}])
        found[name] = value
    return found


async def _body(request: Request, kind: type[BaseModel]) -> dict[str, Any]:
    """What was sent; nothing is as good as {} where no field is required."""
    empty = request.headers.get("content-length", "0") == "0"
    if empty and "transfer-encoding" not in request.headers and not needs_body(kind):
        return {}
    return parse(await receive_body(request))


def _checked(kind: type[M], values: dict[str, Any]) -> M:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _invalid(
            [
                {"field": ".".join(map(str, fault["loc"])), "message": _told(fault, kind)}
                for fault in error.errors(include_url=False, include_input=False)
            ]
        ) from None


def _told(fault: ErrorDetails, kind: type[BaseModel]) -> str:
    """Pydantic's words, but where they are about Python."""
    match fault["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden" if len(fault["loc"]) == 1:
            known = ", ".join(kind.model_fields)
            return f"is not known here; {f'there are {known}' if known else 'nothing is'}"
        case "extra_forbidden":
            return "is not known here"
        case "model_type":
            return "must be an object"
    return fault["msg"]


def _invalid(details: list[dict[str, str]]) -> Refusal:
    first = details[0]
    return Refusal(422, "invalid_input", f"{first['field']}: {first['message']}", details)


def refusal_of(error: Refusal | PinQueueError | TimeoutError) -> Refusal:
    """How a foreseen error is answered; one that no caller can help is raised again."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, TimeoutError):
        return Refusal(503, "unavailable", "try again later")
    if isinstance(error, InputInvalid):
        message = str(error).removeprefix(f"{error.field}: ")
        return _invalid([{"field": error.field, "message": message}])
    for kind, (status, code) in REFUSALS.items():
        if isinstance(error, kind):
            message = "try again later" if status == 503 else str(error)
            return Refusal(status, code, message)
    raise error


def refused(refusal: Refusal) -> Response:
    problem = {
        "code": refusal.code,
        "message": refusal.message,
        "details": refusal.details,
    }
    headers = HEADERS | MORE_HEADERS.get(refusal.status, {})
    return JSONResponse({"error": problem}, refusal.status, headers)


def answer(status: int, told: BaseModel) -> Response:
    return Response(told.model_dump_json(), status, HEADERS, media_type="application/json")
