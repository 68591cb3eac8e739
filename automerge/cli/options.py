"""The options that several subcommands take. It imports nothing that is slow."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Out = Annotated[Path | None, typer.Option("--out", help="The study's folder. Default: results/<study>.")]
StudyName = Annotated[str | None, typer.Option("--study", help="The study's name. Default: the config's.")]
Storage = Annotated[str | None, typer.Option("--storage", help="An Optuna storage URL. Default: SQLite in the folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]

# of the commands that score models: eval, compare, gate
Skills = Annotated[list[str], typer.Option("--skills", help="Skill names or files; repeat, or separate by commas.")]
Base = Annotated[str | None, typer.Option(help="The model that adapters among the models were made for.")]
Half = Annotated[Literal["held_out", "search"], typer.Option(help="Which half of a skill's items.")]
ItemSeed = Annotated[int, typer.Option(min=0, help="Seed of the halves and the intervals.")]
Serving = Annotated[Literal["auto", "transformers", "vllm"], typer.Option(help="What serves the models.")]
Answers = Annotated[Path | None, typer.Option(help="Keep prompts, answers and scores in this SQLite file.")]
