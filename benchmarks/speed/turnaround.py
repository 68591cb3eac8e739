"""From a recipe to the first token that its weights make, in a running vLLM."""

import time

from automerge.engine.vllm import VllmEngine
from automerge.recipe import Recipe
from automerge.records import Sampling
from speed.rounds import Row

PROMPT = "The capital of France is"


def turnaround(engine: VllmEngine, recipe: Recipe) -> Row:
    """Seconds, by part: `merge` is ours, `repack` vLLM's bringing of tensors into its layers, `reset` its caches
    emptied, `first` a prompt and one token, `rest` the way to the process and back."""
    begun = time.perf_counter()
    engine.apply(recipe)
    applied = time.perf_counter()
    engine.generate([engine.encode(PROMPT)], Sampling(max_tokens=1))
    ended = time.perf_counter()
    report = engine.reports[0]
    parts = {"merge": report["merging"], "repack": report["seconds"] - report["merging"], "reset": report["resetting"]}
    rest = applied - begun - sum(parts.values())
    return {"seconds": ended - begun, **parts, "first": ended - applied, "rest": rest}
