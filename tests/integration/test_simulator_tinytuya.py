"""tinytuya's own requests against the simulator over real HTTP: what the product will send."""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import tinytuya
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from pinqueue.simulator import ACCESS_ID, ACCESS_SECRET, Control, running

LOCK = "/v1.0/devices/{}/door-lock/"


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with running() as url:
        yield url


@pytest.fixture
def control(base_url: str) -> Iterator[Control]:
    with Control(base_url) as control:
        yield control


@pytest.fixture
def cloud(base_url: str) -> Any:
    return make_cloud(base_url, ACCESS_SECRET)


def make_cloud(base_url: str, secret: str) -> Any:
    """tinytuya.Cloud with another `requests`: it insists on https, the simulator speaks http."""

    def local(url: str) -> str:
        return base_url + "/" + url.removeprefix("https://").split("/", 1)[1]

    shim = types.SimpleNamespace(
        Request=requests.Request,
        get=lambda url, **rest: requests.get(local(url), timeout=5, **rest),
        request=lambda method, url, **rest: requests.request(method, local(url), timeout=5, **rest),
    )
    original = tinytuya.Cloud._tuyaplatform
    globals_ = dict(vars(sys.modules["tinytuya.Cloud"])) | {"requests": shim}
    patched = types.FunctionType(
        original.__code__, globals_, "_tuyaplatform", original.__defaults__
    )
    kind = type("LocalCloud", (tinytuya.Cloud,), {"_tuyaplatform": patched})
    return kind("eu", ACCESS_ID, secret)


def create(cloud: Any, device: str, name: str, pin: str, **changes: Any) -> dict[str, Any]:
    path = LOCK.format(device)
    ticket = cloud.cloudrequest(path + "password-ticket", action="POST", post={})["result"]
    opener = Cipher(algorithms.AES(ACCESS_SECRET.encode()), modes.ECB()).decryptor()
    session_key = opener.update(bytes.fromhex(ticket["ticket_key"]))[:16]
    sealer = Cipher(algorithms.AES(session_key), modes.ECB()).encryptor()
    fill = 16 - len(pin)
    now = int(time.time())
    body = {
        "name": name,
        "password": sealer.update(pin.encode() + bytes([fill]) * fill).hex(),
        "effective_time": now,
        "invalid_time": now + 3600,
        "password_type": "ticket",
        "ticket_id": ticket["ticket_id"],
    }
    reply: dict[str, Any] = cloud.cloudrequest(path + "temp-password", post=body | changes)
    return reply


def test_tinytuya_gets_its_token_although_it_sends_the_secret_along(cloud: Any) -> None:
    assert len(cloud.token) == 32
    assert cloud.error is None


def test_a_wrong_secret_gets_no_token(base_url: str) -> None:
    wrong = make_cloud(base_url, "f" * 32)
    assert wrong.token is None
    assert "sign invalid" in wrong.error["Payload"]


def test_a_pin_travels_from_create_to_the_door_and_away_again(cloud: Any, control: Control) -> None:
    made = create(cloud, "sim-wifi-1", "wifi-way", "4809173")
    assert made["success"] is True
    assert len(made["tid"]) == 32
    assert not control.open("sim-wifi-1", "4809173")
    control.wake("sim-wifi-1")
    assert control.open("sim-wifi-1", "4809173")
    path = LOCK.format("sim-wifi-1") + f"temp-passwords/{made['result']['id']}"
    assert cloud.cloudrequest(path, action="DELETE")["result"] is True
    control.wake("sim-wifi-1")
    assert not control.open("sim-wifi-1", "4809173")


def test_a_put_with_a_body_and_no_content_type_is_accepted(cloud: Any, control: Control) -> None:
    made = create(cloud, "sim-zigbee-1", "put-way", "480917")
    control.advance(2)
    path = LOCK.format("sim-zigbee-1") + f"temp-passwords/{made['result']['id']}/freeze-password"
    assert cloud.cloudrequest(path, action="PUT", post={"any": "thing"})["result"] is True
    control.advance(2)
    assert control.pins("sim-zigbee-1")[0]["frozen"] is True
    assert not control.open("sim-zigbee-1", "480917")


def test_a_delete_with_a_body_and_no_content_type_is_accepted(cloud: Any, control: Control) -> None:
    made = create(cloud, "sim-bluetooth-1", "delete-way", "480917")
    control.advance(2)
    assert [pin["name"] for pin in control.pins("sim-bluetooth-1")] == ["delete-way"]
    path = LOCK.format("sim-bluetooth-1") + f"temp-passwords/{made['result']['id']}"
    reply = cloud.cloudrequest(path, action="DELETE", post={"bluetooth_symbolic": True})
    assert reply["result"] is True
    control.advance(2)
    assert control.pins("sim-bluetooth-1") == []


@pytest.mark.parametrize("delivery_status", [4, 5, 6])
def test_a_zigbee_lock_can_be_told_why_to_refuse_the_next_create(
    cloud: Any, control: Control, delivery_status: int
) -> None:
    door = f"refusing-{delivery_status}"
    control.add_door(door, "zigbee")
    control.state(door, delivery_status=delivery_status)
    create(cloud, door, "refused", "480917")
    control.advance(2)
    item = cloud.cloudrequest(LOCK.format(door) + "temp-passwords")["result"][0]
    assert (item["phase"], item["delivery_status"]) == (5, delivery_status)
    assert control.pins(door) == []
    create(cloud, door, "taken", "930571")
    control.advance(2)
    assert control.open(door, "930571")


def test_a_query_given_as_a_dict_is_accepted_and_one_out_of_order_is_1004(cloud: Any) -> None:
    path = LOCK.format("sim-wifi-1") + "temp-passwords"
    assert cloud.cloudrequest(path, query={"valid": "true", "page": 1})["success"] is True
    assert cloud.cloudrequest(path, query="?valid=true&page=1")["code"] == 1004


def test_a_get_with_a_body_hashed_but_not_sent_is_1004(cloud: Any) -> None:
    reply = cloud.cloudrequest("/v1.0/devices/sim-wifi-1", action="GET", post={"a": 1})
    assert reply["code"] == 1004


def test_a_revoked_token_is_renewed_by_tinytuya_only_when_the_text_says_invalid(
    cloud: Any, control: Control
) -> None:
    path = "/v1.0/devices/sim-wifi-1"
    control.revoke_tokens()
    assert cloud.cloudrequest(path)["success"] is True
    control.settings(token_text="token is expired")
    control.revoke_tokens()
    assert cloud.cloudrequest(path)["code"] == 1010
    control.settings(token_text=None)


def test_the_log_shows_the_calls_and_none_of_their_secrets(cloud: Any, control: Control) -> None:
    control.clear_log()
    create(cloud, "sim-zigbee-2", "log-way", "480917")
    access, cloud.token = cloud.token, None
    refresh = cloud._tuyaplatform("token?grant_type=1")["result"]["refresh_token"]
    assert cloud._tuyaplatform(f"token/{refresh}")["result"]["access_token"] != access
    log = control.log()
    assert [(entry["method"], entry["code"]) for entry in log] == [
        ("POST", None),
        ("POST", None),
        ("GET", None),
        ("GET", None),
    ]
    assert log[1]["name"] == "log-way"
    assert log[1]["password_id"] > 2**31
    for secret in (ACCESS_SECRET, "480917", access, refresh):
        assert secret not in str(log)
