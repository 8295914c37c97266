"""Marginals put right: an increasing map of each number of a draw (of each channel of a time series) that gives unexcited draws the
quantiles of the training windows.

A mixture of Gaussians knows how pixels or features vary together, but not that most pixels are black and some are white; trees and linear
classifiers, which look at one number at a time, do. The draws' own dependence is kept, only its scale is bent: a Gaussian copula, where one
Gaussian is drawn from (Nelsen 2006, An Introduction to Copulas, ch. 2).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from neurostim.excitation import bands, moments, slant
from neurostim.excitation.population import COMMON_COUNTS
from neurostim.excitation.population import FEWEST as FEWEST_OF_CLASS

METHODS = ('mixture', 'slanted', 'modulated', 'banded', 'leaves')  # whose draws are put right
# A flow's marginals are its own, and better, but of feature vectors, many of which are mostly one value: it comes near to that, no more.
BY_BANDS = ('banded', 'pulsed')  # that are put together, all of it or in part, from what bands see
DRAWS, FLOW_DRAWS = 16_384, 4096  # whose quantiles are compared with those of the windows; a flow's take longer
NUMBERS = 2**25  # most numbers in these draws, and in the windows that are looked at
SERIES_NUMBERS = 2**23  # most in draws of time series, which have a channel's quantiles in common
LEAST_DRAWS = 256
CORRECTIONS, SEEN = 3, 192  # rounds in which what bands see of draws is corrected, and a class's draws looked at in each
MOST_STILL = 0.25  # of what a mixture says: how little a class's numbers may be made to vary
LEVELS = np.concatenate([[0.001, 0.005], np.linspace(0.02, 0.98, 29), [0.995, 0.999]])
FEWEST = 10  # windows beyond the outermost quantile: it is no single window's


def fitted(population: dict, method: str) -> bool:
    """Whether a population holds the map for the draws of `method`."""
    return f'{method}/marginal_from' in population


def has(population: dict, method: str) -> bool:
    """Whether a population has what draws of `method` are made of."""
    return any(name.startswith(f'{method}/') for name in population)


def put_right(population: dict, method: str, x: jax.Array) -> jax.Array:
    """One draw [*shape] with the marginals of the windows; constant beyond the outermost quantiles.

    The piecewise-linear map is a sum of ramps: no look-up, and its derivative is the slope of the piece that a number is in.
    """
    knots, values = population[f'{method}/marginal_from'], population[f'{method}/marginal_to']  # [levels, *shape or channels]
    widths = jnp.diff(knots, axis=0)
    slopes = jnp.diff(values, axis=0) / jnp.maximum(widths, 1e-6)
    return values[0] + sum(slope * jnp.clip(x - knot, 0, width) for knot, width, slope in zip(knots, widths, slopes, strict=False))


def fit(population: dict, shape: tuple[int, ...], x: np.ndarray, classes: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Compares unexcited draws, of classes as frequent as they are, with windows.

    Args:
      population: of :func:`neurostim.excitation.population.fit_population`, and its flow if there is one.
      shape: of a window.
      x: float32 [n, *shape], scaled training windows.
      classes: int [n].

    Returns:
      {'METHOD/marginal_from', 'METHOD/marginal_to': [levels, channels] for time series, else [levels, *shape]}, for each of `METHODS`,
      and of vectors of `moments.FLOWS`, that the population has; of 'slanted' they are those of upright images, and beside them is
      'slanted/threshold', which leaves draws as much background as the images have. Of `BY_BANDS` there are 'METHOD/stretch' and
      'METHOD/correction' [classes, numbers] besides: by what the numbers that bands see are multiplied, and what is added then.
    """
    least = max(LEVELS[0], min(0.5, FEWEST / len(x)))
    levels = np.clip(LEVELS, least, 1 - least)
    count = max(LEAST_DRAWS, min(DRAWS, (SERIES_NUMBERS if x.ndim == 3 else NUMBERS) // x[0].size))
    rows = np.random.default_rng(seed).permutation(len(x))[:max(1, NUMBERS // x[0].size)]
    x, classes = x[np.sort(rows)], classes[np.sort(rows)]
    windows = _quantiles(x, levels)
    maps = {}
    for method in BY_BANDS:
        if f'{method}/mean' in population:
            maps.update(_seen_as_they_are(population, method, shape, x, classes, seed))
    population = population | maps
    there = [method for method in (*METHODS, *(moments.FLOWS if len(shape) == 1 else ())) if has(population, method)]
    for method in there:
        few = min(count, FLOW_DRAWS) if method in moments.FLOWS else count
        maps[f'{method}/marginal_from'] = _quantiles(_draws(population, method, shape, few, seed), levels)
        maps[f'{method}/marginal_to'] = windows
    if 'slanted/mean' in population:
        background = population['slanted/background']
        maps['slanted/marginal_to'] = _quantiles(slant.upright(x, slant.slants(x, background), background), levels)
        apart = slant.distance(_draws(population | maps, 'slanted', shape, count, seed, finish=True), background)
        maps['slanted/threshold'] = np.quantile(apart, slant.emptiness(x, background)).astype(np.float32)
    return maps


def _seen_as_they_are(population, method, shape, x, classes, seed):
    """By how much to draw together the numbers by which a long window is put together, class by class, and what to add to them: so that
    bands see as much of draws as of windows, on average, and that no number varies more in a class's draws than in its windows.

    A narrow band takes in some of its neighbours, and what lies between two places is seen of both. And a mixture's components are a
    class's own in leading directions alone: a number that a class holds still would vary as others have it vary. What varies less is left
    as it is, for students learn less where it is stretched (BUILD_NOTES).
    """
    from neurostim.excitation import parameterisation  # which reads this file's maps
    seen = bands.split(x)
    there = np.unique(population[f'{method}/owner']).astype(int)
    means, variances = _moments_of_classes(seen, classes, there)
    wanted, correction, stretch = seen.mean(0), 0, np.ones((len(there), 1, *seen.shape[2:]))
    everybody = len(population['class_share'])

    def maps():
        full = {'stretch': np.ones((everybody, *wanted.shape), np.float32), 'correction': np.zeros((everybody, *wanted.shape), np.float32)}
        full['stretch'][there], full['correction'][there] = stretch, correction + means * (1 - stretch)
        return {f'{method}/{name}': value.reshape(everybody, -1) for name, value in full.items()}

    alike = np.isin(np.arange(everybody), there).astype(np.float32) / len(there)
    shares = np.array([(classes == c).mean() for c in there])
    for _ in range(CORRECTIONS):
        draws, label = parameterisation.unexcited(method, shape, {**population, **maps(), 'class_share': alike}, SEEN * len(there), seed,
                                                  finish=False)
        drawn = [bands.split(draws[label == c]) for c in there]
        correction = correction + wanted - np.tensordot(shares, [own.mean(0) for own in drawn], 1)
        varies = np.stack([own.var(0).mean(0) for own in drawn])[:, None]
        stretch = np.clip(stretch * np.sqrt(variances / np.maximum(varies, 1e-12)), MOST_STILL, 1)
    return maps()


def _moments_of_classes(seen, classes, there):
    """What bands see of each class's windows, at whatever place: means and variances [classes, 1, 1 + bands, channels], the latter drawn
    towards what classes have in common where windows are few."""
    own = [seen[classes == c] for c in there]
    common = np.maximum(sum(len(part) * part.var(0).mean(0) for part in own) / len(seen), 1e-12)
    enough = [len(part) >= FEWEST_OF_CLASS for part in own]
    means = np.stack([(part if much else seen).mean((0, 1)) for part, much in zip(own, enough, strict=True)])
    known = [much * len(part) / (len(part) + COMMON_COUNTS) for part, much in zip(own, enough, strict=True)]
    # Of logarithms, since where a class holds still a tenth of the common variance would be most of it.
    variances = np.stack([common * (np.maximum(part.var(0).mean(0), 1e-12) / common) ** share
                          for part, share in zip(own, known, strict=True)])
    return means[:, None], variances[:, None]


def _draws(population: dict, method: str, shape: tuple[int, ...], count: int, seed: int, finish: bool = False) -> np.ndarray:
    """Unexcited draws [count, *shape]."""
    from neurostim.excitation import parameterisation  # which reads this file's maps
    return parameterisation.unexcited(method, shape, population, count, seed, finish)[0]


def _quantiles(x: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """float32 [levels, channels] of time series [n, time, channels], else [levels, *shape]."""
    if x.ndim == 3:
        x = x.reshape(-1, x.shape[-1])
    return np.quantile(x, levels, axis=0).astype(np.float32)
