"""A mixture is the models it is made of: with one expert many times over it computes what the dense model computes."""

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from automerge.errors import AutomergeError, ConfigError, SourceError
from automerge.export.verify import stored_sums
from automerge.moe import open_mixture
from automerge.moe.config import read_moe
from tests.moe.conftest import PROMPTS, described, written

Family = Callable[[str], Mapping[str, Path]]
SHARED = {"positive_prompts": ["all of it"], "residual_scale": 0.0}  # a shared expert that adds nothing
KINDS = {  # dense architecture → what it can be made into
    "llama": ("mixtral", "qwen2_moe"),
    "mistral": ("mixtral", "qwen2_moe"),
    "qwen2": ("qwen2_moe",),
    "qwen2.5": ("qwen2_moe",),  # tied
    "qwen3": ("qwen3_moe",),
}
CASES = [(dense, kind) for dense, kinds in KINDS.items() for kind in kinds]


def logits(folder: Path) -> torch.Tensor:
    """Of some tokens, in fp32; beyond a sliding window of 64."""
    from transformers import AutoModelForCausalLM

    model, told = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    ids = torch.randint(3, 100, (2, 100), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=ids).logits
    return found


@pytest.mark.parametrize(("dense", "kind"), CASES)
@pytest.mark.parametrize("mode", ["hidden", "cheap_embed", "random"])
def test_equal_experts_compute_what_the_dense_model_computes(
    family: Family, tmp_path: Path, dense: str, kind: str, mode: str
) -> None:
    base = family(dense)["base"]
    shared = [{"source_model": str(base), **SHARED}] if kind == "qwen2_moe" else []
    more = {"gate_mode": mode, "architecture": kind, "shared_experts": shared, "dtype": "float32"}
    mixture = written(described(base, [base] * 3, **more), tmp_path / "out")
    assert mixture.family.name == kind
    torch.testing.assert_close(logits(tmp_path / "out"), logits(base), rtol=1e-4, atol=1e-5)
    assert stored_sums(tmp_path / "out").hexdigest() == mixture.checksum


@pytest.mark.parametrize(("dense", "kind"), CASES)
def test_experts_are_their_models_and_all_else_is_the_bases(
    family: Family, tmp_path: Path, dense: str, kind: str
) -> None:
    models = family(dense)
    shared = [{"source_model": str(models["far"]), **SHARED, "residual_scale": 0.5}] if kind == "qwen2_moe" else []
    config = described(models["base"], [models["one"], models["two"]], architecture=kind, shared_experts=shared)
    mixture = written(config, tmp_path / "out")
    held = load_file(tmp_path / "out" / "model.safetensors")
    base, one, two, far = (load_file(models[name] / "model.safetensors") for name in ("base", "one", "two", "far"))
    left = set(held)
    for name, tensor in base.items():
        if ".mlp." not in name:
            assert torch.equal(held[name], tensor), name
            left.discard(name)
            continue
        layer, projection = int(name.split(".")[2]), name.split(".")[-2]
        for number, source in enumerate((one, two)):
            there = mixture.family.expert_tensor(layer, number, projection)
            assert torch.equal(held[there], source[name]), there
            left.discard(there)
        if shared:
            there = mixture.family.shared_tensor(layer, projection)
            scaled = (far[name].float() * (0.5 if projection == "down_proj" else 1.0)).to(torch.bfloat16)
            assert torch.equal(held[there], scaled), there
            left.discard(there)
    zero = {name for name in left if name.endswith(".bias")}
    assert all(not held[name].any() for name in zero) and bool(zero) == (kind == "qwen2_moe" and "qwen" not in dense)
    assert all("gate.weight" in name for name in left - zero) and len(left - zero) >= 3
    assert mixture.parameters == sum(map(torch.numel, held.values()))
    expert = sum(base[f"model.layers.{n}.mlp.{p}.weight"].numel() for n in range(3) for p in ("up_proj", "gate_proj"))
    assert mixture.parameters - mixture.active == 0 and expert > 0  # both of two experts


def test_what_a_token_passes_is_counted(family: Family, tmp_path: Path) -> None:
    models = family("llama")
    config = described(models["base"], [models[n] for n in ("one", "two", "three", "far")], experts_per_token=1)
    mixture = written(config, tmp_path / "out")
    mlp = sum(math.prod(s) for n, s in mixture.base.models.shapes.items() if ".mlp." in n)
    router = 3 * 4 * 32
    assert mixture.active == sum(math.prod(s) for s in mixture.base.models.shapes.values()) + router
    assert mixture.parameters == mixture.active + 3 * mlp
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"{mixture.parameters:,}" in card and f"{mixture.active:,}" in card and str(tmp_path) not in card


