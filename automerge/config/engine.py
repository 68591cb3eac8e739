"""Which engine serves the merges, and what is passed on to it."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from automerge.config.closed import Closed, Positive
from automerge.config.files import SECRET

# of vLLM's: other ways to several ranks
UNSUPPORTED_ARGUMENTS = {"pipeline_parallel_size", "data_parallel_size"}
# of vLLM's: what is served, how it is loaded and asked, and dtype, which has a field of its own
TAKEN_ARGUMENTS = {
    *("model", "tokenizer", "tokenizer_mode", "skip_tokenizer_init", "dtype", "quantization"),
    *("quantization_config", "hf_overrides", "hf_config_path", "config_format", "runner", "convert"),
    *("revision", "code_revision", "tokenizer_revision"),
    *("load_format", "model_loader_extra_config", "worker_cls", "worker_extension_cls"),
    *("enable_lora", "disable_log_stats", "trust_remote_code"),
    *("logprobs_mode", "chat_template", "generation_config", "override_generation_config"),
}
# of vLLM's: stores of keys and values that cannot be told to forget the merge before
FOREIGN_CACHES = {"kv_transfer_config", "ec_transfer_config", "kv_offloading_backend"}


class EngineConfig(Closed):
    """Which engine serves the merges, and how. `device` and `batch_tokens` (of a batch: padded tokens, prompt and
    answer) are the transformers engine's, the rest vLLM's: `arguments` are its own engine arguments (max_model_len,
    tensor_parallel_size, …), `timeout` the seconds a call may take, `deterministic` its batch-invariant mode."""

    name: Literal["auto", "transformers", "vllm"] = "auto"
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch_tokens: Positive = 16384
    arguments: dict[str, Any] = Field(default_factory=dict)
    residency: Literal["auto", "device", "pinned", "mmap"] = "auto"
    deterministic: bool = False
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 900.0

    @field_validator("arguments")
    @classmethod
    def _not_ours(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(arguments.keys() & TAKEN_ARGUMENTS)
        if taken:
            raise ValueError(f"{', '.join(taken)}: set by automerge itself, and not to be changed")
        secret = next((key for key in arguments if SECRET.search(key)), None)
        if secret is not None:
            message = "{key}: is a secret, and a study keeps its config; vLLM takes it from the environment"
            raise PydanticCustomError("secret", message, {"key": secret})
        other = sorted(arguments.keys() & UNSUPPORTED_ARGUMENTS)
        if other:
            raise ValueError(f"{', '.join(other)}: a merge is spread over tensor_parallel_size ranks only")
        foreign = sorted(arguments.keys() & FOREIGN_CACHES)
        if foreign:
            raise ValueError(f"{', '.join(foreign)}: what it keeps of one merge would be taken for the next one's")
        ranks = arguments.get("tensor_parallel_size", 1)
        if type(ranks) is not int or ranks < 1:
            raise ValueError(f"tensor_parallel_size: expected a whole number from 1 on, got {ranks!r}")
        return arguments
