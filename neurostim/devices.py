"""Devices and hosts: the only place in the library that knows them.

Stimuli are independent, so devices need not speak to each other: each gets the first index of its own batch, and the compiled
program holds no collective.
"""

from __future__ import annotations

import copy
import os

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from neurostim import threads
from neurostim.errors import UserError

REPEATABLE = 'xla_gpu_exclude_nondeterministic_ops'


def use_all_cores() -> None:
    """On CPU, makes every core that the process may use a device; call before anything else of JAX.

    A batch on each core instead of one on all: products share cores well, but XLA runs most other loops on one thread, so that one
    device leaves cores idle. Where JAX or XLA was told a number of CPU devices, that number stays.
    """
    told = 'xla_force_host_platform_device_count' in os.environ.get('XLA_FLAGS', '') or jax.config.jax_num_cpu_devices >= 0
    if not told:
        jax.config.update('jax_num_cpu_devices', threads.cores())


def on_cpu() -> bool:
    """Whether programs run on CPU, where some of them are better written otherwise."""
    return platform() == 'cpu'


def platform() -> str:
    """'cpu', 'gpu' or 'tpu'."""
    return jax.default_backend()


def describe() -> tuple[str, str, int]:
    """Platform, kind and number of this process's devices."""
    device = jax.local_devices()[0]
    return device.platform, device.device_kind, jax.local_device_count()


def make_repeatable() -> None:
    """Makes equal programs give equal bytes on a GPU, where some would add up in whatever order threads end; call before anything else
    of JAX. What `XLA_FLAGS` says already stays."""
    flags = os.environ.get('XLA_FLAGS', '')
    if REPEATABLE not in flags:
        os.environ['XLA_FLAGS'] = f'{flags} --{REPEATABLE}=true'.strip()


class OverDevices:
    """`excite` over this process's devices: ``call(key, firsts, networks, population)`` makes a batch of `count` consecutive stimuli on
    each; device d begins with stimulus firsts[d].

    A stimulus does not depend on how many devices there are.

    Attributes:
      count: stimuli a device and call.
      devices: how many there are.
    """

    def __init__(self, excite, count: int, devices=None):
        """Takes `excite`, (key, first, networks, population, *last) -> Excited of `count` stimuli; devices are all of this process's unless
        given."""
        devices = devices or jax.local_devices()
        mesh = jax.make_mesh((len(devices),), ('device',), devices=devices, axis_types=(AxisType.Auto,))

        def on_one(key, firsts, constants):
            return excite(key, firsts[0], *constants)

        self.count, self.devices = count, len(devices)
        self._run = self._jitted = jax.jit(jax.shard_map(
            on_one, mesh=mesh, in_specs=(P(), P('device'), P()), out_specs=P('device'), check_vma=False))
        self._everywhere, self._apart = NamedSharding(mesh, P()), NamedSharding(mesh, P('device'))
        self._last = self._given = self._placed = ()

    def with_last(self, *last) -> OverDevices:
        """The same function, whose last arguments are these; JAX compiles it once for all of them."""
        other = copy.copy(self)
        other._last, other._given, other._placed = last, (), ()
        return other

    def compile(self, key, networks, population):
        """Compiles for arguments of these shapes without making anything; later calls take such arguments alone. Returns the program."""
        if self._run is self._jitted:
            self._run = self._jitted.lower(*self._place(key, [0] * self.devices, networks, population)).compile()
        return self._run

    def __call__(self, key, firsts, networks, population):
        return self._run(*self._place(key, firsts, networks, population))

    def _place(self, key, firsts, *given):
        if not self._given or any(a is not b for a, b in zip(self._given, given, strict=True)):  # once, not with every batch
            self._given, self._placed = given, jax.device_put((*given, *self._last), self._everywhere)
        return jax.device_put(key, self._everywhere), jax.device_put(np.asarray(firsts, np.int32), self._apart), self._placed


def join(coordinator: str, processes: int, process: int) -> None:
    """Makes this process one of several, on this host or others; call before anything else of JAX.

    Args:
      coordinator: HOST:PORT of process 0, or 'auto': what the cluster says (SLURM, Open MPI, GKE, TPU pods), and then the other two too.
      processes: how many there are.
      process: the number of this one.

    Raises:
      UserError: the numbers do not fit, there is no cluster, or the others cannot be reached.
    """
    if coordinator != 'auto' and not (0 <= process < processes and ':' in coordinator):
        raise UserError(f'--coordinator={coordinator} --processes={processes} --process={process}: give HOST:PORT of process 0, how many '
                        "processes there are, and which one this is, from 0 on; or --coordinator=auto on a cluster")
    try:
        if coordinator == 'auto':
            jax.distributed.initialize()
        else:
            jax.distributed.initialize(coordinator, processes, process, initialization_timeout=120)
    except (RuntimeError, ValueError) as error:
        raise UserError(f'--coordinator={coordinator}: the processes do not find each other ({str(error).splitlines()[0]}): start all of '
                        'them with the address of process 0') from None


def process() -> tuple[int, int]:
    """(index of this process, number of processes)."""
    return jax.process_index(), jax.process_count()
