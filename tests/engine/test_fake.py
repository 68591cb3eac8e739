"""The scripted engine keeps the engine's contract where it has one."""

import math

import pytest

from automerge.engine.base import Engine
from automerge.engine.fake import FakeEngine
from automerge.errors import EngineError, MergeError, SkillError
from automerge.recipe import Group, ModelRef, Recipe, make_recipe
from automerge.records import Completion, LogLikelihood, Sampling


def recipe(weight: float = 0.5) -> Recipe:
    groups = (Group((0, 1), "all", {"weight": {"a": weight}}),)
    sources = (ModelRef("a", "", "1" * 64),)
    base = ModelRef("base", "", "0" * 64)
    return make_recipe(method="linear", base=base, sources=sources, groups=groups, options={}, dtype="float32", seed=0)


def test_it_is_an_engine() -> None:
    engine: Engine = FakeEngine()
    assert engine.fingerprint == "fake 1"


def test_same_recipe_same_checksum() -> None:
    engine = FakeEngine()
    first = engine.apply(recipe()).checksum
    assert len(first) == 32 and int(first, 16)
    assert engine.apply(recipe(0.1)).checksum != first
    assert FakeEngine().apply(recipe()).checksum == first


def test_it_answers_by_script_in_order_cut_as_sampled() -> None:
    engine = FakeEngine(lambda served, prompt: f"{prompt} with {served.method}. Bye")
    engine.apply(recipe())
    prompts = [engine.encode("one two"), engine.encode("three")]
    assert [c.text for c in engine.generate(prompts, Sampling())] == [
        "one two with linear. Bye",
        "three with linear. Bye",
    ]
    assert engine.generate(prompts[:1], Sampling(max_tokens=3)) == [Completion("one two with", 3, "length")]
    assert engine.generate(prompts[:1], Sampling(stop=(".",))) == [Completion("one two with linear", 4, "stop")]
    assert engine.calls == [("apply", 0), ("generate", 2), ("generate", 1), ("generate", 1)]


def test_loglikelihood() -> None:
    engine = FakeEngine(logprobs=lambda served, prompt, continuation: [-1.0] * len(continuation))
    engine.apply(recipe())
    assert engine.loglikelihood([engine.encode("a")], ["xyz"]) == [LogLikelihood((-1.0,) * 3, greedy=False)]
    plain = FakeEngine()
    plain.apply(recipe())
    assert plain.loglikelihood([plain.encode("a")], ["x y"])[0].token_logprobs == (math.log(0.5),) * 2


def test_prompts() -> None:
    engine = FakeEngine()
    assert engine.render([{"role": "user", "content": "hi"}]).text == "<user>hi\n<assistant>"
    assert engine.encode("a b a").token_ids == engine.encode("a b a").token_ids
    assert engine.encode("a b").token_ids != engine.encode("b a").token_ids
    with pytest.raises(SkillError, match="no chat template"):
        FakeEngine(chat=False).render([{"role": "user", "content": "hi"}])


def test_nothing_may_be_asked_before_an_apply_that_succeeded() -> None:
    engine = FakeEngine(fail={2: MergeError("not finite")})
    with pytest.raises(EngineError, match="apply a recipe first"):
        engine.generate([engine.encode("a")], Sampling())
    engine.apply(recipe())
    with pytest.raises(MergeError, match="not finite"):
        engine.apply(recipe())
    with pytest.raises(EngineError, match="apply a recipe first"):
        engine.loglikelihood([engine.encode("a")], ["b"])


def test_close_twice() -> None:
    engine = FakeEngine()
    engine.close()
    engine.close()
    assert engine.closed
    with pytest.raises(EngineError, match="closed"):
        engine.apply(recipe())
