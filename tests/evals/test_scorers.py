"""Scorer cases are data in tests/cases/; the parsers behind `numeric` are tested by property."""

import contextlib
import json
import re
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automerge.errors import ConfigError
from automerge.evals.sandbox.extract import program_of
from automerge.evals.sandbox.reading import read_program
from automerge.evals.scorers import make_scorer, names
from automerge.evals.scorers.answers import said
from automerge.evals.scorers.base import Scorer, register
from automerge.evals.scorers.calculator import first_equation, last_equation
from automerge.evals.scorers.choice import picked_letter
from automerge.evals.scorers.final import final_number
from automerge.evals.scorers.instructions import (
    bullets,
    numbered,
    parse_instructions,
    postscript,
    sentences,
    words,
)
from automerge.evals.scorers.numbers import find_numbers
from automerge.records import Completion, LogLikelihood

CASES = Path(__file__).parents[1] / "cases"
FILES = {
    "exact": {},
    "numeric": {},
    "contains": {},
    "likelihood": {},
    "choice": {},
    "regex": {},
    "constraints": {},
    "calculator": {"type": "numeric", "calculator": True},
}


def cases() -> list[Any]:
    found = []
    for file, spec in FILES.items():
        for index, case in enumerate(json.loads((CASES / f"{file}.json").read_text(encoding="utf-8"))):
            found.append(pytest.param({"type": file} | spec, case, id=f"{file}-{index}"))
    return found


@pytest.mark.parametrize(("spec", "case"), cases())
def test_case(spec: dict[str, Any], case: dict[str, Any]) -> None:
    scorer = make_scorer(spec | case.get("scorer", {}), where="case")
    if "logprobs" in case:
        answer: Completion | LogLikelihood = LogLikelihood(tuple(float(value) for value in case["logprobs"]))
    else:
        answer = Completion(case["answer"], 1, "stop")
    score = scorer.score(answer, case.get("target", "")).value
    assert score == (None if case["score"] is None else pytest.approx(case["score"])), case


def test_there_are_enough_cases() -> None:
    assert len(cases()) >= 250


# --- numbers -----------------------------------------------------------------------------------------------------


@given(st.integers(-(10**12), 10**12))
@settings(deadline=None)
def test_integers_are_read_back_however_they_are_written(value: int) -> None:
    for text in (f"{value}", f"{value:,}", f"It is {value}.", f"#### {value:,}", f"answer: {value} apples"):
        assert final_number(text) == value
    assert final_number(f"{value}".replace("-", "−")) == value


@given(st.decimals(-(10**6), 10**6, places=4, allow_nan=False))
@settings(deadline=None)
def test_decimals_are_exact(value: Any) -> None:
    assert final_number(f"so we get {value:f}") == Fraction(f"{value:f}")


@given(st.integers(0, 999), st.integers(1, 999))
@settings(deadline=None)
def test_fractions_are_exact(above: int, below: int) -> None:
    assert (
        final_number(f"{above}/{below} of it")
        == final_number(rf"\frac{{{above}}}{{{below}}}")
        == Fraction(above, below)
    )


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_without_error(text: str) -> None:
    find_numbers(text)
    final_number(text)
    first_equation(text)


@pytest.mark.parametrize(
    "text",
    [
        *("1" * 20000, "1." * 10000, "(" * 20000 + "1=", "1+" * 10000 + "1 = 2", "9 " * 9000 + "=", "-" * 60000),
        *(
            "\\boxed{" * 3000,
            "answer is " * 6000,
            "~~~ " * 15000,
            "\n" * 60000,
            "." * 60000,
            "option " * 8000,
            "1," * 30000,
        ),
        # an answer that never stopped
        *(
            "1," * 300_000,
            "#" * 600_000,
            "1 and " * 100_000,
            ". Wait, " * 75_000,
            "<think>" * 86_000,
            "so B " * 120_000,
        ),
        *("answer to " * 60_000, "**1** " * 100_000, "1+1=" * 150_000, "\\boxed{ " * 75_000),
    ],
)
def test_hostile_text_is_read_quickly(text: str) -> None:
    final_number(said(text))
    first_equation(text)
    last_equation(text)
    picked_letter(text, "ABCD")
    program_of(text, ["f"])
    for check in (words, sentences, bullets, numbered):
        check(text, min=1)
    postscript(text)


