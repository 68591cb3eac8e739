"""adapter_config.json of a PEFT LoRA adapter: every option read, known to be harmless, or refused by its name.

It knows names, ranks and scales, never a tensor. Papers: LoRA arXiv:2106.09685 (scale α/r), rank-stabilised LoRA
arXiv:2312.03732 (α/√r). An option this file does not know is refused wherever it is set to anything.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automerge.errors import SourceError
from automerge.merge.embeddings import HEADS, INPUTS, POSITIONS
from automerge.merge.sources.expressions import check_expression, match
from automerge.merge.sources.folder import ADAPTER_CONFIG, read_json

# read here or in lora.py
READ = frozenset(
    {"peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "use_dora", "lora_bias", "bias"}
    | {"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"}
    | {"modules_to_save", "trainable_token_indices", "init_lora_weights", "base_model_name_or_path"}
)
# Without effect on merged weights. fan_in_fan_out: what a layer is, not the option, says how PEFT lays it out (see
# is_transposed). The *_config of an initialisation act only together with init_lora_weights, which is checked. What
# ensure_weight_tying brings about is seen in the tensors.
HARMLESS = frozenset(
    {"task_type", "revision", "peft_version", "auto_mapping", "inference_mode", "runtime_config", "lora_dropout"}
    | {"fan_in_fan_out", "ensure_weight_tying", "megatron_core", "qalora_group_size"}
    | {"eva_config", "corda_config", "lora_ga_config", "loftq_config"}
)
# begin at a delta of zero and leave the base as it is
PLAIN_INITS = ("gaussian", "orthogonal", "eva", "mica")
# how PEFT sets its options' expressions among others
NAMED = r"(.*\.)?({})$"
IN_LAYERS = r"(?:^|.*?\.){}\.(?P<layer>\d+)\."
CONV1D_MODELS = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp"})
CONV1D_LAYERS = frozenset({"c_attn", "c_proj", "c_fc", "q_attn"})

MERGE = "Merge the adapter into its base with PEFT (merge_and_unload), and name that folder instead."
CONVERT = (
    "It changed the base when training began. Save it anew as a plain LoRA adapter: PEFT's save_pretrained with "
    "path_initial_model_for_weight_conversion."
)
UNMERGEABLE = "It acts on some tokens or prompts only: no single set of weights is equal to it, in PEFT neither."
REFUSED: Mapping[str, str] = {
    "target_parameters": MERGE,
    "use_bdlora": MERGE,
    "velora_config": MERGE,
    "monteclora_config": MERGE,
    "kasa_config": "It changes the base when training begins. " + MERGE,
    "use_qalora": "It is meant for a GPTQ base, which cannot be merged; train a plain LoRA adapter.",
    "layer_replication": "The model it makes has more layers than the base, so it cannot be merged, in PEFT neither.",
    "megatron_config": "Convert the adapter for transformers' own layers first.",
    "alora_invocation_tokens": UNMERGEABLE,
    "arrow_config": UNMERGEABLE,
}


@dataclass(frozen=True)
class LoraConfig:
    """The options that matter, and where they were read."""

    values: Mapping[str, Any]
    where: str

    @property
    def dora(self) -> bool:
        """Whether the targets' rows are rescaled, as in DoRA."""
        return bool(self.values.get("use_dora"))

    @property
    def modules_to_save(self) -> tuple[str, ...]:
        """Endings of the names of modules that are saved whole."""
        return tuple(self.values.get("modules_to_save") or ())

    def rank(self, module: str) -> int:
        """r of a target, by rank_pattern or the one for all."""
        return int(self._by_pattern("rank_pattern", module, self.values["r"]))

    def scale(self, module: str) -> float:
        """s of a target: α/r, or α/√r with use_rslora. float64."""
        alpha = float(self._by_pattern("alpha_pattern", module, self.values["lora_alpha"]))
        rank = self.rank(module)
        return alpha / math.sqrt(rank) if self.values.get("use_rslora") else alpha / rank

    def is_target(self, module: str) -> bool:
        """Whether PEFT would give this module its adapter. False without target_modules, where it has a choice of its
        own for some kinds of models."""
        if self.values.get("exclude_modules") and self._matches("exclude_modules", module):
            return False
        targets = self.values.get("target_modules")
        if not targets:
            return False
        if isinstance(targets, str) and targets.lower() == "all-linear":
            return module.rpartition(".")[2] not in INPUTS | POSITIONS | HEADS
        matches = self._matches("target_modules", module)
        return matches if isinstance(targets, str) or module in targets else matches and self._in_layers(module)

    def names_target(self, module: str) -> bool:
        """Whether PEFT gives this module its adapter by its name, in the list or by the pattern of target_modules."""
        targets = self.values.get("target_modules")
        whole = not targets or (isinstance(targets, str) and targets.lower() == "all-linear")
        return not whole and "experts" not in module.split(".") and self.is_target(module)

    def token_rows(self, module: str) -> list[int]:
        """The rows trainable_token_indices lists for a module. Raises SourceError where it lists none."""
        given = self.values.get("trainable_token_indices")
        if isinstance(given, Mapping):
            given = next((rows for name, rows in given.items() if module.endswith(name)), None)
        if not isinstance(given, list) or not all(type(row) is int and row >= 0 for row in given):
            message = f"trainable_token_indices: expected token ids for {module}, got {given!r}"
            raise SourceError(message, where=self.where)
        if len(set(given)) != len(given):
            raise SourceError("trainable_token_indices lists a token twice", where=self.where)
        return given

    def _in_layers(self, module: str) -> bool:
        layers = self.values.get("layers_to_transform")
        if layers is None or layers == []:
            return True
        names = self.values.get("layers_pattern") or []
        # the first number counts: a later one is an expert's
        patterns = [IN_LAYERS.replace("{}", name) for name in ([names] if isinstance(names, str) else names)]
        for pattern in patterns or [r".*?\.[^.]*\.(?P<layer>\d+)\."]:
            found = match("layers_pattern", pattern, module, self.where)
            if found is not None:
                return int(found["layer"]) in (layers if isinstance(layers, list) else [layers])
        return False

    def _by_pattern(self, option: str, module: str, default: Any) -> Any:
        """The first pattern, in the file's order, that is the name or its ending after a dot; they are expressions."""
        patterns = self.values.get(option) or {}
        for pattern, value in patterns.items():
            if match(option, NAMED.replace("{}", pattern), module, self.where):
                return value
        return patterns.get(module, default)

    def _matches(self, option: str, module: str) -> bool:
        names = self.values[option]
        if isinstance(names, str):
            return match(option, names, module, self.where, whole=True) is not None
        return any(module == name or module.endswith(f".{name}") for name in names)


