"""The networks and the training loop of models that learn to imitate the real windows."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from neurostim.committee import validation_split
from neurostim.models.layers import Conv, GroupNorm
from neurostim.study import Study
from neurostim.teacher import Teacher

POSITIONS = {1: 32, 2: 16}  # most places along an axis, by the number of axes; what is longer is cut into patches
COARSE = 8  # most places at which a generator begins
AVERAGE = 0.998  # of weights: what stays of the running average a step; less of it while training is young
CHECK_EVERY = 500  # steps
PATIENCE = 4  # checks without improvement after which training stops
BLOCK = 512  # windows drawn at once


class Generator(nn.Module):
    """Numbers [..., d] -> a window [..., *shape], scaled units.

    Time series and images grow from a few places by doubling and convolution; feature vectors come from dense layers.
    """

    shape: tuple[int, ...]
    width: int = 16

    @nn.compact
    def __call__(self, h):
        lead, space = h.shape[:-1], len(self.shape) - 1
        if not space:
            for _ in range(2):
                h = nn.silu(nn.LayerNorm()(nn.Dense(16 * self.width)(h)))
            return nn.Dense(self.shape[0])(h)
        patch = tuple(math.ceil(n / POSITIONS[space]) for n in self.shape[:-1])
        places = tuple(math.ceil(n / p) for n, p in zip(self.shape[:-1], patch, strict=True))
        doublings = max(0, *(math.ceil(math.log2(n / COARSE)) for n in places))
        coarse = tuple(math.ceil(n / 2**doublings) for n in places)
        channels = 2 * self.width
        h = nn.silu(nn.Dense(math.prod(coarse) * channels)(h)).reshape(*lead, *coarse, channels)
        for left in range(doublings, -1, -1):
            channels = self.width * (2 if left else 1)
            h = nn.silu(GroupNorm(space)(Conv(channels, (5 if space == 1 else 3,) * space, (1,) * space)(h)))
            for axis in range(len(lead), len(lead) + space) if left else ():
                h = jnp.repeat(h, 2, axis)
        h = Conv(math.prod(patch) * self.shape[-1], (5 if space == 1 else 3,) * space, (1,) * space)(h)
        for axis, n in enumerate(places, len(lead)):
            h = jax.lax.slice_in_dim(h, 0, n, 1, axis)
        # Every place holds a patch: its samples go between the places.
        h = h.reshape(*lead, *places, *patch, self.shape[-1])
        order = [axis for i in range(space) for axis in (len(lead) + i, len(lead) + space + i)]
        h = h.transpose(*range(len(lead)), *order, h.ndim - 1)
        h = h.reshape(*lead, *(n * p for n, p in zip(places, patch, strict=True)), self.shape[-1])
        for axis, n in enumerate(self.shape[:-1], len(lead)):
            h = jax.lax.slice_in_dim(h, 0, n, 1, axis)
        return h


def discriminating(shape: tuple[int, ...]) -> str:
    """The zoo member that looks at windows of this shape."""
    return 'mlp' if len(shape) == 1 else 'cnn'


def split(study: Study, teacher: Teacher, seed: int):
    """((x, labels), (x, labels)): training windows to learn from and, of other groups, to choose the weights by; scaled, one-hot."""
    train = study.part(test=False)
    held = validation_split(train, seed * 1000)
    x, labels = teacher.scaling.forward(train.x), np.eye(len(study.classes), dtype=np.float32)[train.y]
    return tuple((jnp.asarray(x[rows]), jnp.asarray(labels[rows])) for rows in (~held, held))


def descend(step: Callable, error: Callable, averaged: Callable, state, steps: int, train, validate):
    """Takes steps and keeps the averaged weights that do best on held-out windows.

    Args:
      step: (state, number, train) -> state, pure.
      error: (averaged weights, validate) -> what is to be small, pure; the same noise each time.
      averaged: state -> the running average of the weights that are kept.
      state: keys and all: what differs between seeds is data, so that one program serves them all.
      steps: at most so many.

    Returns:
      (weights, the errors at each check, the first before any step).
    """
    @functools.partial(jax.jit, donate_argnums=0)
    def several(state, first, train, validate):
        state = jax.lax.fori_loop(first, jnp.minimum(first + CHECK_EVERY, steps), lambda i, s: step(s, i, train), state)
        return state, error(averaged(state), validate)

    errors = [float(jax.jit(error)(averaged(state), validate))]
    kept, best, worse = jax.tree.map(np.array, averaged(state)), errors[0], 0
    for first in range(0, steps, CHECK_EVERY):
        state, now = several(state, first, train, validate)
        errors.append(float(now))
        worse = 0 if errors[-1] < best else worse + 1
        if not worse:
            best, kept = errors[-1], jax.tree.map(np.array, averaged(state))  # copies: the state is given away
        elif worse == PATIENCE:
            break
    return kept, errors


def energy_distance(x: jax.Array, y: jax.Array) -> jax.Array:
    """Energy distance of two samples [n, d], [m, d]: 0 where they are of one distribution (Szekely & Rizzo 2013), up to a bias of the
    pairs of one with itself, which is the same for samples of one size."""
    def mean_distance(a, b):
        squares = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
        return jnp.sqrt(jnp.maximum(squares, 1e-9)).mean()
    return 2 * mean_distance(x, y) - mean_distance(x, x) - mean_distance(y, y)


def draw(generate: Callable, params, key, classes: np.ndarray, n_classes: int) -> np.ndarray:
    """Windows of these classes int [n], in blocks.

    Args:
      generate: (params, key, label [classes]) -> window, for one window; pure.
    """
    block = jax.jit(jax.vmap(lambda params, key, index, label: generate(params, jax.random.fold_in(key, index), label), (None, None, 0, 0)))
    labels = np.eye(n_classes, dtype=np.float32)[classes]
    parts = []
    for first in range(0, len(classes), BLOCK):
        rows = np.minimum(np.arange(first, first + BLOCK), len(classes) - 1)
        parts.append(np.asarray(block(params, key, jnp.arange(first, first + BLOCK), labels[rows])))
    return np.concatenate(parts)[: len(classes)]
