"""A recipe written as mergekit's YAML and read again gives the same bytes; what mergekit cannot say is refused."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automerge.errors import AutomergeError, ConfigError
from automerge.merge import Models, open_models
from automerge.merge.mergekit.emit import Entry, setting_of
from automerge.merge.mergekit.read import read_mergekit
from automerge.merge.mergekit.schema import Setting
from automerge.merge.mergekit.settings import place, resolve
from automerge.merge.mergekit.table import Theirs
from automerge.merge.mergekit.write import to_mergekit
from automerge.recipe import Group, Recipe, Slice, TokenRule, Vocabulary, make_recipe
from tests.merge.helpers import merged, recipe_of
from tests.merge.mergekit.conftest import CASES, Writer

SOURCES = ("code", "math", "poet")
WEIGHT = {"code": 0.7, "math": -0.4, "poet": 0.5}
SHARE = {"code": 0.3, "math": 0.6, "poet": 0.9}
MERGEKIT = {"dialect": "mergekit"}


@pytest.fixture
def models(models_folder: Path) -> Models:
    return opened(models_folder, SOURCES)


def opened(folder: Path, names: tuple[str, ...]) -> Models:
    return open_models(str(folder / "base"), {name: str(folder / name) for name in names})


def there_and_back(recipe: Any, models: Models, config: Writer) -> str:
    """Asserts that the YAML of a recipe gives the same checksum; returns it."""
    text = to_mergekit(recipe, models)
    again = read_mergekit(config(text), seed=recipe.seed)
    assert again.notes == ()
    assert merged(again.recipe, again.models)[1] == merged(recipe, models)[1]
    return text


@pytest.mark.parametrize("case", sorted(path.stem for path in CASES.glob("*.yml")))
def test_what_was_read_is_written(case: str, config: Writer) -> None:
    found = read_mergekit(config((CASES / f"{case}.yml").read_text()))
    text = to_mergekit(found.recipe, found.models)
    again = read_mergekit(config(text))
    assert again.recipe == found.recipe
    assert to_mergekit(again.recipe, again.models) == text


@pytest.mark.parametrize(
    ("method", "values", "options"),
    [
        ("linear", {"weight": WEIGHT}, {"normalize": False}),
        ("task_arithmetic", {"weight": WEIGHT, "lambda": 0.9}, {"normalize": True}),
        ("ties", {"weight": WEIGHT, "density": SHARE}, {}),
        ("ties", {"weight": WEIGHT, "density": SHARE}, {**MERGEKIT, "normalize": False}),
        ("dare_linear", {"weight": WEIGHT, "drop": SHARE}, {}),
        ("dare_linear", {"weight": WEIGHT, "drop": SHARE}, {"rescale": False}),
        ("dare_linear", {"weight": WEIGHT, "drop": SHARE, "lambda": 1.1}, MERGEKIT),
        ("dare_ties", {"weight": WEIGHT, "drop": SHARE}, {"normalize": False}),
        ("dare_ties", {"weight": WEIGHT, "drop": SHARE}, MERGEKIT),
        ("della", {"weight": WEIGHT, "drop": SHARE, "epsilon": dict.fromkeys(SOURCES, 0.05)}, MERGEKIT),
        ("della_linear", {"weight": WEIGHT, "drop": dict.fromkeys(SOURCES, 0.5)}, MERGEKIT),
        ("breadcrumbs", {"weight": WEIGHT, "density": SHARE}, {"rescale": True}),
        ("breadcrumbs_ties", {"weight": WEIGHT, "density": SHARE, "gamma": dict.fromkeys(SOURCES, 0.03)}, {}),
        ("karcher", {"max_iter": 5}, {}),
        ("multislerp", {"weight": {"code": 0.7, "math": 0.4, "poet": 0.5}}, {}),
        ("multislerp", {"weight": {"code": 0.7, "math": 0.4, "poet": 0.5}}, {"on": "weights", "normalize": False}),
        ("sce", {"select_topk": 0.3}, MERGEKIT),
        ("ram", {"epsilon": 1e-6}, {}),
        ("ramplus_tl", {"r": 0.3}, {}),
        ("model_stock", {}, {**MERGEKIT, "filter_wise": True}),
    ],
)
def test_there_and_back(
    method: str, values: Mapping[str, Any], options: Mapping[str, Any], models: Models, config: Writer
) -> None:
    there_and_back(recipe_of(models, method, values, options=options, dtype="bfloat16", seed=3), models, config)


@pytest.mark.parametrize(
    ("method", "names", "values", "options"),
    [
        ("slerp", ("math",), {"t": 0.3}, {}),
        ("slerp", ("code", "math"), {"t": 0.3}, {}),
        ("nuslerp", ("code", "math"), {"weight": {"code": 0.7, "math": 0.2}}, {"vectors": "rows"}),
        ("nuslerp", ("code", "math"), {"weight": {"code": 0.7, "math": 0.2}}, {"on": "weights", "vectors": "columns"}),
        ("nearswap", ("math",), {"t": 0.001}, {}),
        ("arcee_fusion", ("math",), {}, {}),
        ("passthrough", ("poet",), {"scale": {"poet": 0.5}}, {}),
    ],
)
def test_there_and_back_of_few(
    method: str,
    names: tuple[str, ...],
    values: Mapping[str, Any],
    options: Mapping[str, Any],
    models_folder: Path,
    config: Writer,
) -> None:
    few = opened(models_folder, names)
    there_and_back(recipe_of(few, method, values, options=options), few, config)


def test_groups_become_gradients_and_filters(models: Models, config: Writer) -> None:
    groups = tuple(
        Group((layer, layer + 1), module, {"weight": {"code": share, "math": 0.5, "poet": layer / 10}})
        for layer in range(4)
        for module, share in (("attention", 0.25), ("mlp", layer / 4), ("rest", 0.25))
    )
    text = there_and_back(recipe_of(models, "task_arithmetic", groups=groups), models, config)
    assert "value: [0.0, 0.25, 0.5, 0.75]" in text
    assert "filter: mlp" in text
    assert "weight: 0.5\n" in text


def test_whole_numbers_are_written(models: Models, config: Writer) -> None:
    text = there_and_back(recipe_of(models, "karcher", {"max_iter": 2.5}), models, config)
    assert "max_iter: 2.0" in text  # 2.5 is as many steps here; mergekit takes no fractions


def test_groups_of_tensors(models: Models, config: Writer) -> None:
    odd = ("model.layers.1.self_attn.k_proj.weight", "model.layers.3.mlp.up_proj.weight")
    rest = tuple(name for name in models.tensor_names if name not in odd)
    groups = (
        Group((0, 4), "all", {"weight": dict.fromkeys(SOURCES, 0.9)}, odd),
        Group((0, 4), "all", {"weight": dict.fromkeys(SOURCES, 0.3)}, rest),
    )
    text = there_and_back(recipe_of(models, "linear", groups=groups), models, config)
    assert "filter: self_attn.k_proj.weight" in text


def test_slices(models: Models, config: Writer) -> None:
    plain = recipe_of(models, "task_arithmetic")
    recipe = make_recipe(
        method="task_arithmetic",
        base=plain.base,
        sources=plain.sources,
        groups=(
            Group((0, 2), "all", {"weight": WEIGHT, "lambda": 0.7}),
            Group((2, 5), "all", {"weight": {"code": 0.1, "math": 0.2, "poet": 0.3}, "lambda": 0.7}),
        ),
        options={},
        dtype="float32",
        seed=0,
        slices=(
            Slice({"code": (0, 2), "math": (0, 2)}),
            Slice({"base": (1, 4), "math": (1, 4), "poet": (0, 3)}),
        ),
    )
    text = there_and_back(recipe, models, config)
    assert text.count("lambda: 0.7") == 1


@pytest.mark.parametrize(
    ("method", "values", "parts"),
    [
        ("slerp", {"t": 0.3}, [("base", "code"), ("base", "math")]),
        ("slerp", {"t": 0.3}, [("code",), ("math",)]),  # the base's own layers lie under them
        ("slerp", {"t": 0.3}, [("code", "math"), ("code", "writing")]),
        ("nearswap", {"t": 0.001}, [("base", "code"), ("base", "math")]),
        ("arcee_fusion", {}, [("base", "code"), ("base", "poet")]),
        ("nuslerp", {"weight": WEIGHT | {"math": 0.4}}, [("code", "math"), ("base", "code", "poet")]),
    ],
)
def test_slices_of_other_partners(
    method: str, values: Mapping[str, Any], parts: list[tuple[str, ...]], models_folder: Path, config: Writer
) -> None:
    """Methods of one or two models take them slice by slice."""
    models = opened(models_folder, tuple(sorted({name for names in parts for name in names if name != "base"})))
    slices = tuple(Slice(dict.fromkeys(names, (2 * n, 2 * n + 2))) for n, names in enumerate(parts))
    text = there_and_back(stack_of(models, method, values, slices), models, config)
    assert "base_model" in text


def stack_of(models: Models, method: str, values: Mapping[str, Any], slices: tuple[Slice, ...]) -> Recipe:
    """Of four layers, one group."""
    return make_recipe(
        method=method,
        base=models.base_ref,
        sources=models.source_refs,
        groups=(Group((0, 4), "all", values),),
        options={},
        dtype="float32",
        seed=0,
        slices=slices,
    )


@pytest.mark.parametrize(
    "parts", [[("base", "code"), ("code", "math")], [("code", "math"), ("math", "poet")], [("code", "math"), ("poet",)]]
)
def test_slices_whose_slerps_begin_at_several_models_are_refused(parts: list[tuple[str, ...]], models: Models) -> None:
    slices = tuple(Slice(dict.fromkeys(names, (2 * n, 2 * n + 2))) for n, names in enumerate(parts))
    with pytest.raises(ConfigError, match=r"the slices' slerps begin at several models"):
        to_mergekit(stack_of(models, "slerp", {"t": 0.3}, slices), models)


def test_a_last_slice_with_more_models_is_refused(models: Models) -> None:
    """mergekit gives the tensors behind the layers as many models as the first slice has."""
    plain = recipe_of(models, "linear")
    slices = (Slice({"code": (0, 2)}), Slice({"code": (2, 4), "math": (2, 4)}))
    with pytest.raises(ConfigError, match="the last slice has more models than the first"):
        to_mergekit(replace(plain, slices=slices), models)


def test_dare_by_the_paper_with_normalize(models: Models, config: Writer) -> None:
    """Not bit for bit: λ ÷ (1 − p) in place of each w ÷ (1 − p). The masks are the same."""
    values = {"weight": WEIGHT, "drop": dict.fromkeys(SOURCES, 0.5)}
    for method in ("dare_ties", "dare_linear"):
        recipe = recipe_of(models, method, values, options={"normalize": True})
        text = to_mergekit(recipe, models)
        assert "lambda: 2.0" in text and "rescale: false" in text
        again = read_mergekit(config(text))
        ours, theirs = merged(recipe, models)[0], merged(again.recipe, again.models)[0]
        for name, tensor in ours.items():
            assert (tensor - theirs[name]).abs().max() <= 1e-6 * tensor.abs().max()


def test_the_head_says_what_is_random(models: Models) -> None:
    text = to_mergekit(recipe_of(models, "dare_linear", {"weight": WEIGHT, "drop": SHARE}), models)
    assert "other masks, of the same distribution" in text.partition("merge_method")[0]
    assert "random" not in to_mergekit(recipe_of(models, "linear"), models)


RULES = {
    "<unk>": TokenRule("code"),
    "<pad>": TokenRule("code", "</s>", force=False),
    "7": TokenRule("math", 9),
    "<new>": TokenRule(None, force=False),
}


def test_tokens_and_template(models: Models, config: Writer) -> None:
    plain = recipe_of(models, "linear")
    recipe = make_recipe(
        method="linear",
        base=plain.base,
        sources=plain.sources,
        groups=plain.groups,
        options={},
        dtype="float32",
        seed=0,
        tokenizer="union",
        vocabulary=Vocabulary(RULES, 32),
        chat_template="{{ messages[0]['content'] }}\n",
    )
    again = read_mergekit(config(to_mergekit(recipe, models))).recipe
    assert (again.tokenizer, again.vocabulary, again.chat_template) == (
        recipe.tokenizer,
        recipe.vocabulary,
        recipe.chat_template,
    )


# --- refused ------------------------------------------------------------------------------------------------------

REFUSED = [
    ("dare_weights", {}, {}, "It is a method of automerge's alone"),
    ("magnitude_linear", {}, {}, "It is a method of automerge's alone"),
    ("della", {"drop": dict.fromkeys(SOURCES, 0.5)}, {}, "della as the paper has it is not mergekit's"),
    ("sce", {}, {}, "Give the method the option dialect: mergekit"),
    ("model_stock", {}, {}, "model_stock as the paper has it is not mergekit's"),
    ("ties", {"density": dict.fromkeys(SOURCES, 1e-3)}, {}, "ties as the paper has it is not mergekit's"),
    ("dare_ties", {"drop": SHARE}, {}, "sources of unequal drop: mergekit has nothing like it"),
    ("dare_linear", {}, {**MERGEKIT, "rescale_norm": "l2"}, "nothing like the option rescale_norm: l2"),
    ("karcher", {}, {"with_base": True}, "nothing like the option with_base: True"),
]


@pytest.mark.parametrize(("method", "values", "options", "message"), REFUSED)
def test_refused(
    method: str, values: Mapping[str, Any], options: Mapping[str, Any], message: str, models: Models
) -> None:
    with pytest.raises(ConfigError) as caught:
        to_mergekit(recipe_of(models, method, values, options=options), models)
    assert message in str(caught.value)


def test_a_path_is_needed(models: Models) -> None:
    recipe = recipe_of(models, "linear")
    bare = make_recipe(
        method="linear",
        base=recipe.base,
        sources=tuple(type(ref)(ref.name, "", ref.digest) for ref in recipe.sources),
        groups=recipe.groups,
        options={},
        dtype="float32",
        seed=0,
    )
    with pytest.raises(AutomergeError, match="does not say where code is"):
        to_mergekit(bare, models)


# --- settings -----------------------------------------------------------------------------------------------------

NAMES: list[tuple[str, int | None]] = [
    ("model.embed_tokens.weight", None),
    *((f"model.layers.{n}.{m}.weight", n) for n in range(4) for m in ("self_attn.q", "self_attn.k", "mlp.up", "norm")),
    ("model.norm.weight", None),
]


@given(st.lists(st.sampled_from([0.0, 0.1, 0.7]), min_size=len(NAMES), max_size=len(NAMES)))
def test_every_setting_can_be_written(numbers: list[float]) -> None:
    entries = [Entry(name, step, number) for (name, step), number in zip(NAMES, numbers, strict=True)]
    level = {"x": Setting.model_validate(setting_of(entries, 4, "x"))}
    for entry in entries:
        assert resolve(Theirs("x", None), [level], entry.name, place(entry.step, 4), "") == entry.value
    conditions = level["x"].conditions
    first = {next(n for n, condition in enumerate(conditions) if condition.fits(entry.name)) for entry in entries}
    assert first >= set(range(len(conditions) - 1))  # no filter is idle


@pytest.mark.parametrize("n_layers", [24, 30, 32, 40])
def test_a_gradient_that_rounds_is_set_right(n_layers: int) -> None:
    """Not every point of a gradient is met exactly: layers that would be off by a rounding are told by name."""
    entries = [
        Entry(f"model.layers.{n}.{kind}.weight", n, value)
        for n in range(n_layers)
        for kind, value in (("self_attn.q", 1 / (n + 3)), ("self_attn.k", 1 / (n + 3)), ("mlp.up", n / 7))
    ]
    written = setting_of(entries, n_layers, "x")
    assert isinstance(written, list) and len(written) < 2 + n_layers / 2
    level = {"x": Setting.model_validate(written)}
    for entry in entries:
        assert resolve(Theirs("x", None), [level], entry.name, place(entry.step, n_layers), "") == entry.value


def test_what_filters_cannot_tell_is_refused() -> None:
    entries = [Entry("a.norm", None, 1.0), Entry("a.norm.bias", None, 2.0), Entry("b.norm", None, 2.0)]
    with pytest.raises(ConfigError, match=r"weight of math: mergekit's filters cannot tell"):
        setting_of(entries, 1, "weight of math")