def test_a_sliding_window_stays(family: Family, tmp_path: Path) -> None:
    base = family("mistral")["base"]
    for kind, shared in (("mixtral", []), ("qwen2_moe", [{"source_model": str(base), **SHARED}])):
        config = described(base, [base, family("mistral")["one"]], architecture=kind, shared_experts=shared)
        written(config, tmp_path / kind)
        assert json.loads((tmp_path / kind / "config.json").read_text())["sliding_window"] == 64


def test_a_tied_head_stays_tied(family: Family, tmp_path: Path) -> None:
    models = family("qwen2.5")
    shared = [{"source_model": str(models["base"]), **SHARED}]
    written(described(models["base"], [models["one"], models["two"]], shared_experts=shared), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is True
    assert "lm_head.weight" not in load_file(tmp_path / "out" / "model.safetensors")


def test_an_expert_may_be_a_recipe_or_an_adapter(family: Family, tmp_path: Path) -> None:
    from automerge.export.checkpoint import write_checkpoint
    from automerge.merge import open_models
    from tests.merge.helpers import recipe_of  # a merge of ours

    models = family("llama")
    opened = open_models(str(models["base"]), {name: str(models[name]) for name in ("one", "two")})
    recipe = recipe_of(opened, "task_arithmetic", dtype="bfloat16")
    write_checkpoint(recipe, opened, tmp_path / "merged", expected_checksum=None)
    config = described(models["base"], [tmp_path / "merged" / "recipe.json", models["three"]])
    mixture = written(config, tmp_path / "out")
    held, merged = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "merged"))
    for layer in range(3):
        there = mixture.family.expert_tensor(layer, 0, "up_proj")
        assert torch.equal(held[there], merged[f"model.layers.{layer}.mlp.up_proj.weight"])
    about = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert len(about["models"]["experts"][0]) == 3  # the base and both sources of the recipe, by digest


def test_a_skills_items_may_stand_for_prompts(family: Family, tmp_path: Path) -> None:
    models = family("llama")
    rows = [{"id": n, "prompt": text, "answer": "x"} for n, text in enumerate(PROMPTS[0])]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    skill = {
        "name": "mine",
        "data": {"path": "rows.jsonl", "id": "id"},
        "prompt": "{{ prompt }}",
        "scorer": {"type": "exact"},
        "items": {"search": 2, "held_out": 0},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(skill))
    asked = described(models["base"], [models["one"], models["two"]])
    by_prompts = written(asked, tmp_path / "prompts").rows
    asked["experts"][0] = {"source_model": str(models["one"]), "skill": "mine.yaml"}
    by_skill = written(asked, tmp_path / "skill").rows
    torch.testing.assert_close(by_skill, by_prompts)


def test_rows_are_told_apart_by_negative_prompts_and_by_seed(family: Family, tmp_path: Path) -> None:
    models = family("llama")
    plain = described(models["base"], [models["one"], models["two"]])
    rows = written(plain, tmp_path / "plain").rows
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(3, 2))
    plain["experts"][0]["negative_prompts"] = ["2 + 2 ="]
    other = written(plain, tmp_path / "negative").rows
    assert not torch.allclose(rows[:, 0], other[:, 0]) and torch.equal(rows[:, 1], other[:, 1])
    random = [written({**plain, "gate_mode": "random"}, tmp_path / f"random{s}", seed=s) for s in (0, 1)]
    assert not torch.equal(random[0].rows, random[1].rows)
    assert torch.equal(random[0].rows, written({**plain, "gate_mode": "random"}, tmp_path / "again", seed=0).rows)


def test_attention_and_embeddings_may_be_a_recipes(family: Family, tmp_path: Path) -> None:
    from automerge.merge import open_models
    from tests.merge.helpers import recipe_of

    models = family("llama")
    opened = open_models(str(models["base"]), {name: str(models[name]) for name in ("one", "two")})
    recipe = recipe_of(opened, "task_arithmetic", dtype="bfloat16")
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    config = described(tmp_path / "recipe.json", [models["one"], models["two"]])
    written(config, tmp_path / "out")
    from automerge.merge import Merge

    merge = Merge(recipe, opened)
    held = load_file(tmp_path / "out" / "model.safetensors")
    for name in ("model.embed_tokens.weight", "model.layers.1.self_attn.q_proj.weight"):
        assert torch.equal(held[name], merge.merge_tensor(name))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"experts_per_token": 3}, "at most 2, the number of experts"),
        ({"gate_mode": "hiden"}, "gate_mode"),
        ({"architecture": "switch"}, "expected one of mixtral, deepseek_moe, qwen2_moe, qwen3_moe"),
        ({"architecture": "qwen3"}, "made of qwen3, not of llama"),
        ({"architecture": "qwen2_moe"}, "needs one of shared_experts"),
        ({"architecture": "mixtral", "shared_experts": [{"source_model": "base"}]}, "takes none of shared_experts"),
        ({"expert": []}, "did you mean 'experts'"),
        ({"experts": []}, "experts"),
        ({"base_model": "./nowhere"}, "no such folder"),
    ],
)
def test_what_cannot_be_made_is_said(family: Family, tmp_path: Path, change: dict[str, object], said: str) -> None:
    models = family("llama")
    config = {**described(models["base"], [models["one"], models["two"]]), **change}
    file = tmp_path / "moe.yml"
    file.write_text(yaml.safe_dump(config).replace("source_model: base", f"source_model: {models['base']}"))
    with pytest.raises(AutomergeError) as caught:
        open_mixture(read_moe(file), tmp_path)
    assert said in str(caught.value)


