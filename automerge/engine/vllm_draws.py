"""Has vLLM on a CPU sample prompts that it reads in several pieces, each with a seed of its own.

vLLM samples a token after every piece, throws it away, and sets the request's generator back by an offset, which CPU
generators have not: it fails there (vLLM 0.24 to 0.32, runner V1). Here another generator makes what is thrown away.
"""

from typing import Any

import numpy as np
import torch


class _Spare(torch.Generator):
    """Nobody needs what it made, so it need not be set back."""

    def get_offset(self) -> int:
        return 0

    def set_offset(self, offset: int) -> torch.Generator:
        return self


def keep_draws(runner: Any) -> None:
    """From now on."""
    whole = getattr(runner, "sample_tokens", None)
    if runner.device.type != "cpu" or whole is None or not hasattr(runner, "discard_request_mask"):
        return

    def sampled(*arguments: Any, **named: Any) -> Any:
        generators = runner.input_batch.generators
        pieces = np.flatnonzero(runner.discard_request_mask.np[: runner.input_batch.num_reqs])
        held = {int(row): generators[int(row)] for row in pieces if int(row) in generators}
        generators.update({row: _Spare() for row in held})  # none may lack: vLLM 0.24 then ignores every seed
        try:
            return whole(*arguments, **named)
        finally:
            generators.update(held)

    runner.sample_tokens = sampled
