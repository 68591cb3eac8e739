"""A candidate of a study as a checkpoint: its weights, its card, and where it comes from."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from automerge import __version__
from automerge.export.checkpoint import write_checkpoint
from automerge.export.folder import check_vacant
from automerge.gate.verdict import Verdict
from automerge.merge.models import models_of
from automerge.merge.sparse.frame import parameters
from automerge.recipe import ModelRef, Recipe, parse_recipe, with_router
from automerge.records import Applied
from automerge.report.card import model_card
from automerge.report.licences import licences
from automerge.study.folder import StudyFolder
from automerge.study.records import Record


def write_candidate(out: Path, label: str, record: Record, verdict: Verdict | None, folder: StudyFolder) -> Applied:
    """Merges a candidate into the folder `out`, and writes nothing but the weights that were scored. Raises as
    write_checkpoint does."""
    check_vacant(out)
    about = folder.read_about()
    recipe = _found(with_router(parse_recipe(record.recipe), folder.router), about["models"])
    models = models_of(recipe)
    folders = {
        recipe.base.name: models.base.folder,
        **{ref.name: models.sources[ref.name].folder for ref in recipe.sources},
    }
    sizes = parameters(models.frame(recipe), recipe.mixture) if recipe.mixture else None
    card = model_card(out.name, label, recipe, record, verdict, __version__, licences(folders), sizes)
    return write_checkpoint(
        recipe,
        models,
        out,
        expected_checksum=record.checksum,
        provenance={**about, "candidate": label, "verdict": verdict.outcome if verdict else None},
        extra_files={"README.md": card},
    )


def _found(recipe: Recipe, models: Sequence[Mapping[str, str]]) -> Recipe:
    """The recipe with the models where the study last had them: they may have been moved since it was tried."""
    places = {model["digest"]: model["path"] for model in models}

    def now(ref: ModelRef) -> ModelRef:
        return replace(ref, path=places.get(ref.digest, ref.path))

    return replace(recipe, base=now(recipe.base), sources=tuple(map(now, recipe.sources)))
