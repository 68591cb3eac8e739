"""YAML files → closed, typed configs. Every mistake is a ConfigError that names the file, the key and the near name.

It knows the shape of a search space file; what its method, skills and sources are is for later stages to find out.
"""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from automerge.errors import ConfigError

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")
_SECRET = re.compile(r"(?i)(^|_)(token|secret|password|passwd|key|credentials?)$")  # names of what no file may hold
_PACKAGE = Path(__file__).parent
M = TypeVar("M", bound=BaseModel)
MAX_VALUES = 100_000  # of one file, far more than any config needs


# --- reading -----------------------------------------------------------------------------------------------------


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML 1.2 mapping, with ${NAME} and ${NAME:-default} taken from the environment. Doubled keys are refused."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"expected UTF-8 text: {error}", where=str(path)) from error
    try:
        data = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        problem = (error.problem or "malformed").splitlines()[0]
        raise ConfigError(f"line {line}: not valid YAML: {problem}", where=str(path)) from error
    except (YAMLError, ValueError, RecursionError) as error:  # ValueError: a date or tagged number that is none
        raise ConfigError(f"not valid YAML: {error}", where=str(path)) from error
    if not isinstance(data, dict):
        raise ConfigError(f"expected a mapping of keys, got {type(data).__name__}", where=str(path))
    try:
        if (size := _size(data, {})) > MAX_VALUES:
            raise ConfigError(f"expected at most {MAX_VALUES:,} values, got {size:,}, aliases counted", where=str(path))
        return {str(key): _interpolate(value, f"{path}: {key}") for key, value in data.items()}
    except RecursionError as error:
        raise ConfigError("not valid here: an alias contains itself, or too many levels", where=str(path)) from error


def _size(value: Any, known: dict[int, int]) -> int:
    """Values in all, an alias's as often as it is named: few lines of aliases can stand for billions."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = 1 + sum(
            _size(entry, known) for entry in (value.values() if isinstance(value, dict) else value)
        )
    return known[id(value)]


def _interpolate(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return {str(key): _interpolate(entry, f"{where}.{key}") for key, entry in value.items()}
    if isinstance(value, list):
        return [_interpolate(entry, where) for entry in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        if _SECRET.search(match["name"]):
            hint = "What needs it (the hub, a judge, a database) takes it from the environment by itself."
            raise ConfigError(f"{match['name']} is a secret, and a study keeps its config", where=where, hint=hint)
        found = os.environ.get(match["name"]) or match["default"]
        if found is None:
            raise ConfigError(
                f"the environment variable {match['name']} is not set",
                where=where,
                hint=f"Set it, or write a default: ${{{match['name']}:-…}}",
            )
        return found

    return _VARIABLE.sub(replace, value)


def find_shipped(kind: str, name: str) -> Path:
    """The file `<kind>/<name>.yaml` (kind: search_spaces or evals) of the installed package or of its repository."""
    folders = [_PACKAGE / "shipped" / kind, _PACKAGE.parent / kind]
    for folder in folders:
        if os.path.isfile(folder / f"{name}.yaml"):
            return folder / f"{name}.yaml"
    names = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    near = difflib.get_close_matches(name, names, n=1)
    raise ConfigError(
        f"no file of that name, and {kind}/ has no {name!r}" + (f" (did you mean {near[0]!r}?)" if near else ""),
        where=name,
        hint=f"{kind}/ has: {', '.join(names)}",
    )


# --- typed, closed models ----------------------------------------------------------------------------------------


class Closed(BaseModel):
    """A frozen model that refuses unknown keys and says which known one is near."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        known = [field.alias or name for name, field in cls.model_fields.items() if not field.exclude]
        for key in data:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                raise PydanticCustomError(
                    "unknown_key",
                    "unknown key '{key}'{near}; known keys: {known}",
                    {
                        "key": str(key),
                        "near": f" (did you mean '{near[0]}'?)" if near else "",
                        "known": ", ".join(known),
                    },
                )
        return data


