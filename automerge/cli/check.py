"""`automerge check CONFIG`: finds every mistake that needs no engine, and estimates memory and time."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from automerge.cli.console import make_console
from automerge.cli.opening import open_config
from automerge.cli.options import AsJson
from automerge.engine.start import chosen_engine
from automerge.errors import explained_on
from automerge.moe import open_mixture
from automerge.moe.config import is_moe, read_moe
from automerge.report.tables import plain_table
from automerge.space.sparse import SparseSpace
from automerge.study.estimate import Estimate, estimate
from automerge.study.session import Plan, make_plan


def check(
    config: Annotated[
        str | None, typer.Argument(help="A search space, by file or shipped name; or mergekit-moe's YAML.")
    ] = None,
    budget: Annotated[int, typer.Option(min=1, help="Trials, for the time estimate.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Check a config, its models and its items. Exit 0 if a search could start."""
    if config is not None and is_moe(Path(config)):
        _check_moe(Path(config), as_json)
        return
    loaded = open_config(config, study=None, seed=None, engine=None)
    with make_console(stderr=True).status("checking config, models and items"):
        plan = make_plan(loaded)
        cost = estimate(plan, budget)
    if as_json:
        print(json.dumps(_as_json(plan, cost)))
    else:
        _print(plan, cost, budget)


@explained_on("moe.md")
def _check_moe(path: Path, as_json: bool) -> None:
    """What a mixture will be, once its models were opened. Nothing is asked of them."""
    mixture = open_mixture(read_moe(path), path.resolve().parent, where=str(path))
    told = {
        "architecture": mixture.family.architecture,
        "experts": [part.given for part in mixture.experts],
        "shared_experts": [part.given for part in mixture.shared],
        "experts_per_token": mixture.config.experts_per_token,
        "gate_mode": mixture.config.gate_mode,
        "parameters": mixture.parameters,
        "active": mixture.active,
        "bytes": mixture.bytes,
    }
    if as_json:
        print(json.dumps(told))
        return
    console = make_console()
    table = Table.grid(padding=(0, 2))
    table.add_row("base", mixture.base.given)
    for number, part in enumerate(mixture.experts):
        table.add_row(f"expert {number}", part.given)
    for part in mixture.shared:
        table.add_row("shared expert", part.given)
    console.print(table)
    console.print(
        f"{mixture.family.architecture}: {mixture.parameters / 1e6:.1f} M parameters, "
        f"{mixture.active / 1e6:.1f} M for a token "
        f"({mixture.config.experts_per_token} of {len(mixture.experts)} experts), "
        f"{mixture.bytes / 1e9:.2f} GB; "
        f"router rows: {mixture.config.gate_mode}",
    )
    console.print("No mistake found.", style="green")


def _as_json(plan: Plan, cost: Estimate) -> dict[str, object]:
    return {
        "study": plan.config.name,
        "method": plan.config.method,
        "parameters": len(plan.space.distributions),
        "layers": plan.models.n_layers,
        "models": {ref.name: ref.digest for ref in (plan.models.base_ref, *plan.models.source_refs)},
        "skills": {
            name: {
                "search": len(skill.half("search")),
                "held_out": len(skill.half("held_out")),
                "hash": skill.hash,
                "sandbox": skill.scorer.isolation(),
            }
            for name, skill in plan.skills.items()
        },
        "engine": dict(zip(("name", "why"), chosen_engine(plan.config.engine), strict=True)),
        **({"mixture": _mixture(plan.space.sparse)} if plan.space.sparse else {}),
        "notes": _notes(plan),
        "estimate": asdict(cost),
    }


def _mixture(sparse: SparseSpace) -> dict[str, object]:
    """What the sparse models will be."""
    config = sparse.config
    return {
        "architecture": sparse.family.architecture,
        "experts": config.choices,
        "shared_expert": config.shared_expert,
        "num_experts": config.sizes,
        "experts_per_token": config.per_token,
        "sets": len(sparse.sets),
        "gate_mode": config.gate_mode,
    }


