"""Peak memory of a merge stays under one batch and two fp32 copies of the largest tensor."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "merge_memory.py"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_peak_memory_keeps_the_bound() -> None:
    command = [sys.executable, str(SCRIPT), "--quick", "--json"]
    env = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert len(rows) == 2
    for row in rows:
        assert 0 < row["peak_bytes"] < row["bound_bytes"], row
