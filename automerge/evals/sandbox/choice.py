"""Which level this machine gets: the first that holds in the self-test. Found once a process."""

import atexit
import functools
import threading

from automerge.errors import SkillError
from automerge.evals.sandbox.levels import Level, interpreters
from automerge.evals.sandbox.selftest import weakness
from automerge.evals.sandbox.spawning import Spawner

LEVELS = ("bubblewrap", "landlock")
_HINT = (
    "Model-written code is run nowhere else. Install bubblewrap (apt-get install bubblewrap) and allow user "
    "namespaces, or use a kernel with Landlock (5.13 or newer). For root, there must be a Python, 3.11 or newer, that "
    "every user can run, in /usr or /usr/local (apt-get install python3). `scorer: {unsafe: true}` runs answers with "
    "limits on time and memory alone: for answers you trust."
)

_lock = threading.Lock()
_spawners: dict[bool, Spawner] = {}


def sandbox_level(unsafe: bool = False) -> Level:
    """The level that model-written code runs at. Raises SkillError, with the reason for each level, where there is none
    (`unsafe` asks for limits alone and is refused only where no interpreter runs)."""
    found, reasons = _found(unsafe)
    if found is None:
        raise SkillError("there is no sandbox on this machine: " + "; ".join(reasons), hint=_HINT)
    return found


@functools.cache
def _found(unsafe: bool) -> tuple[Level | None, tuple[str, ...]]:
    reasons = []
    for name in ("none",) if unsafe else LEVELS:
        for python in interpreters():
            level = Level(name, python)
            if (why := weakness(level)) is None:
                return level, ()
            reasons.append(f"{name} with {python}: {why}")
        if not interpreters():
            reasons.append(f"{name}: no Python from 3.11 on that every user can run")
    return None, tuple(reasons)


def running_spawner(unsafe: bool = False) -> Spawner:
    """The spawner of that level, started if there is none or it has died. Raises SkillError and SandboxFailed."""
    level = sandbox_level(unsafe)
    with _lock:
        spawner = _spawners.get(unsafe)
        if spawner is None or not spawner.alive:
            spawner = _spawners[unsafe] = Spawner(level)
            atexit.register(spawner.close)
        return spawner
