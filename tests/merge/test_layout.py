"""Where tensors sit, and which group rules them."""

import pytest

from automerge.errors import ConfigError
from automerge.merge.layout import Place, count_layers, group_of, in_order, place_of
from automerge.recipe import Group, ModelRef, make_recipe


@pytest.mark.parametrize(
    ("tensor", "place"),
    [
        ("model.embed_tokens.weight", Place(None, "rest", first=True)),
        ("transformer.wte.weight", Place(None, "rest", first=True)),
        ("model.layers.12.self_attn.q_proj.weight", Place(12, "attention")),
        ("model.layers.0.self_attn.q_norm.weight", Place(0, "attention")),
        ("transformer.h.3.attn.c_attn.weight", Place(3, "attention")),
        ("model.layers.1.mlp.experts.7.up_proj.weight", Place(1, "mlp")),
        ("model.layers.1.block_sparse_moe.gate.weight", Place(1, "mlp")),
        ("model.layers.0.post_attention_layernorm.weight", Place(0, "rest")),
        ("model.norm.weight", Place(None, "rest")),
        ("lm_head.weight", Place(None, "rest")),
    ],
)
def test_places(tensor: str, place: Place) -> None:
    assert place_of(tensor) == place


def test_order_is_by_layer_number() -> None:
    names = [
        "lm_head.weight",
        "model.layers.10.mlp.w",
        "model.layers.2.mlp.w",
        "model.embed_tokens.weight",
        "model.norm.weight",
    ]
    assert in_order(names) == [names[3], names[2], names[1], names[0], names[4]]
    assert count_layers(names) == 11
    assert count_layers(["w"]) == 1


def rule(*groups: Group, tensor: str) -> str:
    recipe = make_recipe(
        method="linear",
        base=ModelRef("base", "", "0"),
        sources=(ModelRef("a", "", "1"),),
        groups=groups,
        options={},
        dtype="float32",
        seed=0,
    )
    return group_of(recipe, 4, tensor).name


def test_groups() -> None:
    halves = (
        Group((0, 2), "all", {}),
        Group((2, 4), "attention", {}),
        Group((2, 4), "mlp", {}),
        Group((2, 4), "rest", {}),
    )
    assert rule(*halves, tensor="model.embed_tokens.weight") == "layers.0-2.all"
    assert rule(*halves, tensor="model.layers.1.mlp.up_proj.weight") == "layers.0-2.all"
    assert rule(*halves, tensor="model.layers.2.mlp.up_proj.weight") == "layers.2-4.mlp"
    assert rule(*halves, tensor="lm_head.weight") == "layers.2-4.rest"


def test_none_or_two_groups_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.norm\.weight: no group covers layer 3, rest"):
        rule(Group((0, 3), "all", {}), tensor="model.norm.weight")
    with pytest.raises(ConfigError, match=r"more than one group: layers\.0-4\.all, layers\.0-4\.rest"):
        rule(Group((0, 4), "all", {}), Group((0, 4), "rest", {}), tensor="model.norm.weight")
