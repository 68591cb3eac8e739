"""LoRA adapters: PEFT's own merge to fp32 rounding, the fixed order, and every refusal by name."""

import os
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from automerge.errors import SourceError
from automerge.merge import open_models
from automerge.merge.sources.lora import LoraAdapter
from tests.merge.helpers import edit_json
from tests.tiny import lora_of, tiny_llama


def peft_weights(base: str, adapter: str) -> dict[str, torch.Tensor]:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        return PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict()


def compare(base: str, adapter: str) -> int:
    """Checks every tensor against PEFT's merge to fp32 rounding; how many the adapter changes."""
    models = open_models(base, {"x": adapter})
    theirs = peft_weights(base, adapter)
    changed = 0
    for name, shape in models.shapes.items():
        size = torch.Size(shape).numel()
        values = models.base.values(name, 0, size)
        ours = models.sources["x"].weights(name, values, 0, size).view(shape)
        changed += not torch.equal(ours, values.view(shape))
        torch.testing.assert_close(ours, theirs[name], rtol=1e-6, atol=1e-6 * float(ours.abs().max()))
    return changed


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"alpha": 3.0}])
def test_equal_to_peft(tmp_path: Path, folders: dict[str, str], settings: dict) -> None:
    adapter = lora_of(Path(folders["base"]), tmp_path / "x", 4, **settings)
    assert compare(folders["base"], str(adapter)) == 14


@pytest.mark.shared
def test_a_real_adapter_equals_peft() -> None:
    shared = Path(os.environ.get("AUTOMERGE_SHARED", Path(__file__).parents[2].parent / "shared"))
    base = os.environ.get("AUTOMERGE_SMOLLM2", "")
    adapter = shared / "models" / "math"
    if not adapter.is_dir() or not Path(base, "config.json").is_file():
        pytest.skip(f"needs {adapter} (AUTOMERGE_SHARED) and the folder of SmolLM2-135M-Instruct in AUTOMERGE_SMOLLM2")
    assert compare(base, str(adapter)) == 210


def test_the_order_is_fixed(folders: dict[str, str]) -> None:
    adapter = LoraAdapter(Path(folders["math"]), open_models(folders["base"], {}).shapes)
    name = "model.layers.1.mlp.down_proj.weight"
    a, b = (adapter.file.mapped(part).numpy() for part in adapter.targets[name])
    wanted = b[:, :1] * a[:1] * 0
    for k in range(a.shape[0]):
        wanted = wanted + b[:, k : k + 1] * a[k : k + 1]
    wanted = torch.from_numpy(wanted * 2).reshape(-1)  # α/r = 8/4
    unused = torch.empty(0)
    whole = adapter.delta(name, unused, 0, wanted.numel())
    assert whole is not None and torch.equal(whole, wanted)
    part = adapter.delta(name, unused, 77, 1000)
    assert part is not None and torch.equal(part, wanted[77:1000])
    assert adapter.delta("model.norm.weight", unused, 0, 32) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "the LoRA option use_dora=True is not supported"),
        ({"bias": "all"}, "option bias='all'"),
        ({"lora_bias": True}, "option lora_bias=True"),
        ({"modules_to_save": ["lm_head"]}, "option modules_to_save="),
        ({"fan_in_fan_out": True}, "option fan_in_fan_out"),
        ({"alpha_pattern": {"q_proj": 3}}, "option alpha_pattern"),
        ({"rank_pattern": {"q_proj": 3}}, "option rank_pattern"),
        ({"layer_replication": [[0, 2]]}, "option layer_replication"),
        ({"init_lora_weights": "pissa"}, "option init_lora_weights='pissa'"),
        ({"something_new": 1}, "option something_new=1"),
        ({"peft_type": "IA3"}, "expected an adapter of peft_type LORA, got IA3"),
        ({"r": 0}, "r: expected a positive number, got 0"),
        ({"lora_alpha": None}, "lora_alpha: expected a positive number, got None"),
        ({"r": 8}, "the adapter r=8, A [4, 64], B [32, 4]"),
    ],
)
def test_options_that_are_refused(tmp_path: Path, folders: dict[str, str], changes: dict, message: str) -> None:
    adapter = lora_of(Path(folders["base"]), tmp_path / "x", 4)
    edit_json(adapter / "adapter_config.json", **changes)
    with pytest.raises(SourceError) as raised:
        open_models(folders["base"], {"x": str(adapter)})
    assert message in str(raised.value)


def test_an_adapter_of_another_base(tmp_path: Path, folders: dict[str, str]) -> None:
    wide = tiny_llama(tmp_path / "wide", hidden=48)
    deep = tiny_llama(tmp_path / "deep", layers=3)
    with pytest.raises(SourceError, match=r"the base has shape \[32, 64\], the adapter r=4.*another base\?"):
        try:
            open_models(folders["base"], {"x": str(lora_of(wide, tmp_path / "a", 1))})
        except SourceError as error:
            raise SourceError(str(error).replace("\n", " ")) from error
    with pytest.raises(SourceError, match=r"changes model\.layers\.2\.\S+, which the base does not have"):
        open_models(folders["base"], {"x": str(lora_of(deep, tmp_path / "b", 1))})


def test_tensors_that_are_no_lora_pair(tmp_path: Path, folders: dict[str, str]) -> None:
    adapter = lora_of(Path(folders["base"]), tmp_path / "x", 4)
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if "lora_A" in name)
    save_file({**tensors, "base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(2)}, path)
    with pytest.raises(SourceError, match=r"cannot use the adapter tensor .*lora_embedding_A"):
        open_models(folders["base"], {"x": str(adapter)})
    save_file({key: value for key, value in tensors.items() if key != name}, path)
    with pytest.raises(SourceError, match="lora_A and lora_B must both be there"):
        open_models(folders["base"], {"x": str(adapter)})
    save_file({}, path)
    with pytest.raises(SourceError, match="holds no tensors"):
        open_models(folders["base"], {"x": str(adapter)})
    path.unlink()
    with pytest.raises(SourceError, match=r"adapter_model\.safetensors is missing"):
        open_models(folders["base"], {"x": str(adapter)})
    (adapter / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(SourceError, match="only pickled weights"):
        open_models(folders["base"], {"x": str(adapter)})
