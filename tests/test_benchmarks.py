"""benchmarks/merge.py runs, and has the rows that docs and issues cite. What it measures is not judged here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.peers.peer import NO_PEER, peer_python

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "merge.py"


def sections(*names: str) -> dict[str, Any]:
    chosen = [part for name in names for part in ("--section", name)]
    env = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    command = [sys.executable, str(SCRIPT), "--quick", "--json", *chosen]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["sections"]
    return found


def test_bandwidth_and_cost_are_measured() -> None:
    found = sections("bandwidth", "cost")
    rows = {(row["what"], row["how"], row["threads"]): row for row in found["bandwidth"]["rows"]}
    for threads in (1, 2):
        assert rows["copy_", "flat", threads]["of_copy"] == 1.0
        for method in ("dare_linear", "dare_ties", "ties", "task_arithmetic", "linear"):
            assert rows[method, "kernel", threads]["of_copy"] > 0.0
            assert rows[method, "whole pass", threads]["ms"] > 0.0
    assert [row["elements"] for row in found["cost"]["rows"]] == sorted(
        row["elements"] for row in found["cost"]["rows"]
    )
    assert set(found["cost"]["extra"]["fit"]) == {"a", "b", "c", "r2"}


@pytest.mark.full
@pytest.mark.skipif(peer_python() is None, reason=NO_PEER)
def test_mergekit_is_measured_too() -> None:
    found = sections("mergekit", "commands")
    assert {"dare_linear"} == {row["method"] for row in found["mergekit"]["rows"]}
    whole = {row["what"]: row for row in found["commands"]["rows"]}
    assert {"mergekit-yaml", "automerge merge, models new", "automerge merge, digests known"} < set(whole)
    assert all(row["peak"] > 0 for row in whole.values())
