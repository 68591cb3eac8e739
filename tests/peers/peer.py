"""Where mergekit is, how a batch of merges is given to it, and how a config of configs/ is filled with paths."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CONFIGS = HERE / "configs"
VARIABLE = "AUTOMERGE_MERGEKIT_PYTHON"
OWN = HERE.parents[1] / ".venv-mergekit" / "bin" / "python"
SEED = 7


@dataclass(frozen=True)
class Job:
    """One merge for mergekit."""

    config: Path
    out: Path
    seed: int = SEED
    lora_cache: Path | None = None


def peer_python() -> Path | None:
    """The python that has mergekit: $AUTOMERGE_MERGEKIT_PYTHON, else .venv-mergekit's, else none."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    return OWN if OWN.is_file() else None


NO_PEER = (
    f"no mergekit: neither {VARIABLE} nor {OWN.parent.parent.name}/ is there; `make .venv-mergekit/.ready` makes it"
)


def run_mergekit(jobs: Sequence[Job], folder: Path) -> list[str | None]:
    """Runs the jobs in one process; for each its error, or none. Raises RuntimeError if the process itself fails."""
    python = peer_python()
    if python is None:
        raise RuntimeError(NO_PEER)
    listed = [
        {
            "config": str(job.config),
            "out": str(job.out),
            "seed": job.seed,
            **({"lora_cache": str(job.lora_cache), "lora_dtype": "float32"} if job.lora_cache else {}),
        }
        for job in jobs
    ]
    path = folder / "jobs.json"
    path.write_text(json.dumps(listed), encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONWARNINGS")}
    environment["OMP_NUM_THREADS"] = "1"
    command = [str(python), str(HERE / "run_mergekit.py"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"mergekit's process ended with {done.returncode}: {done.stderr[-2000:]}")
    return [result.get("error") for result in json.loads(done.stdout.splitlines()[-1])]


def peer_version() -> str:
    """mergekit's and torch's versions in the peer's environment."""
    script = "import importlib.metadata as m; print(' · '.join(f'{p} {m.version(p)}' for p in ('mergekit', 'torch')))"
    done = subprocess.run([str(peer_python()), "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def config_names() -> list[str]:
    """Every config of configs/, sorted."""
    return sorted(path.stem for path in CONFIGS.glob("*.yml"))


def fill(name: str, models: Mapping[str, str | Path], folder: Path) -> Path:
    """Writes configs/NAME.yml with `{base}`, `{one}`, … replaced by paths; returns the file."""
    text = (CONFIGS / f"{name}.yml").read_text(encoding="utf-8")
    for placeholder, path in models.items():
        text = text.replace("{%s}" % placeholder, str(path))  # noqa: UP031 - braces are the placeholder's own
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yml"
    path.write_text(text, encoding="utf-8")
    return path
