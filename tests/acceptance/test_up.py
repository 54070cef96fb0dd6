"""`pinqueue up`: a whole deployment in one process group, kept over restarts, gone when stopped."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinqueue.processes import free_port
from pinqueue.simulator import Control
from tests.acceptance.processes import (
    House,
    Running,
    Shell,
    command_of,
    post,
    processes_naming,
    stay,
    until,
)

KEY = re.compile(r"\bpq_[0-9a-f]{8}_[\w-]{43}")


@pytest.fixture
def home(tmp_path: Path, shell: Shell) -> Iterator[House]:
    """An environment without any setting of ours, and a folder for the data."""
    with tempfile.TemporaryDirectory(prefix="pinqueue-test-", dir="/tmp") as folder:
        house = House({**os.environ, "DATA": f"{folder}/data"}, tmp_path, shell)
        yield house
        for process in house.running:
            if process.alive():
                process.process.send_signal(signal.SIGINT)
                process.code()


def up(home: House, port: int) -> Running:
    """Started, and all that it has to say said."""
    data = home.environment["DATA"]
    process = home.start("up", "--data-dir", data, "--port", str(port), "--simulate-locks")
    process.logged("pinqueue locks list")
    return process


def stopped(process: Running, home: House) -> None:
    """By Ctrl-C, with nothing left running on its data."""
    process.process.send_signal(signal.SIGINT)
    assert process.code() == 0, process.log()
    assert "Traceback" not in process.log()
    assert [command_of(pid) for pid in processes_naming(home.environment["DATA"])] == []


def settings_it_wrote(home: House) -> dict[str, str]:
    lines = Path(home.environment["DATA"], "pinqueue.env").read_text().splitlines()
    return {
        name: shlex.split(value)[0] for name, _, value in (line.partition("=") for line in lines)
    }


def test_a_stay_works_through_it_and_it_keeps_data_and_secrets_over_a_restart(home: House) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    first = up(home, port)
    assert len(KEY.findall(first.log())) == 1

    home.environment |= settings_it_wrote(home)
    add = ("locks", "add", "front", "--device-id", "sim-zigbee-1", "--protocol", "zigbee")
    assert home.run(*add).returncode == 0
    add = ("listings", "add", "apt-7", "--time-zone", "UTC", "--lock", "front")
    assert home.run(*add).returncode == 0
    secret = home.run("sources", "add", "main").stdout.strip()
    assert post(url, stay("res-1", -60, 3600), secret=secret).status_code == 200
    home.reach("active")
    code = str(home.value("SELECT id FROM access_codes"))
    pin = home.run("codes", "reveal", code).stdout.strip()
    with Control(home.environment["PINQUEUE_TUYA_URL"]) as doors:
        assert doors.open("sim-zigbee-1", pin)

    data = Path(home.environment["DATA"])
    modes = {p.name: oct(p.stat().st_mode & 0o777) for p in data.glob("*.env")}
    assert modes == {"secrets.env": "0o600", "pinqueue.env": "0o600"}
    kept = (data / "secrets.env").read_bytes()
    stopped(first, home)

    del home.environment["PINQUEUE_DATABASE_URL"]
    second = up(home, port)
    home.environment |= settings_it_wrote(home)
    assert KEY.findall(second.log()) == []
    assert (data / "secrets.env").read_bytes() == kept
    assert home.run("codes", "reveal", code).stdout.strip() == pin
    assert post(url, stay("res-2", 86400, 90000), secret=secret).status_code == 200
    stopped(second, home)


def test_a_part_that_dies_is_started_again_and_the_database_too(home: House) -> None:
    process = up(home, free_port())
    data = home.environment["DATA"]

    def worker() -> list[int]:
        return [p for p in processes_naming(data) if command_of(p).endswith("pinqueue worker")]

    def postmaster() -> int:
        pid_file = Path(data, "postgres", "postmaster.pid")
        return int(pid_file.read_text().splitlines()[0]) if pid_file.exists() else 0

    (before,) = worker()
    os.kill(before, signal.SIGKILL)
    until(lambda: worker() not in ([], [before]), "another worker")

    before = postmaster()
    os.kill(before, signal.SIGKILL)
    until(lambda: command_of(postmaster()) and postmaster() != before, "another server")
    home.environment |= settings_it_wrote(home)
    until(lambda: home.run("locks", "list", "--json").stdout.strip() == "[]", "it answers")
    stopped(process, home)


def test_a_port_that_is_taken_stops_it_with_a_message_that_says_so(home: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        data = home.environment["DATA"]
        process = home.start("up", "--data-dir", data, "--port", port, "--simulate-locks")
        assert process.code() == 3
    said = f"pinqueue: cannot listen on 127.0.0.1 port {port} (Address already in use)"
    assert said in " ".join(process.log().split())
    assert "Traceback" not in process.log()
    assert processes_naming(data) == []
