"""Program and tests → verdict. The program runs in a sandbox; what it must return is never there.

0 is a verdict about the program; unscored (None) means that the sandbox, or these tests, could give none.
"""

import functools
import reprlib
from typing import Any

from automerge.evals.sandbox.checks import Check, Suite
from automerge.evals.sandbox.choice import running_spawner
from automerge.evals.sandbox.expressions import Unanswerable, work_out
from automerge.evals.sandbox.extract import Draft
from automerge.evals.sandbox.plain import NotPlain
from automerge.evals.sandbox.process import Process, ProgramEnded
from automerge.evals.sandbox.spawning import SandboxFailed, Spawner
from automerge.records import Score

MAX_SHOWN = 100  # characters of a value or a test in a message
TRIES = 2  # a sandbox that fails is started once more


def judge(program: str | Draft, tests: Suite, *, seconds: float, unsafe: bool = False) -> Score:
    """1 where the program passes every test within `seconds` of CPU time and three times that by the clock, 0 with the
    reason where it does not, None where no verdict can be formed. Raises SkillError where there is no sandbox."""
    if tests.unfit:
        return Score(None, _apart(tests.unfit))
    why = ""
    for _ in range(TRIES):
        try:
            return _judge(running_spawner(unsafe), program, tests, seconds)
        except SandboxFailed as error:
            why = str(error)
    return Score(None, f"the sandbox failed: {_short(why)}")


def _judge(spawner: Spawner, program: str | Draft, tests: Suite, seconds: float) -> Score:
    draft = Draft(program) if isinstance(program, str) else program
    with Process(spawner, seconds) as answer:
        try:
            # All at once: a process that waits for another costs most on a busy machine.
            calls = [call for check in tests.checks or () for call in check.calls]
            whole = ("answer", draft.prefix, draft.text, draft.helpers, draft.names, tests.setup)
            answer.send(whole, *(("eval", call) for call in calls))
            ready = answer.receive()
            if ready != ("ready",):
                return Score(0.0, f"the program fails: {_error(ready)}")
            if tests.checks is None:
                return _in_second_sandbox(spawner, answer, tests, seconds)
            unanswered = ""
            for check in tests.checks:
                found = _outcome(answer, check)
                if found.value == 0:
                    return found
                unanswered = unanswered or found.detail
            if unanswered:
                return Score(None, unanswered)
        except ProgramEnded as error:
            return Score(0.0, str(error))
        except NotPlain as error:  # a program of megabytes, or a value made to be read and not to be passed on
            return Score(0.0, f"the program cannot be run: {error}")
    return Score(1.0)


def _outcome(answer: Process, check: Check) -> Score:
    """Whether a check holds, whose calls were sent."""
    values = {}
    for index in range(len(check.calls)):
        result = answer.receive()
        if not _is_value(result):
            return Score(0.0, f"{_short(check.text)}: {_error(result)}")
        values[f"_{index}"] = result[1]
    got = f"got {', '.join(_shown(value) for value in values.values())}"  # before iterators are used up
    try:
        if bool(work_out(check.condition, values)):
            return Score(1.0)
        why = got
    except Unanswerable as error:
        return Score(None, _apart(f"{check.text}: {error}"))
    except Exception as error:  # what the same assert would raise
        why = f"{got}: {type(error).__name__}: {_short(str(error))}"
    if not check.calls:  # whatever the program is
        return Score(None, _apart(f"{check.text} fails"))
    return Score(0.0, f"{_short(check.text)}: {why}")


def _apart(why: str) -> str:
    return f"these tests cannot be run apart from the program: {_short(why)}"


def _in_second_sandbox(spawner: Spawner, answer: Process, tests: Suite, seconds: float) -> Score:
    """Runs the tests where the program is not, and passes their calls on to it."""
    with Process(spawner, seconds) as test:
        answer.restart_clock()
        test.send(
            ("tests", tests.text, tests.setup_of_tests, tests.names, tests.values, tests.caught, tests.last),
        )
        while True:
            message = test.receive()
            match message:
                case ("call" | "of" | "get" | "set" | "eval", *_):
                    answer.send(message)
                    test.send(_plain_result(answer.receive()))
                case ("passed", ""):
                    return Score(1.0)
                case ("failed", str(why)):
                    return Score(0.0, _short(why))
                case ("cannot", str(why)):
                    return Score(None, _apart(why))
                case _:
                    return Score(None, f"the tests wrote to the sandbox's own pipe: {_shown(message)}")


def _is_value(result: Any) -> bool:
    return type(result) is tuple and len(result) == 3 and result[0] == "value" and type(result[2]) is list


def _plain_result(result: Any) -> tuple[Any, ...]:
    """A result as the tests' side expects it, whatever the program's side sent."""
    if _is_value(result):
        return ("value", result[1], result[2])
    if type(result) is tuple and len(result) >= 3 and all(type(part) is str for part in result):
        return ("raised", *result[1:])
    raise ProgramEnded("the program wrote to the sandbox's own pipe")


def _error(result: Any) -> str:
    try:
        _, name, text, *_ = _plain_result(result)
    except ProgramEnded:
        return "the program wrote to the sandbox's own pipe"
    return f"{name}: {_short(text)}" if text else str(name)


def _short(text: str) -> str:
    """On one line, without what a terminal or a database would stumble over."""
    text = "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(text.split()))
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


@functools.cache
def _printer() -> reprlib.Repr:
    printer = reprlib.Repr()
    printer.maxstring = printer.maxother = printer.maxlong = MAX_SHOWN
    printer.maxlist = printer.maxtuple = printer.maxset = printer.maxdict = 10
    return printer


def _shown(value: Any) -> str:
    try:
        return _short(_printer().repr(value))
    except ValueError:  # an integer of more digits than Python prints
        return f"a {type(value).__name__} too long to show"
