"""Whatever a stranger's file holds: it is read, or refused with one of automerge's own errors; never a crash or a hang.

Seeded, so that a failure can be had again: `pytest -k "adapter_config and 17"`. The long version is `make test-full`.
"""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from automerge.config import load_search
from automerge.errors import AutomergeError
from automerge.evals.loaded import prepare
from automerge.evals.skill import load_skill
from automerge.merge import Merge, open_models
from automerge.merge.mergekit.read import read_mergekit
from automerge.recipe import read_recipe
from tests.merge.helpers import recipe_of
from tests.strangers.mutations import changed, spoilt, with_header
from tests.tiny import fine_tune_of, lora_of, tiny_llama

SHARD = "model-00001-of-00001.safetensors"


@dataclass(frozen=True)
class World:
    """Good files, one of which is spoilt."""

    folder: Path

    @property
    def base(self) -> Path:
        return self.folder / "base"


def make(folder: Path) -> World:
    base = tiny_llama(folder / "base", layers=1, hidden=16)
    fine = fine_tune_of(base, folder / "fine", 1)
    lora_of(base, folder / "adapter", 2)
    names = list(json.loads((fine / "model.safetensors").read_bytes()[8:].split(b"}}")[0] + b"}}"))
    (fine / "model.safetensors").rename(fine / SHARD)
    weight_map = {name: SHARD for name in names if name != "__metadata__"}
    (fine / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    models = open_models(str(base), {"fine": str(fine), "adapter": str(folder / "adapter")})
    (folder / "recipe.json").write_text(recipe_of(models, "dare_ties").to_json())
    merge = {
        "merge_method": "dare_ties",
        "base_model": str(base),
        "models": [{"model": str(fine), "parameters": {"weight": [0.2, 0.8], "density": 0.5}}],
        "dtype": "float32",
        "out_dtype": "bfloat16",
        "parameters": {"normalize": True, "lambda": [{"filter": "mlp", "value": 0.5}, {"value": 1.0}]},
    }
    (folder / "merge.yml").write_text(yaml.safe_dump(merge))
    (folder / "items.jsonl").write_text(
        "".join(json.dumps({"q": f"{n}+1=", "a": str(n + 1)}) + "\n" for n in range(40))
    )
    skill = {
        "name": "sums",
        "data": {"path": "items.jsonl"},
        "prompt": "{{ q }}",
        "target": "{{ a }}",
        "scorer": {"type": "numeric"},
        "items": {"search": 10, "held_out": 20},
    }
    (folder / "skill.yaml").write_text(yaml.safe_dump(skill))
    search = {
        "name": "s",
        "base": str(base),
        "sources": {"fine": str(fine)},
        "method": "dare_linear",
        "parameters": {"weight": {"range": [0.0, 1.0]}, "drop": {"range": [0.0, 0.9], "groups": "layers"}},
        "skills": {"sums": {"use": "skill.yaml"}},
        "objective": {"sums": 1},
        "gates": [{"skill": "sums", "no_worse_than": "base", "margin": 0.02}],
    }
    (folder / "search.yaml").write_text(yaml.safe_dump(search))
    return World(folder)


def merge_all(world: World) -> None:
    models = open_models(str(world.base), {name: str(world.folder / name) for name in ("fine", "adapter")})
    for _ in Merge(recipe_of(models, "linear"), models).tensors():
        pass


def merge_recipe(world: World) -> None:
    recipe = read_recipe(world.folder / "recipe.json")
    models = open_models(str(world.base), {name: str(world.folder / name) for name in ("fine", "adapter")})
    for _ in Merge(recipe, models).tensors():
        pass


def merge_yaml(world: World) -> None:
    read = read_mergekit(world.folder / "merge.yml")
    for _ in Merge(read.recipe, read.models).tensors():
        pass


def skill(world: World) -> None:
    prepare(load_skill(world.folder / "skill.yaml", folder=world.folder), 0)


def search(world: World) -> None:
    from automerge.study.session import make_plan

    make_plan(load_search(str(world.folder / "search.yaml")))


READERS: dict[str, tuple[str, Callable[[World], None]]] = {
    "base_config": ("base/config.json", merge_all),
    "config": ("fine/config.json", merge_all),
    "index": ("fine/model.safetensors.index.json", merge_all),
    "shard": (f"fine/{SHARD}", merge_all),
    "base_weights": ("base/model.safetensors", merge_all),
    "base_tokenizer": ("base/tokenizer.json", merge_all),
    "tokenizer": ("fine/tokenizer.json", merge_all),
    "tokenizer_config": ("fine/tokenizer_config.json", merge_all),
    "adapter_config": ("adapter/adapter_config.json", merge_all),
    "adapter_weights": ("adapter/adapter_model.safetensors", merge_all),
    "recipe": ("recipe.json", merge_recipe),
    "mergekit": ("merge.yml", merge_yaml),
    "skill": ("skill.yaml", skill),
    "items": ("items.jsonl", skill),
    "search": ("search.yaml", search),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> World:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOMERGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return make(tmp_path_factory.mktemp("good"))


def mutant(path: Path, chance: random.Random) -> bytes:
    if chance.random() < 0.25:
        return spoilt(path.read_bytes(), chance)
    if path.suffix == ".safetensors":
        return with_header(path, chance)
    if path.suffix in (".yaml", ".yml"):
        tree = changed(yaml.safe_load(path.read_text()), chance)
        return yaml.safe_dump(json.loads(json.dumps(tree)), allow_unicode=False).encode("utf-8", "surrogatepass")
    if path.suffix == ".jsonl":
        lines = path.read_text().splitlines()
        number = chance.randrange(len(lines))
        lines[number] = json.dumps(changed(json.loads(lines[number]), chance))
        return "\n".join(lines).encode()
    return json.dumps(changed(json.loads(path.read_text()), chance)).encode()


def attack(good: World, file: str, reader: Callable[[World], None], seeds: range) -> dict[str, int]:
    """How often it was read and how often refused. Raises what is neither."""
    ended = {"read": 0, "refused": 0}
    path = good.folder / file
    kept = path.read_bytes()
    try:
        for seed in seeds:
            path.write_bytes(mutant(path, random.Random(f"{file} {seed}")))
            try:
                reader(good)
                ended["read"] += 1
            except AutomergeError as error:
                assert error.message and len(str(error)) < 5000
                ended["refused"] += 1
            except Exception as error:
                shutil.copy(path, path.with_name(f"{path.name}.failed"))
                raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
            path.write_bytes(kept)
    finally:
        path.write_bytes(kept)
    return ended


@pytest.mark.parametrize("name", READERS)
def test_a_file_is_read_or_refused(good: World, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUTOMERGE_CACHE", str(tmp_path))
    file, reader = READERS[name]
    reader(good)
    assert attack(good, file, reader, range(40))["refused"] > 0


@pytest.mark.full
@pytest.mark.parametrize("name", READERS)
def test_many_files_are_read_or_refused(
    good: World, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AUTOMERGE_CACHE", str(tmp_path))
    file, reader = READERS[name]
    attack(good, file, reader, range(40, 1500))
