"""Excitation spread over devices: the same number of stimuli a call on each number of devices, by turns.

`experiments/benchmark.py` starts this in a process of its own: ``python -m experiments.benchmark_devices SPEC`` prints the rows as JSON.
"""

from __future__ import annotations

import json
import math
import statistics
import sys

import jax

from experiments.benchmark import make_case, timed_excitation
from neurostim.excitation import produce

STIMULI = 2048  # a call, over all devices


def compare(spec: dict) -> list[dict]:
    """A row for every number of devices that there are; in each repeat every number has its turn, ratios are taken within a repeat."""
    teacher = make_case('cnn', spec['seed']).teacher
    numbers = sorted({1, *(n for n in spec['devices'] if n <= jax.local_device_count())})
    settings = {n: produce.resolve(produce.Settings('direct', batch=STIMULI // n), teacher) for n in numbers}
    timed = {n: timed_excitation(teacher, settings[n], spec['seed'], jax.local_devices()[:n]) for n in numbers}
    calls = {n: max(1, math.ceil(spec['seconds'] / [t.run(1), t.run(1)][1])) for n, t in timed.items()}
    rates = {n: [] for n in numbers}
    for repeat in range(spec['repeats']):
        for n in numbers if repeat % 2 else reversed(numbers):
            rates[n].append(calls[n] * timed[n].total / timed[n].run(calls[n]))
    ratios = {n: [a / b for a, b in zip(rates[n], rates[1], strict=True)] for n in numbers}
    return [{'devices': n, 'batch': STIMULI // n, 'stimuli_per_second': statistics.median(rates[n]),
             'ratio_median': statistics.median(ratios[n]), 'ratio_min': min(ratios[n]), 'ratio_max': max(ratios[n])} for n in numbers]


if __name__ == '__main__':
    print(json.dumps(compare(json.loads(sys.argv[1]))))
