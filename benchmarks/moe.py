"""A dense merge against mixtures of the same experts: SmolLM2 and its math, code and writing adapters.

    python benchmarks/moe.py [--quick] [--json]

Base, the plain average of the three, and mixtures that send a token to one or two of them: likelihood skills on real
items, weights in all and for a token, tokens generated a second. AUTOMERGE_SMOLLM2 is the checkpoint (`make smollm2`),
AUTOMERGE_SHARED the folder with models/ and data/. Prints a table, writes results/moe.json, and with --json ends with
one line of JSON. --quick takes a few items and writes nothing.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from automerge.config import EngineConfig
from automerge.evals.loaded import LoadedSkill, prepare
from automerge.evals.run import evaluate, mean
from automerge.evals.serve import serve
from automerge.evals.skill import load_skill
from automerge.evals.store import AnswerStore
from automerge.export.checkpoint import write_checkpoint
from automerge.merge.models import open_models
from automerge.moe import open_mixture, write_mixture
from automerge.moe.config import read_moe
from automerge.recipe import Group, make_recipe
from automerge.records import Sampling

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("AUTOMERGE_SHARED", ROOT.parent / "shared"))
BASE = Path(os.environ.get("AUTOMERGE_SMOLLM2", ROOT / "models" / "smollm2"))
EXPERTS = {
    "math": ["How many apples are left?", "What is the total cost in dollars?", "Solve this word problem."],
    "code": ["Write a python function to", "Your code should pass this test:", "def solve(numbers):"],
    "writing": ["Write a short story about", "Write an email to my manager", "Summarise the following text."],
}
SKILLS = {
    "math": {"use": "gsm8k", "data": {"path": str(SHARED / "data" / "gsm8k_test.jsonl")}},
    "code": {"use": "mbpp_likelihood", "data": {"path": str(SHARED / "data" / "mbpp_test.jsonl")}},
    "writing": {"use": "writing", "data": {"path": str(SHARED / "data" / "writing_self_instruct.jsonl")}},
}
PROMPTS = ["Write about the sea.", "What is 17 + 25?", "Write a function that adds.", "Who are you?"] * 2
NEW = 32


def skills(items: int) -> dict[str, LoadedSkill]:
    """`items` of each; nothing is searched, so all of them are held out."""
    return {
        name: prepare(load_skill({**use, "items": {"search": 0, "held_out": items}}, folder=ROOT, name=name), 0)
        for name, use in SKILLS.items()
    }


def plain_average(out: Path) -> Path:
    """The dense merge."""
    models = open_models(str(BASE), {name: str(SHARED / "models" / name) for name in EXPERTS})
    share = dict.fromkeys(EXPERTS, 1.0 / len(EXPERTS))
    recipe = make_recipe(
        method="linear",
        base=models.base_ref,
        sources=models.source_refs,
        groups=(Group((0, models.n_layers), "all", {"weight": share}),),
        options={"normalize": False},
        dtype="bfloat16",
        seed=0,
    )
    write_checkpoint(recipe, models, out, expected_checksum=None)
    return out


def mixture(out: Path, per_token: int) -> tuple[Path, int, int]:
    """(folder, weights, those for a token)."""
    file = out.with_suffix(".yml")
    experts = [
        {"source_model": str(SHARED / "models" / name), "positive_prompts": prompts}
        for name, prompts in EXPERTS.items()
    ]
    file.write_text(yaml.safe_dump({"base_model": str(BASE), "experts_per_token": per_token, "experts": experts}))
    made = open_mixture(read_moe(file), file.parent)
    write_mixture(made, file.read_text(), out)
    return out, made.parameters, made.active


def measured(folder: Path, loaded: dict[str, LoadedSkill]) -> dict[str, Any]:
    """Scores by skill and tokens a second, in fp32 by transformers."""
    served = serve(str(folder), None, EngineConfig.model_validate({"name": "transformers", "dtype": "float32"}))
    engine = served.engine
    try:
        with AnswerStore(None) as store:
            found = {
                name: mean(evaluate(engine, served.checksum, skill, "held_out", store, tokenizer=served.place))[0]
                for name, skill in loaded.items()
            }
        prompts = [engine.encode(text) for text in PROMPTS]
        engine.generate(prompts, Sampling(max_tokens=2))
        begun = time.perf_counter()
        answers = engine.generate(prompts, Sampling(max_tokens=NEW))
        speed = sum(answer.tokens for answer in answers) / (time.perf_counter() - begun)
    finally:
        engine.close()
    return {"scores": found, "tokens_a_second": speed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    loaded = skills(2 if args.quick else 64)
    dense = sum(p.numel() for p in _shapes(BASE))
    results: dict[str, Any] = {"command": "python benchmarks/moe.py", "items": 2 if args.quick else 64, "models": {}}
    with tempfile.TemporaryDirectory() as folder:
        rows = {"base": (BASE, dense, dense), "plain average": (plain_average(Path(folder, "dense")), dense, dense)}
        for per_token in (1, 2):
            rows[f"mixture, {per_token} of 3"] = mixture(Path(folder, f"moe{per_token}"), per_token)
        for name, (place, total, active) in rows.items():
            results["models"][name] = {"parameters": total, "active": active, **measured(place, loaded)}
            print(f"{name}: {results['models'][name]}", flush=True)
    table = Table("model", *SKILLS, "weights, M", "for a token, M", "tokens a second")
    for name, row in results["models"].items():
        scores = (f"{row['scores'][skill]:.4f}" for skill in SKILLS)
        sizes = (f"{row[key] / 1e6:.1f}" for key in ("parameters", "active"))
        table.add_row(name, *scores, *sizes, f"{row['tokens_a_second']:.0f}")
    Console().print(table)
    if not args.quick:
        (ROOT / "results" / "moe.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if args.json:
        print(json.dumps(results))


def _shapes(folder: Path) -> list[Any]:
    from automerge.merge.sources.checkpoint import Checkpoint

    held = Checkpoint(folder)
    return [held.mapped(name) for name in held.names]


if __name__ == "__main__":
    main()
