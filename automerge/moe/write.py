"""Writes a mixture as a Hugging Face folder: complete and verified under its final name, or not there at all."""

import json
import time
from pathlib import Path

from automerge import __version__
from automerge.export.checkpoint import copy_tokenizer
from automerge.export.folder import finish, part_of
from automerge.export.verify import PROVENANCE
from automerge.export.weights import MAX_SHARD_BYTES, Progress, prove, write_weights
from automerge.merge.sources.locate import hub_id
from automerge.merge.vocabulary.merged import GENERATION
from automerge.moe.mixture import Mixture
from automerge.records import Applied
from automerge.router.gates import closeness
from automerge.study.made_with import made_with

CONFIG = "moe_config.yml"

_CARD = """---
library_name: transformers
tags: [merge, moe, automerge]
---
# {title}

A mixture of {n} experts, {k} of them for each token, put together by automerge {version} from models that were trained
apart. Nothing was trained.

| | |
|---|---|
| architecture | {architecture} |
| parameters | {parameters:,} in all, {active:,} of them for a token |
| attention, embeddings, tokenizer | {base} |
{experts}
| router | {mode}; the two most alike rows of a layer have a cosine of {cosine:.3f} (mean over layers) |
| weights checksum | `{checksum}` |

`{config}` is what it was made from, `{provenance}` names every model by its content; `automerge verify` takes every
tensor but the router's from those models again and compares it.
"""


def write_mixture(
    mixture: Mixture,
    source: str,
    out: Path,
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Progress | None = None,
) -> Applied:
    """Into the folder `out`, which must not exist or be empty. `source` is the config's text, kept beside the weights.

    Raises ExportError where it cannot be written, MergeError as making the tensors does; nothing is left behind then.
    """
    begun = time.perf_counter()
    tell = progress or (lambda line: None)
    with part_of(out) as part:
        write_weights(mixture, part, mixture.give_back, tell, max_shard_bytes)
        base = mixture.base
        _write(part / "config.json", json.dumps(mixture.config_json(), indent=2))
        _write(part / CONFIG, source)
        _write(part / "README.md", _card(mixture, out.name))
        _write(part / PROVENANCE, json.dumps(_provenance(mixture), indent=2))
        if (generation := base.models.generation_config(base.recipe)) is not None:
            _write(part / GENERATION, json.dumps(generation, indent=2))
        copy_tokenizer(base.models.tokenizer_folder(base.recipe), part)
        tell("verifying")
        prove(part, mixture.checksum)
        finish(part, out)
    return Applied(mixture.checksum, time.perf_counter() - begun, mixture.bytes)


def _provenance(mixture: Mixture) -> dict[str, object]:
    return {
        "checksum": mixture.checksum,
        "parameters": mixture.parameters,
        "active": mixture.active,
        "config": json.loads(mixture.config.model_dump_json()),
        "models": mixture.digests,
        "written_with": made_with(),
    }


def _card(mixture: Mixture, title: str) -> str:
    config = mixture.config
    rows = [f"| expert {n} | {_name(e.source_model.path)} |" for n, e in enumerate(config.experts)]
    rows += [f"| shared expert | {_name(e.source_model.path)} |" for e in config.shared_experts]
    return _CARD.format(
        title=title,
        n=len(config.experts),
        k=config.experts_per_token,
        version=__version__,
        architecture=mixture.family.architecture,
        parameters=mixture.parameters,
        active=mixture.active,
        base=_name(config.base_model.path),
        experts="\n".join(rows),
        mode=config.gate_mode,
        cosine=closeness(mixture.rows[:, : len(config.experts)]),
        checksum=mixture.checksum,
        config=CONFIG,
        provenance=PROVENANCE,
    )


def _name(path: str) -> str:
    """A model as a reader elsewhere knows it: a hub id, or a folder's last name."""
    return hub_id(path) or Path(path).name


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
