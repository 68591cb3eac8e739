"""A folder with the models that the configs of tests/cases/mergekit name: four layers, two fine-tunes, an adapter."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny import fine_tune_of, lora_of, tiny_llama

CASES = Path(__file__).parents[2] / "cases" / "mergekit"
Writer = Callable[[str], Path]


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mergekit")
    base = tiny_llama(root / "base", seed=0, layers=4)
    for seed, name in enumerate(("math", "code", "writing"), 1):
        fine_tune_of(base, root / name, seed=seed)
    lora_of(base, root / "poet", seed=9)
    return root


@pytest.fixture
def config(models_folder: Path, tmp_path: Path) -> Writer:
    """Writes a config whose relative paths are the models'."""

    def write(text: str) -> Path:
        folder = tmp_path / "config"
        folder.mkdir(exist_ok=True)
        for model in models_folder.iterdir():
            if not (folder / model.name).exists():
                (folder / model.name).symlink_to(model)
        path = folder / f"config-{len(list(folder.glob('*.yml')))}.yml"
        path.write_text(text, encoding="utf-8")
        return path

    return write
