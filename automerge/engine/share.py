"""What one of several engines on a machine gets of it: GPUs where there are any, else cores."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from automerge.engine.memory import ENGINES
from automerge.errors import EngineError

BINDING = "VLLM_CPU_OMP_THREADS_BIND"  # of vLLM's CPU build: the cores of each rank


@contextmanager
def beside(workers: int) -> Iterator[None]:
    """Has this process keep to one thread of torch while so many engines have the cores: they would wait for each
    other's threads, and do half as much. One engine, or engines on GPUs, leave the cores free."""
    import torch

    own = torch.get_num_threads()
    if workers > 1 and not torch.cuda.is_available():
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(own)


@dataclass(frozen=True)
class Share:
    """Engine `index` of `of`."""

    index: int
    of: int

    def environment(self, ranks: int) -> dict[str, str]:
        """The variables its process is started with. Raises EngineError where there are too few GPUs or cores."""
        import torch

        if torch.cuda.is_available():
            given = os.environ.get("CUDA_VISIBLE_DEVICES")
            gpus = given.split(",") if given else [str(number) for number in range(torch.cuda.device_count())]
            own = self._own(gpus, ranks, "GPUs")
            return {"CUDA_VISIBLE_DEVICES": ",".join(own), ENGINES: str(self.of)}
        cores = [str(core) for core in sorted(os.sched_getaffinity(0))]
        own = self._own(cores, max(len(cores) // self.of, ranks), "cores")
        threads = str(len(own) // ranks)
        bound = "|".join(",".join(own[rank::ranks]) for rank in range(ranks))
        return {
            "OMP_NUM_THREADS": threads,
            "NUMBA_NUM_THREADS": threads,
            BINDING: os.environ.get(BINDING, bound),
            ENGINES: str(self.of),
        }

    def _own(self, places: list[str], each: int, what: str) -> list[str]:
        if self.of * each > len(places):
            raise EngineError(
                f"{self.of} workers with {each} of the {what} each, but there are {len(places)}",
                where="--workers",
                hint="Ask for fewer workers, or lower tensor_parallel_size.",
            )
        return places[self.index * each : (self.index + 1) * each]
