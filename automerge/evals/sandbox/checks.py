"""Tests as written → calls of the program, and what to make of the values they return.

    assert sorted(f([3, 1])) == [1, 3]     the program's sandbox works out  f([3, 1])
                                           outside, with its value as _0:   sorted(_0) == [1, 3]

A call is sent as its text, so that its arguments may be what only the program defines (`f(Node(1))`); so is a name of
the program that is not called. No text that is sent says what is expected. Where one of the statements is no assert of
this kind, all of them run in a second sandbox, which knows the program's functions as calls only.
"""

import ast
import builtins
import sys
from dataclasses import dataclass

from automerge.evals.sandbox.expressions import CONSTANTS, FUNCTIONS, Unsupported, check_supported, dotted


@dataclass(frozen=True)
class Check:
    """One assert: its text, the calls to make, and the condition over their values `_0`, `_1`, …"""

    text: str
    calls: tuple[str, ...]
    condition: ast.expr


@dataclass(frozen=True)
class Suite:
    """What a program must pass. `setup` runs after the program, beside it; `names` are what the tests take from the
    program, `values` those of them that they do more with than call them, `caught` those that they catch. `checks`
    None: `setup_of_tests`, `text` and then `last` run in a second sandbox. `unfit`: why they can say nothing of a
    program that runs apart from them, or ""."""

    setup: str
    setup_of_tests: str
    text: str
    last: str
    names: tuple[str, ...]
    values: tuple[str, ...]
    caught: tuple[str, ...]
    checks: tuple[Check, ...] | None
    unfit: str = ""


def read_tests(text: str, setup: str = "", entry_point: str = "") -> Suite:
    """The tests of an item: assert statements, or with an entry point HumanEval's text that defines check(candidate).
    Raises SyntaxError, and ValueError where they test nothing."""
    statements = ast.parse(text).body
    _check_imports([*statements, *ast.parse(setup).body])
    last, own_setup = "", setup
    if entry_point:
        statements = _body_of_check(statements)
        setup = f"{setup}\ncandidate = {entry_point}\n"
        last = "check(candidate)"
    free = _free_names(ast.parse(f"{own_setup}\n{text}\n{last}"))
    names = tuple(name for name in free if name not in sys.stdlib_module_names) or _tested_builtins(statements)
    if not names:
        raise ValueError("they call nothing of the program")
    if not entry_point and not _can_fail(statements):
        defined = any(isinstance(part, ast.FunctionDef) and part.name == "check" for part in statements)
        what = "check(candidate) is defined and not called: name the entry_point" if defined else "no assert is reached"
        raise ValueError(f"every program would pass: {what}")
    modules = [name for name in free if name in sys.stdlib_module_names]
    imports = "".join(f"import {name}\n" for name in modules)
    tree = ast.parse(f"{own_setup}\n{text}")
    caught = _caught(tree, names)
    values = tuple(name for name in _values(tree, names) if name not in caught)
    checks = _checks(statements, frozenset(names))
    return Suite(setup, imports + own_setup, text, last, names, values, caught, checks, _unfit(tree))


