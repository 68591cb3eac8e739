"""The vLLM engine: one engine for the whole study, merged into where it stands. vLLM itself runs in a child process.

A recipe whose merge has other tensors, another tokenizer or other generation settings than what is served (a vocabulary
of another size, other layers) has the engine started anew; any other is merged into the running one.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from automerge.config import EngineConfig
from automerge.engine.base import Continuation, Message
from automerge.engine.child import Child
from automerge.engine.dialogue import Dialogue, beyond, check_context, check_dtype
from automerge.engine.share import BINDING
from automerge.engine.structure import structure
from automerge.errors import AutomergeError, EngineError, EngineLost, MergeError
from automerge.merge.checksum import ModelSum, TensorSum
from automerge.merge.models import Models
from automerge.merge.vocabulary.tokenizers import tokenizer_files
from automerge.recipe import Recipe
from automerge.records import Applied, Completion, LogLikelihood, Prompt, Sampling

HOST = "automerge.engine.vllm_host"  # the module that the child process runs
STARTING = 1800.0  # seconds a start may take at least: compiling for a GPU takes minutes
# On a CPU an apply takes and gives back as much memory as the model has. The C library is to keep up to 1 GiB of it for
# the next one, in one heap: asking the kernel for it again would take a quarter of the time.
KEPT = str(1 << 30)
HEAP = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": KEPT, "MALLOC_TRIM_THRESHOLD_": KEPT}


class VllmEngine:
    """See engine.base.Engine. `log` takes what vLLM prints, `tell` lines for the user, `environment` its variables.

    A call beyond `config.timeout` seconds ends the process; the next apply starts another.
    """

    def __init__(
        self,
        models: Models,
        config: EngineConfig,
        log: Path,
        tell: Callable[[str], None] = lambda text: None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Raises EngineError where this vLLM cannot be used, EngineLost where its process dies."""
        self._models = models
        self._config = config
        self._log = log
        self._environment = dict(environment or {})
        self._tell = tell
        self._dtype = config.dtype if config.dtype != "auto" else models.dtype
        self._folders: dict[str, Any] = {}
        self._dialogues: dict[str, Dialogue] = {}
        self._dialogue = self._dialogue_of(str(models.folder_of("base")))
        self._ends: frozenset[int] = frozenset()
        self._served: str | None = None
        self._context = 0
        self._ready = self._closed = False
        self._child: Child | None = None
        self.reports: list[dict[str, Any]] = []  # of the last apply, what each rank told, see vllm_worker
        try:
            self._hello: dict[str, str] = self._process().call("hello", seconds=self._starting)
        except BaseException:
            self._stop()
            raise
        if self._hello["note"]:
            tell(self._hello["note"])

    @property
    def fingerprint(self) -> str:
        hello, config = self._hello, self._config
        arguments = json.dumps(config.arguments, sort_keys=True)
        invariant = ", batch-invariant" if config.deterministic and hello["device"] != "cpu" else ""
        return f"vllm {hello['vllm']}, torch {hello['torch']}, {hello['device']}, {self._dtype}, {arguments}{invariant}"

    def apply(self, recipe: Recipe) -> Applied:
        if self._closed:
            raise EngineError("the engine is closed")
        self._ready = False
        check_dtype(recipe.dtype, self._dtype)
        start = time.perf_counter()
        frame = self._models.frame(recipe)
        self._fit(recipe)
        told = self._call("apply", recipe.to_json())
        not_finite = [name for rank in told for name in rank["not_finite"]]
        if not_finite:
            hint = "Lower the weights, lambda or drop rates, or merge into a wider dtype."
            raise MergeError(f"the merge gives values {recipe.dtype} cannot hold", where=not_finite[0], hint=hint)
        self.reports = told
        checksum = _checksum([rank["sums"] for rank in told])
        settings = self._models.generation_config(recipe) or {}
        self._ends = _ends(settings, frame.config)
        self._ready = True
        return Applied(checksum, time.perf_counter() - start, max(rank["bytes"] for rank in told))

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
        return max(0, self._context - 1)  # of whatever follows: see loglikelihood

    def misfit(self, prompt: Prompt, then: Sampling | Continuation) -> str | None:
        spare = 0 if isinstance(then, Sampling) else 1  # see loglikelihood
        return beyond(prompt, self._dialogue.length(then) + spare, self._context)

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
        self._check(prompts, [sampling.max_tokens] * len(prompts))
        if not prompts:
            return []
        options = {
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stop": list(sampling.stop) or None,
            "stop_token_ids": sorted(self._ends),
            "ignore_eos": True,  # the ends above are the recipe's, whatever the engine was started with
            "detokenize": bool(sampling.stop),
        }
        rows = self._call("generate", [prompt.token_ids for prompt in prompts], options, sampling.seed)
        pad = self._dialogue.pad(self._ends)
        return [
            self._dialogue.completion(prompt.token_ids, row, sampling, self._ends, pad)
            for prompt, row in zip(prompts, rows, strict=True)
        ]

    def loglikelihood(self, prompts: Sequence[Prompt], continuations: Sequence[Continuation]) -> list[LogLikelihood]:
        tails = [self._dialogue.continuation(text) for text in continuations]
        self._check(prompts, [len(tail) + 1 for tail in tails])  # vLLM generates one token, which nobody asked for
        if not prompts:
            return []
        rows = [[*prompt.token_ids, *tail] for prompt, tail in zip(prompts, tails, strict=True)]
        found = self._call("score", rows, [len(tail) for tail in tails])
        return [LogLikelihood(tuple(values), greedy) for values, greedy in found]

    def close(self) -> None:
        self._closed = True
        self._stop()
        for folder in self._folders.values():
            folder.cleanup()
        self._folders = {}

    @property
    def _starting(self) -> float:
        return max(STARTING, self._config.timeout)

    def _process(self) -> Child:
        if self._child is None:
            environment = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
            if not torch.cuda.is_available():
                environment |= {key: value for key, value in HEAP.items() if key not in os.environ}
            environment |= self._environment
            if self._config.deterministic:
                environment["VLLM_BATCH_INVARIANT"] = "1"
            if self._config.arguments.get("enforce_eager"):
                # else vLLM compiles a count that prompt log-probabilities come with, half a minute at the first of them
                environment["TORCHDYNAMO_DISABLE"] = "1"
            ranks = int(self._config.arguments.get("tensor_parallel_size", 1))
            if ranks > 1 and not torch.cuda.is_available() and BINDING not in {**os.environ, **environment}:
                environment[BINDING] = _cores_of_ranks(ranks)
            self._child = Child(HOST, self._log, environment)
        return self._child

    def _call(self, name: str, *arguments: Any) -> Any:
        if self._child is None:
            raise EngineError("no weights are applied: call apply first, and again after one that failed")
        return self._within(self._config.timeout, name, *arguments)

    def _within(self, seconds: float, name: str, *arguments: Any) -> Any:
        try:
            return self._process().call(name, *arguments, seconds=seconds)
        except BaseException as error:
            if name == "apply" or isinstance(error, EngineError) or not isinstance(error, AutomergeError):
                self._stop()  # what it serves, or whether it lives, is not known; after an apply layers are half made
            if isinstance(error, EngineLost):
                self._tell(f"the engine is lost and will be started again: {error.message}")
            raise

    def _stop(self) -> None:
        self._ready = False
        self._served = None
        if self._child is not None:
            self._child.close()
            self._child = None

    def _fit(self, recipe: Recipe) -> None:
        """Has an engine that serves the recipe's tensors and tokenizer. Its weights are the base's, or older."""
        frame = self._models.frame(recipe)
        tokenizer = str(self._models.tokenizer_folder(recipe))
        self._dialogue = self._dialogue_of(tokenizer)
        wanted = json.dumps([structure(frame.shapes, frame.config), tokenizer])
        if self._served == wanted and self._child is not None:
            return
        if self._served is not None:
            self._stop()  # never two models at once
        if wanted not in self._folders:
            self._folders[wanted] = _folder(frame.config, Path(tokenizer), self._dtype)
        models = self._models
        sources = {
            "base": str(models.base.folder),
            "base_name": models.base_ref.name,
            "sources": {name: str(source.folder) for name, source in models.sources.items()},
            "recipe": recipe.to_json(),
            "residency": self._config.residency,
            "bytes": models.full_bytes(),
        }
        arguments = {"seed": 0, **self._config.arguments, "dtype": self._dtype}
        try:
            found = self._within(self._starting, "start", self._folders[wanted].name, arguments, sources)
        except EngineError as error:
            if self._context:  # it has been started before: a study goes on to its next candidate
                raise EngineLost(error.message, where=error.where, hint=error.hint) from error
            raise
        self._context, self._served = found["context"], wanted
        self._tell(
            f"vLLM {self._hello['vllm']} on {self._hello['device']}, {self._dtype}; sources: {found['residency']}"
        )

    def _dialogue_of(self, folder: str) -> Dialogue:
        if folder not in self._dialogues:
            self._dialogues[folder] = Dialogue(folder)
        return self._dialogues[folder]

    def _check(self, prompts: Sequence[Prompt], more: Sequence[int]) -> None:
        if not self._ready:
            raise EngineError("no weights are applied: call apply first, and again after one that failed")
        check_context(prompts, more, self._context)


