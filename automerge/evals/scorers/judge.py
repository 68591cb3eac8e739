"""judge: another model rates the answer from 1 to 10, or compares it with a given one (MT-Bench, arXiv:2306.05685).

    single    score = (rating − 1) / 9, every answer of a conversation graded with what was said before it
    pairwise  1, ½ or 0 for a win, a tie or a loss; asked in both orders, and a tie where they do not agree

What the judge says is kept for ever by judge, prompt and length, so nothing is asked twice. Words without a verdict,
or with two that differ, leave the answer unscored.
"""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Annotated, Any, Protocol

from pydantic import Field, field_validator, model_validator

from automerge.config import Closed
from automerge.engine.turns import Turns
from automerge.evals.judge import prompts
from automerge.evals.judge.config import BASE, JudgeConfig
from automerge.evals.judge.endpoint import Endpoint, OnWords
from automerge.evals.judge.fence import Fence
from automerge.evals.judge.opinions import as_score, choice, rating
from automerge.evals.judge.reply import Reply, beginning
from automerge.evals.scorers.base import Answer, Dialogue, Memory, Scorer, register
from automerge.evals.template import check_template, render
from automerge.records import Completion, Score

Jinja = Annotated[str, Field(min_length=1)]


class Judging(Protocol):
    """What Endpoint, LocalJudge and BaseJudge have in common. `identity` says whose words they are."""

    @property
    def identity(self) -> str: ...

    def ask(self, prompts: Sequence[str], on_words: OnWords) -> list[Reply]: ...


class JudgeParams(Closed):
    """`judge` says who judges. `references`: a good answer a round, as templates; one that comes out empty is none.
    `against`: the answer to compare with, as a template."""

    judge: JudgeConfig
    references: tuple[Jinja, ...] = ()
    against: Jinja | None = None

    @field_validator("references", "against")
    @classmethod
    def _parses(cls, sources: tuple[str, ...] | str | None) -> tuple[str, ...] | str | None:
        for source in (sources,) if isinstance(sources, str) else sources or ():
            check_template(source)
        return sources

    @model_validator(mode="after")
    def _one_way(self) -> "JudgeParams":
        if self.references and self.against is not None:
            raise ValueError("expected references (one answer is rated) or against (two are compared), not both")
        return self


def open_judge(config: JudgeConfig) -> Judging:
    """The judge of a config; one for all skills and threads that name the same, so that they share its limits and its
    memory."""
    with _opening:
        return opened_judge(config)


_opening = Lock()


@functools.cache
def opened_judge(config: JudgeConfig) -> Judging:
    if config.url is not None:
        return Endpoint(config)
    from automerge.evals.judge.local import LocalJudge  # it imports the engines

    return LocalJudge(config)


