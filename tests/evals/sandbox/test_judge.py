"""Verdicts of programs that mean no harm, at every level; and what is no verdict."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from automerge.errors import SkillError
from automerge.evals.sandbox import choice, selftest
from automerge.evals.sandbox import judge as judging
from automerge.evals.sandbox.checks import read_tests
from automerge.evals.sandbox.judge import judge
from automerge.evals.sandbox.levels import Level
from automerge.evals.sandbox.process import Process, ProgramEnded
from automerge.evals.sandbox.selftest import weakness
from automerge.evals.sandbox.spawning import SandboxFailed, Spawner
from automerge.records import Score
from tests.evals.sandbox.canaries import sandbox_processes

STACK = """
class Stack:
    def __init__(self): self.kept = []
    def push(self, x): self.kept.append(x); return self
    def pop(self): return self.kept.pop()
    def __len__(self): return len(self.kept)
    def __getitem__(self, n): return self.kept[n]
    def __str__(self): return f"S{self.kept}"
def depth(s): return len(s)
"""
PAIR = """
class Pair:
    def __init__(self, a, b): self.a, self.b = a, b
def total(pairs): return sum(p.a + p.b for p in pairs)
"""
THREAD = """
import threading
def f(x):
    thread = threading.Thread(target=x.append, args=(1,))
    thread.start(); thread.join()
    return x
"""
COUNTS = "import collections\ndef f(x): return collections.Counter(x)"
OWN_ERROR = """
class MyError(ValueError): pass
class Other(MyError): pass
def f(x): raise MyError('no')
def g(x): raise Other('no')
"""
DATACLASS = """
import dataclasses
@dataclasses.dataclass
class D:
    x: 'int' = 1
def f(): return dataclasses.asdict(D())
"""
VECTOR = """
class V:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return self.x == other.x
    def __add__(self, other): return V(self.x + other.x)
"""
PRINTS = """
import contextlib, io
out = io.StringIO()
with contextlib.redirect_stdout(out):
    f()
