"""What the cheap tier costs, and how well it ranks: likelihoods of gold answers against generated answers.

    AUTOMERGE_SHARED=../shared AUTOMERGE_SMOLLM2=FOLDER python benchmarks/tiers.py [--engine NAME] [--quick] [--json]

Cost: the same search items of the skills as shipped asked of SmolLM2 both ways, in turns, each time of an engine that
has cached nothing, medians of three rounds; weights are the plain average of its math and code experts. Ranks:
Spearman's correlation of each skill's mean likelihood with its share of right answers, over the merges of the
recorded zoo landscape that are no baselines, and of the objectives made of them. Prints a table, writes
results/tiers.json, and with --json ends with one line of JSON. --quick asks a few items once, and writes nothing.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # for benchmarks.search

from outcome import hand_out  # noqa: E402

from automerge.config import EngineConfig, load_search  # noqa: E402
from automerge.engine.base import Engine  # noqa: E402
from automerge.engine.start import start_engine  # noqa: E402
from automerge.evals.cheap import companion  # noqa: E402
from automerge.evals.loaded import LoadedSkill, prepare  # noqa: E402
from automerge.evals.run import evaluate  # noqa: E402
from automerge.evals.skill import load_skill  # noqa: E402
from automerge.evals.store import AnswerStore  # noqa: E402
from automerge.merge.models import open_models  # noqa: E402
from automerge.recipe import Recipe  # noqa: E402
from automerge.space.baselines import baselines  # noqa: E402
from automerge.space.space import SearchSpace  # noqa: E402
from benchmarks.search.landscape import Landscape  # noqa: E402

RESULTS = ROOT / "results" / "tiers.json"
SPACE = ROOT / "search_spaces" / "smollm2_generated.yaml"
DATA = {  # of the skills whose answers are long enough for a tier
    "svamp": "svamp_test.jsonl",
    "gsm8k_answers": "gsm8k_test.jsonl",
    "mbpp": "mbpp_test.jsonl",
    "humaneval": "humaneval.jsonl",
}
ARGUMENTS = {"max_model_len": 2048}
BASELINES = 8  # the landscape's first merges


class Timed:
    """An engine, and the seconds that its answers took."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.seconds = engine, 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.engine, name)
        if name not in ("generate", "loglikelihood"):
            return found

        def timed(*arguments: Any) -> Any:
            begun = time.perf_counter()
            try:
                return found(*arguments)
            finally:
                self.seconds += time.perf_counter() - begun

        return timed


def asked(engine: Engine, recipe: Recipe, skill: LoadedSkill) -> float:
    """Seconds that the engine, its weights just applied, takes for the skill's search items."""
    timed = Timed(engine)
    checksum = engine.apply(recipe).checksum
    with AnswerStore(None) as store:
        evaluate(timed, checksum, skill, "search", store)  # type: ignore[arg-type]
    return timed.seconds


def cost(name: str, items: int, rounds: int) -> list[dict[str, Any]]:
    config = load_search(str(SPACE))
    models = open_models(config.base, config.sources)
    average = next(b.recipe for b in baselines(SearchSpace(config, models)) if b.name == "plain_average")
    engine = start_engine(
        models, EngineConfig(name=name, dtype="bfloat16", arguments=ARGUMENTS if name == "vllm" else {})
    )  # type: ignore[arg-type]
    rows = []
    try:
        for skill_name, file in DATA.items():
            use = {
                "use": skill_name,
                "data": {"path": str(Path(os.environ["AUTOMERGE_SHARED"], "data", file).absolute())},
                "items": {"search": items, "held_out": 0},
            }
            skill = prepare(load_skill(use, folder=config.folder, name=skill_name), 0)
            cheap = companion(skill)
            assert cheap is not None
            asked(engine, average, cheap)
            times = [(asked(engine, average, skill), asked(engine, average, cheap)) for _ in range(rounds)]
            generating, reading = (median(column) for column in zip(*times, strict=True))
            most = skill.sampling.max_tokens
            rows.append(
                {"skill": skill_name, "items": items, "tokens": most, "generated": generating, "likelihood": reading}
            )
            print(rows[-1], file=sys.stderr, flush=True)
    finally:
        engine.close()
    return rows


def ranks() -> dict[str, float]:
    """Spearman's correlation, by skill and of the objective."""
    land = Landscape(ROOT / "results" / "landscape" / "zoo.npz")
    right = np.stack([land.right[BASELINES:, land.skill == s].mean(axis=1) for s in range(len(land.skills))])
    likely = np.stack([land.likely[BASELINES:, land.skill == s].mean(axis=1) for s in range(len(land.skills))])
    found = {name: float(spearmanr(a, b)[0]) for name, a, b in zip(land.skills, right, likely, strict=True)}
    return {"merges": float(right.shape[1]), **found, "objective": float(spearmanr(right.mean(0), likely.mean(0))[0])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="vllm", choices=("vllm", "transformers"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    for variable in ("AUTOMERGE_SMOLLM2", "AUTOMERGE_SHARED"):
        if not os.environ.get(variable):
            sys.exit(f"{variable} names no folder")
    rows = cost(args.engine, 4 if args.quick else 32, 1 if args.quick else 3)
    table = Table(
        "skill",
        "items",
        "tokens at most",
        "generated, s",
        "likelihood, s",
        "cheaper by",
        title=f"SmolLM2 on {args.engine}",
    )
    for row in rows:
        row["ratio"] = row["generated"] / row["likelihood"]
        numbers = (f"{row['generated']:.2f}", f"{row['likelihood']:.2f}", f"{row['ratio']:.1f}×")
        table.add_row(row["skill"], str(row["items"]), str(row["tokens"]), *numbers)
    found = ranks()
    order = Table("skill", "Spearman's ρ", title=f"the zoo's landscape, {found['merges']:.0f} merges")
    for name, value in found.items():
        if name != "merges":
            order.add_row(name, f"{value:.3f}")
    Console().print(table, order)
    results = {"command": "python benchmarks/tiers.py", "engine": args.engine, "cost": rows, "ranks": found}
    hand_out(results, RESULTS, quick=args.quick, as_json=args.json)


if __name__ == "__main__":
    main()
