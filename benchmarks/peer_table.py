"""What automerge and mergekit make of the same checkpoints: every config of tests/peers on every architecture.

    AUTOMERGE_MERGEKIT_PYTHON=… python benchmarks/peer_table.py [--config NAME]… [--quick] [--real] [--json]
Writes results/mergekit_peer.json, a row for each config and family of models, and results/mergekit_peer.md, a row for
each config, anew as each family is done. --config takes some alone, whose rows take their places in the files; --quick
takes two architectures and writes nothing; --real adds SmolLM2-135M and its experts, with one config a method (half an
hour).
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.peers import real  # noqa: E402
from tests.peers.judge import Row, judge, merge_ours  # noqa: E402
from tests.peers.peer import NO_PEER, Job, config_names, fill, peer_python, peer_version, run_mergekit  # noqa: E402
from tests.peers.pico import ARCHITECTURES, pico_family  # noqa: E402

RESULTS = ROOT / "results"
REAL = "SmolLM2-135M"
ADAPTERS = "SmolLM2-135M + LoRA"  # as `base+adapter`, each tool forming the delta in its own way
WITH_ADAPTERS = ("task_arithmetic", "linear")
HEADINGS = (
    "config",
    "method",
    "models",
    "expected",
    "elements",
    "differ",
    "explained",
    "largest, ulps",
    "largest, absolute",
    "kept: ours / mergekit's (largest deviation)",
    "as expected",
)


def families(root: Path, quick: bool, with_real: bool) -> dict[str, dict[str, str]]:
    """Name → placeholder → path."""
    names = ("llama", "gemma3") if quick else tuple(ARCHITECTURES)
    made = {name: {k: str(v) for k, v in pico_family(root / name, name).items()} for name in names}
    if with_real:
        (root / "real").mkdir()
        made[REAL] = {k: str(v) for k, v in real.experts(root / "real").items()}
        made[ADAPTERS] = real.adapters()
    return made


def wanted(family: str, config: str) -> bool:
    """Whether a config is run on a family."""
    if family == ADAPTERS:
        return config in WITH_ADAPTERS
    return family != REAL or config in real.CONFIGS


def rows_of(root: Path, family: str, models: dict[str, str], among: list[str]) -> list[Row]:
    """Both tools' merges of one family, compared; the outputs are removed as they are done with."""
    rows = []
    configs = [config for config in among if wanted(family, config)]
    chunk = 8 if family in (REAL, ADAPTERS) else len(configs)  # outputs of real size are not kept all at once
    for start in range(0, len(configs), chunk):
        with tempfile.TemporaryDirectory(dir=root) as held:
            folder = Path(held)
            cache = root / "real" / "lora" if family == ADAPTERS else None
            jobs = [
                Job(fill(config, models, folder / "configs"), folder / config, lora_cache=cache)
                for config in configs[start : start + chunk]
            ]
            for job, error in zip(jobs, run_mergekit(jobs, folder), strict=True):
                rows.append(row_of(job, family, error))
    return rows


def row_of(job: Job, family: str, error: str | None) -> Row:
    """One row; a failure of either tool is a complaint in it."""
    name = job.config.stem
    unwritten = bool(error and "layer_types" in error)
    if error and not unwritten:
        return Row(name, "", family, "bit", complaints=(f"mergekit: {error}",))
    ours = job.out.with_name(f"{name}-ours")
    try:
        merge_ours(job.config, ours)
    except RuntimeError as failed:
        return Row(name, "", family, "bit", complaints=(str(failed),))
    like = "ulp" if family == ADAPTERS else None
    return judge(name, family, job.config, ours, job.out, config_written=not unwritten, kind=like)


def kept_rows() -> list[Row]:
    """The rows of the file."""
    lists = ("rate", "deviations", "complaints")
    found = json.loads((RESULTS / "mergekit_peer.json").read_text(encoding="utf-8"))["results"]
    return [Row(**{key: tuple(value) if key in lists else value for key, value in row.items()}) for row in found]


