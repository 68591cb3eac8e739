"""What runs inside a sandbox: holds a program and answers calls of it, or holds tests and calls a program elsewhere.

It is the first thing that the interpreter there reads from descriptor 3. Requests follow, and answers leave on 4, each
as a length of four bytes and a plain value. Whatever runs here may write to 4 as well: what it can forge is a returned
value, and no expected value is ever in the sandbox of the program that could use it.
"""

from __future__ import annotations

import posix
import sys

from automerge.evals.sandbox.plain import MAX_BYTES, NotPlain, Opaque, decode, encode

TYPE_CHECKING = False  # importing typing would take as long as all the rest of the start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

REQUESTS, ANSWERS = 3, 4
MAX_TEXT = 500
CHANGEABLE = (list, dict, set, bytearray)


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
        _test(job[1], job[2], job[3], job[4])


def send(value: Any) -> None:
    """Writes one value. Raises NotPlain."""
    _write(encode(value))


def _write(data: bytes) -> None:
    data = len(data).to_bytes(4, "big") + data
    while data:
        data = data[posix.write(ANSWERS, data) :]


def receive(find: Callable[[Opaque], Any] = lambda opaque: opaque) -> Any:
    """Reads one value; ends the process where there is none."""
    return decode(_read(int.from_bytes(_read(4), "big")), find)


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
    kept: list[Any] = []  # objects that the tests know by number
    while True:
        request = receive(lambda opaque: kept[opaque.number])
        _write(_answer(request, names, kept))


def _answer(request: Any, names: dict[str, Any], kept: list[Any]) -> bytes:
    """("value", it, the arguments as they are afterwards) or ("raised", type, text)."""
    kind, what, *rest = request
    arguments: list[Any] = []

    def keep(value: Any) -> int:
        kept.append(value)
        return len(kept) - 1

    try:
        if kind == "eval":
            value = eval(compile(what, "<call>", "eval"), names)
        elif kind == "get":
            value = getattr(what, *rest)
        elif kind == "set":
            value = setattr(what, *rest)  # type: ignore[func-returns-value]
        else:
            arguments = rest[0]
            value = (names[what] if kind == "call" else what)(*arguments, **rest[1])
        # Tests may look at a list that they gave.
        changed = [part if type(part) in CHANGEABLE else None for part in arguments]
        return encode(("value", value, changed), keep)
    except BaseException as error:
        return encode(_raised(error))


# --- the tests' side -----------------------------------------------------------------------------------------------


def _test(tests: str, setup: str, names: tuple[str, ...], last: str) -> None:
    """Runs setup, tests and the statement `last`; their `names` are calls of the program in the other sandbox."""
    problems: list[str] = []
    scope: dict[str, Any] = {"__name__": "tests"}
    for name in names:
        scope[name] = lambda *arguments, _name=name, **named: _ask(problems, "call", _name, list(arguments), named)
    try:
        for text, file in ((setup, "<setup>"), (tests, "<tests>"), (last, "<last>")):
            exec(compile(text, file, "exec"), scope)
    except BaseException as error:
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: {str(error)[:MAX_TEXT]} in "
        verdict = ("failed", kind + _line(error, tests))
    else:
        verdict = ("passed", "")
    send(("cannot", problems[0]) if problems else verdict)


class _Stub:
    """An object that the program made: what is asked of it is asked there. It compares as nothing but itself."""

    def __init__(self, opaque: Opaque, problems: list[str]) -> None:
        # Two names that no object of a program has.
        vars(self).update(_Stub__opaque=opaque, _Stub__problems=problems)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _ask(self.__problems, "get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        _ask(self.__problems, "set", self, name, value)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return _ask(self.__problems, "of", self, list(arguments), named)

    def __bool__(self) -> bool:
        return bool(self.__opaque.true)

    def __len__(self) -> int:
        return int(_ask(self.__problems, "get", self, "__len__")())

    def __getitem__(self, key: Any) -> Any:
        return _ask(self.__problems, "get", self, "__getitem__")(key)

    def __str__(self) -> str:
        text = _ask(self.__problems, "get", self, "__str__")()
        if type(text) is not str:
            raise TypeError("__str__ returned no text")
        return text


def _ask(problems: list[str], *request: Any) -> Any:
    """What the program's side answers. Raises what it raised. Adds to `problems` where a request cannot cross."""

    def number(value: Any) -> int:
        if type(value) is not _Stub:
            raise NotPlain(f"a {type(value).__name__} object")
        return int(vars(value)["_Stub__opaque"].number)

    try:
        data = encode(request, number)
    except NotPlain as error:
        problems.append(f"the program is given {error}")
        raise
    _write(data)
    kind, value, *rest = receive(lambda opaque: _Stub(opaque, problems))
    if kind == "raised":
        raise _exception(value, rest[0])
    arguments = request[2] if request[0] in ("call", "of") else []
    for given, after in zip(arguments, rest[0], strict=False):
        if type(given) is type(after) and type(given) in CHANGEABLE:
            given.clear()
            given.extend(after) if isinstance(given, list | bytearray) else given.update(after)
    return value


def _exception(name: str, text: str) -> Any:
    """A built-in exception by its name, else one of a new type of that name."""
    kind = vars(sys.modules["builtins"]).get(name)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(text)
        except TypeError:  # UnicodeDecodeError and the like take more arguments
            pass
    return type(name, (Exception,), {})(text)


def _line(error: BaseException, tests: str) -> str:
    """The line of the tests that an exception came through last."""
    number, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<tests>":
            number = trace.tb_lineno
        trace = trace.tb_next
    return tests.splitlines()[number - 1].strip()[:MAX_TEXT] if number else "the tests"
