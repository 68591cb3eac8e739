from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.world import Done, call, make_models, make_world


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Digests and the zoo go to a cache of the test run's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOMERGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def cli_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def config(tmp_path: Path, cli_models: Path) -> Path:
    """A config nobody has searched yet."""
    return make_world(tmp_path / "world", cli_models)


@pytest.fixture
def automerge(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Done]:
    """The command line in this process, started in an empty folder."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return lambda *arguments: call(monkeypatch, capfd, *arguments)
