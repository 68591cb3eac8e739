"""Would fewer, better chosen items rank merges as all of them do? On the recorded zoo landscape.

    python benchmarks/subsets.py [--json]

Of each skill's 360 search items a share is kept: at random (as racing's first blocks are), those whose right answers
vary most over the eight baselines, or those whose likelihoods do. Kendall's τ of the objective with that of all items,
over the other merges, and over the best quarter of them alone. Means of 10 draws. Prints a table, writes
results/subsets.json, and with --json ends with one line of JSON.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import kendalltau

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "subsets.json"
SEARCH, DRAWS, SHARES = 360, 10, (0.1, 0.2, 0.4)
WAYS = ("at random", "variance of right answers", "spread of likelihoods")

Array = NDArray[Any]


class Landscape:
    """Merges × items. The first merges are the baselines."""

    def __init__(self, path: Path) -> None:
        held = np.load(path)
        self.skill: Array = held["skill"]
        items = len(self.skill)
        self.right: Array = np.unpackbits(held["right"], axis=1)[:, :items].astype(float)
        self.likely: Array = held["likely"] / 255.0
        self.skills, self.baselines = len(held["skills"]), len(held["baselines"])
        self.search: list[Array] = [np.flatnonzero(self.skill == s)[:SEARCH] for s in range(self.skills)]

    def objective(self, chosen: list[Array]) -> Array:
        """(merges,) from these items of each skill."""
        found: Array = np.mean([self.right[:, items].mean(axis=1) for items in chosen], axis=0)
        return found

    def choose(self, way: str, share: float, chance: np.random.Generator) -> list[Array]:
        """Items of each skill."""
        return [self._choose_one(way, items, int(share * len(items)), chance) for items in self.search]

    def _choose_one(self, way: str, items: Array, count: int, chance: np.random.Generator) -> Array:
        if way == WAYS[0]:
            return chance.choice(items, count, replace=False)
        known = self.right if way == WAYS[1] else self.likely
        spread = known[: self.baselines, items].std(axis=0) + 1e-6 * chance.random(len(items))  # ties at random
        found: Array = items[np.argsort(-spread)[:count]]
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    landscape = Landscape(ROOT / "results" / "landscape" / "zoo.npz")
    chance = np.random.default_rng(0)
    whole = landscape.objective(landscape.search)[landscape.baselines :]
    best = np.argsort(-whole)[: len(whole) // 4]
    rows = []
    for share in SHARES:
        for way in WAYS:
            taus = []
            for _ in range(DRAWS):
                found = landscape.objective(landscape.choose(way, share, chance))[landscape.baselines :]
                taus.append((kendalltau(found, whole)[0], kendalltau(found[best], whole[best])[0]))
            overall, among_best = np.mean(taus, axis=0)
            rows.append({"share": share, "way": way, "tau": float(overall), "tau_of_best": float(among_best)})
    table = Table("items kept", "chosen by", "Kendall's τ", "of the best quarter")
    for row in rows:
        table.add_row(f"{row['share']:.0%}", str(row["way"]), f"{row['tau']:.3f}", f"{row['tau_of_best']:.3f}")
    Console().print(table)
    results = {"command": "python benchmarks/subsets.py", "merges": len(whole), "rows": rows}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if args.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
