"""Sandboxed Jinja for prompts and targets. A template sees one row's fields and nothing else.

Fields that do not exist, and fields that are null, are errors, never empty text. Rendering is a limited process's work:
see automerge.engine.templates.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from automerge.engine.templates.client import TemplateFailure, compile_skill, render_skill
from automerge.errors import ConfigError, SkillError

_ROWS = 200  # rendered at a time


def check_template(source: str) -> str:
    """The source, where it compiles. Raises ValueError naming the line, for pydantic to report."""
    try:
        compile_skill(source)
    except TemplateFailure as failure:
        said = "the template" if failure.kind == "limit" else "not a Jinja template:"
        raise ValueError(f"{said} {failure.message}") from None
    return source


class Templates:
    """A skill's templates over its rows. Many rows are rendered at a time, those asked for next among them."""

    def __init__(self, sources: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        """`rows` in the order in which they will be asked for; any other may be asked for too."""
        self._sources = sources
        self._rows = rows  # kept, so that their ids are
        self._places = {id(row): place for place, row in enumerate(rows)}
        self._found: dict[tuple[str, int], str | TemplateFailure] = {}

    def render(self, source: str, fields: Mapping[str, Any], where: str) -> str:
        """The template filled with a row's fields. Raises SkillError naming the fields the row has."""
        key = (source, id(fields))
        if key not in self._found:
            first = self._places.get(id(fields), len(self._rows))
            jobs = [(source, fields)]
            jobs += [(own, row) for row in self._rows[first : first + _ROWS] for own in self._sources]
            done = render_skill(jobs)
            self._found |= {(own, id(row)): text for (own, row), text in zip(jobs, done, strict=False)}
        text = self._found[key]
        if isinstance(text, str):
            return text
        if text.kind == "syntax":
            raise ConfigError(f"not a Jinja template: {text.message}", where=where) from text
        raise SkillError(_said(text, fields), where=where, hint=f"The template: {_shown(source)}") from text


def render(source: str, fields: Mapping[str, Any], where: str) -> str:
    """One template over one row: see Templates."""
    return Templates((), ()).render(source, fields, where)


def _said(failure: TemplateFailure, fields: Mapping[str, Any]) -> str:
    if failure.kind == "null":
        empty = ", ".join(key for key, value in fields.items() if value is None) or "none of the fields itself"
        return f"the template uses a value that is null; null here: {empty}"
    if failure.kind == "undefined":
        has = ", ".join(map(str, fields)) or "no fields"
        return f"the template needs a field that is not there: {failure.message}; the row has: {has}"
    if failure.kind == "limit":
        return f"the template {failure.message}"
    return f"the template {'was refused' if failure.kind == 'refused' else 'failed'}: {failure.message}"


def _shown(source: str) -> str:
    line = " ".join(source.split())
    return line if len(line) <= 120 else f"{line[:120]}…"
