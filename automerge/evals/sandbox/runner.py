"""What runs inside a sandbox: holds a program and answers calls of it, or holds tests and calls a program elsewhere.

It is the first thing that the interpreter there reads from descriptor 3. Requests follow, and answers leave on 4, each
as a length of four bytes and a plain value. Whatever runs here may write to 4 as well: what it can forge is a returned
value, and no expected value is ever in the sandbox of the program that could use it.
"""

from __future__ import annotations

import posix
import sys

from automerge.evals.sandbox.plain import MAX_BYTES, NotPlain, Opaque, decode, encode
from automerge.evals.sandbox.reading import read_program

TYPE_CHECKING = False  # importing typing would take as long as all the rest of the start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

REQUESTS, ANSWERS = 3, 4
MAX_TEXT = 500
MAX_KINDS = 20  # classes that an exception is said to be of
CHANGEABLE = (list, dict, set, bytearray)
CHANGEABLE_TOO = ("deque", "Counter", "OrderedDict", "defaultdict")  # of collections


def main() -> None:
    """Reads one job and serves it until the other side closes."""
    import resource

    processes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
    send(("started",))
    job = receive()
    if job[0] == "answer":
        _serve(*job[1:])
    elif job[0] == "program":
        _serve("", job[1], (), (), job[2])
    else:
        _test(*job[1:])


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


def _raised(error: BaseException) -> tuple[str, ...]:
    """("raised", its class, its text, the classes above that)."""
    try:
        text = str(error)[:MAX_TEXT]
    except BaseException:
        text = ""
    name, *above = [str(kind.__name__)[:100] for kind in type(error).__mro__[:MAX_KINDS]]
    return ("raised", name, text, *above)


def _changeable(value: Any) -> bool:
    known = vars(sys.modules.get("collections", sys))
    return type(value) in CHANGEABLE or any(type(value) is known.get(name) for name in CHANGEABLE_TOO)


# --- the program's side --------------------------------------------------------------------------------------------


def _serve(prefix: str, text: str, helpers: tuple[str, ...], names_called: tuple[str, ...], setup: str) -> None:
    module = type(sys)("answer")  # a real module, because dataclasses and pickle look classes up there
    sys.modules["answer"] = module
    names = module.__dict__
    try:
        for code in read_program(prefix, text, helpers, names_called):
            exec(code, names)
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
    """("value", it, the arguments as they are afterwards) or what `_raised` says."""
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
        changed = [part if _changeable(part) else None for part in arguments]
        return encode(("value", value, changed), keep)
    except BaseException as error:
        return encode(_raised(error))


# --- the tests' side -----------------------------------------------------------------------------------------------


class _Talk:
    """What was asked of the program: whether anything was, what could not be, and the exceptions that tests catch."""

    def __init__(self, caught: tuple[str, ...]) -> None:
        self.begun = False
        self.problems: list[str] = []
        self.caught: dict[str, type[Exception]] = {name: type(name, (Exception,), {}) for name in caught}


def _test(
    tests: str, setup: str, names: tuple[str, ...], values: tuple[str, ...], caught: tuple[str, ...], last: str
) -> None:
    """Runs setup, tests and the statement `last`; their `names` are calls of the program in the other sandbox, those of
    `values` what the program has under the name, those of `caught` exceptions."""
    talk = _Talk(caught)
    scope: dict[str, Any] = {"__name__": "tests"}
    for name in names:
        scope[name] = lambda *arguments, _name=name, **named: _ask(talk, "call", _name, list(arguments), named)
    scope |= talk.caught
    try:
        for name in values:
            try:
                scope[name] = _ask(talk, "eval", name)
            except Exception:
                continue  # the program has no such name: the test that needs it says so
        for text, file in ((setup, "<setup>"), (tests, "<tests>"), (last, "<last>")):
            exec(compile(text, file, "exec"), scope)
    except BaseException as error:
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: {str(error)[:MAX_TEXT]} in "
        verdict = ("failed", kind + _line(error, tests))
        if not talk.begun:  # no fault of a program that nothing was asked
            verdict = ("cannot", f"they fail before they call it: {verdict[1]}")
    else:
        verdict = ("passed", "")
    send(("cannot", talk.problems[0]) if talk.problems else verdict)


