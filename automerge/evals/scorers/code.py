"""code: the program in the answer passes the item's tests, run in the sandbox.

The tests are MBPP's assert lines, or HumanEval's text that defines check(candidate); `checks.py` of the sandbox says
how they are run apart from the program, so that it cannot pass by anything but returning the right values.
"""

import functools
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from pydantic import Field

from automerge.config import Closed
from automerge.errors import SkillError
from automerge.evals.sandbox.checks import Suite, read_tests
from automerge.evals.sandbox.choice import sandbox_level
from automerge.evals.sandbox.extract import program_of
from automerge.evals.sandbox.judge import judge
from automerge.evals.scorers.base import Answer, TextScorer, register
from automerge.records import Score

# Where a skill does not name a field, one of these is taken if the row has it.
_USUAL = {"setup": ("test_setup_code", "test_imports"), "entry_point": ("entry_point",), "prefix": ("prompt",)}


class CodeParams(Closed):
    """Fields of a row: `tests`, a list of assert lines or a text; `setup`, code to run after the program and before the
    tests; `entry_point`, the name of the function under test, where the tests define check(candidate); `prefix`, the
    text that the answer goes on from, looked for with an entry point only. `seconds`: CPU time for all tests of an
    item; three times that by the clock. `unsafe`: run without a sandbox, with limits on time and memory alone."""

    tests: Annotated[str, Field(min_length=1)]
    setup: str | None = None
    entry_point: str | None = None
    prefix: str | None = None
    seconds: Annotated[float, Field(gt=0, le=600)] = 8.0
    unsafe: bool = False


@register("code")
class Code(TextScorer):
    """1 where every test passes, else 0; unscored where the sandbox fails, or the tests cannot be run apart."""

    version = 2
    Params = CodeParams

    def isolation(self) -> str:
        level = sandbox_level(self.params.unsafe)
        return f"{level.name}, {level.python}" if not self.params.unsafe else "none (unsafe: true)"

    def target_of(self, row: Mapping[str, Any], where: str) -> str:
        """The row's tests and what goes with them, as JSON."""
        found = {"tests": _text(row, self.params.tests, where)}
        for name, usual in _USUAL.items():
            field = getattr(self.params, name)
            if field is None and (name != "prefix" or found["entry_point"]):
                field = next((other for other in usual if row.get(other) is not None), None)
            found[name] = _text(row, field, where) if field is not None else ""
        return json.dumps(found, sort_keys=True, ensure_ascii=False)

    def check_target(self, target: str) -> str | None:
        try:
            _read(target)
        except SyntaxError as error:
            return f"the tests are not Python: line {error.lineno}: {error.msg}"
        except ValueError as error:
            return f"the tests cannot be used: {error}"
        return None

    def score_text(self, text: str, target: str) -> Score:
        tests, names, prefix = _read(target)
        draft = program_of(text, names, prefix)
        if not draft.text.strip():
            return Score(0.0, "no program in the answer")
        return judge(draft, tests, seconds=self.params.seconds, unsafe=self.params.unsafe)

    def score_block(self, answers: Sequence[Answer], targets: Sequence[str]) -> list[Score]:
        """The scores in order, worked out on all cores."""
        # Two a core: half of a sandbox's start is waiting for the kernel.
        with ThreadPoolExecutor(2 * len(os.sched_getaffinity(0))) as pool:
            return list(pool.map(self.score, answers, targets))


def _text(row: Mapping[str, Any], field: str, where: str) -> str:
    """A field's text; a list's lines."""
    value = row.get(field)
    if isinstance(value, str):
        return value.replace("\r\n", "\n")
    if isinstance(value, Sequence) and all(isinstance(part, str) for part in value):
        return "\n".join(value).replace("\r\n", "\n")
    got = f"got {type(value).__name__}" if field in row else f"the row has: {', '.join(row)}"
    raise SkillError(f"expected text or a list of lines in the field {field!r} (scorer), {got}", where=where)


@functools.lru_cache(maxsize=4096)
def _read(target: str) -> tuple[Suite, tuple[str, ...], str]:
    """(tests, what they call, prefix) of a target. Raises SyntaxError and ValueError."""
    fields = json.loads(target)
    tests = read_tests(fields["tests"], fields["setup"], fields["entry_point"])
    return tests, (fields["entry_point"],) if fields["entry_point"] else tests.names, fields["prefix"]
