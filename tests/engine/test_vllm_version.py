"""Which vLLM is taken, without one."""

import pytest

from automerge.engine import vllm_version
from automerge.engine.vllm_version import check_version
from automerge.errors import EngineError


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vLLM that has all that is called."""
    monkeypatch.setattr(vllm_version, "NEEDED", {})


@pytest.mark.parametrize("version", ["0.23.9", "0.9.1", "0.6.3.post1"])
def test_an_older_one_is_refused_with_the_range(version: str, complete: None) -> None:
    with pytest.raises(
        EngineError, match=rf"vLLM {version} is too old: expected 0\.24 or newer \(tested: up to 0\.32\)"
    ):
        check_version(version)


@pytest.mark.parametrize("version", ["0.24.0", "0.27.1rc1", "0.32.0+cpu", "0.32.1"])
def test_a_tested_one_is_taken(version: str, complete: None) -> None:
    assert check_version(version) == ""


@pytest.mark.parametrize("version", ["0.33.0", "1.0.0", "0.40.1.dev3+gabc"])
def test_a_newer_one_is_taken_with_a_warning(version: str, complete: None) -> None:
    assert check_version(version) == f"vLLM {version} is newer than tested; what the engine calls is there"


@pytest.mark.parametrize("version", ["0.30.0", "0.33.0"])
def test_one_that_lacks_what_is_called_is_refused(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    needed = {
        "json": ("dumps", "reload"),
        "json:JSONDecoder": ("decode",),
        "json:Gone": ("x",),
        "no_such_module": ("y",),
    }
    monkeypatch.setattr(vllm_version, "NEEDED", needed)
    with pytest.raises(EngineError, match=r"lacks json\.reload, json:Gone, no_such_module: expected 0\.24 or newer"):
        check_version(version)
