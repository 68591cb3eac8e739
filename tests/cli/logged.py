"""`automerge`, with a log of what the real engine is asked: run it as `python -m tests.cli.logged`.

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
from automerge.engine.transformers import TransformersEngine
from automerge.recipe import Recipe
from automerge.records import Applied, Prompt

LOG = Path(os.environ["AUTOMERGE_TEST_LOG"])
HOLD = int(os.environ.get("AUTOMERGE_TEST_HOLD", "0"))


class LoggedEngine(TransformersEngine):
    """The engine as it is; `log` only watches."""

    def apply(self, recipe: Recipe) -> Applied:
        applied = super().apply(recipe)
        self.checksum = applied.checksum
        return applied

    def generate(self, prompts: Sequence[Prompt], sampling: Any) -> Any:
        self.log("generate", prompts)
        return super().generate(prompts, sampling)

    def loglikelihood(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> Any:
        self.log("loglikelihood", prompts)
        return super().loglikelihood(prompts, continuations)

    def log(self, method: str, prompts: Sequence[Prompt]) -> None:
        asked = hashlib.sha256("\0".join(prompt.text for prompt in prompts).encode()).hexdigest()
        with LOG.open("a") as file:
            file.write(f"{self.checksum} {method} {asked}\n")
        if HOLD and len(LOG.read_text().splitlines()) == HOLD:
            while not LOG.with_suffix(".go").exists():
                time.sleep(0.01)


if __name__ == "__main__":
    import automerge.engine.transformers

    automerge.engine.transformers.TransformersEngine = LoggedEngine  # start_engine takes it from there, late
    main()
