"""kill -9, again and again: the study of the embedded zoo ends as one that nobody killed.

    python benchmarks/kill_stress.py [--kills N] [--seed S] [--budget N] [--quick] [--json]

An uninterrupted study is run once. Another is started and its driver killed at random moments, N times, then run to the
end: trials, checksums and verdict must be equal, and every stored answer must be there once. Recovery is the time from
a kill to the first answer stored by the next process, beside that of starting the command and its engine with nothing
to recover. Prints a table, writes results/kill_stress.json, and with --json ends with one line of JSON. --quick: 3
kills, nothing written.
"""

import argparse
import json
import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from automerge.study.folder import StudyFolder
from automerge.study.records import study_rows
from automerge.study.store import open_study
from automerge.zoo import VARIABLE, prepare

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "kill_stress.json"
LONG = 900.0  # seconds no study of this takes


@dataclass(frozen=True)
class Study:
    """One study of the zoo, in a folder of its own."""

    folder: StudyFolder
    budget: int

    def start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "automerge", "search", "zoo", "--budget", str(self.budget)]
        with (self.folder.path.parent / "printed").open("ab") as file:
            return subprocess.Popen(
                [*command, "--out", str(self.folder.path)], stdout=file, stderr=file, start_new_session=True
            )

    def answers(self) -> int:
        """Stored so far."""
        try:
            with closing(sqlite3.connect(f"file:{self.folder.answers}?mode=ro", uri=True)) as database:
                return int(database.execute("SELECT count(*) FROM answers").fetchone()[0])
        except sqlite3.OperationalError:
            return 0

    def end(self) -> dict[str, Any]:
        """All that must not depend on kills."""
        rows = study_rows(open_study("zoo", self.folder.storage))
        trials = [(r.number, r.label, r.state, dict(r.params), r.value, r.record and r.record.checksum) for r in rows]
        with closing(sqlite3.connect(self.folder.answers)) as database:
            kept = database.execute("SELECT key, answer FROM answers ORDER BY key").fetchall()
        return {"trials": trials, "verdict": json.loads(self.folder.verdict.read_text()), "answers": kept}


def finish(study: Study) -> float:
    """Runs to the end; seconds to its first new answer. Raises RuntimeError where it fails."""
    process, first = study.start(), until_answers(study, None)
    code = process.wait(LONG)
    if code not in (0, 3):
        raise RuntimeError((study.folder.path.parent / "printed").read_text()[-2000:])
    return first


def until_answers(study: Study, process: "subprocess.Popen[bytes] | None") -> float:
    """Seconds until one more answer is stored, or until the process ends."""
    before, began = study.answers(), time.perf_counter()
    while study.answers() == before and time.perf_counter() - began < LONG:
        if process is not None and process.poll() is not None:
            break
        time.sleep(0.02)
    return time.perf_counter() - began


def killed(study: Study, kills: int, chance: random.Random) -> tuple[int, list[float]]:
    """(drivers killed, seconds from each start to the first new answer)."""
    done, recoveries = 0, []
    for _ in range(kills):
        process = study.start()
        if chance.random() < 0.25:  # while it starts
            time.sleep(chance.random() * 3)
        else:
            recoveries.append(until_answers(study, process))
            time.sleep(chance.random() * 2)
        os.killpg(process.pid, signal.SIGKILL)
        done += process.wait() == -signal.SIGKILL
    return done, recoveries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=int, default=30)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    kills = 3 if args.quick else args.kills
    os.environ.setdefault(VARIABLE, str(prepare()))
    with tempfile.TemporaryDirectory() as root:
        whole, cut = (Study(StudyFolder(Path(root, name, "zoo")), args.budget) for name in ("whole", "cut"))
        for study in (whole, cut):
            study.folder.path.parent.mkdir()
        plain = finish(whole)
        done, recoveries = killed(cut, kills, random.Random(args.seed))
        finish(cut)
        ends = whole.end(), cut.end()
        same = {key: ends[0][key] == ends[1][key] for key in ("trials", "verdict", "answers")}
        for one, other in zip(ends[0]["trials"], ends[1]["trials"], strict=False):
            if one != other:
                print(f"differ: {one}\n   from: {other}")
    results = {
        "command": f"python benchmarks/kill_stress.py --kills {kills} --seed {args.seed} --budget {args.budget}",
        "kills": done,
        "same": same,
        "recovery_seconds": statistics.median(recoveries) if recoveries else None,
        "plain_start_seconds": plain,
    }
    table = Table("what", "figure")
    table.add_row("drivers killed", f"{done} of {kills} starts")
    for key, equal in same.items():
        table.add_row(f"{key} as in the study nobody killed", "equal" if equal else "[red]differ[/red]")
    table.add_row(
        "start of the command to its first answer", f"{plain:.1f} s; after a kill {results['recovery_seconds']:.1f} s"
    )
    Console().print(table)
    if not args.quick:
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if args.json:
        print(json.dumps(results))
    sys.exit(0 if all(same.values()) else 1)


if __name__ == "__main__":
    main()
