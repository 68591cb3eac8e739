"""The kinds of sparse model that can be written: what a dense model must be, and where its parts go.

Names and config keys are those that published checkpoints of these kinds have, one tensor an expert and projection:
transformers, vLLM and llama.cpp read them. The router sends a token, the normalised input h of a layer's feed-forward
part, to the `experts_per_token` experts e of largest softmax(W h)_e; their shares are made to sum to 1.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from automerge.errors import ConfigError

GATED = ("gate_proj", "up_proj", "down_proj")  # the feed-forward part that all of these have
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
BIASED = ("q_proj", "k_proj", "v_proj")  # in Qwen2
_NORMS = ("input_layernorm.weight", "post_attention_layernorm.weight")
_CORE = (*_NORMS, *(f"self_attn.{name}.weight" for name in ATTENTION))
_BIASES = tuple(f"self_attn.{name}.bias" for name in BIASED)

_COMMON = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "initializer_range"),
    *("rms_norm_eps", "use_cache", "tie_word_embeddings", "attention_dropout"),
    *("pad_token_id", "bos_token_id", "eos_token_id"),
)

SLIDING = "sliding_attention"

Config = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """One kind. `bases`: model_type of the dense models it is made of; `carries`: the tensors of a layer, beside the
    feed-forward part, that it has a place for; `added` are those it must have, zeros where the dense model lacks them.
    """

    name: str
    model_type: str
    architecture: str
    bases: tuple[str, ...]
    shared: Literal["none", "one", "at most one"]  # experts that every token passes
    carries: tuple[str, ...]
    block: str  # of a layer, holding experts and router
    projections: Mapping[str, str]
    shared_block: str  # of a layer, holding the shared expert
    config: Callable[[Config, int, int, int], Config]  # (dense config, experts, experts per token, shared experts)
    shared_is_gated: bool = False
    added: tuple[str, ...] = ()

    def is_called(self, name: str) -> bool:
        """Whether an `architecture:` means this one: by the beginning of its name, as mergekit-moe takes it."""
        plain = name.lower().replace(" ", "_")
        return self.name.startswith(plain) or self.name.replace("qwen2", "qwen").startswith(plain)

    def expert_tensor(self, layer: int, expert: int, projection: str) -> str:
        return f"model.layers.{layer}.{self.block}.experts.{expert}.{self.projections[projection]}.weight"

    def router_tensor(self, layer: int) -> str:
        return f"model.layers.{layer}.{self.block}.gate.weight"

    def shared_tensor(self, layer: int, projection: str) -> str:
        return f"model.layers.{layer}.{self.shared_block}.{projection}.weight"

    def shared_router_tensor(self, layer: int) -> str:
        return f"model.layers.{layer}.{self.shared_block}_gate.weight"


def _common(dense: Config) -> Config:
    rope = {key: dense[key] for key in ("rope_theta", "rope_scaling", "rope_parameters") if dense.get(key) is not None}
    return {**{key: dense[key] for key in _COMMON if key in dense}, **rope}


def _mixtral(dense: Config, experts: int, per_token: int, shared: int) -> Config:
    return {
        **_common(dense),
        "num_local_experts": experts,
        "num_experts_per_tok": per_token,
        "sliding_window": _windows(dense)[0],
        "output_router_logits": False,
        "router_jitter_noise": 0.0,
    }


def _qwen2_moe(dense: Config, experts: int, per_token: int, shared: int) -> Config:
    window, kinds = _windows(dense)
    return {
        **_common(dense),
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "layer_types": kinds,
        "num_experts": experts,
        "num_experts_per_tok": per_token,
        "moe_intermediate_size": dense["intermediate_size"],
        "shared_expert_intermediate_size": dense["intermediate_size"],
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
        "qkv_bias": True,
        "output_router_logits": False,
    }


def _qwen3_moe(dense: Config, experts: int, per_token: int, shared: int) -> Config:
    window, kinds = _windows(dense)
    if len(set(kinds)) > 1:
        raise ConfigError("qwen3_moe has one kind of attention; this base has sliding windows in some of its layers")
    return {
        **_common(dense),
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "attention_bias": bool(dense.get("attention_bias", False)),
        "num_experts": experts,
        "num_experts_per_tok": per_token,
        "moe_intermediate_size": dense["intermediate_size"],
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
        "output_router_logits": False,
    }


def _deepseek(dense: Config, experts: int, per_token: int, shared: int) -> Config:
    return {
        **_common(dense),
        "n_routed_experts": experts,
        "n_shared_experts": shared or None,
        "num_experts_per_tok": per_token,
        "moe_intermediate_size": dense["intermediate_size"],
        "first_k_dense_replace": 0,
        "moe_layer_freq": 1,
        "scoring_func": "softmax",
        "norm_topk_prob": True,
    }


def _windows(dense: Config) -> tuple[int | None, list[str]]:
    """(sliding window, kind of attention of each layer) of a dense model; the window is None where no layer has it."""
    layers = int(dense["num_hidden_layers"])
    if dense["model_type"] == "mistral":
        window = dense.get("sliding_window")
        return window, ["full_attention" if window is None else SLIDING] * layers
    kinds = list(dense.get("layer_types") or ["full_attention"] * layers)
    return (dense.get("sliding_window") if SLIDING in kinds else None), kinds


_PLAIN = {name: name for name in GATED}

FAMILIES = (
    Family(
        "mixtral",
        "mixtral",
        "MixtralForCausalLM",
        ("llama", "mistral"),
        "none",
        _CORE,
        "block_sparse_moe",
        {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"},
        "",
        _mixtral,
    ),
    Family(
        "deepseek_moe",
        "deepseek",
        "DeepseekForCausalLM",
        ("llama", "mistral"),
        "at most one",
        _CORE,
        "mlp",
        _PLAIN,
        "mlp.shared_experts",
        _deepseek,
    ),
    Family(
        "qwen2_moe",
        "qwen2_moe",
        "Qwen2MoeForCausalLM",
        ("qwen2", "llama", "mistral"),
        "one",
        (*_CORE, *_BIASES),
        "mlp",
        _PLAIN,
        "mlp.shared_expert",
        _qwen2_moe,
        shared_is_gated=True,
        added=_BIASES,
    ),
    Family(
        "qwen3_moe",
        "qwen3_moe",
        "Qwen3MoeForCausalLM",
        ("qwen3",),
        "none",
        (*_CORE, "self_attn.q_norm.weight", "self_attn.k_norm.weight"),
        "mlp",
        _PLAIN,
        "",
        _qwen3_moe,
    ),
)


def sparse_config(family: Family, dense: Mapping[str, Any], experts: int, per_token: int, shared: int) -> Config:
    """The sparse model's config.json, from the dense one's: with its kind's defaults where it says nothing."""
    from transformers import AutoConfig  # seconds to import

    whole = {**AutoConfig.for_model(**dense).to_dict(), **dense}
    kind = {"architectures": [family.architecture], "model_type": family.model_type}
    return {**kind, **family.config(whole, experts, per_token, shared)}


