"""Vocabularies that differ: every rule of docs/vocabularies.md on tiny models, checked row by row by token string."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from automerge.errors import SourceError
from automerge.merge import Merge, Models, open_models
from automerge.merge.kernels import reference
from automerge.merge.vocabulary import merged as merged_vocabulary
from automerge.merge.vocabulary.reindex import pairwise_sum
from automerge.recipe import TokenRule, parse_recipe
from tests.merge.helpers import merged, recipe_of
from tests.merge.speakers import (
    COMMON,
    EMBED,
    HEAD,
    WEIGHTS,
    config_of,
    ids_of,
    rows_by_token,
    speaker,
    speaking,
    untie,
    write_tokenizer,
)
from tests.tiny import fine_tune_of, peft_lora_of

IM = ["<im_start>", "<im_end>"]
BOTH = (EMBED, HEAD)


def opened(base: Path, **sources: Path) -> Models:
    return open_models(str(base), {name: str(path) for name, path in sources.items()})


def sum_of(models: Models, tokenizer: str = "base", **more: object) -> dict[str, torch.Tensor]:
    """θ + 0.5 Σ δ."""
    weights = dict.fromkeys(models.sources, 0.5)
    return merged(speaking(models, "task_arithmetic", {"weight": weights}, tokenizer, **more), models)[0]


def expected(base: torch.Tensor, *sources: torch.Tensor) -> torch.Tensor:
    total = sum((0.5 * (source - base) for source in sources), torch.zeros_like(base))
    return base + total


def test_equal_vocabularies_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No tokenizer is parsed, and the frame's models are the files themselves."""
    base = speaker(tmp_path / "base", COMMON)
    models = opened(base, x=fine_tune_of(base, tmp_path / "x", 1), y=fine_tune_of(base, tmp_path / "y", 2))
    monkeypatch.setattr(merged_vocabulary, "read_tokens", None)
    for tokenizer in ("base", "x", "union"):
        recipe = speaking(models, "linear", {}, tokenizer)
        frame = models.frame(recipe)
        assert frame.base is models.base and frame.sources == models.sources
        assert frame.config == models.config and models.frame(recipe) is frame
        assert models.notes(recipe) == []
    padded = speaking(models, "linear", {}, pad_to_multiple_of=len(COMMON))
    assert models.frame(padded).base is models.base


def test_a_source_with_tokens_the_base_lacks(tmp_path: Path) -> None:
    """The base's tokenizer: they are dropped, and all other rows meet by token, not by number."""
    base = speaker(tmp_path / "base", COMMON)
    moved = [*IM, *reversed(COMMON)]
    models = opened(base, x=speaker(tmp_path / "x", moved, seed=1))
    recipe = speaking(models, "task_arithmetic", {"weight": {"x": 0.5}})
    tensors, _ = merged(recipe, models)
    for tensor in BOTH:
        ours, theirs = rows_by_token(base, tensor), rows_by_token(tmp_path / "x", tensor)
        assert tensors[tensor].shape == (len(COMMON), 16)
        for row, token in enumerate(COMMON):
            assert torch.equal(tensors[tensor][row], expected(ours[token], theirs[token]))
    assert models.frame(recipe).config["vocab_size"] == len(COMMON)
    notes = "\n".join(models.notes(recipe))
    assert 'x: the merge\'s vocabulary lacks "<im_start>", "<im_end>"' in notes
    assert 'x: at another id in the merge: "9", "8", "7", "6", "5" and 39 more' in notes


def test_a_token_of_one_owner_is_the_owners(tmp_path: Path) -> None:
    base = speaker(tmp_path / "base", COMMON)
    x = speaker(tmp_path / "x", [*COMMON, *IM], seed=1)
    y = speaker(tmp_path / "y", COMMON, seed=2)
    models = opened(base, x=x, y=y)
    for method, tokenizer in (("task_arithmetic", "x"), ("linear", "union"), ("dare_ties", "x"), ("ties", "union")):
        tensors, _ = merged(speaking(models, method, {"weight": {"x": 0.3, "y": 0.7}}, tokenizer), models)
        for tensor in BOTH:
            own = rows_by_token(x, tensor)
            assert tensors[tensor].shape == (len(COMMON) + 2, 16)
            for row, token in enumerate(IM, len(COMMON)):
                found = tensors[tensor][row]
                if method == "linear":  # 0.3 x + 0.7 x, rounded
                    assert torch.allclose(found, own[token], rtol=2e-7, atol=0)
                else:
                    assert torch.equal(found, own[token]), (method, tensor)


