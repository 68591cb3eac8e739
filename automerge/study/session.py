"""Everything a search needs, opened in the order that finds mistakes before time is spent, and closed again."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace

import optuna

from automerge.config import MixtureConfig, SearchConfig
from automerge.engine.base import Engine
from automerge.engine.share import Share, beside
from automerge.engine.start import chosen_engine, on_ray, start_engine
from automerge.engine.turns import Turns
from automerge.errors import SkillError, StudyError
from automerge.evals.cheap import companion
from automerge.evals.loaded import LoadedSkill, prepare
from automerge.evals.skill import load_skill
from automerge.evals.store import AnswerStore
from automerge.gate.statistics import MIN_ITEMS
from automerge.gate.verdict import Verdict
from automerge.merge.models import Models, find_models
from automerge.merge.movement import movement
from automerge.merge.sparse.rows import rows_ref, write_rows
from automerge.router.gates import gates
from automerge.router.part import Part
from automerge.router.prompts import wanted_of
from automerge.space.baselines import baselines
from automerge.space.space import SearchSpace
from automerge.space.sparse import Params
from automerge.space.starts import starts
from automerge.study.agenda import Points
from automerge.study.coarse import check_coarse, coarse_starts, searched
from automerge.study.crew import Crew
from automerge.study.drivers import PROVING, drivers_of
from automerge.study.events import Block, Event, Listen, Note
from automerge.study.finals import prove
from automerge.study.folder import StudyFolder, held, write_atomically
from automerge.study.identity import identity
from automerge.study.jobs import Budget
from automerge.study.loop import Search
from automerge.study.store import hold_identity, open_study, sqlite_file, storage_failures
from automerge.study.trial import Bench, Candidates


@dataclass(frozen=True)
class Plan:
    """A config whose models, space and items were opened and found right. No engine runs yet."""

    config: SearchConfig
    models: Models
    space: SearchSpace
    skills: dict[str, LoadedSkill]
    tier: dict[str, LoadedSkill]  # what is asked first, by the skill it stands for; empty: nothing


def make_plan(config: SearchConfig) -> Plan:
    """Finds every mistake that needs no engine. Raises ConfigError, SourceError, SkillError."""
    loaded = {name: load_skill(use, folder=config.folder, name=name) for name, use in config.skills.items()}
    models = find_models(config.base, config.sources)
    space = SearchSpace(config, models)
    models.frame(space.recipe(space.middle()))  # tokenizers and experts that do not fit are found here
    asked = {name: prepare(skill, config.seed) for name, skill in loaded.items()}
    seen = searched(asked.values())
    skills = {name: skill.unseen(seen) for name, skill in asked.items()}  # two skills may ask the same rows
    for name, skill in skills.items():
        _check_counts(name, skill, len(asked[name].half("held_out")) - len(skill.half("held_out")))
    models = models.digested()  # every weight is read for it: what is wrong with a config is said before
    if config.start_from:
        check_coarse(config.start_from, models, skills.values())
    space = SearchSpace(config, models)
    return Plan(config, models, space, skills, _tier(skills) if "likelihood" in config.tiers else {})


def _tier(skills: dict[str, LoadedSkill]) -> dict[str, LoadedSkill]:
    """The cheap companions, and the skills that are as cheap themselves; nothing where there is no companion."""
    companions = {name: found for name, skill in skills.items() if (found := companion(skill)) is not None}
    if not companions:
        return {}
    return {name: companions.get(name, s) for name, s in skills.items() if name in companions or s.is_cheap}


def _check_counts(name: str, skill: LoadedSkill, dropped: int) -> None:
    """What the search and its verdict would find out at their ends. `dropped` held-out items are search items of
    another skill."""
    search, held_out = (len(skill.half(half)) for half in ("search", "held_out"))
    if search < 1:
        raise SkillError("a search needs at least 1 search item, got 0", where=name, hint="Raise items: search.")
    if held_out < MIN_ITEMS:
        message = f"a verdict needs at least {MIN_ITEMS} held-out items, got {held_out}"
        message += f" ({dropped} more are search items of another skill)" if dropped else ""
        raise SkillError(message, where=name, hint="Raise items: held_out, lower items: search, or give more data.")


def run_search(
    plan: Plan,
    folder: StudyFolder,
    budget: Budget,
    listen: Listen,
    *,
    storage: str | None = None,
    workers: int = 1,
    ray: str | None = None,
    start: Callable[[Plan, Share], Engine] | None = None,
) -> Verdict:
    """Searches, proves, and leaves the verdict in the folder. The same call again goes on where it stopped.

    `workers` candidates are tried at a time, each by an engine of its own: on this machine, or on the Ray cluster at
    the address `ray`. `start` makes an engine, by default the config's.
    """
    _check_place(storage)
    folder.create()
    url = storage or folder.storage
    listen = _one_at_a_time(listen)
    with folder.locked(), _database_held(storage, plan.config.name), storage_failures(url):
        study = open_study(plan.config.name, url, objectives=max(len(plan.config.objectives), 1))
        hold_identity(study, identity(plan.config, plan.models, plan.skills))
        models = [plan.models.base_ref, *plan.models.source_refs]
        folder.write_about(plan.config, models, searched(plan.skills.values()))
        if plan.config.mixture is not None:
            plan = _with_rows(plan, plan.config.mixture, folder, study, listen)
        with _benches(plan, folder, listen, start, study, workers, ray) as bench, drivers_of(study) as drivers:
            search = Search(study, plan.space, bench, listen, lambda: _starts(plan), drivers)
            search.run(budget)
            with drivers.holding(PROVING):  # among several the first proves, and the others read its verdict
                verdict = prove(study, plan.space, search.baselines, bench, listen)
        write_verdict(folder, verdict)
    return verdict


def _check_place(storage: str | None) -> None:
    """Raises StudyError where an SQLite file is asked for in a folder that is not there: nobody meant to make it."""
    file = sqlite_file(storage) if storage is not None else None
    if file is not None and not file.parent.is_dir():
        raise StudyError("no such folder", where=f"--storage: {file.parent}", hint="Make it first, or name another.")


def _database_held(storage: str | None, study: str) -> AbstractContextManager[None]:
    """Of SQLite outside the folder: it has one driver of a study, whatever their folders."""
    file = sqlite_file(storage) if storage is not None else None
    return nullcontext() if file is None else held(file.with_name(f"{file.name}.{study}.lock"), str(file))


def _one_at_a_time(listen: Listen) -> Listen:
    """Workers tell what they do from threads of their own."""
    lock = threading.RLock()

    def listening(event: Event) -> None:
        with lock:
            listen(event)

    return listening


def _with_rows(plan: Plan, mixture: MixtureConfig, folder: StudyFolder, study: optuna.Study, listen: Listen) -> Plan:
    """The plan with router rows, which are found at the study's first run and kept in its folder."""
    if not folder.router.is_file():
        base = next(found.recipe for found in baselines(plan.space) if found.name == "base")
        config = plan.config
        wanted = {
            name: wanted_of(asked, config.folder, config.seed, plan.skills) for name, asked in mixture.experts.items()
        }
        listen(Note(f"router: asking the base, {mixture.gate_mode}"))
        rows = gates(Part(config.base, base, plan.models), list(wanted.values()), mixture.gate_mode, config.seed)
        write_rows(folder.router, {name: rows[:, number] for number, name in enumerate(wanted)})
    router = rows_ref(folder.router)
    hold_identity(study, {"router.rows": router.digest})
    models = replace(plan.models, router=router)
    return replace(plan, models=models, space=SearchSpace(plan.config, models))


