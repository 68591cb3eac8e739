"""A block of lm-eval's documents: its requests are answered, from the store where they are known, and scored."""

import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from automerge.engine.base import Engine
from automerge.errors import SkillError
from automerge.evals.items import choose
from automerge.evals.lm_eval.tasks import Tasks, fresh, load_tasks
from automerge.evals.loaded import Half, LoadedSkill, Question
from automerge.evals.scorers import Answer
from automerge.evals.skill import Skill
from automerge.evals.store import AnswerStore
from automerge.evals.stored import Scored, Stored, generated_tokens
from automerge.records import ItemResult, Prompt, Sampling, Score


@dataclass(frozen=True)
class LmEvalSkill(LoadedSkill):
    """A skill whose items are documents of lm-eval's tasks. `_requests`: by (engine fingerprint, tokenizer)."""

    tasks: Tasks = field(kw_only=True)
    _requests: dict[tuple[str, str], dict[str, list[Any]]] = field(
        default_factory=dict, kw_only=True, repr=False, compare=False
    )

    def questions(self, engine: Engine, tokenizer: str, which: Half) -> tuple[Question, ...]:
        """One half's items, for their order alone: what is asked of each is in `requests`."""
        self.requests(engine, tokenizer)
        return tuple(Question(item, Prompt(item.prompt, ()), b"", "") for item in self.half(which))  # type: ignore[arg-type]

    def requests(self, engine: Engine, tokenizer: str) -> dict[str, list[Any]]:
        """Item id → lm-eval's instances, with the model's chat template where the skill says so."""
        key = (engine.fingerprint, tokenizer) if self.skill.chat else ("", "")
        if key not in self._requests:

            def chat_template(messages: list[dict[str, str]], **kwargs: Any) -> str:
                return engine.render(messages).text

            self._requests[key] = self.tasks.requests(chat_template if self.skill.chat else None)
        return self._requests[key]


def prepare_tasks(skill: Skill, seed: int) -> LmEvalSkill:
    """As loaded.prepare, for a skill whose data is a task of lm-eval's."""
    data, scorer = skill.data, skill.make_scorer()
    assert data.lm_eval is not None
    tasks = load_tasks(data.lm_eval, include=data.include, shots=data.shots)
    items = tasks.items()
    split = choose(items, skill.items.search, skill.items.held_out, seed, where=skill.name)
    content = {
        "tasks": {name: task.dump_config() for name, task in tasks.by_name.items()},
        "chat": skill.chat,
        "scorer": scorer.spec(),
        "block": skill.block,
        "search": [[item.id, item.prompt] for item in split.search],
        "held_out": [[item.id, item.prompt] for item in split.held_out],
    }
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return LmEvalSkill(skill, split, scorer, skill.make_sampling(), digest, tasks=tasks)


def ask_documents(
    engine: Engine, checksum: str, skill: LmEvalSkill, block: Sequence[Question], store: AnswerStore, tokenizer: str
) -> tuple[list[ItemResult], float, float]:
    """(results, seconds in the engine, seconds scoring) of one block; written to the store on return."""
    from automerge.evals.lm_eval.model import Ask, EngineModel  # imports lm-eval

    requests = skill.requests(engine, tokenizer)
    instances = {question.item.id: fresh(requests[question.item.id]) for question in block}
    spent = 0.0
    new: list[Stored] = []
    kept: list[tuple[bytes, Answer]] = []

    def ask(asks: Sequence[Ask]) -> list[Answer]:
        nonlocal spent
        keys = [_key(engine, checksum, one) for one in asks]
        answers = store.answers(keys)
        todo = [number for number, key in enumerate(keys) if key not in answers]
        if todo:
            began = time.perf_counter()
            found = _answers(engine, [asks[number] for number in todo])
            spent += time.perf_counter() - began
            share = (time.perf_counter() - began) / len(todo)
            for number, answer in zip(todo, found, strict=True):
                new.append(Stored(keys[number], checksum, asks[number].prompt.text, _tail(asks[number]), answer, share))
            answers |= {keys[number]: answer for number, answer in zip(todo, found, strict=True)}
        kept.extend((key, answers[key]) for key in keys)
        return [answers[key] for key in keys]

    model = EngineModel(engine, ask)
    first: dict[str, tuple[bytes, Answer]] = {}
    tokens: dict[str, int] = {}
    every = [(identity, one) for identity, own in instances.items() for one in own for _ in range(one.repeats or 1)]
    for kind in sorted({one.request_type for _, one in every}):
        own = [(identity, one) for identity, one in every if one.request_type == kind]
        kept.clear()
        for (_, instance), answer in zip(own, getattr(model, kind)([one for _, one in own]), strict=True):
            instance.resps.append(answer)
        if len(kept) == len(own):  # a rolling likelihood asks more than once for one request
            for (identity, _), (key, answer) in zip(own, kept, strict=True):
                first.setdefault(identity, (key, answer))
                tokens[identity] = tokens.get(identity, 0) + generated_tokens(answer)
    began = time.perf_counter()
    scorer = bytes.fromhex(skill.scorer.hash(""))
    results, scored = [], []
    for question in block:
        identity = question.item.id
        score = _score(skill, identity, instances[identity])
        prompt = str(instances[identity][0].args[0])
        results.append(
            ItemResult(skill.name, identity, prompt, _shown(instances[identity]), tokens.get(identity, 0), score)
        )
        if identity in first:
            scored.append(Scored(first[identity][0], scorer, skill.name, identity, score))
    store.write(new, scored)
    return results, spent, time.perf_counter() - began


