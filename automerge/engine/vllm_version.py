"""Which vLLM the engine runs on."""

import re

from automerge.errors import EngineError, install

OLDEST, TESTED = (0, 24), (0, 32)
NEEDED = {  # what the engine calls beyond the documented LLM class
    "vllm.model_executor.model_loader": ("register_model_loader", "BaseModelLoader"),
    "vllm.distributed": ("get_tp_group",),
    "vllm.v1.worker.gpu_worker:Worker": ("reload_weights",),
    "vllm.v1.engine.llm_engine:LLMEngine": ("reset_mm_cache", "reset_encoder_cache"),
    "vllm.config": ("set_current_vllm_config",),
    "vllm.model_executor.model_loader.reload.layerwise": ("get_layerwise_info",),
    "vllm.model_executor.layers.vocab_parallel_embedding": (
        "VocabParallelEmbedding",
        "ParallelLMHead",
        "UnquantizedEmbeddingMethod",
    ),
    "vllm.model_executor.model_loader.reload.meta": ("to_meta_tensor",),
    "vllm.model_executor.model_loader.reload.utils": ("get_layer_params_buffers",),
    "vllm.model_executor.layers.linear": (
        "ReplicatedLinear",
        "ColumnParallelLinear",
        "RowParallelLinear",
        "MergedColumnParallelLinear",
        "QKVParallelLinear",
        "UnquantizedLinearMethod",
    ),
    "vllm:LLM": ("collective_rpc", "reset_prefix_cache"),
    "vllm": ("SamplingParams", "TokensPrompt"),
}


def check_version(version: str) -> str:
    """A note on a version newer than the tested ones, else "". Raises EngineError for one that cannot be used."""
    match = re.match(r"(\d+)\.(\d+)", version)
    number = (int(match[1]), int(match[2])) if match else OLDEST
    span = f"{OLDEST[0]}.{OLDEST[1]} or newer (tested: up to {TESTED[0]}.{TESTED[1]})"
    if number < OLDEST:
        raise EngineError(f"vLLM {version} is too old: expected {span}", hint=install("vllm"))
    missing = _missing()
    if missing:
        message = f"vLLM {version} lacks {', '.join(missing)}: expected {span}"
        raise EngineError(message, hint="Install a tested version, or say engine: {name: transformers}.")
    return f"vLLM {version} is newer than tested; what the engine calls is there" if number > TESTED else ""


def _missing() -> list[str]:
    import importlib

    missing = []
    for place, names in NEEDED.items():
        module, _, attribute = place.partition(":")
        try:
            holder = importlib.import_module(module)
            holder = getattr(holder, attribute) if attribute else holder
            missing += [f"{place}.{name}" for name in names if not hasattr(holder, name)]
        except (ImportError, AttributeError):
            missing.append(place)
    return missing