def _values(tree: ast.Module, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the names that are not only called."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    loaded = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    used = {node.id for node in loaded if id(node) not in called}
    return tuple(name for name in names if name in used)


def _caught(tree: ast.Module, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the names that an `except` names."""
    kinds = [node.type for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.type]
    used = {node.id for kind in kinds for node in ast.walk(kind) if isinstance(node, ast.Name)}
    return tuple(name for name in names if name in used)


def _unfit(tree: ast.Module) -> str:
    """Tests that read what the program prints read nothing: it prints elsewhere."""
    used = {dotted(node).split(".")[-1] for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name)}
    return "they read what the program prints" if "getvalue" in used and used & {"redirect_stdout", "stdout"} else ""


def _check_imports(statements: list[ast.stmt]) -> None:
    """Raises ValueError for a module that is not in every Python: in the sandbox there is no other."""
    for node in (node for statement in statements for node in ast.walk(statement)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        for name in names:
            if name.split(".")[0] not in sys.stdlib_module_names:
                raise ValueError(f"they import {name}, and the sandbox has Python's own modules only")


def _can_fail(statements: list[ast.stmt]) -> bool:
    """Whether a statement asserts or raises when the tests are run as they stand, itself or in a function of theirs."""
    functions = {part.name: part for part in statements if isinstance(part, ast.FunctionDef)}
    asserting = {name for name, part in functions.items() if _asserts(part)}
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or _is_main_guard(statement):
            continue
        called = {dotted(node.func) for node in ast.walk(statement) if isinstance(node, ast.Call)}
        if _asserts(statement) or called & asserting:
            return True
    return False


def _asserts(statement: ast.stmt) -> bool:
    return any(isinstance(node, ast.Assert | ast.Raise) for node in ast.walk(statement))


def _is_main_guard(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)


def _body_of_check(statements: list[ast.stmt]) -> list[ast.stmt]:
    """The statements of check(), after those beside it that do more than describe."""
    bodies = [part.body for part in statements if isinstance(part, ast.FunctionDef) and part.name == "check"]
    if len(bodies) != 1:
        raise ValueError("with an entry point, expected one function check(candidate)")
    beside = [part for part in statements if not isinstance(part, ast.FunctionDef) or part.name != "check"]
    described = [part for part in beside if isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) == "METADATA"]
    return [*(part for part in beside if part not in described), *bodies[0]]


def _free_names(tree: ast.Module) -> list[str]:
    """Names that are used and nowhere bound, in order of their first use."""
    used: dict[str, None] = {}
    bound: set[str] = set(dir(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load):
                used.setdefault(node.id)
            else:
                bound.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    # check's own parameter is bound there, but the last statement takes it from the program.
    own = (
        {"candidate"}
        if any(isinstance(node, ast.arg) and node.arg == "candidate" for node in ast.walk(tree))
        else set()
    )
    return [name for name in used if name not in bound or name in own]


def _tested_builtins(statements: list[ast.stmt]) -> tuple[str, ...]:
    """Tests that call nothing but built-in names test a function of such a name (MBPP has a `sum`)."""
    found: dict[str, None] = {}
    for statement in statements:
        test = statement.test if isinstance(statement, ast.Assert) else None
        call = test.left if isinstance(test, ast.Compare) else test
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            found[call.func.id] = None
    return tuple(found)


def _checks(statements: list[ast.stmt], names: frozenset[str]) -> tuple[Check, ...] | None:
    found = []
    for statement in statements:
        if isinstance(statement, ast.Assert):
            rewriter = _Rewriter(names)
            condition = rewriter.visit(ast.parse(ast.unparse(statement.test), mode="eval").body)
            try:
                check_supported(condition, dict.fromkeys(f"_{index}" for index in range(len(rewriter.calls))))
            except Unsupported:
                return None
            found.append(Check(ast.unparse(statement.test), tuple(rewriter.calls), condition))
        elif not isinstance(statement, ast.Pass) and not (
            isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant | ast.Name)
        ):
            return None
    return tuple(found)


class _Rewriter(ast.NodeTransformer):
    """Takes out the calls and names of the program and leaves `_0`, `_1`, … in their place."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self.calls: list[str] = []

    def visit_Call(self, node: ast.Call) -> ast.expr:
        name = dotted(node.func)
        if name.split(".")[0] in self.names:
            return self._sent(node)
        if name in FUNCTIONS:
            node.args = [self.visit(part) for part in node.args]
            node.keywords = [self.visit(part) for part in node.keywords]
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._sent(node) if node.id in self.names else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        name = dotted(node)
        if name.split(".")[0] in self.names:
            return self._sent(node)
        return node if name in CONSTANTS else self.generic_visit(node)  # type: ignore[return-value]

    def _sent(self, node: ast.expr) -> ast.expr:
        self.calls.append(ast.unparse(node))
        return ast.Name(f"_{len(self.calls) - 1}", ast.Load())
