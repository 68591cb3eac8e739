"""Item scores as a study's answer store has them, for whoever reads a study that runs no more."""

from collections.abc import Sequence

import numpy as np

from automerge.evals.store import AnswerStore
from automerge.gate.statistics import Scores


def stored_scores(store: AnswerStore, skill: str, checksums: Sequence[str]) -> list[Scores]:
    """The scores of each model on the items of a skill that all of them were scored on, in the items' order by name.

    A round of a conversation counts as an item of its own.
    """
    found = [store.item_scores(checksum, skill) for checksum in checksums]
    common = sorted(set.intersection(*({i for i, v in own.items() if v is not None} for own in found)))
    return [np.array([own[item] for item in common], dtype=np.float64) for own in found]
