"""The simulator on the wire: faults, the control API, latency, and stopping."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pinqueue.processes import free_port
from pinqueue.simulator import ACCESS_ID, ACCESS_SECRET, Control, create_app, running, serve
from pinqueue.simulator.certificates import certificate_for
from pinqueue.simulator.signing import sign

CLEAR = "/v1.0/devices/sim-wifi-1/door-lock/temp-passwords/rest-password"
DEVICE = "/v1.0/devices/sim-wifi-1"


class Client:
    """Signed calls, with the answer as it came."""

    def __init__(self, base_url: str) -> None:
        no_certificates = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._http = httpx2.Client(base_url=base_url, trust_env=False, verify=no_certificates)
        self._token = ""
        self._token = self.call("GET", "/v1.0/token?grant_type=1").json()["result"]["access_token"]

    def call(self, method: str, path: str, *, timeout: float = 5) -> httpx2.Response:
        headers = {
            "client_id": ACCESS_ID,
            "t": str(int(time.time() * 1000)),
            "sign_method": "HMAC-SHA256",
        }
        if self._token:
            headers["access_token"] = self._token
        headers["sign"] = sign(ACCESS_SECRET, method, path, b"", headers)
        return self._http.request(method, path, headers=headers, timeout=timeout)

    def close(self) -> None:
        self._http.close()


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with running() as url:
        yield url


@pytest.fixture
def control(base_url: str) -> Iterator[Control]:
    with Control(base_url) as control:
        yield control
        control.clear_faults()


@pytest.fixture
def client(base_url: str, control: Control) -> Iterator[Client]:
    client = Client(base_url)
    control.clear_log()
    yield client
    client.close()


def performed(control: Control) -> list[bool]:
    return [entry["performed"] for entry in control.log()]


@pytest.mark.parametrize(
    ("kind", "status", "body"),
    [("http_500", 500, "Internal"), ("http_502_html", 502, "<html>"), ("empty", 200, "")],
)
def test_a_broken_answer_is_sent_and_nothing_is_done(
    client: Client, control: Control, kind: str, status: int, body: str
) -> None:
    control.fault(kind)
    response = client.call("POST", CLEAR)
    assert (response.status_code, response.text[: len(body)]) == (status, body)
    assert performed(control) == [False]


def test_patience_is_asked_for_in_seconds_and_nothing_is_done(
    client: Client, control: Control
) -> None:
    control.fault("http_429", seconds=17)
    response = client.call("POST", CLEAR)
    assert (response.status_code, response.headers["retry-after"]) == (429, "17")
    assert performed(control) == [False]


def test_an_error_code_on_order_comes_with_its_message(client: Client, control: Control) -> None:
    control.fault("code", code=1010, msg="token is expired", times=2)
    for _ in range(2):
        reply = client.call("GET", DEVICE).json()
        assert (reply["code"], reply["msg"], reply["success"]) == (1010, "token is expired", False)
    assert client.call("GET", DEVICE).json()["success"] is True


def test_the_token_call_can_be_made_to_fail(client: Client, control: Control) -> None:
    control.fault("code", {"path": "/v1.0/token"}, code=500)
    assert client.call("GET", "/v1.0/token?grant_type=1").json()["code"] == 500


def test_a_success_can_say_false(client: Client, control: Control) -> None:
    control.fault("result_false")
    reply = client.call("POST", CLEAR).json()
    assert (reply["success"], reply["result"]) == (True, False)
    assert performed(control) == [False]


def test_a_truncated_answer_is_no_json_and_the_call_was_done(
    client: Client, control: Control
) -> None:
    control.fault("truncated")
    with pytest.raises(json.JSONDecodeError):
        client.call("POST", CLEAR).json()
    assert performed(control) == [True]


def test_a_redirect_leads_where_it_is_told(client: Client, control: Control) -> None:
    control.fault("redirect", location="http://127.0.0.1:9/trap")
    response = client.call("GET", DEVICE)
    assert (response.status_code, response.headers["location"]) == (302, "http://127.0.0.1:9/trap")


@pytest.mark.parametrize(("kind", "done"), [("reset_before", False), ("reset_after", True)])
def test_a_reset_connection_leaves_the_call_done_or_not(
    client: Client, control: Control, kind: str, done: bool
) -> None:
    control.fault(kind)
    with pytest.raises(httpx2.NetworkError):
        client.call("POST", CLEAR)
    assert performed(control) == [done]


@pytest.mark.parametrize(("kind", "done"), [("hang", False), ("lost_answer", True)])
def test_a_silent_cloud_leaves_the_call_done_or_not(
    client: Client, control: Control, kind: str, done: bool
) -> None:
    control.fault(kind, seconds=30)
    with pytest.raises(httpx2.ReadTimeout):
        client.call("POST", CLEAR, timeout=0.2)
    assert performed(control) == [done]


def test_a_hang_ends_in_a_dropped_connection(client: Client, control: Control) -> None:
    control.fault("hang", seconds=0.05)
    with pytest.raises(httpx2.NetworkError):
        client.call("POST", CLEAR)


def test_a_late_call_is_done_after_its_caller_was_cut_off(client: Client, control: Control) -> None:
    control.fault("late_apply", seconds=30)
    with pytest.raises(httpx2.NetworkError):
        client.call("POST", CLEAR)
    assert performed(control) == [False]
    control.advance(31)
    assert performed(control) == [True]


def test_latency_is_added_to_every_signed_call(client: Client, control: Control) -> None:
    control.settings(latency_ms=60)
    started = time.perf_counter()
    client.call("GET", DEVICE)
    assert time.perf_counter() - started >= 0.06
    control.settings(latency_ms=0)


def test_the_product_may_keep_the_real_time_while_the_doors_are_years_ahead(
    client: Client, control: Control
) -> None:
    control.advance(3 * 365 * 24 * 3600)
    assert client.call("GET", DEVICE).json()["code"] == 1010
    assert client.call("GET", "/v1.0/token?grant_type=1").json()["success"] is True


def test_the_clock_is_set_to_an_instant_and_runs_on(control: Control) -> None:
    instant = datetime(2030, 1, 1, tzinfo=UTC)
    control.set_clock(instant)
    assert instant <= control.clock() < instant + timedelta(seconds=30)


def test_a_door_can_be_added(control: Control) -> None:
    control.add_door("new-door", "zigbee", "Front")
    added = {"id": "new-door", "name": "Front", "protocol": "zigbee"}
    assert added | {"online": True, "asleep": False} in control.devices()
    assert control.pins("new-door") == []
    assert control.ledger("new-door") == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/devices", {"id": "sim-wifi-1", "protocol": "wifi"}, 400),
        ("POST", "/devices", {"id": "d", "protocol": "smoke"}, 400),
        ("POST", "/devices/sim-wifi-1/open", {}, 400),
        ("POST", "/devices/sim-wifi-1/state", {"online": "yes"}, 400),
        ("POST", "/devices/sim-wifi-1/state", {"delivery_status": 4}, 400),
        ("POST", "/devices/sim-zigbee-1/state", {"delivery_status": 2}, 400),
        ("GET", "/devices/none/pins", None, 404),
        ("POST", "/faults", {"fault": "flood"}, 400),
        ("POST", "/settings", {"flood": 1}, 400),
        ("POST", "/clock", {}, 400),
        ("POST", "/clock", {"set": "2030-01-01T00:00:00"}, 400),
        ("POST", "/clock", [], 400),
        ("GET", "/nothing", None, 404),
    ],
)
def test_a_control_call_that_cannot_be_read_is_explained(
    base_url: str, method: str, path: str, body: Any, status: int
) -> None:
    url = f"{base_url}/_sim{path}"
    response = httpx2.request(method, url, json=body, trust_env=False)
    assert response.status_code == status
    assert response.json()["error"]


def test_an_app_can_be_built_without_a_server() -> None:
    assert create_app(devices=[("d", "wifi")]).routes


def test_a_cancelled_server_frees_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    async def serve_and_cancel() -> None:
        task = asyncio.create_task(serve("127.0.0.1", port))
        for _ in range(500):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(serve_and_cancel())
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_sigterm_stops_the_process_at_once_even_with_a_caller_hanging() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    code = f"from pinqueue.simulator import run; run('127.0.0.1', {port})"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_up(url)
        with Control(url) as control:
            control.fault("hang", {"path": CLEAR}, seconds=60)
            client = Client(url)
            with pytest.raises(httpx2.ReadTimeout):
                client.call("POST", CLEAR, timeout=0.1)
            control.fault("hang", {"path": CLEAR}, seconds=60)
            with socket.create_connection(("127.0.0.1", port)) as hanging:
                hanging.sendall(f"POST {CLEAR} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
                _wait_until(lambda: len(control.log("sim-wifi-1")) == 2)
                started = time.monotonic()
                process.send_signal(signal.SIGTERM)
                assert process.wait(5) == 0
                assert time.monotonic() - started < 2
            client.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.communicate()


def test_by_https_it_shows_the_certificate_that_it_put_into_the_folder_and_keeps_it(
    tmp_path: Path,
) -> None:
    certificate, _ = certificate_for(["localhost"], tmp_path)
    first = certificate.read_bytes()
    strict = ssl.create_default_context(cafile=certificate)
    strict.verify_flags |= ssl.VERIFY_X509_STRICT  # as clients are from Python 3.13 on
    port = free_port()
    code = f"from pathlib import Path; from pinqueue.simulator import run; run('127.0.0.1', {port}"
    code += f", https=Path({str(tmp_path)!r}))"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        _wait_until_up(f"https://localhost:{port}", strict)
        assert certificate.read_bytes() == first
        assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
        with pytest.raises(httpx2.ConnectError, match="certificate"):
            httpx2.get(f"https://127.0.0.1:{port}/_sim/clock", trust_env=False, verify=strict)
    finally:
        process.kill()
        process.wait()


def _wait_until_up(url: str, trust: ssl.SSLContext | bool = True) -> None:
    def answers() -> bool:
        with contextlib.suppress(httpx2.TransportError):
            found = httpx2.get(f"{url}/_sim/clock", trust_env=False, verify=trust)
            return found.status_code == 200
        return False

    _wait_until(answers)


def _wait_until(holds: Any) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
