"""The tensors of a merge as a config speaks of them: each with its slice, its layer there, its name in each model."""

from collections.abc import Mapping

from automerge.merge.embeddings import HEAD
from automerge.merge.frame import Frame
from automerge.merge.models import Models
from automerge.merge.registry import Method
from automerge.merge.stack import Laid, lay_out
from automerge.recipe import Setting, Slice


def tensors_of(
    models: Models, method: Method, options: Mapping[str, Setting], slices: tuple[Slice, ...]
) -> dict[str, Laid]:
    """Every tensor by its name in the merge. Raises ConfigError where the slices do not fit the models.

    A head that only some models have is among them, for the merge gets one of its own.
    """
    frame = Frame(models.tensor_names, models.shapes, models.n_layers, models.config, models.base, models.sources)
    laid = lay_out(frame, method, options, models.base_ref.name, slices)
    if HEAD not in laid and any(HEAD in getattr(source, "shapes", ()) for source in models.sources.values()):
        last = len(slices) - 1
        sources = [name for name in slices[last].layers if name != models.base_ref.name]
        laid[HEAD] = Laid(HEAD, dict.fromkeys(sources, HEAD), last, None)
    return laid
