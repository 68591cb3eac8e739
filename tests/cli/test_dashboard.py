"""`dashboard` serves the study in a real process, and says what is missing where it cannot."""

import importlib.util
import json
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.cli.test_commands import Study, promoted
from tests.cli.world import environment
from tests.ports import free_port

__all__ = ["promoted"]


def test_it_serves_the_study(promoted: Study) -> None:
    port = free_port()
    command = [sys.executable, "-m", "automerge", "dashboard", "--out", str(promoted.out), "--port", str(port)]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=5) as answer:
                    studies = json.load(answer)
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.5)
        assert "world" in json.dumps(studies)
    finally:
        process.kill()
        process.communicate()


def test_without_the_package_it_says_so(promoted: Study, automerge, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "optuna_dashboard" else real(name))
    assert "pip install '.[dashboard]' in a clone" in automerge("dashboard", "--out", promoted.out).message
