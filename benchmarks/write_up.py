"""Writes a finished study up for results/: README.md, verdict.json, trials.json and the leading candidate's recipe.

python benchmarks/write_up.py STUDY_FOLDER OUT --command "automerge search …" [--minutes 50] [--note FILE.md]
"""

import argparse
import json
import shutil
from pathlib import Path

from automerge.cli.opening import open_existing
from automerge.gate.verdict import Verdict
from automerge.recipe import Recipe, parse_recipe
from automerge.records import Interval
from automerge.report.tables import gate_lines, markdown
from automerge.study.finals import last_verdict
from automerge.study.records import study_rows


def span(interval: Interval) -> str:
    return f"{interval.estimate:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"


def differences(verdict: Verdict) -> str:
    """Each candidate minus each baseline."""
    names = [judged.name for judged in verdict.judged]
    lines = ["| baseline | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for baseline in verdict.judged[0].differences:
        cells = " | ".join(span(judged.differences[baseline]) for judged in verdict.judged)
        lines.append(f"| {baseline} | {cells} |")
    return "\n".join(lines)


def parameters(recipe: Recipe) -> str:
    lines = []
    for group in recipe.groups:
        for name, value in group.values.items():
            shown = f"{value:.4f}" if isinstance(value, float) else ", ".join(f"{k} {v:.4f}" for k, v in value.items())
            lines.append(f"- {group.name}, {name}: {shown}")
    return "\n".join(lines)


def write_up(folder: Path, out: Path, command: str, minutes: float | None, note: str) -> None:
    opened = open_existing(folder, None, None)
    verdict = last_verdict(opened.study)
    assert verdict is not None, "the study has no verdict yet"
    rows = study_rows(opened.study)
    leading = verdict.winner or (verdict.judged[0].name if verdict.judged else "base")
    record = next(row.record for row in rows if row.label == leading)
    assert record is not None
    recipe = parse_recipe(record.recipe)
    tried = [row.record for row in rows if row.record]
    spent = sum(r.seconds["total"] for r in tried) / 60
    judged = next(j for j in verdict.judged if j.name == leading)
    level = 100 * next(iter(judged.differences.values())).confidence
    parts = [
        f"# {opened.study.study_name}: {opened.config.about}",
        f"    {command}",
        f"{len(tried)} candidates in {spent:.1f} minutes, {sum(r.tokens for r in tried)} tokens generated in the search"
        + (f"; with the held-out items {minutes:.0f} minutes in all." if minutes else "."),
        f"**{verdict.outcome}**: {verdict.reason}.",
        *([note.strip()] if note else []),
        f"## Held-out items\n\nScores with {100 * verdict.confidence:g}% intervals.\n\n{markdown(verdict)}",
        f"## Differences\n\nIn the objective, paired by item, {level:.1f}% intervals.\n\n{differences(verdict)}",
        f"## Gates of {leading}\n\n" + "\n".join(f"- {line}" for line in gate_lines(judged.gates)),
        f"## Recipe of {leading}\n\nWeights checksum `{record.checksum}`.\n\n{parameters(recipe)}",
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    (out / "trials.json").write_text(json.dumps([row.to_json() for row in rows], indent=1) + "\n", encoding="utf-8")
    (out / "recipe.json").write_text(json.dumps(recipe.canonical(), indent=2) + "\n", encoding="utf-8")
    if (folder / "verdict.json").resolve() != (out / "verdict.json").resolve():
        shutil.copy(folder / "verdict.json", out / "verdict.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--command", required=True)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--note", type=Path)
    arguments = parser.parse_args()
    note = arguments.note.read_text(encoding="utf-8") if arguments.note else ""
    write_up(arguments.folder, arguments.out, arguments.command, arguments.minutes, note)


if __name__ == "__main__":
    main()
