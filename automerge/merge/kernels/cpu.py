"""The CPU's kernel: all jobs' chunks in one table, shared out among threads that run compiled code.

The bytes are reference.py's. The weights are read once; rounding, checksum and the search for values that are not
finite happen in the same pass. Compiled code holds no interpreter lock, and the threads are Python's own and live for
one call: unlike numba's pools they survive a fork, may be started from several threads at once, and get along with
torch's. Each takes the next run of chunks when it is done with one, so a core that others use as well holds nobody up;
runs shrink towards the end, so that all threads end together (guided self-scheduling: C. Polychronopoulos and D. Kuck,
1987, https://doi.org/10.1109/TC.1987.5009495).

Values that are not finite are told, but their bytes may differ from the reference's: a merge that has some is refused.
"""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch

from automerge.merge.checksum import U64
from automerge.merge.kernels.cpu_table import Array, Shape, Tables, tables
from automerge.merge.kernels.job import Job

LEAST, MOST = 4, 256  # chunks a thread takes at once; four take about 30 microseconds


def run(jobs: Sequence[Job], *, threads: int | None = None) -> list[bool]:
    """See kernels.job.Kernel. `threads`: torch.get_num_threads() by default.

    Raises MergeError where a buffer is not a contiguous CPU tensor of its job's length and a known dtype, or where
    16-bit elements are cut inside a pair.
    """
    table, parts = tables(jobs)
    sums = np.zeros((len(table.chunks), 3), np.int64)  # Σ t, Σ t · (2j + 1), whether something is not finite
    count = thread_count(threads)
    share_out([task for part in parts for task in _tasks(table, sums, count, *part)], count)
    owners = table.chunks[:, 0]
    gathered = np.zeros((len(jobs), 3), np.int64)
    np.add.at(gathered, owners, sums)  # int64 wraps around
    for job, (a, b, _) in zip(jobs, gathered.tolist(), strict=True):
        job.total.add_sums(a & U64, b & U64)
    return [not faults for faults in gathered[:, 2].tolist()]


def _tasks(
    table: Tables, sums: Array, threads: int, shape: Shape | None, first: int, end: int
) -> Iterator[Callable[[], None]]:
    """A run of chunks of one shape, in pieces."""
    from automerge.merge.kernels.cpu_fused import fused
    from automerge.merge.kernels.cpu_steps import run_chunks

    compiled = run_chunks if shape is None else fused(shape)
    while first < end:
        stop = min(end, first + min(MOST, max(LEAST, (end - first) // (2 * threads))))
        yield partial(compiled, table, first, stop, sums)
        first = stop


def thread_count(threads: int | None) -> int:
    """As many as torch has, where nothing was said."""
    return torch.get_num_threads() if threads is None else threads


def share_out(tasks: Sequence[Callable[[], None]], threads: int | None) -> None:
    """Runs the tasks, each once, on this thread and others. Raises what a task raised."""
    numbers = itertools.count()  # the interpreter lock makes `next` safe
    raised: list[BaseException] = []

    def work() -> None:
        try:
            while not raised and (number := next(numbers)) < len(tasks):
                tasks[number]()
        except BaseException as error:
            raised.append(error)

    helpers = [threading.Thread(target=work) for _ in range(min(thread_count(threads), len(tasks)) - 1)]
    for helper in helpers:
        helper.start()
    work()
    for helper in helpers:
        helper.join()
    if raised:
        raise raised[0]
