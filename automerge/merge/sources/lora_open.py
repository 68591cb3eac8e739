"""From an adapter's tensors to the changes they make, every name and shape checked against the base.

Where the base ties its embeddings, the head is the embedding: one change of either is a change of both, as in PEFT's
merge. What would untie them, or change them twice, is refused.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from automerge.errors import SourceError
from automerge.merge.embeddings import HEAD, POSITIONS
from automerge.merge.layout import FIRST
from automerge.merge.sources.checkpoint import Checkpoint, SafeFile
from automerge.merge.sources.dora import Dora
from automerge.merge.sources.lora_base import ANOTHER_BASE
from automerge.merge.sources.lora_changes import Added, Change, Saved, SavedRows
from automerge.merge.sources.lora_config import MERGE, LoraConfig, is_transposed
from automerge.merge.sources.lora_names import LoraNames, sort_names
from automerge.merge.sources.lora_spelling import spellings, spelt_as
from automerge.merge.sources.lowrank import LowRank

Shape = tuple[int, ...]
Parts = Mapping[str, str]
ROWS = 4096  # compared at a time
INCOMPLETE = "Was the adapter saved completely?"
ROUTERS = frozenset({"gate", "router", "shared_expert_gate"})  # of experts: in some versions no module that PEFT adapts


@dataclass
class Opener:
    """One adapter being opened over a base's tensors (`shapes`).

    Inside, the tensors have the names that the adapter has for them, for so has PEFT, whose options are about names;
    `stored` gives the base's own.
    """

    config: LoraConfig
    file: SafeFile
    base: Checkpoint
    shapes: Mapping[str, Shape]
    changes: dict[str, Change] = field(default_factory=dict)
    _held: tuple[str, tuple[Tensor, Tensor]] | None = None

    def __post_init__(self) -> None:
        self.where = str(self.file.path)
        self.names = sort_names(self.file.names, self.where)
        self.stored = spelt_as(self.names.tensors, self.shapes)
        self.shapes = {name: self.shapes[tensor] for name, tensor in self.stored.items()}
        tied = HEAD not in self.shapes and self.base.config.get("tie_word_embeddings", HEAD not in self.base.shapes)
        self.tied_to = next(filter(self._is_embedding, self.shapes), None) if tied else None

    def open(self) -> dict[str, Change]:
        """Base tensor → change. Raises SourceError for whatever does not fit."""
        names = self.names
        for one, other in names.seconds:
            if not self._equal(one, other):
                message = f"modules_to_save: {one} and {other} should be the same, but differ"
                raise SourceError(message, where=self.where, hint=INCOMPLETE)
        self._open_saved(names)
        for module, parts in names.parts.items():
            self._open_module(module, parts)
        for tensor, name in names.copies.items():
            self._check_copy(tensor, name)
        self._check_complete(names)
        return {self.stored[name]: change for name, change in self.changes.items()}

    # saved tensors

    def _open_saved(self, names: LoraNames) -> None:
        saved = dict(names.saved)
        if self.tied_to is not None:
            self._tie(saved)
        low_rank = {self._tensor(f"{module}.weight") for module in names.parts}
        for name, stored in saved.items():
            tensor = self._tensor(name)
            if tensor == self.tied_to and tensor in low_rank and not self._is_saved_module(name):
                self._check_copy(name, stored)  # save_embedding_layers: PEFT wraps one side, and copies the other
                continue
            shape = self.file.describe(stored)[1]
            if shape != self.shapes[tensor]:
                self._refuse_shape(tensor, f"its own copy {list(shape)}")
            self._add(tensor, Saved(partial(self.file.mapped, stored), self._read_base(tensor)))

    def _tie(self, saved: dict[str, str]) -> None:
        """Leaves one of two equal copies. Refuses what would have an embedding and a head that differ."""
        both = {name: saved[name] for name in (self.tied_to, HEAD) if name in saved}
        kept = [name for name in both if self._is_saved_module(name)]
        if len(both) == 2:
            if self._equal(*both.values()):
                del saved[HEAD]
                return
            kept = list(both)
        if kept:
            hint = f"Merge into a base whose {HEAD} is its own, or train with ensure_weight_tying."
            message = f"modules_to_save: {' and '.join(kept)} would no longer be tied, as the base's embeddings are"
            raise SourceError(message, where=self.where, hint=hint)

    def _check_complete(self, names: LoraNames) -> None:
        """A module that is saved whole has every tensor in the file."""
        for tensor in self.shapes:
            if tensor not in self.changes and all(map(self._is_saved_module, self._spellings(tensor))):
                message = f"modules_to_save names {tensor.rpartition('.')[0]}, but the file holds no {tensor}"
                raise SourceError(message, where=self.where, hint=INCOMPLETE)
        for embedding in self._without_rows(names):
            message = f"trainable_token_indices lists tokens of {embedding}, but the file holds no rows of it"
            raise SourceError(message, where=self.where, hint=INCOMPLETE)
        for tensor, shape in self.shapes.items():
            module = tensor.removesuffix(".weight")
            if module == tensor or len(shape) != 2 or tensor in self.changes or module.rpartition(".")[2] in ROUTERS:
                continue
            if all(self.config.names_target(name.removesuffix(".weight")) for name in self._spellings(tensor)):
                message = f"target_modules names {module}, but the file holds no factors of it"
                raise SourceError(message, where=self.where, hint=INCOMPLETE)

    def _without_rows(self, names: LoraNames) -> list[str]:
        """What trainable_token_indices names and the file lacks. A tied head may have the embedding's."""
        listed = self.config.values.get("trainable_token_indices") or {}
        named = listed if isinstance(listed, Mapping) else {"": listed}
        there = [module for module, parts in names.parts.items() if "rows" in parts]
        rows = [self.config.token_rows(module) for module in there]
        return [
            name or "the embedding"
            for name, tokens in named.items()
            if not any(module.endswith(name) for module in there) and not (self.tied_to and tokens in rows)
        ]

    def _is_saved_module(self, tensor: str) -> bool:
        parts = tensor.split(".")[:-1]
        modules = [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
        return any(module.endswith(name) for name in self.config.modules_to_save for module in modules)

    def _check_copy(self, name: str, stored: str) -> None:
        """PEFT saves a targeted embedding beside its factors. It is the base's own, or of another base."""
        tensor = self._tensor(name)
        shape = self.file.describe(stored)[1]
        if shape != self.shapes[tensor]:
            self._refuse_shape(tensor, f"a copy {list(shape)}")
        ours, theirs = self.base.mapped(self.stored[tensor]), self.file.mapped(stored)
        for first in range(0, shape[0], ROWS):
            here = slice(first, first + ROWS)
            if not torch.equal(ours[here].to(torch.float32), theirs[here].to(torch.float32)):
                message = f"{tensor}: the adapter's copy of it differs from the base's"
                raise SourceError(message, where=self.where, hint=ANOTHER_BASE)

    # low-rank changes

    def _open_module(self, module: str, parts: Parts) -> None:
        weight = self._tensor(f"{module}.weight")
        if "rows" in parts:
            if len(parts) > 1:
                raise SourceError(f"{weight}: trainable_token_indices and LoRA on one module", where=self.where)
            if self._is_saved_module(weight):
                message = f"{weight}: trainable_token_indices and modules_to_save on one module"
                raise SourceError(message, where=self.where, hint=MERGE)
            self._add(weight, self._rows(module, weight, parts["rows"]))
            return
        self._check_target(module)
        embedding = "embedding A" in parts or "embedding B" in parts
        low_rank = self._low_rank(module, weight, parts, embedding)
        self._add(weight, self._with_magnitude(low_rank, module, weight, parts, embedding))
        if "bias" in parts:
            bias = f"{module}.bias"
            if not self.config.values.get("lora_bias") or bias not in self.shapes:
                what = "which the base does not have" if bias not in self.shapes else "but lora_bias is not set"
                raise SourceError(f"the adapter changes {bias}, {what}", where=self.where, hint=ANOTHER_BASE)
            shape = self.file.describe(parts["bias"])[1]
            if shape != self.shapes[bias]:
                self._refuse_shape(bias, f"lora_B.bias {list(shape)}")
            self._add(bias, Added(self._read(parts["bias"]), self.config.scale(module)))

    def _check_target(self, module: str) -> None:
        # with ensure_weight_tying PEFT takes a tied head out of target_modules, yet saves its factors
        tied = bool(self.config.values.get("ensure_weight_tying")) and f"{module}.weight" not in self.shapes
        if not tied and not self.config.is_target(module):
            options = "target_modules, layers_to_transform and exclude_modules"
            message = f"the file holds factors of {module}, which {options} leave out"
            hint = "PEFT would ignore them. Take them out, or correct the config."
            if not self.config.values.get("target_modules"):
                hint = "PEFT would choose modules by the kind of model. Name those of the file in target_modules."
            raise SourceError(message, where=self.where, hint=hint)
        if "experts" not in module.split("."):
            return
        for option in ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern"):
            if self.config.values.get(option):
                hint = (
                    "PEFT fuses the experts, and would scale or rank them otherwise than in training. Train without it."
                )
                raise SourceError(f"{module}: {option} is not supported on experts", where=self.where, hint=hint)

    def _low_rank(self, module: str, weight: str, parts: Parts, embedding: bool) -> LowRank:
        sides = ("embedding A", "embedding B") if embedding else ("A", "B")
        if not all(side in parts for side in sides):
            names = "lora_embedding_A and lora_embedding_B" if embedding else "lora_A and lora_B"
            raise SourceError(f"{weight}: {names} must both be there", where=self.where)
        a, b = (parts[side] for side in sides)
        shape = self.shapes[weight]
        rank = self.config.rank(module)
        turned = embedding or is_transposed(module, self.base.config)
        if len(shape) != 2:
            message = f"{weight}: LoRA on a weight of shape {list(shape)}, as of a convolution, is not supported"
            raise SourceError(message, where=self.where, hint=MERGE)
        inputs, outputs = shape if turned else (shape[1], shape[0])
        found = [self.file.describe(name)[1] for name in (a, b)]
        if found != [(rank, inputs), (outputs, rank)]:
            self._refuse_shape(weight, f"r={rank}, A {list(found[0])}, B {list(found[1])}")
        return LowRank(partial(self._factors, a, b, turned), self.config.scale(module), (shape[0], shape[1]))

    def _with_magnitude(self, low_rank: LowRank, module: str, weight: str, parts: Parts, embedding: bool) -> Change:
        name = parts.get("magnitude")
        if self.config.dora != (name is not None):
            what = "use_dora is set, but there is no" if self.config.dora else "use_dora is not set, but there is a"
            raise SourceError(f"{weight}: {what} lora_magnitude_vector", where=self.where)
        if name is None:
            return low_rank
        by_column = embedding or is_transposed(module, self.base.config)
        shape = self.file.describe(name)[1]
        if shape != (low_rank.shape[1 if by_column else 0],):
            self._refuse_shape(weight, f"lora_magnitude_vector {list(shape)}")
        return Dora(low_rank, self._read(name), self._read_base(weight), by_column)

    def _rows(self, module: str, weight: str, name: str) -> SavedRows:
        rows = self.config.token_rows(module)
        shape = self.shapes[weight]
        found = self.file.describe(name)[1]
        if len(shape) != 2 or found != (len(rows), shape[1]) or max(rows, default=0) >= shape[0]:
            self._refuse_shape(weight, f"trainable_token_indices up to {max(rows, default=0)}, rows {list(found)}")
        places = sorted(range(len(rows)), key=rows.__getitem__)
        ordered = tuple(rows[place] for place in places)
        size = (shape[0], shape[1])
        return SavedRows(ordered, tuple(places), self._read(name), self._read_base(weight), size)

    # names and values

    def _equal(self, one: str, other: str) -> bool:
        """Whether two tensors of the file are the same, to the bit."""
        alike = self.file.describe(one) == self.file.describe(other)
        return alike and torch.equal(self.file.mapped(one), self.file.mapped(other))

    def _tensor(self, name: str) -> str:
        """The base's tensor of that name; the embedding for a tied head. Raises SourceError where there is none."""
        if name in self.shapes:
            return name
        if name == HEAD and self.tied_to is not None:
            return self.tied_to
        message = f"the adapter changes {name}, which the base does not have"
        raise SourceError(message, where=self.where, hint=ANOTHER_BASE)

    def _spellings(self, name: str) -> set[str]:
        """What PEFT may have known a tensor by: where the file does not tell, an option has to mean all of them."""
        return {name} if name != self.stored[name] else spellings(name)

    def _add(self, tensor: str, change: Change) -> None:
        known = self.changes.get(tensor)
        if isinstance(known, SavedRows) and isinstance(change, SavedRows):  # of a tied embedding, and of its head
            joined = known.joined(change)
            if joined is None:
                message = f"trainable_token_indices: {tensor} and its tied {HEAD} have different values for one token"
                hint = "Train with ensure_weight_tying, or other tokens of each."
                raise SourceError(message, where=self.where, hint=hint)
            self.changes[tensor] = joined
            return
        if known is not None:
            hint = "PEFT's merge adds both, which is not what was trained."
            if tensor == self.tied_to:
                hint = f"The base ties its embeddings: target {tensor} or {HEAD}, not both. {hint}"
            raise SourceError(f"the adapter changes {tensor} twice", where=self.where, hint=hint)
        self.changes[tensor] = change

    def _is_embedding(self, tensor: str) -> bool:
        return len(self.shapes[tensor]) == 2 and bool(set(tensor.split(".")) & (FIRST - POSITIONS))

    def _refuse_shape(self, tensor: str, found: str) -> None:
        message = f"{tensor}: the base has shape {list(self.shapes[tensor])}, the adapter {found}"
        raise SourceError(message, where=self.where, hint=ANOTHER_BASE)

    def _factors(self, a: str, b: str, turned: bool) -> tuple[Tensor, Tensor]:
        """Of δ = Lᵀ R: Bᵀ and A, or A and Bᵀ where the weight is kept transposed. The last ones are held, for a
        tensor's runs follow on each other."""
        held = self._held
        if held is None or held[0] != a:
            first, second = self._read(a)(), self._read(b)().t().contiguous()
            held = self._held = (a, (first, second) if turned else (second, first))
        return held[1]

    def _read(self, name: str) -> Callable[[], Tensor]:
        return lambda: self.file.mapped(name).to(torch.float32)

    def _read_base(self, tensor: str) -> Callable[[int, int], Tensor]:
        return partial(self.base.values, self.stored[tensor])
