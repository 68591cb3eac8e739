"""Models in memory: SmolLM2's shapes with random weights, or checkpoints read once; and their recipes."""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from automerge.merge import Merge, Models, get_method
from automerge.merge.layout import count_layers, in_order
from automerge.merge.sources.source import CPU
from automerge.recipe import Group, ModelRef, Recipe, Setting, make_recipe

Tensors = Mapping[str, Tensor]
STD = 0.02
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "dtype": "bfloat16",
}


@dataclass(frozen=True)
class Size:
    """SmolLM2-135M's by default: 272 tensors of 134.5 million elements."""

    layers: int = 30
    width: int = 576
    keys: int = 192
    feed_forward: int = 1536
    words: int = 49152
    head: int = 64
    tied: bool = True

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensor name → shape."""
        found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.words, self.width)}
        for layer in range(self.layers):
            part = f"model.layers.{layer}"
            found[f"{part}.self_attn.q_proj.weight"] = (self.width, self.width)
            found[f"{part}.self_attn.k_proj.weight"] = (self.keys, self.width)
            found[f"{part}.self_attn.v_proj.weight"] = (self.keys, self.width)
            found[f"{part}.self_attn.o_proj.weight"] = (self.width, self.width)
            found[f"{part}.mlp.gate_proj.weight"] = (self.feed_forward, self.width)
            found[f"{part}.mlp.up_proj.weight"] = (self.feed_forward, self.width)
            found[f"{part}.mlp.down_proj.weight"] = (self.width, self.feed_forward)
            found[f"{part}.input_layernorm.weight"] = (self.width,)
            found[f"{part}.post_attention_layernorm.weight"] = (self.width,)
        found["model.norm.weight"] = (self.width,)
        return found if self.tied else found | {"lm_head.weight": (self.words, self.width)}

    def config(self) -> dict[str, Any]:
        """config.json."""
        heads = {"num_attention_heads": self.width // self.head, "num_key_value_heads": self.keys // self.head}
        heads |= {"head_dim": self.head, "tie_word_embeddings": self.tied}
        sizes = {"hidden_size": self.width, "intermediate_size": self.feed_forward, "vocab_size": self.words}
        return CONFIG | heads | sizes | {"num_hidden_layers": self.layers}


SMOLLM2 = Size()
MISTRAL_7B = Size(layers=32, width=4096, keys=1024, feed_forward=14336, words=32000, head=128, tied=False)
SMALL = Size(layers=2, width=128, keys=64, feed_forward=256, words=1024)


@dataclass(frozen=True)
class MemoryModel:
    """A Source (merge/sources/source.py) whose tensors are in memory."""

    tensors: Tensors
    folder: Path = Path("no-such-folder")
    config: dict[str, Any] = field(default_factory=dict)

    def changes(self, tensor: str) -> bool:
        """As of any full model."""
        return True

    def stored(self, tensor: str) -> Tensor:
        """See Source."""
        return self.tensors[tensor]

    def whole_delta(self, tensor: str, device: torch.device = CPU) -> Tensor:
        """Never needed."""
        raise NotImplementedError


def random_models(size: Size, sources: int) -> list[dict[str, Tensor]]:
    """A base of std 0.02, and sources that differ from it by 0.02 of that; bf16, all elements changed."""
    random = torch.Generator().manual_seed(0)
    base = {name: torch.randn(shape, generator=random) * STD for name, shape in size.shapes().items()}
    made = [{name: values.bfloat16() for name, values in base.items()}]
    for _ in range(sources):
        made.append({n: (v + STD * STD * torch.randn(v.shape, generator=random)).bfloat16() for n, v in base.items()})
    return made


def read_models(folders: Iterable[Path]) -> list[dict[str, Tensor]]:
    """Checkpoints in one file each, in memory of the process's own."""
    found = [load_file(folder / "model.safetensors") for folder in folders]
    return [{name: values.clone() for name, values in tensors.items()} for tensors in found]


def write_models(root: Path, size: Size, sources: int) -> list[Path]:
    """Random checkpoints under `root`."""
    made = []
    for number, tensors in enumerate(random_models(size, sources)):
        made.append(root / ("base" if not number else f"source{number}"))
        made[-1].mkdir()
        save_file(tensors, made[-1] / "model.safetensors", metadata={"format": "pt"})
        (made[-1] / "config.json").write_text(json.dumps(size.config()), encoding="utf-8")
    return made


def own_copies(root: Path, folders: Iterable[Path]) -> list[Path]:
    """The checkpoints copied under `root`, so that they are in the page cache and nobody else's."""
    return [Path(shutil.copytree(folder, root / f"model{n}")) for n, folder in enumerate(folders)]


def opened(base: Tensors, sources: Iterable[Tensors]) -> Models:
    """Models of tensors in memory. A new one has no measurements kept from merges before."""
    named = {f"source{number}": tensors for number, tensors in enumerate(sources)}
    shapes = {name: tuple(values.shape) for name, values in base.items()}
    return Models(
        base=MemoryModel(base),  # type: ignore[arg-type]  # a Source is all that a merge asks for
        sources={name: MemoryModel(tensors) for name, tensors in named.items()},
        base_ref=ModelRef("base", "", "0" * 64),
        source_refs=tuple(ModelRef(name, "", f"{number + 1:064d}") for number, name in enumerate(named)),
        tensor_names=tuple(in_order(shapes)),
        shapes=shapes,
        n_layers=count_layers(shapes),
    )


def recipe_of(models: Models, method: str, *, part: float = 0.5, dialect: str = "", seed: int = 0) -> Recipe:
    """Weights that differ and add up to 1; `part` is the drop rate, or the density."""
    names = list(models.sources)
    total = sum(range(1, len(names) + 1))
    weights = {name: (number + 1) / total for number, name in enumerate(names)}
    values: dict[str, Any] = {"weight": weights}
    known = {parameter.name for parameter in get_method(method).parameters}
    values |= {name: dict.fromkeys(names, part) for name in ("drop", "density") if name in known}
    options: dict[str, Setting] = {"dialect": dialect} if dialect else {}
    return make_recipe(
        method=method,
        base=models.base_ref,
        sources=models.source_refs,
        groups=(Group((0, models.n_layers), "all", values),),
        options=options,
        dtype="bfloat16",
        seed=seed,
    )


def run(merge: Merge) -> None:
    """The whole pass: planning, memory for the output, the kernel, the checksum. Tensors are dropped as they come."""
    for _ in merge.tensors():
        pass
    assert merge.checksum


def at_new_densities(models: Models, method: str) -> Callable[[], None]:
    """Merges with another density each time it is called."""
    steps = count()

    def renew() -> None:
        part = 0.3 + 0.4 * (0.618034 * next(steps) % 1.0)  # never the same, and far from the last
        run(Merge(recipe_of(models, method, part=part), models))

    return renew


def at_first(base: Tensors, sources: Iterable[Tensors], method: str) -> Callable[[], None]:
    """Merges models that nothing is known of."""

    def first() -> None:
        new = opened(base, sources)
        run(Merge(recipe_of(new, method), new))

    return first
