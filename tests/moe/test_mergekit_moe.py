"""The peer test: mergekit-moe, in its own environment, and automerge put the same models together from the same YAML.

mergekit stacks the experts of Mixtral and Qwen3 into one tensor, ours are one tensor an expert, as published models of
these kinds have them: both are compared one by one. Its router rows come from a base in bf16, ours from one in fp32.
"""

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.moe.conftest import described, written
from tests.peers.compare import read
from tests.peers.peer import NO_PEER, peer_python

pytestmark = pytest.mark.skipif(peer_python() is None, reason=NO_PEER)

Family = Callable[[str], Mapping[str, Path]]
CASES = {  # dense architecture, kind, shared experts
    "mixtral of llama": ("llama", "mixtral", 0),
    "mixtral of mistral": ("mistral", "mixtral", 0),
    "deepseek of llama": ("llama", "deepseek", 0),
    "deepseek of llama, one shared": ("llama", "deepseek", 1),
    "qwen of qwen2": ("qwen2", "qwen", 1),
    "qwen of llama": ("llama", "qwen", 1),
    "qwen3": ("qwen3", "qwen3", 0),
}
BOUND = {"hidden": 2e-2, "cheap_embed": 1e-2}  # of a row's numbers; rows have length 1, and are stored in bf16


def peer(config: Mapping[str, Any], out: Path) -> dict[str, torch.Tensor]:
    """What mergekit-moe makes of it, experts one by one."""
    file = out.with_suffix(".yml")
    file.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONWARNINGS")}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [str(peer_python()), "-m", "mergekit.scripts.moe", str(file), str(out), "--device", "cpu"]
    allow = ["--i-understand-this-is-not-useful-without-training"]
    done = subprocess.run([*command, *allow], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return unstacked(read(out))


def unstacked(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = {}
    for name, tensor in tensors.items():
        if name.endswith("experts.gate_up_proj"):
            for number, each in enumerate(tensor):
                gate, up = each.chunk(2)
                prefix = name.replace("gate_up_proj", str(number))
                found |= {f"{prefix}.gate_proj.weight": gate, f"{prefix}.up_proj.weight": up}
        elif name.endswith("experts.down_proj"):
            prefix = name.removesuffix("down_proj")
            found |= {f"{prefix}{number}.down_proj.weight": each for number, each in enumerate(tensor)}
        else:
            found[name] = tensor
    return found


def as_stacked_names(name: str) -> str:
    """Mixtral's published names as those that mergekit's have when taken apart."""
    for ours, theirs in ((".w1.", ".gate_proj."), (".w2.", ".down_proj."), (".w3.", ".up_proj.")):
        name = name.replace(ours, theirs)
    return name.replace("block_sparse_moe", "mlp")


@pytest.mark.parametrize("mode", ["hidden", pytest.param("cheap_embed", marks=pytest.mark.full)])
@pytest.mark.parametrize("case", CASES)
def test_the_same_models_give_the_same_mixture(family: Family, tmp_path: Path, case: str, mode: str) -> None:
    dense, kind, shared = CASES[case]
    models = family(dense)
    config = described(models["base"], [models[name] for name in ("one", "two", "far")], gate_mode=mode)
    config |= {"architecture": kind, "experts_per_token": 2}
    config["experts"][1]["negative_prompts"] = ["never this"]
    if shared:
        prompts = {"positive_prompts": ["always"]} if kind == "qwen" else {}
        # One of the experts: mergekit opens no other model for it.
        config["shared_experts"] = [{"source_model": str(models["two"]), "residual_scale": 0.1, **prompts}]
    theirs = peer(config, tmp_path / "theirs")
    written(config, tmp_path / "ours")
    ours = {as_stacked_names(name): tensor for name, tensor in read(tmp_path / "ours").items()}
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert (tensor.shape, tensor.dtype) == (theirs[name].shape, theirs[name].dtype), name
        if name.endswith("gate.weight"):
            torch.testing.assert_close(tensor.float(), theirs[name].float(), rtol=0, atol=BOUND[mode])
        else:
            assert torch.equal(tensor, theirs[name]), name
    settings = [json.loads((tmp_path / who / "config.json").read_text()) for who in ("ours", "theirs")]
    for key in ("architectures", "model_type", "num_experts_per_tok", "tie_word_embeddings", "intermediate_size"):
        assert settings[0][key] == settings[1][key], key
    for key in ("num_experts", "n_routed_experts", "norm_topk_prob", "moe_intermediate_size"):
        if key in settings[0] and key in settings[1]:  # mergekit's Qwen3 has another word for num_experts
            assert settings[0][key] == settings[1][key], key
