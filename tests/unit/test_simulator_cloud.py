"""The signed API without the wire: every documented refusal, tokens, tickets, plans and limits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from pinqueue.simulator.cloud import Call, Cloud, Work
from pinqueue.simulator.replies import Refusal
from pinqueue.simulator.signing import sign

ID, SECRET, NOW = "project", "0123456789abcdef0123456789abcdef", 1_800_000_000.0
PINS = {"wifi": "4809173", "zigbee": "480917", "bluetooth": "480917"}


def ecb(key: bytes, data: bytes, *, encrypt: bool) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.ECB())
    worker = cipher.encryptor() if encrypt else cipher.decryptor()
    return worker.update(data) + worker.finalize()


class Project:
    """A correct client of one cloud, whose clock is `now`."""

    def __init__(self, *protocols: str, **settings: object) -> None:
        self.cloud = Cloud(ID, SECRET)
        self.cloud.settings.update(settings)
        for protocol in protocols or ("wifi", "zigbee", "bluetooth"):
            self.cloud.add_door(protocol, protocol)
        self.now = NOW
        self.token = ""
        self.token = self.ask("GET", "/v1.0/token?grant_type=1")["access_token"]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        self.cloud.run_postponed(self.now)
        return self.admitted(method, path, body).run(self.now)

    def admitted(self, method: str, path: str, body: Any = None) -> Work:
        sent = b"" if body is None else json.dumps(body).encode()
        real_ms = 1_700_000_000_000
        headers = {"client_id": ID, "t": str(real_ms), "sign_method": "HMAC-SHA256"}
        if self.token:
            headers["access_token"] = self.token
        headers["sign"] = sign(SECRET, method, path, sent, headers)
        return self.cloud.admit(Call(method, path, sent, headers), self.now, real_ms)

    def code(self, method: str, path: str, body: Any = None) -> int | None:
        try:
            self.ask(method, path, body)
        except Refusal as refusal:
            return refusal.code
        return None

    def body(self, protocol: str, pin: str | None = None, **changes: Any) -> dict[str, Any]:
        """The body of a create that would succeed, with these changes; None leaves a field out."""
        ticket = self.ask("POST", lock(protocol, "password-ticket"))
        plain = ecb(SECRET.encode(), bytes.fromhex(ticket["ticket_key"]), encrypt=False)
        digits = (PINS[protocol] if pin is None else pin).encode()
        padded = digits + bytes([16 - len(digits)]) * (16 - len(digits))
        body = {
            "name": "stay-1",
            "password": ecb(plain[:16], padded, encrypt=True).hex().upper(),
            "effective_time": int(self.now),
            "invalid_time": int(self.now) + 3600,
            "password_type": "ticket",
            "ticket_id": ticket["ticket_id"],
        } | changes
        return {name: value for name, value in body.items() if value is not None}

    def create(self, protocol: str, pin: str | None = None, **changes: Any) -> int:
        body = self.body(protocol, pin, **changes)
        return int(self.ask("POST", lock(protocol, "temp-password"), body)["id"])

    def create_code(self, protocol: str, pin: str | None = None, **changes: Any) -> int | None:
        body = self.body(protocol, pin, **changes)
        return self.code("POST", lock(protocol, "temp-password"), body)


def lock(protocol: str, rest: str) -> str:
    return f"/v1.0/devices/{protocol}/door-lock/{rest}"


def one(protocol: str, password_id: int, rest: str = "") -> str:
    return lock(protocol, f"temp-passwords/{password_id}") + (f"/{rest}" if rest else "")


@pytest.mark.parametrize("protocol", ["wifi", "zigbee", "bluetooth"])
def test_ids_do_not_fit_an_int_column(protocol: str) -> None:
    assert Project(protocol).create(protocol) > 2**31


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": None}, 1100),
        ({"name": ""}, 1100),
        ({"password": None}, 1100),
        ({"effective_time": None}, 1100),
        ({"invalid_time": None}, 1100),
        ({"password_type": None}, 1100),
        ({"ticket_id": None}, 1100),
        ({"password_type": "plain"}, 1109),
        ({"ticket_id": "abcdefgh"}, 1109),
        ({"password": "480917"}, 1109),
        ({"password": "00" * 16}, 1109),
        ({"invalid_time": int(NOW)}, 2318),
        ({"effective_time": int(NOW) + 3600}, 1109),
        ({"effective_time": str(int(NOW))}, 1109),
        ({"invalid_time": int(NOW) * 1000}, 1109),
        ({"name": "x" * 21}, 1109),
        ({"type": 2}, 1109),
        ({"schedule_list": [{}], "time_zone": "UTC"}, 1109),
        (
            {"schedule_list": [{"effective_time": 0, "invalid_time": 1440, "working_day": 127}]},
            1100,
        ),
    ],
)
def test_a_create_asked_for_wrongly_is_refused(changes: dict[str, Any], code: int) -> None:
    assert Project().create_code("wifi", **changes) == code


@pytest.mark.parametrize(
    ("protocol", "pin"), [("wifi", "480917"), ("zigbee", "4809173"), ("bluetooth", "4809")]
)
def test_a_pin_of_another_length_is_2314(protocol: str, pin: str) -> None:
    assert Project().create_code(protocol, pin) == 2314


def test_a_name_on_the_lock_is_2316() -> None:
    project = Project()
    project.create("wifi")
    assert project.create_code("wifi", "9305718") == 2316


def test_a_pin_on_the_lock_is_2322() -> None:
    project = Project()
    project.create("wifi")
    assert project.create_code("wifi", name="stay-2") == 2322


def test_the_name_of_a_password_being_deleted_is_still_taken() -> None:
    project = Project()
    project.ask("DELETE", one("wifi", project.create("wifi")))
    assert project.create_code("wifi") == 2316


def test_a_deleted_name_is_free_again_or_not_by_the_switch() -> None:
    for taken, code in ((False, None), (True, 2316)):
        project = Project("wifi", deleted_names_taken=taken)
        project.cloud.door("wifi", NOW).set_state(NOW, online=True, asleep=False)
        project.ask("DELETE", one("wifi", project.create("wifi")))
        assert project.create_code("wifi") == code


def test_the_eleventh_live_password_is_2303() -> None:
    project = Project()
    for count in range(10):
        project.create("wifi", f"480917{count}", name=f"stay-{count}")
    assert project.create_code("wifi", "9305718", name="one-more") == 2303
    project.now += 3600
    assert project.create_code("wifi", "9305718", name="one-more") is None


@pytest.mark.parametrize("protocol", ["zigbee", "bluetooth"])
def test_a_second_operation_before_the_first_is_delivered_is_2328(protocol: str) -> None:
    project = Project()
    project.create(protocol)
    assert project.create_code(protocol, "930571", name="stay-2") == 2328
    project.now += 1
    assert project.create_code(protocol, "930571", name="stay-2") is None


@pytest.mark.parametrize("protocol", ["zigbee", "bluetooth"])
def test_a_lock_out_of_reach_is_2312(protocol: str) -> None:
    project = Project()
    password_id = project.create(protocol)
    project.now += 1
    project.cloud.door(protocol, project.now).set_state(project.now, online=False, asleep=None)
    assert project.create_code(protocol, "930571", name="stay-2") == 2312
    assert project.code("DELETE", one(protocol, password_id)) == 2312


def test_a_closed_bluetooth_window_accepts_by_the_switch() -> None:
    project = Project("bluetooth", bluetooth_accepts_closed=True)
    project.cloud.door("bluetooth", NOW).set_state(NOW, online=False, asleep=None)
    assert project.create_code("bluetooth") is None


def test_a_camera_lock_refuses_a_create_while_offline_by_the_switch() -> None:
    for refuses, code in ((False, None), (True, 2312)):
        project = Project("wifi", wifi_refuses_offline=refuses)
        project.cloud.door("wifi", NOW).set_state(NOW, online=False, asleep=None)
        assert project.create_code("wifi") == code


@pytest.mark.parametrize(("protocol", "code"), [("wifi", 2321), ("zigbee", 2310)])
def test_an_unknown_password_is_not_found_in_the_words_of_its_protocol(
    protocol: str, code: int
) -> None:
    project = Project()
    assert project.code("DELETE", one(protocol, 7)) == code
    assert project.code("GET", lock(protocol, "temp-password/7")) == code


def test_deleting_twice_answers_true_or_2324_by_the_switch() -> None:
    for answer, code in ((True, None), (2324, 2324)):
        project = Project("wifi", delete_twice=answer)
        password_id = project.create("wifi")
        assert project.ask("DELETE", one("wifi", password_id)) is True
        assert project.code("DELETE", one("wifi", password_id)) == code


def test_only_zigbee_can_freeze() -> None:
    project = Project()
    for protocol, code in (("wifi", 2004), ("bluetooth", 2004), ("zigbee", None)):
        password_id = project.create(protocol)
        project.now += 1
        assert project.code("PUT", one(protocol, password_id, "freeze-password")) == code


def test_a_frozen_password_cannot_be_frozen_or_changed() -> None:
    project = Project()
    password_id = project.create("zigbee")
    project.now += 1
    project.ask("PUT", one("zigbee", password_id, "freeze-password"))
    project.now += 1
    body = project.body("zigbee")
    assert project.code("PUT", one("zigbee", password_id, "freeze-password")) == 2324
    assert project.code("PUT", one("zigbee", password_id, "modify-password"), body) == 2324
    assert project.ask("PUT", one("zigbee", password_id, "unfreeze-password")) is True


def test_modify_keeps_name_and_pin_of_its_own_and_moves_the_window() -> None:
    project = Project()
    password_id = project.create("wifi")
    body = project.body("wifi", invalid_time=int(NOW) + 9000)
    assert project.ask("PUT", one("wifi", password_id, "modify-password"), body) is True
    item = project.ask("GET", lock("wifi", f"temp-password/{password_id}"))
    assert (item["invalid_time"], item["phase"]) == (int(NOW) + 9000, 1)


def test_a_list_shows_history_unless_only_valid_ones_are_asked_for() -> None:
    project = Project()
    project.cloud.door("wifi", NOW).set_state(NOW, online=True, asleep=False)
    project.ask("DELETE", one("wifi", project.create("wifi")))
    project.create("wifi", "9305718", name="stay-2")
    names = {
        query: [item["name"] for item in project.ask("GET", lock("wifi", "temp-passwords") + query)]
        for query in ("", "?valid=false", "?valid=true")
    }
    assert names == {
        "": ["stay-1", "stay-2"],
        "?valid=false": ["stay-1", "stay-2"],
        "?valid=true": ["stay-2"],
    }
    assert project.code("GET", lock("wifi", "temp-passwords?valid=True")) == 1109


def test_a_listed_password_never_shows_its_pin() -> None:
    project = Project()
    project.create("zigbee")
    listed = project.ask("GET", lock("zigbee", "temp-passwords"))
    assert PINS["zigbee"] not in json.dumps(listed)
    assert listed[0]["delivery_status"] == 1


def test_the_history_record_goes_only_once_the_password_is_gone() -> None:
    project = Project()
    project.cloud.door("wifi", NOW).set_state(NOW, online=True, asleep=False)
    password_id = project.create("wifi")
    assert project.code("DELETE", one("wifi", password_id, "record")) == 2324
    project.ask("DELETE", one("wifi", password_id))
    assert project.ask("DELETE", one("wifi", password_id, "record")) is True
    assert project.ask("GET", lock("wifi", "temp-passwords")) == []


@pytest.mark.parametrize("word", ["rest-password", "reset-password"])
def test_clearing_deletes_every_password(word: str) -> None:
    project = Project()
    project.create("wifi")
    assert project.ask("POST", lock("wifi", f"temp-passwords/{word}")) is True
    assert [item["phase"] for item in project.ask("GET", lock("wifi", "temp-passwords"))] == [3]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", one("wifi", 7)),
        ("GET", lock("wifi", "password-ticket")),
        ("POST", lock("wifi", "temp-passwords")),
        ("GET", "/v1.0/devices/wifi/nothing"),
    ],
)
def test_a_path_that_is_none_is_1108(method: str, path: str) -> None:
    assert Project().code(method, path) == 1108


def test_a_device_of_somebody_else_is_1106_before_its_path_is_looked_at() -> None:
    assert Project().code("GET", "/v1.0/devices/other/nothing") == 1106


@pytest.mark.parametrize("body", [[], "text", 7])
def test_a_body_that_is_no_object_is_1109(body: object) -> None:
    assert Project().code("POST", lock("wifi", "temp-password"), body) == 1109


def test_both_ticket_paths_hand_out_the_living_ticket_with_the_time_it_has_left() -> None:
    project = Project()
    first = project.ask("POST", lock("wifi", "password-ticket"))
    project.now += 100
    again = project.ask("POST", "/v1.0/smart-lock/devices/wifi/password-ticket")
    assert (first["expire_time"], again["expire_time"]) == (300, 200)
    assert first["ticket_key"] == again["ticket_key"]
    assert (len(first["ticket_id"]), len(first["ticket_key"])) == (8, 64)


def test_an_expired_ticket_is_1109() -> None:
    project = Project()
    body = project.body("wifi")
    project.now += 300
    assert project.code("POST", lock("wifi", "temp-password"), body) == 1109


def test_the_ticket_of_another_device_is_1109() -> None:
    project = Project()
    assert project.code("POST", lock("bluetooth", "temp-password"), project.body("zigbee")) == 1109


def test_a_single_use_ticket_is_spent_by_a_create() -> None:
    for single_use, code in ((False, 2316), (True, 1109)):
        project = Project("wifi", single_use_tickets=single_use)
        body = project.body("wifi")
        project.ask("POST", lock("wifi", "temp-password"), body)
        assert project.code("POST", lock("wifi", "temp-password"), body) == code


def test_a_token_asked_for_again_is_the_same_with_the_life_it_has_left() -> None:
    project = Project()
    project.now += 991
    again = project.ask("GET", "/v1.0/token?grant_type=1")
    assert (again["access_token"], again["expire_time"]) == (project.token, 6209)


def test_an_expired_token_is_1010_and_renewed_by_asking() -> None:
    project = Project()
    project.now += 7200
    with pytest.raises(Refusal, match="1010 token is expired"):
        project.ask("GET", "/v1.0/devices/wifi")
    project.token = project.ask("GET", "/v1.0/token?grant_type=1")["access_token"]
    assert project.ask("GET", "/v1.0/devices/wifi")["online"] is True


def test_a_refresh_works_once_and_kills_the_old_pair() -> None:
    project = Project()
    refresh = project.ask("GET", "/v1.0/token?grant_type=1")["refresh_token"]
    assert project.ask("GET", f"/v1.0/token/{refresh}")["access_token"] != project.token
    assert project.code("GET", "/v1.0/devices/wifi") == 1010
    assert project.code("GET", f"/v1.0/token/{refresh}") == 1010


def test_another_grant_type_is_1003() -> None:
    assert Project().code("GET", "/v1.0/token?grant_type=2") == 1003


def test_a_call_without_a_token_is_1002() -> None:
    project = Project()
    project.token = ""
    assert project.code("GET", "/v1.0/devices/wifi") == 1002


@pytest.mark.parametrize("text", ["token invalid", "token is expired"])
@pytest.mark.parametrize("code", [1010, 1011])
def test_a_revoked_token_answers_with_the_code_and_text_of_the_switches(
    code: int, text: str
) -> None:
    project = Project(token_code=code, token_text=text)
    project.cloud.tokens.revoke()
    with pytest.raises(Refusal, match=f"{code} {text}"):
        project.ask("GET", "/v1.0/devices/wifi")


@pytest.mark.parametrize("code", [1199, 1110])
def test_calls_beyond_the_rate_of_one_api_in_one_second_are_refused(code: int) -> None:
    project = Project(rate_per_second=2, rate_code=code)
    asked = [project.code("GET", "/v1.0/devices/wifi") for _ in range(3)]
    assert asked == [None, None, code]
    assert project.code("GET", lock("wifi", "temp-passwords")) is None
    project.now += 1
    assert project.code("GET", "/v1.0/devices/wifi") is None


def test_a_spent_quota_is_28841004_until_the_next_month() -> None:
    project = Project(monthly_quota=1)
    asked = [project.code("GET", "/v1.0/devices/wifi") for _ in range(2)]
    assert asked == [None, 28841004]
    project.now += 31 * 24 * 3600
    project.token = project.ask("GET", "/v1.0/token?grant_type=1")["access_token"]
    assert project.code("GET", "/v1.0/devices/wifi") is None


@pytest.mark.parametrize("code", [28841002, 28841105])
def test_a_plan_not_renewed_refuses_all_but_tokens(code: int) -> None:
    project = Project(subscription_code=code)
    assert project.code("GET", "/v1.0/devices/other") == code
    assert project.code("GET", "/v1.0/token?grant_type=1") is None


def test_a_postponed_call_happens_at_its_own_time() -> None:
    project = Project()
    work = project.admitted("POST", lock("wifi", "temp-password"), project.body("wifi"))
    project.cloud.postpone(work.run, NOW + 30)
    project.now += 29
    assert project.ask("GET", lock("wifi", "temp-passwords")) == []
    project.now += 1
    assert len(project.ask("GET", lock("wifi", "temp-passwords"))) == 1


@pytest.mark.parametrize(
    "changes",
    [{"nothing": 1}, {"latency_ms": "fast"}, {"rate_code": 7}, {"new_phases": 1}, {"max_live": -1}],
)
def test_a_setting_that_cannot_be_is_refused_whole(changes: dict[str, object]) -> None:
    cloud = Cloud(ID, SECRET)
    with pytest.raises(ValueError, match="setting"):
        cloud.settings.update({"single_use_tickets": True} | changes)
    assert cloud.settings.single_use_tickets is False


def test_a_secret_that_is_no_aes_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        Cloud(ID, "short")