def test_a_token_of_two_owners_is_their_mean_in_the_base(tmp_path: Path) -> None:
    base = speaker(tmp_path / "base", COMMON, dtype=torch.bfloat16)
    x = speaker(tmp_path / "x", [*COMMON, *IM], seed=1, dtype=torch.bfloat16)
    y = speaker(tmp_path / "y", [*IM, *COMMON], seed=2, dtype=torch.bfloat16)
    z = speaker(tmp_path / "z", COMMON, seed=3, dtype=torch.bfloat16)
    models = opened(base, x=x, y=y, z=z)
    recipe = speaking(models, "task_arithmetic", {"weight": {"x": 1.0, "y": 0.5, "z": 0.5}}, "union")
    frame = models.frame(recipe)
    for tensor in BOTH:
        theirs = [rows_by_token(folder, tensor) for folder in (x, y)]
        stored = frame.base.stored(tensor)
        assert stored is not None and stored.dtype == torch.float32  # a mean of bfloat16 rows is none
        for row, token in enumerate(IM, len(COMMON)):
            mean = (theirs[0][token] + theirs[1][token]) / 2
            assert torch.equal(stored[row], mean)
            assert torch.equal(frame.sources["z"].stored(tensor)[row], mean)  # type: ignore[index]
            assert torch.equal(frame.sources["x"].stored(tensor)[row].float(), theirs[0][token])  # type: ignore[index]
        row = frame.sources["x"].stored(tensor)
        assert row is not None and row.dtype == torch.bfloat16  # it lacks nothing
    tensors, _ = merged(recipe, models)
    one, two = (rows_by_token(folder)["<im_end>"] for folder in (x, y))
    mean = (one + two) / 2
    assert torch.equal(tensors[EMBED][len(COMMON) + 1], mean + ((one - mean) + 0.5 * (two - mean)))


def test_the_order_of_a_union(tmp_path: Path) -> None:
    """The base's ids stay; then the sources by name, each in the order of its ids."""
    base = speaker(tmp_path / "base", COMMON, rows=len(COMMON) + 1)
    b = speaker(tmp_path / "b", ["<b2>", *COMMON, "<both>", "<b1>"], seed=1)
    a = speaker(tmp_path / "a", [*COMMON, "<both>", "<a>", "A"], seed=2)
    models = opened(base, b=b, a=a)
    recipe = speaking(models, "linear", {}, "union")
    folder = models.tokenizer_folder(recipe)
    ids = ids_of(folder)
    further = ["<both>", "<a>", "A", "<b2>", "<b1>"]
    assert ids == {token: row for row, token in enumerate([*COMMON, *further])}
    assert models.frame(recipe).shapes[EMBED] == (len(ids), 16)  # the base's one padding row is taken up
    assert folder == models.tokenizer_folder(recipe) and folder.parent.name == "tokenizers"
    assert any("1 ordinary tokens of it are matched" in note or '"A"' in note for note in models.notes(recipe))
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("ab<both>A<b1>c").input_ids == [ids[token] for token in ("a", "b", "<both>", "A", "<b1>", "c")]
    assert tokenizer.decode(tokenizer("a<b1>Ab").input_ids, skip_special_tokens=True) == "aAb"
    assert tokenizer.eos_token == "</s>"


def test_padding_stays(tmp_path: Path) -> None:
    """With rows beyond the tokens the output keeps the named model's size; a source's own padding is merged in."""
    n = len(COMMON)
    base = speaker(tmp_path / "base", COMMON, rows=n + 11)
    x = speaker(tmp_path / "x", COMMON, rows=n, seed=1)
    y = speaker(tmp_path / "y", [*COMMON, *IM], rows=n + 5, seed=2)
    models = opened(base, x=x, y=y)
    tables = {name: load_file(folder / WEIGHTS)[EMBED] for name, folder in (("base", base), ("x", x), ("y", y))}
    plain = sum_of(models)
    assert plain[EMBED].shape == plain[HEAD].shape == (n + 11, 16)
    for row in range(n + 11):
        theirs = [tables[name][row] for name in ("x", "y") if row < n or (name == "y" and n + 2 <= row < n + 5)]
        assert torch.equal(plain[EMBED][row], expected(tables["base"][row], *theirs)), row
    of_x, of_y, union = (sum_of(models, name) for name in ("x", "y", "union"))
    assert [len(out[EMBED]) for out in (of_x, of_y, union)] == [n, n + 5, n + 11]
    assert torch.equal(of_x[EMBED], plain[EMBED][:n])
    assert torch.equal(union[EMBED][n : n + 2], tables["y"][n : n + 2])
    base_row = tables["base"][n + 3]  # padding in base and y alike
    assert torch.equal(of_y[EMBED][n + 3], expected(base_row, tables["y"][n + 3]))


