"""The real pair, SmolLM2-135M-Instruct and its three LoRA experts, for the peer tests, where a machine has them.

mergekit itself writes the experts out in full, bf16, so that both tools then merge the very same checkpoints.
"""

import os
from pathlib import Path

from tests.peers.peer import Job, run_mergekit

ROOT = Path(__file__).parents[2]
BASE = Path(os.environ.get("AUTOMERGE_SMOLLM2", ROOT / "models" / "smollm2")).absolute()
SHARED = Path(os.environ.get("AUTOMERGE_SHARED", ROOT.parent / "shared")).absolute()
EXPERTS = {"one": "math", "two": "code", "three": "writing"}
MISSING = f"no SmolLM2 at {BASE} (AUTOMERGE_SMOLLM2) or no experts at {SHARED} (AUTOMERGE_SHARED); see `make smollm2`"
# One config a method, two where density 1 is another matter. Those with layer ranges, tokens of their own or a source
# far from the base are for the pico models.
CONFIGS = (
    *("arcee_fusion_near", "breadcrumbs", "breadcrumbs_ties", "dare_linear", "dare_ties", "dare_ties_dense", "della"),
    *("della_linear", "karcher", "linear", "model_stock", "multislerp", "nearswap", "nuslerp", "ram", "ramplus_tl"),
    *("sce", "slerp_models", "task_arithmetic", "ties", "ties_dense"),
)
WRITE_OUT = "merge_method: passthrough\nmodels:\n  - model: {model}\ndtype: float32\nout_dtype: bfloat16\n"


def there() -> bool:
    """Whether the base and the experts are on this machine."""
    return (BASE / "config.json").is_file() and all((SHARED / "models" / name).is_dir() for name in EXPERTS.values())


def adapters() -> dict[str, str]:
    """The models as mergekit writes a base with an adapter: `base+adapter`."""
    return {"base": str(BASE), **{key: f"{BASE}+{SHARED / 'models' / name}" for key, name in EXPERTS.items()}}


def experts(root: Path) -> dict[str, Path]:
    """The base, and every expert in full, written under `root` by mergekit. Raises RuntimeError if it cannot."""
    made = {"base": BASE}
    jobs = []
    for key, model in adapters().items():
        if key == "base":
            continue
        made[key] = root / key
        config = root / f"{key}.yml"
        config.write_text(WRITE_OUT.format(model=model), encoding="utf-8")
        jobs.append(Job(config, made[key], lora_cache=root / "lora"))
    for error in run_mergekit(jobs, root):
        if error:
            raise RuntimeError(f"mergekit could not write an expert: {error}")
    return made