def _answers(engine: Engine, asks: Sequence[Any]) -> list[Answer]:
    """One answer an ask, in order: those that generate alike go together."""
    found: dict[int, Answer] = {}
    likelihoods = [number for number, one in enumerate(asks) if not isinstance(one.then, Sampling)]
    if likelihoods:
        told = engine.loglikelihood([asks[n].prompt for n in likelihoods], [asks[n].then for n in likelihoods])
        found |= dict(zip(likelihoods, told, strict=True))
    for sampling in {one.then: None for one in asks if isinstance(one.then, Sampling)}:
        alike = [number for number, one in enumerate(asks) if one.then == sampling]
        found |= dict(zip(alike, engine.generate([asks[n].prompt for n in alike], sampling), strict=True))
    return [found[number] for number in range(len(asks))]


def _score(skill: LmEvalSkill, identity: str, instances: Sequence[Any]) -> Score:
    """The metric that the skill names, else the task's first; of the filter that it names, else the first."""
    params = skill.scorer.params
    try:
        by_filter = skill.tasks.metrics(identity, instances)
    except Exception as error:  # a task's own code, on what a model said
        return Score(None, f"lm-eval's scoring failed: {type(error).__name__}: {error}")
    chosen = params.filter or next(iter(by_filter))
    if chosen not in by_filter:
        raise SkillError(f"no filter {chosen!r}; the task has: {', '.join(by_filter)}", where=skill.name)
    values = by_filter[chosen]
    metric = params.metric or skill.tasks.default_metric(identity) or next(iter(values))
    if metric not in values:
        raise SkillError(f"no metric {metric!r}; the task gives: {', '.join(values)}", where=skill.name)
    value = values[metric]
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, int | float) for part in value):
        # (log-likelihood, words or bytes) of a text: the geometric mean of their probabilities, 1 ÷ perplexity
        value = math.exp(min(0.0, value[0] / value[1])) if value[1] else None
    if isinstance(value, list) and value and all(isinstance(one, bool | int | float) for one in value):
        value = sum(value) / len(value)  # instruction by instruction, as IFEval's
    if not isinstance(value, bool | int | float) or not 0.0 <= float(value) <= 1.0:
        message = f"{metric} gives {value!r} for a document, where a score in [0, 1] is needed"
        raise SkillError(message, where=skill.name, hint=f"Name another: scorer: {{metric: …}}; {', '.join(values)}.")
    return Score(float(value), f"{metric}, {chosen}")


def _shown(instances: Sequence[Any]) -> str:
    """What the model said, or how probable it found each choice."""
    said = [one.resps[0] for one in instances]
    return "\n".join(
        text if isinstance(text, str) else f"{one.args[-1]!r}: {text}"
        for one, text in zip(instances, said, strict=True)
    )


def _key(engine: Engine, checksum: str, ask: Any) -> bytes:
    """32 bytes, as run.py makes them: a model's keys begin alike."""
    generate = isinstance(ask.then, Sampling)
    asked = {
        "kind": "generate" if generate else "loglikelihood",
        "tokens": list(ask.prompt.token_ids),
        "continuation": None if generate else list(ask.then),
        "sampling": asdict(ask.then) if generate else None,
        "engine": engine.fingerprint,
    }
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).digest()
    return hashlib.sha256(checksum.encode()).digest()[:8] + hashlib.sha256(checksum.encode() + digest).digest()[:24]


def _tail(ask: Any) -> str | None:
    return None if isinstance(ask.then, Sampling) else " ".join(map(str, ask.then))