def test_padding_beyond_every_model(tmp_path: Path) -> None:
    """pad_to_multiple_of: a row that no model has is in each of them the mean of its own rows of tokens."""
    n = len(COMMON)
    base = speaker(tmp_path / "base", COMMON, rows=n + 1)
    models = opened(base, x=speaker(tmp_path / "x", COMMON, rows=n, seed=1))
    out = sum_of(models, pad_to_multiple_of=32)
    table = load_file(base / WEIGHTS)[EMBED]
    assert len(out[EMBED]) == len(out[HEAD]) == 64
    means = [
        (pairwise_sum(own[:n].double()) / n).float() for own in (table, load_file(tmp_path / "x" / WEIGHTS)[EMBED])
    ]
    assert torch.allclose(means[0], table[:n].mean(0), atol=1e-6)
    assert torch.equal(out[EMBED][n], table[n])
    assert all(torch.equal(out[EMBED][row], expected(*means)) for row in range(n + 1, 64))


def test_the_mean_of_an_adapter_and_of_bfloat16(tmp_path: Path) -> None:
    """A mean is not rounded to the dtype the rows are stored in; an adapter's is that of θ + δ."""
    n = len(COMMON)
    base = speaker(tmp_path / "base", COMMON, tied=True, dtype=torch.bfloat16)
    adapter = peft_lora_of(base, tmp_path / "adapter", 3, target_modules=["embed_tokens"])
    models = opened(base, adapter=adapter)
    frame = models.frame(speaking(models, "linear", {}, pad_to_multiple_of=64))
    stored = frame.base.stored(EMBED)
    assert stored is not None and stored.dtype == torch.float32
    own, delta = load_file(base / WEIGHTS)[EMBED].double(), models.sources["adapter"].whole_delta(EMBED)
    assert torch.equal(stored[n], (pairwise_sum(own) / n).float())
    found = frame.sources["adapter"].whole_delta(EMBED)
    assert torch.equal(found[:n], delta) and torch.equal(found[n], (pairwise_sum(delta.double()) / n).float())


def test_a_rule_for_a_token(tmp_path: Path) -> None:
    """Its row is the named model's, whatever the weights."""
    base = speaker(tmp_path / "base", COMMON)
    x = speaker(tmp_path / "x", [*COMMON, *IM], seed=1)
    y = speaker(tmp_path / "y", [*IM, *COMMON], seed=2)
    models = opened(base, x=x, y=y)
    rules = {"<im_end>": "y", "</s>": "base", "a": "x"}
    out = sum_of(models, "union", tokens=rules)
    ids = {token: row for row, token in enumerate([*COMMON, *IM])}
    for tensor in BOTH:
        rows = {name: rows_by_token(folder, tensor) for name, folder in (("base", base), ("x", x), ("y", y))}
        for token, owner in rules.items():
            assert torch.equal(out[tensor][ids[token]], rows[owner][token])
        both = (rows["x"]["b"], rows["y"]["b"])
        assert torch.equal(out[tensor][ids["b"]], expected(rows["base"]["b"], *both))
    alone = opened(base, x=fine_tune_of(base, tmp_path / "same", 3))  # rules alone are enough to re-index
    assert torch.equal(sum_of(alone, tokens={"a": "x"})[EMBED][4], rows_by_token(tmp_path / "same")["a"])


