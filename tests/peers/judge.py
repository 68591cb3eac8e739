"""Both tools' results of one config beside each other, judged by its expectation: one row of the table of results."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.peers import compare, expected
from tests.peers.outcomes import pooled, tally


@dataclass
class Row:
    """One config on one family of models."""

    config: str
    method: str
    models: str
    expectation: expected.Kind
    tensors: int = 0
    elements: int = 0
    differ: int = 0  # elements whose bits differ
    over_one: int = 0  # of those, more than one ulp apart
    ulps: int = 0  # the largest distance
    largest: float = 0.0  # the largest absolute distance
    explained: int = 0  # differing elements that the expectation allows
    rate: tuple[float, float] | None = None  # shares kept, ours and mergekit's
    deviations: tuple[float, float] | None = None  # the largest of any tensor's statistics, ours and mergekit's
    complaints: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.complaints

    def as_json(self) -> dict[str, Any]:
        """Without what is not set."""
        return {key: value for key, value in asdict(self).items() if value not in (None, ())}


def read_config(path: Path) -> dict[str, Any]:
    """A mergekit YAML as plain data."""
    from ruamel.yaml import YAML

    return dict(YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")))


def judge(
    name: str,
    models: str,
    config: Path,
    ours: Path,
    theirs: Path,
    config_written: bool = True,
    kind: expected.Kind | None = None,
) -> Row:
    """Compares two outputs of one config. `config_written` is false where mergekit failed to write its config.json;
    `kind` takes the place of the config's own expectation."""
    settings = read_config(config)
    row = Row(name, settings["merge_method"], models, kind or expected.kind(name))
    a, b = compare.read(ours), compare.read(theirs)
    complaints = compare.same_layout(a, b)
    if config_written:
        complaints += compare.config_differences(ours, theirs)
        lines, moved = compare.tokenizer_differences(ours, theirs)
        complaints += lines
        # mergekit orders added tokens by the hashes of the models' paths; a token's row is what counts.
        b = compare.reordered(b, moved)
    if not complaints:
        inputs = {path: compare.read(Path(path)) for path in sorted(models_of(settings)) if Path(path).is_dir()}
        row.tensors, row.elements = len(a), sum(x.numel() for x in a.values())
        if row.expectation == "distribution":
            complaints += _distribution(row, settings, a, b, inputs)
        elif row.expectation == "outcomes":
            complaints += _outcomes(row, settings, a, b, inputs)
        else:
            for tensor in sorted(a):
                complaints += _tensor(row, settings, tensor, a[tensor], b[tensor], inputs)
    row.complaints = tuple(complaints)
    return row


def models_of(settings: Mapping[str, Any]) -> set[str]:
    """Every model path a config names."""
    found = {str(settings["base_model"])} if "base_model" in settings else set()
    found |= {str(model["model"]) for model in settings.get("models", [])}
    return found | {str(source["model"]) for piece in settings.get("slices", []) for source in piece["sources"]}


def _tensor(
    row: Row,
    settings: Mapping[str, Any],
    name: str,
    ours: Tensor,
    theirs: Tensor,
    inputs: Mapping[str, dict[str, Tensor]],
) -> list[str]:
    """Adds one tensor's differences to the row; what is against the expectation, a line."""
    found = compare.difference(name, ours, theirs)
    row.differ += found.differ
    row.over_one += found.over_one
    row.ulps = max(row.ulps, found.ulps)
    row.largest = max(row.largest, found.largest)
    differ = compare.bits_differ(ours, theirs)
    if row.expectation == "bit":
        allowed = torch.zeros_like(differ)
    elif row.expectation == "ulp":
        held = [tensors[name].float() for tensors in inputs.values() if name in tensors]
        share = expected.ROUNDED if row.method in ("linear", "task_arithmetic") else expected.REDUCED
        allowed = expected.close(ours, theirs, held, share)
    else:
        base = inputs[str(settings["base_model"])][name].float()
        sources = [inputs[str(model["model"])][name].float() for model in settings["models"]]
        mine = expected.possible(settings, ours, base, sources)
        allowed = mine & expected.possible(settings, theirs, base, sources)
        differ = differ | ~mine  # a result that no choice gives is wrong even where both tools agree on it
    row.explained += int((differ & allowed).sum())
    wrong = differ & ~allowed
    if not wrong.any():
        return []
    at = int(wrong.flatten().nonzero()[0])
    return [
        f"{name}: {int(wrong.sum())} of {wrong.numel()} elements are not {row.expectation}; the first, [{at}]: "
        f"{ours.flatten()[at].item():.9g} and {theirs.flatten()[at].item():.9g}; at most {found.ulps} ulp apart"
    ]


