"""A mixture streams: what the process holds beside the mapped models stays under two layers of what it writes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "moe_memory.py"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_peak_memory_stays_under_two_layers() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--quick", "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert {row["gate_mode"] for row in rows} == {"random", "cheap_embed", "hidden"}
    for row in rows:
        assert row["peak_bytes"] < row["bound_bytes"] < row["output_bytes"] / 2, row
    assert rows[-1]["peak_bytes"] > rows[-1]["layer_bytes"] / 4  # an expert's part in fp32, where the base is asked
