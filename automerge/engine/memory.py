"""How much of the host's memory can be had."""

import os
from pathlib import Path


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
