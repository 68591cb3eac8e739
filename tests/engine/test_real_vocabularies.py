"""The rules of vocabularies on a real tokenizer, SmolLM2's, and what a user makes of it: ChatML-like tokens added, the
embeddings resized and padded, special tokens moved. Skipped where the checkpoint is not (see `make smollm2`).
"""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from automerge.config import EngineConfig
from automerge.engine.transformers import TransformersEngine
from automerge.export.checkpoint import write_checkpoint
from automerge.merge import Models, open_models
from automerge.records import Sampling
from tests.merge.helpers import edit_json, merged
from tests.merge.speakers import EMBED, HEAD, WEIGHTS, config_of, ids_of, rows_by_token, speaking, untie
from tests.tiny import tiny_llama

SMOLLM2 = Path(os.environ.get("AUTOMERGE_SMOLLM2", Path(__file__).parents[2] / "models" / "smollm2"))
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(
        not (SMOLLM2 / "tokenizer.json").is_file(),
        reason="no SmolLM2 checkpoint: `make smollm2` writes it (AUTOMERGE_SMOLLM2 names another place)",
    ),
]
ADDED = ["<|user|>", "<|assistant|>", "<|end|>"]
SIZE = 49152  # tokens of SmolLM2, and rows
TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
TEXTS = ["The capital of France is", "<|user|>2 + 2 = ?<|end|>\n", "naïve café, 日本語, 🙂", "    return x  # ok\n"]


def small(folder: Path, seed: int = 0, rows: int = SIZE) -> Path:
    """A tiny Llama with SmolLM2's tokenizer, tied as it is."""
    tiny_llama(folder, seed=seed, hidden=8, layers=1, vocab=rows, tied=True)
    for path in folder.glob("*token*"):
        path.unlink()
    AutoTokenizer.from_pretrained(SMOLLM2).save_pretrained(folder)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    edit_json(folder / "config.json", **ids)
    edit_json(folder / "generation_config.json", **ids)
    return folder


def add_tokens(source: Path, out: Path, tokens: list[str], multiple: int | None = 64, seed: int = 5) -> Path:
    """What users do: add_tokens, resize_token_embeddings, train (here: noise on the new rows), save."""
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForCausalLM.from_pretrained(source)
    tokenizer.add_special_tokens({"additional_special_tokens": tokens})
    tokenizer.eos_token = tokens[-1]
    tokenizer.chat_template = TEMPLATE
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=multiple, mean_resizing=False)
        table = model.get_input_embeddings().weight
        table[len(tokenizer) - len(tokens) :] = 0.1 * torch.randn(table[len(tokenizer) - len(tokens) :].shape)
        table[:100] += (0.01 * torch.randn(table[:100].shape)).to(table.dtype)
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def swap_ids(source: Path, out: Path, one: str, other: str) -> Path:
    """The same model with two special tokens at each other's ids: tokenizer and rows agree."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(source), AutoTokenizer.from_pretrained(source)
    a, b = tokenizer.convert_tokens_to_ids([one, other])
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    tensors = load_file(out / WEIGHTS)
    tensors[EMBED][[a, b]] = tensors[EMBED][[b, a]]
    save_file(tensors, out / WEIGHTS, metadata={"format": "pt"})
    data = json.loads((out / "tokenizer.json").read_text())
    data["model"]["vocab"][one], data["model"]["vocab"][other] = b, a
    for entry in data["added_tokens"]:
        entry["id"] = {a: b, b: a}.get(entry["id"], entry["id"])
    data["added_tokens"].sort(key=lambda entry: entry["id"])
    (out / "tokenizer.json").write_text(json.dumps(data))
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((out / name).read_text())
        edit_json(out / name, **{k: {a: b, b: a}.get(v, v) for k, v in settings.items() if k.endswith("_token_id")})
    return out


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("real")
    base = small(root / "base")
    found = {"base": base, "chat": add_tokens(base, root / "chat", ADDED)}
    found["more"] = add_tokens(base, root / "more", ["<|think|>", *ADDED], None, seed=6)
    found["swapped"] = swap_ids(base, root / "swapped", "<|im_start|>", "<|im_end|>")
    found["free"] = small(root / "free", seed=3)
    untie(found["free"])
    return found


def opened(folders: dict[str, Path], *names: str, base: str = "base") -> Models:
    return open_models(str(folders[base]), {name: str(folders[name]) for name in names})


def test_added_tokens_and_resized_embeddings(folders: dict[str, Path]) -> None:
    """Base without the tokens: the sole owner's rows; all others meet by token; the padded size is kept."""
    models = opened(folders, "chat")
    rows = {name: rows_by_token(folders[name]) for name in ("base", "chat")}
    for tokenizer, size in (("base", SIZE), ("chat", SIZE + 64), ("union", SIZE + 3)):
        recipe = speaking(models, "task_arithmetic", {"weight": {"chat": 0.5}}, tokenizer)
        table = merged(recipe, models)[0][EMBED]
        assert len(table) == size == models.frame(recipe).config["vocab_size"]
        ids = ids_of(models.tokenizer_folder(recipe))
        assert len(ids) == SIZE + (0 if tokenizer == "base" else 3)
        order = sorted(ids, key=ids.__getitem__)
        base = torch.stack([rows["base"].get(token, rows["chat"][token]) for token in order])
        chat = torch.stack([rows["chat"][token] for token in order])
        assert torch.equal(table[: len(order)], base + 0.5 * (chat - base))
        for token in ADDED if tokenizer != "base" else []:
            assert torch.equal(table[ids[token]], rows["chat"][token])


