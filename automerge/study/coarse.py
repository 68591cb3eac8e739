"""Starting points from another study of the same models: a coarser one, that this one goes on from.

What is taken is held by this study from its first run on, so the other may be moved or deleted then.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from automerge.errors import StudyError
from automerge.evals.items import known_by
from automerge.evals.loaded import LoadedSkill
from automerge.merge.models import Models
from automerge.recipe import parse_recipe
from automerge.space.nearest import nearest
from automerge.space.space import SearchSpace
from automerge.space.sparse import Params
from automerge.study.finals import candidates
from automerge.study.folder import StudyFolder
from automerge.study.records import study_rows
from automerge.study.store import open_study

TAKEN = 3  # of its candidates, the best


def searched(skills: Iterable[LoadedSkill]) -> set[str]:
    """What the search items of these skills are known by."""
    return {key for skill in skills for item in skill.half("search") for key in known_by(item)}


def check_coarse(path: str, models: Models, skills: Iterable[LoadedSkill]) -> None:
    """Raises StudyError where there is no study, or one of other models, or one whose search saw held-out items of
    these skills: what it found best was chosen by them."""
    about = StudyFolder(Path(path)).read_about()
    theirs = {model["name"]: model["digest"] for model in about["models"]}
    ours = {ref.name: ref.digest for ref in (models.base_ref, *models.source_refs)}
    if other := sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)):
        raise StudyError(
            f"that study merges other models: {', '.join(other)} differ from this one's",
            where=f"start_from: {path}",
            hint="A search goes on from one with the same base and sources, under the same names.",
        )
    seen = StudyFolder(Path(path)).read_searched()
    for skill in skills:
        held_out = skill.half("held_out")
        if known := sum(bool(known_by(item) & seen) for item in held_out):
            raise StudyError(
                f"that study's search was scored on {known} of the {len(held_out)} held-out items of {skill.name}",
                where=f"start_from: {path}",
                hint="Give both studies the same seed, and the coarse one no more search items than this one has.",
            )


def coarse_starts(path: str, space: SearchSpace) -> Mapping[str, Params]:
    """Name → point of this space: the other study's best candidates that met its gates."""
    folder = StudyFolder(Path(path))
    name = folder.read_about()["study"]
    best = candidates(study_rows(open_study(name, folder.storage)), TAKEN)
    recipes = {row.label: parse_recipe(row.record.recipe) for row in best if row.record}
    return {f"{name}: {label}": nearest(space, recipe) for label, recipe in recipes.items()}
