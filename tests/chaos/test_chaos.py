"""`pinqueue bench chaos`: everything breaks, and nothing is lost, doubled or left behind."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from pinqueue.bench.chaos.lies import LIES
from tests.conftest import PYTHON


def chaos(*options: str) -> dict[str, Any]:
    """The verdict; a run that lost something exits 1, and tells what."""
    done = subprocess.run(
        [PYTHON, "-m", "pinqueue", "bench", "chaos", "--json", *options],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if "PINQUEUE" not in name},
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
    assert {name: verdict[name] for name in ("incomplete", "overwritten", "slow")} == {
        "incomplete": [],
        "overwritten": [],
        "slow": [],
    }
    assert (verdict["overdue"], verdict["locks_held"], verdict["connections"]) == (0, 0, 0)
    assert verdict["holds"]


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("strikes", "faults"),
    [
        pytest.param(10, ["failover"], id="10 failovers"),
        pytest.param(6, ["silence-database", "silence-cloud"], id="6 silent networks"),
        pytest.param(40, [], id="all faults"),
    ],
)
def test_r5_whatever_is_killed_each_pin_is_on_its_door_once_and_comes_off(
    strikes: int, faults: list[str]
) -> None:
    insist_on_once(
        chaos(f"--strikes={strikes}", *(f"--fault={fault}" for fault in faults)), strikes
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_r5_whichever_workers_are_killed_each_pin_is_on_its_door_once_and_comes_off() -> None:
    verdict = chaos("--strikes=100", "--fault=kill-worker")
    insist_on_once(verdict, 100)
    assert verdict["struck"] == {"kill-worker": 100}
    assert verdict["retried_by_hand"] == 0, "nothing is taken for poison because workers are killed"


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_r7_however_the_cloud_lies_and_doors_fall_silent_each_pin_is_on_its_door_once() -> None:
    verdict = chaos("--strikes=60", *(f"--fault={lie}" for lie in LIES))
    insist_on_once(verdict, 60)
    assert verdict["stray_seconds"] < 900