def test_two_owners_and_a_union_in_order(folders: dict[str, Path]) -> None:
    models = opened(folders, "more", "chat")
    recipe = speaking(models, "task_arithmetic", {"weight": {"chat": 0.25, "more": 0.0}}, "union")
    folder = models.tokenizer_folder(recipe)
    ids = ids_of(folder)
    assert [ids[token] for token in (*ADDED, "<|think|>")] == [SIZE, SIZE + 1, SIZE + 2, SIZE + 3]
    assert {token: ids[token] for token in ids_of(folders["base"])} == ids_of(folders["base"])
    table = merged(recipe, models)[0][EMBED]
    chat, more = (rows_by_token(folders[name]) for name in ("chat", "more"))
    for token in ADDED:
        mean = (chat[token] + more[token]) / 2
        assert torch.equal(table[ids[token]], mean + 0.25 * (chat[token] - mean))
    assert torch.equal(table[ids["<|think|>"]], more["<|think|>"])
    ruled = speaking(models, "linear", {"weight": {"chat": 0.5, "more": 0.5}}, "union", tokens={"<|end|>": "more"})
    assert torch.equal(merged(ruled, models)[0][EMBED][ids["<|end|>"]], more["<|end|>"])
    base, union = (AutoTokenizer.from_pretrained(path) for path in (folders["base"], folder))
    for text in TEXTS:
        assert union.decode(union(text).input_ids) == text
        if not any(token in text for token in ADDED):
            assert union(text).input_ids == base(text).input_ids
    assert union(ADDED[0] + "x").input_ids[0] == SIZE


def test_special_tokens_at_other_ids(folders: dict[str, Path]) -> None:
    """The same model under other ids is the same model: its delta is nothing, in either vocabulary."""
    models = opened(folders, "swapped")
    for tokenizer in ("base", "swapped"):
        recipe = speaking(models, "task_arithmetic", {"weight": {"swapped": 0.7}}, tokenizer)
        assert torch.equal(merged(recipe, models)[0][EMBED], load_file(folders[tokenizer] / WEIGHTS)[EMBED])
        assert models.frame(recipe).config["eos_token_id"] == ids_of(folders[tokenizer])["<|im_end|>"]
        assert any("at another id in the merge" in note for note in models.notes(recipe))


def test_tied_and_untied(folders: dict[str, Path]) -> None:
    models = opened(folders, "free", "chat")
    weight = {"weight": {"chat": 0.0, "free": 0.5}}
    out = merged(speaking(models, "task_arithmetic", weight, "union"), models)[0]
    base, free = load_file(folders["base"] / WEIGHTS)[EMBED], load_file(folders["free"] / WEIGHTS)
    assert torch.equal(out[HEAD][:SIZE], base + 0.5 * (free[HEAD] - base))
    assert torch.equal(out[EMBED][:SIZE], base + 0.5 * (free[EMBED] - base))
    chat = rows_by_token(folders["chat"])
    assert torch.equal(out[HEAD][SIZE], chat["<|user|>"])


def test_smollm2_itself(tmp_path: Path) -> None:
    """The real model and one with added tokens: served as exported, encoded and decoded by token, its ends its own."""
    chat = add_tokens(SMOLLM2, tmp_path / "chat", ADDED)
    models = open_models(str(SMOLLM2), {"chat": str(chat)})
    engine = TransformersEngine(models, EngineConfig(device="cpu", dtype="float32"))
    for tokenizer, rows in (("chat", SIZE + 64), ("union", SIZE + 3)):
        recipe = speaking(models, "dare_linear", {"weight": {"chat": 0.5}, "drop": {"chat": 0.5}}, tokenizer)
        out = tmp_path / f"out-{tokenizer}"
        write_checkpoint(recipe, models, out, expected_checksum=engine.apply(recipe).checksum)
        shipped = AutoTokenizer.from_pretrained(out)
        model, info = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, output_loading_info=True)
        assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        assert model.get_input_embeddings().weight.shape[0] == rows == config_of(out)["vocab_size"]
        assert shipped.eos_token == (ADDED[-1] if tokenizer == "chat" else "<|im_end|>")
        assert config_of(out)["eos_token_id"] == shipped.eos_token_id == model.generation_config.eos_token_id
        table, own = rows_by_token(out), rows_by_token(chat)
        assert all(torch.equal(table[token], own[token].to(torch.bfloat16).float()) for token in ADDED)
        prompts = [engine.encode(text) for text in TEXTS]
        answers = engine.generate(prompts, Sampling(max_tokens=12))
        for text, prompt, answer in zip(TEXTS, prompts, answers, strict=True):
            ids = shipped(text, return_tensors="pt").input_ids
            assert prompt.token_ids == tuple(ids[0].tolist()) and shipped.decode(ids[0]) == text
            row = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
            assert answer.text == shipped.decode(row, skip_special_tokens=True)
        turns = [{"role": "user", "content": "hi"}]
        assert engine.render(turns).text == shipped.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
    engine.close()
