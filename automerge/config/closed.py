"""What every config is: typed, frozen and closed, with errors that name the key and the near name."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from automerge.errors import ConfigError, meant, nearest

M = TypeVar("M", bound=BaseModel)
Positive = Annotated[int, Field(ge=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True)
class _Stray:
    """Stands in an unknown key's place until all the other keys were looked at, too."""

    known: tuple[str, ...]


class Closed(BaseModel):
    """A frozen model that refuses unknown keys and says which known one is near."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _mark_unknown(cls, data: Any) -> Any:
        known = tuple(field.alias or name for name, field in cls.model_fields.items() if not field.exclude)
        if isinstance(data, Mapping):
            strays = {str(key): _Stray(known) for key in data if key not in known}
            return {key: value for key, value in data.items() if key in known} | strays
        if isinstance(data, BaseModel):
            return data
        raise PydanticCustomError("no_mapping", "expected a mapping of {known}", {"known": ", ".join(known)})


def validate(model: type[M], data: Any, where: str) -> M:
    """`data` as a `model`. Raises ConfigError listing every mistake, one a line."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = mistakes(error)
        raise ConfigError("; ".join(lines) if len(lines) == 1 else "\n  " + "\n  ".join(lines), where=where) from None


def mistakes(error: ValidationError) -> list[str]:
    """Each mistake in a line: the key, what was expected and what came. What only follows from another is left out:
    a key is not missing that is misspelt, and a list not too short whose entries are wrong."""
    problems = error.errors()
    places = [problem["loc"] for problem in problems]
    misspelt = {(*p["loc"][:-1], nearest(str(p["loc"][-1]), p["input"].known)) for p in problems if _is_stray(p)}
    return [
        _told(problem)
        for problem in problems
        if not (problem["type"] == "missing" and problem["loc"] in misspelt)
        and not (problem["type"] == "too_short" and any(_lies_in(place, problem["loc"]) for place in places))
    ]


def _is_stray(problem: ErrorDetails) -> bool:
    return isinstance(problem["input"], _Stray)


def _lies_in(place: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(place) > len(outer) and place[: len(outer)] == outer


def _told(problem: ErrorDetails) -> str:
    given, keys = problem["input"], list(map(str, problem["loc"]))
    if isinstance(given, _Stray):
        key = keys.pop()
        text = f"unknown key {key!r}{meant(key, given.known)}; known keys: {', '.join(given.known)}"
    else:
        text = problem["msg"].removeprefix("Value error, ").replace("Input should be ", "expected ", 1)
        if problem["type"] not in ("missing", "secret") and not isinstance(given, dict | list):
            choices = re.findall("'([^']*)'", text) if problem["type"] == "literal_error" else []
            text += f" (got {given!r})" + meant(str(given), choices)
    return f"{'.'.join(keys)}: {text}" if keys else text


def check_known(names: Iterable[str], allowed: Collection[str], where: str) -> None:
    """Raises ValueError for a name that is not allowed."""
    for name in names:
        if name not in allowed:
            expected = ", ".join(allowed)
            raise ValueError(f"{where}: unknown name {name!r}{meant(name, allowed)}; expected one of {expected}")
