"""A tiny family: a base, two fine-tunes and an adapter of it."""

from pathlib import Path

import pytest

from automerge.merge import Models, open_models
from tests.tiny import fine_tune_of, lora_of, tiny_llama


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOMERGE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root: Path = tmp_path_factory.mktemp("family")
    base = tiny_llama(root / "base", seed=0)
    made = {
        "base": base,
        "code": fine_tune_of(base, root / "code", seed=1),
        "math": lora_of(base, root / "math", seed=2),
        "writing": fine_tune_of(base, root / "writing", seed=3),
    }
    return {name: str(path) for name, path in made.items()}


@pytest.fixture
def family(folders: dict[str, str]) -> Models:
    return open_models(folders["base"], {name: path for name, path in folders.items() if name != "base"})
