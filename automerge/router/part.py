"""A model as something to merge: its recipe and what that reads. So a router's rows may be asked of any of them."""

from dataclasses import dataclass, replace

from torch import Tensor

from automerge.merge import Merge, Models
from automerge.recipe import Recipe


@dataclass(frozen=True)
class Part:
    """One model of a mixture. `recipe` describes its weights; for a plain checkpoint that is a passthrough of it."""

    given: str
    recipe: Recipe
    models: Models

    @property
    def digests(self) -> dict[str, str]:
        """What it is made of: path → content digest."""
        refs = (self.recipe.base, *self.recipe.sources)
        return {ref.path: ref.digest for ref in refs}

    def merge(self, dtype: str) -> Merge:
        """Its weights in that dtype. Raises as the merge does."""
        return Merge(replace(self.recipe, dtype=dtype), self.models)

    def tensor(self, merge: Merge, name: str) -> Tensor:
        """One tensor; what was read for it is given back."""
        found = merge.merge_tensor(name)
        self.models.give_back()
        return found
