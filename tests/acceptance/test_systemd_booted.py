"""docs/install.md where systemd runs: its commands typed one after the other, in a container that
is booted as a machine is. Run by `pytest -m containers`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.containers import BASE, docker, run
from tests.acceptance.processes import until
from tests.pages import ROOT, blocks, filled

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

CLONE = ("pinqueue", "alembic", "contrib", "pyproject.toml", "README.md", "LICENSE")
NAME = "pinqueue-test-booted"
MACHINE = f"""
FROM {BASE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends systemd postgresql
RUN pip install -q --root-user-action ignore pipx
COPY . /clone
WORKDIR /clone
RUN {{install}}
"""
MAY = ("--cap-add=SYS_ADMIN", "--security-opt=seccomp=unconfined")
"""What systemd needs to run there, and to keep its services apart."""
PLACES = ("--tmpfs=/run", "--tmpfs=/run/lock", "--tmpfs=/tmp", "-v=/sys/fs/cgroup:/sys/fs/cgroup")
SETTINGS = """
umask 077
mkdir /etc/pinqueue
cat /var/lib/pinqueue/secrets.env - > /etc/pinqueue/.env <<.
PINQUEUE_DATABASE_URL=postgresql://pinqueue:a%20password@127.0.0.1/pinqueue
PINQUEUE_TUYA_REGION=eu
PINQUEUE_TUYA_ACCESS_ID=simulatedaccessid000
PINQUEUE_TUYA_ACCESS_SECRET=0123456789abcdef0123456789abcdef
.
chown -R pinqueue /etc/pinqueue
"""


@dataclass(frozen=True)
class Machine:
    id: str

    def typed(self, lines: str) -> str:
        """By root, in the clone."""
        return docker("exec", self.id, "sh", "-ec", lines)

    def says(self, line: str) -> str:
        """What it prints, whether it fails or not."""
        asked = ["docker", "exec", self.id, "sh", "-c", line]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """On which a clone lies, and PinQueue was installed from it as the page says."""
    install, _ = blocks("docs/install.md#as-a-program")[0].splitlines()
    for name in CLONE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    run("docker", "build", "-t", NAME, "-f-", str(tmp_path), given=MACHINE.format(install=install))
    made = docker("run", "-d", "-e=container=docker", *MAY, *PLACES, NAME, "/lib/systemd/systemd")
    machine = Machine(made.strip())
    try:
        state = "systemctl is-system-running"
        until(lambda: machine.says(state) == "running\n", "it has booted", within=60)
        yield machine
    finally:
        docker("rm", "--force", machine.id)


def test_one_machine_and_then_many_are_started_by_what_the_page_has_typed(
    machine: Machine,
) -> None:
    one, other, many = blocks("docs/install.md#with-systemd")
    *started, journal = one.splitlines()
    machine.typed("\n".join(started))
    until(lambda: "pq_" in machine.says(journal), "the first start prints a key", within=60)
    machine.typed(filled(other, {"locks list": "locks add front --device-id d --protocol wifi"}))
    assert "front" in machine.typed(other)

    machine.typed("systemctl disable --now pinqueue")
    (sql,) = blocks("docs/install.md#a-managed-postgresql")
    for statement in sql.splitlines():
        machine.typed(f'runuser -u postgres -- psql -qc "{statement}"')
    machine.typed(SETTINGS)
    machine.typed(many)
    units = {"pinqueue-web": "Application startup complete"}
    units |= {f"pinqueue-worker@{number}": "Starting worker on queues" for number in (1, 2)}
    for unit, line in units.items():
        until(lambda: line in machine.says(f"journalctl -u {unit}"), unit, within=60)  # noqa: B023
        assert machine.says(f"systemctl is-active {unit}") == "active\n"
