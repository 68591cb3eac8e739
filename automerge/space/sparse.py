"""What a search varies of a sparse model: which models are its experts, how many a token is sent to, how sharply."""

from collections.abc import Mapping
from itertools import combinations

from optuna.distributions import CategoricalDistribution, FloatDistribution

from automerge.config import MixtureConfig
from automerge.merge.models import Models
from automerge.merge.sparse.frame import fitting
from automerge.recipe import Mixture

EXPERTS, PER_TOKEN, TEMPERATURE = "experts", "experts_per_token", "temperature"
JOINT = "+"  # between experts' names, in the parameter that chooses them

Params = Mapping[str, float | str]  # Optuna's parameters of one point; what is chosen among words is one


class SparseSpace:
    """The mixtures of a config, checked against its models. What has one value is no parameter."""

    def __init__(self, config: MixtureConfig, models: Models) -> None:
        """Raises ConfigError where no sparse model can be made of these."""
        self.config, self.models = config, models
        self.family = fitting(config.architecture, models.config, 1 if config.shared_expert else 0)
        self.sets = [JOINT.join(chosen) for size in config.sizes for chosen in combinations(config.choices, size)]
        self.distributions: dict[str, FloatDistribution | CategoricalDistribution] = {}
        if len(self.sets) > 1:
            self.distributions[EXPERTS] = CategoricalDistribution(self.sets)
        if len(config.per_token) > 1:
            self.distributions[PER_TOKEN] = CategoricalDistribution([str(number) for number in config.per_token])
        if config.temperature.range is not None:
            self.distributions[TEMPERATURE] = FloatDistribution(*config.temperature.range, log=True)

    def start(self) -> dict[str, float | str]:
        """The point to begin at: the first experts named, one temperature above or below none."""
        point: dict[str, float | str] = {
            name: found.choices[0]
            for name, found in self.distributions.items()
            if isinstance(found, CategoricalDistribution)
        }
        if self.config.temperature.range is not None:
            low, high = self.config.temperature.range
            point[TEMPERATURE] = min(max(1.0, low), high)
        return point

    def nearest(self, mixture: Mixture) -> dict[str, float | str]:
        """As `start`, with what this space can have of a mixture that was found elsewhere."""
        point = self.start()
        same = [chosen for chosen in self.sets if set(chosen.split(JOINT)) == set(mixture.experts)]
        if EXPERTS in point and same:
            point[EXPERTS] = same[0]
        if PER_TOKEN in point and mixture.per_token in self.config.per_token:
            point[PER_TOKEN] = str(mixture.per_token)
        if self.config.temperature.range is not None:
            low, high = self.config.temperature.range
            point[TEMPERATURE] = min(max(mixture.temperature, low), high)
        return point

    def mixture(self, params: Params) -> Mixture:
        """That of one point."""
        fixed = self.config.temperature.value
        return Mixture(
            architecture=self.family.name,
            experts=tuple(str(params.get(EXPERTS, self.sets[0])).split(JOINT)),
            per_token=int(params.get(PER_TOKEN, self.config.per_token[0])),
            router=self.models.router,
            temperature=float(params[TEMPERATURE] if fixed is None else fixed),
            shared=self.config.shared_expert,
        )
