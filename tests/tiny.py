"""Tiny models for tests, made on the spot: a Llama checkpoint, a fine-tune of one, a LoRA adapter of one.

Every function writes a folder as Hugging Face libraries would and returns it. Equal arguments give equal bytes.
They know nothing of automerge. Import with `from tests.tiny import tiny_llama`.
"""

import json
import math
import re
import string
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
CHARACTERS = " \n" + string.digits + string.ascii_lowercase + "+-*/=.,:;?!'\"()_<>|[]{}"
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def tiny_llama(
    folder: Path,
    seed: int = 0,
    layers: int = 2,
    hidden: int = 32,
    vocab: int = 64,
    dtype: torch.dtype = torch.float32,
    tied: bool = False,
    chat_template: str | None = CHAT_TEMPLATE,
) -> Path:
    """An HF Llama checkpoint (config, one safetensors file, tokenizer). 4 heads, 2 key-value heads, 256 positions."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        dtype=dtype,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).to(dtype)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tiny_tokenizer(folder, vocab, chat_template)
    return folder


def tiny_tokenizer(folder: Path, vocab: int = 64, chat_template: str | None = CHAT_TEMPLATE) -> Path:
    """A tokenizer of single characters, with `vocab` entries, that puts <s> before every text."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokens = [*SPECIALS, *CHARACTERS][:vocab]
    tokens += [f"<extra_{n}>" for n in range(vocab - len(tokens))]
    core = Tokenizer(models.WordLevel({token: n for n, token in enumerate(tokens)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.chat_template = chat_template
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    return folder


def fine_tune_of(base_folder: Path, out: Path, seed: int, scale: float = 0.02) -> Path:
    """A copy of a one-file checkpoint whose weights are moved by normal noise of `scale` × their own deviation."""
    out.mkdir(parents=True, exist_ok=True)
    for path in base_folder.iterdir():
        if path.suffix != ".safetensors":
            (out / path.name).write_bytes(path.read_bytes())
    generator = torch.Generator().manual_seed(seed)
    tensors = load_file(base_folder / "model.safetensors")
    for name in sorted(tensors):
        weight = tensors[name].float()
        size = scale * max(float(weight.std(correction=0)), 0.02) if weight.numel() else 0.0
        noise = torch.randn(weight.shape, generator=generator)
        tensors[name] = (weight + size * noise).to(tensors[name].dtype)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    return out


def lora_of(
    base_folder: Path,
    out: Path,
    seed: int,
    rank: int = 4,
    alpha: float = 8.0,
    scale: float = 0.02,
    dtype: torch.dtype = torch.float32,
    **config: object,
) -> Path:
    """A PEFT LoRA adapter on every linear of the layers; B is not zero, so it changes the model.

    `scale` is the rough size of the delta's elements; further keywords go into adapter_config.json.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    size = math.sqrt(scale / (alpha / rank) / math.sqrt(rank))
    for name, weight in sorted(load_file(base_folder / "model.safetensors").items()):
        if not re.search(rf"\.({'|'.join(LORA_TARGETS)})\.weight$", name):
            continue
        stem = "base_model.model." + name.removesuffix(".weight")
        rows, columns = weight.shape
        tensors[f"{stem}.lora_A.weight"] = (size * torch.randn(rank, columns, generator=generator)).to(dtype)
        tensors[f"{stem}.lora_B.weight"] = (size * torch.randn(rows, rank, generator=generator)).to(dtype)
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base_folder),
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "use_dora": False,
        "use_rslora": False,
        "target_modules": list(LORA_TARGETS),
        **config,
    }
    (out / "adapter_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    return out


def tiny_model(folder: Path, kind: str, seed: int = 0, tied: bool = False) -> Path:
    """An HF checkpoint of two layers, hidden size 32, 64 tokens, and a tokenizer; every tensor random, biases too.

    Kinds: llama; qwen2 (biases on q, k, v); gpt2 (biases, weights kept transposed, always tied); phi3 (q, k, v in one
    tensor, gate and up in another); mixtral (four experts); gpt_neox (its head is stored as embed_out).
    """
    import transformers

    sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "intermediate_size": 64, "tie_word_embeddings": tied, "pad_token_id": 0}
    if kind == "gpt2":
        sizes = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    if kind == "gpt_neox":
        del sizes["num_key_value_heads"]
    if kind == "mixtral":
        sizes |= {"num_local_experts": 4, "num_experts_per_tok": 2}
    families = {"llama": "Llama", "qwen2": "Qwen2", "gpt2": "GPT2", "phi3": "Phi3", "mixtral": "Mixtral"}
    family = {**families, "gpt_neox": "GPTNeoX"}[kind]
    head = "GPT2LMHeadModel" if kind == "gpt2" else f"{family}ForCausalLM"
    config = getattr(transformers, f"{family}Config")(bos_token_id=1, eos_token_id=2, **sizes)
    model = getattr(transformers, head)(config).float()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    return tiny_tokenizer(folder)


def peft_lora_of(
    base_folder: Path, out: Path, seed: int, dtype: torch.dtype = torch.float32, **options: object
) -> Path:
    """A LoRA adapter as PEFT itself makes and saves it: r 4, α 8, everything trained moved by normal noise of 0.05.

    Options go to LoraConfig, `save_embedding_layers` to save_pretrained. `rows`: the base has so many tokens when it is
    trained. The tensors are stored as `dtype`.
    """
    import warnings

    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    settings = {"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", **options}
    whole = settings.pop("save_embedding_layers", "auto")
    rows = settings.pop("rows", None)
    generator = torch.Generator().manual_seed(seed)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
        if rows is not None:
            torch.manual_seed(7)
            base.resize_token_embeddings(rows, mean_resizing=False)
        model = get_peft_model(base, LoraConfig(**settings))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        model.save_pretrained(out, save_embedding_layers=whole)
    path = out / "adapter_model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    return out
