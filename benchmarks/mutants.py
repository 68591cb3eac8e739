"""Reference solutions made wrong in one place, and what plain Python says of a program: the ruler for the sandbox.

A mutant changes one constant, operator, comparison, condition or returned value. Many change nothing that the tests
see; plain Python, running the same asserts without a sandbox, tells which.
"""

import ast
import copy
import subprocess
import sys
from collections.abc import Iterator

_SWAPS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
_LIMITS = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({cpu}, {cpu}))
resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
source = sys.stdin.read()
sys.stdin = open("/dev/null")
exec(compile(source, "<program>", "exec"), {{"__name__": "answer"}})
"""


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """(what was changed, the program) of every mutant of a program, in the order of its text."""
    tree = ast.parse(source)
    for index, node in enumerate(ast.walk(tree)):
        for what in _changes(node):
            mutant = copy.deepcopy(tree)
            place = next(part for number, part in enumerate(ast.walk(mutant)) if number == index)
            _change(place, what)
            yield f"line {getattr(node, 'lineno', '?')}: {what}", ast.unparse(ast.fix_missing_locations(mutant))


def _changes(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return ["number + 1"]
    if isinstance(node, ast.Constant) and type(node.value) is bool:
        return ["bool flipped"]
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in _SWAPS:
        return ["operator swapped"]
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _SWAPS:
        return ["comparison turned"]
    if isinstance(node, ast.Return) and node.value is not None:
        return ["returns None"]
    return ["condition negated"] if isinstance(node, ast.If | ast.While) else []


def _change(node: ast.AST, what: str) -> None:
    match node:
        case ast.Constant():
            node.value = not node.value if what == "bool flipped" else node.value + 1  # type: ignore[operator]
        case ast.BinOp() | ast.BoolOp() | ast.AugAssign():
            node.op = _SWAPS[type(node.op)]()
        case ast.Compare():
            node.ops[0] = _SWAPS[type(node.ops[0])]()
        case ast.Return():
            node.value = ast.Constant(None)
        case ast.If() | ast.While():
            node.test = ast.UnaryOp(ast.Not(), node.test)


def passes_plainly(program: str, setup: str, tests: str, last: str, cpu: int) -> bool:
    """Whether program and tests, as one file, run to the end without an error; in `cpu` seconds of CPU time. Only for
    programs that people wrote, and mutants of them: it is no sandbox."""
    source = f"{program}\n{setup}\n{tests}\n{last}\n"
    command = [sys.executable, "-I", "-S", "-c", _LIMITS.format(cpu=cpu)]
    try:
        done = subprocess.run(command, input=source, text=True, capture_output=True, timeout=6 * cpu)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
