"""`automerge merge` on mergekit's YAML: a checkpoint and a config that gives it again; errors are one screen."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from automerge.recipe import read_recipe
from tests.cli.world import Done
from tests.merge.helpers import edit_json
from tests.tiny import fine_tune_of, lora_of, tiny_llama

Command = Callable[..., Done]
CONFIG = """\
models:
  - model: math
    parameters: {weight: [0.2, 0.8], density: 0.5}
  - model: base+poet
    parameters: {weight: 0.4}
merge_method: dare_ties
base_model: base
parameters: {int8_mask: true}
dtype: float32
out_dtype: bfloat16
"""
STACK = """\
merge_method: passthrough
slices:
  - sources: [{model: math, layer_range: [0, 2]}]
  - sources: [{model: math, layer_range: [1, 2]}]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("yaml")
    base = tiny_llama(root / "base", seed=0)
    fine_tune_of(base, root / "math", seed=1)
    lora_of(base, root / "poet", seed=2)
    (root / "config.yml").write_text(CONFIG)
    (root / "stack.yaml").write_text(STACK)
    return root


def test_merge_and_again(folder: Path, tmp_path: Path, automerge: Command) -> None:
    first = automerge("merge", folder / "config.yml", tmp_path / "a", "--json")
    assert first.code == 0
    assert "int8_mask has no effect in mergekit's dare_ties either" in " ".join(first.err.split())
    assert {str(t.dtype) for t in load_file(tmp_path / "a" / "model.safetensors").values()} == {"torch.bfloat16"}
    written = (tmp_path / "a" / "mergekit_config.yml").read_text()
    assert "of the same distribution" in written and "weight: [0.2, 0.8]" in written
    for again in ("mergekit_config.yml", "recipe.json"):
        done = automerge("merge", tmp_path / "a" / again, tmp_path / again, "--json")
        assert (done.code, done.err) == (0, "")
        assert done.json["checksum"] == first.json["checksum"]


def test_seed(folder: Path, tmp_path: Path, automerge: Command) -> None:
    checksums = [
        automerge("merge", folder / "config.yml", tmp_path / str(n), "--seed", seed, "--json").json["checksum"]
        for n, seed in enumerate((0, 5, 5))
    ]
    assert checksums[0] != checksums[1] == checksums[2]
    assert read_recipe(tmp_path / "1" / "recipe.json").seed == 5
    done = automerge("merge", tmp_path / "1" / "recipe.json", tmp_path / "no", "--seed", 5)
    assert done.code == 1 and "--seed is for mergekit's YAML" in done.err
    assert not (tmp_path / "no").exists()


def test_a_stack_loads(folder: Path, tmp_path: Path, automerge: Command) -> None:
    assert automerge("merge", folder / "stack.yaml", tmp_path / "out").code == 0
    model, report = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert model.config.num_hidden_layers == 3
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert len(json.loads((tmp_path / "out" / "recipe.json").read_text())["slices"]) == 2


def test_a_file_without_a_suffix(folder: Path, tmp_path: Path, automerge: Command) -> None:
    (folder / "plain").write_text(STACK)
    assert automerge("merge", folder / "plain", tmp_path / "out").code == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CONFIG.replace("merge_method", "merge_metod"), "did you mean 'merge_method'?"),
        (CONFIG.replace("dare_ties", "dare_tise"), "Did you mean dare_ties?"),
        (STACK.replace("[1, 2]", "[1, 9]"), "math has 2 layers (0 to 1), got a range up to 9"),
        ("merge_method: linear\nmodels: [{model: math]", "line 2: not valid YAML"),
    ],
)
def test_one_screen(text: str, message: str, folder: Path, tmp_path: Path, automerge: Command) -> None:
    path = folder / "bad.yml"
    path.write_text(text)
    done = automerge("merge", path, tmp_path / "out")
    assert done.code == 1 and done.out == ""
    assert message in " ".join(done.err.split())
    assert "Traceback" not in done.err
    assert not list(tmp_path.glob("out*"))


def test_what_mergekit_cannot_say_is_left_out(folder: Path, tmp_path: Path, automerge: Command) -> None:
    assert automerge("merge", folder / "config.yml", tmp_path / "a").code == 0
    recipe = json.loads((tmp_path / "a" / "recipe.json").read_text())
    recipe["options"] = {"dialect": "papers", "normalize": True, "rescale": True}  # with unequal drops: not in mergekit
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    assert automerge("merge", tmp_path / "recipe.json", tmp_path / "b").code == 0
    assert not (tmp_path / "b" / "mergekit_config.yml").exists()


def refused(folder: Path, tmp_path: Path, automerge: Command, text: str) -> str:
    config = folder / f"{tmp_path.name}.yml"
    config.write_text(text)
    done = automerge("merge", config, tmp_path / "out")
    assert done.code == 1 and not (tmp_path / "out").exists()
    return " ".join(done.err.split())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("density: 0.5", "density: 1.5"), "density: expected"),
        (("weight: 0.4", "weight: .inf"), "weight: expected a number, got inf"),
        (("weight: 0.4", "wieght: 0.4"), "no parameter 'wieght'"),
        (("model: math", "model: nowhere"), "nowhere"),
        (("dtype: float32\n", "dtype: float32\nchat_template: '{% for m in messages %}{{ m.content'\n"), "not a Jinja"),
        (("dtype: float32\n", "dtype: float32\ntokenizer_source: nobody\n"), "nobody"),
        (("merge_method: dare_ties", "merge_method: slerp"), "slerp"),
    ],
)
def test_what_is_wrong_is_said_before_a_weight_is_read(
    folder: Path,
    tmp_path: Path,
    automerge: Command,
    monkeypatch: pytest.MonkeyPatch,
    change: tuple[str, str],
    said: str,
) -> None:
    def read(*files: object) -> str:
        raise AssertionError("a weight was read")

    monkeypatch.setattr("automerge.merge.models.digest", read)
    printed = refused(folder, tmp_path, automerge, CONFIG.replace(*change))
    assert said in printed
    assert said == "nowhere" or str(folder / f"{tmp_path.name}.yml") in printed  # that is said of the model


def test_a_folder_that_is_there_is_refused_before_anything(
    folder: Path, tmp_path: Path, automerge: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automerge.merge.models.digest", lambda *files: pytest.fail("a weight was read"))
    (tmp_path / "kept").write_text("mine")
    done = automerge("merge", folder / "config.yml", tmp_path)
    assert done.code == 1 and "exists already" in done.err


def test_an_error_names_the_page_on_mergekits_configs(folder: Path, tmp_path: Path, automerge: Command) -> None:
    assert "mergekit.md" in refused(folder, tmp_path, automerge, CONFIG.replace("density: 0.5", "density: 1.5"))


def test_what_a_merge_does_not_keep_is_told(folder: Path, tmp_path: Path, automerge: Command) -> None:
    other = fine_tune_of(folder / "base", tmp_path / "other", seed=3)
    edit_json(other / "config.json", rope_theta=1e6)
    edit_json(other / "tokenizer_config.json", chat_template="{{ messages[0].content }}")
    (other / "chat_template.jinja").write_text("{{ messages[0].content }}")
    (folder / "other.yml").write_text(CONFIG.replace("model: math", f"model: {other}"))
    edit_json(folder / "base" / "config.json", rope_theta=1e4)
    done = automerge("merge", folder / "other.yml", tmp_path / "out")
    printed = " ".join(done.err.split())
    assert done.code == 0
    assert "rope_theta is 1000000.0, the merge's is the base's 10000.0" in printed
    assert "another chat template" in printed
