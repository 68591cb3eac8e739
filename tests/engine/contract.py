"""What every engine must do, whatever serves. test_contract.py runs it for each; a new engine adds itself there."""

import dataclasses
import math
from collections.abc import Callable

import pytest

from automerge.engine.base import Engine
from automerge.errors import EngineError, MergeError
from automerge.recipe import Recipe
from automerge.records import Prompt, Sampling

TEXTS = ("one two three", "1+1=", "z", "a longer text than the others, by far")


@dataclasses.dataclass(frozen=True)
class Case:
    """An engine nothing was asked of yet, two recipes of it, and a way to an apply that raises MergeError."""

    engine: Engine
    first: Recipe
    second: Recipe
    failing_apply: Callable[[], object]
    another: Callable[[], Engine]  # an engine made alike

    def prompts(self, *texts: str) -> list[Prompt]:
        return [self.engine.encode(text) for text in texts or TEXTS]

    def answers(self, *texts: str, max_tokens: int = 16, stop: tuple[str, ...] = ()) -> list[str]:
        sampling = Sampling(max_tokens=max_tokens, stop=stop)
        return [answer.text for answer in self.engine.generate(self.prompts(*texts), sampling)]


class EngineContract:
    """Subclasses give the fixture `case`."""

    # --- apply ---------------------------------------------------------------------------------------------------

    def test_the_checksum_names_the_recipe(self, case: Case) -> None:
        first = case.engine.apply(case.first)
        assert len(first.checksum) == 32 and set(first.checksum) <= set("0123456789abcdef")
        assert first.seconds >= 0 and first.bytes >= 0
        second = case.engine.apply(case.second)
        assert second.checksum != first.checksum
        assert case.engine.apply(case.first).checksum == first.checksum
        assert case.another().apply(case.first).checksum == first.checksum

    def test_answers_are_the_recipes(self, case: Case) -> None:
        case.engine.apply(case.first)
        before = case.engine.loglikelihood(case.prompts("one"), [" two"]), case.answers()
        case.engine.apply(case.second)
        assert case.engine.loglikelihood(case.prompts("one"), [" two"]) != before[0]
        case.engine.apply(case.first)
        assert (case.engine.loglikelihood(case.prompts("one"), [" two"]), case.answers()) == before

    def test_nothing_is_served_before_an_apply(self, case: Case) -> None:
        self.refuses_to_answer(case)

    def test_nothing_is_served_after_an_apply_that_failed(self, case: Case) -> None:
        case.engine.apply(case.first)
        with pytest.raises(MergeError):
            case.failing_apply()
        self.refuses_to_answer(case)
        case.engine.apply(case.first)
        assert len(case.answers()) == len(TEXTS)

    def refuses_to_answer(self, case: Case) -> None:
        with pytest.raises(EngineError, match="apply"):
            case.engine.generate(case.prompts(), Sampling())
        with pytest.raises(EngineError, match="apply"):
            case.engine.loglikelihood(case.prompts("one"), [" two"])

    # --- prompts -------------------------------------------------------------------------------------------------

    def test_a_prompt_keeps_its_text(self, case: Case) -> None:
        case.engine.apply(case.first)
        prompts = case.prompts()
        assert [prompt.text for prompt in prompts] == list(TEXTS)
        assert prompts == case.prompts()
        assert len({prompt.token_ids for prompt in prompts}) == len(TEXTS)

    def test_chat_turns_become_one_prompt(self, case: Case) -> None:
        case.engine.apply(case.first)
        turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
        prompt = case.engine.render([*turns, {"role": "user", "content": "one two"}])
        assert prompt.text.index("hi") < prompt.text.index("yes") < prompt.text.index("one two")
        assert prompt == case.engine.render([*turns, {"role": "user", "content": "one two"}])
        assert prompt.token_ids and all(isinstance(token, int) for token in prompt.token_ids)
        assert len(case.engine.generate([prompt], Sampling(max_tokens=4))) == 1

    # --- generate ------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("stops", [0, 1, 2])
    def test_one_answer_a_prompt_in_order_whoever_asks_beside_it(self, case: Case, stops: int) -> None:
        case.engine.apply(case.first)
        stop = tuple(text[4:6] for text in case.answers())[:stops]
        sampling = Sampling(max_tokens=16, stop=stop)
        prompts = case.prompts()
        alone = [case.engine.generate([prompt], sampling)[0] for prompt in prompts]
        assert len({answer.text for answer in alone}) > 1
        assert case.engine.generate(prompts, sampling) == alone
        assert case.engine.generate(prompts[::-1], sampling) == alone[::-1]
        assert case.engine.generate([prompts[1]] * 3, sampling) == [alone[1]] * 3

    def test_max_tokens(self, case: Case) -> None:
        case.engine.apply(case.first)
        long = case.engine.generate(case.prompts(), Sampling(max_tokens=12))
        short = case.engine.generate(case.prompts(), Sampling(max_tokens=3))
        for more, less in zip(long, short, strict=True):
            assert more.text.startswith(less.text)
            assert 0 < less.tokens <= 3 and less.tokens <= more.tokens <= 12
        assert any(less.finish == "length" and less.tokens == 3 for less in short)
        assert {answer.finish for answer in (*long, *short)} <= {"stop", "length"}

    def test_answers_end_before_a_stop_string(self, case: Case) -> None:
        case.engine.apply(case.first)
        whole = case.engine.generate(case.prompts(), Sampling(max_tokens=16))
        stops = (whole[0].text[5:7], whole[1].text[3:4])
        assert all(stops)
        cut = case.engine.generate(case.prompts(), Sampling(max_tokens=16, stop=stops))
        for before, after in zip(whole, cut, strict=True):
            ends = [at for stop in stops if (at := before.text.find(stop)) >= 0]
            assert after.text == before.text[: min(ends, default=None)]
            if ends:
                assert after.finish == "stop" and after.tokens <= before.tokens
            else:
                assert after == before
        assert cut[0].finish == cut[1].finish == "stop"

    def test_a_stop_string_does_not_reach_into_the_prompt(self, case: Case) -> None:
        case.engine.apply(case.first)
        (free,) = case.answers("one two", max_tokens=8)
        stop = "o" + free[0]
        assert case.answers("one two", max_tokens=8, stop=(stop,)) == [free.split(stop)[0]]
        assert free.split(stop)[0]

    # --- loglikelihood -------------------------------------------------------------------------------------------

    def test_one_log_probability_a_token(self, case: Case) -> None:
        case.engine.apply(case.first)
        pairs = [("one", " two"), ("one", " two three four"), ("1+1=", " 2"), ("a longer text", " and more")]
        found = case.engine.loglikelihood(case.prompts(*(p for p, _ in pairs)), [c for _, c in pairs])
        for (prompt, continuation), result in zip(pairs, found, strict=True):
            both, one = (len(case.engine.encode(text).token_ids) for text in (prompt + continuation, prompt))
            assert len(result.token_logprobs) == both - one > 0
            assert all(math.isfinite(value) and value <= 0 for value in result.token_logprobs)
        turned = case.engine.loglikelihood(case.prompts(*(p for p, _ in pairs[::-1])), [c for _, c in pairs[::-1]])
        for one_way, other_way in zip(found, turned[::-1], strict=True):
            assert one_way.token_logprobs == pytest.approx(other_way.token_logprobs, abs=1e-4)
            assert one_way.greedy == other_way.greedy is not None

    def test_a_continuation_may_be_given_as_tokens(self, case: Case) -> None:
        case.engine.apply(case.first)
        prompts = case.prompts("one", "one")
        tokens = case.engine.encode("one two three").token_ids[-3:]
        found = case.engine.loglikelihood(prompts, [tokens, tokens[:1]])
        assert [len(one.token_logprobs) for one in found] == [len(tokens), 1]
        assert found[0].token_logprobs[0] == pytest.approx(found[1].token_logprobs[0], abs=1e-4)

    def test_tokens_are_a_text_without_special_ones(self, case: Case) -> None:
        case.engine.apply(case.first)
        tokens, whole = case.engine.tokens("one two"), case.engine.encode("one two").token_ids
        assert tokens and tuple(whole[-len(tokens) :]) == tokens
        assert isinstance(case.engine.prefix_token, int)
        assert case.engine.context > 0

    def test_what_is_beyond_the_context_is_told_before_it_is_asked(self, case: Case) -> None:
        case.engine.apply(case.first)
        (prompt,) = case.prompts("one")
        assert case.engine.misfit(prompt, Sampling(max_tokens=4)) is None
        assert case.engine.misfit(prompt, " two") is None
        far = Sampling(max_tokens=2**31)
        assert "exceed the context of" in (case.engine.misfit(prompt, far) or "")
        assert "exceed the context of" in (case.engine.misfit(prompt, (1,) * 5000) or "")
        with pytest.raises(EngineError, match="context"):
            case.engine.generate([prompt], far)

    def test_the_context_may_be_filled_by_whatever_follows(self, case: Case) -> None:
        case.engine.apply(case.first)
        full = Prompt("one", (1,) * (min(case.engine.context, 5000) - 1))
        assert case.engine.misfit(full, (1,)) is case.engine.misfit(full, Sampling(max_tokens=1)) is None
        (found,) = case.engine.loglikelihood([full], [(1,)])
        assert len(found.token_logprobs) == 1
        assert len(case.engine.generate([full], Sampling(max_tokens=1))) == 1

    # --- all of it -----------------------------------------------------------------------------------------------

    def test_no_prompts_no_answers(self, case: Case) -> None:
        case.engine.apply(case.first)
        assert case.engine.generate([], Sampling()) == []
        assert case.engine.loglikelihood([], []) == []

    def test_the_fingerprint_is_stable(self, case: Case) -> None:
        before = case.engine.fingerprint
        assert isinstance(before, str) and before
        case.engine.apply(case.first)
        case.answers(max_tokens=2)
        assert case.engine.fingerprint == before == case.another().fingerprint

    def test_close(self, case: Case) -> None:
        case.engine.apply(case.first)
        prompts = case.prompts()
        case.engine.close()
        case.engine.close()
        with pytest.raises(EngineError):
            case.engine.apply(case.first)
        with pytest.raises(EngineError):
            case.engine.generate(prompts, Sampling())
        with pytest.raises(EngineError):
            case.engine.loglikelihood(prompts[:1], [" two"])

    def test_close_before_any_apply(self, case: Case) -> None:
        case.engine.close()
        case.engine.close()
