"""The three ways to the queue: from Python, over HTTP, on the command line. Each does and tells the
same; what differs in how it is written is made alike here, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from pinqueue import jobs
from pinqueue.config import duration_text
from pinqueue.errors import Conflict, InputInvalid, NotFound, PinQueueError
from pinqueue.store.queue import JobFilter
from pinqueue.tables import dumps
from tests.acceptance.processes import House
from tests.calling import Client, client
from tests.serving import serving

Told = dict[str, Any]

CODES = {NotFound: "not_found", Conflict: "conflict", InputInvalid: "invalid_input"}
SCHEDULED = ("waiting", "delayed", "active")
LISTED = {"waiting": "next", "delayed": "next", "active": "next"} | dict.fromkeys(
    ("completed", "failed"), "newest"
)


class Refused(Exception):
    """What was asked cannot be: the code of the error, its message and the field it names."""

    def __init__(self, code: str, message: str, fields: list[str]) -> None:
        super().__init__(code, message, fields)
        self.code, self.message, self.fields = code, message, fields


class Hand(Protocol):
    def generate(
        self, stay: str, check_in: str | None = None, lead: timedelta | None = None
    ) -> list[Told]: ...
    def revoke(self, stay: str, check_out: str | None = None) -> list[Told]: ...
    def cancel(self, stay: str) -> Told: ...
    def status(self, stay: str, kind: str) -> Told | None: ...
    def listed(self, queue: str) -> dict[str, list[Told]]: ...
    def page(self, *, limit: int, cursor: str | None, newest_first: bool) -> Told: ...
    def retry(self, job_id: int) -> Told: ...
    def retry_all(self, *, queue: str, lock: str) -> Told: ...
    def clear_failed(self, queue: str) -> Told: ...
    def health(self) -> Told: ...


class Python:
    """`pinqueue.jobs`, each call in a transaction of its own."""

    def __init__(self, house: House) -> None:
        self._house = house

    def _do(self, utility: Callable[..., Awaitable[Any]], *given: Any, **named: Any) -> Any:
        async def use(db: Any) -> Any:
            async with db.transaction() as session:
                return await utility(session, *given, **named)

        try:
            return read(dumps(self._house.with_database(use)))
        except PinQueueError as error:
            code = next(code for kind, code in CODES.items() if isinstance(error, kind))
            fields = [error.field] if isinstance(error, InputInvalid) else []
            raise Refused(code, str(error), fields) from error

    def generate(
        self, stay: str, check_in: str | None = None, lead: timedelta | None = None
    ) -> list[Told]:
        planner = self._house.planner()
        found: list[Told] = self._do(
            jobs.schedule_generate_pin, stay, check_in, lead=lead, planner=planner
        )
        return found

    def revoke(self, stay: str, check_out: str | None = None) -> list[Told]:
        planner = self._house.planner()
        found: list[Told] = self._do(jobs.schedule_revoke_pin, stay, check_out, planner=planner)
        return found

    def cancel(self, stay: str) -> Told:
        told: Told = self._do(jobs.cancel_scheduled_jobs, stay)
        return told

    def status(self, stay: str, kind: str) -> Told | None:
        told: Told | None = self._do(jobs.get_scheduled_job_status, stay, kind)
        return told

    def listed(self, queue: str) -> dict[str, list[Told]]:
        found: dict[str, list[Told]] = self._do(jobs.list_queue_jobs, queue)
        return found

    def page(self, *, limit: int, cursor: str | None, newest_first: bool) -> Told:
        async def find(session: Any) -> Told:
            page = await jobs.find_jobs(
                session, limit=limit, cursor=cursor, newest_first=newest_first
            )
            return vars(page)

        told: Told = self._do(find)
        return told

    def retry(self, job_id: int) -> Told:
        told: Told = self._do(jobs.retry_job, job_id)
        return told

    def retry_all(self, *, queue: str, lock: str) -> Told:
        which = JobFilter(queues=(queue,), lock_id=lock)
        told: Told = self._do(jobs.retry_failed_jobs, which)
        return told

    def clear_failed(self, queue: str) -> Told:
        told: Told = self._do(jobs.clear_failed_jobs, queue)
        return told

    def health(self) -> Told:
        told: Told = self._do(jobs.get_queue_health)
        return told


class Http:
    """The API of a served application, with a key."""

    def __init__(self, who: Client) -> None:
        self._who = who

    def _call(self, method: str, path: str, body: object = None, **query: Any) -> Any:
        asked = {name: value for name, value in query.items() if value is not None}
        answer = self._who.call(method, f"{path}?{urlencode(asked)}" if asked else path, body)
        told = read(answer.body.decode())
        if answer.status != 200:
            error = told["error"]
            fields = [fault["field"] for fault in error["details"]]
            raise Refused(error["code"], error["message"], fields)
        return told

    def _of(self, stay: str) -> str:
        return f"/api/jobs/{quote(stay, safe='')}"

    def generate(
        self, stay: str, check_in: str | None = None, lead: timedelta | None = None
    ) -> list[Told]:
        body = {"check_in": check_in, "lead": None if lead is None else duration_text(lead)}
        found: list[Told] = self._call("POST", f"{self._of(stay)}/generate", body)["jobs"]
        return found

    def revoke(self, stay: str, check_out: str | None = None) -> list[Told]:
        body = {"check_out": check_out}
        found: list[Told] = self._call("POST", f"{self._of(stay)}/revoke", body)["jobs"]
        return found

    def cancel(self, stay: str) -> Told:
        told: Told = self._call("DELETE", self._of(stay))
        return told

    def status(self, stay: str, kind: str) -> Told | None:
        return none_if_not_found(lambda: self._call("GET", f"{self._of(stay)}/{kind}"))

    def listed(self, queue: str) -> dict[str, list[Told]]:
        found = {
            state: self._call("GET", "/api/jobs", queue=queue, state=state, order=order)["jobs"]
            for state, order in LISTED.items()
        }
        return with_the_delayed_among_the_waiting(found)

    def page(self, *, limit: int, cursor: str | None, newest_first: bool) -> Told:
        order = "newest" if newest_first else "next"
        told: Told = self._call("GET", "/api/jobs", limit=limit, cursor=cursor, order=order)
        return told

    def retry(self, job_id: int) -> Told:
        told: Told = self._call("POST", f"/api/jobs/{job_id}/retry")
        return told

    def retry_all(self, *, queue: str, lock: str) -> Told:
        told: Told = self._call("POST", "/api/jobs/failed/retry", queue=queue, lock=lock)
        return told

    def clear_failed(self, queue: str) -> Told:
        told: Told = self._call("DELETE", "/api/jobs/failed", queue=queue)
        return told

    def health(self) -> Told:
        answer = self._who.call("GET", "/api/health")
        told: Told = answer.json()
        assert answer.status == (200 if told["healthy"] else 503), answer
        return told


class CommandLine:
    """`pinqueue jobs ... --json`."""

    def __init__(self, house: House) -> None:
        self._house = house

    def _run(self, *words: str, **options: Any) -> Any:
        given = [
            f"--{name.replace('_', '-')}={value}"
            for name, value in options.items()
            if value is not None
        ]
        ended = self._house.run("jobs", *words, *given, "--json")
        if ended.returncode == 0:
            return read(ended.stdout)
        error = json.loads(ended.stderr)["error"]
        code = 2 if error["code"] == "invalid_input" else 1
        assert (ended.returncode, ended.stdout) == (code, ""), ended
        fields = [fault["field"] for fault in error["details"]]
        raise Refused(error["code"], error["message"], fields)

    def generate(
        self, stay: str, check_in: str | None = None, lead: timedelta | None = None
    ) -> list[Told]:
        before = None if lead is None else duration_text(lead)
        return scheduled(self._run("schedule", stay, check_in=check_in, lead=before)["generate"])

    def revoke(self, stay: str, check_out: str | None = None) -> list[Told]:
        return scheduled(self._run("schedule", stay, check_out=check_out)["revoke"])

    def cancel(self, stay: str) -> Told:
        told: Told = self._run("cancel", stay)
        return told

    def status(self, stay: str, kind: str) -> Told | None:
        return none_if_not_found(lambda: self._run("status", stay, kind))

    def listed(self, queue: str) -> dict[str, list[Told]]:
        found = {
            state: self._run("list", queue=queue, state=state, order=order)["jobs"]
            for state, order in LISTED.items()
        }
        return with_the_delayed_among_the_waiting(found)

    def page(self, *, limit: int, cursor: str | None, newest_first: bool) -> Told:
        order = "newest" if newest_first else "next"
        told: Told = self._run("list", limit=limit, cursor=cursor, order=order)
        return told

    def retry(self, job_id: int) -> Told:
        told: Told = self._run("retry", str(job_id))
        return told

    def retry_all(self, *, queue: str, lock: str) -> Told:
        told: Told = self._run("retry", "--all", queue=queue, lock=lock)
        return told

    def clear_failed(self, queue: str) -> Told:
        told: Told = self._run("clear-failed", queue=queue)
        return told

    def health(self) -> Told:
        ended = self._house.run("health", "--json")
        told: Told = json.loads(ended.stdout)
        assert ended.returncode == (0 if told["healthy"] else 1), ended
        return told


@contextmanager
def python(house: House) -> Iterator[Hand]:
    yield Python(house)


@contextmanager
def http(house: House) -> Iterator[Hand]:
    with serving(house.database_url, lead=house.settings().lead) as web:
        yield Http(client(web, "operate"))


@contextmanager
def command_line(house: House) -> Iterator[Hand]:
    yield CommandLine(house)


HANDS = {"python": python, "http": http, "cli": command_line}


def read(text: str) -> Any:
    """JSON, with its instants as instants: there are several ways to write one."""

    def with_instants(told: Told) -> Told:
        return {
            name: datetime.fromisoformat(value) if name.endswith("_at") and value else value
            for name, value in told.items()
        }

    return json.loads(text, object_hook=with_instants)


def none_if_not_found(ask: Callable[[], Any]) -> Told | None:
    try:
        told: Told = ask()
    except Refused as refused:
        if refused.code != "not_found":
            raise
        return None
    return told


def scheduled(status: Told | None) -> list[Told]:
    locks = status["data"]["locks"] if status else []
    names = ("job_id", "lock_id", "scheduled_at")
    return [{name: lock[name] for name in names} for lock in locks if lock["state"] in SCHEDULED]


def with_the_delayed_among_the_waiting(found: dict[str, list[Told]]) -> dict[str, list[Told]]:
    delayed = found.pop("delayed")
    return {**found, "waiting": found["waiting"] + delayed}
