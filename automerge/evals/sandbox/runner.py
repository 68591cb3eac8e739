"""What runs inside a sandbox: holds a program and answers calls of it, or holds tests and calls a program elsewhere.

It is the first thing that the interpreter there reads from descriptor 3. Requests follow, and answers leave on 4, each
as a length of four bytes and a plain value. Whatever runs here may write to 4 as well: what it can forge is a returned
value, and no expected value is ever in the sandbox of the program that could use it.
"""

from __future__ import annotations

import posix
import sys

from automerge.evals.sandbox.plain import MAX_BYTES, NotOwn, NotPlain, decode, encode

TYPE_CHECKING = False  # importing typing would take as long as all the rest of the start
if TYPE_CHECKING:
    from typing import Any

REQUESTS, ANSWERS = 3, 4
MAX_TEXT = 500


def main() -> None:
    """Reads one job and serves it until the other side closes."""
    import resource

    processes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
    send(("started",))
    job = receive()
    if job[0] == "program":
        _serve(job[1], job[2])
    else:
        _test(job[1], job[2], job[3])


def send(value: Any) -> None:
    """Writes one value. Raises NotPlain."""
    _write(encode(value))


def _write(data: bytes) -> None:
    data = len(data).to_bytes(4, "big") + data
    while data:
        data = data[posix.write(ANSWERS, data) :]


def receive() -> Any:
    """Reads one value; ends the process where there is none."""
    return decode(_read(int.from_bytes(_read(4), "big")))


def _read(size: int) -> bytes:
    parts = []
    while size > 0:
        part = posix.read(REQUESTS, min(size, MAX_BYTES))
        if not part:
            posix._exit(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _raised(error: BaseException) -> tuple[str, str, str]:
    try:
        text = str(error)[:MAX_TEXT]
    except BaseException:
        text = ""
    return ("raised", str(type(error).__name__)[:100], text)


# --- the program's side --------------------------------------------------------------------------------------------


def _serve(program: str, setup: str) -> None:
    module = type(sys)("answer")  # a real module, because dataclasses and pickle look classes up there
    sys.modules["answer"] = module
    names = module.__dict__
    try:
        exec(compile(program, "<answer>", "exec"), names)
        exec(compile(setup, "<setup>", "exec"), names)
    except BaseException as error:
        send(_raised(error))
        return
    send(("ready",))
    while True:
        _write(_answer(receive(), names))


def _answer(request: Any, names: dict[str, Any]) -> bytes:
    """("value", it) or ("raised", type, text) of an expression, or of a call with plain arguments."""
    try:
        if request[0] == "eval":
            value = eval(compile(request[1], "<call>", "eval"), names)
        else:
            value = names[request[1]](*request[2], **request[3])
        return encode(("value", value))
    except BaseException as error:
        return encode(_raised(error))


# --- the tests' side -----------------------------------------------------------------------------------------------


def _test(tests: str, names: tuple[str, ...], last: str) -> None:
    """Runs tests whose `names` are calls of the program in the other sandbox; then the statement `last`."""
    problems: list[str] = []
    scope: dict[str, Any] = {"__name__": "tests"}
    for name in names:
        scope[name] = _proxy(name, problems)
    try:
        exec(compile(tests, "<tests>", "exec"), scope)
        exec(compile(last, "<last>", "exec"), scope)
    except BaseException as error:
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: {str(error)[:MAX_TEXT]} in "
        verdict = ("failed", kind + _line(error, tests))
    else:
        verdict = ("passed", "")
    send(("cannot", problems[0]) if problems else verdict)


def _proxy(name: str, problems: list[str]) -> Any:
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            encode((list(arguments), named), opaque=False)
        except NotOwn:
            raise  # the program gave an object where these tests need a value: it fails
        except NotPlain as error:
            problems.append(f"{name} is called with {error}")
            raise
        send(("call", name, list(arguments), named))
        answer = receive()
        if answer[0] == "value":
            return answer[1]
        kind = vars(sys.modules["builtins"]).get(answer[1])
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                raised = kind(answer[2])
            except TypeError:  # UnicodeDecodeError and the like take more arguments
                raised = Exception(answer[2])
        else:
            raised = type(answer[1], (Exception,), {})(answer[2])
        raise raised

    return call


def _line(error: BaseException, tests: str) -> str:
    """The line of the tests that an exception came through last."""
    number, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<tests>":
            number = trace.tb_lineno
        trace = trace.tb_next
    return tests.splitlines()[number - 1].strip()[:MAX_TEXT] if number else "the tests"
