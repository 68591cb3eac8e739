"""How tests are taken apart: what is sent to the program's sandbox, and what stays outside."""

import ast
from typing import Any

import pytest

from automerge.evals.sandbox.checks import read_tests
from automerge.evals.sandbox.expressions import Unsupported, check_supported, work_out


@pytest.mark.parametrize(
    ("text", "calls", "condition"),
    [
        ("assert f(1, [2]) == 3", ["f(1, [2])"], "_0 == 3"),
        ("assert 3 == f(1)", ["f(1)"], "3 == _0"),
        ("assert sorted(f(x=1)) == [1]", ["f(x=1)"], "sorted(_0) == [1]"),
        ("assert set(f('a')) == {1, 2}", ["f('a')"], "set(_0) == {1, 2}"),
        ("assert abs(f(2) - 0.5) < 1e-6", ["f(2)"], "abs(_0 - 0.5) < 1e-06"),
        ("assert math.isclose(f(2), 0.5, rel_tol=1e-3)", ["f(2)"], "math.isclose(_0, 0.5, rel_tol=0.001)"),
        ("assert f(1)", ["f(1)"], "_0"),
        ("assert not f(1)", ["f(1)"], "not _0"),
        ("assert f(1) is None", ["f(1)"], "_0 is None"),
        ("assert f(1) in (1, 2), 'why'", ["f(1)"], "_0 in (1, 2)"),
        ("assert f(1) != f(2) and len(f(3)) > 2", ["f(1)", "f(2)", "f(3)"], "_0 != _1 and len(_2) > 2"),
        ("assert f(Node(1), int) == 1", ["f(Node(1), int)"], "_0 == 1"),
        ("assert decode(encode('a')) == 'a'", ["decode(encode('a'))"], "_0 == 'a'"),
        ("assert f(1)[0] == 1", ["f(1)"], "_0[0] == 1"),
        ("assert sum(10, 15) == 6", ["sum(10, 15)"], "_0 == 6"),  # the function under test has a built-in name
        ("assert f(sum([1])) == 1", ["f(sum([1]))"], "_0 == 1"),
        ("assert f(1) == 2 ** 10", ["f(1)"], "_0 == 2 ** 10"),
        ("assert f(1) == [0] * 3", ["f(1)"], "_0 == [0] * 3"),
        ("assert LIMIT == 5", ["LIMIT"], "_0 == 5"),
        ("assert f(1) == Color.RED", ["f(1)", "Color.RED"], "_0 == _1"),
    ],
)
def test_an_assert_becomes_calls_and_a_condition(text: str, calls: list[str], condition: str) -> None:
    tests = read_tests(text)
    assert tests.checks is not None
    (check,) = tests.checks
    assert (list(check.calls), ast.unparse(check.condition)) == (calls, condition)


@pytest.mark.parametrize(
    "text",
    [
        "x = [1]\nassert f(x) == 1",
        "for n in range(3):\n    assert f(n) == n",
        "assert f(1).startswith('a')",  # what a value is asked, must not be seen where the value is made
        "assert [g for g in f(1)] == [1]",
        "assert f(1) is x",
        "assert f(1) ** 2 == 4",
        "assert f(1) == sys.getsizeof(1)",
        "assert sorted(f(1), key=len) == []",
        "assert f(1)[1:] == [2]",
        "assert (lambda: f(1))() == 1",
    ],
)
def test_everything_else_runs_in_a_second_sandbox(text: str) -> None:
    assert read_tests(text).checks is None


def test_humaneval_tests() -> None:
    text = "METADATA = {'a': 1}\n\ndef check(candidate):\n    assert candidate(1) == 2\n    assert True, 'ok'\n"
    tests = read_tests(text, "", "add_one")
    assert tests.checks is not None and [check.calls for check in tests.checks] == [("candidate(1)",), ()]
    assert "candidate = add_one" in tests.setup
    helper = read_tests("def check(candidate):\n    x = helper(3)\n    assert candidate(x) == 3\n", "", "f")
    assert helper.checks is None and set(helper.names) == {"candidate", "helper"} and helper.last == "check(candidate)"


def test_names_that_are_more_than_called_and_caught_ones() -> None:
    tests = read_tests("try:\n    x = g(X)\nexcept (Bad, ValueError):\n    x = map(f, Y.z)\nassert f(x) == 1")
    assert set(tests.values) == {"X", "f", "Y"} and tests.caught == ("Bad",) and not tests.unfit


def test_modules_that_tests_use_are_imported_for_them() -> None:
    tests = read_tests("assert f((1,)) == sys.getsizeof((1,))")
    assert tests.setup_of_tests.startswith("import sys\n") and tests.names == ("f",)


@pytest.mark.parametrize(
    ("text", "entry_point", "error"),
    [("assert f(1) ==", "", SyntaxError), ("assert True", "", ValueError), ("assert f(1) == 1", "f", ValueError)],
)
def test_tests_that_are_none(text: str, entry_point: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        read_tests(text, "", entry_point)


def expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 == 1.0 and True == 1", True),
        ("1 < 2 < 3", True),
        ("1 < 3 < 2", False),
        ("0 or [] or 'x'", "x"),
        ("-3 + 2 * 5 // 3 - 7 % 4 / 2", -1.5),
        ("round(2.567, 2)", 2.57),
        ("{'a': (1, {2}), **{}} if 0 else 1", None),
        ("dict([(1, 2)])[1]", 2),
        ("[1] + [2] == list((1, 2))", True),
        ("max(_0, 7) in {7}", True),
        ("sorted(_1, reverse=True)", [3, 2, 1]),
        ("math.floor(2.5) + math.pi > 5", True),
        ("not (_0 is None)", True),
        ("str(12) + 'a'", "12a"),
        ("[0] * 3 + 2 * [1]", [0, 0, 0, 1, 1]),
        ("'%s-%05.2f%%' % ('a', 1.5)", "a-01.50%"),
        ("{1, 2} - {2}", {1}),
        ("-2 * (1,)", ()),
    ],
)
def test_expressions_have_pythons_values(text: str, value: Any) -> None:
    slots = {"_0": 5, "_1": [2, 3, 1]}
    try:
        check_supported(expression(text), slots)
    except Unsupported:
        assert "if" in text
        return
    import math

    found = work_out(expression(text), slots)
    assert found == eval(text, {"math": math, **slots})
    assert value is None or found == value


@pytest.mark.parametrize(
    ("text", "slot"),
    [
        ("_0 * 'ab'", 10**9),
        ("_0 * 10**9", [0]),
        ("_0 % (1,)", "%1000000000d"),
        ("round(5, _0)", -(10**9)),
        ("set(_0)", list(range(20_000))),
        ("sum(_0)", [[0] * 10] * 10),
        ("int(_0)", "9" * 100_000),
        ("_0 - 1", "1"),
        ("_0 * [0]", 10**9),
        ("_0 * 5", ["x" * 1_000_000]),
        ("_0 * 5 * 5", "x" * 1_000_000),
        ("_0 % 1", "%*d"),
        ("_0 % 1", "%999d" * 10_000),
        ("'%*d' % (_0, 1)", 10**9),
        ("'a' * _0", 1.0),
    ],
)
def test_what_would_take_memory_or_time_is_an_error(text: str, slot: Any) -> None:
    check_supported(expression(text), {"_0": None})
    with pytest.raises((TypeError, ValueError)):
        work_out(expression(text), {"_0": slot})