def validate(model: type[M], data: Any, where: str) -> M:
    """`data` as a `model`. Raises ConfigError listing every mistake, one a line."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            place = ".".join(str(part) for part in problem["loc"])
            given = "" if isinstance(problem["input"], dict | list) else f" (got {problem['input']!r})"
            given = "" if problem["type"] in ("unknown_key", "missing", "secret") else given
            lines.append(f"{place + ': ' if place else ''}{problem['msg'].removeprefix('Value error, ')}{given}")
        raise ConfigError("; ".join(lines) if len(lines) == 1 else "\n  " + "\n  ".join(lines), where=where) from None


# --- the search space file ---------------------------------------------------------------------------------------

Positive = Annotated[int, Field(ge=1)]


class Groups(Closed):
    """How layers share a parameter: `whole`, `layers`, `{blocks: N}` equal runs, `{knots: N}` interpolated points."""

    kind: Literal["whole", "layers", "blocks", "knots"]
    count: Positive = 1

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, data: Any) -> Any:
        if isinstance(data, str):
            if data not in ("whole", "layers"):
                raise ValueError("expected whole, layers, {blocks: N} or {knots: N}")
            return {"kind": data}
        if isinstance(data, dict) and len(data) == 1 and next(iter(data)) in ("blocks", "knots"):
            ((kind, count),) = data.items()
            return {"kind": kind, "count": count}
        if isinstance(data, dict) and "kind" in data:
            return data
        raise ValueError("expected whole, layers, {blocks: N} or {knots: N}")

    @model_validator(mode="after")
    def _enough_knots(self) -> "Groups":
        if self.kind == "knots" and self.count < 2:
            raise ValueError("knots needs at least 2")
        return self


Modules = Literal["together", "split"]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Bounds(Closed):
    """A number that is fixed (`value`) or varied (`range`: [low, high])."""

    value: Number | None = None
    range: tuple[Number, Number] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, data: Any) -> Any:
        if isinstance(data, int | float) and not isinstance(data, bool):
            return {"value": data}
        if isinstance(data, list):
            return {"range": data}
        return data

    @model_validator(mode="after")
    def _one_of_both(self) -> "Bounds":
        if (self.value is None) == (self.range is None):
            raise ValueError("expected a number, or a range [low, high]")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"range: low must lie below high, got {list(self.range)}")
        return self


class ParameterSpace(Closed):
    """One method parameter: bounds for every source, exceptions by source, and how layers and modules share it."""

    value: Number | None = None
    range: tuple[Number, Number] | None = None
    sources: dict[str, Bounds] = {}
    groups: Groups | None = None
    modules: Modules | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, data: Any) -> Any:
        if isinstance(data, int | float) and not isinstance(data, bool):
            return {"value": data}
        return {"range": data} if isinstance(data, list) else data

    @model_validator(mode="after")
    def _bounded(self) -> "ParameterSpace":
        if self.value is not None or self.range is not None or not self.sources:
            Bounds(value=self.value, range=self.range)
        return self

    def bounds(self, source: str) -> Bounds | None:
        """The bounds for a source; None where neither it nor the parameter as a whole has any."""
        if source in self.sources:
            return self.sources[source]
        if self.value is None and self.range is None:
            return None
        return Bounds(value=self.value, range=self.range)


class Margin(Closed):
    """How much may be lost: absolute, or (`relative`) a share of the reference's score; written 0.02 or 1%."""

    amount: Annotated[float, Field(ge=0, le=1)]
    relative: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, data: Any) -> Any:
        if isinstance(data, str) and data.strip().endswith("%"):
            return {"amount": float(data.strip().removesuffix("%")) / 100, "relative": True}
        if isinstance(data, int | float) and not isinstance(data, bool):
            return {"amount": data}
        return data

    def of(self, reference: float) -> float:
        """The margin in score units, given the reference's score."""
        return self.amount * reference if self.relative else self.amount

    def __str__(self) -> str:
        return f"{self.amount:.4g}" if not self.relative else f"{100 * self.amount:.4g}%"


class GateRule(Closed):
    """A condition on one skill: at least `min`, or no worse than a baseline by more than a margin."""

    skill: str
    min: Annotated[float, Field(ge=0, le=1)] | None = None
    no_worse_than: str | None = None
    margin: Margin = Margin(amount=0.0)
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95

    @model_validator(mode="after")
    def _one_of_both(self) -> "GateRule":
        if (self.min is None) == (self.no_worse_than is None):
            raise ValueError("expected either min or no_worse_than")
        if self.min is not None and "margin" in self.model_fields_set:
            raise ValueError("margin goes with no_worse_than; with min, lower min instead")
        return self

    def __str__(self) -> str:
        if self.min is not None:
            return f"{self.skill} ≥ {self.min:.4g}"
        return f"{self.skill} no worse than {self.no_worse_than} (margin {self.margin})"


class RouterPrompts(Closed):
    """What a token must look like to be sent to an expert: prompts, or a skill (its name alone, or `skill`), whose
    search items stand for positive ones."""

    skill: str | None = None
    positive_prompts: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    negative_prompts: tuple[Annotated[str, Field(min_length=1)], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, data: Any) -> Any:
        return {"skill": data} if isinstance(data, str) else data or {}


