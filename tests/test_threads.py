"""Work side by side: results in order, as much at once as there are cores, and nothing begun after a failure."""

import os
import threading

import pytest
import threadpoolctl

from neurostim import threads
from neurostim.threads import cores, side_by_side


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(threads, 'cores', lambda: 2)


@pytest.mark.skipif(not hasattr(os, 'sched_setaffinity'), reason='this system cannot pin a process to cores')
def test_cores_are_those_that_the_process_may_use():
    may = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(may)})
    try:
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, may)
    assert cores() == len(may)


def test_results_have_the_order_of_what_they_are_of_and_are_told_as_they_come():
    second_is_done, told = threading.Event(), []

    def work(item):
        second_is_done.wait(30) if item == 'first' else second_is_done.set()
        return item.upper()

    assert side_by_side(work, ['first', 'second'], lambda i, result: told.append((i, result))) == ['FIRST', 'SECOND']
    assert sorted(told) == [(0, 'FIRST'), (1, 'SECOND')]


@pytest.mark.parametrize('at_once, most', [(None, 2), (1, 1), (9, 2)])
def test_as_many_at_once_as_there_are_cores_or_fewer_each_on_one_core(at_once, most):
    lock, running, peak, pools = threading.Lock(), 0, 0, []
    met = threading.Barrier(most)

    def work(item):
        nonlocal running, peak
        with lock:
            running, peak = running + 1, max(peak, running + 1)
        met.wait(30)  # so many are at work together
        pools.append(max(pool['num_threads'] for pool in threadpoolctl.threadpool_info()))
        with lock:
            running -= 1

    side_by_side(work, range(6), at_once=at_once)
    assert peak == most and set(pools) == {1}


def test_a_failure_is_raised_and_what_was_not_begun_is_left():
    begun, long = [], threading.Event()

    def work(item):
        begun.append(item)
        if item == 0:
            raise ValueError('of the first')
        long.wait(1)

    with pytest.raises(ValueError, match='of the first'):
        side_by_side(work, range(100))
    assert len(begun) < 100
