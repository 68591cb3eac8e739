"""The file of router rows: for each model that may be an expert, what a token must look like to be sent to it.

FILE   a tensor a model, by its name in the recipe, fp32 [layers, hidden size]; safetensors
They are found once (router/) and kept: another machine would round them in other places, and merges are to have the
same bytes everywhere.
"""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from automerge.errors import SourceError
from automerge.files import whole_file
from automerge.merge.sources.digest import digest
from automerge.recipe import ModelRef

# In an exported folder, where *.safetensors would be taken for weights.
ROWS = "router_rows.st"
NAME = "router"
NO_ROWS = ModelRef(NAME, "", "")  # they are not found yet


def rows_ref(path: Path) -> ModelRef:
    """The file, named by its content. Raises SourceError where it cannot be read."""
    try:
        return ModelRef(NAME, str(path), digest([path]))
    except OSError as error:
        message = f"the router's rows cannot be read: {error.strerror}"
        raise SourceError(message, where=str(path)) from error


def read_rows(ref: ModelRef) -> dict[str, Tensor]:
    """Model → fp32 [layers, hidden size]. Raises SourceError where the file is gone or is another."""
    path = Path(ref.path)
    if not ref.path or not path.is_file():
        hint = "It lies in the study's folder, and in every export."
        raise SourceError("the file of the router's rows is not there", where=ref.path or "mixture.router", hint=hint)
    if (found := rows_ref(path).digest) != ref.digest:
        message = f"the router's rows are others: expected digest {ref.digest[:12]}, got {found[:12]}"
        raise SourceError(message, where=ref.path)
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise SourceError(f"the router's rows cannot be read: {error}", where=ref.path) from error


def write_rows(path: Path, rows: Mapping[str, Tensor]) -> None:
    """Whole or not at all. Raises OSError."""
    with whole_file(path) as part:
        save_file({name: tensor.contiguous() for name, tensor in rows.items()}, part)
