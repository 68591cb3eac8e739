"""YAML files → mappings, and where files are: shipped ones, and those that a config names. It knows no config."""

import os
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from automerge.errors import ConfigError, meant

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")
SECRET = re.compile(r"(?i)(^|_)(token|secret|password|passwd|key|credentials?)$")  # names of what no file may hold
_PACKAGE = Path(__file__).parent.parent
MAX_VALUES = 100_000  # of one file, far more than any config needs


def read_yaml(path: Path, *, variables: bool = True) -> dict[str, Any]:
    """A YAML 1.2 mapping; `variables`: with ${NAME} and ${NAME:-default} taken from the environment. Doubled keys are
    refused."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"expected UTF-8 text: {error}", where=str(path), hint="Save the file as UTF-8.") from error
    try:
        data = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        problem = (error.problem or "malformed").splitlines()[0]
        hint = "Indent with spaces; YAML takes no tabs." if r"'\t'" in problem else None
        raise ConfigError(f"line {line}: not valid YAML: {problem}", where=str(path), hint=hint) from error
    except (YAMLError, ValueError, RecursionError) as error:  # ValueError: a date or tagged number that is none
        raise ConfigError(f"not valid YAML: {error}", where=str(path)) from error
    if data is None:
        raise ConfigError("the file is empty", where=str(path))
    if not isinstance(data, dict):
        raise ConfigError(f"expected a mapping of keys, got {type(data).__name__}", where=str(path))
    try:
        if (size := _size(data, {})) > MAX_VALUES:
            raise ConfigError(f"expected at most {MAX_VALUES:,} values, got {size:,}, aliases counted", where=str(path))
        return {_key(key, str(path)): _read(value, f"{path}: {key}", variables) for key, value in data.items()}
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


def _key(key: Any, where: str) -> str:
    if key is None or isinstance(key, bool):
        word = "null" if key is None else str(key).lower()
        raise ConfigError(f"expected a word as a key, got {word}", where=where, hint="Put it in quotes.")
    return _text(str(key), where)


def _text(text: str, where: str) -> str:
    """The text with the halves of escaped pairs joined, as JSON writes them. Raises ConfigError for half a pair."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError as error:
        raise ConfigError(f"half a surrogate pair is no character: {text!a}", where=ascii(where)[1:-1]) from error


def _read(value: Any, where: str, variables: bool) -> Any:
    if isinstance(value, dict):
        return {_key(key, where): _read(entry, f"{where}.{key}", variables) for key, entry in value.items()}
    if isinstance(value, list):
        return [_read(entry, where, variables) for entry in value]
    if not isinstance(value, str):
        return value
    text = _text(value, where)
    return _interpolate(text, where) if variables else text


def _interpolate(value: str, where: str) -> str:
    def replace(match: re.Match[str]) -> str:
        if SECRET.search(match["name"]):
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
    for folder in _shipped(kind):
        if os.path.isfile(folder / f"{name}.yaml"):
            return folder / f"{name}.yaml"
    names = shipped_names(kind)
    raise ConfigError(
        f"no file of that name, and {kind}/ has no {name!r}{meant(name, names)}",
        where=name,
        hint=f"{kind}/ has: {', '.join(names)}",
    )


def shipped_names(kind: str) -> list[str]:
    """What find_shipped finds."""
    return sorted({path.stem for folder in _shipped(kind) for path in folder.glob("*.yaml")})


def _shipped(kind: str) -> tuple[Path, Path]:
    return _PACKAGE / "shipped" / kind, _PACKAGE.parent / kind


def locate(text: str, folder: Path) -> str:
    """A model or data locator: an existing path (relative ones start at `folder`) made absolute, else left as it is."""
    path = folder / os.path.expanduser(text)
    if os.path.exists(path):
        return str(path.resolve())
    return os.path.abspath(path) if text.startswith((".", "/", "~")) else text
