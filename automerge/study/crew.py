"""Several engines beside each other: candidates are handed to whichever is idle, in threads of the driver's process.

Only what waits for an engine runs in a thread; proposals, records and Optuna stay with the thread that drives.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from queue import Queue
from typing import TypeVar

from automerge.gate.statistics import Scores
from automerge.study.trial import Attempt, Bench, Trial

Job = TypeVar("Job")


class Crew:
    """Benches, one an engine, that stand for one: see trial.Candidates. `reader` reads the store, and asks nothing."""

    def __init__(self, benches: Sequence[Bench], reader: Bench) -> None:
        self.width = len(benches)
        self.counts: Mapping[str, tuple[int, int]] = reader.counts
        self.has_tier = reader.has_tier
        self._benches, self._reader = benches, reader
        self._idle: Queue[Bench] = Queue()
        for bench in benches:
            self._idle.put(bench)

    def attempt(self, asked: Attempt) -> Trial:
        """By the bench that is idle first. May be called from several threads."""
        bench = self._idle.get()
        try:
            return bench.attempt(asked)
        finally:
            self._idle.put(bench)

    def halt(self) -> None:
        """Closes the engines, from whatever thread: whoever waits for one of them is told that it is gone."""
        for bench in self._benches:
            bench.engine.close()

    def search_scores(self, checksum: str) -> dict[str, Scores]:
        return self._reader.search_scores(checksum)


def run_jobs(
    jobs: Iterator[Job],
    prepare: Callable[[Job, Collection[Job]], bool],
    work: Callable[[Job], None],
    finish: Callable[[Job], None],
    width: int,
    halt: Callable[[], None] = lambda: None,
) -> None:
    """Works on up to `width` jobs at a time, in threads; each is finished in this thread, in the order they end.

    The next job is made while the others run, so that no engine waits for a proposal. One that cannot be prepared yet,
    given those that run, waits for one of them. With one at a time there are no threads, and a job is made when it
    begins.
    Where something raises, `halt` is called, so that those that wait for an engine end, and they are waited for: what
    they use may be closed afterwards.
    """
    if width == 1:
        for job in jobs:
            prepare(job, ())  # always: nothing else runs
            work(job)
            finish(job)
        return
    pool = ThreadPoolExecutor(width)
    running: dict[Future[None], Job] = {}
    held: Job | None = None
    try:
        while True:
            while len(running) < width and (held := next(jobs, None) if held is None else held) is not None:
                if not prepare(held, running.values()):
                    break
                running[pool.submit(work, held)] = held
                held = None
            if not running:
                return
            held = next(jobs, None) if held is None else held
            ended = next(iter(wait(running, return_when=FIRST_COMPLETED).done))
            job = running.pop(ended)  # one at a time: its engine gets the next job before others are finished
            ended.result()
            finish(job)
    except BaseException:
        halt()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
