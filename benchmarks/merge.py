"""How fast a merge is: against the memory's bandwidth, against mergekit, as a whole command, and as models grow.

    python benchmarks/merge.py [--models BASE SOURCE SOURCE] [--section NAME]… [--rounds 9] [--quick] [--json]

Prints a table a section, writes results/merge.json, results/merge.md and results/merge_cost.svg, and with --json ends
with one line of JSON. A section run by itself takes its place in the files. `mergekit` and `commands` need the peer's
python, AUTOMERGE_MERGEKIT_PYTHON or .venv-mergekit's, and are left out, with a line that says so, where there is none.
Without --models they merge random checkpoints of SmolLM2's shape. Everything compared takes turns; figures are medians.
--quick takes small models and writes nothing under results/. On a GPU: benchmarks/merge_gpu.py.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for tests.peers

from speed import bandwidth, commands, cost, peer  # noqa: E402
from speed.models import SMALL, SMOLLM2, own_copies, write_models  # noqa: E402
from speed.rounds import Row, Section, load, machine, markdown, show  # noqa: E402

from tests.peers.peer import NO_PEER, peer_python, peer_version  # noqa: E402

RESULTS = ROOT / "results"
NAMES = ("bandwidth", "cost", "mergekit", "commands")
WITH_PEER = ("mergekit", "commands")
TITLE = "# How fast a merge is"


def measure(name: str, rounds: int, quick: bool, models: list[Path]) -> Section:
    """One section."""
    sections: dict[str, Callable[[], Section]] = {
        "bandwidth": lambda: bandwidth.measure(rounds, quick),
        "cost": lambda: cost.measure(rounds, quick),
        "mergekit": lambda: peer.measure(models, rounds, quick),
        "commands": lambda: commands.measure(models, rounds, quick),
    }
    return sections[name]()


def write(summary: Row) -> None:
    """The result files."""
    found = RESULTS / "merge.json"
    sections = json.loads(found.read_text(encoding="utf-8"))["sections"] if found.is_file() else {}
    sections |= summary["sections"]
    summary = {**summary, "sections": {name: sections[name] for name in NAMES if name in sections}}
    RESULTS.mkdir(exist_ok=True)
    found.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    parts = [TITLE, f"    {summary['command']}", *map(markdown, summary["sections"].values())]
    (RESULTS / "merge.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    if "cost" in summary["sections"]:
        (RESULTS / "merge_cost.svg").write_text(cost.picture(summary["sections"]["cost"]), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs=3, type=Path, metavar="MODEL", help="the base and two full fine-tunes")
    parser.add_argument("--section", action="append", choices=NAMES, help="only this one; may be given again")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="small models, one round, and nothing is written")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    chosen = parser.parse_args()
    named = " --models " + " ".join(path.name for path in chosen.models) if chosen.models else ""
    summary: Row = {"benchmark": "merge", "command": f"python benchmarks/merge.py{named}", "quick": chosen.quick}
    summary |= {"sections": {}, "skipped": []}
    here = machine() | ({"peer": peer_version()} if peer_python() is not None else {})
    with tempfile.TemporaryDirectory() as folder:
        models: list[Path] = []
        for name in chosen.section or NAMES:
            if name in WITH_PEER and peer_python() is None:
                summary["skipped"].append(name)
                print(f"{name}: left out, {NO_PEER}")
                continue
            if name in WITH_PEER and not models:
                size = SMALL if chosen.quick else SMOLLM2
                given = chosen.models
                models = own_copies(Path(folder), given) if given else write_models(Path(folder), size, 2)
            before = load()
            section = measure(name, 1 if chosen.quick else chosen.rounds, chosen.quick, models)
            show(section)
            plain = asdict(section)
            plain["columns"] = [list(column.values()) for column in plain["columns"]]
            summary["sections"][name] = {"machine": here, "load": before, **plain}
    if not chosen.quick:
        write(summary)
    if chosen.json:
        print(json.dumps(summary))


if __name__ == "__main__":
    main()
