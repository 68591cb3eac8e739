"""The tiny family of tests/merge, and the same of three full fine-tunes in bfloat16."""

from pathlib import Path

import pytest
import torch

from automerge.merge import Models, open_models
from tests.merge.conftest import family, folders, own_cache
from tests.tiny import CHAT_TEMPLATE, fine_tune_of, tiny_llama, tiny_tokenizer

__all__ = ["family", "folders", "own_cache", "talkative"]


@pytest.fixture(scope="session")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """bfloat16; `math` has a chat template of its own, `code` the base's."""
    root: Path = tmp_path_factory.mktemp("talkative")
    base = tiny_llama(root / "base", seed=4, dtype=torch.bfloat16)
    for seed, name in enumerate(("code", "math"), start=5):
        fine_tune_of(base, root / name, seed)
    tiny_tokenizer(root / "math", chat_template="mathematician: " + CHAT_TEMPLATE)
    return open_models(str(base), {name: str(root / name) for name in ("math", "code")})
