"""Tokenizer files: what is read of them, what is refused before any tensor is read, and what is written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from automerge.errors import AutomergeError, ConfigError, SourceError
from automerge.export.checkpoint import write_checkpoint
from automerge.merge import Merge, Models, open_models
from automerge.merge.sources.checkpoint import SafeFile
from automerge.merge.vocabulary.folder import write_folder
from automerge.merge.vocabulary.ids import rewritten, translator
from automerge.merge.vocabulary.tokenizers import read_roles, read_template, read_tokens, same_vocabulary
from automerge.recipe import TokenRule
from tests.merge.helpers import edit_json, merged
from tests.merge.speakers import (
    COMMON,
    EMBED,
    HEAD,
    WEIGHTS,
    copy_without,
    ids_of,
    rows_by_token,
    speaker,
    speaking,
    write_tokenizer,
)
from tests.tiny import fine_tune_of, lora_of, peft_lora_of

IM = ["<im_start>", "<im_end>"]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return speaker(tmp_path / "base", COMMON)


@pytest.fixture
def more(tmp_path: Path) -> Path:
    return speaker(tmp_path / "more", [*COMMON, *IM], seed=1)


def opened(base: Path, **sources: Path) -> Models:
    return open_models(str(base), {name: str(path) for name, path in sources.items()})


# --- reading ------------------------------------------------------------------------------------------------------


def test_tokens_are_those_transformers_has(base: Path) -> None:
    edit_json(base / "tokenizer_config.json", pad_token="<late>")  # added by transformers, not in tokenizer.json
    tokens = read_tokens(base)
    assert dict(tokens.ids) == ids_of(base)
    assert tokens.ids["<late>"] == len(COMMON) and tokens.by_id[2] == "</s>"
    assert tokens.roles["pad_token"] == "<late>" and "<unk>" in tokens.added and "a" not in tokens.added


def test_roles_and_templates_wherever_they_stand(base: Path) -> None:
    edit_json(base / "tokenizer_config.json", eos_token={"content": "<s>"}, chat_template="inside")
    (base / "special_tokens_map.json").write_text(json.dumps({"eos_token": "</s>", "sep_token": "a", "x": 1}))
    roles = read_roles(base)
    assert (roles["eos_token"], roles["sep_token"]) == ("<s>", "a")
    assert read_template(base) == "inside"
    (base / "chat_template.jinja").write_text("file")
    assert read_template(base) == "file"


NAMED = [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]


@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.json"])
@pytest.mark.parametrize(
    ("given", "template"),
    [
        (NAMED, "d"),
        ({"tools": "t", "default": "d"}, "d"),
        (NAMED[:1], ""),
        ({"tools": "t"}, ""),
        (["default", {}, {"name": "default"}], ""),
        (3, ""),
    ],
)
def test_of_named_templates_the_default_counts(name: str, given: Any, template: str, base: Path) -> None:
    edit_json(base / "tokenizer_config.json", chat_template=None)
    (base / "chat_template.jinja").unlink(missing_ok=True)
    if not (base / name).exists():
        (base / name).write_text("{}")
    edit_json(base / name, chat_template=given)
    assert read_template(base) == template


def test_same_vocabulary_looks_at_files_alone(base: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(base, tmp_path / "copy"))
    edit_json(copy / "tokenizer_config.json", chat_template="other", model_max_length=7)
    assert same_vocabulary(base, copy) and same_vocabulary(base, base)
    edit_json(copy / "tokenizer_config.json", pad_token="<late>")
    assert not same_vocabulary(base, copy)


def test_a_tokenizer_without_tokenizer_json_is_converted(tmp_path: Path) -> None:
    letters = {chr(n): n - 33 for n in range(33, 127)}
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({**letters, "ab": 94, "<|endoftext|>": 95}))
    (folder / "merges.txt").write_text("#version: 0.2\na b\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    assert read_tokens(folder).ids["ab"] == 94
    (folder / "vocab.json").write_text("{")
    with pytest.raises(SourceError, match="cannot make a fast tokenizer of its files") as caught:
        read_tokens(folder)
    assert caught.value.where == str(folder) and "tokenizer.json" in str(caught.value.hint)


# --- refused ------------------------------------------------------------------------------------------------------


def edit_tokenizer(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads((folder / "tokenizer.json").read_text())
    change(data)
    (folder / "tokenizer.json").write_text(json.dumps(data))


def no_embedding(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    save_file({name.replace("embed_tokens", "first"): tensor for name, tensor in tensors.items()}, folder / WEIGHTS)


BROKEN: list[tuple[Callable[[Path], object], str]] = [
    (lambda f: (f / "tokenizer.json").unlink(), "a vocabulary of 47 tokens, the base's has 45 (model.embed_tokens.wei"),
    (lambda f: (f / "tokenizer.json").write_text("{"), "cannot be read as a tokenizer"),
    (lambda f: (f / "tokenizer.json").write_bytes(b"\xff"), "cannot be read as a tokenizer"),
    (lambda f: (f / "tokenizer_config.json").write_text("["), "cannot be read as JSON"),
    (
        lambda f: write_tokenizer(f, [*COMMON, *IM, "<x>", "<y>"]),
        "x: the token '<x>' and 1 more has id 47, but the embedding has 47 rows",
    ),
    (
        lambda f: edit_tokenizer(f, lambda data: data["model"]["vocab"].update({"twice": 5})),
        "share the id 5",
    ),
    (lambda f: (f / "added_tokens.json").write_text('{"<x>": "abc"}'), "added_tokens.json: <x>: expected a token's id"),
    (lambda f: (f / "added_tokens.json").write_text('{"<x>": null}'), "added_tokens.json: <x>: expected a token's id"),
    *(
        (
            lambda f, said=said: edit_json(f / "tokenizer_config.json", added_tokens_decoder=said),  # type: ignore[misc]
            "tokenizer_config.json: added_tokens_decoder: expected",
        )
        for said in ({"x": {"content": "q"}}, [1], "abc")
    ),
    (
        lambda f: edit_json(f / "tokenizer_config.json", extra_special_tokens=5),
        "tokenizer_config.json: extra_special_tokens: expected tokens, got 5",
    ),
    (lambda f: write_tokenizer(f, [*COMMON, *IM[:1]]), ""),  # a padding row: nothing to refuse
]


@pytest.mark.parametrize(("break_it", "message"), BROKEN, ids=[message[:30] for _, message in BROKEN])
def test_bad_tokenizers(
    base: Path, more: Path, break_it: Callable[[Path], object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is told before a tensor is read."""
    break_it(more)

    def build() -> None:
        models = opened(base, x=more)
        monkeypatch.setattr(SafeFile, "mapped", None)
        Merge(speaking(models, "linear", {}, "x"), models)

    if not message:
        build()
        return
    with pytest.raises(SourceError) as caught:
        build()
    assert message in str(caught.value) and str(more) in str(caught.value)


