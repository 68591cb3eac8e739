"""Models of different vocabularies, served and exported: the same tokens from both, by any tokenizer, tied or not."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from automerge.config import EngineConfig
from automerge.engine.transformers import TransformersEngine
from automerge.export.checkpoint import write_checkpoint
from automerge.merge import Models, open_models
from automerge.recipe import Group, Recipe, Slice
from automerge.records import Sampling
from tests.merge.helpers import edit_json
from tests.merge.speakers import (
    COMMON,
    EMBED,
    HEAD,
    WEIGHTS,
    config_of,
    ids_of,
    speaker,
    speaking,
    untie,
    write_tokenizer,
)
from tests.tiny import fine_tune_of, tiny_model

TEXTS = ("abc", "hello: 12", "x.y,z")
IM = ["<im_start>", "<im_end>"]
TEMPLATE = "{% for m in messages %}<im_start>{{ m['content'] }}<im_end>{% endfor %}"
WEIGHT = {"weight": {"x": 0.7, "y": 0.4}}


@pytest.fixture
def models(tmp_path: Path) -> Models:
    """base is tied and padded; x has two more tokens, a template and another eos; y another order, and its own head."""
    base = speaker(tmp_path / "base", COMMON, rows=64, tied=True)
    roles = {"eos_token": "<im_end>"}
    x = speaker(tmp_path / "x", [*COMMON, *IM], seed=1, tied=True, roles=roles, template=TEMPLATE)
    y = speaker(tmp_path / "y", [*reversed(COMMON)], seed=2, tied=True)
    untie(y)
    return open_models(str(base), {"x": str(x), "y": str(y)})


@pytest.fixture
def engine(models: Models) -> Iterator[TransformersEngine]:
    engine = TransformersEngine(models, EngineConfig(device="cpu"))
    yield engine
    engine.close()


def check_served(
    engine: TransformersEngine, models: Models, recipe: Recipe, out: Path, texts: tuple[str, ...] = TEXTS
) -> None:
    """What the engine serves is what transformers makes of the exported folder."""
    applied = engine.apply(recipe)
    exported = write_checkpoint(recipe, models, out, expected_checksum=applied.checksum)
    assert exported.checksum == applied.checksum
    model, info = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert ids_of(out) == ids_of(models.tokenizer_folder(recipe))
    for text in texts:
        prompt = engine.encode(text)
        ids = tokenizer(text, return_tensors="pt").input_ids
        assert prompt.token_ids == tuple(ids[0].tolist())
        assert tokenizer.decode(ids[0], skip_special_tokens=True) == text
        (answer,) = engine.generate([prompt], Sampling(max_tokens=12))
        row = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
        assert answer.tokens == len(row)
        assert answer.text == tokenizer.decode(row, skip_special_tokens=True)
        with torch.no_grad():
            logits = model(torch.cat([ids, tokenizer("q", return_tensors="pt").input_ids[:, -1:]], 1)).logits[0]
        (scored,) = engine.loglikelihood([prompt], ["q"])
        wanted = logits[-2].log_softmax(-1)[tokenizer("q").input_ids[-1]]
        assert scored.token_logprobs[0] == pytest.approx(float(wanted), abs=1e-5)


def test_served_is_exported(engine: TransformersEngine, models: Models, tmp_path: Path) -> None:
    """One engine, frames of several shapes one after another, and back again."""
    fingerprint = engine.fingerprint
    for number, tokenizer in enumerate(("base", "x", "union", "y", "base")):
        recipe = speaking(models, "task_arithmetic", WEIGHT, tokenizer, dtype="bfloat16")
        out = tmp_path / f"out{number}"
        check_served(engine, models, recipe, out)
        rows = {"base": 64, "x": len(COMMON) + 2, "union": 64, "y": len(COMMON)}[tokenizer]
        config = config_of(out)
        assert (config["vocab_size"], config["tie_word_embeddings"]) == (rows, False)
        assert (engine.fingerprint == fingerprint) == (tokenizer in ("base", "union"))
        assert config["eos_token_id"] == ids_of(out)["<im_end>" if tokenizer == "x" else "</s>"]


@pytest.mark.parametrize("kind", ["gpt2", "qwen2", "phi3"])
def test_other_architectures(tmp_path: Path, kind: str) -> None:
    """A fine-tune whose ids run the other way, with two tokens more: its rows find their tokens."""
    base = tiny_model(tmp_path / "base", kind, tied=kind == "qwen2")
    x = fine_tune_of(base, tmp_path / "x", 1)
    order = [token for token, _ in sorted(ids_of(base).items(), key=lambda entry: -entry[1])]
    held = load_file(x / WEIGHTS)
    tables = [name for name in held if name.endswith((EMBED, HEAD, "wte.weight"))]
    assert len(tables) == (2 if kind == "phi3" else 1)
    for name in tables:
        held[name] = torch.cat([held[name].flip(0), torch.ones(2, 32)])
    save_file(held, x / WEIGHTS, metadata={"format": "pt"})
    edit_json(x / "config.json", vocab_size=66)
    write_tokenizer(x, [*order, *IM])
    models = open_models(str(base), {"x": str(x)})
    engine = TransformersEngine(models, EngineConfig(device="cpu"))
    ours, theirs = load_file(base / WEIGHTS), held
    for tokenizer in ("union", "x"):
        recipe = speaking(models, "task_arithmetic", {"weight": {"x": 0.5}}, tokenizer)
        check_served(engine, models, recipe, tmp_path / f"out-{tokenizer}", ("abc", "x.y,z"))
        out = load_file(tmp_path / f"out-{tokenizer}" / WEIGHTS)
        for name in tables:
            merged = ours[name] + 0.5 * (theirs[name][:64].flip(0) - ours[name])
            wanted = torch.cat([merged if tokenizer == "union" else merged.flip(0), torch.ones(2, 32)])
            assert torch.equal(out[name], wanted)
    engine.close()


def test_a_stack_in_another_vocabulary(engine: TransformersEngine, models: Models, tmp_path: Path) -> None:
    slices = (Slice({"base": (0, 2), "x": (0, 2), "y": (0, 2)}), Slice({"base": (1, 2), "x": (0, 1)}))
    whole = (Group((0, 3), "all", WEIGHT),)
    recipe = replace(speaking(models, "task_arithmetic", WEIGHT, "union"), slices=slices, groups=whole)
    check_served(engine, models, recipe, tmp_path / "out")
    config = config_of(tmp_path / "out")
    assert (config["num_hidden_layers"], config["vocab_size"]) == (3, 64)


def test_templates_and_ends_follow_the_tokenizer(engine: TransformersEngine, models: Models, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "ab"}]
    recipe = speaking(models, "linear", WEIGHT, "x")
    engine.apply(recipe)
    assert engine.render(turns).text == "<im_start>ab<im_end>"
    assert len(engine.render(turns).token_ids) == 4
    other = speaking(models, "linear", WEIGHT, "union", chat_template="{{ messages[0]['content'] }}<im_end>")
    write_checkpoint(other, models, tmp_path / "out", expected_checksum=engine.apply(other).checksum)
    assert engine.render(turns).text == "ab<im_end>"
    shipped = AutoTokenizer.from_pretrained(tmp_path / "out").apply_chat_template(turns, tokenize=False)
    assert shipped == "ab<im_end>"


def test_what_is_not_kept_is_told(models: Models, tmp_path: Path) -> None:
    told: list[str] = []
    recipe = speaking(models, "linear", WEIGHT)
    write_checkpoint(recipe, models, tmp_path / "out", expected_checksum=None, progress=told.append)
    assert "x: its eos_token is '<im_end>', the merge's is '</s>'" in told
    assert "x: it was made with another chat template than the merge has" in told
    frame = models.frame(recipe)
    assert frame.shapes[EMBED] == frame.shapes[HEAD] == (64, 16)
