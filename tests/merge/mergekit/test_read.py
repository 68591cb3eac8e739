"""What a mergekit config says, tensor by tensor; and every config that says something it may not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automerge.errors import AutomergeError, ConfigError
from automerge.merge import method_names
from automerge.merge.layout import group_of
from automerge.merge.mergekit.groups import grouped
from automerge.merge.mergekit.read import read_mergekit
from automerge.merge.mergekit.schema import ModelName, Setting, is_mergekit
from automerge.merge.mergekit.settings import interpolate, place, resolve
from automerge.merge.mergekit.table import KNOWN, Theirs, ours
from automerge.merge.registry import get_method
from automerge.recipe import Group, ModelRef, make_recipe
from tests.merge.helpers import edit_json, merged
from tests.merge.mergekit.conftest import CASES, Writer

GOLDEN = sorted(path.stem for path in CASES.glob("*.yml"))


@pytest.mark.parametrize("case", GOLDEN)
def test_golden(case: str, config: Writer) -> None:
    expected = json.loads((CASES / f"{case}.json").read_text())
    found = read_mergekit(config((CASES / f"{case}.yml").read_text()))
    recipe = found.recipe
    assert (recipe.method, recipe.dtype, recipe.options) == tuple(expected[k] for k in ("method", "dtype", "options"))
    assert len(recipe.slices) == expected["slices"]
    assert len(recipe.groups) == expected.get("groups", len(recipe.groups))
    assert list(found.notes) == expected.get("notes", [])
    assert recipe.tokenizer == expected.get("tokenizer", "base")
    assert recipe.chat_template == expected.get("chat_template", "")
    if "tokens" in expected:
        assert recipe.vocabulary is not None
        assert recipe.canonical()["vocabulary"]["tokens"] == expected["tokens"]
        assert recipe.vocabulary.pad_to_multiple_of == expected["pad"]
    n_layers = found.models.frame(recipe).n_layers
    for tensor, values in expected["values"].items():
        given_values = group_of(recipe, n_layers, tensor).values
        assert set(given_values) == set(values)
        for name, value in values.items():
            assert given_values[name] == pytest.approx(value, abs=1e-15), (tensor, name)
    tensors, _ = merged(recipe, found.models)
    assert len(tensors) == 9 * n_layers + 3


# --- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "t", "value"),
    [
        ([2.0], 0.7, 2.0),
        ([0.0, 1.0], 0.25, 0.25),
        ([0.0, 0.5, 0.3, 0.7, 1.0], 1 / 3, 0.5 - 0.2 / 3),
        ([0.0, 1.0, 0.0], 0.5, 1.0),
        ([0.0, 1.0, 4.0], 1.0, 4.0),
    ],
)
def test_gradient(values: list[float], t: float, value: float) -> None:
    assert interpolate(values, t) == pytest.approx(value, abs=1e-15)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=6), st.floats(0, 1))
def test_a_gradient_stays_between_its_values(values: list[float], t: float) -> None:
    assert min(values) - 1e-12 <= interpolate(values, t) <= max(values) + 1e-12
    assert interpolate(values, 0.0) == values[0] and interpolate(values, 1.0) == values[-1]


def test_places() -> None:
    assert [place(step, 3) for step in (None, 0, 1, 2)] == [0.0, 0.0, 0.5, 1.0]
    assert place(0, 1) == 1.0


def level(value: object) -> dict[str, Setting]:
    return {"x": Setting.model_validate(value)}


@pytest.mark.parametrize(
    ("levels", "value"),
    [
        ([level(1), level(2)], 1.0),
        ([{}, level(2)], 2.0),
        ([level({"filter": "attn", "value": 1}), level(2)], 2.0),  # no condition fits: the next level
        ([level([{"filter": "attn", "value": 1}, {"filter": "mlp", "value": [3, 5]}])], 4.0),
        ([level([{"filter": "*", "value": 7}, {"filter": "mlp", "value": 3}])], 7.0),
        ([level("1e-1")], 0.1),
        ([{}], 9.0),
    ],
)
def test_the_first_that_fits_wins(levels: list[dict[str, Setting]], value: float) -> None:
    assert resolve(Theirs("x", 9.0), levels, "model.layers.1.mlp.up_proj.weight", 0.5, "here") == value


def test_switches_take_steps() -> None:
    switch = Theirs("x", False)
    found = [resolve(switch, [level([True, "no", 1])], "t", t, "here") for t in (0.0, 0.4, 0.5, 0.99, 1.0)]
    assert found == [True, True, False, False, True]


# --- groups -------------------------------------------------------------------------------------------------------

NAMES = [
    "model.embed_tokens.weight",
    *(f"model.layers.{n}.{m}.weight" for n in range(3) for m in ("self_attn.q", "self_attn.k", "mlp.up", "norm")),
    "model.norm.weight",
]


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=len(NAMES), max_size=len(NAMES)))
def test_groups_give_every_tensor_its_values(numbers: list[float]) -> None:
    ref = ModelRef("base", "", "0")
    groups = grouped({name: {"x": number} for name, number in zip(NAMES, numbers, strict=True)}, 3)
    recipe = make_recipe(method="linear", base=ref, sources=(), groups=groups, options={}, dtype="float32", seed=0)
    for name, number in zip(NAMES, numbers, strict=True):
        assert group_of(recipe, 3, name).values == {"x": number}


def test_groups_are_named_by_modules_where_they_can_be() -> None:
    assert grouped({name: {"x": 1.0} for name in NAMES}, 3) == (Group((0, 3), "all", {"x": 1.0}),)
    split = grouped({name: {"x": float("mlp" in name)} for name in NAMES}, 3)
    assert {(g.layers, g.modules, g.values["x"]) for g in split} == {
        ((0, 3), "attention", 0.0),
        ((0, 3), "mlp", 1.0),
        ((0, 3), "rest", 0.0),
    }
    one = grouped({name: {"x": float(name.endswith(".q.weight"))} for name in NAMES}, 3)
    assert [g.tensors for g in one if g.values["x"] == 1.0] == [
        tuple(f"model.layers.{n}.self_attn.q.weight" for n in range(3))
    ]


# --- models -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path", "revision", "lora"),
    [
        ("a/b", "a/b", "", ""),
        ("a/b@v1", "a/b", "v1", ""),
        ("a/b+c/d", "a/b", "", "c/d"),
        ("a/b@v1+c/d@v2", "a/b", "v1", "c/d"),
    ],
)
def test_model_names(text: str, path: str, revision: str, lora: str) -> None:
    model = ModelName.model_validate(text)
    assert (model.path, model.revision, model.lora, str(model)) == (path, revision, lora, text)


def test_names_are_short_and_unique(config: Writer, models_folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "other" / "math"
    again.parent.mkdir()
    again.symlink_to(models_folder / "code")
    models = f"[{{model: math}}, {{model: {again}}}, {{model: base}}]"
    found = read_mergekit(config(f"models: {models}\nmerge_method: linear\nparameters: {{weight: 1}}"))
    assert [ref.name for ref in found.recipe.sources] == ["math", "math-2", "model-base"]
    assert found.recipe.base.name == "base"


def test_names_keep_the_order_of_the_file(config: Writer) -> None:
    models = "[{model: writing}, {model: math}, {model: code}]"
    found = read_mergekit(config(f"models: {models}\nmerge_method: linear\nparameters: {{weight: 1}}"))
    assert [ref.name for ref in found.recipe.sources] == ["1-writing", "2-math", "3-code"]


def test_the_base_is_a_model_like_the_others_to_linear(config: Writer) -> None:
    found = read_mergekit(
        config("models: [{model: math}]\nbase_model: base\nmerge_method: linear\nparameters: {weight: 1}")
    )
    assert [ref.name for ref in found.recipe.sources] == ["math", "model-base"]


def test_an_adapter_is_a_source_over_its_base(config: Writer) -> None:
    found = read_mergekit(config("models: [{model: base+poet}]\nmerge_method: passthrough"))
    assert [ref.name for ref in found.recipe.sources] == ["poet"]
    assert found.recipe.base.digest != found.recipe.sources[0].digest


def test_a_path_may_be_written_in_two_ways(config: Writer) -> None:
    text = "merge_method: task_arithmetic\nbase_model: base/\nparameters: {weight: 1}\ntokenizer_source: ./math\n"
    found = read_mergekit(config(text + "models: [{model: ./base}, {model: math}]"))
    assert [ref.name for ref in found.recipe.sources] == ["math"]
    assert found.recipe.tokenizer == "math"
    stack = "merge_method: passthrough\nslices:\n"
    stack += "".join(f"- sources: [{{model: {name}, layer_range: [0, 1]}}]\n" for name in ("math/", "code", "math"))
    assert [ref.name for ref in read_mergekit(config(stack)).recipe.sources] == ["code", "math"]


def test_an_adapter_by_itself_is_noted(config: Writer) -> None:
    text = "merge_method: task_arithmetic\nbase_model: base\nparameters: {weight: 1}\nmodels: [{model: %s}]"
    (note,) = read_mergekit(config(text % "poet")).notes
    assert note.startswith("models[0].model: an adapter, taken over the base; mergekit takes it as ")
    assert read_mergekit(config(text % "base+poet")).notes == ()


def test_no_environment_in_a_template(config: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """mergekit replaces nothing, and what is written is published."""
    monkeypatch.setenv("HOME", "/secret")
    text = "models: [{model: math}]\nmerge_method: passthrough\nchat_template: '{{ messages }} ${HOME} ${unset_x}'"
    assert read_mergekit(config(text)).recipe.chat_template == "{{ messages }} ${HOME} ${unset_x}"


@pytest.mark.parametrize(
    ("weight", "notes"),
    [
        ("[{filter: nothing, value: 0.3}, {value: 1}]", ["the filter 'nothing' has no effect: it fits no tensor"]),
        (
            "[{value: 1}, {filter: mlp, value: 0.3}, {value: 2}]",
            [
                "the filter 'mlp' has no effect: others come before it",
                "a value has no effect: others come before it",
            ],
        ),
        ("[{filter: mlp, value: 0.3}, {filter: mlp.up, value: 2}, {value: 1}]", ["the filter 'mlp.up' has no effect"]),
        ("[{filter: mlp, value: 0.3}, {value: 1}]", []),
    ],
)
def test_conditions_that_do_nothing_are_noted(weight: str, notes: list[str], config: Writer) -> None:
    text = "merge_method: ties\nbase_model: base\nparameters: {int8_mask: [{filter: x, value: true}], weight: 5}\n"
    found = read_mergekit(config(text + f"models: [{{model: math, parameters: {{weight: {weight}}}}}]")).notes
    told = [note for note in found if "int8_mask" not in note]
    assert len(told) == len(notes)
    for note, expected in zip(told, notes, strict=True):
        assert f"models[0].parameters: weight: {expected}" in note


def test_the_base_s_own_parameters_are_noted(config: Writer) -> None:
    text = "models: [{model: base, parameters: {weight: 3}}, {model: math}]\nbase_model: base\n"
    found = read_mergekit(config(text + "merge_method: task_arithmetic\nparameters: {weight: 1}"))
    assert found.notes == ("models[0].parameters: the base's own, read by no method here or in mergekit",)


def test_dtype_and_seed(config: Writer) -> None:
    text = "models: [{model: math}]\nbase_model: base\nmerge_method: dare_linear\nparameters: {weight: 1}\n"
    assert read_mergekit(config(text)).recipe.dtype == "float32"
    assert read_mergekit(config(text + "dtype: bfloat16")).recipe.dtype == "bfloat16"
    both = read_mergekit(config(text + "dtype: float32\nout_dtype: float16"), seed=7).recipe
    assert (both.dtype, both.seed) == ("float16", 7)


def test_templates(config: Writer) -> None:
    text = "models: [{model: math}]\nmerge_method: passthrough\nchat_template: "
    assert "<|im_start|>" in read_mergekit(config(text + "chatml")).recipe.chat_template
    assert "add_generation_prompt" in read_mergekit(config(text + "auto")).recipe.chat_template


@pytest.fixture
def spoken(models_folder: Path, tmp_path: Path) -> Callable[..., str]:
    """Makes copies of a model, each with a template as its tokenizer_config.json has it; returns their folder."""

    def make(**templates: Any) -> str:
        for name, template in templates.items():
            folder = Path(shutil.copytree(models_folder / "math", tmp_path / name))
            (folder / "chat_template.jinja").unlink()
            edit_json(folder / "tokenizer_config.json", chat_template=template)
        return str(tmp_path)

    return make


def of_models(root: str, *names: str) -> str:
    return "models: [" + ", ".join(f"{{model: {root}/{name}, parameters: {{weight: 1}}}}" for name in names) + "]\n"


AUTO = "merge_method: linear\nchat_template: auto\n"
NAMED = [{"name": "tools", "template": "{{ 1 }}"}, {"name": "default", "template": "{{ 2 }}"}]


def test_the_most_common_template(spoken: Callable[..., str], config: Writer) -> None:
    root = spoken(a="{{ 1 }}", b="{{ 2 }}", c="{{ 2 }}\n", named=NAMED, none=None)
    for names in (("a", "b", "c"), ("a", "b", "named"), ("named",), ("b", "none")):
        recipe = read_mergekit(config(AUTO + of_models(root, *names))).recipe
        assert recipe.chat_template == "{{ 2 }}", names  # ends of white space are no other template
    for names, message in ((("a", "b"), "no template is the most common"), (("none",), "no model has a template")):
        with pytest.raises(AutomergeError, match=message):
            read_mergekit(config(AUTO + of_models(root, *names)))


def test_a_base_that_only_lends_has_a_vote(spoken: Callable[..., str], config: Writer) -> None:
    root = spoken(a="{{ 1 }}", b="{{ 2 }}", c="{{ 2 }}")
    part = f"{{sources: [{{model: {root}/%s, layer_range: [0, 2]}}]}}"
    stack = f"slices: [{part % 'a'}, {part % 'b'}]\nparameters: {{weight: 1}}\n"
    assert read_mergekit(config(AUTO + stack + f"base_model: {root}/c")).recipe.chat_template == "{{ 2 }}"
    with pytest.raises(AutomergeError, match="no template is the most common"):
        read_mergekit(config(AUTO + stack))


# --- the table ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_the_table_fits_the_registry(name: str) -> None:
    method = get_method(name)
    numbers = [p for p in KNOWN[name].parameters if not isinstance(p.default, bool) and not p.unused]
    assert {place.name for p in numbers if (place := ours(method, p.name))} == {p.name for p in method.parameters}
    for parameter in numbers:
        place = ours(method, parameter.name)
        assert place is not None
        assert (place.scope == "source") == parameter.per_model


def test_what_mergekit_has_is_here() -> None:
    assert set(KNOWN) <= set(method_names())


# --- refused ------------------------------------------------------------------------------------------------------

ONE = "models: [{model: math}]\n"
TWO = "models: [{model: math}, {model: code}]\n"
TIES = ONE + "merge_method: ties\nbase_model: base\n"
STACK = "merge_method: passthrough\nslices:\n"
REFUSED = {
    "unknown key": ("merge_metod: linear\n" + ONE, "unknown key 'merge_metod' (did you mean 'merge_method'?)"),
    "no method": (ONE, "merge_method: Field required"),
    "unknown method": (ONE + "merge_method: tise\n", "'tise': mergekit has none of that name\nDid you mean ties?"),
    "ours alone": (ONE + "merge_method: dare_weights\n", "It is a method of automerge's alone"),
    "both": (ONE + "slices: [{sources: [{model: a, layer_range: [0, 1]}]}]\nmerge_method: linear", "got both"),
    "neither": ("merge_method: linear", "expected either models or slices, got neither"),
    "no models": (
        "merge_method: linear\nmodels: []",
        "expected either models or slices, got models: [], which is empty",
    ),
    "modules": ("merge_method: linear\nmodules: {a: {models: [{model: math}]}}", "modules: only models of one part"),
    "moe": ("base_model: base\nexperts: []", "experts: this is a config of mergekit-moe"),
    "no base": (ONE + "merge_method: ties\nparameters: {weight: 1}", "ties needs a base_model\nAdd base_model"),
    "slerp of three": (TWO + "merge_method: slerp\nbase_model: base\nparameters: {t: 1}", "takes 1 model besides the"),
    "stock of one": (ONE + "merge_method: model_stock\nbase_model: base", "at least 2 models besides the base, got 1"),
    "base alone": ("models: [{model: base}]\nbase_model: base\nmerge_method: ties", "at least 1 model besides the b"),
    "twice": ("models: [{model: math}, {model: math}]\nmerge_method: linear", "models: math is there twice"),
    "no weight": (TIES, "no value of weight for model."),
    "no weight left": (TIES + "parameters: {weight: [{filter: mlp, value: 1}]}", "no value of weight for model.embed"),
    "unknown parameter": (TIES + "parameters: {wieght: 1}", "ties has no parameter 'wieght'\nDid you mean weight?"),
    "another's": (TIES + "parameters: {weight: 1, epsilon: 1}", "ties has no parameter 'epsilon'"),
    "wrong place": (
        "models: [{model: math, parameters: {weight: 1, normalize: false}}]\nmerge_method: ties\nbase_model: base",
        "models[0].parameters: normalize is one for the merge, not one per model",
    ),
    "not a number": (TIES + "parameters: {weight: much}", "weight: expected a number, got 'much'"),
    "a switch": (TIES + "parameters: {weight: true}", "weight: expected a number, got True"),
    "no switch": (TIES + "parameters: {weight: 1, normalize: 0.5}", "normalize: expected true or false, got 0.5"),
    "two switches": (
        TIES + "parameters: {weight: 1, normalize: [{filter: mlp, value: true}, {value: false}]}",
        "normalize differs between tensors",
    ),
    "no filter": (TIES + "parameters: {weight: [{fliter: mlp, value: 1}]}", "unknown key 'fliter' (did you mean 'fil"),
    "filter of a list": (TIES + "parameters: {weight: [{filter: [mlp], value: 1}]}", "filter: expected a valid"),
    "mixed list": (TIES + "parameters: {weight: [1, {value: 1}]}", "expected numbers, switches or words in a list"),
    "empty list": (TIES + "parameters: {weight: []}", "the list is empty"),
    "nothing": (TIES + "parameters: {weight: }", "expected a number, a switch, a word or a list"),
    "density": (TIES + "parameters: {weight: 1, density: 1.5}", "density: expected [0, 1], got 1.5"),
    "drop": (
        ONE + "merge_method: dare_ties\nbase_model: base\nparameters: {weight: 1, density: 0}",
        "density: expected (0, 1], got 0",
    ),
    "dtype": (TIES + "dtype: float64", "dtype: expected 'float32', 'bfloat16' or 'float16' (got 'float64')"),
    "not there": ("models: [{model: nowhere}]\nmerge_method: passthrough", "no such folder"),
    "adapter over another": (
        "models: [{model: math+poet}]\nbase_model: base\nmerge_method: task_arithmetic\nparameters: {weight: 1}",
        "math+poet: an adapter over another model than the base, base\nMerge it first",
    ),
    "adapter over another, of a base that lends": (
        "merge_method: linear\nbase_model: math\nparameters: {weight: 1}\nslices:\n"
        "- sources: [{model: base+poet, layer_range: [0, 2]}, {model: code, layer_range: [0, 2]}]",
        "base+poet: an adapter over another model than the base, math\nMerge it first",
    ),
    "adapter over another, of a stack": (
        STACK + "- sources: [{model: base+poet, layer_range: [0, 2]}]\nbase_model: math",
        "base+poet: an adapter over another model than the base, math\nMerge it first",
    ),
    "adapter as base": (
        ONE + "base_model: base+poet\nmerge_method: task_arithmetic\nparameters: {weight: 1}",
        "base_model: base+poet is an adapter over a model\nMerge the adapter first",
    ),
    "two pluses": ("models: [{model: a+b+c}]\nmerge_method: passthrough", "expected path or path+lora, got 'a+b+c'"),
    "range beyond": (
        STACK + "- sources: [{model: math, layer_range: [2, 5]}]",
        "slices[0]: math has 4 layers (0 to 3), got a range up to 5",
    ),
    "range backwards": (STACK + "- sources: [{model: math, layer_range: [2, 2]}]", "got [2, 2]"),
    "unequal ranges": (
        "merge_method: linear\nslices:\n- sources: [{model: math, layer_range: [0, 2]}, "
        "{model: code, layer_range: [0, 3]}]",
        "the layer ranges of a slice must be equally long, got math [0, 2], code [0, 3]",
    ),
    "two in a passthrough": (
        STACK + "- sources: [{model: math, layer_range: [0, 2]}, {model: code, layer_range: [0, 2]}]",
        "passthrough takes 1 source in a slice, got 2 (code, math)",
    ),
    "slerp of three in a slice": (
        "merge_method: slerp\nbase_model: base\nparameters: {t: 1}\nslices:\n"
        "- sources: [{model: base, layer_range: [0, 2]}, {model: math, layer_range: [0, 2]}]\n"
        "- sources: [{model: code, layer_range: [2, 4]}, {model: math, layer_range: [2, 4]}]",
        "slices[1]: slerp takes 1 model besides the base, got 2 (code, math)",
    ),
    "slerp of the base alone in a slice": (
        "merge_method: slerp\nbase_model: base\nparameters: {t: 1}\nslices:\n"
        "- sources: [{model: base, layer_range: [0, 2]}, {model: math, layer_range: [0, 2]}]\n"
        "- sources: [{model: base, layer_range: [2, 4]}]",
        "slices[1]: slerp takes 1 model besides the base, got none",
    ),
    "no base in a slice": (
        "merge_method: task_arithmetic\nbase_model: base\nparameters: {weight: 1}\nslices:\n"
        "- sources: [{model: math, layer_range: [0, 2]}, {model: code, layer_range: [1, 3]}]",
        "slices[0]: task_arithmetic needs a base, and the ranges differ: code 1–3, math 0–2",
    ),
    "two bases": (
        "merge_method: task_arithmetic\nbase_model: base\nparameters: {weight: 1}\nslices:\n"
        "- {base_model: code, sources: [{model: math, layer_range: [0, 2]}]}",
        "one base is supported, got base, code",
    ),
    "both tokenizers": (TIES + "tokenizer_source: base\ntokenizer: {source: base}", "either tokenizer_source or toke"),
    "whose tokenizer": (TIES + "tokenizer_source: writing", "writing, is not among the models\nName base, union, or"),
    "no source": (
        TIES + "parameters: {weight: 1}\ntokenizer: {tokens: {a: {force: true}}}",
        "tokenizer.tokens.a: a rule without a source is not supported",
    ),
    "a row's kind": (
        TIES + "parameters: {weight: 1}\ntokenizer: {tokens: {a: {source: {kind: mean}}}}",
        "expected a model or a kind, zero or model_token, got 'mean'",
    ),
    "token and number": (
        TIES + "parameters: {weight: 1}\ntokenizer: {tokens: {a: {source: {kind: model_token, model: base}}}}",
        "expected either token or token_id",
    ),
    "whose row": (
        TIES + "parameters: {weight: 1}\ntokenizer: {tokens: {a: {source: writing}}}",
        "tokenizer.tokens.a: writing is not among the models",
    ),
    "full model as adapter": (
        "models: [{model: base+code}]\nbase_model: base\nmerge_method: task_arithmetic\nparameters: {weight: 1}",
        "models[0].model: ",
    ),
    "one folder twice": (
        "models: [{model: math}, {model: ./math/}]\nmerge_method: linear",
        "models: math is there twice",
    ),
    "too many digits": (TIES + f"parameters: {{weight: 1{'0' * 400}}}", "weight: expected a number, got 1000"),
    "too many digits in a list": (TIES + f"parameters: {{weight: [0, 1{'0' * 400}]}}", "weight: expected a number"),
    "date": (TIES + "parameters: {weight: 2020-01-01}", "parameters.weight: expected a number, a switch, a word or a"),
    "empty tokenizer": (TIES + "tokenizer_source: ''", "tokenizer_source: path: String should have at least 1"),
    "tokenizer of three": (TIES + "tokenizer_source: a+b+c", "tokenizer_source: expected path or path+lora"),
    "no tokenizer": (TIES + "tokenizer: {source: }", "tokenizer.source: expected a model: path, path@revision or"),
    "kind list": (TIES + "tokenizer: {tokens: {a: {source: {kind: [x]}}}}", "expected a model or a kind, zero or mod"),
    "kind mapping": (TIES + "tokenizer: {tokens: {a: {source: {kind: {}}}}}", "expected a model or a kind, zero or m"),
    "padding": (TIES + "tokenizer: {pad_to_multiple_of: 10000000000}", "expected less than or equal to 1048576"),
    "more padding": (TIES + f"tokenizer: {{pad_to_multiple_of: 1{'0' * 30}}}", "pad_to_multiple_of: "),
    "padding of true": (TIES + "tokenizer: {pad_to_multiple_of: true}", "pad_to_multiple_of: expected a whole number"),
    "range of switches": (STACK + "- sources: [{model: math, layer_range: [false, true]}]", "expected a whole number"),
    "half a step": (
        TWO + "merge_method: karcher\nparameters: {max_iter: 2.5}",
        "max_iter: expected a whole number, got",
    ),
    "parameters list": (TIES + "parameters: []", "parameters: expected a valid dictionary"),
    "parameters 0": (TIES + "parameters: 0", "parameters: expected a valid dictionary"),
    "tokens list": (TIES + "tokenizer: {tokens: []}", "tokenizer.tokens: expected a valid dictionary"),
    "tokens word": (TIES + "tokenizer: {tokens: ''}", "tokenizer.tokens: expected a valid dictionary"),
    "token null": (TIES + "tokenizer: {tokens: {null: {source: {kind: zero}}}}", "expected a word as a key, got null"),
    "token true": (TIES + "tokenizer: {tokens: {true: {source: {kind: zero}}}}", "expected a word as a key, got true"),
    "half a character": (TIES + 'chat_template: "{{ messages }} \\ud800"', "half a surrogate pair is no character"),
    "a model's number": (
        "models: [{model: {model: 3}}]\nmerge_method: linear",
        "models.0.model: model: expected a path",
    ),
    "a model's nothing": ("models: [{model: {model: null}}]\nmerge_method: linear", "got None"),
    "a model's list": ("models: [{model: [math]}]\nmerge_method: linear", "models.0.model: expected a model: path, "),
    "a model's key": ("models: [{model: {model: {pth: a}}}]\nmerge_method: linear", "unknown key 'pth'"),
    "empty file": ("", "the file is empty"),
    "template": (TIES + "parameters: {weight: 1}\nchat_template: llama3", "mergekit's own 'llama3' is not known here"),
    "no template": (TIES + "parameters: {weight: 1}\nchat_template: gemma", "neither a known name nor a Jinja templa"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_refused(case: str, config: Writer) -> None:
    text, message = REFUSED[case]
    path = config(text)
    with pytest.raises(AutomergeError) as caught:
        read_mergekit(path)
    assert message in str(caught.value)
    assert caught.value.where and str(path) in caught.value.where


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("models: [{model: math}, {model: nowhere}]\nmerge_method: linear\nparameters: {weight: 1}", "models[1].model"),
        (TIES.replace("base_model: base", "base_model: nowhere") + "parameters: {weight: 1}", "base_model"),
        (STACK + "- sources: [{model: nowhere, layer_range: [0, 2]}]", "slices[0].sources[0].model"),
        (TIES.replace("{model: math}", "{model: base+nowhere}") + "parameters: {weight: 1}", "models[0].model"),
    ],
)
def test_a_model_that_is_not_there_is_told_with_its_place(text: str, there: str, config: Writer) -> None:
    path = config(text)
    with pytest.raises(AutomergeError) as caught:
        read_mergekit(path)
    assert str(caught.value).startswith(f"{path}: {there}: nowhere: no such folder")


def test_which_files_are_mergekit_s(tmp_path: Path) -> None:
    for name, text, yes in (
        ("a.yml", "", True),
        ("a.yaml", "{}", True),
        ("a.json", "", False),
        ("a", " {", False),
        ("b", "merge_method: x", True),
    ):
        (tmp_path / name).write_text(text)
        assert is_mergekit(tmp_path / name) == yes
    assert not is_mergekit(tmp_path / "nowhere")
    with pytest.raises(ConfigError):
        read_mergekit(tmp_path / "nowhere.yml")