def _print_mixture(console: Console, sparse: SparseSpace) -> None:
    told = _mixture(sparse)
    sizes, per_token = (" or ".join(map(str, each)) for each in (sparse.config.sizes, sparse.config.per_token))
    shared = f", {told['shared_expert']} for every token" if told["shared_expert"] else ""
    console.print(
        f"{told['architecture']}: {sizes} experts of {', '.join(sparse.config.choices)} ({told['sets']} sets), "
        f"{per_token} a token{shared}; router: {told['gate_mode']}. The baselines are dense.",
    )


def _notes(plan: Plan) -> list[str]:
    """What the merges do not keep of the models' vocabularies and tokenizers."""
    return plan.models.notes(plan.space.recipe(plan.space.middle()))


def _print(plan: Plan, cost: Estimate, budget: int) -> None:
    console = make_console()
    table = Table.grid(padding=(0, 2))
    for ref in (plan.models.base_ref, *plan.models.source_refs):
        table.add_row(ref.name, f"{ref.path}", f"digest {ref.digest[:16]}")
    console.print(table)
    dimensions = len(plan.space.distributions)
    engine, why = chosen_engine(plan.config.engine)
    console.print(
        f"{' or '.join(plan.config.methods)}, {plan.models.n_layers} layers, {dimensions} parameters to search, "
        f"merged to {plan.config.dtype or plan.models.dtype}, served by {engine} ({why}), "
        f"dtype {plan.config.engine.dtype}",
    )
    if plan.space.sparse:
        _print_mixture(console, plan.space.sparse)
    for note in _notes(plan):
        console.print(Text("note", style="yellow"), note)
    items = plain_table("skills")
    for column in ("skill", "scorer", "search items", "held-out items"):
        items.add_column(column)
    for name, skill in plan.skills.items():
        items.add_row(name, skill.scorer.name, str(len(skill.half("search"))), str(len(skill.half("held_out"))))
    console.print(items)
    for name, skill in plan.skills.items():
        if (isolation := skill.scorer.isolation()) is not None:
            console.print(f"{name}: answers are run; sandbox: {isolation}")
    for gate in cost.gates:
        console.print(
            f"gate {gate.gate}: {gate.held_out} held-out items; about {gate.needed} show it for a merge as good as the "
            f"reference, if paired scores spread by {gate.spread:g} ({gate.why})",
        )
    _print_cost(console, cost, budget)
    console.print("No mistake found.", style="green")


_WHERE = {"mmap": "mapped from their files, not loaded", "pinned": "page-locked on the host", "device": "on the GPU"}


def _print_cost(console: Console, cost: Estimate, budget: int) -> None:
    sizes = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in cost.sources_bytes.items())
    served = (cost.memory_bytes - cost.merge_bytes) / 1e9
    table = Table.grid(padding=(0, 2))
    table.add_row("memory", f"model served {served:.2f} GB, merge {cost.merge_bytes / 1e9:.2f} GB")
    table.add_row("", f"free on this host {cost.available_bytes / 1e9:.1f} GB")
    table.add_row("sources", f"{sizes} GB, {_WHERE[cost.residency]} ({cost.residency})")
    table.add_row("", f"held whole they would take {sum(cost.sources_bytes.values()) / 1e9:.2f} GB")
    tier = f"tier {cost.tokens.tier:,}; " if cost.tokens.tier else ""
    table.add_row("tokens", f"{tier}read {cost.tokens.read:,}, generate at most {cost.tokens.generated:,} a candidate")
    tier = f"its tier {cost.tier_seconds:.0f} s, " if cost.tokens.tier else ""
    table.add_row(
        "time",
        f"a merge about {cost.merge_seconds:.1f} s, {tier}a candidate asked everything {cost.trial_seconds:.0f} s",
    )
    table.add_row("", f"{budget} candidates and the verdict at most about {cost.total_seconds / 60:.0f} min")
    console.print(table)
    console.print("Tokens are guessed from the text, time from tokens and the speed of a matrix product here.")
