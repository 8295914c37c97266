"""A flow's draws, moved and stretched so that those of each class have the mean and the covariance of its windows.

Students that weigh every number of a window, such as logistic regression, stand on a class's mean and covariance, and a flow hits neither
exactly. The map is the one between two Gaussians that moves draws least (optimal transport; Peyré and Cuturi 2019, arXiv 1803.00567,
remark 2.31), so that what a draw has beyond these moments stays as it is.
"""

from __future__ import annotations

import math

import jax
import numpy as np
from threadpoolctl import threadpool_limits

METHOD = 'matched'
FLOWS = ('flow', METHOD)  # methods that start from the flow's draws
LARGEST = 512  # numbers in a window: a covariance has their square, for each class
DRAWS, LEAST_DRAWS, NUMBERS = 8, 2000, 2**23  # of a class: for each number of a window, and at least; numbers in the draws of all classes
MEAN_COUNTS = 20  # windows, for which the draws' own mean counts: the mean wanted is to be no single window
COVARIANCE_COUNTS = 2  # the same of the draws' own covariance, for each number of a window
FLOOR = 1e-3  # of the mean variance, added to every direction's: hardly any draw goes along some


def fitted(population: dict) -> bool:
    """Whether a population says how a flow's draws are matched."""
    return f'{METHOD}/map' in population


def match(population: dict, x: jax.Array, label: jax.Array) -> jax.Array:
    """A draw x [*shape], scaled units, of the flow for the class `label`, moved and stretched as its class is to be."""
    centre, target, stretch = (population[f'{METHOD}/{name}'][label] for name in ('from', 'to', 'map'))
    return (target + stretch @ (x.ravel() - centre)).reshape(x.shape)


@threadpool_limits.wrap(limits=1)
def fit(population: dict, shape: tuple[int, ...], x: np.ndarray, y: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Compares the flow's unexcited draws with windows, class by class.

    Moments of few windows say little, and much of these windows: they are drawn towards those of the draws, which count for as many windows
    more (`MEAN_COUNTS`, `COVARIANCE_COUNTS`).

    Args:
      population: with a flow.
      shape: of a window.
      x: float32 [n, *shape], scaled training windows.
      y: int [n], their classes.

    Returns:
      {'matched/from', 'matched/to': [classes, numbers], 'matched/map': [classes, numbers, numbers]}; nothing for windows that are too long.
    """
    from neurostim.excitation import parameterisation  # which reads this file's map
    size, classes = math.prod(shape), len(population['class_share'])
    if size > LARGEST:
        return {}
    count = min(classes * max(DRAWS * size, LEAST_DRAWS), NUMBERS // size)
    even = population | {'class_share': np.full(classes, 1 / classes, np.float32)}
    draws, made_for = parameterisation.unexcited('flow', shape, even, count, seed)
    maps = [_between(*(part[of == label].reshape(-1, size).astype(float) for part, of in ((draws, made_for), (x, y))))
            for label in range(classes)]
    names = (f'{METHOD}/{name}' for name in ('from', 'to', 'map'))
    return {name: np.array(part, np.float32) for name, part in zip(names, zip(*maps, strict=True), strict=True)}


def _between(draws: np.ndarray, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean of `draws` [n, d], the mean wanted, by `windows` [m, d], the map [d, d] from the draws' covariance to the one wanted)."""
    size, windows = draws.shape[1], windows if len(windows) else draws  # a class that nobody has stays as the flow draws it
    seen, known = (len(windows) / (len(windows) + others) for others in (MEAN_COUNTS, COVARIANCE_COUNTS * size))
    own = np.cov(draws, rowvar=False).reshape(size, size)
    wanted = known * np.cov(windows, rowvar=False, bias=True).reshape(size, size) + (1 - known) * own
    floor = FLOOR * np.trace(wanted) / size * np.eye(size)
    root, inverse = (_power(own + floor, power) for power in (0.5, -0.5))
    centre = draws.mean(0)
    return centre, centre + seen * (windows.mean(0) - centre), inverse @ _power(root @ (wanted + floor) @ root, 0.5) @ inverse


def _power(symmetric: np.ndarray, power: float) -> np.ndarray:
    """A positive definite matrix to a power."""
    values, vectors = np.linalg.eigh(symmetric)
    return (vectors * np.maximum(values, np.finfo(float).tiny) ** power) @ vectors.T
