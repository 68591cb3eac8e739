"""The search space file: what is merged, what varies, which skills judge, what must not be lost."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from automerge.config.closed import Closed, Positive, check_known, validate
from automerge.config.engine import EngineConfig
from automerge.config.files import find_shipped, locate, read_yaml, shipped_names
from automerge.config.gates import GateRule
from automerge.config.mixture import MixtureConfig
from automerge.config.parameters import Groups, Modules, ParameterSpace
from automerge.errors import ConfigError, meant

SamplerName = Literal["tpe", "cmaes", "gp", "nsga2", "nsga3", "random", "qmc"]
STUDY_NAME = "letters, digits, '.', '_' and '-', the first a letter or a digit"
RESERVED = ("base", "union")  # what `tokenizer` may be besides a source's name
# The baselines besides base and the sources; a gate may name any baseline as its reference.
AVERAGES = ("plain_average", "task_arithmetic", "dare_0.5", "dare_0.9")


def is_study_name(text: str) -> bool:
    """Whether a study may be called that; see STUDY_NAME."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text) is not None


class SamplerConfig(Closed):
    """Who proposes; `auto` chooses by dimensions, budget and objectives. `startup`: finished trials, baselines among
    them, before TPE and GP model them."""

    name: Literal["auto", SamplerName] = "auto"
    startup: Positive = 12


class VerdictConfig(Closed):
    """How many candidates go to the held-out items, the confidence of the claims made there, and with how many mask
    seeds each candidate that drops at random is merged, its own first, to see what the mask adds."""

    candidates: Positive = 3
    seeds: Positive = 1
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95


class SearchConfig(Closed):
    """A search space file: what is merged, what varies, which skills judge, what must not be lost."""

    name: str
    about: str = ""
    base: str
    sources: Annotated[dict[str, str], Field(min_length=1)]
    method: str | Annotated[list[str], Field(min_length=2)]  # of several the search chooses
    options: dict[str, bool | str] = Field(default_factory=dict)
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    tokenizer: str = "base"
    groups: Groups = Groups(kind="whole")
    modules: Modules = "together"
    parameters: Annotated[dict[str, ParameterSpace], Field(min_length=1)]
    mixture: MixtureConfig | None = None  # sparse models instead of dense ones
    skills: Annotated[dict[str, str | dict[str, Any]], Field(min_length=1)]
    objective: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    objectives: list[str] = Field(default_factory=list)  # instead: each for itself, which gives a Pareto front
    gates: list[GateRule] = Field(default_factory=list)
    racing: bool = True  # stop what is behind beyond doubt
    tiers: list[Literal["likelihood"]] = Field(default=["likelihood"])  # asked first, as long as they predict
    start_from: str | None = None  # the folder of a coarser study of the same models, whose best are tried first
    seed: Annotated[int, Field(ge=0)] = 0
    engine: EngineConfig = EngineConfig()
    sampler: SamplerConfig = SamplerConfig()
    verdict: VerdictConfig = VerdictConfig()
    folder: Path = Field(default=Path(), exclude=True)  # relative paths start here: the folder of the file
    file: str = Field(default="", exclude=True)  # for messages

    @field_validator("name")
    @classmethod
    def _is_usable(cls, name: str) -> str:
        if not is_study_name(name):
            raise ValueError(f"expected {STUDY_NAME}")
        return name

    @field_validator("objective", mode="before")
    @classmethod
    def _from_list(cls, data: Any) -> Any:
        return dict.fromkeys(data, 1.0) if isinstance(data, list) else data

    @model_validator(mode="after")
    def _names_agree(self) -> "SearchConfig":
        for name in self.sources:
            if name in RESERVED or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
                allowed = "letters, digits, '_', '-', '.'; not 'base' or 'union'"
                raise ValueError(f"sources: {name!r} is not a usable name ({allowed})")
        for parameter, space in self.parameters.items():
            check_known(space.sources, self.sources, f"parameters.{parameter}.sources")
        if bool(self.objective) == bool(self.objectives):
            raise ValueError("expected either objective: {SKILL: WEIGHT, …} or objectives: [SKILL, …]")
        if len(self.objectives) == 1 or len(set(self.objectives)) < len(self.objectives):
            raise ValueError("objectives: expected two skills or more, each once; for one, write objective")
        check_known(self.weights, self.skills, "objectives" if self.objectives else "objective")
        if self.sampler.name == "cmaes" and self.objectives:
            raise ValueError("sampler: cmaes has one objective only; for several: auto, tpe, gp, nsga2, nsga3")
        if len(set(self.methods)) < len(self.methods):
            raise ValueError(f"method: expected each once, got {', '.join(self.methods)}")
        if self.sampler.name == "cmaes" and len(self.methods) > 1:
            raise ValueError("sampler: cmaes cannot choose among methods; auto, tpe and gp can")
        if self.mixture is not None:
            check_known(self.mixture.experts, ["base", *self.sources], "mixture: experts")
            if self.sampler.name == "cmaes":
                raise ValueError("sampler: cmaes cannot choose among experts; auto, tpe and gp can")
        references = ["base", *self.sources, *AVERAGES]
        for number, gate in enumerate(self.gates):
            check_known([gate.skill], self.skills, f"gates.{number}.skill")
            check_known([gate.no_worse_than or "base"], references, f"gates.{number}.no_worse_than")
        check_known([self.tokenizer], [*RESERVED, *self.sources], "tokenizer")
        return self

    @property
    def methods(self) -> list[str]:
        """The one, or those to choose from."""
        return [self.method] if isinstance(self.method, str) else self.method

    @property
    def weights(self) -> dict[str, float]:
        """What candidates are ranked by: the objective, or several objectives weighted alike."""
        return self.objective or dict.fromkeys(self.objectives, 1.0)


def load_search(use: str) -> SearchConfig:
    """A search space by path or by the name of a shipped one, its model paths made absolute."""
    path = Path(use)
    if not os.path.isfile(path):
        if path.suffix in (".yaml", ".yml") or "/" in use or path.is_dir():
            raise _no_file(use)
        path = find_shipped("search_spaces", use)
    config = located(validate(SearchConfig, read_yaml(path), str(path)), path.resolve().parent)
    return config.model_copy(update={"file": str(path)})


def _no_file(use: str) -> ConfigError:
    path, shipped = Path(use), shipped_names("search_spaces")
    folder = path if path.is_dir() else path.parent
    files = sorted(file.name for file in folder.glob("*.y*ml"))
    if path.is_dir():
        hint = f"Name a file in it: {', '.join(files)}." if files else "Name a YAML file, or a shipped space."
        return ConfigError("is a folder", where=use, hint=hint)
    near = meant(path.name, files) or meant(path.stem, shipped)
    return ConfigError(f"no such file{near}", where=use, hint=f"Shipped spaces, by name: {', '.join(shipped)}.")


def located(config: SearchConfig, folder: Path) -> SearchConfig:
    """The config with its model paths made absolute, from the folder where relative ones start."""
    return config.model_copy(
        update={
            "folder": folder,
            "base": locate(config.base, folder),
            "sources": {name: locate(source, folder) for name, source in config.sources.items()},
            "start_from": config.start_from and os.path.abspath(folder / os.path.expanduser(config.start_from)),
        }
    )
