"""Checkpoints: single and sharded read the same; everything that is wrong with one has its message."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from automerge.errors import SourceError
from automerge.files import cache_folder
from automerge.merge import open_models
from automerge.merge.sources import digest as digest_module
from automerge.merge.sources.checkpoint import Checkpoint
from automerge.merge.sources.digest import digest
from tests.merge.helpers import edit_json, merged, recipe_of, write_model
from tests.tiny import CHAT_TEMPLATE, fine_tune_of, lora_of, tiny_llama, tiny_tokenizer

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"


def shard(folder: Path) -> Path:
    """Splits a one-file checkpoint in two, with an index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    where = {name: SHARDS[n % 2] for n, name in enumerate(names)}
    for file in SHARDS:
        save_file({name: tensors[name] for name in names if where[name] == file}, folder / file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_llama(tmp_path / "base")


@pytest.fixture
def fine(base: Path, tmp_path: Path) -> Path:
    return fine_tune_of(base, tmp_path / "fine", 1)


def refused(base: Path, source: Path) -> str:
    with pytest.raises(SourceError) as raised:
        open_models(str(base), {"fine": str(source)})
    return str(raised.value)


def test_single_and_sharded_give_the_same_bytes(base: Path, fine: Path) -> None:
    single = open_models(str(base), {"fine": str(fine)})
    values = {"weight": {"fine": 0.5}}
    before = merged(recipe_of(single, "task_arithmetic", values), single)[1]
    shard(base)
    shard(fine)
    sharded = open_models(str(base), {"fine": str(fine)})
    assert merged(recipe_of(sharded, "task_arithmetic", values), sharded)[1] == before
    assert sharded.shapes == single.shapes
    assert sharded.base_ref.digest != single.base_ref.digest


def test_values_are_copies_in_fp32(base: Path) -> None:
    model = Checkpoint(base)
    name = "model.norm.weight"
    values = model.values(name, 3, 9)
    assert values.dtype == torch.float32 and values.shape == (6,)
    values.zero_()
    assert model.mapped(name)[3] == 1.0


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def only_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def change(path: Path, **tensors: torch.Tensor | None) -> None:
    """Puts tensors (names with _ for .) into a file; None takes one out."""
    held = load_file(path)
    names = {name.replace(".", "_"): name for name in held}
    for key, tensor in tensors.items():
        name = names.get(key, key)
        held.pop(name, None)
        if tensor is not None:
            held[name] = tensor
    save_file(held, path)


def set_nan(folder: Path, value: float) -> None:
    norm = torch.ones(32)
    norm[7] = value
    change(folder / "model.safetensors", model_norm_weight=norm)


WEIGHTS = "model.safetensors"
BROKEN: list[tuple[Callable[[Path], object], str]] = [
    (lambda f: truncate(f / WEIGHTS), "truncated or corrupt safetensors"),
    (lambda f: (f / WEIGHTS).write_bytes(b"\xff" * 100), "truncated or corrupt safetensors"),
    (lambda f: (f / WEIGHTS).write_bytes(b""), "truncated or corrupt safetensors"),
    (only_pickle, "only pickled weights (pytorch_model.bin), which are refused"),
    (lambda f: (f / WEIGHTS).unlink(), "holds neither model.safetensors nor model.safetensors.index.json"),
    (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    (lambda f: (f / "config.json").write_text("{"), "cannot be read as JSON"),
    (lambda f: (f / "config.json").write_text("[]"), "expected a JSON object, got a list"),
    (lambda f: edit_json(f / "config.json", auto_map={"AutoModel": "m.M"}), "this model needs remote code"),
    (
        lambda f: edit_json(f / "config.json", quantization_config={"quant_method": "gptq"}),
        "quantised weights (gptq) cannot be merged",
    ),
    *(
        (lambda f, said=said: edit_json(f / "config.json", quantization_config=said), "quantization_config: quantised")  # type: ignore[misc]
        for said in ("gptq", [1], True)
    ),
    (lambda f: edit_json(f / "config.json", model_type="qwen2"), "model_type: expected the base's llama, got qwen2"),
    (lambda f: edit_json(f / "config.json", architectures=["X"]), "architectures: expected the base's"),
    (lambda f: set_nan(f, float("nan")), "model.norm.weight holds NaN or infinity"),
    (lambda f: set_nan(f, float("-inf")), "model.norm.weight holds NaN or infinity"),
    (lambda f: change(f / WEIGHTS, model_norm_weight=None), "model.norm.weight of the base is missing"),
    (lambda f: change(f / WEIGHTS, extra=torch.ones(1)), "extra is not in the base"),
    (
        lambda f: change(f / WEIGHTS, model_norm_weight=torch.ones(31)),
        "model.norm.weight: expected the base's shape [32], got [31]",
    ),
    (
        lambda f: change(f / WEIGHTS, model_embed_tokens_weight=torch.ones(70, 32)),
        "lm_head.weight has 64 rows, but model.embed_tokens.weight has 70",
    ),
    (
        lambda f: change(f / WEIGHTS, model_norm_weight=torch.ones(32, dtype=torch.int64)),
        "model.norm.weight: expected F32, BF16, F16, got I64",
    ),
    (lambda f: lora_of(f, f, 0), "holds a full model and an adapter"),
    (
        lambda f: edit_json(f / "config.json", num_attention_heads=8),
        "num_attention_heads: expected the base's 4, got 8",
    ),
    (  # another model altogether is told by its tensors
        lambda f: tiny_llama(f, seed=1, hidden=16),
        "expected the base's shape",
    ),
    (lambda f: edit_json(f / "config.json", num_hidden_layers=7), "num_hidden_layers 7, but there are 2 layers"),
    (lambda f: edit_json(f / "config.json", vocab_size=99), "vocab_size 99, but model.embed_tokens.weight has 64 rows"),
    (
        lambda f: change(f / WEIGHTS, model_norm_weight=torch.ones(32, dtype=torch.float64)),
        "Save the model again in float32",
    ),
]


@pytest.mark.parametrize(("break_it", "message"), BROKEN, ids=[message[:40] for _, message in BROKEN])
def test_bad_checkpoints(base: Path, fine: Path, break_it: Callable[[Path], object], message: str) -> None:
    break_it(fine)
    said = refused(base, fine)
    assert message in said
    assert str(fine) in said  # where
    assert len(said) < 1000


def edit_map(folder: Path, **changes: str | None) -> None:
    data = json.loads((folder / INDEX).read_text())
    for key, file in changes.items():
        name = key.replace("__", ".")
        data["weight_map"].pop(name, None)
        if file is not None:
            data["weight_map"][name] = file
    (folder / INDEX).write_text(json.dumps(data))


def link_out(folder: Path) -> None:
    outside = folder.parent / "elsewhere.safetensors"
    (folder / SHARDS[1]).rename(outside)
    (folder / SHARDS[1]).symlink_to(outside)


def double(folder: Path) -> None:
    held = {file: load_file(folder / file) for file in SHARDS}
    head = next(tensors["lm_head.weight"] for tensors in held.values() if "lm_head.weight" in tensors)
    for file, tensors in held.items():
        save_file({**tensors, "lm_head.weight": head}, folder / file)


BROKEN_SHARDS: list[tuple[Callable[[Path], object], str]] = [
    (lambda f: edit_map(f, model__norm__weight="../x.safetensors"), "model.norm.weight points at '../x.safetensors'"),
    (lambda f: edit_map(f, model__norm__weight="/x.safetensors"), "points at '/x.safetensors'"),
    (lambda f: edit_map(f, model__norm__weight="x.bin"), "points at 'x.bin'"),
    (lambda f: edit_map(f, model__norm__weight=None), "model.norm.weight is in model-0000"),
    (lambda f: edit_map(f, ghost=SHARDS[0]), "the index has ghost in model-00001-of-00002.safetensors, but it is not"),
    (lambda f: edit_map(f, lm_head__weight=SHARDS[1]), "the index has lm_head.weight in"),
    (lambda f: (f / SHARDS[1]).unlink(), "this shard is missing"),
    (lambda f: shutil.copy(f / SHARDS[0], f / WEIGHTS), "model.safetensors is there, but not in model.safetensors.ind"),
    (
        lambda f: shutil.copy(f / SHARDS[0], f / "model-00003-of-00003.safetensors"),
        "model-00003-of-00003.safetensors is there, but not in",
    ),
    (double, "lm_head.weight is in two shards"),
    (lambda f: (f / INDEX).write_text("{}"), "expected a weight_map"),
    (link_out, "outside the model's folder"),
]


@pytest.mark.parametrize(("break_it", "message"), BROKEN_SHARDS, ids=[message[:40] for _, message in BROKEN_SHARDS])
def test_bad_shards(base: Path, fine: Path, break_it: Callable[[Path], object], message: str) -> None:
    shard(fine)
    break_it(fine)
    said = refused(base, fine)
    assert message in said
    assert str(fine) in said


def test_weights_of_other_names_may_lie_beside(base: Path, fine: Path) -> None:
    """Mistral's own copies, which no loader of these formats takes."""
    shutil.copy(fine / WEIGHTS, fine / "consolidated.safetensors")
    open_models(str(base), {"fine": str(fine)})
    shard(fine)
    open_models(str(base), {"fine": str(fine)})


def test_a_base_with_another_head_than_embedding(base: Path, fine: Path) -> None:
    change(base / WEIGHTS, lm_head_weight=torch.ones(50, 32))
    said = refused(base, fine)
    assert said.startswith(f"{base}: lm_head.weight has 50 rows, but model.embed_tokens.weight has 64")


def test_a_base_may_not_be_an_adapter(base: Path, tmp_path: Path) -> None:
    adapter = lora_of(base, tmp_path / "x", 0)
    with pytest.raises(SourceError, match="the base is an adapter"):
        open_models(str(adapter), {})


def test_tied_heads(tmp_path: Path) -> None:
    """A tied model may store its head or not; a copy is left out, anything else is refused."""
    base = tiny_llama(tmp_path / "base", tied=True)
    fine = fine_tune_of(base, tmp_path / "fine", 1)
    embedding = load_file(fine / WEIGHTS)["model.embed_tokens.weight"]
    tensors = {**load_file(fine / WEIGHTS), "lm_head.weight": embedding.clone()}
    save_file(tensors, fine / WEIGHTS)
    models = open_models(str(base), {"fine": str(fine)})
    assert "lm_head.weight" not in models.shapes
    turned = open_models(str(fine), {"base": str(base)}, base_name="root")
    assert "lm_head.weight" not in turned.shapes
    tensors["lm_head.weight"][0, 0] += 1
    save_file(tensors, fine / WEIGHTS)
    assert "lm_head.weight here differs from model.embed_tokens.weight" in refused(base, fine)


def test_untied_heads_must_be_there(base: Path, fine: Path) -> None:
    change(fine / WEIGHTS, lm_head_weight=None)
    assert "lm_head.weight of the base is missing" in refused(base, fine)


def test_mixed_dtypes_are_fine(base: Path, fine: Path) -> None:
    held = load_file(fine / WEIGHTS)
    save_file({name: tensor.bfloat16() for name, tensor in held.items()}, fine / WEIGHTS)
    models = open_models(str(base), {"fine": str(fine)})
    tensors, _ = merged(recipe_of(models, "linear"), models)
    assert torch.equal(tensors["model.norm.weight"], held["model.norm.weight"].bfloat16().float())


def test_a_layer_that_lacks_a_tensor_is_told_of_a_base_too(base: Path, fine: Path) -> None:
    """A source is compared with its base; a base, or the one model of a passthrough, only with itself."""
    tensors = load_file(base / WEIGHTS)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, base / WEIGHTS)
    message = refused(base, fine)
    assert "model.layers.1.mlp.up_proj.weight is missing; other layers have such a tensor" in message
    assert str(base) in message


def test_layers_need_not_be_alike(tmp_path: Path) -> None:
    """Qwen3's mixtures may have dense layers among them, which have no experts."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "moe_intermediate_size": 16, "vocab_size": 64}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "num_hidden_layers": 3}
    config = Qwen3MoeConfig(**sizes, **heads, num_experts=4, num_experts_per_tok=2, mlp_only_layers=[1])
    Qwen3MoeForCausalLM(config).save_pretrained(tmp_path)
    models = open_models(str(tmp_path), {})
    assert "model.layers.1.mlp.up_proj.weight" in models.shapes
    assert "model.layers.0.mlp.up_proj.weight" not in models.shapes


def test_stored_rotary_frequencies_are_left_out(base: Path, fine: Path, tmp_path: Path) -> None:
    """Llama 2 has them, fine-tunes saved later do not; here the base, the source, or both."""
    plain = open_models(str(base), {"fine": str(fine)})
    expected = merged(recipe_of(plain, "linear"), plain)
    derived = {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": torch.arange(4.0) for layer in range(2)}
    with_them = {}
    for name, folder in (("base", base), ("fine", fine)):
        with_them[name] = Path(shutil.copytree(folder, tmp_path / f"old-{name}"))
        save_file({**load_file(folder / WEIGHTS), **derived}, with_them[name] / WEIGHTS)
    for one, other in ((with_them["base"], fine), (base, with_them["fine"]), (with_them["base"], with_them["fine"])):
        models = open_models(str(one), {"fine": str(other)})
        found = merged(recipe_of(models, "linear"), models)
        assert found[1] == expected[1] and found[0].keys() == expected[0].keys()


def test_folders_for_tokenizers(base: Path, fine: Path, tmp_path: Path) -> None:
    bare, own = lora_of(base, tmp_path / "bare", 0), lora_of(base, tmp_path / "own", 0)
    tiny_tokenizer(own, chat_template=CHAT_TEMPLATE)
    models = open_models(str(base), {"fine": str(fine), "bare": str(bare), "own": str(own)})
    assert [models.folder_of(name) for name in ("base", "fine", "bare", "own")] == [base, fine, base, own]
    with pytest.raises(SourceError, match=r"no model is named 'x'\nKnown: base, bare, fine, own"):
        models.folder_of("x")


def test_digest_follows_content_and_is_kept(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOMERGE_CACHE", str(tmp_path / "cache"))
    path = base / WEIGHTS
    first = digest([path])
    reads = []
    monkeypatch.setattr(digest_module, "refuse_not_finite", reads.append)
    assert digest([path]) == first and not reads  # from the cache
    for note in (cache_folder() / "digests").iterdir():
        note.write_text("torn")
    assert digest([path]) == first and len(reads) == 1
    change(path, model_norm_weight=torch.ones(32) * 2)
    assert digest([path]) != first
    copy = tmp_path / WEIGHTS
    copy.write_bytes(path.read_bytes())
    assert digest([copy]) == digest([path])
    monkeypatch.setenv("AUTOMERGE_CACHE", str(path / "no"))  # a cache that cannot be written does no harm
    assert digest([copy]) == digest([path])


def test_an_adapter_of_other_settings_is_another_model(base: Path, tmp_path: Path) -> None:
    one = open_models(str(base), {"x": str(lora_of(base, tmp_path / "a", 0))})
    two = open_models(str(base), {"x": str(lora_of(base, tmp_path / "b", 0, use_rslora=True))})
    assert one.source_refs[0].digest != two.source_refs[0].digest


def test_a_model_without_embeddings_has_no_vocabulary(tmp_path: Path) -> None:
    a = write_model(tmp_path / "a", {"w": torch.ones(2, 2)})
    b = write_model(tmp_path / "b", {"w": torch.ones(3, 2)})
    assert "w: expected the base's shape [2, 2], got [3, 2]" in refused(a, b)


def test_pages_given_back_are_read_again(folders: dict[str, str]) -> None:
    models = open_models(folders["base"], {"code": folders["code"]})
    before = {name: models.base.stored(name).clone() for name in models.tensor_names}
    models.give_back()
    for name in models.tensor_names:
        assert torch.equal(models.base.stored(name), before[name])


def test_a_model_of_another_depth_is_said_to_be_one(base: Path, tmp_path: Path) -> None:
    deep = tiny_llama(tmp_path / "deep", layers=3)
    assert "expected as many layers as the base has, 2, got 3" in refused(base, deep)


def test_every_source_is_found_right_before_one_is_read(
    base: Path, fine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automerge.merge.models.digest", lambda *files: pytest.fail("a weight was read"))
    with pytest.raises(SourceError, match="nowhere"):
        open_models(str(base), {"a": str(fine), "b": str(tmp_path / "nowhere")})