def test_a_dtype_may_be_called_torchs(family: Family, tmp_path: Path) -> None:
    models = family("llama")
    config = described(models["base"], [models["one"], models["two"]], dtype="torch.float16", gate_mode="random")
    assert written(config, tmp_path / "out").dtype == torch.float16


@pytest.mark.parametrize(
    ("architecture", "prompts", "kind"),
    [
        (None, [], "deepseek_moe"),
        (None, ["all of it"], "qwen2_moe"),
        ("deepseek", [], "deepseek_moe"),
        ("qwen2_moe", [], "qwen2_moe"),
    ],
)
def test_random_gates_need_no_prompts(
    family: Family, tmp_path: Path, architecture: str | None, prompts: list[str], kind: str
) -> None:
    """The kinds that mergekit-moe chooses."""
    models = family("llama")
    shared = [{"source_model": str(models["one"]), "positive_prompts": prompts}]
    config = described(models["base"], [models["one"], models["two"]], shared_experts=shared, architecture=architecture)
    mixture = written({**config, "gate_mode": "random"}, tmp_path / "out")
    assert mixture.family.name == kind
    assert mixture.rows.shape[1] == (3 if mixture.family.shared_is_gated else 2)


def test_a_base_without_a_tokenizer_is_told_before_it_is_asked(family: Family, tmp_path: Path) -> None:
    models = family("llama")
    mute = Path(shutil.copytree(models["base"], tmp_path / "mute"))
    (mute / "tokenizer.json").unlink()
    config = described(mute, [models["one"], models["two"]])
    file = tmp_path / "moe.yml"
    file.write_text(yaml.safe_dump(config))
    with pytest.raises(SourceError, match="hidden reads prompts, but the base has no tokenizer") as caught:
        open_mixture(read_moe(file), tmp_path)
    assert caught.value.where == str(mute)
    written({**config, "gate_mode": "random"}, tmp_path / "random")  # which reads none


def test_a_tokenizer_that_cannot_be_read_is_told(family: Family, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(family("llama")["base"], tmp_path / "broken"))
    (broken / "tokenizer.json").rename(broken / "tokenizer.model")
    with pytest.raises(SourceError, match="transformers cannot read the tokenizer") as caught:
        written(described(broken, [broken, broken]), tmp_path / "out")
    assert caught.value.where == str(broken)


def test_missing_and_equal_prompts_are_refused(family: Family, tmp_path: Path) -> None:
    models = family("llama")
    config = described(models["base"], [models["one"], models["two"]])
    config["experts"][1]["positive_prompts"] = config["experts"][0]["positive_prompts"]
    file = tmp_path / "moe.yml"
    file.write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match=r"experts\.1 and experts\.0: the same prompts"):
        read_moe(file)
    del config["experts"][1]["positive_prompts"]
    file.write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match=r"experts\.1: positive_prompts are missing"):
        read_moe(file)
    file.write_text(yaml.safe_dump({**config, "gate_mode": "random"}))
    read_moe(file)


def test_biases_that_the_sparse_kind_has_no_place_for_are_refused(family: Family, tmp_path: Path) -> None:
    import shutil

    models = family("llama")
    for name in ("base", "one"):
        shutil.copytree(models[name], tmp_path / name)
        tensors = load_file(models[name] / "model.safetensors")
        tensors |= {f"model.layers.{n}.self_attn.q_proj.bias": torch.zeros(32).bfloat16() for n in range(3)}
        save_file(tensors, tmp_path / name / "model.safetensors", metadata={"format": "pt"})
    file = tmp_path / "moe.yml"
    file.write_text(yaml.safe_dump(described(tmp_path / "base", [tmp_path / "one", tmp_path / "base"])))
    with pytest.raises(AutomergeError, match=r"q_proj\.bias"):
        open_mixture(read_moe(file), tmp_path)


def test_nothing_half_written_is_left(family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = family("llama")
    monkeypatch.setattr("automerge.moe.write._card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        written(described(models["base"], [models["one"], models["two"]]), tmp_path / "out")
    assert not list(tmp_path.glob("out*/"))