def test_a_base_without_a_tokenizer(base: Path, more: Path, tmp_path: Path) -> None:
    bare = copy_without(base, tmp_path / "bare", "tokenizer.json")
    with pytest.raises(SourceError, match=r"and the base, .*bare, has no tokenizer"):
        opened(bare, x=more)
    same = opened(bare, x=fine_tune_of(base, tmp_path / "x", 1))  # one tokenizer among equally many rows will do
    assert same.frame(speaking(same, "linear", {}, "x")).base is same.base
    assert same.tokenizer_folder(speaking(same, "linear", {}, "union")) == tmp_path / "x"
    (note,) = same.notes(speaking(same, "linear", {}))
    assert note.startswith("the merge has no tokenizer") and note.endswith("`tokenizer` may name one that has: x")
    other = speaker(tmp_path / "other", [*reversed(COMMON)], seed=1)
    mixed = opened(bare, x=fine_tune_of(base, tmp_path / "y", 1), y=other)
    with pytest.raises(SourceError, match="holds no tokenizer, but the vocabularies of these models are not the same"):
        mixed.frame(speaking(mixed, "linear", {}))


def test_a_source_without_a_tokenizer_of_the_bases_size_speaks_as_the_base(
    base: Path, more: Path, tmp_path: Path
) -> None:
    bare = copy_without(fine_tune_of(base, tmp_path / "x", 1), tmp_path / "bare", "tokenizer.json")
    models = opened(base, bare=bare, more=more)
    out, _ = merged(speaking(models, "task_arithmetic", {"weight": {"bare": 1.0, "more": 0.0}}, "more"), models)
    assert torch.allclose(out[EMBED][:45], load_file(bare / WEIGHTS)[EMBED])
    assert models.tokenizer_folder(speaking(models, "linear", {}, "bare")) == base


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"tokens": {"<new>": "x"}}, "x has no token '<new>'.*No model has it"),
        ({"tokens": {"<new>": TokenRule("x", "<old>")}}, "x has no token '<old>'.*No model has it"),
        ({"tokens": {"a": TokenRule("base", 45)}}, "base has no row 45, it has 45"),
        ({"tokens": {"a": TokenRule("base", -1)}}, "base has no row -1, it has 45"),
        ({"tokens": {"<im_end>": "base"}, "tokenizer": "union"}, "base has no token '<im_end>'.*It is in x"),
        ({"pad_to_multiple_of": -1}, "pad_to_multiple_of: expected 0 to 1,048,576, got -1"),
    ],
)
def test_bad_rules(base: Path, more: Path, how: dict[str, Any], message: str) -> None:
    models = opened(base, x=more)
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        models.frame(speaking(models, "linear", {}, **how))


