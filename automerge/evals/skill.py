"""A skill file: where its items come from, how they are asked, how answers are scored. It loads no items.

name: svamp
data: {hub: ChilleD/SVAMP, split: test}        # or {path: items.jsonl}, beside this file
prompt: "{{ question }}"                       # or turns: [{role, content}, …]; both are Jinja over a row's fields;
                                               # {role: assistant} alone: the model's own answer stands there
target: "{{ answer }}"                         # the gold answer (this is the default); for likelihood, the continuation
scorer: {type: numeric, calculator: true}
sampling: {max_tokens: 48}
items: {search: 64, held_out: 200}             # held_out: all = the rest
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from automerge.config import Closed, validate
from automerge.errors import ConfigError, SkillError, explained_on
from automerge.evals.scorers import Scorer, make_scorer
from automerge.evals.skill_files import member_of, members_of, read_use
from automerge.evals.template import check_template
from automerge.records import Sampling

Jinja = Annotated[str, Field(min_length=1)]


class Data(Closed):
    """Where the rows are: a JSONL, JSON or Parquet file, a hub dataset, or a task of lm-eval's.

    `id` names the field that identifies a row; without it an item is identified by its content. A file is one split, so
    `split` matters for the hub only. `join` is a file whose rows have the same ids, for fields that the first lacks;
    `where` keeps the rows with these values. For lm-eval: `include`, a folder of one's own tasks, and `shots`.
    """

    path: str | None = None
    hub: str | None = None
    lm_eval: str | None = None
    include: str | None = None
    shots: Annotated[int, Field(ge=0)] | None = None
    config: str | None = None
    split: str = "test"
    revision: str | None = None
    id: str | None = None
    join: str | None = None
    where: dict[str, str | int | bool] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_of_both(self) -> "Data":
        if sum(place is not None for place in (self.path, self.hub, self.lm_eval)) != 1:
            raise ValueError("expected exactly one of path, hub and lm_eval")
        if self.lm_eval is None and (self.include or self.shots is not None):
            raise ValueError("include and shots are for lm_eval")
        if self.join is not None and self.id is None:
            raise ValueError("join: name the field that both files identify a row by, as id")
        return self


class Turn(Closed):
    """One message of a conversation; `content` is Jinja. An assistant without content is the model's own answer."""

    role: Literal["system", "user", "assistant"]
    content: Jinja | None = None

    @field_validator("content")
    @classmethod
    def _parses(cls, source: str | None) -> str | None:
        return None if source is None else check_template(source)

    @model_validator(mode="after")
    def _only_the_model_answers(self) -> "Turn":
        if self.content is None and self.role != "assistant":
            raise ValueError(f"content: what the {self.role} says is missing")
        return self


class SamplingConfig(Closed):
    """How answers are generated: see records.Sampling."""

    max_tokens: Annotated[int, Field(ge=1)] = 256
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = 0.0  # vLLM takes no higher one
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0


class ItemCounts(Closed):
    """How many items the search sees, and how many the verdict is made on; `all` is every other one."""

    search: Annotated[int, Field(ge=0)] = 64
    held_out: Annotated[int, Field(ge=0)] | Literal["all"] = "all"