def test_a_rule_for_the_models_that_lack_the_token(tmp_path: Path) -> None:
    """Without force: own rows stay; a row of zeros, another token's, the row of a number; a token that no model has."""
    base = speaker(tmp_path / "base", [*COMMON, "<b>"])
    x = speaker(tmp_path / "x", [*COMMON, *IM], seed=1, dtype=torch.float16)
    y = speaker(tmp_path / "y", [*IM, *COMMON], rows=len(COMMON) + 3, seed=2)
    models = opened(base, x=x, y=y)
    rules = {
        "<b>": TokenRule("y", "a", force=False),  # the base alone has it
        "<im_start>": TokenRule("x", force=False),  # the base alone lacks it
        "<im_end>": TokenRule(None, force=False),
        "a": TokenRule("x", "b", force=False),  # all have it
        "c": TokenRule(None),
        "d": TokenRule("base", "e"),
        "<zero>": TokenRule(None, force=False),
        "<row>": TokenRule("y", len(COMMON) + 2, force=False),  # a row of padding
    }
    recipe = speaking(models, "task_arithmetic", {"weight": {"x": 0.5, "y": 0.5}}, "union", tokens=rules)
    out, ids = merged(recipe, models)[0], ids_of(models.tokenizer_folder(recipe))
    assert [ids[token] for token in ("<b>", *IM, "<row>", "<zero>")] == list(range(45, 50))
    for tensor in BOTH:
        found = {token: out[tensor][row] for token, row in ids.items()}
        b, of_x, of_y = (rows_by_token(folder, tensor) for folder in (base, x, y))
        zero = torch.zeros(16)
        assert torch.equal(found["<b>"], expected(b["<b>"], of_y["a"], of_y["a"]))
        assert torch.equal(found["<im_start>"], expected(of_x["<im_start>"], of_x["<im_start>"], of_y["<im_start>"]))
        assert torch.equal(found["<im_end>"], expected(zero, of_x["<im_end>"], of_y["<im_end>"]))
        assert torch.equal(found["a"], expected(b["a"], of_x["a"], of_y["a"]))
        assert torch.equal(found["d"], b["e"])
        assert torch.equal(found["c"], zero) and torch.equal(found["<zero>"], zero)
        assert torch.equal(found["<row>"], load_file(y / WEIGHTS)[tensor][len(COMMON) + 2])
        assert torch.equal(found["f"], expected(b["f"], of_x["f"], of_y["f"]))
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models.tokenizer_folder(recipe))
    assert tokenizer("a<row>").input_ids == [ids["a"], ids["<row>"]]


def test_a_rule_gives_an_adapter_a_row(tmp_path: Path) -> None:
    """Its δ is then against the base's own row of the token; and a rule may name a row of an adapter's."""
    base = speaker(tmp_path / "base", [*COMMON, "<b>"], tied=True)
    adapter = peft_lora_of(base, tmp_path / "adapter", 3, target_modules=["embed_tokens"])
    write_tokenizer(adapter, [*COMMON, "<a>"])
    x = speaker(tmp_path / "x", COMMON, tied=True, seed=1)
    models = opened(base, adapter=adapter, x=x)
    rules = {"<b>": TokenRule("x", "a", force=False), "c": TokenRule("adapter", "d")}
    weights = {"weight": {"adapter": 1.0, "x": 0.0}}
    out = merged(speaking(models, "task_arithmetic", weights, tokens=rules), models)[0][EMBED]
    own, delta = load_file(base / WEIGHTS)[EMBED], models.sources["adapter"].whole_delta(EMBED)
    b, d = len(COMMON), COMMON.index("d")
    assert torch.equal(out[b], own[b] + (rows_by_token(x)["a"] - own[b]))
    assert torch.equal(out[COMMON.index("c")], own[d] + delta[d])
    assert torch.equal(out[d], own[d] + delta[d])


def test_rules_add_tokens_to_the_tokenizer_that_is_taken(tmp_path: Path) -> None:
    base = speaker(tmp_path / "base", COMMON)
    x = speaker(tmp_path / "x", [*COMMON, *IM], seed=1, roles={"eos_token": "<im_end>"})
    y = speaker(tmp_path / "y", [*COMMON, "<y>"], seed=2)
    models = opened(base, x=x, y=y)
    for tokenizer, start, eos in (("base", 45, "</s>"), ("x", 47, "<im_end>"), ("union", 47, "</s>")):
        rules = {"<y>": "y", "<w>": TokenRule("x", "<im_end>")}
        recipe = speaking(models, "task_arithmetic", {"weight": {"x": 0.5, "y": 0.5}}, tokenizer, tokens=rules)
        ids, out = ids_of(models.tokenizer_folder(recipe)), merged(recipe, models)[0]
        place = {"<w>": start, "<y>": start + 1} if tokenizer != "union" else {"<y>": start, "<w>": start + 1}
        assert {token: ids[token] for token in place} == place
        assert models.frame(recipe).config["vocab_size"] == len(out[EMBED]) == len(ids) == start + 2
        assert torch.equal(out[EMBED][ids["<y>"]], rows_by_token(y)["<y>"])
        assert torch.equal(out[EMBED][ids["<w>"]], rows_by_token(x)["<im_end>"])
        assert models.frame(recipe).config["eos_token_id"] == ids[eos]


