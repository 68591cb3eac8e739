"""An adapter's bytes: the order of the maths, and that no run, order, thread or kernel shows in them."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automerge.merge.sources.checkpoint import Checkpoint
from automerge.merge.sources.compat import merged_shapes
from automerge.merge.sources.dora import tree_sum
from automerge.merge.sources.lora import LoraAdapter
from automerge.merge.sources.lowrank import LowRank
from tests.tiny import peft_lora_of, tiny_model

LINEAR = ["q_proj", "v_proj", "down_proj"]
CHANGES = {
    "plain": ("qwen2", {"target_modules": LINEAR, "use_rslora": True, "r": 7}),
    "dora": ("qwen2", {"target_modules": [*LINEAR, "embed_tokens"], "use_dora": True}),
    "transposed dora": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "use_dora": True}),
    "saved": ("qwen2", {"target_modules": LINEAR, "modules_to_save": ["lm_head"], "dtype": torch.bfloat16}),
    "biases": ("qwen2", {"target_modules": ["q_proj"], "lora_bias": True}),
    "tokens": ("qwen2", {"target_modules": ["q_proj"], "trainable_token_indices": [7, 3, 63]}),
}
Opened = tuple[Checkpoint, LoraAdapter, list[str]]


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Opened]:
    root = tmp_path_factory.mktemp("bytes")
    bases = {kind: tiny_model(root / kind, kind) for kind in ("qwen2", "gpt2")}
    result = {}
    for name, (kind, options) in CHANGES.items():
        base = Checkpoint(bases[kind])
        shapes = merged_shapes(base, base)
        folder = peft_lora_of(bases[kind], root / name.replace(" ", "_"), 3, **options)
        adapter = LoraAdapter(folder, base, shapes)
        result[name] = (base, adapter, [tensor for tensor in shapes if adapter.changes(tensor)])
    return result


def whole_by_runs(opened: Opened, tensor: str, cuts: list[int]) -> torch.Tensor:
    base, adapter, _ = opened
    parts = []
    for start, stop in reversed(list(pairwise(cuts))):
        part = adapter.delta(tensor, base.values(tensor, start, stop), start, stop)
        assert part is not None and part.shape == (stop - start,)
        parts.append(part)
    return torch.cat(parts[::-1])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(sorted(CHANGES)), threads=st.sampled_from([1, 2]))
def test_runs_give_the_whole(adapters: dict[str, Opened], data: st.DataObject, name: str, threads: int) -> None:
    base, adapter, tensors = adapters[name]
    tensor = data.draw(st.sampled_from(tensors))
    size = torch.Size(base.shapes[tensor]).numel()
    cuts = sorted({0, size, *data.draw(st.lists(st.integers(1, size - 1), max_size=4))})
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        whole = adapter.whole_delta(tensor)
        assert whole.dtype == torch.float32 and whole.shape == base.shapes[tensor] and whole.is_contiguous()
        runs = whole_by_runs(adapters[name], tensor, cuts)
        assert torch.equal(runs.view(torch.int32), whole.reshape(-1).view(torch.int32))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_weights_and_stored(adapters: dict[str, Opened], name: str) -> None:
    base, adapter, tensors = adapters[name]
    for tensor in tensors:
        size = torch.Size(base.shapes[tensor]).numel()
        values = base.values(tensor, 0, size)
        delta, weights = adapter.delta(tensor, values[3:], 3, size), adapter.weights(tensor, values, 0, size)
        stored = adapter.stored(tensor)
        if stored is None:
            assert torch.equal(weights, values + adapter.whole_delta(tensor).view(-1))
        else:
            assert name == "saved" and stored.dtype == torch.bfloat16
            assert torch.equal(weights, stored.float().view(-1))
        assert delta is not None and torch.equal(delta, adapter.whole_delta(tensor).view(-1)[3:])
        assert torch.equal(values, base.values(tensor, 0, size))  # never written to
    untouched = "model.norm.weight" if "model.norm.weight" in base.shapes else "transformer.ln_f.weight"
    values = base.values(untouched, 0, 32)
    assert not adapter.changes(untouched) and adapter.stored(untouched) is None
    assert adapter.delta(untouched, values, 0, 32) is None
    assert torch.equal(adapter.weights(untouched, values, 0, 32), values)


@pytest.mark.parametrize("rank", [1, 3, 4, 5, 8, 13])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (65, 33), (130, 1100)])
def test_the_order_is_fixed(rank: int, shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(rank)
    left = torch.randn(rank, shape[0], generator=generator)
    right = torch.randn(rank, shape[1], generator=generator)
    left[0, 0], right[:, 0] = -0.0, 0.0
    low_rank = LowRank(lambda: (left, right), 0.1, shape)
    wanted = np.zeros(shape, np.float32)
    for k in range(rank):
        wanted = wanted + left[k].numpy()[:, None] * right[k].numpy()[None, :]
    wanted = torch.from_numpy(wanted * np.float32(0.1))
    for made in (low_rank.whole(), low_rank.delta(0, shape[0] * shape[1], torch.empty(0)).view(shape)):
        assert torch.equal(made.view(torch.int32), wanted.view(torch.int32))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 1000])
def test_tree_sum(n: int) -> None:
    values = torch.rand(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    padded = list(values) + [torch.zeros(3, dtype=torch.float64)] * ((1 << (n - 1).bit_length()) - n)
    while len(padded) > 1:
        half = len(padded) // 2
        padded = [padded[i] + padded[half + i] for i in range(half)]
    assert torch.equal(tree_sum(values), padded[0])


def test_numba_is_imported_late() -> None:
    code = "import sys, automerge.merge.sources.lora; sys.exit('numba' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, env=dict(os.environ), check=False).returncode == 0