def test_embeddings_that_are_not_certain(base: Path, more: Path, tmp_path: Path) -> None:
    """Two input embeddings, a tensor that may have a row a token, none that is known: a plain merge goes on, a
    re-indexed one is refused."""
    for extra, message in (
        ({"model.other.wte.weight": torch.ones(45, 4)}, "its input embedding is not known"),
        ({"model.per_layer.weight": torch.ones(45, 4)}, "model.per_layer.weight .45, 4. may have one row per token"),
        (None, "its input embedding is not known"),
    ):
        folders = [Path(shutil.copytree(base, tmp_path / f"{name}{len(message)}{extra is None}")) for name in "ab"]
        for folder in folders:
            if extra is None:
                no_embedding(folder)
            else:
                save_file({**load_file(folder / WEIGHTS), **extra}, folder / WEIGHTS)
        models = opened(folders[0], x=folders[1])
        models.frame(speaking(models, "linear", {}))
        write_tokenizer(folders[1], [*reversed(COMMON)])
        models = opened(folders[0], x=folders[1])
        with pytest.raises(AutomergeError, match=message):
            models.frame(speaking(models, "linear", {}))


# --- adapters -----------------------------------------------------------------------------------------------------


def test_an_adapter_of_the_bases_tokens_over_another_vocabulary(base: Path, more: Path, tmp_path: Path) -> None:
    """Its δ goes where its tokens go: rows of embeddings too."""
    x = peft_lora_of(base, tmp_path / "x", 3, target_modules=["embed_tokens", "q_proj"])
    models = opened(base, x=x, y=more)
    plain = opened(base, x=x)
    delta = plain.sources["x"].whole_delta(EMBED)
    out, _ = merged(speaking(models, "task_arithmetic", {"weight": {"x": 1.0, "y": 0.0}}, "union"), models)
    table = load_file(base / WEIGHTS)[EMBED]
    assert torch.equal(out[EMBED][:45], table + delta)
    assert torch.equal(out[EMBED][45:], load_file(more / WEIGHTS)[EMBED][45:])
    moved = speaker(tmp_path / "moved", [*IM, *reversed(COMMON)], seed=5)
    models = opened(base, x=x, y=moved)
    out, _ = merged(speaking(models, "task_arithmetic", {"weight": {"x": 1.0, "y": 0.0}}, "y"), models)
    assert torch.equal(out[EMBED][2:], (table + delta).flip(0))