assert out.getvalue() == 'hi\\n'
"""
# Becomes the user 12345 and then the command that follows.
ORDINARY = """
import os, sys
os.setgroups([]); os.setresgid(12345, 12345, 12345); os.setresuid(12345, 12345, 12345)
os.execv(sys.argv[1], sys.argv[1:])
"""


def verdict(spawner: Spawner, program: str, text: str, setup: str = "", entry_point: str = "") -> Score:
    return judging._judge(spawner, program, read_tests(text, setup, entry_point), 5.0)


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("def f(x): return x + 1", "assert f(1) == 2.0"),
        ("def f(x): return True", "assert f(1) == 1"),
        ("def f(x): return (n for n in [2, 1])", "assert sorted(f(1)) == [1, 2]"),
        ("import collections\ndef f(x): return collections.Counter(x)", "assert f('aab') == {'a': 2, 'b': 1}"),
        (
            "from collections import namedtuple\nP = namedtuple('P', 'a b')\ndef f(x): return P(x, 2)",
            "assert f(1) == (1, 2)",
        ),
        ("import re\ndef f(x): return re.match('a', x)", "assert f('ab')\nassert not f('b')"),
        ("def f(x):\n    print('x' * 10000)\n    return None", "assert f(1) is None"),
        (PAIR, "assert total([Pair(1, 2), Pair(3, 4)]) == 10"),
        (THREAD, "assert f([]) == [1]"),
        ("def f(n):\n    return 1 if n == 0 else n * f(n - 1)", "assert f(500) % 1000 == 0"),
        (DATACLASS, "assert f() == {'x': 1}"),
        ("def f(x): return x + [1]", "x = [0]\nassert f(x) == [0, 1]\nassert x == [0]"),
        (
            "def f(x): raise ValueError('no')",
            "try:\n    f(1)\nexcept ValueError as error:\n    assert str(error) == 'no'\nelse:\n    assert False",
        ),
        ("def f(x): return str(x)", "assert f(12).startswith('1')"),
        ("def f(x): return 'é\\ud800'", "assert len(f(1)) == 2"),
        ("def sum(a, b): return a - b", "assert sum(3, 1) == 2"),
        (STACK, "s = Stack()\ns.push(1).push([2])\nassert s.pop() == [2] and len(s) == 1 and str(s) == 'S[1]'"),
        (STACK, "s = Stack()\ns.push(1)\nassert s[0] == 1 and list(s) == [1]"),
        (STACK, "s = Stack()\ns.number = 5\nassert s.number == 5 and depth(s.push(1)) == 1 and depth([s, s]) == 2"),
        (STACK, "assert Stack().push(3).pop() == 3"),
        (STACK, "try:\n    Stack().pop()\nexcept IndexError:\n    pass\nelse:\n    assert False"),
        ("def f(x, y): x.sort(); y['a'] = 1", "x, y = [2, 1], {}\nf(x, y)\nassert x == [1, 2] and y == {'a': 1}"),
        ("def f(x): return len(x)", "class Bag(list): pass\nassert f(Bag([1])) == 1"),
        ("def f(n): return [0] * n", "assert f(3) == [0] * 3 and f(0) == 0 * [1]"),
        ("def f(n): return 'a' * n", "assert f(5) == 'a' * 5\nassert f(2) * 2 == '-' * 0 + 'aaaa'"),
        ("def f(n): return n", "assert '%d' % f(1) == '1' and '%s-%s' % (f('a'), 2) == 'a-2'"),
        ("def f(a, b): return a - b", "assert f({1, 2}, {2}) == {1, 2} - {2}"),
        ("def f(d): return d.items()", "assert f({1: 2}) == {(1, 2)} and len(f({1: [2]})) == 1"),
        ("def f(d): return d.values()", "assert len(f({1: 2})) == 1 and sorted(f({1: 2})) == [2]"),
        (COUNTS, "assert f('aab') == {'a': 2, 'b': 1} and f('a') + f('b') == f('ab') and f('a')['z'] == 0"),
        (
            "def f(c): return c.most_common(1)",
            "from collections import Counter\nassert f(Counter('aab')) == [('a', 2)]",
        ),
        ("def f(d): return d['a']", "from collections import defaultdict\nassert f(defaultdict(list)) == []"),
        ("def f(d): d['a'] += 1", "from collections import Counter\nc = Counter('a')\nf(c)\nassert c['a'] == 2"),
        (
            "from datetime import date\ndef f(*a): return date(*a)",
            "import datetime\nassert f(2020, 1, 2) == datetime.date(2020, 1, 2)",
        ),
        ("def f(day): return day.year", "import datetime\nday = datetime.date(2020, 1, 2)\nassert f(day) == 2020"),
        (
            "def f(a, b): return a - b",
            "from datetime import date\nassert f(date(2020, 1, 2), date(2020, 1, 1)).days == 1",
        ),
        ("X = 5\ndef f(): return X", "assert X == 5 and f() == 5"),
        ("X = [5]\ndef f(): return X", "x = X\nassert x[0] == 5 and f() == x"),
        (OWN_ERROR, "try:\n    f(1)\n    assert False\nexcept MyError as error:\n    assert str(error) == 'no'"),
        (OWN_ERROR, "try:\n    g(1)\n    assert False\nexcept MyError:\n    pass"),
        (OWN_ERROR, "try:\n    f(1)\n    assert False\nexcept ValueError:\n    pass"),
        ("def f(x): return x + 1", "assert list(map(f, [1, 2])) == [2, 3]"),
    ],
)
def test_right_programs_pass(spawner: Spawner, program: str, text: str) -> None:
    assert verdict(spawner, program, text) == Score(1.0)


@pytest.mark.parametrize(
    ("program", "text", "detail"),
    [
        ("def f(x): return x", "assert f(1) == 2", "f(1) == 2: got 1"),
        ("def f(x): return '1'", "assert f(1) == 1", "f(1) == 1: got '1'"),
        ("def f(x): return [1, 2]", "assert f(1) == (1, 2)", "f(1) == (1, 2): got [1, 2]"),
        ("def f(x): return 1 / 0", "assert f(1) == 1", "f(1) == 1: ZeroDivisionError: division by zero"),
        ("def g(x): return 1", "assert f(1) == 1", "f(1) == 1: NameError: name 'f' is not defined"),
        (
            "import nothing_such",
            "assert f(1) == 1",
            "the program fails: ModuleNotFoundError: No module named 'nothing_such'",
        ),
        (
            "def f(x): return 1",
            "assert len(f(1)) == 1",
            "len(f(1)) == 1: got 1: TypeError: object of type 'int' has no len()",
        ),
        ("def f(x): return object()", "assert f(1) == 1", "f(1) == 1: got <object object>"),
        ("def f(x): return x", "for n in range(3):\n    assert f(n) < 2", "assert f(n) < 2"),
        (
            "def f(x): return None",
            "y = f(1) + 1\nassert y == 2",
            "TypeError: unsupported operand type(s) for +: 'NoneType' and 'int' in y = f(1) + 1",
        ),
        ("def f(x): return input()", "assert f(1) == ''", "f(1) == '': EOFError: EOF when reading a line"),
        ("def f(x): return object()", "y = f(1)\nassert f(y) == 1", "assert f(y) == 1"),
        (
            "def f(x):\n  return (",
            "assert f(1) == 1",
            "the program fails: SyntaxError: '(' was never closed (<answer>, line 2)",
        ),
        (
            "def f(x): return " + "(" * 9999,
            "assert f(1) == 1",
            "the program fails: SyntaxError: too many nested parentheses (<answer>, line 1)",
        ),
        (
            "def f(x): raise ValueError('\\x1b[31m\\ud800\\n')",
            "assert f(1) == 1",
            "f(1) == 1: ValueError: \ufffd[31m\ufffd",
        ),
        (
            "def f(x): return range(10**9)",
            "assert list(f(1)) == [1]",
            "list(f(1)) == [1]: got <range object>: TypeError: 'Opaque' object is not iterable",
        ),
        ("def f(x): return 1 << 40000", "assert f(1) == 1", "f(1) == 1: got a int too long to show"),
    ],
)
def test_wrong_programs_fail_and_the_detail_says_why(spawner: Spawner, program: str, text: str, detail: str) -> None:
    assert verdict(spawner, program, text) == Score(0.0, detail)


def test_tests_that_cannot_run_apart_are_unscored(spawner: Spawner) -> None:
    found = verdict(spawner, "def f(g): return g(1)", "def g(x): return x\nassert f(g) == 1")
    assert found.value is None and "cannot be run apart" in found.detail and "function" in found.detail


@pytest.mark.parametrize(
    ("program", "text", "why"),
    [
        (
            "from pathlib import Path\ndef f(x): return Path(x)",
            "from pathlib import Path\nassert f('a') == Path('a')",
            "",
        ),
        (
            "import uuid\ndef f(x): return uuid.UUID(int=x)",
            "import uuid\nassert [f(1)] == [uuid.UUID(int=1)]",
            "a UUID",
        ),
        ("import array\ndef f(x): return array.array('i', x)", "assert f([1]) == f([1])", "not plain"),
        ("import enum\nclass E(enum.Enum): A = 1\ndef f(): return E.A", "assert f() == E.A", "not plain"),
        (VECTOR, "assert V(1) + V(2) == V(3)", "<V object>"),
        (VECTOR, "v = V(1)\nassert v == V(1)", "a V object is compared with a V object"),
        (VECTOR, "v = V(1)\nassert v != V(2)", "a V object is compared with a V object"),
        (VECTOR, "v = V(1)\nassert isinstance(v, V)", "class"),
        ("def f(): print('hi')", PRINTS, "they read what the program prints"),
        (
            "def f(d): return d['a']",
            "from collections import defaultdict\nassert f(defaultdict(lambda: 7)) == 7",
            "defaultdict",
        ),
        (
            "def f(x): return x",
            "helper = lambda: 1\nassert helper(2) == 1\nassert f(1) == 1",
            "before they call it: TypeError",
        ),
        ("def f(x): return x", "assert 1 == 2\nassert f(1) == 1", "1 == 2 fails"),
    ],
)
def test_what_only_the_programs_own_code_could_answer_is_unscored(
    spawner: Spawner, program: str, text: str, why: str
) -> None:
    tests = read_tests(text)
    found = Score(None, tests.unfit) if tests.unfit else judging._judge(spawner, program, tests, 5.0)
    assert found.value is None and why in found.detail, found


@pytest.mark.parametrize(
    "text",
    [
        "assert f(1) == 2",
        "assert f(1) != 2 and f(1) == 2",
        "assert f(1) in [1, 2, (3,)]",
        "x = 2\nassert f(1) == x",
        "x = [2]\nassert [f(1)] == x",
        "assert f(1) == f(1)\nassert f(2) == 2",  # one that could not be answered excuses no other
        "assert f(1) + 1 == 2",
        "assert f(1) * 2 == 'aa'",
        "try:\n    f(1)\nexcept MyError:\n    pass\nelse:\n    assert False",
    ],
)
def test_an_object_in_place_of_a_plain_value_is_wrong(spawner: Spawner, text: str) -> None:
    program = """
