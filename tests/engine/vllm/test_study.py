"""Whole studies on vLLM, by the command line, in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from automerge.study.folder import StudyFolder
from automerge.study.records import study_rows
from automerge.study.store import open_study
from tests.cli.world import TIMEOUT, environment, make_models, make_world, run
from tests.engine.test_child import gone
from tests.engine.vllm.conftest import ARGUMENTS, ROOT

BUDGET = 11
MORE = {"PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    config = make_world(root / "world", make_models(root / "models", hidden=128))
    config.write_text(config.read_text() + f"engine: {json.dumps({'name': 'vllm', 'arguments': ARGUMENTS})}\n")
    return config


def host_of(parent: int) -> int | None:
    """The process that a search runs vLLM in."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            is_host = b"automerge.engine.vllm_host" in path.read_bytes()
            stat = (path.parent / "stat").read_text()
        except OSError:
            continue
        if is_host and int(stat.rsplit(")", 1)[1].split()[1]) == parent:
            return int(path.parent.name)
    return None


def start(config: Path, out: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "automerge", "search", str(config), "--budget", str(BUDGET), "--out", str(out)]
    with out.with_suffix(".printed").open("wb") as printed:
        return subprocess.Popen(command, cwd=config.parent, env=environment(**MORE), stdout=printed, stderr=printed)


def wait_until_printed(process: "subprocess.Popen[bytes]", out: Path, text: str) -> str:
    deadline = time.monotonic() + TIMEOUT
    while text not in (printed := out.with_suffix(".printed").read_text()):
        assert process.poll() is None and time.monotonic() < deadline, printed
        time.sleep(0.01)
    return printed


def test_the_engine_is_killed_in_a_study_that_ends_all_the_same(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(world, out)
    wait_until_printed(process, out, f"[3/{BUDGET}]")
    host = host_of(process.pid)
    assert host is not None
    os.kill(host, signal.SIGKILL)
    assert process.wait(TIMEOUT) in (0, 3)
    printed = out.with_suffix(".printed").read_text()
    assert "the engine is lost and will be started again" in printed
    assert "engine: vllm (as asked)" in printed and "sources: mmap" in printed
    assert not any(noise in printed for noise in ("INFO", "WARNING", "Loading weights", "Traceback"))
    assert "init engine" in (out / "vllm.log").read_text()  # what vLLM prints is kept
    rows = study_rows(open_study("world", StudyFolder(out).storage))
    assert [row.state for row in rows if row.number is not None].count("complete") + sum(
        row.number is None for row in rows
    ) == BUDGET
    assert len({row.record.checksum for row in rows if row.record}) == len(rows)

    best = next(row for row in rows if row.number is not None and row.record and not row.is_baseline)
    done = run("export", "--out", out, "--trial", best.number, tmp_path / "model", cwd=world.parent, **MORE)
    assert done.code == 0, done.err
    assert best.record is not None
    assert json.loads((tmp_path / "model" / "recipe.json").read_text())  # written only where the checksum is the scored
    again = run("search", world, "--budget", BUDGET, "--out", out, "--json", cwd=world.parent, **MORE)
    assert again.code in (0, 3) and again.json["outcome"] in ("PROMOTED", "REJECTED", "INCONCLUSIVE"), again.err


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.full), signal.SIGKILL])
def test_no_process_is_left(world: Path, tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "out"
    process = start(world, out)
    wait_until_printed(process, out, f"[1/{BUDGET}]")
    host = host_of(process.pid)
    assert host is not None
    process.send_signal(number)
    assert process.wait(TIMEOUT) == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert gone(host)


@pytest.mark.full
def test_two_workers_share_the_machine(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("search", world, "--budget", BUDGET, "--workers", 2, "--out", out, cwd=world.parent, **MORE)
    assert done.code in (0, 3), done.err
    rows = study_rows(open_study("world", StudyFolder(out).storage))
    assert len(rows) == BUDGET and all(row.state == "complete" for row in rows)
    assert len({row.record.checksum for row in rows if row.record}) == len(rows)
    for index in range(2):
        assert "init engine" in (out / f"vllm.{index}.log").read_text()
