"""What every config is: typed, frozen and closed, with errors that name the key and the near name."""

from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from automerge.errors import ConfigError, meant

M = TypeVar("M", bound=BaseModel)
Positive = Annotated[int, Field(ge=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]


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
                raise PydanticCustomError(
                    "unknown_key",
                    "unknown key '{key}'{near}; known keys: {known}",
                    {"key": str(key), "near": meant(str(key), known), "known": ", ".join(known)},
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


def check_known(names: Iterable[str], allowed: Collection[str], where: str) -> None:
    """Raises ValueError for a name that is not allowed."""
    for name in names:
        if name not in allowed:
            expected = ", ".join(allowed)
            raise ValueError(f"{where}: unknown name {name!r}{meant(name, allowed)}; expected one of {expected}")
