from pathlib import Path

import pytest

from tests.study.worlds import make_models, make_world


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def world(tmp_path: Path, models: Path) -> Path:
    """The path of a config over the scripted landscape."""
    return make_world(tmp_path / "world", models)
