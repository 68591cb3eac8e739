"""What the vLLM engine asks of its process and says of itself, without a vLLM."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, ValidationError

from automerge.config import EngineConfig
from automerge.engine import vllm
from automerge.engine.vllm import VllmEngine
from automerge.engine.vllm_host import Host, _reason
from automerge.errors import EngineError
from automerge.merge import open_models
from tests.tiny import fine_tune_of, tiny_llama


class Said:
    """In Child's place: says what a vLLM on a device would, or refuses."""

    device, note, refuses = "NVIDIA H200", "", False
    made: ClassVar[list["Said"]] = []

    def __init__(self, module: str, log: Path, environment: dict[str, str]) -> None:
        self.environment, self.closed = environment, False
        self.made.append(self)

    def call(self, name: str, *arguments: Any, seconds: float) -> dict[str, str]:
        self.seconds = seconds
        if self.refuses:
            raise EngineError("vLLM 0.1 is too old")
        return {"vllm": "0.32.0", "torch": "2.13.0", "device": self.device, "note": self.note}

    def close(self) -> None:
        self.closed = True


def engine_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> VllmEngine:
    monkeypatch.setattr(vllm, "Child", Said)
    monkeypatch.setattr(Said, "made", [])
    base = tiny_llama(tmp_path / "base")
    models = open_models(str(base), {"one": str(fine_tune_of(base, tmp_path / "one", 1))})
    return VllmEngine(models, EngineConfig(name="vllm", **settings), tmp_path / "log")


@pytest.mark.parametrize(("device", "said"), [("NVIDIA H200", True), ("cpu", False)])
def test_the_batch_invariant_mode_is_asked_for_and_on_record_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, said: bool
) -> None:
    monkeypatch.setattr(Said, "device", device)
    engine = engine_of(tmp_path, monkeypatch, deterministic=True)
    assert ("batch-invariant" in engine.fingerprint) == said
    assert Said.made[0].environment["VLLM_BATCH_INVARIANT"] == "1"
    plain = engine_of(tmp_path / "plain", monkeypatch)
    assert "batch-invariant" not in plain.fingerprint and "VLLM_BATCH_INVARIANT" not in Said.made[0].environment


def test_one_that_is_refused_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Said, "refuses", True)
    with pytest.raises(EngineError, match="too old"):
        engine_of(tmp_path, monkeypatch)
    assert [one.closed for one in Said.made] == [True]


@pytest.mark.parametrize(("timeout", "seconds"), [(10.0, 1800.0), (7200.0, 7200.0)])
def test_a_start_may_take_as_long_as_a_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timeout: float, seconds: float
) -> None:
    engine_of(tmp_path, monkeypatch, timeout=timeout)
    assert Said.made[0].seconds == seconds


def test_what_stores_outside_vllm_keep_is_forgotten_too() -> None:
    class Llm:
        """What is asked of vLLM after a merge."""

        llm_engine = property(lambda self: self)
        reset_mm_cache = reset_encoder_cache = staticmethod(lambda: None)

        def collective_rpc(self, name: str, args: tuple[str]) -> list[dict[str, Any]]:
            return [{}]

        def reset_prefix_cache(self, reset_running_requests: bool = False, reset_connector: bool = False) -> bool:
            self.reset = reset_connector
            return True

    host = Host()
    host._llm = Llm()
    host.apply("{}")
    assert host._llm.reset


def test_vllms_reason_is_a_whole_one() -> None:
    """pydantic's first line has no more than a count."""

    class Model(BaseModel):
        length: int

    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"length": "4k"})
    assert _reason(caught.value).startswith("length: Input should be a valid integer")
    assert _reason(RuntimeError("one\ntwo")) == "one" and _reason(RuntimeError()) == "RuntimeError"