class _Stub:
    """An object that the program made: what is asked of it is asked there. It equals itself and nothing that is plain;
    whether it equals another object, only its own code could say."""

    def __init__(self, opaque: Opaque, talk: _Talk) -> None:
        # Two names that no object of a program has.
        vars(self).update(_Stub__opaque=opaque, _Stub__talk=talk)

    def __eq__(self, other: object) -> bool:
        if other is not self and _foreign(other):
            self.__talk.problems.append(f"a {self.__opaque.kind} object is compared with a {_kind(other)} object")
        return other is self

    def __hash__(self) -> int:
        return id(self)

    def __instancecheck__(self, other: object) -> bool:
        self.__talk.problems.append(f"they ask for the class {self.__opaque.kind} of a value")
        return False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _ask(self.__talk, "get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        _ask(self.__talk, "set", self, name, value)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return _ask(self.__talk, "of", self, list(arguments), named)

    def __bool__(self) -> bool:
        return bool(self.__opaque.true)

    def __len__(self) -> int:
        return int(_ask(self.__talk, "get", self, "__len__")())

    def __getitem__(self, key: Any) -> Any:
        return _ask(self.__talk, "get", self, "__getitem__")(key)

    def __str__(self) -> str:
        text = _ask(self.__talk, "get", self, "__str__")()
        if type(text) is not str:
            raise TypeError("__str__ returned no text")
        return text


def _kind(value: object) -> str:
    return str(vars(value)["_Stub__opaque"].kind if type(value) is _Stub else type(value).__name__)


def _foreign(value: object) -> bool:
    """Whether a value is an object that would not cross."""
    if value is None or isinstance(value, (int, str, float, list, tuple, dict, set)) or hasattr(value, "__next__"):
        return False
    try:
        encode(value, _number)
    except NotPlain:
        return True
    return type(value) is _Stub


def _number(value: Any) -> int:
    if type(value) is not _Stub:
        raise NotPlain(f"a {type(value).__name__} object")
    return int(vars(value)["_Stub__opaque"].number)


def _ask(talk: _Talk, *request: Any) -> Any:
    """What the program's side answers. Raises what it raised. Notes where a request cannot cross."""
    try:
        data = encode(request, _number, exact=True)
    except NotPlain as error:
        talk.problems.append(f"the program is given {error}")
        raise
    talk.begun = True
    _write(data)
    kind, value, *rest = receive(lambda opaque: _Stub(opaque, talk))
    if kind == "raised":
        raise _exception(talk, value, *rest)
    arguments = request[2] if request[0] in ("call", "of") else []
    for given, after in zip(arguments, rest[0], strict=False):
        if type(given) is type(after) and _changeable(given):
            given.clear()
            given.extend(after) if hasattr(given, "extend") else given.update(after)
    return value


def _exception(talk: _Talk, name: str, text: str, *above: str) -> Any:
    """A built-in exception by its name, else one of a new type of that name, which is also of those above it that are
    built in or that the tests catch."""
    known = {**_built_in(), **talk.caught}
    try:
        if name in known:
            return known[name](text)
        # The first built-in one is of all above it.
        built_in = [known[kind] for kind in above if kind in _built_in()][:1] or [Exception]
        return type(name, (*(talk.caught[kind] for kind in above if kind in talk.caught), *built_in), {})(text)
    except TypeError:  # UnicodeDecodeError and the like take more arguments
        return type(name, (Exception,), {})(text)


def _built_in() -> dict[str, type[Exception]]:
    found = vars(sys.modules["builtins"]).items()
    return {name: kind for name, kind in found if isinstance(kind, type) and issubclass(kind, Exception)}


def _line(error: BaseException, tests: str) -> str:
    """The line of the tests that an exception came through last."""
    number, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<tests>":
            number = trace.tb_lineno
        trace = trace.tb_next
    return tests.splitlines()[number - 1].strip()[:MAX_TEXT] if number else "the tests"
