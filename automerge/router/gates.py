"""Router rows: for every layer and expert the direction of what its prompts look like to the base.

    hidden       the state that enters the layer at a prompt's last token, mean over prompts, minus that of the negative
                 prompts; scaled to length 1
    cheap_embed  the sum of the prompts' token embeddings, scaled to length 1; minus the same of the negative prompts;
                 scaled again; the same in every layer
    random       standard normal numbers, from the seed
Source: mergekit-moe's documentation and what it computes (arcee-ai/mergekit). A prompt follows the tokenizer's
beginning-of-text token, where it has one, and no other special token. The base computes in fp32, mergekit's in bf16; a
layer's weights are there while it computes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from automerge.errors import MergeError, SourceError
from automerge.merge.layout import place_of
from automerge.merge.vocabulary.tokenizers import has_tokenizer
from automerge.router.part import Part

RANDOM = "random"  # the mode that reads no prompts
Tell = Callable[[int, int], None]
BATCH_TOKENS = 8192  # padding among them, that go through the base at a time


@dataclass(frozen=True)
class Wanted:
    """What one router row is made of."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]


def gates(base: Part, wanted: Sequence[Wanted], mode: str, seed: int, tell: Tell = lambda done, total: None) -> Tensor:
    """fp32 [layers, len(wanted), hidden size]. `tell` is given (prompts read, in all). Raises SourceError where the
    base's tokenizer cannot be read, MergeError where a prompt has no tokens or a row is not finite."""
    layers, width = base.models.n_layers, int(base.models.config["hidden_size"])
    if mode == RANDOM:
        return torch.randn(layers, len(wanted), width, generator=torch.Generator().manual_seed(seed))
    tokens = _Tokens(base)
    if mode == "cheap_embed":
        embedding = base.merge("float32").merge_tensor("model.embed_tokens.weight")
        rows = torch.stack([_embedded(tokens, embedding, one) for one in wanted])
        found = rows.expand(layers, *rows.shape).contiguous()
    else:
        found = _hidden(base, tokens, wanted, tell)
    if not bool(torch.isfinite(found).all()):
        raise MergeError("the router's rows are not finite", where=base.given)
    return found


def check_speaks(base: Part, mode: str) -> None:
    """Raises SourceError where the mode reads prompts, and the base has no tokenizer to read them with."""
    folder = base.models.tokenizer_folder(base.recipe)
    if mode != RANDOM and not has_tokenizer(folder):
        hint = f"Put its tokenizer.json there, or set gate_mode to {RANDOM}, which reads no prompts."
        raise SourceError(
            f"gate_mode {mode} reads prompts, but the base has no tokenizer", where=str(folder), hint=hint
        )


def closeness(rows: Tensor) -> float:
    """The largest cosine between two experts' rows, mean over layers: near 1, no token tells them apart. 0 for one."""
    unit = normalize(rows, dim=-1)
    cosines = unit @ unit.transpose(1, 2)
    cosines.diagonal(dim1=1, dim2=2).fill_(-1.0)
    return float(cosines.amax(dim=(1, 2)).mean()) if rows.shape[1] > 1 else 0.0


class _Tokens:
    def __init__(self, base: Part) -> None:
        from transformers import AutoTokenizer  # seconds to import

        self._where = base.given
        folder = str(base.models.tokenizer_folder(base.recipe))
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # whatever a converter lacks: a library, a file, a known class
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            hint = "Save it anew with a tokenizer.json."
            raise SourceError(f"transformers cannot read the tokenizer: {reason}", where=folder, hint=hint) from error
        self._bos = self._tokenizer.bos_token or ""

    def of(self, prompt: str) -> list[int]:
        ids: list[int] = self._tokenizer(self._bos + prompt, add_special_tokens=False)["input_ids"]
        if not ids:
            raise MergeError(f"the prompt {prompt!r} has no tokens", where=self._where)
        return ids


def _embedded(tokens: _Tokens, embedding: Tensor, wanted: Wanted) -> Tensor:
    def direction(prompts: Sequence[str]) -> Tensor:
        return normalize(sum((embedding[tokens.of(text)].sum(dim=0) for text in prompts), torch.tensor(0.0)), dim=0)

    found = direction(wanted.positive)
    if wanted.negative:
        found = found - direction(wanted.negative)
    return normalize(found, dim=0)


@torch.no_grad()
def _hidden(base: Part, tokens: _Tokens, wanted: Sequence[Wanted], tell: Tell) -> Tensor:
    module = _module(base)
    prompts = sorted({text for one in wanted for text in (*one.positive, *one.negative)})
    ids = {text: tokens.of(text) for text in prompts}
    states: dict[str, Tensor] = {}
    for batch in _batches(sorted(prompts, key=lambda text: len(ids[text])), ids):
        states.update(zip(batch, _last_states(module, [ids[text] for text in batch]), strict=True))
        tell(len(states), len(prompts))

    def mean(texts: Sequence[str]) -> Tensor:
        return torch.stack([states[text] for text in texts]).mean(dim=0)

    rows = []
    for one in wanted:
        found = mean(one.positive)
        rows.append(normalize(found - mean(one.negative) if one.negative else found, dim=-1))
    return torch.stack(rows, dim=1)


def _batches(prompts: Sequence[str], ids: Mapping[str, list[int]]) -> Iterator[list[str]]:
    """Runs of prompts, given by length, that stay under BATCH_TOKENS."""
    batch: list[str] = []
    for text in prompts:
        if batch and len(ids[text]) * (len(batch) + 1) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(text)
    yield batch


def _last_states(module: Any, rows: Sequence[Sequence[int]]) -> list[Tensor]:
    """Of each prompt, fp32 [layers, hidden size]: what enters each layer at its last token. Padded on the left."""
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    places = (mask.cumsum(dim=1) - 1).clamp(min=0)
    found = module(
        input_ids=ids, attention_mask=mask, position_ids=places, output_hidden_states=True, use_cache=False
    ).hidden_states[:-1]
    return list(torch.stack([state[:, -1].float() for state in found], dim=1))


def _module(base: Part) -> Any:
    """The base's decoder without its head, in fp32, a layer's weights made when it is called and freed after it."""
    from transformers import AutoConfig, AutoModel

    merge = base.merge("float32")
    config = AutoConfig.for_model(**base.models.frame(base.recipe).config)
    with torch.device("meta"):
        module = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False).eval()
    module.rotary_emb = type(module.rotary_emb)(config)  # its buffers are in no file

    def fill(part: torch.nn.Module, prefix: str) -> None:
        state = {name: base.tensor(merge, f"model.{prefix}{name}") for name, _ in part.named_parameters()}
        part.load_state_dict(state, assign=True)

    def around(layer: torch.nn.Module, prefix: str) -> None:
        layer.register_forward_pre_hook(lambda *_: fill(layer, prefix))
        layer.register_forward_hook(lambda *_: layer.to("meta") and None)

    for number, layer in enumerate(module.layers):
        around(layer, f"layers.{number}.")
    fill(module.embed_tokens, "embed_tokens.")
    fill(module.norm, "norm.")
    assert all(place_of(f"model.{name}").layer is not None or not p.is_meta for name, p in module.named_parameters())
    return module
