"""Skills: items, prompts and scorers from YAML; what a model answered, and how well.

skill.py      the YAML file → Skill
template.py   sandboxed Jinja
rows.py       JSONL, Parquet or a hub dataset → rows
items.py      rows → items, and their split into search and held-out halves
loaded.py     skill + split + scorer, its hash, its prompts rendered once
scorers/      one rule a file
judge/        another model's opinion: how it is asked, and how its words are read
store.py      every answer and score, in one SQLite file
run.py        items → engine → scores, block by block
"""

from automerge.evals.items import Item, Split, choose
from automerge.evals.loaded import LoadedSkill, prepare
from automerge.evals.run import evaluate, evaluate_all, mean
from automerge.evals.skill import Skill, load_skill
from automerge.evals.store import AnswerStore

__all__ = [
    "AnswerStore",
    "Item",
    "LoadedSkill",
    "Skill",
    "Split",
    "choose",
    "evaluate",
    "evaluate_all",
    "load_skill",
    "mean",
    "prepare",
]