class MixtureConfig(Closed):
    """Sparse models in place of dense ones. `experts` are the models to choose from, `num_experts` of them a candidate
    (all, if nothing is said); every token passes the one that is `shared_expert`. Attention, and all else but the
    feed-forward parts, is the dense merge's. Of several numbers, and of a range of temperatures, the search chooses.
    Keys that mergekit-moe has mean what they mean there."""

    experts: Annotated[dict[str, RouterPrompts], Field(min_length=2)]
    num_experts: Positive | Annotated[list[Positive], Field(min_length=1)] | None = None
    experts_per_token: Positive | Annotated[list[Positive], Field(min_length=1)] = 2
    temperature: Bounds = Bounds(value=1.0)
    gate_mode: Literal["hidden", "cheap_embed", "random"] = "hidden"
    shared_expert: str = ""
    architecture: str = ""

    @property
    def choices(self) -> list[str]:
        """The models to choose from."""
        return [name for name in self.experts if name != self.shared_expert]

    @property
    def sizes(self) -> list[int]:
        """Numbers of experts, rising."""
        given = len(self.choices) if self.num_experts is None else self.num_experts
        return sorted({given} if isinstance(given, int) else set(given))

    @property
    def per_token(self) -> list[int]:
        """Numbers of experts a token, rising."""
        given = self.experts_per_token
        return sorted({given} if isinstance(given, int) else set(given))

    @model_validator(mode="after")
    def _possible(self) -> "MixtureConfig":
        if self.shared_expert and self.shared_expert not in self.experts:
            raise ValueError("shared_expert: expected one of experts, whose prompts its own gate is made of")
        if self.sizes[-1] > len(self.choices):
            raise ValueError(f"num_experts: expected at most {len(self.choices)}, the number of experts to choose from")
        if self.per_token[-1] > self.sizes[0]:
            raise ValueError(f"experts_per_token: expected at most {self.sizes[0]}, the smallest of num_experts")
        if (self.temperature.range or (self.temperature.value or 0.0,))[0] <= 0:
            raise ValueError("temperature: expected numbers above 0")
        if self.gate_mode == "random":
            return self
        asked = {name: (one.skill, one.positive_prompts, one.negative_prompts) for name, one in self.experts.items()}
        for name, one in self.experts.items():
            if one.skill is None and not one.positive_prompts:
                raise ValueError(f"experts.{name}: positive_prompts or a skill is missing; gate_mode random needs none")
            if (first := next(other for other in asked if asked[other] == asked[name])) != name:
                raise ValueError(f"experts.{name} and experts.{first}: the same prompts; no token tells them apart")
        return self


