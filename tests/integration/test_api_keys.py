"""Keys: who may call what, and that a failed authentication tells nothing."""

from __future__ import annotations

from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from pinqueue import api, inventory
from pinqueue.api import calls
from pinqueue.api.routes import Declared
from pinqueue.keys import GRANTS
from tests.calling import Client, client, new_key, stay
from tests.serving import Web, serving, web_process
from tests.wires import Wire

UNAUTHORIZED = {
    "error": {
        "code": "unauthorized",
        "message": "send a valid key: Authorization: Bearer pq_...",
        "details": [],
    }
}
GOOD = "pq_00000000_" + "a" * 43


def call(one: Declared, who: Client) -> int:
    """The status of a call that no handler can misunderstand for a good one."""
    path = one.path.replace("{id}", "0").replace("{reservation_id}", "none")
    return who.call(one.method, path, {} if one.body else None).status


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {GOOD}"},
        {"Authorization": f"Bearer {GOOD[:-1]}"},
        {"Authorization": "Bearer pq_"},
        {"Authorization": f"Basic {GOOD}"},
        {"Authorization": GOOD},
        {"Authorization": f"Bearer {GOOD}\xe9"},
        {"Authorization": "Bearer " + "a" * 10_000},
    ],
)
def test_without_a_key_of_ours_every_answer_is_the_same(
    shared_web: Web, headers: dict[str, str]
) -> None:
    answer = Client(shared_web).call("GET", "/api/reservations", headers=headers)
    assert (answer.status, answer.json()) == (401, UNAUTHORIZED)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_key_is_in_the_database_as_its_hash_alone(shared_web: Web) -> None:
    key = new_key(shared_web, name="hashed")
    _, key_id, secret = key.split("_", 2)
    (row,) = shared_web.ask("SELECT id, key_sha256 FROM api_keys WHERE name = 'hashed'")
    assert (row["id"], row["key_sha256"]) == (key_id, sha256(key.encode()).digest())
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    for (table,) in (row.values() for row in shared_web.ask(tables)):
        rows = shared_web.ask(f'SELECT t::text AS told FROM "{table}" t')
        assert not [row for row in rows if secret in row["told"]], table


def test_a_wrong_secret_and_a_revoked_key_are_answered_alike(shared_web: Web) -> None:
    key = new_key(shared_web, name="lost")
    wrong = key[:-1] + ("a" if key[-1] != "a" else "b")
    assert Client(shared_web, key).call("GET", "/api/locks").status == 200
    shared_web.execute("UPDATE api_keys SET revoked_at = now() WHERE name = 'lost'")
    for bad in (key, wrong):
        answer = Client(shared_web, bad).call("GET", "/api/locks")
        assert (answer.status, answer.json()) == (401, UNAUTHORIZED)


def test_two_keys_at_once_are_no_key(shared_web: Web) -> None:
    key = f"Bearer {new_key(shared_web)}"
    answer = shared_web.post(
        b"", [("Authorization", key), ("Authorization", key)], "/api/locks", "GET"
    )
    assert answer.status == 401


def test_the_word_bearer_may_be_written_in_any_case(shared_web: Web) -> None:
    headers = {"Authorization": f"bearer {new_key(shared_web)}"}
    assert Client(shared_web).call("GET", "/api/locks", headers=headers).status == 200


@pytest.mark.parametrize("one", api.TABLE, ids=lambda one: f"{one.method} {one.path}")
def test_a_route_asks_for_a_key_before_anything_else(shared_web: Web, one: Declared) -> None:
    assert call(one, Client(shared_web)) == 401


@pytest.fixture(scope="module")
def keys(shared_web: Web) -> dict[str, str]:
    return {scope: new_key(shared_web, scope) for scope in inventory.SCOPES}


@pytest.mark.parametrize("one", api.TABLE, ids=lambda one: f"{one.method} {one.path}")
def test_a_route_lets_in_who_has_its_scope_and_tells_the_others_which_is_missing(
    shared_web: Web, keys: dict[str, str], one: Declared
) -> None:
    let_in = {scope for scope in keys if call(one, Client(shared_web, keys[scope])) != 403}
    assert let_in == {scope for scope, granted in GRANTS.items() if one.scope in granted}
    path = one.path.replace("{id}", "0").replace("{reservation_id}", "none")
    for scope in set(keys) - let_in:
        who = Client(shared_web, keys[scope])
        error = who.refused(403, one.method, path, {} if one.body else None)
        assert error["message"].startswith(f"this key lacks the scope {one.scope}: ")


def test_the_scopes_are_as_they_are_told() -> None:
    assert {scope: set(granted) for scope, granted in GRANTS.items()} == {
        "read": {"read"},
        "operate": {"operate", "read"},
        "reveal": {"reveal", "read"},
        "admin": {"admin", "operate", "reveal", "read"},
    }


def test_the_body_of_one_without_a_key_is_not_taken_in(shared_web: Web) -> None:
    head = b"POST /api/locks HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n"
    assert shared_web.exchange(head).status == 401


def test_the_last_use_of_a_key_is_kept_to_the_minute(web: Web) -> None:
    who = Client(web, new_key(web, "read", name="desk"))
    used = "SELECT last_used_at FROM api_keys WHERE name = 'desk'"
    assert web.value(used) is None
    who.get("/api/locks")
    first = web.value(used)
    assert first is not None
    who.get("/api/locks")
    assert web.value(used) == first
    web.execute("UPDATE api_keys SET last_used_at = last_used_at - interval '61 seconds'")
    who.get("/api/locks")
    assert web.value(used) > first


def test_also_a_use_that_was_refused_is_kept(web: Web) -> None:
    who = Client(web, new_key(web, "read", name="desk"))
    who.refused(403, "POST", "/api/locks", {})
    assert web.value("SELECT last_used_at IS NOT NULL FROM api_keys WHERE name = 'desk'")


def test_what_a_key_did_is_audited_by_its_name(web: Web) -> None:
    who = Client(web, new_key(web, name="desk"))
    who.told(201, "POST", "/api/locks", {"id": "back", "device_id": "d-9", "protocol": "wifi"})
    (row,) = web.ask("SELECT actor FROM audit_events WHERE detail ->> 'lock' = 'back'")
    assert row["actor"] == "key:desk"


@pytest.mark.parametrize("how", ["cut", "fall_silent"])
def test_while_the_database_is_away_the_caller_is_asked_to_come_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(calls, "ANSWER_WITHIN", 2.0)
    with closing(Wire(database_url)) as wire, serving(database_url, wire.url) as web:
        who = client(web)
        who.get("/api/locks")
        getattr(wire, how)()
        answer = who.call("GET", "/api/locks")
        assert (answer.status, answer.json()["error"]["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"] == "5"
        assert answer.seconds < 3
        wire.mend()
        who.get("/api/locks")


def test_no_log_line_holds_a_pin_a_key_or_a_secret(database_url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with web_process(database_url, log) as (web, _):
        web.set_up()
        who = client(web)
        who.told(201, "PUT", "/api/reservations/res-1", stay())
        (code,) = who.get("/api/reservations/res-1/codes")["codes"]
        pin = who.told(200, "POST", f"/api/codes/{code['id']}/reveal")["pin"]
        secret = who.told(201, "POST", "/api/sources", {"id": "my-site"})["secret"]
        who.refused(422, "POST", f"/api/codes/0/reveal?pin={pin}")
        who.refused(422, "POST", "/api/sources", {"id": "x", "secret": secret[:-20]})
    written = log.read_text()
    assert "api-answered" in written
    for hidden in (pin, who.key or "", secret, secret[:-20]):
        assert hidden not in written
