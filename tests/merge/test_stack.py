"""Stacks of layers: which layer of which model ends up where, configs of the result, and what cannot be stacked."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from automerge.errors import ConfigError
from automerge.merge import Models, open_models
from automerge.merge.frame import Frame
from automerge.merge.layout import split_layer
from automerge.merge.stack import stacked
from automerge.recipe import Recipe, Slice
from tests.merge.helpers import edit_json, merged, recipe_of, write_model
from tests.tiny import fine_tune_of, lora_of, tiny_llama

UP = "mlp.up_proj.weight"
NORM = "input_layernorm.weight"


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("deep")
    base = tiny_llama(root / "base", seed=0, layers=4)
    made = {"code": fine_tune_of(base, root / "code", seed=1), "math": fine_tune_of(base, root / "math", seed=2)}
    return {"base": str(base), **{n: str(p) for n, p in made.items()}, "poet": str(lora_of(base, root / "poet", 3))}


def opened(deep: Mapping[str, str], *names: str) -> Models:
    return open_models(deep["base"], {name: deep[name] for name in names})


def stack_of(models: Models, method: str, *parts: Mapping[str, tuple[int, int]], **values: Any) -> Recipe:
    recipe = recipe_of(models, method, values)
    total = sum(stop - start for part in parts for start, stop in [next(iter(part.values()))])
    groups = tuple(replace(group, layers=(0, total)) for group in recipe.groups)
    return replace(recipe, slices=tuple(Slice(part) for part in parts), groups=groups)


def layer(number: int, rest: str = UP) -> str:
    return f"model.layers.{number}.{rest}"


def plain(models: Models) -> Frame:
    return models.frame(recipe_of(models, "linear"))


def test_no_slices_no_change(deep: dict[str, str]) -> None:
    models = opened(deep, "code")
    assert stacked(plain(models), recipe_of(models, "linear")) is plain(models)


def test_a_stack_of_two_models(deep: dict[str, str]) -> None:
    models = opened(deep, "code", "math")
    frame = stacked(plain(models), stack_of(models, "passthrough", {"code": (0, 3)}, {"math": (2, 4)}))
    assert frame.n_layers == 5
    assert frame.config["num_hidden_layers"] == 5
    assert len(frame.names) == 9 * 5 + 3
    assert frame.names[0] == "model.embed_tokens.weight" and frame.names[-1] == "model.norm.weight"
    for number, (name, theirs) in enumerate([("code", 0), ("code", 1), ("code", 2), ("math", 2), ("math", 3)]):
        assert frame.takes_part[layer(number)] == {name}
        found = frame.sources_of(layer(number))[name].stored(layer(number))
        original = models.sources[name].stored(layer(theirs))
        assert found is not None and original is not None and torch.equal(found, original)
    assert frame.takes_part["model.embed_tokens.weight"] == {"code"}
    assert frame.takes_part["model.norm.weight"] == frame.takes_part["lm_head.weight"] == {"math"}


def test_a_model_stacked_on_itself_runs(deep: dict[str, str], tmp_path: Path) -> None:
    from automerge.export.checkpoint import write_checkpoint

    models = opened(deep, "code")
    recipe = stack_of(models, "passthrough", {"code": (0, 3)}, {"code": (1, 4)})
    write_checkpoint(recipe, models, tmp_path / "out", expected_checksum=None)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.config.num_hidden_layers == 6
    assert torch.isfinite(model(torch.tensor([[1, 5, 9]])).logits).all()


def test_a_delta_is_over_the_base_s_own_layer(deep: dict[str, str]) -> None:
    models = opened(deep, "code", "math")
    parts = ({"code": (0, 2)}, {"base": (1, 3), "code": (2, 4), "math": (1, 3)})
    tensors, _ = merged(stack_of(models, "task_arithmetic", *parts, weight={"code": 0.5, "math": 0.25}), models)
    base, code, math = (lambda n: models.base.mapped(layer(n))), models.sources["code"], models.sources["math"]
    assert torch.equal(tensors[layer(1)], base(1) + 0.5 * (code.stored(layer(1)) - base(1)))
    expected = base(2) + (0.5 * (code.stored(layer(3)) - base(2)) + 0.25 * (math.stored(layer(2)) - base(2)))
    assert torch.equal(tensors[layer(3)], expected)


def test_weights_are_averaged_over_those_that_take_part(deep: dict[str, str]) -> None:
    models = opened(deep, "code", "math")
    recipe = stack_of(
        models, "linear", {"code": (0, 1)}, {"code": (0, 2), "math": (2, 4)}, weight={"code": 1, "math": 3}
    )
    tensors, _ = merged(recipe, models)
    code, math = models.sources["code"], models.sources["math"]
    assert torch.equal(tensors[layer(0)], code.stored(layer(0)))
    mean = (code.stored(layer(1)) + 3 * math.stored(layer(3))) / 4
    assert torch.allclose(tensors[layer(2)], mean, atol=1e-7)


def test_a_slice_of_the_base_alone(deep: dict[str, str]) -> None:
    models = opened(deep, "code")
    recipe = stack_of(models, "ties", {"base": (0, 2)}, {"base": (2, 4), "code": (2, 4)}, weight={"code": 1.0})
    tensors, _ = merged(recipe, models)
    assert torch.equal(tensors[layer(1)], models.base.mapped(layer(1)))
    assert torch.allclose(tensors[layer(3)], models.sources["code"].stored(layer(3)), atol=1e-6)


@pytest.mark.parametrize("parts", [({"poet": (0, 2)},), ({"poet": (1, 3)}, {"poet": (0, 2)})])
def test_an_adapter_over_its_own_layers(deep: dict[str, str], parts: Any) -> None:
    models = opened(deep, "poet")
    whole, _ = merged(recipe_of(models, "task_arithmetic"), models)
    tensors, _ = merged(stack_of(models, "task_arithmetic", *parts), models)
    numbers = [number for part in parts for number in range(*part["poet"])]
    for new, old in enumerate(numbers):
        for rest in (UP, NORM, "self_attn.q_proj.weight"):
            assert torch.equal(tensors[layer(new, rest)], whole[layer(old, rest)])


def test_an_adapter_over_another_layer_of_the_base(deep: dict[str, str]) -> None:
    """What it stands for is θ[l] + δ[l], wherever the result's base is."""
    models = opened(deep, "poet")
    recipe = stack_of(models, "task_arithmetic", {"base": (0, 2), "poet": (2, 4)}, weight={"poet": 0.5})
    tensors, _ = merged(recipe, models)
    delta = models.sources["poet"].whole_delta(layer(3))
    theta, moved = models.base.mapped(layer(1)), models.base.mapped(layer(3)) + delta
    assert torch.equal(tensors[layer(1)], theta + 0.5 * (moved - theta))
    theta, moved = models.base.mapped(layer(1, NORM)), models.base.mapped(layer(3, NORM))
    assert torch.equal(tensors[layer(1, NORM)], theta + 0.5 * (moved - theta))