def read_lora_config(folder: Path) -> LoraConfig:
    """Reads and checks adapter_config.json. Raises SourceError, naming the option, for what cannot be merged."""
    values = read_json(folder / ADAPTER_CONFIG)
    where = str(folder / ADAPTER_CONFIG)
    kind = values.get("peft_type")
    if kind != "LORA":
        raise SourceError(f"expected an adapter of peft_type LORA, got {kind}", where=where, hint=MERGE)
    for option, value in values.items():
        if (value or (value == {} and option in REFUSED)) and option not in READ | HARMLESS:
            hint = REFUSED.get(option, MERGE)
            raise SourceError(f"the LoRA option {option}={value!r} is not supported", where=where, hint=hint)
    _check_init(values.get("init_lora_weights"), where)
    _check_numbers(values, where)
    _check_lists(values, where)
    return LoraConfig(values, where)


def is_transposed(module: str, base_config: Mapping[str, Any]) -> bool:
    """Whether the layer keeps its weight as [i, o] (transformers' Conv1D). PEFT sets fan_in_fan_out by it too."""
    return base_config.get("model_type") in CONV1D_MODELS and module.rpartition(".")[2] in CONV1D_LAYERS


def _check_init(init: object, where: str) -> None:
    if init is None or isinstance(init, bool) or str(init).lower() in PLAIN_INITS:
        return
    raise SourceError(f"the LoRA option init_lora_weights={init!r} is not supported", where=where, hint=CONVERT)


def _check_numbers(values: Mapping[str, Any], where: str) -> None:
    for key, pattern_key, kinds in (("r", "rank_pattern", (int,)), ("lora_alpha", "alpha_pattern", (int, float))):
        _check_number(key, values.get(key), kinds, where)
        patterns = values.get(pattern_key, {})
        if not isinstance(patterns, Mapping):
            raise SourceError(f"{pattern_key}: expected names with a number each, got {patterns!r}", where=where)
        for pattern, number in patterns.items():
            check_expression(pattern_key, pattern, where, inside=NAMED)
            _check_number(f"{pattern_key}: {pattern}", number, kinds, where)


def _check_number(key: str, value: Any, kinds: tuple[type, ...], where: str) -> None:
    if type(value) not in kinds or not 0 < value < math.inf:
        raise SourceError(f"{key}: expected a positive number, got {value!r}", where=where)


def _check_lists(values: Mapping[str, Any], where: str) -> None:
    if values.get("bias") not in (None, "none", "all", "lora_only"):
        raise SourceError(f"bias: expected none, all or lora_only, got {values['bias']!r}", where=where)
    for key in ("target_modules", "exclude_modules", "layers_pattern", "modules_to_save"):
        value = values.get(key)
        text = isinstance(value, str) and key != "modules_to_save"
        if value is not None and not text and not _is_list(value, str):
            raise SourceError(f"{key}: expected names, got {value!r}", where=where)
        if key == "layers_pattern":
            for name in [value] if isinstance(value, str) else value or []:
                check_expression(key, name, where, inside=IN_LAYERS)
        elif isinstance(value, str):
            check_expression(key, value, where)
    layers = values.get("layers_to_transform")
    if layers is not None and type(layers) is not int and not _is_list(layers, int):
        raise SourceError(f"layers_to_transform: expected layer numbers, got {layers!r}", where=where)
    if values.get("layers_pattern") and layers in (None, []):
        message = f"layers_pattern: expected layers_to_transform beside it, got {layers!r}"
        raise SourceError(message, where=where, hint="PEFT would refuse it. Say which layers, or take out the pattern.")
    if layers not in (None, []) and isinstance(values.get("target_modules"), str):
        message = (
            f"layers_to_transform: expected target_modules to be a list beside it, got {values['target_modules']!r}"
        )
        raise SourceError(message, where=where, hint="PEFT would refuse it. Write the layers into the expression.")


def _is_list(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)
