"""A model folder's plain facts: what kind it is, its JSON files, which safetensors files belong to it.

It reads JSON and names only, never a tensor; checkpoint.py and lora.py do.
"""

import json
import re
from pathlib import Path
from typing import Any

from automerge.errors import SourceError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER = "adapter_model.safetensors"
MAX_TEXT = 100 << 20  # bytes of a config, index or tokenizer: three times the largest tokenizer of a known model
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")  # what transformers would load
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter. Raises SourceError where it holds a full model as well."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return False
    if (folder / SINGLE).exists() or (folder / INDEX).exists():
        hint = f"Remove {ADAPTER_CONFIG} or the model's weights, so that it is plain which is meant."
        raise SourceError("holds a full model and an adapter", where=str(folder), hint=hint)
    return True


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises SourceError where it is missing or is something else."""
    try:
        data = json.loads(read_bytes(path).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"cannot be read as JSON: {error}", where=str(path)) from error
    if not isinstance(data, dict):
        raise SourceError(f"expected a JSON object, got a {type(data).__name__}", where=str(path))
    return data


def read_bytes(path: Path) -> bytes:
    """A file beside the weights. Raises SourceError where it is missing, unreadable or far larger than any real one."""
    try:
        size = path.stat().st_size
        if size > MAX_TEXT:
            message = f"expected at most {MAX_TEXT >> 20} MiB, got {size >> 20}"
            raise SourceError(message, where=str(path), hint="This is no file of a known kind of model.")
        return path.read_bytes()
    except FileNotFoundError as error:
        hint = "A model folder holds config.json and safetensors files; an adapter's holds adapter_config.json."
        raise SourceError(f"{path.name} is missing", where=str(path.parent), hint=hint) from error
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=str(path)) from error


def read_config(folder: Path) -> dict[str, Any]:
    """config.json, refused where it needs remote code or describes quantised weights."""
    config = read_json(folder / "config.json")
    where = str(folder / "config.json")
    if not isinstance(config.get("model_type", ""), str):
        raise SourceError(f"model_type: expected a word, got {config['model_type']!r}", where=where)
    if config.get("auto_map"):
        hint = "Only architectures that transformers itself knows can be merged; code from a model is never run."
        raise SourceError("auto_map: this model needs remote code", where=where, hint=hint)
    if quantised := config.get("quantization_config"):
        kind = quantised.get("quant_method", "unknown method") if isinstance(quantised, dict) else "unknown method"
        hint = "Take the unquantised checkpoint; quantise the merge afterwards."
        raise SourceError(f"quantization_config: quantised weights ({kind}) cannot be merged", where=where, hint=hint)
    return config


def weight_map(folder: Path) -> tuple[dict[str, Path], dict[str, str] | None]:
    """The folder's safetensors files by name, and the index's tensor → file name (None without an index)."""
    if (folder / INDEX).exists():
        listed = _index(folder)
        _check_unlisted(folder, set(listed.values()))
        return {name: _inside(folder, name) for name in sorted(set(listed.values()))}, listed
    if (folder / SINGLE).exists():
        return {SINGLE: _inside(folder, SINGLE)}, None
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        hint = "Loading a pickle can run any code. Find or make a safetensors copy."
        raise SourceError(f"only pickled weights ({pickles[0]}), which are refused", where=str(folder), hint=hint)
    raise SourceError(f"holds neither {SINGLE} nor {INDEX}", where=str(folder), hint="Is this the model's folder?")


def adapter_file(folder: Path) -> Path:
    """adapter_model.safetensors of an adapter's folder."""
    if (folder / ADAPTER).exists():
        return _inside(folder, ADAPTER)
    pickled = folder / "adapter_model.bin"
    if pickled.exists():
        hint = "Loading a pickle can run any code. Save the adapter anew as safetensors."
        raise SourceError(f"only pickled weights ({pickled.name}), which are refused", where=str(folder), hint=hint)
    raise SourceError(f"{ADAPTER} is missing", where=str(folder))


def _index(folder: Path) -> dict[str, str]:
    where = str(folder / INDEX)
    listed = read_json(folder / INDEX).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise SourceError("expected a weight_map of tensor names to files", where=where)
    for tensor, name in listed.items():
        plain = isinstance(name, str) and Path(name).name == name and "\\" not in name and name not in ("", ".", "..")
        if not plain or not str(name).endswith(".safetensors"):
            hint = "A shard is named by its plain file name inside the model's folder."
            raise SourceError(f"{tensor} points at {name!r}", where=where, hint=hint)
    return {str(tensor): str(name) for tensor, name in listed.items()}


def _check_unlisted(folder: Path, listed: set[str]) -> None:
    """Raises SourceError for weights beside an index that does not name them: loaders differ in which they take."""
    unlisted = sorted(
        path.name for path in folder.iterdir() if _WEIGHTS.fullmatch(path.name) and path.name not in listed
    )
    if unlisted:
        hint = f"Remove the file, or the index where {unlisted[0]} is the whole model."
        hint = hint if unlisted[0] == SINGLE else "Remove the file, or fetch the index it belongs to."
        raise SourceError(f"{unlisted[0]} is there, but not in {INDEX}", where=str(folder), hint=hint)


def _inside(folder: Path, name: str) -> Path:
    """The file, which may be a link only within its folder, or into the blobs of the hub cache it lies in."""
    path = folder / name
    if not path.is_file():
        raise SourceError("this shard is missing", where=str(path), hint="Was the download complete?")
    real = path.resolve()
    allowed = [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":
        allowed.append(folder.resolve().parent.parent / "blobs")
    if not any(real.is_relative_to(root) for root in allowed):
        hint = "Copy the file into the folder, so that what is merged is what the folder holds."
        raise SourceError(f"links to {real}, outside the model's folder", where=str(path), hint=hint)
    return path