def test_two_adapters_of_one_slice_need_no_equal_ranges(deep: dict[str, str]) -> None:
    models = opened(deep, "code", "poet")
    recipe = stack_of(models, "linear", {"code": (0, 2), "poet": (2, 4)})
    tensors, _ = merged(recipe, models)
    poet = models.base.mapped(layer(3)) + models.sources["poet"].whole_delta(layer(3))
    assert torch.allclose(tensors[layer(1)], (models.sources["code"].stored(layer(1)) + poet) / 2, atol=1e-7)


def test_the_same_stack_gives_the_same_bytes(deep: dict[str, str]) -> None:
    models = opened(deep, "code", "poet")
    recipe = stack_of(
        models,
        "dare_ties",
        {"code": (0, 2), "poet": (0, 2)},
        {"poet": (1, 4)},
        drop=dict.fromkeys(("code", "poet"), 0.5),
    )
    assert merged(recipe, models)[1] == merged(recipe, opened(deep, "code", "poet"), batch_bytes=1)[1]
    other = replace(recipe, slices=(recipe.slices[0], Slice({"poet": (0, 3)})))
    assert merged(recipe, models)[1] != merged(other, models)[1]


# --- config -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"num_hidden_layers": 4, "layer_types": ["a", "b", "c", "d"], "eos_token_id": [1, 2, 3, 4]},
            {"num_hidden_layers": 4, "layer_types": ["a", "b", "b", "c"], "eos_token_id": [1, 2, 3, 4]},
        ),
        ({"n_layer": 4, "width": 4, "others": [1, 2]}, {"n_layer": 4, "width": 4, "others": [1, 2]}),
        (
            {"text_config": {"num_hidden_layers": 4, "sizes": [5, 6, 7, 8]}, "rope_scaling": {"factor": [1, 2, 3, 4]}},
            {"text_config": {"num_hidden_layers": 4, "sizes": [5, 6, 6, 7]}, "rope_scaling": {"factor": [1, 2, 3, 4]}},
        ),
        (
            {"model_type": "gemma3_text", "num_hidden_layers": 4, "sliding_window_pattern": 2},
            {
                "model_type": "gemma3_text",
                "num_hidden_layers": 4,
                "sliding_window_pattern": 2,
                "layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention"],
            },
        ),
        ({"model_type": "llama", "num_hidden_layers": 4}, {"model_type": "llama", "num_hidden_layers": 4}),
    ],
)
def test_config(config: dict[str, Any], expected: dict[str, Any], deep: dict[str, str]) -> None:
    models = opened(deep, "code")
    frame = replace(plain(models), config=config)
    recipe = stack_of(models, "passthrough", {"code": (0, 2)}, {"code": (1, 3)})
    assert stacked(frame, recipe).config == expected


