"""What several test files share."""

import contextlib
import os
import pathlib

os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')  # before NumPy: threads that wait for each other cost more than they bring

# What is compiled once serves all workers, forks and later runs, as the programs of `experiments.run` do.
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(pathlib.Path(__file__).parents[1] / '.pytest_cache' / 'jax'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')
os.environ.setdefault('JAX_DEFAULT_MATMUL_PRECISION', 'highest')  # GPUs and TPUs round to fewer digits than equations are tested to

import jax
import numpy as np
import pytest

from neurostim import devices, threads, training
from neurostim.excitation import marginals
from neurostim.study import make_study
from neurostim.teacher import train_teacher

devices.make_repeatable()
# Every teacher's windows are compared with draws: of a test's few windows so many say as much. `test_marginals` takes all.
USUAL_DRAWS, marginals.DRAWS = marginals.DRAWS, 2048
if jax.__version_info__[:2] == (0, 10):  # others may not know the flag, and XLA ends the process at one that it does not know
    # Programs of tests are compiled far more often than run: without fusions by MLIR that takes a third of the time, and in one piece,
    # as another worker has the other core, less again.
    os.environ['XLA_FLAGS'] += ' --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1'


@contextlib.contextmanager
def without_most_optimisations(without: bool):
    """What is compiled meanwhile is compiled without most of XLA's optimisations, or with them."""
    before = jax.config.values['jax_disable_most_optimizations']
    jax.config.update('jax_disable_most_optimizations', without)
    yield
    jax.config.update('jax_disable_most_optimizations', before)


@pytest.fixture(scope='module', autouse=True)
def quick_compile(request):
    """A module with ``QUICK_COMPILE = True`` compiles without most of XLA's optimisations: three times faster."""
    already = jax.config.values['jax_disable_most_optimizations']
    with without_most_optimisations(already or getattr(request.module, 'QUICK_COMPILE', False)):
        yield


@pytest.fixture
def optimised():
    """Compiles as usual in a module with ``QUICK_COMPILE``: of long loops that is the faster way."""
    with without_most_optimisations(False):
        yield


def heartbeats(rng, interval, scatter, gain=1.0, time=1200, channels=2):
    """Windows [n, time, channels] of pulses, the samples they are at, and noise: intervals [n] apart, each off by `scatter` [n]."""
    x, at = 0.1 * rng.normal(size=(len(interval), time, channels)), []
    width, lead = np.array([[3.0], [12.0]]), np.linspace(1, -0.6, 2 * channels).reshape(2, channels)
    for i, (usual, spread) in enumerate(zip(interval, scatter, strict=True)):
        peaks = np.cumsum(usual * np.exp(spread * rng.normal(size=4 * time // int(usual)))) - usual * rng.uniform(0, 2)
        at.append(peaks[(peaks > -usual) & (peaks < time + usual)])
        apart = np.arange(time) - at[-1][:, None]
        # A sharp wave, and a slow one after it.
        waves = np.exp(-0.5 * ((apart - np.array([0, 0.3 * usual])[:, None, None]) / width[:, None]) ** 2).sum(1)
        x[i] += gain * (waves.T * [3.0, 1.0]) @ lead
    return x.astype(np.float32), at


def tiny_study(seed=0):
    """Eight people, 160 windows, two classes of breathing: regular, or weak and broken."""
    rng = np.random.default_rng(seed)
    y = np.tile([0, 1], 80)
    phase, rate = rng.uniform(0, 2 * np.pi, 160), rng.uniform(2.5, 4, 160)
    wave = np.sin(2 * np.pi * rate[:, None] * np.arange(20) / 20 + phase[:, None]) * np.where(y, 0.3, 1.5)[:, None]
    x = np.stack([wave, 0.5 * wave], -1) + 0.2 * rng.normal(size=(160, 20, 2))
    return make_study('tiny', 5 + 3 * x, y, np.repeat(np.arange(8), 20), classes=('calm', 'broken'))


TINY_OPTIONS = training.TrainingOptions(steps=60, batch=32, validations=6, learning_rate=5e-3)


@pytest.fixture(scope='session')
def study():
    return tiny_study()


@pytest.fixture(scope='session')
def teacher(study):
    """Two small networks that tell the tiny study's classes apart; compiled alike whichever module asks first."""
    with without_most_optimisations(True):
        return train_teacher(study, ('mlp', 'mlp'), seed=1, options=TINY_OPTIONS)


@pytest.fixture
def one_core(monkeypatch):
    """Members learn one after another."""
    monkeypatch.setattr(threads, 'cores', lambda: 1)