def choose_family(
    asked: str | None, model_type: str, shared: int, prompts: bool, where: str, *, needed: bool = True
) -> Family:
    """The family asked for; else the first that takes a base of this type and its `shared` experts, which have
    `prompts` or not; a gate's are `needed` unless it is random. Raises ConfigError where none does, saying why each
    does not."""
    reasons = []
    for family in FAMILIES:
        if asked is not None and not family.is_called(asked):
            continue
        reason = _unfit(family, model_type, shared, prompts, needed)
        if reason is None:
            return family
        reasons.append(f"{family.name} {reason}")
    hint = "Change architecture, shared_experts, or the models."
    raise ConfigError(f"no sparse model can be made of these: {'; '.join(reasons)}", where=where, hint=hint)


def _unfit(family: Family, model_type: str, shared: int, prompts: bool, needed: bool) -> str | None:
    if model_type not in family.bases:
        return f"is made of {' or '.join(family.bases)}, not of {model_type}"
    if (family.shared == "none" and shared) or shared > 1:
        return f"takes {family.shared} of shared_experts, got {shared}"
    if family.shared == "one" and shared != 1:
        return "needs one of shared_experts"
    if shared and prompts and not family.shared_is_gated:
        return "has no place for prompts of the shared expert"
    if shared and needed and not prompts and family.shared_is_gated:
        return "needs prompts of the shared expert"
    return None