def _distribution(
    row: Row,
    settings: Mapping[str, Any],
    ours: dict[str, Tensor],
    theirs: dict[str, Tensor],
    inputs: Mapping[str, dict[str, Tensor]],
) -> list[str]:
    """Each tool's keep rate, mean and variance per tensor, against the probabilities."""
    base, source = inputs[str(settings["base_model"])], inputs[str(settings["models"][0]["model"])]
    rescale = settings.get("parameters", {}).get("rescale", True)
    complaints, rates, worst = [], [], []
    for tool, merged in (("ours", ours), ("mergekit's", theirs)):
        spreads = []
        for name in sorted(merged):
            keep = expected.keep_probability(settings, 0, source[name].float() - base[name].float())
            found = compare.spread(name, base[name], source[name], merged[name], keep, rescale)
            if found is None:
                if compare.bits_differ(merged[name], base[name].to(merged[name].dtype)).any():
                    complaints.append(f"{tool} {name}: there is no delta, and yet it moved")
                continue
            spreads.append(found)
        groups = compare.pooled(spreads)
        for group in groups:
            if max(map(abs, group.deviations)) > expected.LIMIT or group.norm > expected.NORM:
                complaints.append(f"{tool} {group.name}: {group.deviations} standard deviations, {group}")
        rates.append(round(sum(s.kept for s in spreads) / sum(s.elements for s in spreads), 5))
        worst.append(round(max(max(map(abs, group.deviations)) for group in groups), 2))
    row.rate, row.deviations = (rates[0], rates[1]), (worst[0], worst[1])
    return complaints


def _outcomes(
    row: Row,
    settings: Mapping[str, Any],
    ours: dict[str, Tensor],
    theirs: dict[str, Tensor],
    inputs: Mapping[str, dict[str, Tensor]],
) -> list[str]:
    """Each tool's results among those that the masks of several sources can give, and how often each was given."""
    base = inputs[str(settings["base_model"])]
    sources = [inputs[str(model["model"])] for model in settings["models"]]
    complaints, rates, worst = [], [], []
    for tool, merged in (("ours", ours), ("mergekit's", theirs)):
        tallies = []
        for name in sorted(merged):
            found = tally(settings, merged[name], base[name].float(), [source[name].float() for source in sources])
            if found.strange:
                complaints.append(
                    f"{tool} {name}: {found.strange} of {merged[name].numel()} are no outcome of any masks"
                )
            tallies.append((name, found))
        tallies = pooled(tallies)
        for name, found in tallies:
            if max(map(abs, found.deviations)) > expected.LIMIT:
                complaints.append(f"{tool} {name}: {found.deviations} standard deviations")
        rates.append(round(sum(f.kept for _, f in tallies) / sum(f.told for _, f in tallies) / len(sources), 5))
        worst.append(round(max(max(map(abs, found.deviations)) for _, found in tallies), 2))
    row.rate, row.deviations = (rates[0], rates[1]), (worst[0], worst[1])
    return complaints


def merge_ours(config: Path, out: Path) -> None:
    """`automerge merge CONFIG OUT --json` in this process. Raises RuntimeError with what it printed if it fails."""
    from typer.testing import CliRunner

    from automerge.cli import make_app

    result = CliRunner().invoke(make_app(), ["merge", str(config), str(out), "--json"])
    if result.exit_code:
        raise RuntimeError(f"automerge merge: {result.exception!r}\n{result.output}")
