"""Marginals put right: an increasing map of each number of a draw (of each channel of a time series) that gives unexcited draws the
quantiles of the training windows.

A mixture of Gaussians knows how pixels or features vary together, but not that most pixels are black and some are white; trees and linear
classifiers, which look at one number at a time, do. The draws' own dependence is kept, only its scale is bent: a Gaussian copula, where one
Gaussian is drawn from (Nelsen 2006, An Introduction to Copulas, ch. 2).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from neurostim.excitation import slant

METHODS = ('mixture', 'slanted', 'modulated')  # whose draws are put right; a flow's marginals are its own, and better
DRAWS = 16_384  # whose quantiles are compared with those of the windows
NUMBERS = 2**25  # most numbers in these draws, and in the windows that are looked at
BATCH = 256  # draws at once
LEVELS = np.concatenate([[0.001, 0.005], np.linspace(0.02, 0.98, 29), [0.995, 0.999]])
FEWEST = 10  # windows beyond the outermost quantile: it is no single window's


def fitted(population: dict, method: str) -> bool:
    """Whether a population holds the map for the draws of `method`."""
    return f'{method}/marginal_from' in population


def put_right(population: dict, method: str, x: jax.Array) -> jax.Array:
    """One draw [*shape] with the marginals of the windows; constant beyond the outermost quantiles.

    The piecewise-linear map is a sum of ramps: no look-up, and its derivative is the slope of the piece that a number is in.
    """
    knots, values = population[f'{method}/marginal_from'], population[f'{method}/marginal_to']  # [levels, *shape or channels]
    widths = jnp.diff(knots, axis=0)
    slopes = jnp.diff(values, axis=0) / jnp.maximum(widths, 1e-6)
    return values[0] + sum(slope * jnp.clip(x - knot, 0, width) for knot, width, slope in zip(knots, widths, slopes, strict=False))


def fit(population: dict, shape: tuple[int, ...], x: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Compares unexcited draws, of classes as frequent as they are, with windows.

    Args:
      population: of :func:`neurostim.excitation.population.fit_population`.
      shape: of a window.
      x: float32 [n, *shape], scaled training windows.

    Returns:
      {'METHOD/marginal_from', 'METHOD/marginal_to': [levels, channels] for time series, else [levels, *shape]}, for each of `METHODS` that
      the population has; of 'slanted' they are those of upright images, and beside them is 'slanted/threshold', which leaves draws as
      much background as the images have.
    """
    least = max(LEVELS[0], min(0.5, FEWEST / len(x)))
    levels = np.clip(LEVELS, least, 1 - least)
    count = max(BATCH, min(DRAWS, NUMBERS // x[0].size) // BATCH * BATCH)
    rows = np.random.default_rng(seed).permutation(len(x))[:max(1, NUMBERS // x[0].size)]
    x = x[np.sort(rows)]
    windows = _quantiles(x, levels)
    maps = {}
    for method in METHODS:
        if f'{method}/mean' in population:
            maps[f'{method}/marginal_from'] = _quantiles(_draws(population, method, shape, count, seed), levels)
            maps[f'{method}/marginal_to'] = windows
    if 'slanted/mean' in population:
        background = population['slanted/background']
        maps['slanted/marginal_to'] = _quantiles(slant.upright(x, slant.slants(x, background), background), levels)
        apart = slant.distance(_draws(population | maps, 'slanted', shape, count, seed, finished=True), background)
        maps['slanted/threshold'] = np.quantile(apart, slant.emptiness(x, background)).astype(np.float32)
    return maps


def _draws(population: dict, method: str, shape: tuple[int, ...], count: int, seed: int, finished: bool = False) -> np.ndarray:
    """Unexcited draws [count, *shape] as they come: not put right, nor finished or clipped, unless asked for."""
    several = _drawer(method, shape, len(population['class_share']), finished)
    keys = jax.random.split(jax.random.key(seed), count).reshape(-1, BATCH)
    return np.concatenate([np.asarray(several(population, batch)) for batch in keys])


@functools.cache  # compiled once for teachers of one shape
def _drawer(method: str, shape: tuple[int, ...], n_classes: int, finished: bool):
    """Compiles ``(population, keys [n]) -> draws [n, *shape]``."""
    from neurostim.excitation import parameterisation, targets  # which reads this file's maps
    p = parameterisation.finished(method, shape, put_right=True) if finished else parameterisation.NAMES[method](shape)

    def draw(population, key):
        class_key, draw_key = jax.random.split(key)
        label = jax.random.categorical(class_key, jnp.log(population['class_share'])).astype(jnp.int32)
        target = targets.Target(jax.nn.one_hot(label, n_classes), label, jnp.float32(2))
        return p.decode(population, *p.start(population, draw_key, target))

    return jax.jit(jax.vmap(draw, (None, 0)))


def _quantiles(x: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """float32 [levels, channels] of time series [n, time, channels], else [levels, *shape]."""
    if x.ndim == 3:
        x = x.reshape(-1, x.shape[-1])
    return np.quantile(x, levels, axis=0).astype(np.float32)
