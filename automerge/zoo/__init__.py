"""The embedded default: a tiny Llama base and three fine-tunes of it, trained on the spot, offline, once.

It knows what each checkpoint is trained on and where the result is kept; it does not know merging, search or scoring.

The base reads text of all three skills in which answers are as often careless as careful. Each fine-tune reads
careful text of its own skill, and, as a specialist's text does, some that is careless about another: math about
writing, coding about math, writing about coding. The math fine-tune moves far from the base, the other two little.
So the deltas pull against each other at unlike scales, which is what a search over weights is for. All scores are
measured on prompts the models never saw.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from automerge.files import cache_folder
from automerge.zoo import items
from automerge.zoo.items import SKILLS, Text

Progress = Callable[[str, int, int], None]
VARIABLE = "AUTOMERGE_ZOO"  # names the folder in the files of the zoo; set when a config asks for it


@dataclass(frozen=True)
class Training:
    """How one checkpoint is made from the one before it."""

    texts: tuple[Text, ...]
    steps: int
    rate: float


@dataclass(frozen=True)
class Settings:
    """Everything the zoo's bytes depend on, beside the source text of this package and torch itself."""

    width: int = 96
    layers: int = 4
    heads: int = 4
    batch: int = 128
    items: int = 800
    seed: int = 0
    base: Training = Training(
        (Text("math", 0.36, 0.5), Text("coding", 0.44, 0.5), Text("writing", 0.2, 0.5)), 450, 3e-3
    )
    fine_tunes: dict[str, Training] = field(
        default_factory=lambda: {
            "math": Training((Text("math", 0.7, 0.0), Text("writing", 0.2, 0.9), Text("coding", 0.1, 0.5)), 120, 1e-3),
            "coding": Training(
                (Text("coding", 0.75, 0.0), Text("math", 0.06, 0.9), Text("writing", 0.19, 0.5)), 60, 2e-4
            ),
            "writing": Training(
                (Text("writing", 0.75, 0.0), Text("coding", 0.06, 0.9), Text("math", 0.19, 0.5)), 60, 1.5e-4
            ),
        }
    )

    def key(self) -> str:
        """The content key: settings, this package's source text and the torch that trains."""
        digest = hashlib.sha256(json.dumps([asdict(self), version("torch")], sort_keys=True).encode())
        for path in sorted(Path(__file__).parent.glob("*.py")):
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]


def prepare(cache: Path | None = None, progress: Progress | None = None, settings: Settings | None = None) -> Path:
    """The folder with base/ math/ coding/ writing/ and data/<skill>.jsonl, trained first if the cache lacks it.

    `cache` is the cache's root; the folder is zoo/<content key> below it. `progress(stage, done, total)` is called
    every few steps.
    """
    settings = settings or Settings()
    final = (cache or cache_folder()) / "zoo" / settings.key()
    if final.is_dir():
        return final
    part = final.with_name(f"{final.name}.part-{os.getpid()}")
    try:
        _build(part, settings, progress or (lambda stage, done, total: None))
        try:
            part.rename(final)
        except OSError:
            if not final.is_dir():
                raise  # otherwise another process was first: its folder has the same content
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return final


def make_known(config: str, progress: Progress | None = None) -> None:
    """Prepares the zoo, and sets its variable, where a config or skill (a name, or a file) asks for it and nobody has
    set it."""
    path = Path(config)
    asked = config in ("zoo", *(f"zoo_{skill}" for skill in SKILLS)) or (
        path.is_file() and f"${{{VARIABLE}}}" in path.read_text(encoding="utf-8", errors="replace")
    )
    if asked and not os.environ.get(VARIABLE):
        os.environ[VARIABLE] = str(prepare(progress=progress))


def _build(folder: Path, settings: Settings, progress: Progress) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # what a killed process with this id left
    (folder / "data").mkdir(parents=True)
    forbidden: set[str] = set()
    for skill in SKILLS:
        rows = items.evaluation_items(skill, settings.items)
        forbidden.update(item.prompt for item in rows)
        lines = [
            json.dumps({"id": f"{skill}-{number:04d}", "prompt": item.prompt, "answer": item.answer})
            for number, item in enumerate(rows, start=1)
        ]
        (folder / "data" / f"{skill}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")

    from automerge.zoo import train  # seconds to import, and needed once

    tokenizer = train.build_tokenizer()
    new = partial(
        train.build_model,
        tokenizer,
        width=settings.width,
        layers=settings.layers,
        heads=settings.heads,
        seed=settings.seed,
    )
    base = new()
    for number, (name, training) in enumerate({"base": settings.base, **settings.fine_tunes}.items()):
        model = base if name == "base" else new()
        model.load_state_dict(base.state_dict())
        train.train(
            model,
            tokenizer,
            partial(items.training_rows, texts=training.texts, forbidden=frozenset(forbidden)),
            steps=training.steps,
            rate=training.rate,
            batch=settings.batch,
            seed=settings.seed * 10 + number,
            progress=partial(progress, f"training {name}"),
        )
        _save(model, tokenizer, folder / name)


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    model.generation_config.do_sample = False
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    # Written by hand as save_pretrained draws a progress bar of its own; the head is tied, so it is not among these.
    model.config.architectures = [type(model).__name__]
    model.config.dtype = torch.float32
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    weights = {name: weight.detach().contiguous() for name, weight in model.named_parameters()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)
