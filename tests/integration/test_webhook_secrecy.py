"""What a webhook brings stays in its rows: not in a log at DEBUG, not in an answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import factories
from tests.senders import stays, using
from tests.serving import Answer, Web, sign, web_process

NAME, PHONE, NOTE = "Canaria Vogel", "+49 170 5550177", "the-note-nobody-may-see"
QUERY = "pin=83749201&token=topsecretquery"


CANARIES = {NAME, PHONE, NOTE, "83749201", "topsecretquery", factories.SECRET[6:], "whsec_", "v1,"}
CANARIES |= {stays.SECRET, "another-path-secret"}
"""What must be seen nowhere: of the guest, the body, the query, the secrets and any signature."""


def event(reservation: str = "res-1", **data: Any) -> dict[str, Any]:
    guest = {"name": NAME, "phone": PHONE}
    return factories.event(reservation, **{"guest": guest, "note": NOTE, **data})


def every_kind_of_answer(web: Web) -> list[Answer]:
    raw, headers = factories.signed(event())
    path = f"/webhooks/main?{QUERY}"
    nul = json.dumps(event(note=f"{NOTE}\x00")).encode()
    broken, twice = raw[:-1], raw[:-1] + f', "{NOTE}": 1, "{NOTE}": 2}}'.encode()
    return [
        web.post(raw, headers, path),
        web.post(raw, headers, path),
        web.tell(event("res-2", status=NOTE)),
        web.tell(event("res-2", check_in=NOTE)),
        web.tell(event("res-2", check_out="2020-01-01T10:00:00")),
        web.tell(event("res-2"), event_id=headers["webhook-id"]),
        web.tell(event("res-2", listing_id="apt-8")),
        web.tell({**event("res-2"), "type": "something.else"}),
        web.post(raw + b" ", headers, path),
        web.post(raw, {**headers, "content-type": f"text/{NOTE}"}, path),
        web.post(raw, headers, f"/webhooks/{NOTE}%20{NOTE}?{QUERY}"),
        web.post(raw, headers, path, method="PUT"),
        *(web.post(body, sign(body)) for body in (nul, broken, twice, raw + b"\xff")),
        web.post(raw + bytes(300_000), headers, path),
        *(
            web.post(body, using.JSON, f"/webhooks/stays/{secret}?{QUERY}")
            for body in (stays.event(client={"name": NAME, "phone": PHONE}), b"{}", b"{")
            for secret in (stays.SECRET, "another-path-secret")
        ),
    ]


def fails_with_its_row(web: Web) -> Answer:
    """PostgreSQL's own message would hold the whole row."""
    web.execute("ALTER TABLE reservations ADD CONSTRAINT none CHECK (id <> 'res-row') NOT VALID")
    return web.tell(event("res-row"))


def fails_while_deferring(web: Web) -> Answer:
    web.execute("ALTER TABLE procrastinate_jobs ADD CONSTRAINT none CHECK (false) NOT VALID")
    return web.tell(event("res-job"))


def test_no_log_line_at_debug_and_no_answer_holds_what_was_told(
    database_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with web_process(database_url, log) as (web, _):
        web.set_up()
        using.set_up(web, "stays", stays.SECRET, listings=[stays.LISTING])
        answers = every_kind_of_answer(web)
        assert {a.status for a in answers} == {200, 400, 401, 404, 405, 409, 413, 415, 422}
        answers += [fails_with_its_row(web), fails_while_deferring(web)]
        assert [a.status for a in answers[-2:]] == [500, 500]
    told = log.read_text() + "".join(f"{a.headers} {a.body.decode()}" for a in answers)
    assert "request-failed" in told
    assert "webhook-answered" in told
    assert {canary for canary in CANARIES if canary in told} == set()


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def test_a_log_line_says_who_asked_how_much_and_what_became_of_it(
    database_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with web_process(database_url, log) as (web, _):
        web.set_up()
        raw, headers = factories.signed(event())
        good = web.post(raw, headers)
        bad = web.post(raw + b" ", headers)
    found = {line["request_id"]: line for line in lines(log) if "request_id" in line}
    told = found[good.headers["x-request-id"]]
    assert told["event"] == "webhook-answered"
    assert (told["source"], told["outcome"]) == ("main", "accepted")
    assert (told["ip"], told["size"]) == ("127.0.0.1", len(raw))
    told = found[bad.headers["x-request-id"]]
    assert (told["event"], told["status"], told["code"]) == ("webhook-refused", 401, "unauthorized")


def test_21_a_clock_that_is_off_is_named_in_the_log_and_not_in_the_answer(
    database_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with web_process(database_url, log) as (web, _):
        web.set_up()
        raw, _headers = factories.signed(event())
        answer = web.post(raw, sign(raw, timestamp="1614265330"))
    assert answer.json() == {"error": "unauthorized"}
    assert [line["code"] for line in lines(log) if "code" in line] == ["clock"]


@pytest.mark.parametrize("path", ["/webhooks/main", "/nothing/here", "/healthz"])
def test_each_request_has_an_id_of_ours_that_nobody_can_choose(shared_web: Web, path: str) -> None:
    asked = [("X-Request-ID", "chosen")]
    ids = {shared_web.post(b"", asked, path).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3
    assert "chosen" not in ids
