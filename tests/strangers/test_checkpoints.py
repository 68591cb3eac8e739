"""What strangers have put into checkpoints: refused with its own message, as a folder, as an adapter and from the hub.

Most attacks on folders are in tests/merge/test_sources.py; these are the ones that aim at the reader itself, and the
ones on adapters and downloads.
"""

import json
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from automerge.config import load_search
from automerge.engine.dialogue import Dialogue
from automerge.errors import AutomergeError, ConfigError, EngineError, SourceError
from automerge.merge import Merge, open_models
from automerge.recipe import parse_recipe
from tests.merge.helpers import edit_json, recipe_of
from tests.tiny import fine_tune_of, lora_of, tiny_llama

REVISION = "0123456789abcdef0123456789abcdef01234567"
DEEP = "[" * 100_000


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOMERGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_llama(tmp_path / "base", layers=1, hidden=16)


def hub(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The folder's files in the hub's cache, as a download leaves them; returns the hub id."""
    from huggingface_hub import constants

    repo = cache / "models--someone--model"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(REVISION)
    (repo / "blobs").mkdir()
    snapshot = repo / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    for path in folder.iterdir():
        blob = repo / "blobs" / f"blob-{path.name}"
        path.rename(blob)
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return "someone/model"


def merge(base: Path, source: str) -> None:
    models = open_models(str(base), {"source": source})
    for _ in Merge(recipe_of(models, "linear"), models).tensors():
        pass


def giant_header(path: Path) -> None:
    """Claims a header of a terabyte."""
    path.write_bytes(struct.pack("<Q", 1 << 40) + path.read_bytes()[8:])


def deep_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", len(DEEP)) + DEEP.encode())


def not_finite(path: Path) -> None:
    tensors = load_file(path)
    name = sorted(tensors)[-1]
    tensors[name].view(-1)[3] = float("nan")
    save_file(tensors, path)


def overlapping(path: Path) -> None:
    """Two tensors in the same bytes."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    first, second = [name for name in header if name != "__metadata__"][:2]
    header[second]["data_offsets"] = header[first]["data_offsets"]
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def giant(path: Path) -> None:
    """A file of a gigabyte, which takes no space on disk."""
    with path.open("ab") as file:
        file.truncate(1 << 30)


ATTACKS: list[tuple[str, Callable[[Path], None], str]] = [
    ("weights", giant_header, "truncated or corrupt safetensors"),
    ("weights", deep_header, "truncated or corrupt safetensors"),
    ("weights", overlapping, "truncated or corrupt safetensors"),
    ("weights", not_finite, "holds NaN or infinity"),
    ("config", giant, "expected at most 100 MiB, got 1024"),
    ("config", lambda path: path.write_text(DEEP) and None, "cannot be read as JSON"),
    ("config", lambda path: path.write_text("9" * 5000) and None, "cannot be read as JSON"),
]
FILES = {
    "source": {"weights": "model.safetensors", "config": "config.json"},
    "adapter": {"weights": "adapter_model.safetensors", "config": "adapter_config.json"},
}


@pytest.mark.parametrize("kind", ["source", "adapter", "hub"])
@pytest.mark.parametrize(("file", "attack", "message"), ATTACKS, ids=lambda value: getattr(value, "__name__", None))
def test_attacks_on_the_reader(
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    file: str,
    attack: Callable[[Path], None],
    message: str,
) -> None:
    make = lora_of if kind == "adapter" else fine_tune_of
    folder = make(base, tmp_path / "source", 1)
    attack(folder / FILES["adapter" if kind == "adapter" else "source"][file])
    source = hub(folder, tmp_path / "hub", monkeypatch) if kind == "hub" else str(folder)
    with pytest.raises(SourceError, match=message) as raised:
        merge(base, source)
    assert len(str(raised.value)) < 1000


ENDLESS = r"((\w|\w\w|\w\w\w|\.)+)+[^\w.]"  # in `re`, years; `regex` too sees no way round it
DEEPLY = "((a{99}){99}){99}"
EXPRESSIONS = [
    *[(option, ENDLESS, "takes longer than 1 s") for option in ("target_modules", "exclude_modules")],
    *[(option, {ENDLESS: 4}, "takes longer than 1 s") for option in ("rank_pattern", "alpha_pattern")],
    ("layers_pattern", [ENDLESS], "takes longer than 1 s"),
    ("target_modules", DEEPLY, "repeats too often"),
    ("rank_pattern", {"(?x)(a{1 000}){1 000}": 4}, "repeats too often"),
    ("layers_pattern", "h{9999999999}", "repeats too often"),
    ("layers_pattern", "(", "is no regular expression"),
    ("rank_pattern", {"(?i)q_proj": 4}, "is no regular expression"),  # not behind what PEFT sets before it
    ("target_modules", "(" * 2000 + ")" * 2000, "is no regular expression"),
    ("exclude_modules", "a" * 200_000, "expected at most 100000 characters, got 200000"),
]


@pytest.mark.parametrize(("option", "value", "message"), EXPRESSIONS)
def test_expressions_of_an_adapter_hang_nothing(
    base: Path, tmp_path: Path, option: str, value: object, message: str
) -> None:
    adapter = lora_of(base, tmp_path / "source", 1)
    layers = {"layers_to_transform": [0]} if option == "layers_pattern" else {}
    edit_json(adapter / "adapter_config.json", **{option: value}, **layers)
    with pytest.raises(SourceError, match=rf"{option}: .*{message}"):
        open_models(str(base), {"source": str(adapter)})


@pytest.mark.parametrize("targets", [r".*(?:proj|\d{1,2})", "(?i)MODEL.*PROJ", r".*_proj"])
def test_an_expression_means_what_it_does_to_peft(base: Path, tmp_path: Path, targets: str) -> None:
    adapter = lora_of(base, tmp_path / "source", 1)
    edit_json(adapter / "adapter_config.json", target_modules=targets)
    merge(base, str(adapter))


def test_a_download_is_read_and_may_not_link_elsewhere(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = hub(fine_tune_of(base, tmp_path / "source", 1), tmp_path / "hub", monkeypatch)
    merge(base, source)
    weights = tmp_path / "hub" / "models--someone--model" / "snapshots" / REVISION / "model.safetensors"
    weights.unlink()
    weights.symlink_to(base / "model.safetensors")
    with pytest.raises(SourceError, match="outside the model's folder"):
        merge(base, source)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("attack", [giant, lambda path: path.write_text(DEEP)], ids=["giant", "deep"])
def test_hostile_tokenizers(base: Path, tmp_path: Path, name: str, attack: Callable[[Path], None]) -> None:
    folder = fine_tune_of(base, tmp_path / "source", 1)
    attack(folder / name)
    with pytest.raises(SourceError, match=r"expected at most 100 MiB|cannot be read"):
        merge(base, str(folder))


@pytest.mark.parametrize("size", [2**20, 2**40, -1, "many", None])
def test_a_config_that_claims_another_size_allocates_nothing(base: Path, size: object) -> None:
    """The engine makes its model by the config: a claim of terabytes is refused before it does."""
    from automerge.config import EngineConfig
    from automerge.engine.transformers import TransformersEngine

    edit_json(base / "config.json", hidden_size=size, intermediate_size=size)
    with pytest.raises(AutomergeError):
        models = open_models(str(base), {})
        TransformersEngine(models, EngineConfig(name="transformers"))


def test_a_recipe_too_deep(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a recipe"):
        parse_recipe(DEEP)


def test_yaml_that_is_deep_or_multiplies(tmp_path: Path) -> None:
    path = tmp_path / "search.yaml"
    path.write_text("a: " + DEEP)
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_search(str(path))
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12)]
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="expected at most 100,000 values"):
        load_search(str(path))


