from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from automerge.moe import Mixture, open_mixture, write_mixture
from automerge.moe.config import read_moe
from tests.peers.pico import pico_families

PROMPTS = (["def f(x):", "import os"], ["2 + 2 =", "solve for x"], ["once upon a time"], ["dear sir"])


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Mapping[str, Path]]:
    """A pico base and its fine-tunes, of one architecture."""
    return pico_families(tmp_path_factory)


def described(base: Path, experts: list[Path], **more: Any) -> dict[str, Any]:
    """A config of mergekit-moe, each expert with prompts of its own."""
    return {
        "base_model": str(base),
        "dtype": "bfloat16",
        "experts": [
            {"source_model": str(expert), "positive_prompts": prompts}
            for expert, prompts in zip(experts, PROMPTS, strict=False)
        ],
        **more,
    }


def written(config: Mapping[str, Any], out: Path, seed: int = 0) -> Mixture:
    """Put together into the folder `out`."""
    file = out.with_suffix(".yml")
    file.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    mixture = open_mixture(read_moe(file), file.parent, seed=seed)
    write_mixture(mixture, file.read_text(encoding="utf-8"), out)
    return mixture
