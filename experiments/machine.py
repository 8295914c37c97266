"""The machine under a benchmark: what it is, what it could do, and what others do on it meanwhile."""

from __future__ import annotations

import math
import os
import pathlib
import platform
import resource
import sys
import time

import jax
import jax.numpy as jnp

from neurostim import devices, threads


def device_name() -> str:
    """What computes, in words."""
    device = jax.local_devices()[0]
    if device.platform != 'cpu':
        return f'{jax.local_device_count()} x {device.device_kind}'
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines() if os.path.exists('/proc/cpuinfo') else []
    name = next((line.split(':')[1].strip() for line in lines if line.startswith('model name')), platform.processor() or 'CPU')
    return f'{name}, {threads.cores()} cores' + (f', {jax.local_device_count()} virtual devices' if jax.local_device_count() > 1 else '')


def matmul_peak(sizes: tuple[int, ...] = (), repeats: int = 5) -> float:
    """FLOP/s of the best large float32 matrix product."""
    product, best = jax.jit(jnp.matmul), 0.0
    for n in sizes or ((1024, 2048, 3072) if devices.on_cpu() else (4096, 8192, 16384)):
        a = jax.random.normal(jax.random.key(n), (n, n))
        product(a, a).block_until_ready()
        for _ in range(repeats):
            started = time.perf_counter()
            product(a, a).block_until_ready()
            best = max(best, 2 * n**3 / (time.perf_counter() - started))
    return best


def memory_bandwidth(device_bytes: int, repeats: int = 5) -> float:
    """Bytes a second, read and written, of the best passes over an array of `device_bytes` on every device at once."""
    count = jax.local_device_count()
    passes = max(1, 2**28 // device_bytes)

    def scale(a):  # a step that no compiler can merge with the next
        return jax.lax.fori_loop(0, passes, lambda _, a: jax.lax.optimization_barrier(0.999 * a), a)

    everywhere, best = jax.pmap(scale), 0.0
    a = everywhere(jnp.ones((count, device_bytes // 4)))
    for _ in range(repeats):
        started = time.perf_counter()
        everywhere(a).block_until_ready()
        best = max(best, 2 * passes * a.nbytes / (time.perf_counter() - started))
    return best


def reset_peak_memory() -> bool:
    """Starts the process's resident peak anew; False where the system does not allow it."""
    try:
        pathlib.Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        return False
    return True


def peak_memory(reset: bool) -> tuple[int, str]:
    """(bytes, what they are)."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if 'peak_bytes_in_use' in stats:
        return stats['peak_bytes_in_use'], 'device allocator, since the process started'
    if reset:
        line = next(line for line in pathlib.Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM'))
        return int(line.split()[1]) * 1024, 'resident memory of the process during the row (VmHWM)'
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, 'resident memory of the process since it started (ru_maxrss)'


class Watch:
    """What the process and all others compute, from construction on, on the CPUs that the process may use."""

    def __init__(self):
        self.wall, self.own, self.all = time.perf_counter(), time.process_time(), self._all()

    @staticmethod
    def _all() -> float:
        """CPU seconds of every process since the machine started, what a hypervisor took included; nan where nothing says."""
        if not (os.path.exists('/proc/stat') and hasattr(os, 'sched_getaffinity')):
            return math.nan
        names = {f'cpu{i}' for i in os.sched_getaffinity(0)}
        lines = [line.split() for line in pathlib.Path('/proc/stat').read_text().splitlines()]
        ticks = sum(sum(map(int, fields[1:4] + fields[6:9])) for fields in lines if fields[0] in names)  # all but idle and waiting
        return ticks / os.sysconf('SC_CLK_TCK')

    def own_cpus(self) -> float:
        """CPUs that this process kept busy, on average."""
        return (time.process_time() - self.own) / (time.perf_counter() - self.wall)

    def other_cpus(self) -> float | None:
        """CPUs that other processes kept busy, on average; None where nothing says."""
        others = (self._all() - self.all - (time.process_time() - self.own)) / (time.perf_counter() - self.wall)
        return None if math.isnan(others) else max(others, 0.0)
