"""What several test files share."""

import os

os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')  # before NumPy: threads that wait for each other cost more than they bring

import jax
import numpy as np
import pytest

from neurostim import training
from neurostim.study import make_study
from neurostim.teacher import train_teacher


@pytest.fixture(scope='module', autouse=True)
def quick_compile(request):
    """A module with ``QUICK_COMPILE = True`` compiles without most of XLA's optimisations: three times faster."""
    before = jax.config.values['jax_disable_most_optimizations']
    jax.config.update('jax_disable_most_optimizations', before or getattr(request.module, 'QUICK_COMPILE', False))
    yield
    jax.config.update('jax_disable_most_optimizations', before)


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
