"""The levels this machine has: every test of what a sandbox contains runs at each of them."""

import functools
from collections.abc import Iterator

import pytest

from automerge.evals.sandbox.levels import Level, interpreters
from automerge.evals.sandbox.selftest import weakness
from automerge.evals.sandbox.spawning import Spawner
from tests.evals.sandbox.canaries import ENVIRONMENT


@functools.cache
def usable(name: str) -> Level | str:
    """The level, or why this machine has none of that name."""
    why = ""
    for python in interpreters():
        level = Level(name, python)
        if (reason := weakness(level)) is None:
            return level
        why = reason
    return why


@pytest.fixture(scope="session", params=["bubblewrap", "landlock"])
def spawner(request: pytest.FixtureRequest) -> Iterator[Spawner]:
    """Started with a secret in the environment."""
    level = usable(request.param)
    if isinstance(level, str):
        pytest.skip(f"no {request.param} here: {level}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOMERGE_TEST_SECRET", ENVIRONMENT)
        running = Spawner(level)
        yield running
        running.close()
