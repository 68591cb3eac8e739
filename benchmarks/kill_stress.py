"""kill -9, again and again, at random moments: studies lose nothing and end.

    python benchmarks/kill_stress.py [--kills N] [--seed S] [--budget N] [--scene NAME …] [--quick] [--json]

Five scenes share the kills, 4 : 2 : 2 : 1 : 1. Each goes through as many studies as its kills need.

    driver     SQLite, one driver, which is killed. The study ends as one that nobody killed: trials, verdict, answers
    workers    SQLite, a driver with two engines in processes of their own; any of the three is killed
    drivers    PostgreSQL, two drivers share the study; either is killed
    core       SQLite, a driver with vLLM; its engine core or the driver is killed
    actors     SQLite, a driver with two actors on a Ray cluster; any of the three is killed

The studies are of the embedded zoo, with vLLM of four small models that it can serve. In all: every candidate ends
once, no block is asked again but those that were being asked at a kill, no process is left behind. Recovery is the
time from the start of the command after a kill to its first new answer, beside that of a start with nothing to recover.
Prints a table, writes results/kill_stress.json (a scene that is not asked for keeps what is there), and with --json
ends with one line of JSON. --quick: a kill a scene, nothing written.
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
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # for tests

from outcome import hand_out  # noqa: E402

from automerge.study.folder import StudyFolder  # noqa: E402
from automerge.study.records import Row, study_rows  # noqa: E402
from automerge.study.store import open_study  # noqa: E402
from automerge.zoo import VARIABLE, prepare  # noqa: E402
from tests.cli.world import make_models, make_world  # noqa: E402
from tests.postgres import NONE, binaries, server  # noqa: E402
from tests.ray_cluster import actors, cluster  # noqa: E402

RESULTS = ROOT / "results" / "kill_stress.json"
LONG = 900.0  # seconds no study of this takes
ENDED = (0, 3)  # exit codes of a search that came to its verdict


@dataclass
class Tally:
    """What a scene came to."""

    kills: int = 0
    studies: int = 0
    problems: list[str] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)  # seconds
    plain: float = 0.0  # seconds of a start with nothing to recover


@dataclass(frozen=True)
class Driver:
    """The command that drives one study, in a folder of its own. What its engine is asked is logged."""

    place: Path
    budget: int
    options: tuple[str, ...] = ()
    storage: str | None = None
    config: str = "zoo"

    @property
    def name(self) -> str:
        return Path(self.config).stem

    @property
    def folder(self) -> StudyFolder:
        return StudyFolder(self.place / self.name)

    def start(self) -> "subprocess.Popen[bytes]":
        self.place.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.cli.logged", "search", self.config, "--budget", str(self.budget)]
        command += ["--out", str(self.folder.path), *self.options]
        command += ["--storage", self.storage] if self.storage else []
        environment = os.environ | {"AUTOMERGE_TEST_LOG": str(self.place / "log")}
        with (self.place / "printed").open("ab") as file:
            return subprocess.Popen(
                command, stdout=file, stderr=file, cwd=ROOT, env=environment, start_new_session=True
            )

    def finish(self) -> float:
        """Runs to the end; seconds to the first new answer. Raises RuntimeError where it fails."""
        process = self.start()
        first = self.until_answers(process)
        self.ended(process)
        return first

    def ended(self, process: "subprocess.Popen[bytes]") -> None:
        if process.wait(LONG) not in ENDED:
            raise RuntimeError((self.place / "printed").read_text()[-2000:])

    def answers(self) -> int:
        """Stored so far."""
        try:
            with closing(sqlite3.connect(f"file:{self.folder.answers}?mode=ro", uri=True)) as database:
                return int(database.execute("SELECT count(*) FROM answers").fetchone()[0])
        except sqlite3.OperationalError:
            return 0

    def until_answers(self, process: "subprocess.Popen[bytes]") -> float:
        """Seconds until one more answer is stored, or until the process ends."""
        before, began = self.answers(), time.perf_counter()
        while self.answers() == before and process.poll() is None and time.perf_counter() - began < LONG:
            time.sleep(0.02)
        return time.perf_counter() - began

    def asked_again(self) -> int:
        """Blocks that the engine was asked more than once."""
        log = self.place / "log"
        return sum(count - 1 for count in Counter(log.read_text().splitlines()).values()) if log.exists() else 0

    def rows(self) -> list[Row]:
        return study_rows(open_study(self.name, self.storage or self.folder.storage))

    def end(self) -> dict[str, Any]:
        """All that must not depend on kills."""
        rows = self.rows()
        trials = [(r.number, r.label, r.state, dict(r.params), r.value, r.record and r.record.checksum) for r in rows]
        with closing(sqlite3.connect(self.folder.answers)) as database:
            kept = database.execute("SELECT key, answer FROM answers ORDER BY key").fetchall()
        return {"trials": trials, "verdict": json.loads(self.folder.verdict.read_text()), "answers": kept}


def kill(process: "subprocess.Popen[bytes]", victim: int | None = None) -> bool:
    """kill -9 of the process, or of one that it started; whether it was there to be killed."""
    try:
        os.kill(victim or process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return victim is not None or process.wait() == -signal.SIGKILL


def members(process: "subprocess.Popen[bytes]") -> list[int]:
    """Every living process of its session."""
    found = subprocess.run(["ps", "-o", "pid=", "-g", str(process.pid)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


def left_behind(process: "subprocess.Popen[bytes]", others: Callable[..., list[int]] = members) -> list[int]:
    """What of an ended process's session, or of its engines, still lives after 20 seconds."""
    deadline = time.monotonic() + 20
    while (left := {*members(process), *others(process)}) and time.monotonic() < deadline:
        time.sleep(0.1)
    return sorted(left)