def test_tied_and_untied(tmp_path: Path) -> None:
    """A merge of tied and untied models has a head of its own; the head of a tied model is its embedding."""
    tied = speaker(tmp_path / "tied", COMMON, tied=True)
    free = fine_tune_of(tied, tmp_path / "free", 1)
    untie(free)
    other = fine_tune_of(tied, tmp_path / "other", 2)
    tables = {folder.name: load_file(folder / WEIGHTS) for folder in (tied, free, other)}
    for base, names in ((tied, ("free", "other")), (free, ("other", "tied"))):
        models = opened(base, **{name: tmp_path / name for name in names})
        out = sum_of(models)
        frame = models.frame(speaking(models, "linear", {}))
        assert frame.config["tie_word_embeddings"] is False
        named = "base, other" if base == tied else "other, tied"
        assert (
            f"the merge has a head of its own, which {named} tied" in models.notes(speaking(models, "linear", {}))[-1]
        )
        assert list(out)[-1] == "model.norm.weight" and HEAD in out
        for tensor in BOTH:
            base_values, *theirs = (tables[name].get(tensor, tables[name][EMBED]) for name in (base.name, *names))
            assert torch.equal(out[tensor], expected(base_values, *theirs)), (base, tensor)
    both = opened(tied, other=other)
    assert HEAD not in sum_of(both) and both.frame(recipe_of(both, "linear")).config == both.config


def test_an_adapter_of_a_tied_base_beside_an_untied_source(tmp_path: Path) -> None:
    """Its change of the embedding is one of the head too, as in the model it was made for."""
    tied = speaker(tmp_path / "tied", COMMON, tied=True)
    free = fine_tune_of(tied, tmp_path / "free", 1)
    untie(free)
    adapter = peft_lora_of(tied, tmp_path / "adapter", 3, target_modules=["embed_tokens"])
    models = opened(tied, free=free, adapter=adapter)
    delta, table = models.sources["adapter"].whole_delta(EMBED), load_file(tied / WEIGHTS)[EMBED]
    weight = {"weight": {"adapter": 1.0, "free": 0.0}}
    for tokenizer in ("base", "union"):
        out, _ = merged(speaking(models, "task_arithmetic", weight, tokenizer), models)
        assert torch.equal(out[HEAD], table + delta) and torch.equal(out[EMBED], table + delta)


def test_tied_and_untied_of_different_vocabularies(tmp_path: Path) -> None:
    tied = speaker(tmp_path / "tied", COMMON, tied=True)
    free = speaker(tmp_path / "free", [*IM, *COMMON], tied=True, seed=1)
    untie(free)
    out = sum_of(opened(tied, free=free), "union")
    base, theirs = rows_by_token(tied), rows_by_token(free, HEAD)
    for row, token in enumerate(COMMON):
        assert torch.equal(out[HEAD][row], expected(base[token], theirs[token]))
    assert torch.equal(out[HEAD][len(COMMON)], theirs["<im_start>"])
    assert torch.equal(out[EMBED][len(COMMON)], rows_by_token(free)["<im_start>"])


