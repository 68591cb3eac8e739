"""`verify`: an export proves itself by its sources, and whatever was changed since is named."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from automerge.errors import ConfigError, ExportError, SourceError
from automerge.export.checkpoint import write_checkpoint
from automerge.export.verify import compare, verify
from automerge.merge import Models, open_models
from tests.merge.helpers import edit_json, recipe_of
from tests.tiny import fine_tune_of, lora_of, tiny_llama

WEIGHTS = "model.safetensors"
NORM = "model.norm.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = tiny_llama(tmp_path / "base")
    fine, adapter = fine_tune_of(base, tmp_path / "fine", 1), lora_of(base, tmp_path / "adapter", 2)
    return _export(open_models(str(base), {"fine": str(fine), "adapter": str(adapter)}), tmp_path / "out")


def _export(models: Models, out: Path) -> Path:
    values = {"weight": {"fine": 0.5, "adapter": 1.0}, "drop": {"fine": 0.5, "adapter": 0.1}}
    recipe = recipe_of(models, "dare_ties", values, dtype="bfloat16", seed=3)
    write_checkpoint(
        recipe, models, out, expected_checksum=None, provenance={"candidate": "trial 7"}, max_shard_bytes=20_000
    )
    return out


def test_an_export_verifies(folder: Path) -> None:
    about = json.loads((folder / "provenance.json").read_text())
    done = verify(folder, {})
    assert done.checksum == about["checksum"] and done.recorded
    assert about["candidate"] == "trial 7"
    assert about["written_with"]["torch"] == torch.__version__


def _change(folder: Path) -> None:
    """One element of one tensor, in whatever shard it is."""
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        if NORM in tensors:
            tensors[NORM][5] += 1
            save_file(tensors, path)


def test_a_changed_weight_is_named(folder: Path) -> None:
    _change(folder)
    with pytest.raises(ExportError, match="records checksum"):
        verify(folder, {})
    (folder / "provenance.json").unlink()
    with pytest.raises(ExportError, match=rf"1 differs \(the first: {NORM}\)"):
        verify(folder, {})


def test_what_differs_is_counted(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"of 4 .* 2 differ \(the first: a\), 1 is missing .*: d\), 1 is unexpected"):
        compare(tmp_path, {"a": "0", "b": "0", "c": "1", "e": "1"}, {"a": "1", "b": "1", "c": "1", "d": "1"})


def test_a_changed_recipe_is_seen(folder: Path) -> None:
    edit_json(folder / "recipe.json", seed=4)
    with pytest.raises(ExportError, match="differ"):
        verify(folder, {})


def test_a_source_that_changed_or_moved(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "fine").rename(tmp_path / "elsewhere")
    with pytest.raises(SourceError):
        verify(folder, {})
    assert verify(folder, {"fine": str(tmp_path / "elsewhere")}).recorded
    with pytest.raises(SourceError, match="no model named 'find'"):
        verify(folder, {"find": "x"})
    fine_tune_of(tmp_path / "base", tmp_path / "fine", 9)
    with pytest.raises(SourceError, match="fine differs from the recipe's"):
        verify(folder, {})


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_provenance_that_is_none(folder: Path, text: str) -> None:
    (folder / "provenance.json").write_text(text)
    with pytest.raises(ExportError, match="is no record of an export"):
        verify(folder, {})


def test_a_folder_that_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the recipe"):
        verify(tmp_path, {})