class Equal:
    def __eq__(self, other): return True
    __ne__ = __lt__ = __add__ = __mul__ = __eq__
    __hash__ = object.__hash__
def f(x): return Equal()
"""
    assert verdict(spawner, program, text).value == 0.0


def test_an_exception_that_says_what_it_is_not_is_caught_as_what_it_says_alone(spawner: Spawner) -> None:
    program = "class AssertionError(BaseException): pass\ndef f(x): raise AssertionError('no')"
    text = "try:\n    f(1)\nexcept ValueError:\n    pass\nassert f(2) == 2"
    assert verdict(spawner, program, text).value == 0.0


def test_setup_may_build_objects_of_the_program_for_either_way(spawner: Spawner) -> None:
    program = """
class Node:
    def __init__(self, x): self.x, self.left = x, None
def height(n): return 1 + height(n.left) if n else 0
"""
    setup = "root = Node(1)\nroot.left = Node(2)"
    for text in ("assert height(root) == 2", "n = root\nassert height(n) == 2"):
        assert verdict(spawner, program, text, setup) == Score(1.0)


@pytest.mark.parametrize(
    "text",
    [
        "f(1)\nassert f(1) == 5",
        "assert f(1).anything == 5",
        "assert f(1).anything() == 5",
        "assert str(f(1)) == 'x' * 3",
        "x = [5]\nassert f(x) in x",
    ],
)
def test_an_object_that_answers_everything_still_has_to_know_the_value(spawner: Spawner, text: str) -> None:
    program = """