def test_conflicting_special_tokens(tmp_path: Path) -> None:
    """Same strings at other ids, and another eos: rows meet by string, roles and ids are the taken tokenizer's."""
    base = speaker(tmp_path / "base", COMMON)
    swapped = ["</s>", "<pad>", "<s>", "<unk>", *COMMON[4:], *IM]
    x = speaker(tmp_path / "x", swapped, seed=1, roles={"eos_token": "<im_end>", "pad_token": "</s>"})
    models = opened(base, x=x)
    ids = {token: swapped.index(token) for token in swapped}
    for tokenizer, wanted in (
        ("base", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}),
        ("union", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}),
        ("x", {"bos_token_id": 2, "eos_token_id": ids["<im_end>"], "pad_token_id": 0}),
    ):
        recipe = speaking(models, "task_arithmetic", {"weight": {"x": 0.5}}, tokenizer)
        config, generation = models.frame(recipe).config, models.generation_config(recipe)
        assert generation is not None
        assert {key: config[key] for key in wanted} == {key: generation[key] for key in wanted} == wanted
        out = merged(recipe, models)[0][EMBED]
        rows = rows_by_token(base), rows_by_token(x)
        place = ids_of(models.tokenizer_folder(recipe))["</s>"]
        assert torch.equal(out[place], expected(rows[0]["</s>"], rows[1]["</s>"]))
        told = "\n".join(models.notes(recipe))
        who, theirs, ours = ("base", "</s>", "<im_end>") if tokenizer == "x" else ("x", "<im_end>", "</s>")
        assert f"{who}: its eos_token is {theirs!r}, the merge's is {ours!r}" in told


def test_roles_of_a_tokenizer_with_the_same_tokens(tmp_path: Path) -> None:
    """Nothing is re-indexed, yet the ids follow the tokenizer that is taken."""
    base = speaker(tmp_path / "base", [*COMMON, *IM])
    x = speaker(tmp_path / "x", [*COMMON, *IM], seed=1, roles={"eos_token": "<im_end>"})
    models = opened(base, x=x)
    recipe = speaking(models, "linear", {}, "x")
    frame = models.frame(recipe)
    assert frame.base is models.base and frame.config["eos_token_id"] == len(COMMON) + 1
    assert models.frame(speaking(models, "linear", {})).config["eos_token_id"] == 2
    assert models.frame(recipe).kept is models.frame(speaking(models, "linear", {})).kept


@pytest.mark.parametrize("tokenizer", ["base", "x", "union"])
@pytest.mark.parametrize("method", ["dare_ties", "ties", "linear"])
def test_the_bytes_do_not_depend_on_kernel_or_batches(tmp_path: Path, method: str, tokenizer: str) -> None:
    base = speaker(tmp_path / "base", COMMON, dtype=torch.bfloat16, tied=True)
    x = speaker(tmp_path / "x", [*reversed(COMMON), *IM], seed=1, dtype=torch.float16, tied=True)
    y = speaker(tmp_path / "y", [*IM, *COMMON], rows=60, seed=2, tied=True)
    models = opened(base, x=x, y=y)
    recipe = speaking(models, method, {"weight": {"x": 0.6, "y": 0.4}}, tokenizer, dtype="bfloat16")
    found = set()
    for how in ({}, {"kernel": reference.run}, {"batch_bytes": 1}):
        merge = Merge(recipe, models, **how)  # type: ignore[arg-type]
        assert sum(1 for _ in merge.tensors()) == len(merge.names)
        found.add(merge.checksum)
    again = Merge(recipe, open_models(str(base), {"x": str(x), "y": str(y)}))
    assert list(again.tensors()) and {again.checksum} == found


def test_configs_are_not_changed_in_place(tmp_path: Path) -> None:
    base = speaker(tmp_path / "base", COMMON)
    models = opened(base, x=speaker(tmp_path / "x", [*COMMON, *IM], seed=1, roles={"eos_token": "<im_end>"}))
    before = config_of(base)
    models.frame(speaking(models, "linear", {}, "x"))
    assert models.config == before


def test_a_recipe_knows_the_tokenizers_it_was_made_of(tmp_path: Path) -> None:
    base = speaker(tmp_path / "base", COMMON)
    more = speaker(tmp_path / "more", [*COMMON, "x", "y"], seed=1)
    models = opened(base, more=more)
    recipe = models.sealed(speaking(models, "linear", {}, "union"))
    assert recipe.rows and parse_recipe(recipe.to_json()) == recipe
    write_tokenizer(more, [*COMMON, "y", "x"])  # the same weights, other tokens' rows
    other = opened(base, more=more)
    with pytest.raises(SourceError, match=r"at other rows.*\n.*tokenizer has changed"):
        Merge(recipe, other)
    assert other.sealed(speaking(other, "linear", {}, "union")).hash != recipe.hash
    alike = opened(base, tune=fine_tune_of(base, tmp_path / "tune", 1))
    assert alike.sealed(speaking(alike, "linear", {})).rows == ""