def once_each(driver: Driver) -> list[str]:
    """What is wrong with the ends of the candidates."""
    rows = driver.rows()
    finished, labels = sum(row.finished for row in rows), len({row.label for row in rows})
    if not finished == labels == len(rows) == driver.budget:
        return [f"{driver.budget} candidates: {len(rows)} rows, {finished} finished, {labels} labels"]
    return []


def scene_driver(kills: int, budget: int, chance: random.Random, folder: Path) -> Tally:
    tally, whole = Tally(), Driver(folder / "whole", budget)
    tally.plain = whole.finish()
    expected = whole.end()
    while tally.kills < kills:
        driver, here, ended = Driver(folder / str(tally.studies), budget), 0, False
        while tally.kills < kills and not ended:
            process = driver.start()
            if chance.random() < 0.25:  # while it starts
                time.sleep(chance.random() * 3)
            else:
                seconds = driver.until_answers(process)
                tally.recoveries += [seconds] if process.poll() is None else []
                time.sleep(chance.random() * 2)
            ended = not kill(process)
            tally.kills += not ended
            here += not ended
            tally.problems += [f"left behind: {left}"] if (left := left_behind(process)) else []
        driver.finish()
        tally.studies += 1
        found = driver.end()
        tally.problems += [f"study {tally.studies}: {key} differ" for key in expected if found[key] != expected[key]]
        tally.problems += once_each(driver)
        if driver.asked_again() > here:
            tally.problems.append(f"study {tally.studies}: {driver.asked_again()} blocks asked again, {here} kills")
    return tally


def scene_engines(
    kills: int,
    chance: random.Random,
    make: Callable[[Path], Driver],
    folder: Path,
    engines: Callable[["subprocess.Popen[bytes]"], list[int]],
    width: int,
) -> Tally:
    """A driver and so many engines in other processes; most kills are of those."""
    tally = Tally()
    while tally.kills < kills:
        driver, asked = make(folder / str(tally.studies)), 0
        process = driver.start()
        while tally.kills < kills:
            driver.until_answers(process)
            time.sleep(chance.random() * 2)
            if process.poll() is not None:
                break
            living = engines(process)
            if living and chance.random() < 0.7:
                killed = kill(process, chance.choice(living))
                tally.kills += killed
                asked += killed
                continue
            tally.kills += kill(process)
            asked += width
            tally.problems += [f"left behind: {left}"] if (left := left_behind(process, engines)) else []
            process = driver.start()
        driver.ended(process)
        tally.studies += 1
        tally.problems += once_each(driver)
        if (again := driver.asked_again()) > asked:
            tally.problems.append(f"study {tally.studies}: {again} blocks asked again, of {asked} at kills")
        tally.problems += [f"left behind: {left}"] if (left := left_behind(process, engines)) else []
    return tally


def started(process: "subprocess.Popen[bytes]") -> list[int]:
    """The processes that it started and that live."""
    return [pid for pid in members(process) if pid != process.pid]


def scene_workers(kills: int, budget: int, chance: random.Random, folder: Path) -> Tally:
    def driver(place: Path) -> Driver:
        return Driver(place, budget, ("--workers", "2"))

    return scene_engines(kills, chance, driver, folder, started, 2)


