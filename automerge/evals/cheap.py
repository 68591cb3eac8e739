"""The cheap companion of a skill whose answers are generated: the same search items, scored by the likelihood of gold.

Gold is what the skill's `gold` template says, else its target, where the scorer's targets are answers themselves.
Nothing is generated, so it costs one prefill of the items. It never sees held-out items.
"""

from dataclasses import replace

from automerge.evals.items import Split
from automerge.evals.loaded import LoadedSkill
from automerge.evals.scorers import make_scorer
from automerge.evals.template import Templates

COMPANION = " (likelihood)"  # ends its name


def companion(skill: LoadedSkill) -> LoadedSkill | None:
    """None where the skill is as cheap itself, asks several rounds, or has no text that could be an answer.

    Raises SkillError where `gold` cannot be rendered.
    """
    own = skill.skill
    if skill.is_cheap or skill.scorer.needs != "answer" or own.rounds > 1:
        return None
    if not (own.gold or skill.scorer.target_is_answer):
        return None
    items = skill.split.search
    if own.gold is not None:
        templates = Templates([own.gold], [item.fields for item in items])
        gold = [templates.render(own.gold, item.fields, f"{own.name}: gold of item {item.id}") for item in items]
        items = tuple(replace(item, target=text) for item, text in zip(items, gold, strict=True))
    name = own.name + COMPANION
    scorer = make_scorer({"type": "likelihood"}, where=name)
    items = tuple(item for item in items if scorer.check_target(item.target) is None)
    if not items:
        return None
    changed = own.model_copy(update={"name": name, "scorer": {"type": "likelihood"}})
    return LoadedSkill(changed, Split(items, ()), scorer, skill.sampling, f"{skill.hash}+likelihood")