def _starts(plan: Plan) -> Points:
    """What is tried after the baselines: the best of a coarser study, then what the sources themselves tell."""
    coarse = coarse_starts(plan.config.start_from, plan.space) if plan.config.start_from else {}
    found: dict[str, Params] = {}
    for name, params in {**coarse, **starts(plan.space, movement(plan.models))}.items():
        if params not in found.values():
            found[name] = params
    return found


@contextmanager
def _benches(
    plan: Plan,
    folder: StudyFolder,
    listen: Listen,
    start: Callable[[Plan, Share], Engine] | None,
    study: optuna.Study,
    workers: int,
    ray: str | None,
) -> Iterator[Candidates]:
    def on_block(label: str, skill: str, done: int, total: int) -> None:
        listen(Block(label, skill, done, total))

    def tell(text: str) -> None:
        listen(Note(text))

    config = plan.config.engine
    there = on_ray(plan.models, config, ray, workers, tell) if ray is not None else None

    def start_one(index: int) -> Engine:
        share = Share(index, workers)
        if start:
            return start(plan, share)
        if there is not None:
            return there()
        log = folder.engine_log if workers == 1 else folder.engine_log.with_suffix(f".{index}.log")
        return start_engine(plan.models, config, log=log, tell=tell, share=share)

    with ExitStack() as stack:
        stack.enter_context(beside(1 if ray is not None else workers))
        engines = _started(start_one, workers, stack)
        for engine in engines:
            hold_identity(study, {"engine.fingerprint": engine.fingerprint})

        base = next(found.recipe for found in baselines(plan.space) if found.name == "base")

        def bench(engine: Engine) -> Bench:
            return Bench(
                Turns(engine, base), plan.skills, plan.tier, stack.enter_context(AnswerStore(folder.answers)), on_block
            )

        benches = [bench(engine) for engine in engines]
        if ray is not None:
            tell(f"engines: {workers} on Ray at {ray} ({engines[0].fingerprint})")
        elif start is None:
            tell("engine: {} ({})".format(*chosen_engine(config)) + (f", {workers} of them" if workers > 1 else ""))
        yield benches[0] if workers == 1 else Crew(benches, reader=bench(engines[0]))


def _started(start: Callable[[int], Engine], workers: int, stack: ExitStack) -> list[Engine]:
    """That many engines, started beside each other, and closed with the stack, whatever happens."""
    if workers == 1:
        engine = start(0)
        stack.callback(engine.close)
        return [engine]
    with ThreadPoolExecutor(workers) as pool:
        starting = [pool.submit(start, index) for index in range(workers)]
    for future in starting:
        if future.exception() is None:
            stack.callback(future.result().close)
    return [future.result() for future in starting]


def write_verdict(folder: StudyFolder, verdict: Verdict) -> None:
    """verdict.json, whole or not at all."""
    write_atomically(folder.verdict, json.dumps(asdict(verdict), indent=2))
