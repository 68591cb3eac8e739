"""What vLLM serves is the merge, to the bit, however often it is merged into; and it answers as a fresh vLLM would."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from automerge.config import EngineConfig
from automerge.engine.base import Engine
from automerge.engine.child import Child
from automerge.engine.transformers import TransformersEngine
from automerge.engine.vllm import VllmEngine
from automerge.errors import AutomergeError, EngineLost, MergeError
from automerge.export.checkpoint import write_checkpoint
from automerge.merge import Models
from automerge.recipe import Group, Recipe
from automerge.records import Sampling
from tests.engine.test_child import gone
from tests.engine.vllm.conftest import ARGUMENTS
from tests.merge.helpers import recipe_of

Take = Callable[..., VllmEngine]
MakeModels = Callable[..., Models]

LONG = "a longer text than the others, by far, as it goes on and on; " * 3  # more than a block of the prefix cache
TEXTS = ("one two three", "1+1=", "z", LONG, "one two")
TAILS = (" four", "2", "ebra", " and so on", " three")
METHODS = ("linear", "task_arithmetic", "ties", "dare_linear", "dare_ties")
# mean |Δ log p| a token between vLLM and transformers, the same weights: the two round in other places
BOUNDS = {"float32": 1e-4, "bfloat16": 2e-2}


def random_recipe(models: Models, number: int, dtype: str = "bfloat16") -> Recipe:
    """Another method, other weights and drops in every layer, for each number."""
    chance = random.Random(number)
    method = METHODS[number % len(METHODS)]

    def each(low: float, high: float) -> dict[str, float]:
        return {name: chance.uniform(low, high) for name in models.sources}

    second = {"ties": {"density": each(0.2, 1.0)}}.get(method, {"drop": each(0.0, 0.9)} if "dare" in method else {})
    groups = tuple(
        Group((layer, layer + 1), "all", {"weight": each(0.1, 1.2), **second}) for layer in range(models.n_layers)
    )
    return recipe_of(models, method, groups=groups, dtype=dtype, seed=number)


def served(engine: VllmEngine, path: Path) -> dict[str, torch.Tensor]:
    """The weights read back out of the engine."""
    engine._call("served", str(path))
    return load_file(path)


EXPERTS = {"w13": ("w1", "w3", "gate_proj", "up_proj"), "w2": ("w2", "down_proj")}  # as mixtures of experts name them
PARTS = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


def equal_to_the_bit(held: dict[str, torch.Tensor], shipped: dict[str, torch.Tensor]) -> None:
    """vLLM's tensors are the checkpoint's, stacked where vLLM stacks them; every tensor of the checkpoint is there."""
    seen = set()
    for name, tensor in held.items():
        if match := re.fullmatch(r"(.+\.experts)\.(?:routed_experts\.)?(w13|w2)_weight", name):
            for number, expert in enumerate(tensor):  # packed for its kernel: the same values in another order
                names = [f"{match[1]}.{number}.{part}.weight" for part in EXPERTS[match[2]]]
                names = [one for one in names if one in shipped]
                wanted = torch.cat([shipped[one].view(-1) for one in names])
                assert torch.equal(expert.reshape(-1).sort().values, wanted.sort().values), name
                seen.update(names)
            continue
        stem, kind = name.rsplit(".", 1)
        layer = stem.rsplit(".", 1)[-1]
        parts = PARTS.get(layer, ())
        names = [f"{stem.removesuffix(layer)}{part}.{kind}" for part in parts] if f"{name}" not in shipped else [name]
        if name == "lm_head.weight" and name not in shipped:
            names = ["model.embed_tokens.weight"]
        wanted = torch.cat([shipped[one] for one in names])
        assert torch.equal(tensor[: len(wanted)] + 0.0, wanted + 0.0), name  # + 0: a product shows no zero's sign
        seen.update(names)
    assert seen == shipped.keys()


def exported(recipe: Recipe, models: Models, folder: Path, checksum: str) -> dict[str, torch.Tensor]:
    write_checkpoint(recipe, models, folder, expected_checksum=checksum)
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("tied", [False, True])
def test_twenty_recipes_in_a_row(vllm_models: MakeModels, take: Take, tmp_path: Path, tied: bool) -> None:
    models = vllm_models(tied=tied)
    engine = take(models)
    for number in range(20):
        recipe = random_recipe(models, number)
        applied = engine.apply(recipe)
        shipped = exported(recipe, models, tmp_path / str(number), applied.checksum)
        assert ("lm_head.weight" in shipped) == (not tied)
        equal_to_the_bit(served(engine, tmp_path / "held.safetensors"), shipped)


def test_linears_are_packed_straight_from_the_merge(vllm_models: MakeModels, take: Take, tmp_path: Path) -> None:
    """What spares a CPU a third of a reload is found in this vLLM, after one reload and after another."""
    models = vllm_models()
    engine = take(models)
    for number in range(2):
        recipe = random_recipe(models, number)
        applied = engine.apply(recipe)
        found = engine._call("linears_loaded_straight")
        assert len(found) == 4 * models.n_layers
        assert all(found.values()), found
        shipped = exported(recipe, models, tmp_path / str(number), applied.checksum)
        equal_to_the_bit(served(engine, tmp_path / "held.safetensors"), shipped)


def ask(engine: VllmEngine) -> tuple[list[list[int]], list[list[float]]]:
    """Greedy tokens and log-probabilities, of the same prompts twice: the second time out of the prefix cache."""
    prompts = [engine.encode(text) for text in TEXTS]
    tails = [engine._dialogue.continuation(tail) for tail in TAILS]
    rows = [[*prompt.token_ids, *tail] for prompt, tail in zip(prompts, tails, strict=True)]
    assert max(map(len, rows)) > 128
    return answers(engine._call, [list(p.token_ids) for p in prompts], rows, [len(tail) for tail in tails])


def answers(
    call: Callable[..., Any], prompts: list[list[int]], rows: list[list[int]], tails: list[int]
) -> tuple[list[list[int]], list[list[float]]]:
    options = {"max_tokens": 24, "temperature": 0.0, "ignore_eos": True, "detokenize": False}
    first = call("generate", prompts, options, 0)
    again = call("generate", prompts, options, 0)
    assert first == again
    return first, call("score", rows, tails)


@pytest.mark.parametrize(
    ("number", "tied"),
    [
        (3, False),
        (4, True),
        *(pytest.param(n, n % 2 == 1, marks=pytest.mark.full) for n in range(20) if n not in (3, 4)),
    ],
)
def test_a_fresh_vllm_on_the_export_answers_the_same(
    vllm_models: MakeModels, take: Take, plain: Callable[..., Child], tmp_path: Path, number: int, tied: bool
) -> None:
    models = vllm_models(tied=tied)
    engine = take(models, arguments={**ARGUMENTS, "max_num_seqs": 1, "enable_prefix_caching": True})
    engine.apply(random_recipe(models, number + 100))
    ask(engine)  # fills the prefix cache with another model's keys
    recipe = random_recipe(models, number)
    applied = engine.apply(recipe)
    exported(recipe, models, tmp_path / "out", applied.checksum)
    fresh = plain(tmp_path / "out", **{**ARGUMENTS, "max_num_seqs": 1, "enable_prefix_caching": True}, seed=0)
    prompts = [engine.encode(text) for text in TEXTS]
    tails = [engine._dialogue.continuation(tail) for tail in TAILS]
    rows = [[*prompt.token_ids, *tail] for prompt, tail in zip(prompts, tails, strict=True)]

    def call(name: str, *arguments: Any) -> Any:
        return fresh.call(name, *arguments, seconds=300)

    wanted = answers(call, [list(p.token_ids) for p in prompts], rows, [len(tail) for tail in tails])
    assert ask(engine) == wanted
    assert engine._call("cached", rows[TEXTS.index(LONG)]) >= 128
    assert len({tuple(row) for row in wanted[0]}) > 1


def test_an_apply_forgets_what_encoders_made(vllm_models: MakeModels, take: Take) -> None:
    """No model here has an encoder; what one would have made of a picture with the old weights is put there."""
    models = vllm_models()
    engine = take(models)
    engine.apply(random_recipe(models, 1))
    assert engine._call("encoded", True) == 1
    engine.apply(random_recipe(models, 2))
    assert engine._call("encoded", False) == 0


def engines_apart(*engines: Engine) -> float:
    """The mean |Δ log p| a token of two engines."""
    found = [e.loglikelihood([e.encode(text) for text in TEXTS], TAILS) for e in engines]
    apart = [
        abs(a - b)
        for one, two in zip(*found, strict=True)
        for a, b in zip(one.token_logprobs, two.token_logprobs, strict=True)
    ]
    return sum(apart) / len(apart)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_transformers_finds_the_same_probabilities(vllm_models: MakeModels, take: Take, dtype: str) -> None:
    models = vllm_models()
    engine = take(models, dtype)
    other = TransformersEngine(models, EngineConfig.model_validate({"device": "cpu", "dtype": dtype}))
    for number in (1, 3):
        recipe = random_recipe(models, number)
        assert engine.apply(recipe).checksum == other.apply(recipe).checksum
        assert engines_apart(engine, other) < BOUNDS[dtype]


@pytest.mark.full
@pytest.mark.parametrize("tied", [False, True])
def test_compiled_as_vllm_does_by_itself(vllm_models: MakeModels, take: Take, tmp_path: Path, tied: bool) -> None:
    models = vllm_models(tied=tied)
    arguments = {key: value for key, value in ARGUMENTS.items() if key != "enforce_eager"}
    engine = take(models, "float32", arguments=arguments)
    other = TransformersEngine(models, EngineConfig.model_validate({"device": "cpu", "dtype": "float32"}))
    for number in range(3):
        recipe = random_recipe(models, number, "float32")
        applied = engine.apply(recipe)
        assert applied.checksum == other.apply(recipe).checksum
        equal_to_the_bit(
            served(engine, tmp_path / "held"), exported(recipe, models, tmp_path / str(number), applied.checksum)
        )
        assert engines_apart(engine, other) < BOUNDS["float32"]
    engine.close()


def test_a_merge_that_fails_leaves_an_engine_that_serves_the_next(
    vllm_models: MakeModels, take: Take, tmp_path: Path
) -> None:
    models = vllm_models()
    engine = take(models, "float32")
    far = tuple(
        Group((layer, layer + 1), "all", {"weight": dict.fromkeys(models.sources, weight), "lambda": weight})
        for layer, weight in ((0, 1.0), (1, 1000.0))
    )
    good = random_recipe(models, 3, "float32")
    engine.apply(good)
    child = engine._child
    with pytest.raises(MergeError, match="cannot hold"):
        engine.apply(recipe_of(models, "task_arithmetic", groups=far, dtype="float16"))
    applied = engine.apply(good)
    assert engine._child is child  # the same process
    equal_to_the_bit(served(engine, tmp_path / "held"), exported(good, models, tmp_path / "out", applied.checksum))


@pytest.mark.parametrize("what", [EngineLost, MergeError])
def test_an_apply_that_breaks_off_costs_the_process_and_nothing_else(
    vllm_models: MakeModels, take: Take, tmp_path: Path, what: type[AutomergeError]
) -> None:
    models = vllm_models()
    engine = take(models)
    recipe = random_recipe(models, 3)
    checksum = engine.apply(recipe).checksum
    child = engine._child
    engine._call("break_once", what is MergeError)
    with pytest.raises(what, match="broken on purpose"):
        engine.apply(recipe)
    assert child is not None and gone(child.pid)  # some of its layers were half made
    applied = engine.apply(recipe)
    assert applied.checksum == checksum
    equal_to_the_bit(served(engine, tmp_path / "held"), exported(recipe, models, tmp_path / "out", checksum))


def test_sampled_answers_are_each_items_own(vllm_models: MakeModels, take: Take) -> None:
    models = vllm_models()
    engine = take(models)
    engine.apply(random_recipe(models, 3))
    prompts = [engine.encode(text) for text in TEXTS]
    sampling = Sampling(max_tokens=12, temperature=1.0, seed=5)
    together = engine.generate(prompts, sampling)
    assert engine.generate(prompts, sampling) == together
    assert engine.generate(prompts, Sampling(max_tokens=12, temperature=1.0, seed=6)) != together
    twice = engine.generate([prompts[0], prompts[0]], sampling)
    assert twice[0] == twice[1] == together[0]


def test_sampled_answers_to_prompts_that_are_read_in_pieces(vllm_models: MakeModels, take: Take) -> None:
    models = vllm_models()
    recipe, sampling = random_recipe(models, 3), Sampling(max_tokens=12, temperature=1.0, seed=5)
    whole = take(models, "float32")
    pieces = take(models, "float32", {**ARGUMENTS, "max_num_batched_tokens": 48})
    whole.apply(recipe)
    pieces.apply(recipe)
    prompts = [whole.encode(text) for text in TEXTS]
    assert pieces.generate(prompts, sampling) == whole.generate(prompts, sampling)
