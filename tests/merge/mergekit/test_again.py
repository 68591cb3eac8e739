"""The mergekit_config.yml of a written merge, merged again, gives the same: weights, tokenizer, chat template, ids."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from automerge import api
from automerge.errors import ConfigError
from automerge.merge import open_models
from automerge.merge.mergekit.write import to_mergekit
from automerge.merge.vocabulary.ids import is_token_key
from tests.merge.helpers import edit_json, recipe_of
from tests.peers.peer import config_names, fill
from tests.peers.pico import pico_family
from tests.tiny import lora_of

Family = dict[str, Path]
SPOKEN = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """Pico models, and copies that speak otherwise: another template (two), more rows, other ids, no tokenizer."""
    root = tmp_path_factory.mktemp("again")
    made = pico_family(root, "llama")
    for name, source in (("chat", "one"), ("chatb", "two"), ("padded", "two"), ("ids", "one"), ("mute", "three")):
        made[name] = Path(shutil.copytree(made[source], root / name))
    for name in ("chat", "chatb"):
        (made[name] / "chat_template.jinja").write_text("{% for m in messages %}<{{ m.content }}>{% endfor %}")
    tensors = load_file(made["padded"] / "model.safetensors")
    for tensor in ("model.embed_tokens.weight", "lm_head.weight"):
        more = torch.full((32, tensors[tensor].shape[1]), 0.01, dtype=torch.bfloat16)
        tensors[tensor] = torch.cat([tensors[tensor], more])
    save_file(tensors, made["padded"] / "model.safetensors", metadata={"format": "pt"})
    edit_json(made["padded"] / "config.json", vocab_size=160)
    edit_json(made["ids"] / "config.json", eos_token_id=[2, 7])
    edit_json(made["ids"] / "generation_config.json", eos_token_id=[2, 7])
    (made["mute"] / "tokenizer.json").unlink()
    made["poet"] = lora_of(made["base"], root / "poet", seed=3, dtype=torch.bfloat16)
    return made


def said(folder: Path) -> dict[str, Any]:
    """The checksum, the tokenizer's files and the ids of a written merge."""
    found: dict[str, Any] = {"checksum": json.loads((folder / "provenance.json").read_text())["checksum"]}
    found |= {name: (folder / name).read_text() if (folder / name).exists() else None for name in SPOKEN}
    for name in ("config.json", "generation_config.json"):
        read = json.loads((folder / name).read_text())
        found[name] = {key: value for key, value in read.items() if is_token_key(key)}
    return found


def check_again(config: Path, tmp_path: Path) -> str:
    """Asserts that what a config gives, its written config gives again; returns that."""
    api.merge(config, tmp_path / "a")
    written = tmp_path / "a" / "mergekit_config.yml"
    api.merge(written, tmp_path / "b")
    assert said(tmp_path / "b") == said(tmp_path / "a")
    return written.read_text()


# by default those that say more than a method's name and numbers
ALWAYS = ("chat_template", "karcher", "linear", "multislerp", "nuslerp", "passthrough_deep", "slerp_models")
CONFIGS = [
    pytest.param(name, marks=[] if name in ALWAYS or name.startswith(("tokenizer", "slices")) else pytest.mark.full)
    for name in config_names()
]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_method_gives_the_same_again(name: str, family: Family, tmp_path: Path) -> None:
    check_again(fill(name, family, tmp_path), tmp_path)


def models_of(*names: str) -> str:
    weights = (f"  - {{model: {{{name}}}, parameters: {{weight: 0.{3 + n}}}}}\n" for n, name in enumerate(names))
    return "models:\n" + "".join(weights)