def scene_core(kills: int, budget: int, chance: random.Random, folder: Path) -> Tally:
    config = make_world(folder / "world", make_models(folder / "models", hidden=128))
    arguments = {"enforce_eager": True, "max_model_len": 256, "max_num_seqs": 8}
    config.write_text(config.read_text() + f"engine: {json.dumps({'name': 'vllm', 'arguments': arguments})}\n")

    def driver(place: Path) -> Driver:
        return Driver(place, budget, config=str(config))

    def core(process: "subprocess.Popen[bytes]") -> list[int]:
        return [pid for pid in started(process) if b"vllm_host" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    return scene_engines(kills, chance, driver, folder, core, 1)


def scene_actors(kills: int, budget: int, chance: random.Random, folder: Path) -> Tally:
    with cluster(2) as address:

        def driver(place: Path) -> Driver:
            return Driver(place, budget, ("--workers", "2", "--ray", address))

        return scene_engines(kills, chance, driver, folder, lambda process: actors(), 2)


def scene_drivers(kills: int, budget: int, chance: random.Random, folder: Path) -> Tally:
    tally = Tally()
    with server() as database:
        while tally.kills < kills:
            url, here = database.database(f"study{tally.studies}"), 0
            drivers = [Driver(folder / f"{tally.studies}-{n}", budget, storage=url) for n in range(2)]
            processes = [driver.start() for driver in drivers]
            while tally.kills < kills:
                index = chance.randrange(2)
                drivers[index].until_answers(processes[index])
                time.sleep(chance.random() * 2)
                if not kill(processes[index]):
                    break
                tally.kills += 1
                here += 1
                tally.problems += [f"left behind: {left}"] if (left := left_behind(processes[index])) else []
                processes[index] = drivers[index].start()
            for driver, process in zip(drivers, processes, strict=True):
                driver.ended(process)
            tally.studies += 1
            tally.problems += once_each(drivers[0])
            if len({driver.folder.verdict.read_text() for driver in drivers}) > 1:
                tally.problems.append(f"study {tally.studies}: the drivers' verdicts differ")
            if (again := sum(driver.asked_again() for driver in drivers)) > here:
                tally.problems.append(f"study {tally.studies}: {again} blocks asked again, {here} kills")
    return tally


Scene = Callable[[int, int, random.Random, Path], Tally]
SCENES: dict[str, tuple[Scene, float]] = {  # with their shares of the kills
    "driver": (scene_driver, 0.4),
    "workers": (scene_workers, 0.2),
    "drivers": (scene_drivers, 0.2),
    "core": (scene_core, 0.1),
    "actors": (scene_actors, 0.1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=int, default=30)
    parser.add_argument("--scene", action="append", choices=SCENES)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if binaries() is None:
        sys.exit(NONE)
    os.environ.setdefault(VARIABLE, str(prepare()))
    chosen = args.scene or list(SCENES)
    found: dict[str, Any] = {}
    if args.scene and RESULTS.exists():
        found = json.loads(RESULTS.read_text(encoding="utf-8"))["scenes"]
    with tempfile.TemporaryDirectory() as root:
        for number, (name, (scene, share)) in enumerate(SCENES.items()):
            if name not in chosen:
                continue
            kills = 1 if args.quick else round(args.kills * share)
            tally = scene(kills, args.budget, random.Random(args.seed * len(SCENES) + number), Path(root, name))
            command = f"python benchmarks/kill_stress.py --scene {name} --kills {args.kills} --seed {args.seed}"
            found[name] = {"command": f"{command} --budget {args.budget}", "kills": tally.kills}
            found[name] |= {"studies": tally.studies, "problems": tally.problems}
            if name == "driver" and tally.recoveries:
                found[name] |= {"recovery_seconds": statistics.median(tally.recoveries), "plain_seconds": tally.plain}
            print(f"{name}: {tally.kills} kills, {tally.problems or 'no problem'}", flush=True)
    results = {
        "kills": sum(scene["kills"] for scene in found.values()),
        "scenes": {name: found[name] for name in SCENES if name in found},
    }
    table = Table("scene", "kills", "studies", "problems")
    for name, scene in results["scenes"].items():
        table.add_row(name, str(scene["kills"]), str(scene["studies"]), "; ".join(scene["problems"]) or "none")
    Console().print(table)
    if "recovery_seconds" in found.get("driver", {}):
        plain, after = found["driver"]["plain_seconds"], found["driver"]["recovery_seconds"]
        print(f"first answer after a start: {plain:.1f} s; after a kill {after:.1f} s (median)")
    hand_out(results, RESULTS, quick=args.quick, as_json=args.json)
    sys.exit(1 if any(scene["problems"] for scene in found.values()) else 0)


if __name__ == "__main__":
    main()