def test_code_is_neither_run_nor_kept(base: Path, tmp_path: Path) -> None:
    """auto_map is refused in config.json, and a module beside the weights is never imported."""
    folder = fine_tune_of(base, tmp_path / "source", 1)
    (folder / "modeling_x.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    edit_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["modeling_x.T", None]})
    merge(base, str(folder))
    assert not (tmp_path / "ran").exists()
    edit_json(folder / "config.json", auto_map={"AutoModel": "modeling_x.M"})
    with pytest.raises(SourceError, match="needs remote code"):
        merge(base, str(folder))


def test_nobody_is_asked_whether_to_run_code(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers asks where a tokenizer's class is unknown, unless it is told not to."""
    folder = fine_tune_of(base, tmp_path / "source", 1)
    (folder / "tokenization_x.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass T: pass\n")
    edit_json(
        folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_x.T", None]}, tokenizer_class="T"
    )
    monkeypatch.setattr("builtins.input", lambda *asked: "y")
    with suppress(EngineError):
        Dialogue(str(folder))
    assert not (tmp_path / "ran").exists()


def test_tensors_of_nothing(base: Path, tmp_path: Path) -> None:
    folder = fine_tune_of(base, tmp_path / "source", 1)
    save_file({"x": torch.ones(1)}, folder / "model.safetensors")
    with pytest.raises(SourceError, match="of the base are missing"):
        merge(base, str(folder))
