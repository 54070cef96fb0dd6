"""`pinqueue bench chaos`: everything breaks, and nothing is lost, doubled or left behind."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pinqueue import schema
from pinqueue.bench.chaos.disk import FULL_DISK, no_disk
from pinqueue.bench.chaos.lies import LIES
from pinqueue.bench.chaos.rig import DEPLOY, JUMP_CLOCK, POISON, no_clocks
from tests.conftest import PYTHON
from tests.pages import blocks, filled

CHECKOUT = Path(schema.__file__).parents[1]
NEXT_REVISION = """
from alembic import op

revision = "9999"
down_revision = "{}"
branch_labels = None
depends_on = None


def upgrade():
    op.execute("ALTER TABLE reservations ADD COLUMN purpose text")
    op.execute("ALTER TABLE operations ADD COLUMN effort integer NOT NULL DEFAULT 1")
    op.execute("CREATE TABLE purposes (id bigint GENERATED ALWAYS AS IDENTITY, name text)")
    op.execute("CREATE INDEX ON reservations (purpose)")
"""
"""As a migration has to be: it adds, and what it adds may be left alone."""


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    """A checkout of the version that comes after this one."""
    for folder in ("pinqueue", "alembic"):
        shutil.copytree(CHECKOUT / folder, tmp_path / folder)
    revision = tmp_path / "alembic" / "versions" / "next.py"
    revision.write_text(NEXT_REVISION.format(schema.REVISION))
    module = tmp_path / "pinqueue" / "schema.py"
    module.write_text(module.read_text().replace(schema.REVISION, "9999"))
    return tmp_path


def chaos(*options: str, version: Path = CHECKOUT) -> dict[str, Any]:
    """The verdict; a run that lost something exits 1, and tells what."""
    ours = {"PYTHONPATH": str(version), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [PYTHON, "-m", "pinqueue", "bench", "chaos", "--json", *options],
        capture_output=True,
        text=True,
        check=False,
        env=ours | {name: value for name, value in os.environ.items() if "PINQUEUE" not in name},
    )
    assert done.returncode in (0, 1), done.stderr
    verdict: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode == 0) is verdict["holds"]
    return verdict


def insist_on_once(verdict: dict[str, Any], strikes: int) -> None:
    assert verdict["guests"] > strikes / 2
    assert {name: verdict[name] for name in ("lost", "duplicated", "orphaned")} == {
        "lost": [],
        "duplicated": [],
        "orphaned": [],
    }
    others = ("incomplete", "seen_in_part", "overwritten", "slow")
    assert {name: verdict[name] for name in others} == {name: [] for name in others}
    assert verdict["answers"].keys() <= {"200", "503"}
    nothing = ("overdue", "locks_held", "connections", "processes")
    assert {name: verdict[name] for name in nothing} == dict.fromkeys(nothing, 0)
    assert verdict["holds"]


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("strikes", "faults"),
    [
        pytest.param(10, ["failover"], id="10 failovers"),
        pytest.param(6, ["silence-database", "silence-cloud"], id="6 silent networks"),
    ],
)
def test_r5_whatever_is_killed_each_pin_is_on_its_door_once_and_comes_off(
    strikes: int, faults: list[str]
) -> None:
    insist_on_once(
        chaos(f"--strikes={strikes}", *(f"--fault={fault}" for fault in faults)), strikes
    )


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("line", blocks("README.md#break-it")[0].splitlines())
def test_r5_what_the_readme_has_typed_loses_and_doubles_nothing(line: str) -> None:
    verdict = chaos(*shlex.split(line, comments=True)[3:])
    insist_on_once(verdict, sum(verdict["struck"].values()))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_r5_whichever_workers_are_killed_each_pin_is_on_its_door_once_and_comes_off() -> None:
    """As the README has it typed, but a tenth of it."""
    _, killed = blocks("README.md#break-it")[0].splitlines()
    verdict = chaos(*shlex.split(filled(killed, {"1000": "100"}))[3:])
    insist_on_once(verdict, 100)
    assert verdict["struck"] == {"kill-worker": 100}
    assert verdict["retried_by_hand"] == 0, "nothing is taken for poison because workers are killed"


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_r7_however_the_cloud_lies_and_doors_fall_silent_each_pin_is_on_its_door_once() -> None:
    verdict = chaos("--strikes=60", *(f"--fault={lie}" for lie in LIES))
    insist_on_once(verdict, 60)
    assert verdict["stray_seconds"] < 900


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_r17_r28_two_versions_take_turns_while_much_breaks_and_each_pin_is_on_its_door_once(
    next_version: Path,
) -> None:
    """The next version has brought the database on; this one is put in its place now and then, on
    a disk that runs full, by clocks that jump."""
    faults = [DEPLOY]
    faults += [] if no_disk() else [FULL_DISK]
    faults += [] if no_clocks() else [JUMP_CLOCK]
    verdict = chaos(
        f"--beside={CHECKOUT}",
        "--strikes=12",
        *(f"--fault={fault}" for fault in faults),
        version=next_version,
    )
    insist_on_once(verdict, 12)
    assert set(verdict["struck"]) == set(faults)


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_r15_what_kills_its_workers_is_quarantined_and_nobody_else_and_done_when_it_is_mended() -> (
    None
):
    verdict = chaos("--strikes=2", f"--fault={POISON}")
    insist_on_once(verdict, 2)
    assert verdict["quarantined"] == verdict["retried_by_hand"] == 2