def test_an_adapter_that_added_tokens(base: Path, tmp_path: Path) -> None:
    """Embedding and head saved whole, with more rows: the adapter's tokenizer says which they are."""
    wide = speaker(tmp_path / "wide", [*COMMON, *IM], seed=0)
    tables = {tensor: load_file(wide / WEIGHTS)[tensor] for tensor in (EMBED, HEAD)}
    adapter = lora_of(base, tmp_path / "x", 3, modules_to_save=["embed_tokens", "lm_head"])
    held = load_file(adapter / "adapter_model.safetensors")
    saved = {f"base_model.model.{tensor}": table + 1 for tensor, table in tables.items()}
    save_file({**held, **saved}, adapter / "adapter_model.safetensors")
    with pytest.raises(SourceError, match=r"a vocabulary of 47 tokens, the base's has 45 .* and it has no tokenizer"):
        opened(base, x=adapter)
    write_tokenizer(adapter, [*COMMON, *IM], {"eos_token": "<im_end>"})
    models = opened(base, x=adapter)
    for tokenizer, rows in (("base", 45), ("x", 47), ("union", 47)):
        recipe = speaking(models, "task_arithmetic", {"weight": {"x": 1.0}}, tokenizer)
        out, _ = merged(recipe, models)
        for tensor, table in tables.items():
            assert torch.allclose(out[tensor], (table + 1)[:rows], atol=1e-6)
        assert models.frame(recipe).config["eos_token_id"] == (46 if tokenizer == "x" else 2)
        generation = models.generation_config(recipe)
        assert generation is not None and generation["eos_token_id"] == (46 if tokenizer == "x" else 2)
    del saved[f"base_model.model.{HEAD}"]
    save_file({**held, **saved}, adapter / "adapter_model.safetensors")
    with pytest.raises(SourceError, match="embedding and head must both be saved"):
        opened(base, x=adapter)


def test_an_adapter_that_took_padding_rows(tmp_path: Path) -> None:
    """Tokens in rows that are padding in the base: the adapter owns them, θ + δ."""
    base = speaker(tmp_path / "base", COMMON, rows=48)
    adapter = peft_lora_of(base, tmp_path / "x", 3, target_modules=["embed_tokens"])
    write_tokenizer(adapter, [*COMMON, *IM])
    models = opened(base, x=adapter)
    delta = open_models(
        str(base), {"x": str(peft_lora_of(base, tmp_path / "bare", 3, target_modules=["embed_tokens"]))}
    )
    whole = load_file(base / WEIGHTS)[EMBED] + delta.sources["x"].whole_delta(EMBED)
    recipe = speaking(models, "task_arithmetic", {"weight": {"x": 0.25}}, "x")
    out, _ = merged(recipe, models)
    assert torch.equal(out[EMBED][45:47], whole[45:47]) and len(out[EMBED]) == 48
    assert torch.equal(models.frame(recipe).sources["x"].whole_delta(EMBED)[45:47], torch.zeros(2, 16))
    assert not torch.equal(out[EMBED][:45], whole[:45])


# --- ids ----------------------------------------------------------------------------------------------------------


