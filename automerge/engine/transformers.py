"""The transformers engine: one Hugging Face model on the CPU or one GPU, merged into its own parameters.

Prompts are batched by length under a bound on padded tokens. Which prompts share a batch depends only on the call's
arguments, so the same call gives the same answers. It knows no skill and no study.
"""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from automerge.config import EngineConfig
from automerge.engine.base import Continuation, Message
from automerge.engine.dialogue import Dialogue, beyond, check_context, check_dtype
from automerge.engine.experts import storage_of
from automerge.engine.structure import structure
from automerge.errors import EngineError
from automerge.merge.frame import Frame
from automerge.merge.models import Models
from automerge.merge.stream import Merge
from automerge.recipe import Recipe
from automerge.records import Applied, Completion, LogLikelihood, Prompt, Sampling

LOGIT_BYTES = 256 * 2**20  # bound on the float32 logits held at once


class TransformersEngine:
    """See engine.base.Engine. On a CPU `dtype: auto` computes in float32: the merged values are exact in it.

    A recipe whose merge has other tensors than what is served (a vocabulary of another size, a head of its own, another
    number of layers) has the module built anew.
    """

    def __init__(self, models: Models, config: EngineConfig) -> None:
        self._models = models
        self._device = torch.device(_device(config.device))
        dtype = self._dtype = _dtype(config.dtype, models.dtype, self._device)
        folder = str(models.folder_of("base"))
        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        self._closed = False
        self._model = _model(folder, dtype).to(self._device)
        self._model.eval()
        self._parameters = _parameters(self._model, models.tensor_names, folder)
        self._served: str | None = structure(models.shapes, models.config)
        self._dialogues = {folder: Dialogue(folder)}
        self._dialogue = self._dialogues[folder]
        self._batch_tokens = config.batch_tokens
        self._context = int(getattr(self._model.config, "max_position_embeddings", 2**31))
        self._ready = False
        self._base_ends = self._ends
        self._fingerprint = (
            f"transformers {transformers.__version__}, torch {torch.__version__}, {self._device.type}, "
            f"{str(dtype).removeprefix('torch.')}, batch {self._batch_tokens}"
        )

    @property
    def fingerprint(self) -> str:
        if self._model is None or self._ends == self._base_ends:
            return self._fingerprint
        return f"{self._fingerprint}, ends {', '.join(map(str, sorted(self._ends)))}"  # of another tokenizer

    def apply(self, recipe: Recipe) -> Applied:
        if self._closed:
            raise EngineError("the engine is closed")
        self._ready = False
        check_dtype(recipe.dtype, str(self._dtype).removeprefix("torch."))
        start, written = time.perf_counter(), 0
        merge = Merge(recipe, self._models)
        self._fit(merge.frame)
        with torch.no_grad():
            for name, tensor in merge.tensors():
                self._parameters[name].copy_(tensor)
                written += tensor.nbytes
        self._speak(recipe, merge.frame)
        self._ready = True
        return Applied(merge.checksum, time.perf_counter() - start, written)

    def render(self, messages: Sequence[Message]) -> Prompt:
        return self._dialogue.render(messages)

    def encode(self, text: str) -> Prompt:
        return self._dialogue.encode(text)

    def tokens(self, text: str) -> tuple[int, ...]:
        return self._dialogue.tokens(text)

    @property
    def prefix_token(self) -> int:
        return self._dialogue.prefix_token

    @property
    def context(self) -> int:
        return self._context

    def misfit(self, prompt: Prompt, then: Sampling | Continuation) -> str | None:
        return beyond(prompt, self._dialogue.length(then), self._context)

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
        self._check(prompts, [sampling.max_tokens] * len(prompts))
        lengths = [len(p.token_ids) + sampling.max_tokens for p in prompts]
        # A sampled answer must not depend on its neighbours: one prompt a batch, seeded alone.
        batches = [[i] for i in range(len(prompts))] if sampling.temperature > 0 else self._batches(lengths)
        found: dict[int, Completion] = {}
        for batch in batches:
            answers = self._generate_batch([prompts[i] for i in batch], sampling)
            found.update(zip(batch, answers, strict=True))
        return [found[i] for i in range(len(prompts))]

    def loglikelihood(self, prompts: Sequence[Prompt], continuations: Sequence[Continuation]) -> list[LogLikelihood]:
        tails = [self._dialogue.continuation(text) for text in continuations]
        self._check(prompts, [len(tail) for tail in tails])
        rows = [[*p.token_ids, *tail] for p, tail in zip(prompts, tails, strict=True)]
        found: dict[int, LogLikelihood] = {}
        for batch in self._batches([len(row) for row in rows]):
            scored = self._score_batch([rows[i] for i in batch], [len(tails[i]) for i in batch])
            found.update(zip(batch, scored, strict=True))
        return [found[i] for i in range(len(rows))]

    def close(self) -> None:
        self._ready = False
        self._closed = True
        self._parameters = {}
        self._model = None

    def _fit(self, frame: Frame) -> None:
        """Has a module whose parameters are the frame's tensors. Their values are not set."""
        wanted = structure(frame.shapes, frame.config)
        if self._served != wanted:
            self._parameters, self._model, self._served = {}, None, None  # never two models at once
            self._model = _model_of(frame.config, self._dtype, self._device).eval()
            self._parameters = _parameters(self._model, frame.names, str(self._models.folder_of("base")))
            self._served = wanted

    def _speak(self, recipe: Recipe, frame: Frame) -> None:
        """Takes the merge's tokenizer and special tokens."""
        folder = str(self._models.tokenizer_folder(recipe))
        if folder not in self._dialogues:
            self._dialogues[folder] = Dialogue(folder)
        self._dialogue = self._dialogues[folder]
        for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
            if key in frame.config:
                setattr(self._model.config, key, frame.config[key])
        settings = self._models.generation_config(recipe)
        made = GenerationConfig.from_model_config(self._model.config)
        self._model.generation_config = made if settings is None else GenerationConfig.from_dict(settings)

    def _check(self, prompts: Sequence[Prompt], more: Sequence[int]) -> None:
        """`more`: the tokens that follow each prompt."""
        if not self._ready:
            raise EngineError("no weights are applied: call apply first, and again after one that failed")
        check_context(prompts, more, self._context)

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Indices by falling length, each batch at most `batch_tokens` padded tokens (one row at least)."""
        order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
        while order:
            rows = max(1, self._batch_tokens // lengths[order[0]])
            yield order[:rows]
            order = order[rows:]

    def _generate_batch(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
        ids, mask = self._left_padded([list(p.token_ids) for p in prompts])
        arguments: dict[str, object] = {"max_new_tokens": sampling.max_tokens, "pad_token_id": self._pad}
        if sampling.temperature > 0:
            arguments |= {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        else:
            arguments |= {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if sampling.stop:
            stops = _Stops(self._dialogue.tokenizer, sampling.stop, after=ids.shape[1])
            arguments |= {"stopping_criteria": transformers.StoppingCriteriaList([stops])}
        with torch.inference_mode(), torch.random.fork_rng(enabled=sampling.temperature > 0):
            if sampling.temperature > 0:
                torch.manual_seed(sampling.seed)
            out = self._model.generate(input_ids=ids, attention_mask=mask, **arguments)
        rows = out[:, ids.shape[1] :].tolist()
        return [
            self._dialogue.completion(prompt.token_ids, row, sampling, self._ends, self._pad)
            for prompt, row in zip(prompts, rows, strict=True)
        ]

    def _score_batch(self, rows: Sequence[list[int]], tails: Sequence[int]) -> list[LogLikelihood]:
        """log p(token) for the last tails[i] tokens of rows[i]; logits are kept for the longest tail only."""
        most = max(1, LOGIT_BYTES // (4 * (max(tails) + 1) * int(self._model.config.vocab_size)))
        found = []
        for start in range(0, len(rows), most):
            part = rows[start : start + most]
            keep = max(tails[start : start + most]) + 1
            ids, mask = self._left_padded(part)
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            with torch.inference_mode():
                logits = self._model(
                    input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=keep, use_cache=False
                ).logits.float()
                targets = ids[:, -(keep - 1) :]
                picked = logits[:, :-1].gather(2, targets[..., None])[..., 0] - logits[:, :-1].logsumexp(2)
                likeliest = logits[:, :-1].argmax(2) == targets
            for values, first, tail in zip(
                picked.tolist(), likeliest.tolist(), tails[start : start + most], strict=True
            ):
                begin = len(values) - tail
                found.append(LogLikelihood(tuple(values[begin:]), all(first[begin:])))
        return found

    def _left_padded(self, rows: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(len(row) for row in rows)
        ids = [[self._pad] * (longest - len(row)) + row for row in rows]
        mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
        return torch.tensor(ids, device=self._device), torch.tensor(mask, device=self._device)

    @property
    def _ends(self) -> frozenset[int]:
        ends = self._model.generation_config.eos_token_id
        return frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])

    @property
    def _pad(self) -> int:
        return self._dialogue.pad(self._ends)


class _Stops(transformers.StoppingCriteria):  # type: ignore[misc]
    """Ends a row once its answer holds a stop string. (transformers' own also matches across the prompt's end.)"""

    def __init__(self, tokenizer: "transformers.PreTrainedTokenizerBase", stops: Sequence[str], after: int) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self._after = after
        self._tail = 4 * max(map(len, stops)) + 4  # tokens looked at: a character takes at most four byte tokens

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object) -> torch.Tensor:
        tails = input_ids[:, self._after :][:, -self._tail :].tolist()
        texts = [self._tokenizer.decode(tail, skip_special_tokens=True) for tail in tails]
        return torch.tensor([any(stop in text for stop in self._stops) for text in texts], device=input_ids.device)


def _device(asked: str) -> str:
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=asked)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise EngineError(f"device {asked!r} cannot be used: {reason}", where="engine.device") from error
    return asked


def _dtype(asked: str, stored: str, device: torch.device) -> torch.dtype:
    name = asked if asked != "auto" else "float32" if device.type == "cpu" else stored
    found = getattr(torch, name)
    assert isinstance(found, torch.dtype)
    return found


def _model(folder: str, dtype: torch.dtype) -> "transformers.PreTrainedModel":
    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises of every kind; the reason is in the first line
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EngineError(f"the model cannot be loaded: {reason}", where=folder) from error


def _model_of(config: Mapping[str, Any], dtype: torch.dtype, device: torch.device) -> "transformers.PreTrainedModel":
    """A module of the config, its parameters random."""
    try:
        with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]), device:
            Path(folder, "config.json").write_text(json.dumps(dict(config)), encoding="utf-8")
            settings = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            return AutoModelForCausalLM.from_config(settings, dtype=dtype, trust_remote_code=False)
    except Exception as error:  # as in _model
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EngineError(f"no model can be made of the merge's config: {reason}") from error


def _parameters(model: "transformers.PreTrainedModel", names: Sequence[str], where: str) -> dict[str, torch.Tensor]:
    """Checkpoint tensor name → the module's own storage. Raises EngineError where the two do not agree."""
    held = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    found = {name: storage_of(name, held) for name in names}
    missing = [name for name, storage in found.items() if storage is None]
    if missing:
        raise EngineError(
            f"the model has no parameter for {len(missing)} tensors of the checkpoint, the first: {missing[0]}",
            where=where,
        )
    places: dict[str, torch.Tensor] = {}
    covered: Counter[int] = Counter()  # elements, by the parameter's address: tied ones have one
    for name, storage in found.items():
        assert storage is not None
        whole, places[name] = storage
        covered[whole.data_ptr()] += places[name].numel()
    left = [name for name, value in model.named_parameters() if covered[value.data_ptr()] < value.numel()]
    if left:
        raise EngineError(
            f"the checkpoint lacks {len(left)} parameters of the model, the first: {left[0]}",
            where=where,
        )
    return places
