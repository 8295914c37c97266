"""How many stimuli a device and call: what a machine makes fastest, measured once and remembered."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import statistics
import time

import jax

from neurostim import devices, threads
from neurostim.errors import UserError
from neurostim.files import write_whole

FACTORS = (0.25, 0.5, 1, 2, 4)  # of the batch that should fit the cache
SECONDS = 0.5  # that each batch is measured for, at least
REPEATS = 3


def memory_file() -> pathlib.Path:
    """Where measured batches are kept: beside compiled programs, in the user's cache."""
    return pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache') / 'neurostim' / 'batches.json'


def fastest(teacher, settings, make_call, first_guess: int) -> int:
    """The batch that made most stimuli a second of `FACTORS` times `first_guess`, on this machine, for these networks and this method.

    A second call reads what the first has measured, so that an interrupted run goes on with the same batch.

    Args:
      settings: resolved but for the batch.
      make_call: (teacher, settings) -> compiled excitation.
    """
    path = memory_file()
    what = [*devices.describe(), threads.cores(), teacher.names, teacher.shape,
            teacher.identity and teacher.identity.names,
            len(teacher.classes), dataclasses.asdict(dataclasses.replace(settings, count=0, batch=0, lanes=0))]
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    known = _read(path)
    if key not in known:
        rates = {batch: _rate(teacher, dataclasses.replace(settings, batch=batch, lanes=batch), make_call)
                 for batch in sorted({max(1, int(factor * first_guess)) for factor in FACTORS})}
        known = {**_read(path), key: {'batch': max(rates, key=rates.get), 'stimuli_per_second': rates}}
        try:
            write_whole(path, json.dumps(known, indent=1))
        except OSError as error:
            raise UserError(f'excite.batch -1 remembers what it measures in {path}, which cannot be written ({error.strerror}): '
                            'set XDG_CACHE_HOME to a folder that can, or give excite.batch a number') from error
    return known[key]['batch']


def _read(path: pathlib.Path) -> dict:
    """What is remembered; nothing where the file is absent or damaged."""
    try:
        known = json.loads(path.read_text())
        return {key: entry for key, entry in known.items() if isinstance(entry['batch'], int) and entry['batch'] > 0}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _rate(teacher, settings, make_call) -> float:
    """Stimuli a second, the median of `REPEATS`; compilation apart."""
    call = make_call(teacher, settings)
    key = jax.random.key(0)

    def seconds(calls: int) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            jax.block_until_ready(call(key, [0] * call.devices, teacher.networks, teacher.population))
        return time.perf_counter() - started

    seconds(1)
    calls = max(1, round(SECONDS / seconds(1)))
    return calls * call.count * call.devices / statistics.median(seconds(calls) for _ in range(REPEATS))
