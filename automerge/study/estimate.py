"""What a search will cost, roughly, without starting an engine: memory, time, and the items its gates need.

Time is tokens × 2 operations a weight over the speed of a matrix product measured here; merging is timed on the
largest tensor. Text is taken to have 4 characters a token, or 1 where the vocabulary is tiny.
"""

import math
import time
from dataclasses import dataclass
from statistics import NormalDist

import torch

from automerge.config import GateRule
from automerge.evals.loaded import Half, LoadedSkill
from automerge.merge.stream import Merge
from automerge.study.session import Plan

# Standard deviations of a paired item difference, for planning only: 0/1 scores where 1 answer in 10 changes, and
# answer probabilities as the committed results show them.
SPREAD = {"answer": 0.3, "likelihood": 0.03}
STEP_SECONDS = 0.005  # what a step of generation costs at least, whatever the model


@dataclass(frozen=True)
class GateNeeds:
    """Held-out items a gate has, and about how many show it at its margin and confidence with even odds."""

    gate: str
    held_out: int
    needed: int
    spread: float
    why: str


@dataclass(frozen=True)
class Estimate:
    """Bytes and seconds. `memory_bytes`: the engine's weights and the merge's buffers; activations come on top."""

    memory_bytes: int
    merge_bytes: int
    merge_seconds: float
    trial_seconds: float
    total_seconds: float
    gates: list[GateNeeds]


def estimate(plan: Plan, budget: int) -> Estimate:
    """The cost of `budget` trials and the verdict on this machine."""
    shapes = plan.models.shapes
    weights = sum(math.prod(shape) for shape in shapes.values())
    largest = max(math.prod(shape) for shape in shapes.values())
    merge_bytes = 2 * (len(plan.models.sources) + 2) * 4 * largest
    merge_seconds = _merge_seconds(plan, weights)
    speed = _operations_per_second()
    half_seconds = {
        half: merge_seconds + sum(_seconds(skill, half, weights, speed, plan) for skill in plan.skills.values())
        for half in ("search", "held_out")
    }
    finals = plan.config.verdict.candidates + len(plan.config.sources) + 5
    total = budget * half_seconds["search"] + finals * half_seconds["held_out"]
    gates = [_needs(gate, plan.skills[gate.skill]) for gate in plan.config.gates]
    width = 2 if plan.config.engine.dtype in ("bfloat16", "float16") else 4
    return Estimate(weights * width + merge_bytes, merge_bytes, merge_seconds, half_seconds["search"], total, gates)


def _merge_seconds(plan: Plan, weights: int) -> float:
    middle = {name: (d.low + d.high) / 2 for name, d in plan.space.distributions.items()}
    merge = Merge(plan.space.recipe(middle), plan.models)
    name = max(plan.models.shapes, key=lambda n: math.prod(plan.models.shapes[n]) if "layers" in n else 0)
    merge.merge_tensor(name)  # the first call pays for pages and caches
    start = time.perf_counter()
    merge.merge_tensor(name)
    return (time.perf_counter() - start) * weights / math.prod(plan.models.shapes[name])


def _operations_per_second() -> float:
    a = torch.rand(768, 768)
    a @ a
    start = time.perf_counter()
    for _ in range(10):
        a @ a
    return 10 * 2 * 768**3 / (time.perf_counter() - start)


def _seconds(skill: LoadedSkill, half: Half, weights: int, speed: float, plan: Plan) -> float:
    per_token = 1 if int(plan.models.config.get("vocab_size", 0)) < 1000 else 4
    tokens, steps = 0.0, 0.0
    items = skill.half(half)
    generated = skill.sampling.max_tokens * skill.skill.rounds
    for item in items:
        text = item.prompt if isinstance(item.prompt, str) else "".join(turn.get("content", "") for turn in item.prompt)
        tokens += len(text) / per_token
        tokens += generated if skill.scorer.needs == "answer" else len(item.target) / per_token
    if skill.scorer.needs == "answer":
        steps = math.ceil(len(items) / skill.skill.block) * generated
    # Matrices of a real batch are thinner than the measured square: a third of its speed is what comes through.
    return tokens * 2 * weights / (speed / 3) + steps * STEP_SECONDS


def _needs(gate: GateRule, skill: LoadedSkill) -> GateNeeds:
    held_out = len(skill.half("held_out"))
    spread = SPREAD[skill.scorer.needs]
    margin = gate.margin.of(0.5) if gate.no_worse_than else 0.02
    why = "a margin of 0.02 above the bound" if gate.min is not None else f"margin {gate.margin}"
    if gate.margin.relative and gate.no_worse_than:
        why += ", for a reference score of 0.5"
    z = NormalDist().inv_cdf(gate.confidence)
    needed = math.ceil((z * spread / margin) ** 2) if margin > 0 else 10**9
    return GateNeeds(str(gate), held_out, needed, spread, why)