def in_place(kept: list[Row], new: list[Row]) -> list[Row]:
    """All of them, families and then configs in order, the new ones for those of the same config and family."""
    rows = {(row.models, row.config): row for row in [*kept, *new]}
    names = list(dict.fromkeys(row.models for row in [*kept, *new]))
    return sorted(rows.values(), key=lambda row: (names.index(row.models), row.config))


def markdown(rows: list[Row], versions: str, command: str) -> str:
    """A row for each config, over all families."""
    lines = [
        "# automerge beside mergekit",
        "",
        f"{versions}. Both tools merged the same checkpoints from the same YAML files (tests/peers/configs) with",
        f"`dtype: float32` and `out_dtype: bfloat16` (float32 for distributions). Made by `{command}`.",
        "What is expected of each config, and what counts as explained, is defined in tests/peers/expected.py.",
        "",
        f"Models: {', '.join(dict.fromkeys(row.models for row in rows))}.",
        "",
        f"| {' | '.join(HEADINGS)} |",
        f"|{'---|' * len(HEADINGS)}",
    ]
    for config in dict.fromkeys(row.config for row in rows):
        own = [row for row in rows if row.config == config]
        done = [row for row in own if row.tensors]
        kept = "–"
        if done and done[0].rate:
            rates = [sum(row.rate[n] * row.elements for row in done if row.rate) for n in (0, 1)]
            worst = [max(row.deviations[n] for row in done if row.deviations) for n in (0, 1)]
            total = sum(row.elements for row in done)
            kept = f"{rates[0] / total:.4f} / {rates[1] / total:.4f} ({worst[0]:.1f}σ / {worst[1]:.1f}σ)"
        cells = (
            config,
            next((row.method for row in own if row.method), ""),
            len(own),
            "/".join(dict.fromkeys(row.expectation for row in own)),
            sum(row.elements for row in own),
            "–" if kept != "–" else sum(row.differ for row in own),
            "–" if kept != "–" else sum(row.explained for row in own),
            "–" if kept != "–" else max(row.ulps for row in own),
            "–" if kept != "–" else f"{max(row.largest for row in own):.2g}",
            kept,
            "yes" if all(row.passed for row in own) else f"**no: {sum(not row.passed for row in own)}**",
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    wrong = [f"- {row.config} on {row.models}: {row.complaints[0]}" for row in rows if not row.passed]
    if wrong:
        lines += ["", "## Not as expected", "", *wrong]
    return "\n".join(lines) + "\n"


def summary_of(rows: list[Row], seconds: float) -> dict[str, float]:
    return {"rows": len(rows), "failed": sum(not row.passed for row in rows), "seconds": round(seconds, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", action="append", choices=config_names(), metavar="NAME")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if peer_python() is None:
        print(NO_PEER, file=sys.stderr)
        return 1
    if given.real and not real.there():
        print(real.MISSING, file=sys.stderr)
        return 1
    begun = time.perf_counter()
    command = "python benchmarks/peer_table.py" + (" --real" if given.real else "")
    versions = peer_version()
    with tempfile.TemporaryDirectory() as held:
        os.environ["AUTOMERGE_CACHE"] = f"{held}/cache"
        root = Path(held)
        rows: list[Row] = kept_rows() if given.config and not given.quick else []
        for family, models in families(root, given.quick, given.real).items():
            rows = in_place(rows, rows_of(root, family, models, given.config or config_names()))
            text, summary = markdown(rows, versions, command), summary_of(rows, time.perf_counter() - begun)
            if not given.quick:
                RESULTS.mkdir(exist_ok=True)
                written = {"command": command, "peer": versions, **summary, "results": [row.as_json() for row in rows]}
                (RESULTS / "mergekit_peer.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
                (RESULTS / "mergekit_peer.md").write_text(text, encoding="utf-8")
    print(text)
    if given.json:
        print(json.dumps(summary))
    return 1 if summary["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