def test_the_number_of_layers_follows(deep: dict[str, str]) -> None:
    models = opened(deep, "code")
    frame = replace(plain(models), config={"num_hidden_layers": 4, "num_attention_heads": 4, "a": [1, 2, 3, 4]})
    found = stacked(frame, stack_of(models, "passthrough", {"code": (3, 4)})).config
    assert found == {"num_hidden_layers": 1, "num_attention_heads": 4, "a": [4]}


@pytest.mark.parametrize(
    ("tensor", "parts"),
    [
        ("model.layers.3.mlp.up_proj.weight", ("model.layers", "mlp.up_proj.weight")),
        ("transformer.h.12.attn.c_attn.bias", ("transformer.h", "attn.c_attn.bias")),
        ("parts.2.layers.2.experts.2.w1.weight", ("parts.2.layers", "experts.2.w1.weight")),
    ],
)
def test_split_layer(tensor: str, parts: tuple[str, str]) -> None:
    assert split_layer(tensor) == parts


def test_split_outside_the_layers() -> None:
    with pytest.raises(ValueError, match="outside the layers"):
        split_layer("model.norm.weight")


# --- refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "parts", "message"),
    [
        ("linear", ({"code": (2, 5)},), "slices[0]: code has 4 layers (0 to 3), got a range up to 5"),
        ("linear", ({"code": (0, 1)}, {"base": (0, 9), "code": (0, 9)}), "slices[1]: base has 4 layers"),
        ("linear", ({"base": (0, 2)},), "slices[0]: linear takes at least 1 source in a slice, got none"),
        (
            "passthrough",
            ({"code": (0, 2), "math": (0, 2)},),
            "slices[0]: passthrough takes 1 source in a slice, got 2",
        ),
        ("slerp", ({"base": (0, 2)},), "slerp takes 1 to 2 sources in a slice, got none"),
        (
            "ties",
            ({"code": (0, 2), "math": (1, 3)},),
            "slices[0]: ties needs a base, and the ranges differ: code 0–2, math 1–3\nName base and its layers",
        ),
    ],
)
def test_refused(method: str, parts: Any, message: str, deep: dict[str, str]) -> None:
    models = opened(deep, "code", "math")
    with pytest.raises(ConfigError) as caught:
        stacked(plain(models), stack_of(models, method, *parts))
    assert message in str(caught.value)


def test_layers_of_another_make_are_refused(tmp_path: Path) -> None:
    tensors = {f"model.layers.{n}.mlp.up_proj.weight": torch.zeros(2 + n, 2) for n in range(2)}
    tensors |= {"model.layers.2.mlp.gate.weight": torch.zeros(2, 2)}
    config = {"num_hidden_layers": 3, "vocab_size": 4}
    for name in ("base", "code"):
        write_model(tmp_path / name, {**tensors, "model.embed_tokens.weight": torch.zeros(4, 2)}, **config)
    edit_json(tmp_path / "code" / "config.json", note=1)
    models = open_models(str(tmp_path / "base"), {"code": str(tmp_path / "code")})
    for start, message in ((1, "layers.0.mlp.up_proj.weight has shape [2, 2]"), (2, "which is not there")):
        recipe = stack_of(models, "ties", {"base": (0, 1), "code": (start, start + 1)})
        with pytest.raises(ConfigError, match=r"slices\[0\]") as caught:
            stacked(plain(models), recipe)
        assert message in str(caught.value)


def test_layers_that_config_json_does_not_count(tmp_path: Path) -> None:
    """A block that predicts further tokens is stored as one more layer: a stack has none, and counts its own layers."""
    folder = tiny_llama(tmp_path / "base", layers=3)
    edit_json(folder / "config.json", num_hidden_layers=2, layer_types=["full_attention", "sliding_attention"])
    models = open_models(str(folder), {"one": str(fine_tune_of(folder, tmp_path / "one", seed=1))})
    frame = models.frame(stack_of(models, "passthrough", {"one": (0, 2)}, {"one": (1, 2)}))
    assert (frame.n_layers, frame.config["num_hidden_layers"]) == (3, 3)
    assert frame.config["layer_types"] == ["full_attention", "sliding_attention", "sliding_attention"]
    assert models.frame(recipe_of(models, "passthrough")).config["num_hidden_layers"] == 2
    with pytest.raises(
        ConfigError, match=r"config.json counts 2 layers; what is stored beyond them, to layer 2, is none"
    ):
        models.frame(stack_of(models, "passthrough", {"one": (0, 3)}, {"one": (1, 2)}))
