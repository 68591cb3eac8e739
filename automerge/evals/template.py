"""Sandboxed Jinja for prompts and targets. A template sees one row's fields and nothing else.

Fields that do not exist, and fields that are null, are errors, never empty text. It does not limit time or memory: a
skill file is as trusted as the code that loads it, but no template can reach Python objects' internals.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from automerge.errors import ConfigError, SkillError

_CALCULATOR_MARKS = re.compile(r"<<[^<>\n]*>>")


def without_calculator_marks(text: str) -> str:
    """GSM8K's solutions without their <<48/2=24>> marks."""
    return _CALCULATOR_MARKS.sub("", text)


class _Null(Exception):
    """An expression came out as null."""


def _refuse_null(value: Any) -> Any:
    if value is None:
        raise _Null
    return value


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=_refuse_null, autoescape=False)
    environment.filters["without_calculator_marks"] = without_calculator_marks
    return environment


@cache
def compiled(source: str) -> Template:
    """The template of a text. Raises jinja2.TemplateSyntaxError."""
    return _environment().from_string(source)


def check_template(source: str) -> str:
    """The source, where it parses. Raises ValueError naming the line, for pydantic to report."""
    try:
        compiled(source)
    except TemplateSyntaxError as error:
        raise ValueError(f"not a Jinja template: line {error.lineno}: {error.message}") from None
    return source


def render(source: str, fields: Mapping[str, Any], where: str) -> str:
    """The template filled with a row's fields. Raises SkillError naming the fields the row has."""
    try:
        return compiled(source).render(fields)
    except TemplateSyntaxError as error:
        raise ConfigError(f"not a Jinja template: line {error.lineno}: {error.message}", where=where) from error
    except _Null:
        empty = ", ".join(key for key, value in fields.items() if value is None) or "none of the fields itself"
        raise SkillError(f"the template uses a value that is null; null here: {empty}", where=where) from None
    except UndefinedError as error:
        has = ", ".join(map(str, fields)) or "no fields"
        raise SkillError(
            f"the template needs a field that is not there: {error.message}; the row has: {has}", where=where
        ) from error
    except TemplateError as error:  # SecurityError among them
        raise SkillError(f"the template was refused: {error}", where=where) from error
    except Exception as error:
        raise SkillError(f"the template failed: {type(error).__name__}: {error}", where=where) from error
