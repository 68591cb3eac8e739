"""What a template sees and may do: a sandboxed Jinja environment for skills, and one for models' chat templates.

The chat environment is that of transformers' apply_chat_template, but for the date. It limits neither time nor memory.
"""

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import StrictUndefined, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

# The day every chat template is told it is: a prompt must not change overnight. Llama 3's templates fall back to it.
TODAY = datetime(2024, 7, 26)

_CALCULATOR_MARKS = re.compile(r"<<[^<>\n]*>>")


class NullValue(Exception):
    """An expression came out as null."""


def skill_environment() -> ImmutableSandboxedEnvironment:
    """Fields that do not exist, and fields that are null, are errors, never empty text."""
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=_refuse_null, autoescape=False)
    environment.filters["without_calculator_marks"] = without_calculator_marks
    del environment.filters["random"], environment.globals["lipsum"]  # a skill's prompts are the same in every process
    return environment


def chat_environment() -> ImmutableSandboxedEnvironment:
    """What chat templates are written for."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = TODAY.strftime
    return environment


def without_calculator_marks(text: str) -> str:
    """GSM8K's solutions without their <<48/2=24>> marks."""
    return _CALCULATOR_MARKS.sub("", text)


def _refuse_null(value: Any) -> Any:
    if value is None:
        raise NullValue
    return value


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    # Jinja's own escapes HTML.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _Generation(Extension):
    """{% generation %}…{% endgeneration %}, which marks what the assistant said, as plain text."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_spoken"), [], [], body).set_lineno(line)

    def _spoken(self, caller: Callable[[], str]) -> str:
        return caller()
