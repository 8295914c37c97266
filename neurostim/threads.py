"""Independent pieces of work side by side: XLA, scikit-learn and LAPACK let other threads run while they compute."""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Callable, Iterable
from typing import TypeVar

from threadpoolctl import threadpool_limits

Item, Result = TypeVar('Item'), TypeVar('Result')


def cores() -> int:
    """How many cores this process may use, which may be fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item],
                 done: Callable[[int, Result], None] = lambda i, result: None, at_once: int | None = None) -> list[Result]:
    """[work(item) for item in items], as many at once as there are cores, each on one: threads of BLAS or OpenMP that wait for each other
    cost more than they bring. What takes longest is best named first.

    Args:
      at_once: at most, however many cores there are.
      done: called in this thread with an item's place and its result, as these come.

    Raises:
      whatever `work` raises first; what was not begun then is left.
    """
    with threadpool_limits(1), a_core_each(min(cores(), at_once or cores())) as pool:
        futures = {pool.submit(work, item): i for i, item in enumerate(items)}
        try:
            for future in concurrent.futures.as_completed(futures):
                done(futures[future], future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in futures]


def a_core_each(threads: int) -> concurrent.futures.ThreadPoolExecutor:
    """A pool of threads that start no others of OpenMP's, which counts them for each thread apart; for BLAS, whose number is the process's,
    whoever uses the pool keeps to one meanwhile."""
    return concurrent.futures.ThreadPoolExecutor(threads, initializer=threadpool_limits, initargs=(1,))