class Any(int):
    def __eq__(self, other): return True
    __ne__ = __contains__ = __hash__ = __eq__
    def __getattr__(self, name): return self
    def __call__(self, *arguments): return self
    def __str__(self): return self
def f(x): return Any()
"""
    assert verdict(spawner, program, text).value == 0.0


def test_a_program_of_megabytes_is_wrong(spawner: Spawner) -> None:
    found = verdict(spawner, "def f(x): return x + 1\n#" + "x" * (2 << 20), "assert f(1) == 2")
    assert found == Score(0.0, "the program cannot be run: a value larger than 1048576 bytes")


def test_memory_beyond_the_limit_is_the_programs_fault(spawner: Spawner) -> None:
    found = verdict(spawner, "def f(x): return len(bytearray(600 << 20))", "assert f(1) == 1")
    assert found == Score(0.0, "f(1) == 1: MemoryError")


def test_many_at_once(spawner: Spawner) -> None:
    def one(n: int) -> Score:
        return verdict(spawner, f"def f(x): return x + {n}", f"assert f(1) == {n + 1}")

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(24))) == {Score(1.0)}
    assert not sandbox_processes(patience=5.0)


def test_runs_as_no_privileged_user(spawner: Spawner) -> None:
    with Process(spawner, 5.0) as process:
        process.send(("program", "import os", ""))
        process.receive()
        process.send(("eval", "(os.getuid(), os.geteuid(), os.getgid(), os.getgroups())"))
        uid, effective, gid, groups = process.receive()[1]
    assert uid == effective != 0 and gid != 0 and 0 not in groups


def test_nothing_is_kept_from_one_program_to_the_next(spawner: Spawner) -> None:
    leave = "open('/tmp/left', 'w').write('x')\ndef f(): return 1"
    verdict(spawner, leave, "assert f() == 1")
    look = "import os\ndef f(): return os.path.exists('/tmp/left')"
    assert verdict(spawner, look, "assert f() == False") == Score(1.0)


def test_sets_have_one_order(spawner: Spawner) -> None:
    program = "def f(): return list({'a', 'b', 'c', 'd', 'e'})"
    with Process(spawner, 5.0) as one, Process(spawner, 5.0) as other:
        found = []
        for process in (one, other):
            process.send(("program", program, ""))
            process.receive()
            process.send(("eval", "f()"))
            found.append(process.receive())
    assert found[0] == found[1]


def test_killing_the_starter_kills_what_it_started(spawner: Spawner) -> None:
    own = Spawner(spawner.level)
    process = Process(own, 30.0)
    process.send(("program", "while True: pass", ""))
    own._process.kill()
    assert not sandbox_processes(patience=5.0)
    with pytest.raises(ProgramEnded):
        process.receive()
    process.close()
    with pytest.raises(SandboxFailed):
        Process(own, 1.0)
    own.close()


def test_closing_the_starter_kills_what_it_started(spawner: Spawner) -> None:
    own = Spawner(spawner.level)
    process = Process(own, 30.0)
    process.send(("program", "while True: pass", ""))
    own.close()
    assert not sandbox_processes(patience=5.0)
    process.close()


# --- where there is no sandbox -----------------------------------------------------------------------------------


def test_a_level_without_an_interpreter_fails_and_says_so() -> None:
    why = weakness(Level("landlock", "/usr/bin/no-such-python"))
    assert why is not None and "no-such-python" in why


def test_the_self_test_sees_what_a_level_lets_through() -> None:
    for python in choice.interpreters():
        spawner = Spawner(Level("none", python))
        try:
            found = selftest._hostile(spawner)
        except SandboxFailed:
            continue
        finally:
            spawner.close()
        assert found is not None and "start a process" in found and "open a socket" in found
        assert "be root" not in found
        return
    pytest.skip("no interpreter that an ordinary user can run")


def test_no_level_is_a_refusal_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "weakness", lambda level: f"no {level.name}")
    choice._found.cache_clear()
    try:
        with pytest.raises(SkillError, match=r"no bubblewrap.*no landlock") as caught:
            choice.sandbox_level()
    finally:
        choice._found.cache_clear()
    assert "apt-get install bubblewrap" in (caught.value.hint or "")


def test_a_sandbox_that_fails_is_unscored_and_tried_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def broken(unsafe: bool) -> Spawner:
        tries.append(threading.get_ident())
        raise SandboxFailed("no room")

    monkeypatch.setattr(judging, "running_spawner", broken)
    found = judge("def f(x): return x", read_tests("assert f(1) == 1"), seconds=1.0)
    assert found == Score(None, "the sandbox failed: no room") and len(tries) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_levels_hold_for_an_ordinary_user_too(spawner: Spawner) -> None:
    root = str(choice.__file__).removesuffix("/evals/sandbox/choice.py")
    code = (
        "import sys\n"
        f"for name, path in (('automerge', {root!r}), ('automerge.evals', {root + '/evals'!r})):\n"
        "    sys.modules[name] = type(sys)(name); sys.modules[name].__path__ = [path]\n"
        "from automerge.evals.sandbox.levels import Level\n"
        "from automerge.evals.sandbox.selftest import weakness\n"
        f"print(weakness(Level({spawner.level.name!r}, {spawner.level.python!r})))\n"
    )
    command = [spawner.level.python, "-S", "-B", "-c", code]
    if not os.access(root, os.R_OK) or sys.version_info[:2] < (3, 11):
        pytest.skip("the package lies where an ordinary user cannot read it")
    done = subprocess.run([sys.executable, "-c", ORDINARY, *command], capture_output=True, text=True, cwd="/")
    if "Permission denied" in done.stderr or "ModuleNotFoundError" in done.stderr:
        pytest.skip("the package lies where an ordinary user cannot read it")
    assert done.stdout.strip() == "None", done.stderr