def test_ids_are_the_tokenizers_models_or_translated() -> None:
    translate = translator(
        {0: "a", 1: "b", 2: "</s>"}, {"b": 5, "<end>": 7, "</s>": 6}, {"eos_token": ("</s>", "<end>")}
    )
    base = {
        "vocab_size": 3,
        "eos_token_id": [2, 1],
        "bos_token_id": 2,
        "pad_token_id": 0,
        "suppress_tokens": [0, 1],
        "text_config": {"eos_token_id": 2, "hidden_size": 4},
    }
    assert rewritten(base, {}, translate) == {
        "vocab_size": 3,
        "eos_token_id": [7, 5],
        "bos_token_id": 6,
        "suppress_tokens": [5],
        "text_config": {"eos_token_id": 7, "hidden_size": 4},
    }
    own = {"eos_token_id": 9, "pad_token_id": None, "vocab_size": 8, "text_config": {"eos_token_id": 9}}
    found = rewritten(base, own, translate)
    assert (found["eos_token_id"], found["pad_token_id"], found["bos_token_id"]) == (9, None, 6)
    assert found["vocab_size"] == 3 and found["text_config"]["eos_token_id"] == 9


# --- written ------------------------------------------------------------------------------------------------------


def test_another_chat_template(base: Path, tmp_path: Path) -> None:
    edit_json(base / "tokenizer_config.json", chat_template="old")
    models = opened(base, x=fine_tune_of(base, tmp_path / "x", 1))
    recipe = speaking(models, "linear", {}, "x", chat_template="{{ messages[0].content }}!")
    folder = models.tokenizer_folder(recipe)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi!"
    assert ids_of(folder) == ids_of(base)
    assert models.tokenizer_folder(speaking(models, "linear", {}, "x")) == tmp_path / "x"
    assert any("another chat template" in note for note in models.notes(recipe))


def test_further_chat_templates_go_with_their_tokenizer(base: Path, more: Path, tmp_path: Path) -> None:
    """As transformers 5 writes them: chat_template.jinja, and one file for each further name."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = {"default": "{{ messages[0].content }}", "tools": "{{ messages[0].content }}?"}
    tokenizer.save_pretrained(base)
    assert (base / "additional_chat_templates" / "tools.jinja").is_file()
    models = opened(base, x=more)
    for number, spoken in enumerate(("base", "union")):
        recipe = speaking(models, "linear", {}, spoken)
        out = tmp_path / f"out{number}"
        write_checkpoint(recipe, models, out, expected_checksum=None)
        assert AutoTokenizer.from_pretrained(out).chat_template == tokenizer.chat_template
    other = speaking(models, "linear", {}, "base", chat_template="one")
    assert AutoTokenizer.from_pretrained(models.tokenizer_folder(other)).chat_template == "one"


def test_a_written_folder_is_whole_or_made_again(
    base: Path, more: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = opened(base, x=more)
    recipe = speaking(models, "linear", {}, "union")
    folder = models.tokenizer_folder(recipe)
    wanted = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(wanted) == {"tokenizer.json", "tokenizer_config.json", "config.json"}
    (folder / "tokenizer.json").write_text("torn")
    assert models.tokenizer_folder(recipe) == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == wanted
    assert not [path for path in folder.parent.iterdir() if "." in path.name]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AUTOMERGE_CACHE", str(tmp_path / "file"))
    with pytest.raises(SourceError, match=r"the tokenizer cannot be written.*\nSet AUTOMERGE_CACHE"):
        write_folder({"a": b"b"})


def test_ids_with_holes_cannot_be_a_union(base: Path, more: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        data["model"]["vocab"]["9"] = 46  # 44 is free, and 45
        data["added_tokens"] = [entry for entry in data["added_tokens"] if entry["content"] != "9"]

    tensors = load_file(base / WEIGHTS)
    for tensor in (EMBED, HEAD):
        tensors[tensor] = torch.cat([tensors[tensor], tensors[tensor][:3]])
    save_file(tensors, base / WEIGHTS)
    edit_tokenizer(base, change)
    models = opened(base, x=more)
    with pytest.raises(SourceError, match="ids of the tokenizer taken have holes"):
        models.frame(speaking(models, "linear", {}, "union"))
    assert rows_by_token(base)["9"].shape == (16,)
