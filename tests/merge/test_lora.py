"""LoRA adapters that are refused, each by the name of the option, and adapters of another base."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from automerge.errors import SourceError
from automerge.merge.models import find_models
from automerge.merge.sources.checkpoint import Checkpoint
from automerge.merge.sources.compat import merged_shapes
from automerge.merge.sources.lora import LoraAdapter
from automerge.merge.sources.lora_config import HARMLESS, READ, REFUSED
from tests.merge.helpers import edit_json
from tests.tiny import lora_of, peft_lora_of, tiny_llama, tiny_model

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
Q = "base_model.model.model.layers.0.self_attn.q_proj"
EMBEDDING, HEAD = "base_model.model.model.embed_tokens", "base_model.model.lm_head"


@pytest.fixture(scope="session")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tied"), "qwen2", tied=True)


def opened(base: Path, adapter: Path) -> LoraAdapter:
    root = Checkpoint(base)
    return LoraAdapter(adapter, root, merged_shapes(root, root))


def refusal(base: Path, adapter: Path) -> str:
    with pytest.raises(SourceError) as raised:
        opened(base, adapter)
    return str(raised.value).replace("\n", " ")


def edit_tensors(adapter: Path, add: dict[str, torch.Tensor] | None = None, without: str = " ") -> None:
    tensors = {name: tensor for name, tensor in load_file(adapter / WEIGHTS).items() if without not in name}
    save_file({**tensors, **(add or {})}, adapter / WEIGHTS)


OPTIONS: list[tuple[dict[str, Any], str]] = [
    (
        {"target_parameters": ["mlp.experts"]},
        r"option target_parameters=\['mlp.experts'\] is not supported.*merge_and_unload",
    ),
    ({"use_bdlora": {"nblocks": 2}}, "option use_bdlora=.*merge_and_unload"),
    ({"velora_config": {"scale": 1}}, "option velora_config=.*merge_and_unload"),
    ({"monteclora_config": {"num_samples": 8}}, "option monteclora_config=.*merge_and_unload"),
    ({"kasa_config": {"beta": 1}}, "option kasa_config=.*changes the base.*merge_and_unload"),
    ({"use_qalora": True}, "option use_qalora=True.*GPTQ"),
    ({"layer_replication": [[0, 2]]}, r"option layer_replication=.*more layers than the base"),
    ({"megatron_config": {"tp": 2}}, "option megatron_config=.*Convert"),
    ({"alora_invocation_tokens": [5]}, "option alora_invocation_tokens=.*some tokens"),
    ({"arrow_config": {"top_k": 2}}, "option arrow_config=.*some tokens"),
    ({"something_new": 1}, "option something_new=1 is not supported"),
    *[
        ({"init_lora_weights": init}, f"option init_lora_weights='{init}'.*path_initial_model_for_weight_conversion")
        for init in ("pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga")
    ],
    ({"peft_type": "IA3"}, "expected an adapter of peft_type LORA, got IA3"),
    ({"r": 0}, "r: expected a positive number, got 0"),
    ({"r": True}, "r: expected a positive number, got True"),
    ({"lora_alpha": None}, "lora_alpha: expected a positive number, got None"),
    ({"rank_pattern": {"q_proj": 2.5}}, "rank_pattern: q_proj: expected a positive number, got 2.5"),
    ({"alpha_pattern": {"q_proj": -1}}, "alpha_pattern: q_proj: expected a positive number, got -1"),
    ({"alpha_pattern": {"(": 1}}, r"alpha_pattern: '\(' is no regular expression"),
    ({"rank_pattern": [1]}, r"rank_pattern: expected names with a number each, got \[1\]"),
    ({"target_modules": "q_proj("}, r"target_modules: 'q_proj\(' is no regular expression"),
    ({"target_modules": 3}, "target_modules: expected names, got 3"),
    ({"layers_to_transform": "1"}, "layers_to_transform: expected layer numbers, got '1'"),
    ({"bias": "some"}, "bias: expected none, all or lora_only, got 'some'"),
    ({"r": 8}, r"the base has shape \[32, 64\], the adapter r=8, A \[4, 64\], B \[32, 4\].*another base"),
    ({"rank_pattern": {"down_proj": 2}}, r"down_proj.weight: the base has shape \[32, 64\], the adapter r=2"),
    ({"target_modules": ["q_proj"]}, "factors of model.layers.0.mlp.down_proj, which target_modules.* leave out"),
    ({"exclude_modules": ["q_proj"]}, "factors of model.layers.0.self_attn.q_proj, .* leave out"),
    ({"layers_to_transform": [1]}, "factors of model.layers.0.mlp.down_proj, .*layers_to_transform.* leave out"),
    ({"layers_to_transform": [1], "layers_pattern": "blocks"}, "layers_to_transform.* leave out"),
    ({"kasa_config": {}}, "option kasa_config={}.*changes the base"),
    ({"rank_pattern": None}, "rank_pattern: expected names with a number each, got None"),
    ({"target_modules": None}, "factors of model.layers.0.mlp.down_proj, which target_modules.* leave out"),
    ({"layers_pattern": "layers"}, "layers_pattern: expected layers_to_transform beside it, got None"),
    ({"target_modules": ".*", "layers_to_transform": [0]}, "layers_to_transform: expected target_modules to be a list"),
    ({"trainable_token_indices": [1]}, "trainable_token_indices lists tokens of the embedding, but .* no rows"),
    ({"use_dora": True}, "use_dora is set, but there is no lora_magnitude_vector"),
    ({"modules_to_save": ["lm_head"]}, "modules_to_save names lm_head, but the file holds no lm_head.weight"),
]


@pytest.mark.parametrize(("changes", "message"), OPTIONS)
def test_options_that_are_refused(
    tmp_path: Path, folders: dict[str, str], changes: dict[str, Any], message: str
) -> None:
    adapter = lora_of(Path(folders["base"]), tmp_path / "x", 4)
    edit_json(adapter / CONFIG, **changes)
    assert_in(message, refusal(Path(folders["base"]), adapter))


def test_all_linear_leaves_out_the_embeddings(tmp_path: Path, folders: dict[str, str]) -> None:
    adapter = peft_lora_of(Path(folders["base"]), tmp_path / "x", 4, target_modules=["q_proj", "lm_head"])
    edit_json(adapter / CONFIG, target_modules="all-linear")
    assert_in("factors of lm_head, which target_modules.* leave out", refusal(Path(folders["base"]), adapter))


def test_tokens_of_a_module_that_is_saved_whole(tmp_path: Path, folders: dict[str, str]) -> None:
    options = {"modules_to_save": ["embed_tokens"], "trainable_token_indices": [1, 3]}
    adapter = peft_lora_of(Path(folders["base"]), tmp_path / "x", 4, target_modules=["q_proj"], **options)
    text = refusal(Path(folders["base"]), adapter)
    assert_in("embed_tokens.weight: trainable_token_indices and modules_to_save on one module", text)


def test_options_are_named_before_their_tensors(tmp_path: Path) -> None:
    """As PEFT saves them, opened as a user opens them: their tensors are none that we know, but the option is named."""
    from peft import AdaLoraConfig, LoraConfig, get_peft_model
    from peft.tuners.lora.config import KasaConfig, MontecloraConfig, VeloraConfig
    from transformers import AutoModelForCausalLM

    def of(base: Path, config: Any) -> str:
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
        model.save_pretrained(tmp_path / "x")
        with pytest.raises(SourceError) as raised:
            find_models(str(base), {"x": str(tmp_path / "x")})
        return str(raised.value)

    llama, mixtral = tiny_model(tmp_path / "llama", "llama"), tiny_model(tmp_path / "mixtral", "mixtral")
    options = {"task_type": "CAUSAL_LM", "r": 4, "target_modules": ["q_proj", "o_proj"]}
    assert "option velora_config" in of(llama, LoraConfig(**options, velora_config=VeloraConfig()))
    assert "option monteclora_config" in of(llama, LoraConfig(**options, monteclora_config=MontecloraConfig()))
    assert "option kasa_config" in of(llama, LoraConfig(**options, kasa_config=KasaConfig()))
    assert "of peft_type LORA, got ADALORA" in of(llama, AdaLoraConfig(**{**options, "r": 8}, total_step=10))
    experts = LoraConfig(task_type="CAUSAL_LM", target_modules=[], target_parameters=["mlp.experts.down_proj"])
    assert "option target_parameters" in of(mixtral, experts)


@pytest.mark.parametrize(
    "renamed",
    [
        lambda name: name.removeprefix("base_model.model."),
        lambda name: name.replace(".lora_A.weight", ".lora_A.default.weight"),
    ],
)
def test_two_tensors_for_one_thing(tmp_path: Path, folders: dict[str, str], renamed: Callable[[str], str]) -> None:
    adapter = peft_lora_of(Path(folders["base"]), tmp_path / "x", 4, target_modules=["q_proj"])
    edit_tensors(adapter, {renamed(f"{Q}.lora_A.weight"): torch.ones(4, 32)})
    assert_in("lora_A.*weight are two tensors for the same thing", refusal(Path(folders["base"]), adapter))


def assert_in(pattern: str, text: str) -> None:
    assert re.search(pattern, text), text


def test_every_option_of_peft_is_known() -> None:
    """A PEFT with a new option makes this fail: let it be read, called harmless, or refused with its way out."""
    from peft import LoraConfig

    known = READ | HARMLESS | REFUSED.keys()
    assert {field.name for field in dataclasses.fields(LoraConfig) if not field.name.startswith("_")} <= known


TENSORS: list[tuple[dict[str, torch.Tensor], str, str]] = [
    ({f"{Q}.lora_magnitude_vector": torch.ones(32)}, " ", "use_dora is not set, but there is a lora_magnitude_vector"),
    ({f"{Q}.lora_diag": torch.ones(4)}, " ", "cannot use the adapter tensor .*lora_diag"),
    ({f"{Q}.base_layer.lora_A.weight": torch.ones(4, 32)}, " ", "cannot use the adapter tensor .*base_layer.lora_A"),
    (
        {f"{Q}.lora_B.bias": torch.ones(32)},
        " ",
        "changes model.layers.0.self_attn.q_proj.bias, which the base does not have",
    ),
    ({f"{Q}.weight": torch.ones(32, 32)}, " ", "changes model.layers.0.self_attn.q_proj.weight twice"),
    ({f"{EMBEDDING}.weight": torch.ones(70, 32)}, " ", r"has shape \[64, 32\], the adapter its own copy \[70, 32\]"),
    (
        {f"{Q}.base_layer.weight": torch.ones(32, 32)},
        " ",
        "the adapter's copy of it differs from the base's.*another base",
    ),
    ({"base_model.model.score.weight": torch.ones(2, 32)}, " ", "changes score.weight, which the base does not have"),
    ({f"{Q}.token_adapter.trainable_tokens_delta": torch.ones(1, 32)}, " ", "trainable_token_indices and LoRA on one"),
    (
        {f"{EMBEDDING}.token_adapter.trainable_tokens_delta": torch.ones(1, 32)},
        " ",
        "expected token ids for model.embed",
    ),
    ({}, "0.self_attn.q_proj.lora_A", "lora_A and lora_B must both be there"),
    ({}, "", "the adapter holds no tensors"),
    ({f"{Q}.lora_A.weight": torch.ones(4, 32, dtype=torch.int8)}, " ", "expected F32, BF16, F16, got I8"),
]


@pytest.mark.parametrize(("add", "without", "message"), TENSORS)
def test_tensors_that_are_refused(
    tmp_path: Path, folders: dict[str, str], add: dict[str, torch.Tensor], without: str, message: str
) -> None:
    adapter = lora_of(Path(folders["base"]), tmp_path / "x", 4)
    edit_tensors(adapter, add, without)
    assert_in(message, refusal(Path(folders["base"]), adapter))


@pytest.mark.parametrize("indices", [[64], [1, 2], [1, 1], [-1], ["a"], {"other": [1]}])
def test_token_rows_that_do_not_fit(tmp_path: Path, folders: dict[str, str], indices: Any) -> None:
    base = Path(folders["base"])
    adapter = peft_lora_of(base, tmp_path / "x", 4, target_modules=["q_proj"], trainable_token_indices=[1])
    edit_json(adapter / CONFIG, trainable_token_indices=indices)
    assert "trainable_token_indices" in refusal(base, adapter)


def test_files_that_are_not_there(tmp_path: Path, folders: dict[str, str]) -> None:
    base = Path(folders["base"])
    adapter = lora_of(base, tmp_path / "x", 4)
    (adapter / WEIGHTS).unlink()
    assert "adapter_model.safetensors is missing" in refusal(base, adapter)
    (adapter / "adapter_model.bin").write_bytes(b"")
    assert "only pickled weights" in refusal(base, adapter)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_modules": ["embed_tokens", "lm_head"]}, "changes model.embed_tokens.weight twice .*not both"),
        ({"target_modules": ["embed_tokens"], "ensure_weight_tying": True}, "twice .*not both"),
        ({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}, "modules_to_save: model.embed_tokens"),
        ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, "modules_to_save: lm_head.weight would no"),
        ({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}, "no longer be tied"),
    ],
)
def test_what_would_untie_is_refused(tmp_path: Path, tied: Path, options: dict[str, Any], message: str) -> None:
    assert_in(message, refusal(tied, peft_lora_of(tied, tmp_path / "x", 4, **options)))


@pytest.mark.parametrize("option", [{"use_rslora": True}, {"alpha_pattern": {"w1": 3}}, {"rank_pattern": {"w9": 3}}])
def test_options_on_experts_are_refused(tmp_path: Path, option: dict[str, Any]) -> None:
    base = tiny_model(tmp_path / "base", "mixtral")
    adapter = expert_lora(base, tmp_path / "x", **option)
    assert_in(f"{next(iter(option))} is not supported on experts", refusal(base, adapter))


def expert_lora(base: Path, out: Path, **options: Any) -> Path:
    """Factors of every expert and router, named as transformers 4 did, and as checkpoints still are."""
    targets = ["w1", "w2", "w3", "gate"]
    adapter = lora_of(base, out, 4, target_modules=targets, **options)
    generator = torch.Generator().manual_seed(5)
    tensors = {}
    for name, weight in sorted(load_file(base / "model.safetensors").items()):
        module = "base_model.model." + name.removesuffix(".weight")
        if module.rpartition(".")[2] in targets:
            tensors[f"{module}.lora_A.weight"] = torch.randn(4, weight.shape[1], generator=generator)
            tensors[f"{module}.lora_B.weight"] = torch.randn(weight.shape[0], 4, generator=generator)
    save_file(tensors, adapter / WEIGHTS)
    return adapter


def test_an_adapter_of_another_base(tmp_path: Path, folders: dict[str, str]) -> None:
    base = Path(folders["base"])
    wide = lora_of(tiny_llama(tmp_path / "wide", hidden=48), tmp_path / "a", 1)
    deep = lora_of(tiny_llama(tmp_path / "deep", layers=3), tmp_path / "b", 1)
    assert_in("wide has hidden_size 48, but the base, .* has 32.*another base", refusal(base, wide))
    assert_in("deep has num_hidden_layers 3, but the base, .* has 2.*another base", refusal(base, deep))
    for adapter in (wide, deep):
        edit_json(adapter / CONFIG, base_model_name_or_path="someone/model")
    assert_in(r"the base has shape \[32, 64\], the adapter r=4.*another base", refusal(base, wide))
    assert_in(r"changes model\.layers\.2\.\S+, which the base does not have.*another base", refusal(base, deep))


@pytest.mark.parametrize("named", [None, "", "org/model", "/no/such/folder", "same", "broken"])
def test_a_base_that_tells_nothing_is_accepted(tmp_path: Path, folders: dict[str, str], named: str | None) -> None:
    base = Path(folders["base"])
    for name, text in (("same", json.dumps(Checkpoint(base).config)), ("broken", "{")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    adapter = lora_of(base, tmp_path / "x", 4)
    edit_json(adapter / CONFIG, base_model_name_or_path=str(tmp_path / named) if named in ("same", "broken") else named)
    assert opened(base, adapter).changes("model.layers.0.mlp.up_proj.weight")


def test_a_target_without_factors_is_refused(tmp_path: Path, folders: dict[str, str]) -> None:
    base = Path(folders["base"])
    adapter = lora_of(base, tmp_path / "x", 1)
    tensors = load_file(adapter / WEIGHTS)
    less = {name: tensor for name, tensor in tensors.items() if "layers.1." not in name}
    assert len(less) < len(tensors)
    save_file(less, adapter / WEIGHTS)
    assert_in(
        r"target_modules names model\.layers\.1\.\S+, but the file holds no factors of it", refusal(base, adapter)
    )
    edit_json(adapter / CONFIG, layers_to_transform=[0])
    assert opened(base, adapter).changes("model.layers.0.mlp.up_proj.weight")


def test_an_adapter_of_another_repository_of_the_hub_is_refused(tmp_path: Path, folders: dict[str, str]) -> None:
    base = tmp_path / "models--Some--Base-1B" / "snapshots" / "abc"
    shutil.copytree(folders["base"], base)
    adapter = lora_of(base, tmp_path / "x", 1)
    edit_json(adapter / CONFIG, base_model_name_or_path="Other/Base-7B")
    assert_in(r"expected the base, Some/Base-1B, got Other/Base-7B.*another base", refusal(base, adapter))
    for named in ("some/base-1b", str(base), "/no/such/folder"):
        edit_json(adapter / CONFIG, base_model_name_or_path=named)
        assert opened(base, adapter).changes("model.layers.0.mlp.up_proj.weight")