def _checksum(ranks: Sequence[Sequence[tuple[str, str, list[int], int, int]]]) -> str:
    """The model's checksum of what each rank summed up of each tensor."""
    sums = ModelSum()
    for parts in zip(*ranks, strict=True):
        name, dtype, shape, _, _ = parts[0]
        total = TensorSum(name, getattr(torch, dtype.removeprefix("torch.")), tuple(shape))
        for _, _, _, a, b in parts:
            total.add_sums(a, b)
        sums.add(total)
    return sums.hexdigest()


def _ends(settings: Mapping[str, Any], config: Mapping[str, Any]) -> frozenset[int]:
    """The tokens that end an answer: generation_config.json's, else config.json's."""
    ends = settings.get("eos_token_id", config.get("eos_token_id"))
    return frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])


def _folder(config: Mapping[str, Any], tokenizer: Path, dtype: str) -> "tempfile.TemporaryDirectory[str]":
    """What vLLM reads of a model but its weights."""
    folder = tempfile.TemporaryDirectory(prefix="automerge-")
    known = {key: value for key, value in config.items() if key not in ("auto_map", "torch_dtype")}
    Path(folder.name, "config.json").write_text(json.dumps({**known, "dtype": dtype}), encoding="utf-8")
    for name in tokenizer_files(tokenizer):
        Path(folder.name, name).parent.mkdir(exist_ok=True)
        Path(folder.name, name).symlink_to((tokenizer / name).resolve())
    return folder


def _cores_of_ranks(ranks: int) -> str:
    """This machine's cores shared out, as vLLM's CPU build reads it: by itself it wants a NUMA node a rank."""
    cores = sorted(os.sched_getaffinity(0))
    return "|".join(",".join(map(str, cores[rank::ranks] or cores[:1])) for rank in range(ranks))
