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
from automerge.engine.memory import free_memory
from automerge.engine.resident import choose_residency
from automerge.engine.start import chosen_engine
from automerge.evals.loaded import Half, LoadedSkill
from automerge.merge.stream import Merge
from automerge.space.baselines import baselines
from automerge.study.session import Plan

# Standard deviations of a paired item difference, for planning only: 0/1 scores where 1 answer in 10 changes, and
# answer probabilities as the committed results show them.
SPREAD = {"answer": 0.3, "likelihood": 0.03, "lm_eval": 0.3}
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
class Tokens:
    """Of one candidate that is asked everything. `generated` is the most there can be."""

    tier: int  # likelihoods that are asked first
    read: int
    generated: int


@dataclass(frozen=True)
class Estimate:
    """Bytes and seconds. `memory_bytes`: the engine's weights and the merge's buffers; activations and a cache of keys
    and values come on top. `sources_bytes`: base and sources on disk; `residency` says where they are kept."""

    memory_bytes: int
    merge_bytes: int
    sources_bytes: dict[str, int]
    residency: str
    available_bytes: int
    tokens: Tokens
    merge_seconds: float
    tier_seconds: float
    trial_seconds: float
    total_seconds: float
    gates: list[GateNeeds]


def estimate(plan: Plan, budget: int) -> Estimate:
    """The cost of `budget` trials and the verdict on this machine."""
    recipe = plan.space.recipe(plan.space.middle())
    shapes = plan.models.frame(recipe).shapes
    weights = sum(math.prod(shape) for shape in shapes.values())
    largest = max(math.prod(shape) for shape in shapes.values())
    merge_bytes = 2 * (len(plan.models.sources) + 2) * 4 * largest
    merge_seconds = _merge_seconds(Merge(recipe, plan.models), weights)
    speed = _operations_per_second()
    half_seconds = {
        half: merge_seconds + sum(_seconds(skill, half, weights, speed, plan) for skill in plan.skills.values())
        for half in ("search", "held_out")
    }
    drawn = plan.config.verdict.seeds if any(method.random for method in plan.space.methods.values()) else 1
    finals = plan.config.verdict.candidates * drawn + len(baselines(plan.space))
    total = budget * half_seconds["search"] + finals * half_seconds["held_out"]
    gates = [gate_needs(gate, plan.skills[gate.skill]) for gate in plan.config.gates]
    width = _served_dtype(plan).itemsize
    asked = [_tokens(skill, "search", plan) for skill in plan.skills.values()]
    return Estimate(
        memory_bytes=weights * width + merge_bytes,
        merge_bytes=merge_bytes,
        sources_bytes=plan.models.sizes(),
        residency=_residency(plan),
        available_bytes=free_memory(),
        tokens=Tokens(
            tier=round(sum(sum(_tokens(skill, "search", plan)) for skill in plan.tier.values())),
            read=round(sum(read for read, _ in asked)),
            generated=round(sum(generated for _, generated in asked)),
        ),
        merge_seconds=merge_seconds,
        tier_seconds=sum(_seconds(skill, "search", weights, speed, plan) for skill in plan.tier.values()),
        trial_seconds=half_seconds["search"],
        total_seconds=total,
        gates=gates,
    )


def _served_dtype(plan: Plan) -> torch.dtype:
    """What the engine will serve in: of `auto` the base's own, but float32 where transformers serves on a CPU."""
    asked = plan.config.engine.dtype
    own = torch.cuda.is_available() or chosen_engine(plan.config.engine)[0] == "vllm"
    found: torch.dtype = getattr(torch, asked if asked != "auto" else plan.models.dtype if own else "float32")
    return found


def _residency(plan: Plan) -> str:
    """Where base and sources will be kept between merges."""
    if chosen_engine(plan.config.engine)[0] == "transformers":
        return "mmap"
    ranks = int(plan.config.engine.arguments.get("tensor_parallel_size", 1))
    return choose_residency(plan.config.engine.residency, plan.models.full_bytes(), ranks)


def _merge_seconds(merge: Merge, weights: int) -> float:
    shapes = {name: shape for name, shape in merge.shapes.items() if name not in merge.frame.as_is}
    name = max(shapes, key=lambda n: math.prod(shapes[n]) if "layers" in n else 0)
    merge.merge_tensor(name)  # the first call pays for pages and caches
    start = time.perf_counter()
    merge.merge_tensor(name)
    return (time.perf_counter() - start) * weights / math.prod(shapes[name])


def _operations_per_second() -> float:
    a = torch.rand(768, 768)
    a @ a
    start = time.perf_counter()
    for _ in range(10):
        a @ a
    return 10 * 2 * 768**3 / (time.perf_counter() - start)


def _tokens(skill: LoadedSkill, half: Half, plan: Plan) -> tuple[float, float]:
    """(read, generated at most)."""
    per_token = 1 if int(plan.models.config.get("vocab_size", 0)) < 1000 else 4
    read = 0.0
    for item in skill.half(half):
        text = item.prompt if isinstance(item.prompt, str) else "".join(turn.get("content", "") for turn in item.prompt)
        read += len(text) / per_token
        read += len(item.target) / per_token if skill.scorer.needs != "answer" else 0.0
    answers = len(skill.half(half)) * skill.sampling.max_tokens * skill.skill.rounds
    return read, float(answers) if skill.scorer.needs == "answer" else 0.0


def _seconds(skill: LoadedSkill, half: Half, weights: int, speed: float, plan: Plan) -> float:
    read, generated = _tokens(skill, half, plan)
    steps = 0.0
    if skill.scorer.needs == "answer":
        blocks = math.ceil(len(skill.half(half)) / skill.skill.block)
        steps = float(blocks * skill.sampling.max_tokens * skill.skill.rounds)
    # Matrices of a real batch are thinner than the measured square: a third of its speed is what comes through.
    return (read + generated) * 2 * weights / (speed / 3) + steps * STEP_SECONDS


def gate_needs(gate: GateRule, skill: LoadedSkill) -> GateNeeds:
    """See GateNeeds, for one gate."""
    held_out = len(skill.half("held_out"))
    spread = SPREAD[skill.scorer.needs]
    margin = gate.margin.of(0.5) if gate.no_worse_than else 0.02
    why = "a margin of 0.02 above the bound" if gate.min is not None else f"margin {gate.margin}"
    if gate.margin.relative and gate.no_worse_than:
        why += ", for a reference score of 0.5"
    z = NormalDist().inv_cdf(gate.confidence)
    needed = math.ceil((z * spread / margin) ** 2) if margin > 0 else 10**9
    return GateNeeds(str(gate), held_out, needed, spread, why)
