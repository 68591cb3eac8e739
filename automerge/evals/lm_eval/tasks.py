"""Tasks of lm-eval by name, and what each of their documents asks. Nothing here asks a model.

A task's own Python, where its YAML names some (`!function`), is run, as lm-eval runs it: trust it as a program.
"""

import copy
import functools
import importlib.util
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automerge.errors import SkillError, install
from automerge.evals.items import Item

FEWSHOT_SEED = 1234  # lm-eval's own default

ChatTemplate = Callable[..., str]


@dataclass(frozen=True)
class Tasks:
    """The tasks that a name stands for: one, or a group's. `documents`: item id → (task, document's number)."""

    name: str
    by_name: Mapping[str, Any]  # lm-eval comes without types
    documents: Mapping[str, tuple[str, int]]

    def items(self) -> list[Item]:
        """An item a document. Its prompt stands for the document; what is sent is lm-eval's to say."""
        found = []
        for identity, (task, number) in self.documents.items():
            document = self.by_name[task].eval_docs[number]
            found.append(Item(identity, f"{task}: {_plain(document)}", "", dict(document)))
        return found

    def requests(self, chat_template: ChatTemplate | None) -> dict[str, list[Any]]:
        """Item id → lm-eval's instances, made for all documents in lm-eval's order, on which its examples depend."""
        found: dict[str, list[Any]] = {}
        names = {place: identity for identity, place in self.documents.items()}
        for task_name, task in self.by_name.items():
            random.seed(0)
            task.set_fewshot_seed(seed=FEWSHOT_SEED)
            extra = {} if chat_template is None else {"apply_chat_template": True, "chat_template": chat_template}
            try:
                task.build_all_requests(**extra)
            except Exception as error:  # a task's own code and templates
                message = f"lm-eval cannot make its requests: {type(error).__name__}: {error}"
                raise SkillError(message, where=f"lm_eval:{task_name}") from error
            for instance in task.instances:
                found.setdefault(names[task_name, instance.doc_id], []).append(instance)
        return found

    def metrics(self, identity: str, instances: Sequence[Any]) -> dict[str, dict[str, Any]]:
        """Filter → metric → one document's value, of instances whose `resps` are filled in."""
        task_name, number = self.documents[identity]
        task = self.by_name[task_name]
        for filter_ in task._filters:
            filter_.apply(instances)
        ordered = sorted(instances, key=lambda instance: instance.idx)
        return {
            key: task.process_results(task.eval_docs[number], [one.filtered_resps[key] for one in ordered])
            for key in ordered[0].filtered_resps
        }

    def default_metric(self, identity: str) -> str | None:
        """The first metric that the document's task lists."""
        listed = self.by_name[self.documents[identity][0]].config.metric_list or []
        return str(listed[0]["metric"]) if listed and isinstance(listed[0].get("metric"), str) else None


def load_tasks(name: str, *, include: str | None, shots: int | None) -> Tasks:
    """The tasks of a name, with `include`, a folder of one's own tasks, and so many examples (None: the task's own).

    Raises SkillError where lm-eval is not installed, has no such task, or cannot load its data.
    """
    where = f"lm_eval:{name}"
    if importlib.util.find_spec("lm_eval") is None:
        raise SkillError("lm-eval is not installed", where=where, hint=install("lm-eval"))
    if include is not None and not Path(include).is_dir():
        raise SkillError(f"no such folder of tasks: {include}", where=where)
    manager = _manager(include, own=True) if include is not None else _manager(None, own=False)
    if name not in manager.all_tasks and include is not None:
        manager = _manager(include, own=False)
    if name not in manager.all_tasks:
        near = [task for task in manager.all_tasks if name.split("_")[0] in task][:8]
        meant = f"; near: {', '.join(near)}" if near else ""
        raise SkillError(f"lm-eval has no task or group of this name{meant}", where=where)
    try:
        tasks = {str(one.config.task): one for one in _flat(manager.load_task_or_group([name]))}
        for task in tasks.values():
            if shots is not None and task.config.output_type is not None:
                task.set_config(key="num_fewshot", value=shots)
        sizes = {task_name: len(list(task.eval_docs)) for task_name, task in tasks.items()}
    except Exception as error:  # datasets, the hub, YAML, a task's own code
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SkillError(
            f"lm-eval cannot load it: {reason}", where=where, hint="Its data may need a download."
        ) from error
    documents = {
        f"{task_name}/{number}" if len(sizes) > 1 else str(number): (task_name, number)
        for task_name, size in sizes.items()
        for number in range(size)
    }
    return Tasks(name, tasks, documents)


@functools.cache
def _manager(include: str | None, *, own: bool) -> Any:
    """Knows tasks by name: those of `include` alone, at once, or lm-eval's thousands too, in seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=include, include_defaults=not own)


def fresh(instances: Sequence[Any]) -> list[Any]:
    """Copies without answers: instances are lm-eval's, and a task's are used for many models."""
    copies = [copy.copy(instance) for instance in instances]
    for one in copies:
        one.resps, one.filtered_resps = [], {}
    return copies


def _flat(loaded: Any) -> list[Any]:
    """The tasks of lm-eval's nested mapping of groups."""
    if not isinstance(loaded, Mapping):
        return [loaded]
    return [task for value in loaded.values() for task in _flat(value)]


def _plain(document: Any) -> str:
    return json.dumps(document, sort_keys=True, ensure_ascii=False, default=str)