class EngineConfig(Closed):
    """Which engine serves the merges, and how. `device` and `batch_tokens` (of a batch: padded tokens, prompt and
    answer) are the transformers engine's, the rest vLLM's: `arguments` are its own engine arguments (max_model_len,
    tensor_parallel_size, …), `timeout` the seconds a call may take, `deterministic` its batch-invariant mode."""

    name: Literal["auto", "transformers", "vllm"] = "auto"
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch_tokens: Positive = 16384
    arguments: dict[str, Any] = {}
    residency: Literal["auto", "device", "pinned", "mmap"] = "auto"
    deterministic: bool = False
    timeout: Annotated[float, Field(gt=0)] = 900.0

    @field_validator("arguments")
    @classmethod
    def _not_ours(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(arguments.keys() & TAKEN_ARGUMENTS)
        if taken:
            raise ValueError(f"{', '.join(taken)}: set by automerge itself, and not to be changed")
        secret = next((key for key in arguments if _SECRET.search(key)), None)
        if secret is not None:
            message = "{key}: is a secret, and a study keeps its config; vLLM takes it from the environment"
            raise PydanticCustomError("secret", message, {"key": secret})
        other = sorted(arguments.keys() & UNSUPPORTED_ARGUMENTS)
        if other:
            raise ValueError(f"{', '.join(other)}: a merge is spread over tensor_parallel_size ranks only")
        return arguments


# of vLLM's: other ways to several ranks
UNSUPPORTED_ARGUMENTS = {"pipeline_parallel_size", "data_parallel_size"}
# of vLLM's: what is served, how it is loaded, and dtype, which has a field of its own
TAKEN_ARGUMENTS = {
    *("model", "tokenizer", "tokenizer_mode", "skip_tokenizer_init", "dtype", "quantization", "hf_overrides"),
    *("load_format", "model_loader_extra_config", "worker_cls", "worker_extension_cls"),
    *("enable_lora", "disable_log_stats", "trust_remote_code"),
}


SamplerName = Literal["tpe", "cmaes", "gp", "nsga2", "nsga3", "random", "qmc"]


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

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    about: str = ""
    base: str
    sources: Annotated[dict[str, str], Field(min_length=1)]
    method: str | Annotated[list[str], Field(min_length=2)]  # of several the search chooses
    options: dict[str, bool | str] = {}
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    tokenizer: str = "base"
    groups: Groups = Groups(kind="whole")
    modules: Modules = "together"
    parameters: Annotated[dict[str, ParameterSpace], Field(min_length=1)]
    mixture: MixtureConfig | None = None  # sparse models instead of dense ones
    skills: Annotated[dict[str, str | dict[str, Any]], Field(min_length=1)]
    objective: dict[str, Annotated[float, Field(gt=0)]] = {}
    objectives: list[str] = []  # instead of objective: each for itself, which gives a Pareto front
    gates: list[GateRule] = []
    racing: bool = True  # stop what is behind beyond doubt
    tiers: list[Literal["likelihood"]] = ["likelihood"]  # asked first, as long as they predict
    start_from: str | None = None  # the folder of a coarser study of the same models, whose best are tried first
    seed: int = 0
    engine: EngineConfig = EngineConfig()
    sampler: SamplerConfig = SamplerConfig()
    verdict: VerdictConfig = VerdictConfig()
    folder: Path = Field(default=Path(), exclude=True)  # relative paths start here: the folder of the file

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
            _known(space.sources, self.sources, f"parameters.{parameter}.sources")
        if bool(self.objective) == bool(self.objectives):
            raise ValueError("expected either objective: {SKILL: WEIGHT, …} or objectives: [SKILL, …]")
        if len(self.objectives) == 1 or len(set(self.objectives)) < len(self.objectives):
            raise ValueError("objectives: expected two skills or more, each once; for one, write objective")
        _known(self.weights, self.skills, "objectives" if self.objectives else "objective")
        if self.sampler.name == "cmaes" and self.objectives:
            raise ValueError("sampler: cmaes has one objective only; for several: auto, tpe, gp, nsga2, nsga3")
        if len(set(self.methods)) < len(self.methods):
            raise ValueError(f"method: expected each once, got {', '.join(self.methods)}")
        if self.sampler.name == "cmaes" and len(self.methods) > 1:
            raise ValueError("sampler: cmaes cannot choose among methods; auto, tpe and gp can")
        if self.mixture is not None:
            _known(self.mixture.experts, ["base", *self.sources], "mixture: experts")
            if self.sampler.name == "cmaes":
                raise ValueError("sampler: cmaes cannot choose among experts; auto, tpe and gp can")
        _known([gate.skill for gate in self.gates], self.skills, "gates: skill")
        references = ["base", *self.sources, *AVERAGES]
        _known([g.no_worse_than for g in self.gates if g.no_worse_than], references, "gates: no_worse_than")
        _known([self.tokenizer], [*RESERVED, *self.sources], "tokenizer")
        return self

    @property
    def methods(self) -> list[str]:
        """The one, or those to choose from."""
        return [self.method] if isinstance(self.method, str) else self.method

    @property
    def weights(self) -> dict[str, float]:
        """What candidates are ranked by: the objective, or several objectives weighted alike."""
        return self.objective or dict.fromkeys(self.objectives, 1.0)


RESERVED = ("base", "union")  # what `tokenizer` may be besides a source's name
# The baselines besides base and the sources; a gate may name any baseline as its reference.
AVERAGES = ("plain_average", "task_arithmetic", "dare_0.5", "dare_0.9")


def _known(names: Any, allowed: Any, where: str) -> None:
    for name in names:
        if name not in allowed:
            near = difflib.get_close_matches(name, list(allowed), n=1)
            raise ValueError(
                f"{where}: unknown name {name!r}"
                + (f" (did you mean {near[0]!r}?)" if near else "")
                + f"; expected one of {', '.join(allowed)}"
            )


def locate(text: str, folder: Path) -> str:
    """A model or data locator: an existing path (relative ones start at `folder`) made absolute, else left as it is."""
    path = folder / os.path.expanduser(text)
    if os.path.exists(path):
        return str(path.resolve())
    return os.path.abspath(path) if text.startswith((".", "/", "~")) else text


def load_search(use: str) -> SearchConfig:
    """A search space by path or by the name of a shipped one, its model paths made absolute."""
    path = Path(use)
    if not os.path.isfile(path):
        if path.suffix in (".yaml", ".yml") or path.parent != Path():
            raise ConfigError("no such file", where=use)
        path = find_shipped("search_spaces", use)
    return located(validate(SearchConfig, read_yaml(path), str(path)), path.resolve().parent)


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