class Skill(Closed):
    """One skill, as its file says it. `chat: false` sends the prompt as it is, without a chat template."""

    name: Annotated[str, Field(min_length=1)]
    about: str = ""
    source: str = ""
    licence: str = ""
    data: Data
    prompt: Jinja | None = None
    turns: tuple[Turn, ...] = ()
    system: Jinja | None = None
    chat: bool = True
    few_shot: tuple[dict[str, Any], ...] = ()
    target: Jinja = "{{ answer }}"
    gold: Jinja | None = None  # a right answer in full, for the cheap tier of a search; by default the target
    scorer: dict[str, Any]
    sampling: SamplingConfig = SamplingConfig()
    items: ItemCounts = ItemCounts()
    block: Annotated[int, Field(ge=1)] = 32
    path: Path = Field(default=Path(), exclude=True)  # the skill's file, or the config it stands in: for messages

    @field_validator("prompt", "system", "target", "gold")
    @classmethod
    def _parses(cls, source: str | None) -> str | None:
        return None if source is None else check_template(source)

    @model_validator(mode="after")
    def _one_way_to_ask(self) -> "Skill":
        if self.data.lm_eval is not None:
            if self.prompt is not None or self.turns or self.system is not None or self.few_shot:
                raise ValueError(
                    "lm_eval: the task says what is asked; prompt, turns, system and few_shot are not for it"
                )
            if self.scorer.get("type") != "lm_eval":
                raise ValueError("lm_eval: the task scores its answers; expected scorer: {type: lm_eval}")
            return self
        if self.scorer.get("type") == "lm_eval":
            raise ValueError("scorer: lm_eval is for data: {lm_eval: TASK}")
        if (self.prompt is None) == (not self.turns):
            raise ValueError("expected exactly one of prompt and turns")
        if self.turns and self.turns[-1].role != "user":
            raise ValueError(f"turns: the last turn must be the user's, got {self.turns[-1].role}")
        for before, turn in zip((None, *self.turns), self.turns, strict=False):
            if turn.content is None and (before is None or before.role != "user"):
                raise ValueError("turns: the model's own answer must follow a turn of the user's")
        if self.turns and (self.few_shot or self.system is not None):
            raise ValueError("turns: write the system message and the examples as turns")
        if not self.chat and (self.turns or self.system is not None):
            raise ValueError("chat: false takes a prompt, not turns or a system message")
        return self

    def templates(self) -> list[str]:
        """What is rendered of every row, in that order."""
        asked = [turn.content for turn in self.turns] if self.prompt is None else [self.system, self.prompt]
        return [source for source in (*asked, self.target) if source is not None]

    @property
    def rounds(self) -> int:
        """How many answers the model gives to an item, one after another."""
        return 1 + sum(turn.content is None for turn in self.turns)

    def make_scorer(self) -> Scorer:
        """The scorer the file names. Raises ConfigError for an unknown type or parameter, and for a scorer that does
        not fit the skill's rounds."""
        where = f"{self.path}: scorer"
        scorer = make_scorer(self.scorer, where=where)
        if (problem := scorer.check_rounds(self.rounds)) is not None:
            raise ConfigError(problem, where=where)
        return scorer

    def make_sampling(self) -> Sampling:
        """The sampling the engine is given."""
        return Sampling(**self.sampling.model_dump())


@explained_on(SkillError.page)
def load_skill(use: str | Path | Mapping[str, Any], *, folder: Path, name: str | None = None) -> Skill:
    """The skill that a config names.

    `use` is the path of a YAML file (relative to `folder`, the config's own, or to ./evals), the name of a shipped
    skill, a mapping {use: NAME, …overrides} merged over that skill key by key, or a whole skill written inline.
    `name` is what the study calls it; by default the file's own name. Raises ConfigError.
    """
    path, data = read_use(use, folder=folder, name=name)
    if members := members_of(data, path):
        first = f"{data.get('name')}/{next(iter(members))}"
        raise ConfigError(
            f"a suite of {len(members)} skills, where one is expected: {', '.join(members)}",
            where=str(path),
            hint=f"Name one of them: {first}.",
        )
    return _checked(path, data, "")


@explained_on(SkillError.page)
def load_skills(use: str | Path | Mapping[str, Any], *, folder: Path) -> list[Skill]:
    """The skills of a suite, each named SUITE/MEMBER; or the one skill that `use` names. Raises ConfigError."""
    path, data = read_use(use, folder=folder)
    if not (members := members_of(data, path)):
        return [_checked(path, data, "")]
    return [_checked(path, member_of(data, name, path), f"{name}: ") for name in members]


def _checked(path: Path, data: Mapping[str, Any], member: str) -> Skill:
    if "data" not in data:
        raise ConfigError(
            "the skill names no data",
            where=str(path),
            hint=f"Name it where the skill is used: {{use: {path.stem}, data: {{path: items.jsonl}}}}; for a command "
            "line, write `use:` and `data:` into a file, and name that.",
        )
    skill = validate(Skill, data, f"{member}{path}").model_copy(update={"path": path})
    skill.make_scorer()
    return skill
