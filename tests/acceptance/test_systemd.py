"""The systemd units of contrib/: right by systemd's own check, and what they start works."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from pinqueue.processes import STOP_WITHIN, free_port
from pinqueue.worker import GRACEFUL_STOP
from tests.acceptance.processes import House, answers
from tests.conftest import PYTHON
from tests.pages import ROOT, blocks, filled

UNITS = {unit.stem: unit for unit in (ROOT / "contrib" / "systemd").glob("*.service")}
OURS = "/usr/local/bin/pinqueue"


def lines(unit: str, name: str) -> list[str]:
    told = (line.partition("=") for line in UNITS[unit].read_text().splitlines())
    return [value for key, _, value in told if key == name]


def arguments(unit: str) -> list[str]:
    """What the unit starts, after the name of our command."""
    (command,) = lines(unit, "ExecStart")
    program, *arguments = shlex.split(command)
    assert program == OURS
    return arguments


def test_there_are_units_for_one_machine_and_for_each_process_on_many() -> None:
    assert set(UNITS) == {"pinqueue", "pinqueue-web", "pinqueue-worker@"}


@pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="no systemd-analyze here: apt-get install systemd"
)
@pytest.mark.parametrize("name", ["pinqueue", "pinqueue-web", "pinqueue-worker@"])
def test_systemd_finds_nothing_wrong_with_a_unit_and_little_that_it_may_do(
    name: str, tmp_path: Path
) -> None:
    here = Path(PYTHON).with_name("pinqueue")  # systemd looks whether there is such a program
    text = UNITS[name].read_text()
    unit = tmp_path / UNITS[name].name.replace("@", "@1")
    unit.write_text(text.replace(OURS, str(here)))

    def analyze(*asked: str) -> subprocess.CompletedProcess[str]:
        command = ["systemd-analyze", *asked, str(unit)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    verified = analyze("verify")
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
    # From 0, nothing that it may do, to 100.
    exposed = analyze("security", "--offline=true", "--threshold=20")
    assert exposed.returncode == 0, exposed.stdout

    unit.write_text(unit.read_text().replace("UMask=", "Umask="))
    assert "Umask" in analyze("verify").stderr, "it looks at what is written there"


@pytest.mark.skipif(
    not shutil.which("systemctl"), reason="no systemctl here: apt-get install systemd"
)
def test_what_the_page_has_typed_puts_the_units_where_systemd_starts_them_at_each_boot(
    tmp_path: Path,
) -> None:
    """In the root of another system, none of whose units can be started from here."""
    one, _, many = blocks("docs/install.md#with-systemd")
    (tmp_path / "etc" / "systemd" / "system").mkdir(parents=True)
    other = {
        "/etc/": f"{tmp_path}/etc/",
        "systemctl enable --now": f"systemctl --root={tmp_path} enable",
    }
    for page in (one, many):
        lines = [line for line in page.splitlines() if line.startswith(("cp ", "systemctl "))]
        typed = filled("\n".join(lines), other)
        subprocess.run(["sh", "-ec", typed], cwd=ROOT, check=True, capture_output=True)
    started = {path.name for path in tmp_path.glob("etc/systemd/system/multi-user.target.wants/*")}
    assert started == {
        *("pinqueue.service", "pinqueue-web.service"),
        *("pinqueue-worker@1.service", "pinqueue-worker@2.service"),
    }


def test_systemd_waits_longer_than_a_process_that_is_told_to_stop_takes() -> None:
    stops = {name: int(lines(name, "TimeoutStopSec")[0]) for name in UNITS}
    assert stops["pinqueue-worker@"] > GRACEFUL_STOP
    assert stops["pinqueue"] > 2 * STOP_WITHIN, "its parts, then its database"
    assert stops["pinqueue-web"] > 10


def test_what_the_units_of_many_machines_start_works_and_ends_in_order(house: House) -> None:
    for unit in ("pinqueue-web", "pinqueue-worker@"):
        (before,) = lines(unit, "ExecStartPre")
        assert house.run(*shlex.split(before)[1:]).returncode == 0
    port = str(free_port())
    web = house.start(*[port if word == "8080" else word for word in arguments("pinqueue-web")])
    answers(f"http://127.0.0.1:{port}/readyz", web)
    worker = house.start(*arguments("pinqueue-worker@"))
    worker.logged("Starting worker on queues generate_pin")
    for process in (web, worker):
        process.ask_to_stop()
        assert process.code() in (0, -signal.SIGTERM), process.log()  # either is well for systemd
    assert "Finished server process" in web.log()
    assert "worker-stopped" in worker.log()


def test_what_the_unit_of_one_machine_starts_works_and_ends_in_order(house: House) -> None:
    with tempfile.TemporaryDirectory(prefix="pinqueue-test-", dir="/tmp") as folder:
        port = str(free_port())
        started = arguments("pinqueue")
        started[started.index("/var/lib/pinqueue")] = f"{folder}/data"
        process = house.start(*started, "--port", port)
        process.logged("pinqueue locks list", within=60)
        process.ask_to_stop()
        assert process.code() == 0, process.log()