@register("judge")
class Judge(Scorer):
    """See the module."""

    Params = JudgeParams
    version = 2
    each_round = True

    def unready(self) -> str | None:
        config: JudgeConfig = self.params.judge
        if config.key is None:
            return None
        if (secret := config.secret()) is None:
            return f"the judge's key: the environment variable {config.key} is not set"
        # a header cannot hold it, and the error of one that tries would show it
        fits = secret.isascii() and secret.isprintable()
        return None if fits else f"the judge's key: {config.key} holds more than a line of ASCII"

    @property
    def asks_base(self) -> bool:
        judge: JudgeConfig = self.params.judge
        return judge.is_base

    def check_rounds(self, rounds: int) -> str | None:
        if self.params.against is not None and rounds > 1:
            return f"answers are compared one by one, and the skill has {rounds} rounds"
        if self.params.references and len(self.params.references) != rounds:
            return f"expected as many references as rounds, {rounds}, got {len(self.params.references)}"
        return None

    def target_of(self, row: Mapping[str, Any], where: str) -> str:
        """The row's references, or its answer to compare with, as JSON."""
        if self.params.against is not None:
            return json.dumps({"against": render(self.params.against, row, where)}, ensure_ascii=False)
        return json.dumps([render(source, row, where) for source in self.params.references], ensure_ascii=False)

    def check_target(self, target: str) -> str | None:
        given = json.loads(target)
        return (
            "the answer to compare with is empty" if isinstance(given, dict) and not given["against"].strip() else None
        )

    def spec(self) -> dict[str, Any]:
        """Whose words, in answer to what; not where the judge stands or how fast it may be asked."""
        return self._spec

    @functools.cached_property
    def _spec(self) -> dict[str, Any]:
        # a study's base is part of the study's identity, so its name will do
        judge = BASE if self.asks_base else open_judge(self.params.judge).identity
        asked = {"prompts": prompts.VERSION, "max_tokens": self.params.judge.max_tokens}
        return {"type": self.name, "version": self.version, "judge": judge, **asked}

    def score(self, answer: Answer, target: str) -> Score:
        raise TypeError("a judge reads the conversation too: use score_dialogues")

    def score_dialogues(
        self,
        answers: Sequence[Answer],
        targets: Sequence[str],
        dialogues: Sequence[Dialogue],
        memory: Memory | None = None,
        turns: Turns | None = None,
    ) -> list[Score]:
        if not all(isinstance(answer, Completion) for answer in answers):
            raise TypeError("judge reads generated text")
        asked = [self._prompts(json.loads(t), dialogue) for t, dialogue in zip(targets, dialogues, strict=True)]
        replies = iter(self._ask([prompt for own in asked for prompt, _ in own], memory, turns))
        verdict = self._compared if self.params.against is not None else _rated
        return [verdict([(next(replies), fence) for _, fence in own]) for own in asked]

    def _prompts(self, target: Any, dialogue: Dialogue) -> list[tuple[str, Fence]]:
        """What is asked about one answer."""
        if self.params.against is None:
            return [prompts.single(dialogue.asked, dialogue.answered, target[: len(dialogue.asked)])]
        question, answer, other = dialogue.asked[-1], dialogue.answered[-1], target["against"]
        return [prompts.pair(question, answer, other), prompts.pair(question, other, answer)]

    def _judge(self, turns: Turns | None) -> Judging:
        if not self.asks_base:
            return open_judge(self.params.judge)
        if turns is None:
            raise TypeError("the base model judges in a study alone: see refuse_outside_study")
        from automerge.evals.judge.local import BaseJudge  # it imports the engines

        return BaseJudge(self.params.judge, turns)

    def _ask(self, texts: Sequence[str], memory: Memory | None, turns: Turns | None) -> list[Reply]:
        """A reply a prompt: from memory where it is there."""
        if not texts:
            return []
        judge = self._judge(turns)
        keys = [self._key(judge.identity, text) for text in texts]
        known = memory.words(keys) if memory is not None else {}
        new = list({key: text for key, text in zip(keys, texts, strict=True) if key not in known}.items())

        def keep(index: int, words: str) -> None:
            if memory is not None:
                memory.keep_words(new[index][0], judge.identity, words)

        fresh = judge.ask([text for _, text in new], keep) if new else []
        replies = {key: Reply(words) for key, words in known.items()}
        replies |= {key: reply for (key, _), reply in zip(new, fresh, strict=True)}
        return [replies[key] for key in keys]

    def _key(self, judge: str, prompt: str) -> bytes:
        content = json.dumps([judge, prompt, self.params.judge.max_tokens], ensure_ascii=False)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()

    @staticmethod
    def _compared(replies: Sequence[tuple[Reply, Fence]]) -> Score:
        """Both orders: the answer is A first, then B."""
        verdicts = []
        for (reply, fence), own in zip(replies, "AB", strict=True):
            if reply.words is None:
                return Score(None, reply.why)
            if (found := choice(reply.words, fence)) is None:
                return Score(None, f"no verdict, or several, in the judge's words: {beginning(reply.words)}")
            verdicts.append("tie" if found == "C" else "win" if found == own else "loss")
        if verdicts[0] == verdicts[1]:
            return Score({"win": 1.0, "tie": 0.5, "loss": 0.0}[verdicts[0]], f"{verdicts[0]} in both orders")
        return Score(0.5, f"{verdicts[0]} when shown first, {verdicts[1]} when shown second")


def _rated(replies: Sequence[tuple[Reply, Fence]]) -> Score:
    """The one rating."""
    ((reply, fence),) = replies
    if reply.words is None:
        return Score(None, reply.why)
    if (found := rating(reply.words, fence)) is None:
        return Score(None, f"no rating of 1 to 10, or several, in the judge's words: {beginning(reply.words)}")
    return Score(as_score(found), f"rating {found:g}")
