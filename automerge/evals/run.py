"""Asks a model the items of a skill, block by block, and scores the answers. It knows no merge and no study.

    block of items → keys → answers stored already? → engine, if any is missing → scores → one transaction

and so for each round of a conversation, whose prompts hold the answers of the rounds before.

A block always goes to the engine whole and in the same composition, so an answer does not depend on where an earlier
run was interrupted, and a killed run loses one block at most. What is beyond the model's context is not asked, and
unscored.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from automerge.engine.base import Engine
from automerge.engine.turns import Turns
from automerge.errors import EngineError, SkillError
from automerge.evals.lm_eval.block import LmEvalSkill, ask_documents
from automerge.evals.loaded import Half, LoadedSkill, Question
from automerge.evals.scorers import Answer
from automerge.evals.store import AnswerStore
from automerge.evals.stored import Scored, Stored, generated_tokens, shown_answer
from automerge.records import ItemResult, Score

# skill name, items done, items in all, seconds in the engine and seconds scoring of this block
OnBlock = Callable[[str, int, int, float, float], None]


def evaluate(
    engine: Engine,
    checksum: str,
    skill: LoadedSkill,
    which: Half,
    store: AnswerStore,
    *,
    tokenizer: str = "base",
    on_block: OnBlock | None = None,
) -> list[ItemResult]:
    """The results of one half of a skill, in its fixed order.

    `checksum` names the weights the engine serves now; `tokenizer` names, within the engine's fingerprint, the
    tokenizer it renders with (a recipe's `tokenizer`). Answers in the store are not generated again.
    Raises SkillError where not one item of a finished half could be scored, and whatever the engine raises.
    """
    results: list[ItemResult] = []
    total = len(skill.half(which))
    for found, generating, scoring in _blocks(engine, checksum, skill, which, store, tokenizer):
        results += found
        if on_block is not None:
            on_block(skill.name, len(results), total, generating, scoring)
    _refuse_unscored(skill, which, results)
    return results


def evaluate_all(
    engine: Engine,
    checksum: str,
    skills: Sequence[LoadedSkill],
    which: Half,
    store: AnswerStore,
    *,
    tokenizer: str = "base",
    on_block: OnBlock | None = None,
    enough: Callable[[Mapping[str, Sequence[ItemResult]]], bool] | None = None,
) -> dict[str, list[ItemResult]]:
    """`evaluate` for several skills; by skill name.

    The next block is always one of the skill of which the smallest share was asked, so that at any moment all skills
    are about equally far. `enough` is given the results so far, once each skill has some, and ends it by True.
    """
    blocks = {skill.name: _blocks(engine, checksum, skill, which, store, tokenizer) for skill in skills}
    totals = {skill.name: len(skill.half(which)) for skill in skills}
    results: dict[str, list[ItemResult]] = {skill.name: [] for skill in skills}
    while open_skills := [skill for skill in skills if len(results[skill.name]) < totals[skill.name]]:
        name = min(open_skills, key=lambda skill: len(results[skill.name]) / totals[skill.name]).name
        found, generating, scoring = next(blocks[name])
        results[name] += found
        if on_block is not None:
            on_block(name, len(results[name]), totals[name], generating, scoring)
        if enough is not None and all(results.values()) and enough(results):
            return results
    for skill in skills:
        _refuse_unscored(skill, which, results[skill.name])
    return results


def _blocks(
    engine: Engine, checksum: str, skill: LoadedSkill, which: Half, store: AnswerStore, tokenizer: str
) -> Iterator[tuple[list[ItemResult], float, float]]:
    """(results, seconds in the engine, seconds scoring) of block after block; each is in the store when it is given."""
    questions = skill.questions(engine, tokenizer, which)
    size = skill.skill.block
    for start in range(0, len(questions), size):
        block = questions[start : start + size]
        if isinstance(skill, LmEvalSkill):
            yield ask_documents(engine, checksum, skill, block, store, tokenizer)
        else:
            yield _block(engine, checksum, skill, block, store)


def _refuse_unscored(skill: LoadedSkill, which: Half, results: Sequence[ItemResult]) -> None:
    if all(result.score.value is None for result in results):
        why = results[0].score.detail if results else "the skill has no items in this half"
        raise SkillError(f"not one of {len(results)} items could be scored: {why}", where=f"{skill.name}: {which}")


def mean(results: Sequence[ItemResult]) -> tuple[float, int]:
    """(mean score of the scored items, number of unscored ones). Raises SkillError where nothing is scored."""
    values = [result.score.value for result in results if result.score.value is not None]
    if not values:
        raise SkillError(f"not one of {len(results)} items is scored", where=results[0].skill if results else None)
    return math.fsum(values) / len(values), len(results) - len(values)


@dataclass(frozen=True)
class _Turn:
    """One round of one item: its answer (None: beyond the context), and its score, where the round is scored."""

    question: Question
    answer: Answer | None
    score: Score | None


def _block(
    engine: Engine, checksum: str, skill: LoadedSkill, block: Sequence[Question], store: AnswerStore
) -> tuple[list[ItemResult], float, float]:
    """(results, seconds in the engine, seconds scoring) of one block; written to the store round by round."""
    turns: list[list[_Turn]] = [[] for _ in block]
    asking = dict(enumerate(block))  # by place in the block
    generating = scoring = 0.0
    for number in range(1, skill.skill.rounds + 1):
        last = number == skill.skill.rounds
        fitting = {place: question for place, question in asking.items() if question.misfit is None}
        for place in asking.keys() - fitting.keys():
            question = asking[place]
            turns[place].append(_Turn(question, None, Score(None, question.misfit or "")))
        if not fitting:
            break
        scored = last or skill.scorer.each_round
        done, in_engine, in_scorer = _round(engine, checksum, skill, list(fitting.values()), store, scored=scored)
        generating, scoring = generating + in_engine, scoring + in_scorer
        for place, turn in zip(fitting, done, strict=True):
            turns[place].append(turn)
        if not last:
            answers = [shown_answer(turn.answer, None) for turn in done if turn.answer is not None]
            asking = dict(zip(fitting, skill.next_round(engine, list(fitting.values()), answers), strict=True))
    return [_result(skill, own) for own in turns], generating, scoring


def _round(
    engine: Engine,
    checksum: str,
    skill: LoadedSkill,
    questions: Sequence[Question],
    store: AnswerStore,
    *,
    scored: bool,
) -> tuple[list[_Turn], float, float]:
    """(a turn a question, seconds in the engine, seconds scoring); in the store on return."""
    keys = [_key(checksum, question) for question in questions]
    answers = store.answers(keys)
    new: list[Stored] = []
    generating = 0.0
    if len(answers) < len(set(keys)):
        began = time.perf_counter()
        fresh = _ask(engine, skill, questions)
        generating = time.perf_counter() - began
        share = generating / len(questions)
        new = [
            Stored(key, checksum, question.prompt.text, _continuation(skill, question), answer, share)
            for key, question, answer in zip(keys, questions, fresh, strict=True)
            if key not in answers
        ]
        # What was answered first stands, as in the store.
        answers = dict(zip(keys, fresh, strict=True)) | answers
    began = time.perf_counter()
    scores: Sequence[Score | None] = [None] * len(questions)
    lacking: list[Scored] = []
    if scored:
        try:
            scores, lacking = _score(engine, skill, questions, keys, answers, store)
        except BaseException:  # a judge that is away, or Ctrl-C while it thinks: what was generated is kept
            store.write(new, [])
            raise
    seconds = time.perf_counter() - began
    store.write(new, lacking)
    turns = [_Turn(question, answers[key], score) for question, key, score in zip(questions, keys, scores, strict=True)]
    return turns, generating, seconds


def _result(skill: LoadedSkill, turns: Sequence[_Turn]) -> ItemResult:
    """What became of one item."""
    last = turns[-1]
    scores = tuple(turn.score for turn in turns if turn.score is not None)
    return ItemResult(
        skill.name,
        last.question.item.id,
        last.question.prompt.text,
        "" if last.answer is None else shown_answer(last.answer, _continuation(skill, last.question)),
        sum(generated_tokens(turn.answer) for turn in turns if turn.answer is not None),
        scores[0] if len(scores) == 1 else _mean_score(scores),
        scores if len(scores) > 1 else (),
    )


def _mean_score(scores: Sequence[Score]) -> Score:
    """The mean of the rounds that are scored."""
    values = [score.value for score in scores if score.value is not None]
    detail = "; ".join(f"round {number}: {score.detail}" for number, score in enumerate(scores, start=1))
    return Score(math.fsum(values) / len(values) if values else None, detail)


def _key(checksum: str, question: Question) -> bytes:
    """32 bytes. A model's keys begin alike, so that its rows lie together and a block changes few pages on disk."""
    whole = checksum.encode() + question.asked
    return hashlib.sha256(checksum.encode()).digest()[:8] + hashlib.sha256(whole).digest()[:24]


def _ask(engine: Engine, skill: LoadedSkill, block: Sequence[Question]) -> Sequence[Answer]:
    prompts = [question.prompt for question in block]
    answers: Sequence[Answer]
    if skill.scorer.needs == "likelihood":
        answers = engine.loglikelihood(prompts, [question.item.target for question in block])
    else:
        answers = engine.generate(prompts, skill.sampling)
    if len(answers) != len(block):
        raise EngineError(f"expected {len(block)} answers, got {len(answers)}", where=skill.name)
    return answers


def _score(
    engine: Engine,
    skill: LoadedSkill,
    block: Sequence[Question],
    keys: Sequence[bytes],
    answers: dict[bytes, Answer],
    store: AnswerStore,
) -> tuple[list[Score], list[Scored]]:
    """The scores of a block, and those of them the store lacks."""
    known = store.scores(keys, skill.name)
    places = [(key, bytes.fromhex(question.scorer_hash)) for key, question in zip(keys, block, strict=True)]
    # What could not be scored then (a sandbox that failed) may be now.
    todo = [index for index, place in enumerate(places) if place not in known or known[place][0].value is None]
    fresh = skill.scorer.score_dialogues(
        [answers[keys[index]] for index in todo],
        [block[index].item.target for index in todo],
        [block[index].dialogue(shown_answer(answers[keys[index]], None)) for index in todo],
        store,
        engine if isinstance(engine, Turns) else None,
    )
    by_place = {place: score for place, (score, _) in known.items()}
    by_place |= {places[index]: score for index, score in zip(todo, fresh, strict=True)}
    scores = [by_place[place] for place in places]
    lacking = [
        Scored(*place, skill.name, _shown_item(skill, question), score)
        for place, question, score in zip(places, block, scores, strict=True)
        if place not in known or not known[place][1] or known[place][0].value is None
    ]
    return scores, lacking


def _shown_item(skill: LoadedSkill, question: Question) -> str:
    """The item's name in the store: each round has a row of its own there."""
    return skill.stored_names(question.item)[len(question.answered) if skill.skill.rounds > 1 else 0]


def _continuation(skill: LoadedSkill, question: Question) -> str | None:
    return question.item.target if skill.scorer.needs == "likelihood" else None
