"""`pinqueue bench`, with a thousandth of the work: each side does it, and leaves nothing."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.acceptance.processes import House, command_of, processes_naming
from tests.conftest import PYTHON
from tests.pages import ROOT, blocks, filled

PEER = ROOT.parent / "shared" / "peer"
SIDES = {
    "late": {"pinqueue"},
    "rush": {"pinqueue"},
    "drain": {"pinqueue", "two workers"},
    "pending": {"0", "1000000"},
    "ingest": {"pinqueue", "pgbench"},
}


@pytest.mark.timeout(400)
def test_every_bench_measures_each_of_its_sides_draws_its_plots_and_leaves_nothing(
    house: House, tmp_path: Path
) -> None:
    plots = tmp_path / "plots"
    plots.mkdir()
    with tempfile.TemporaryDirectory(prefix="pinqueue-test-", dir="/tmp") as room:
        whole, _ = blocks("README.md#measure-it")[0].splitlines()
        done = house.run(
            *shlex.split(whole, comments=True)[1:],
            *("--rounds=1", "--scale=0.001", "--json", f"--plots={plots}"),
            TMPDIR=room,
        )
        assert done.returncode == 0, done.stderr
        left = list(Path(room).iterdir()), [command_of(pid) for pid in processes_naming(room)]
    assert left == ([], [])
    benches = json.loads(done.stdout)["benches"]
    assert {name: set(result["sides"]) for name, result in benches.items()} == SIDES
    medians = [
        figures["median"]
        for result in benches.values()
        for side in result["sides"].values()
        for figures in side.values()
    ]
    assert len(medians) > 20
    assert min(medians) > 0
    assert {path.name for path in plots.iterdir()} == {"cost.svg", "lateness.svg"}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not PEER.is_dir(), reason="the peer's programs are not beside this checkout")
@pytest.mark.skipif(shutil.which("npm") is None, reason="the peer needs Node, with npm")
def test_the_peer_does_the_same_work_in_turn_as_the_readme_says(house: House) -> None:
    (house.folder / "peer").symlink_to(PEER)
    _, beside = blocks("README.md#measure-it")[0].splitlines()
    told = shlex.split(filled(beside, {"../peer": "peer"}), comments=True)[1:]
    done = subprocess.run(
        [PYTHON, "-m", "pinqueue", *told, "--rounds=1", "--json"],
        cwd=house.folder,
        env=house.environment | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rush = json.loads(done.stdout)["benches"]["rush"]
    assert set(rush["sides"]) == {"pinqueue", "peer"}
    assert rush["sides"]["peer"]["seconds"]["median"] > 2, "twenty turns at a door of 100 ms"


def test_a_peer_whose_folder_is_not_there_is_told_and_nothing_is_measured(house: House) -> None:
    _, beside = blocks("README.md#measure-it")[0].splitlines()
    done = house.run(*shlex.split(beside, comments=True)[1:])
    assert (done.returncode, done.stdout) == (1, "")
    assert "--peer: ../peer does not hold package.json" in done.stderr
