"""What several test files share."""

import contextlib
import os

os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')  # before NumPy: threads that wait for each other cost more than they bring

os.environ.setdefault('JAX_DEFAULT_MATMUL_PRECISION', 'highest')  # GPUs and TPUs round to fewer digits than equations are tested to

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from neurostim import training
from neurostim.excitation import sharding
from neurostim.study import make_study
from neurostim.teacher import train_teacher

sharding.make_repeatable()


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


@pytest.fixture(scope='module')
def compile_once(tmp_path_factory):
    """What is made twice is compiled once: programs are kept on disk, as `experiments.run` keeps them."""
    before = {name: jax.config.values[name] for name in ('jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs')}
    compilation_cache.reset_cache()
    jax.config.update('jax_compilation_cache_dir', str(tmp_path_factory.mktemp('jax')))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)
    yield
    compilation_cache.reset_cache()
    for name, value in before.items():
        jax.config.update(name, value)


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
    """Two small networks that tell the tiny study's classes apart."""
    return train_teacher(study, ('mlp', 'mlp'), seed=1, options=TINY_OPTIONS)
