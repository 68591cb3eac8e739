"""`automerge`, with a log of what the real engines are asked: run it as `python -m tests.cli.logged`.

AUTOMERGE_TEST_LOG    gets a line a block, before it is asked: weights' checksum, method and prompts' digest
AUTOMERGE_TEST_HOLD   a number: the block that brings the log to this many lines waits until LOG.go exists
"""

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from automerge.cli import main
from automerge.recipe import Recipe
from automerge.records import Applied, Prompt

LOG = Path(os.environ["AUTOMERGE_TEST_LOG"])
HOLD = int(os.environ.get("AUTOMERGE_TEST_HOLD", "0"))


def logged(engine: type[Any]) -> type[Any]:
    """The engine as it is; `log` only watches."""

    class Logged(engine):  # type: ignore[misc]
        def apply(self, recipe: Recipe) -> Applied:
            applied: Applied = super().apply(recipe)
            self.checksum = applied.checksum
            return applied

        def generate(self, prompts: Sequence[Prompt], sampling: Any) -> Any:
            log(self.checksum, "generate", prompts)
            return super().generate(prompts, sampling)

        def loglikelihood(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> Any:
            log(self.checksum, "loglikelihood", prompts)
            return super().loglikelihood(prompts, continuations)

    return Logged


def log(checksum: str, method: str, prompts: Sequence[Prompt]) -> None:
    asked = hashlib.sha256("\0".join(prompt.text for prompt in prompts).encode()).hexdigest()
    with LOG.open("a") as file:
        file.write(f"{checksum} {method} {asked}\n")
    if HOLD and len(LOG.read_text().splitlines()) == HOLD:
        while not LOG.with_suffix(".go").exists():
            time.sleep(0.01)


if __name__ == "__main__":
    import automerge.engine.start
    import automerge.engine.transformers
    import automerge.engine.vllm

    # start_engine takes them from there, late
    automerge.engine.transformers.TransformersEngine = logged(automerge.engine.transformers.TransformersEngine)  # type: ignore[misc]
    automerge.engine.vllm.VllmEngine = logged(automerge.engine.vllm.VllmEngine)  # type: ignore[misc]
    automerge.engine.start.RemoteEngine = logged(automerge.engine.start.RemoteEngine)  # type: ignore[misc]
    main()
