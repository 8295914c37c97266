"""Devices and hosts: the only place that knows them.

Stimuli are independent, so devices need not speak to each other: each gets the first index of its own batch, and the compiled
program holds no collective.
"""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P


def over_devices(excite, count: int):
    """Compiles `excite` over all of this process's devices.

    Args:
      excite: (key, first, teacher_params, population) -> Excited of `count` stimuli.
      count: stimuli a device and call.

    Returns:
      (call, total): ``call(key, first, teacher_params, population)`` makes the `total` stimuli first, ..., device d those from
      first + d * count on; `total` is devices x count. A device's stimuli do not depend on how many others there are.
    """
    devices = jax.local_devices()
    mesh = jax.make_mesh((len(devices),), ('device',), devices=devices, axis_types=(AxisType.Auto,))

    def on_one(key, firsts, teacher_params, population):
        return excite(key, firsts[0], teacher_params, population)

    compiled = jax.jit(jax.shard_map(
        on_one, mesh=mesh, in_specs=(P(), P('device'), P(), P()), out_specs=P('device'), check_vma=False))
    everywhere, apart = NamedSharding(mesh, P()), NamedSharding(mesh, P('device'))
    given = placed = ()

    def call(key, first, teacher_params, population):
        nonlocal given, placed
        if not given or given[0] is not teacher_params or given[1] is not population:  # once, not with every batch
            given, placed = (teacher_params, population), jax.device_put((teacher_params, population), everywhere)
        firsts = jax.device_put(np.arange(len(devices), dtype=np.int32) * count + np.int32(first), apart)
        return compiled(jax.device_put(key, everywhere), firsts, *placed)

    return call, len(devices) * count


def process() -> tuple[int, int]:
    """(index of this process, number of processes)."""
    return jax.process_index(), jax.process_count()
