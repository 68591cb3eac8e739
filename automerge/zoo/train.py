"""Trains one small Llama on rows of text: the tokenizer, a model of given sizes, and the loop.

It knows tokens and gradients; it does not know skills, which checkpoint it is making, or where that is kept.
Everything random comes from the seeds it is given; torch's global random state is left as it was.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"
CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))  # a line feed and printable ASCII
CONTEXT = 64
UNSCORED = -100

Rows = Sequence[tuple[str, str]]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, no template, nothing added or removed: decode(encode(text)) is the text."""
    vocabulary = {token: number for number, token in enumerate((PAD, EOS, UNK, *CHARACTERS))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNK))
    tokenizer.pre_tokenizer = Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        padding_side="left",  # as generation in batches needs it
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, *, width: int, layers: int, heads: int, seed: int) -> Any:
    """A Llama with tied embeddings and freshly drawn weights, in fp32."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).float()


def encode(tokenizer: PreTrainedTokenizerFast, rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and targets, (rows, longest): right-padded, only the answer and its end are learnt."""
    prompts = tokenizer([prompt for prompt, _ in rows], add_special_tokens=False)["input_ids"]
    answers = tokenizer([answer for _, answer in rows], add_special_tokens=False)["input_ids"]
    sequences = [[*prompt, *answer, tokenizer.eos_token_id] for prompt, answer in zip(prompts, answers, strict=True)]
    shape = (len(rows), max(map(len, sequences)))
    tokens = torch.full(shape, int(tokenizer.pad_token_id))
    targets = torch.full(shape, UNSCORED)
    for number, (prompt, sequence) in enumerate(zip(prompts, sequences, strict=True)):
        tokens[number, : len(sequence)] = torch.tensor(sequence)
        targets[number, len(prompt) : len(sequence)] = tokens[number, len(prompt) : len(sequence)]
    return tokens, targets


def train(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    draw: Callable[[random.Random, int], Rows],
    *,
    steps: int,
    rate: float,
    batch: int,
    seed: int,
    progress: Callable[[int, int], None],
) -> None:
    """AdamW with a short warm-up, then a cosine to zero. `draw(source, n)` gives n rows of text."""
    source = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 20) * max(0.02, (1 + math.cos(math.pi * step / steps)) / 2)
        tokens, targets = encode(tokenizer, draw(source, batch))
        # Padding is on the right and attention is causal, so no mask is needed; only learnt places reach the head.
        hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state[:, :-1]
        learnt = targets[:, 1:] != UNSCORED
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[learnt]), targets[:, 1:][learnt])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 10 == 0 or step + 1 == steps:
            progress(step + 1, steps)
    model.eval()
