"""compose.yaml on a real Docker engine: started as a person would, looked into, taken away."""

from __future__ import annotations

import json
import shlex
import shutil
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2

import pinqueue
from pinqueue.processes import free_port
from pinqueue.simulator import Control
from tests.acceptance.processes import until
from tests.pages import blocks, filled

CHECKOUT = Path(pinqueue.__file__).parents[1]
PAGE = "docs/install.md#in-containers"
BASE = "python:3.13-slim"
"""Of our image, and of a machine that is booted."""
WITHIN = 600.0
"""Seconds for one command of the engine: the first builds the image."""


def run(*command: str, given: str = "", fails: bool = False) -> str:
    """What a program prints, for once it should or should not exit 0."""
    done = subprocess.run(
        command, cwd=CHECKOUT, input=given, capture_output=True, text=True, timeout=WITHIN
    )
    assert (done.returncode != 0) is fails, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def docker(*command: str, fails: bool = False) -> str:
    return run("docker", *command, fails=fails)


def inspect(what: str, form: str) -> str:
    return docker("inspect", "--format", form, what).strip()


def _compose() -> list[str]:
    """Compose as it is there: the plug-in, or the program of its own that came before it."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if plugin.returncode != 0 and shutil.which("docker-compose"):
        return ["docker-compose"]
    return ["docker", "compose"]


@dataclass
class Town:
    """One project of compose, with the ports on which it listens here."""

    env_file: Path
    files: Sequence[Path]
    project: str = field(default_factory=lambda: f"pinqueue-test-{uuid4().hex[:8]}")
    web_port: int = field(default_factory=free_port)
    simulator_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        files = [option for file in self.files for option in ("-f", str(file))]
        self._command = [*_compose(), "-p", self.project, *files, "--env-file", str(self.env_file)]
        self.url = f"http://127.0.0.1:{self.web_port}"

    def write_settings(self, changes: Mapping[str, str]) -> None:
        """.env.example as it is, but for these and for the ports: other tests listen too."""
        ours = {
            "WEB_ADDRESS": f"127.0.0.1:{self.web_port}",
            "SIMULATOR_ADDRESS": f"127.0.0.1:{self.simulator_port}",
            "IMAGE": "pinqueue-test",
            **changes,
        }
        example = (CHECKOUT / ".env.example").read_text().splitlines()
        kept = [line for line in example if line.partition("=")[0] not in ours]
        told = [f"{name}={value}" for name, value in ours.items()]
        self.env_file.write_text("\n".join([*kept, *told, ""]))

    def compose(self, *command: str, given: str = "", fails: bool = False) -> str:
        return run(*self._command, *command, given=given, fails=fails)

    def typed(self, line: str, folder: Path) -> str:
        """A line of a page, as somebody would type it in that folder. There is no terminal here,
        which older Compose is to be told."""
        ours = line.replace("docker compose exec web", "docker compose exec -T web")
        ours = ours.replace("docker compose", shlex.join(self._command))
        done = subprocess.run(
            ["sh", "-c", ours], cwd=folder, capture_output=True, text=True, timeout=WITHIN
        )
        assert done.returncode == 0, f"{ours}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout.strip()

    def up(self, *options: str) -> None:
        """`compose up -d`, and what is started answers."""
        self.compose("up", "-d", *options)
        self.answers()

    def answers(self) -> None:
        until(self._ready, "the web process is ready", within=120)

    def _ready(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/readyz", trust_env=False).status_code == 200
        except httpx2.HTTPError:
            return False

    def pinqueue(self, *arguments: str) -> str:
        """One of our commands, in the container of the web process."""
        return self.compose("exec", "-T", "web", "pinqueue", *arguments).strip()

    def told(self, *arguments: str) -> Any:
        return json.loads(self.pinqueue(*arguments, "--json"))

    def sql(self, statement: str) -> list[str]:
        """Its rows, as text. Asked of the engine itself: Compose takes half a second each time."""
        labels = {"project": self.project, "service": "db"}
        of = [f"--filter=label=com.docker.compose.{name}={value}" for name, value in labels.items()]
        container = docker("ps", "-q", *of).strip()
        psql = ("psql", "-U", "pinqueue", "-d", "pinqueue", "-At", "-v", "ON_ERROR_STOP=1")
        return run("docker", "exec", "-i", container, *psql, given=statement).splitlines()

    def containers(self, name: str) -> list[str]:
        """The ids of a service's containers."""
        return self.compose("ps", "-q", name).split()

    def set_up(self) -> str:
        """A door, a listing, and a source whose secret is returned: as the page adds them."""
        commands, *_ = blocks(PAGE)
        lock, listing, source, health = filled(commands, {"my-site": "main"}).splitlines()
        for line in (lock, listing):
            self.typed(line, CHECKOUT)
        secret = self.typed(source, CHECKOUT)
        until(lambda: self._says_healthy(health), "a worker lives", within=60)
        return secret

    def _says_healthy(self, health: str) -> bool:
        try:
            return self.typed(health, CHECKOUT).startswith("healthy")
        except AssertionError:
            return False

    def add_listing(self, listing: str, names: Sequence[str], doors: Control) -> None:
        """A listing with many locks, each on a simulated door of the same name."""
        key = self.pinqueue("keys", "create", listing, "--scope", "admin")
        headers = {"Authorization": f"Bearer {key}"}
        with httpx2.Client(base_url=self.url, headers=headers, trust_env=False) as http:
            for name in names:
                doors.add_door(name, "zigbee")
                lock = {"id": name, "device_id": name, "protocol": "zigbee"}
                http.post("/api/locks", json=lock).raise_for_status()
            body = {"id": listing, "time_zone": "UTC", "locks": list(names)}
            http.post("/api/listings", json=body).raise_for_status()

    def reach(self, state: str, stay: str, *, within: float = 60) -> None:
        """Wait until a stay's access code is in that state."""
        ask = f"SELECT state FROM access_codes WHERE reservation_id = '{stay}'"
        until(lambda: self.sql(ask) == [state], f"{stay} is {state}", within=within)

    def pin(self, stay: str) -> str:
        (code,) = self.sql(f"SELECT id FROM access_codes WHERE reservation_id = '{stay}'")
        return self.pinqueue("codes", "reveal", code)

    @contextmanager
    def doors(self) -> Iterator[Control]:
        """The simulated doors, by https and with the certificate that the simulator made."""
        certificate = self.compose("exec", "-T", "simulator", "cat", "/run/simulator/ca.pem")
        trust = ssl.create_default_context(cadata=certificate)
        with Control(f"https://localhost:{self.simulator_port}", trust) as control:
            yield control


def kill(container: str) -> None:
    """kill -9 as a crash would be, and not by the engine: what that kills it does not replace."""
    pid = inspect(container, "{{.State.Pid}}")
    shell = ("--pid=host", "--user=0", "--entrypoint=sh", "pinqueue-test", "-c", f"kill -9 {pid}")
    docker("run", "--rm", *shell)


@contextmanager
def town(
    folder: Path, files: Sequence[Path] = (CHECKOUT / "compose.yaml",), **settings: str
) -> Iterator[Town]:
    """A project of its own for a block, nothing of which is left."""
    made = Town(folder / f"{uuid4().hex[:8]}.env", files)
    made.write_settings(settings)
    try:
        yield made
    finally:
        made.compose("down", "--volumes", "--remove-orphans")
