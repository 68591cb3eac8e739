"""The package is a line of stages, and imports go one way along it. Every module says what it does."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import automerge

PACKAGE = Path(automerge.__file__).parent
# Left to right: a stage sees only those before it. `python -m automerge` sees the last.
ORDER = (
    *(
        "errors",
        "files",
        "records",
        "config",
        "recipe",
        "merge",
        "space",
        "engine",
        "evals",
        "router",
        "gate",
        "study",
        "export",
    ),
    *("report", "moe", "zoo", "api", "cli"),
)
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def stage_of(module: str) -> str:
    """`evals/run.py` → evals; the package's own __init__ is no stage and imports none."""
    return Path(module).parts[0].removesuffix(".py")


def imported(tree: ast.Module, module: str) -> Iterator[tuple[int, list[str]]]:
    """(line, the parts of its name, the stage first) of every import from the package, wherever it stands."""
    for node in ast.walk(tree):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = ("automerge", *Path(module).parent.parts)
            start = ".".join(parts[: len(parts) + 1 - node.level]) if node.level else ""
            stem = ".".join(part for part in (start, node.module) if part)
            targets = [f"{stem}.{alias.name}" for alias in node.names]
        for target in targets:
            root, _, rest = target.partition(".")
            if root == "automerge" and rest.split(".")[0] in ORDER:
                yield node.lineno, rest.split(".")


def breaks(source: str, module: str) -> list[str]:
    """The imports of a module that go against the order, each as `file:line imports stage`."""
    own = stage_of(module)
    seen = ORDER if own == "__main__" else ORDER[: ORDER.index(own) + 1] if own in ORDER else ()
    return [
        f"automerge/{module}:{line} imports {stage}"
        for line, (stage, *_) in imported(ast.parse(source), module)
        if stage not in seen
    ]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module: str) -> None:
    assert not breaks((PACKAGE / module).read_text(encoding="utf-8"), module)


def test_parts_of_the_merge_import_each_other_one_way() -> None:
    """A part is a module of merge/, or a folder of it as a whole."""
    parts: dict[str, set[str]] = {}
    for module in (path for path in MODULES if stage_of(path) == "merge" and Path(path).parts[1] != "__init__.py"):
        own = Path(module).parts[1].removesuffix(".py")
        found = imported(ast.parse((PACKAGE / module).read_text(encoding="utf-8")), module)
        parts.setdefault(own, set()).update(rest[0] for _, (stage, *rest) in found if stage == "merge" and rest)
    for own, seen in parts.items():
        seen.discard(own)
    assert {"kernels", "sources", "vocabulary", "view"} <= {*TopologicalSorter(parts).static_order()}  # or CycleError


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_does(module: str) -> None:
    assert (ast.get_docstring(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))) or "").strip()


def test_every_stage_has_its_place_and_every_place_its_stage() -> None:
    assert {stage_of(module) for module in MODULES} == {*ORDER, "__init__", "__main__"}


def test_the_package_draws_this_order() -> None:
    assert " → ".join(ORDER) in " ".join((automerge.__doc__ or "").split())


@pytest.mark.parametrize(
    ("module", "line", "stage"),
    [
        ("engine/base.py", "from automerge.evals.run import evaluate", "evals"),
        ("engine/base.py", "import automerge.evals", "evals"),
        ("engine/base.py", "from automerge import evals", "evals"),
        ("engine/base.py", "from ..evals import run", "evals"),
        ("engine/deep/base.py", "from ...evals.run import evaluate", "evals"),
        ("errors.py", "from . import evals", "evals"),
        ("export/checkpoint.py", "def late():\n    from automerge.report.card import model_card", "report"),
        ("__init__.py", "from automerge.errors import AutomergeError", "errors"),
    ],
)
def test_a_break_is_seen(module: str, line: str, stage: str) -> None:
    (found,) = breaks(line, module)
    assert found == f"automerge/{module}:{line.count(chr(10)) + 1} imports {stage}"


@pytest.mark.parametrize(
    "line",
    ["import ast", "from automerge.config import Closed", "from . import template", "from automerge.evals import x"],
)
def test_what_is_allowed_is_not_called_a_break(line: str) -> None:
    assert not breaks(line, "evals/run.py")
