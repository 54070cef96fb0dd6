"""A minute of fuzzing, guided by the code it reaches, over all that proves and reads an event."""

from __future__ import annotations

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import PYTHON

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="has wheels for Linux on x86-64 alone")
def test_a_minute_of_fuzzing_breaks_no_sender(tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            *(PYTHON, "-m", "tests.senders.fuzzing", tmp_path),
            *("-max_total_time=60", "-timeout=30", f"-artifact_prefix={tmp_path}/"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    runs = re.search(r"Done (\d+) runs", ended.stderr)
    assert runs, ended.stderr[-3000:]
    assert int(runs[1]) > 5_000