OVER_BASE = "merge_method: task_arithmetic\nbase_model: {base}\n"
STACK = (
    "merge_method: linear\nbase_model: {base}\nslices:\n"
    "  - sources: [{model: {ids}, layer_range: [0, 2], parameters: {weight: 0.3}},"
    " {model: {base}, layer_range: [0, 2], parameters: {weight: 0.4}}]\n"
    "  - sources: [{model: {ids}, layer_range: [1, 3], parameters: {weight: 0.3}}]\n"
)
SPEAKING = {
    "sources alike, the base not": OVER_BASE + models_of("chat", "chatb") + "tokenizer_source: {chat}",
    "the base's template": OVER_BASE + models_of("chat", "chatb"),
    "more tokens": OVER_BASE + models_of("tools") + "tokenizer_source: {tools}",
    "more rows": OVER_BASE + models_of("padded") + "tokenizer_source: {padded}",
    "more rows, the base's taken": OVER_BASE + models_of("padded"),
    "other ids": OVER_BASE + models_of("ids") + "tokenizer_source: {ids}",
    "other ids, the base's taken": OVER_BASE + models_of("ids"),
    "an adapter": OVER_BASE + "models: [{model: '{base}+{poet}', parameters: {weight: 1}}]",
    "linear": "merge_method: linear\n" + models_of("ids", "base"),
    "linear of three": "merge_method: linear\n" + models_of("two", "chat", "base"),
    "linear, one lends": "merge_method: linear\nbase_model: {ids}\n" + models_of("base", "chat", "ids"),
    "linear, other rows": "merge_method: linear\n" + models_of("tools", "one", "ends"),
    "linear, a union": "merge_method: linear\n" + models_of("tools", "ends") + "tokenizer_source: union",
    "linear, a base of other rows": "merge_method: linear\nbase_model: {tools}\n" + models_of("ends", "one", "tools"),
    "linear, the last's": "merge_method: linear\n" + models_of("two", "chat") + "tokenizer_source: {chat}",
    "linear without a tokenizer": "merge_method: linear\n" + models_of("one", "mute"),
    "linear of an adapter": "merge_method: linear\nmodels: [{model: {ids}, parameters: {weight: 0.3}},"
    " {model: '{base}+{poet}', parameters: {weight: 0.4}}]",
    "karcher": "merge_method: karcher\nmodels: [{model: {tools}}, {model: {ids}}]",
    "multislerp": "merge_method: multislerp\n" + models_of("tools", "ids", "base"),
    "nuslerp": "merge_method: nuslerp\n" + models_of("ids", "base"),
    "a stack": STACK,
    "a stack of one model": "merge_method: passthrough\nslices:\n"
    "  - sources: [{model: {ids}, layer_range: [0, 2]}]\n  - sources: [{model: {base}, layer_range: [1, 3]}]\n",
    "slerp": "merge_method: slerp\nbase_model: {ids}\nmodels: [{model: {base}}]\nparameters: {t: 0.3}",
    "slerp, the other's": "merge_method: slerp\nbase_model: {ids}\nmodels: [{model: {tools}}]\nparameters: {t: 0.3}\n"
    "tokenizer_source: {tools}",
    "a template": OVER_BASE + models_of("chat") + "chat_template: chatml",
}


@pytest.mark.parametrize("case", sorted(SPEAKING))
def test_models_that_speak_otherwise_give_the_same_again(case: str, family: Family, tmp_path: Path) -> None:
    text = SPEAKING[case]
    for name, path in family.items():
        text = text.replace(f"{{{name}}}", str(path))
    config = tmp_path / "config.yml"
    config.write_text(text + "\n")
    check_again(config, tmp_path)


def test_a_tokenizer_is_named_where_the_models_differ(family: Family, tmp_path: Path) -> None:
    """Nothing is said where all speak alike: mergekit then leaves the embeddings as they are, padding and all."""
    models = open_models(str(family["base"]), {name: str(family[name]) for name in ("one", "two", "padded", "ids")})
    alike = open_models(str(family["base"]), {name: str(family[name]) for name in ("one", "two")})
    assert "tokenizer" not in to_mergekit(recipe_of(alike, "task_arithmetic"), alike)
    assert "source: base" in to_mergekit(recipe_of(models, "task_arithmetic"), models)


def test_a_base_that_mergekit_would_not_know_is_refused(family: Family) -> None:
    """Our linear may take the tokenizer, and missing rows, of a base that is none of its models; mergekit's may not."""
    models = open_models(str(family["base"]), {name: str(family[name]) for name in ("chat", "chatb")})
    with pytest.raises(ConfigError, match="no model has its tokenizer"):
        to_mergekit(recipe_of(models, "linear"), models)
    to_mergekit(recipe_of(models, "linear", tokenizer="chat"), models)
    models = open_models(str(family["base"]), {name: str(family[name]) for name in ("one", "tools", "ends")})
    with pytest.raises(ConfigError, match="lends rows of tokens"):
        to_mergekit(recipe_of(models, "linear", tokenizer="ends"), models)