@pytest.mark.parametrize(
    "line", ["(", "It's", "x = (", 'y = """', "@f", ")", "def f(", "a", "f = 1\n?", "```", "x = '\n)"]
)
@pytest.mark.parametrize("prefix", ["", "def f(x):\n"])
def test_a_long_text_that_is_no_program_is_read_quickly(line: str, prefix: str) -> None:
    began = time.process_time()
    draft = program_of(f"{line}\n" * (600_000 // (len(line) + 1)), ["f"], prefix)
    with contextlib.suppress(SyntaxError, MemoryError, RecursionError):
        read_program(draft.prefix, draft.text, draft.helpers, draft.names)
    assert time.process_time() - began < 12


# --- the calculator ----------------------------------------------------------------------------------------------

numbers = st.integers(0, 10**6).map(str) | st.decimals(0, 1000, places=2, allow_nan=False).map(lambda d: f"{d:f}")


def joined(parts: Any) -> Any:
    return st.tuples(parts, st.sampled_from("+-*/"), parts).map(" ".join) | parts.map(lambda part: f"({part})")


expressions = st.tuples(st.recursive(numbers, joined, max_leaves=8), st.sampled_from("+-*/"), numbers).map(" ".join)


def by_python(text: str) -> Fraction | None:
    """Python's own value of an expression that these tests made."""
    exact = re.sub(r"\d+(\.\d+)?", lambda match: f"Fraction('{match[0]}')", text)
    try:
        return eval(exact, {"Fraction": Fraction})
    except ZeroDivisionError:
        return None


@given(expressions)
@settings(max_examples=300, deadline=None)
def test_the_calculator_agrees_with_python(text: str) -> None:
    for written in (
        f"{text} = 0",
        f"so, {text} =",
        f"total = {text}",
        text.replace("*", "×").replace("/", "÷") + " = 1",
    ):
        equation = first_equation(written)
        assert equation is not None
        assert equation.value == by_python(text)


# --- the registry ------------------------------------------------------------------------------------------------


def test_names() -> None:
    assert {"contains", "exact", "likelihood", "numeric"} <= set(names())


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match=r"'exact' is registered already, by automerge\.evals\.scorers\.exact"):
        register("exact")(type("Other", (Scorer,), {}))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"type": "numerc"}, "unknown type 'numerc' (did you mean 'numeric'?)"),
        ({}, "key 'type' is missing"),
        ({"type": "numeric", "calculater": True}, "unknown key 'calculater' (did you mean 'calculator'?)"),
        ({"type": "numeric", "tolerance": -1}, "greater than or equal to 0"),
        ({"type": "likelihood", "strip": True}, "unknown key 'strip'"),
    ],
)
def test_bad_specs(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_scorer(spec, where="evals/x.yaml: scorer")
    assert message in str(caught.value) and "evals/x.yaml: scorer" in str(caught.value)


def test_the_hash_covers_parameters_and_target() -> None:
    plain = make_scorer({"type": "numeric"}, "")
    assert plain.hash("1") == make_scorer({"type": "numeric", "calculator": False}, "").hash("1")
    assert (
        len({plain.hash("1"), plain.hash("2"), make_scorer({"type": "numeric", "calculator": True}, "").hash("1")}) == 3
    )


def test_a_text_scorer_refuses_logprobs_and_the_other_way_round() -> None:
    with pytest.raises(TypeError):
        make_scorer({"type": "exact"}, "").score(LogLikelihood((-1.0,)), "a")
    with pytest.raises(TypeError):
        make_scorer({"type": "likelihood"}, "").score(Completion("a", 1, "stop"), "a")


@pytest.mark.parametrize(
    ("instruction", "said"),
    [
        ({"type": "words", "min": "3"}, "min: expected a count from 0, got '3'"),
        ({"type": ["words"], "max": 5}, "unknown instruction ['words']"),
        ({"type": "words", "max": True}, "max: expected a count from 0, got True"),
        ({"type": "words", "min": 5, "max": 3}, "min 5 is above max 3"),
        ({"type": "include", "word": 5}, "word: expected a text, got 5"),
        ({"type": "one_of", "choices": ["a", 1]}, "choices: expected a list of texts"),
        ({"type": "starts_with", "text": ""}, "text: expected a text, got ''"),
    ],
)
def test_instructions_of_the_wrong_kind_are_refused(instruction: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_instructions(json.dumps([instruction]))


@pytest.mark.parametrize("target", ["3,5", "1.234,56", "10 to 12"])
def test_a_target_of_several_numbers_is_refused(target: str) -> None:
    problem = make_scorer({"type": "numeric"}, "t").check_target(target)
    assert problem is not None and "more than one number" in problem
    assert make_scorer({"type": "numeric"}, "t").check_target(f"3 and 5\n#### {target.split()[0][:1]}") is None
