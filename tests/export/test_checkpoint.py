"""Export: bit-equal, complete, verified; and nothing left behind when it cannot be."""

import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from automerge.errors import ExportError
from automerge.export import checkpoint
from automerge.export.checkpoint import write_checkpoint
from automerge.export.safetensors_stream import SafetensorsStream
from automerge.merge import Merge, Models, open_models
from automerge.recipe import Recipe, read_recipe
from tests.merge.helpers import edit_json, recipe_of
from tests.tiny import fine_tune_of, tiny_llama, tiny_tokenizer

VALUES = {"weight": {"code": 0.5, "math": 1.0, "writing": 0.25}, "drop": {"code": 0.5, "math": 0.1, "writing": 0.0}}


@pytest.fixture
def recipe(family: Models) -> Recipe:
    return recipe_of(family, "dare_linear", VALUES, dtype="bfloat16", seed=3)


@pytest.mark.parametrize("limit", [2_000_000_000, 10_000, 1])
def test_round_trip(family: Models, recipe: Recipe, tmp_path: Path, limit: int) -> None:
    merge = Merge(recipe, family)
    wanted = dict(merge.tensors())
    out = tmp_path / "deep" / "out"
    done = write_checkpoint(
        recipe, family, out, expected_checksum=merge.checksum, extra_files={"README.md": "# x"}, max_shard_bytes=limit
    )
    assert (done.checksum, done.bytes) == (merge.checksum, merge.bytes)
    shards = sorted(out.glob("*.safetensors"))
    read = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    assert read.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(read[name].view(torch.int16), tensor.view(torch.int16))
    assert (out / "model.safetensors.index.json").exists() == (len(shards) > 1)
    assert all(shard.stat().st_size <= limit + 4096 for shard in shards) or limit == 1
    assert read_recipe(out / "recipe.json") == recipe
    assert (out / "README.md").read_text() == "# x"
    assert list(out.parent.iterdir()) == [out]
    again = open_models(str(out), {})
    assert again.tensor_names == family.tensor_names


def test_it_loads_in_transformers(family: Models, recipe: Recipe, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "out"
    write_checkpoint(recipe, family, out, expected_checksum=None, max_shard_bytes=20_000)
    model, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.dtype == torch.bfloat16
    wanted = dict(Merge(recipe, family).tensors())
    assert all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())
    tokenizer = AutoTokenizer.from_pretrained(out)
    ids = tokenizer("1+1=", return_tensors="pt").input_ids
    tokens = model.generate(ids, max_new_tokens=4, do_sample=False)
    assert tokens.shape[1] > ids.shape[1]


def test_a_tied_model_stays_tied(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base", tied=True)
    models = open_models(str(base), {"x": str(fine_tune_of(base, tmp_path / "x", 1))})
    write_checkpoint(recipe_of(models, "linear"), models, tmp_path / "out", expected_checksum=None)
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    fine = load_file(tmp_path / "x" / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(model.lm_head.weight, fine)


def test_small_files(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base")
    fine = fine_tune_of(base, tmp_path / "x", 1)
    tiny_tokenizer(fine, chat_template="{{ 'mine' }}")
    edit_json(fine / "tokenizer_config.json", auto_map={"AutoTokenizer": ["code.T", None]})
    edit_json(base / "config.json", torch_dtype="float32")
    models = open_models(str(base), {"x": str(fine)})
    recipe = recipe_of(models, "linear", dtype="float16", tokenizer="x")
    out = tmp_path / "out"
    out.mkdir()  # an empty folder may be there
    write_checkpoint(recipe, models, out, expected_checksum=None)
    config = json.loads((out / "config.json").read_text())
    assert config["dtype"] == "float16" and "torch_dtype" not in config
    assert (out / "chat_template.jinja").read_text() == "{{ 'mine' }}"
    assert "auto_map" not in json.loads((out / "tokenizer_config.json").read_text())
    assert (out / "generation_config.json").exists()


def nothing_left(folder: Path) -> bool:
    return not folder.exists() or not any(folder.iterdir())


def test_another_checksum_writes_nothing(family: Models, recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"checksum is [0-9a-f]{32}, expected 0000: nothing was written"):
        write_checkpoint(recipe, family, tmp_path / "out", expected_checksum="0000")
    assert nothing_left(tmp_path)


def test_a_folder_in_use_is_refused(family: Models, recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match="exists already, and is not an empty folder"):
        write_checkpoint(recipe, family, tmp_path, expected_checksum=None)
    with pytest.raises(ExportError, match="exists already, and is not an empty folder"):
        write_checkpoint(recipe, family, tmp_path / "notes.txt", expected_checksum=None)
    with pytest.raises(ExportError, match="cannot be written: "):
        write_checkpoint(recipe, family, tmp_path / "notes.txt" / "out", expected_checksum=None)
    (tmp_path / "out.part").mkdir()
    with pytest.raises(ExportError, match=r"out\.part: exists already\nAnother export"):
        write_checkpoint(recipe, family, tmp_path / "out", expected_checksum=None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "out.part"]


def test_a_full_disk(family: Models, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def full(self: SafetensorsStream, name: str, tensor: torch.Tensor) -> None:
        calls.append(name)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SafetensorsStream, "write", full)
    with pytest.raises(ExportError, match="the disk is full; nothing was kept"):
        write_checkpoint(recipe, family, tmp_path / "out", expected_checksum=None)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt(
    family: Models, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    def interrupted(*_: object) -> None:
        raise stop

    monkeypatch.setattr(checkpoint, "_write_small_files", interrupted)
    with pytest.raises(stop):
        write_checkpoint(recipe, family, tmp_path / "out", expected_checksum=None)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(("where", "message"), [(-1, "read back, the weights' checksum"), (3, "cannot be read")])
def test_what_the_disk_changes_is_seen(
    family: Models, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: int, message: str
) -> None:
    write = checkpoint._write_small_files

    def flip(recipe: Recipe, models: Models, part: Path, extra: dict[str, str]) -> None:
        write(recipe, models, part, extra)
        path = part / "model.safetensors"
        data = bytearray(path.read_bytes())
        data[where] ^= 1
        path.write_bytes(data)

    monkeypatch.setattr(checkpoint, "_write_small_files", flip)
    with pytest.raises(ExportError, match=message):
        write_checkpoint(recipe, family, tmp_path / "out", expected_checksum=None)
    assert nothing_left(tmp_path)


def test_extra_files_stay_inside(family: Models, recipe: Recipe, tmp_path: Path) -> None:
    for name in ("../x", "config.json", "a/b"):
        with pytest.raises(ExportError, match="an extra file may not be called"):
            write_checkpoint(recipe, family, tmp_path / "out", expected_checksum=None, extra_files={name: ""})
    assert nothing_left(tmp_path)


def test_the_stream_writes_what_the_library_writes(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(1.5), "c": torch.empty(0, 3)}
    with SafetensorsStream(tmp_path / "ours", {n: tuple(t.shape) for n, t in tensors.items()}, torch.float32) as out:
        for name, tensor in tensors.items():
            out.write(name, tensor)
    save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    ours, theirs = load_file(tmp_path / "ours"), load_file(tmp_path / "theirs")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_stream_refuses_what_was_not_announced(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"expected a torch\.float32, got b"),
        SafetensorsStream(tmp_path / "x", {"a": (1,)}, torch.float32) as out,
    ):
        out.write("b", torch.ones(1))
    with (
        pytest.raises(ValueError, match="1 tensors were announced and not written"),
        SafetensorsStream(tmp_path / "x", {"a": (1,)}, torch.float32),
    ):
        pass
