"""How much of the host's memory can be had, and what to change where it is too little."""

import os
from pathlib import Path

CACHE_SPACE = "VLLM_CPU_KVCACHE_SPACE"  # GiB, vLLM's own setting
LESS_MEMORY = (
    "Lower engine.arguments: max_model_len or gpu_memory_utilization, or set residency: mmap; on a CPU set "
    f"{CACHE_SPACE} (GiB)."
)
ENGINES = "AUTOMERGE_ENGINES"  # how many this machine has beside each other, see share.Share
OUT_OF_MEMORY = f"Unless somebody killed it, it ran out of memory. {LESS_MEMORY}"


def free_memory() -> int:
    """Bytes that a new process can take without swapping: on Linux what the kernel reckons, for pages that hold files
    are given up when others want them; elsewhere the pages that hold nothing."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def own_memory() -> int:
    """This engine's part of the free memory."""
    return free_memory() // int(os.environ.get(ENGINES, "1"))
