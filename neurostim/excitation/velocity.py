"""Networks that tell a flow's velocity (:mod:`neurostim.excitation.flow`): one for time series, one for feature vectors."""

from __future__ import annotations

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from neurostim.excitation.population import COMMON_COUNTS, bounded

POSITIONS = 32  # most places in time; longer windows are cut into patches
DILATIONS = (1, 2, 4, 8, 16, 4, 1)  # from neighbours to the whole window and back
TIME_WAVES = 8
WIDER, LAYERS = 4, 3  # of a network for vectors: times as wide as its condition, and residual layers
FLOOR = 1e-3  # of the mean variance, that every direction has at least
BASE = ('mean', 'basis', 'variance')  # of the Gaussian, in the order in which a network takes them


class OfSeries(nn.Module):
    """Residual dilated convolutions over time that wrap around, on patches of the window; positions know their place.

    Wrapping makes a shift of the window a shift of the result, but for the places.
    """

    width: int

    @nn.compact
    def __call__(self, x, t, label):
        """x [..., time, channels], t [...], label [..., classes] (one-hot) -> velocity [..., time, channels]."""
        time, channels = x.shape[-2:]
        patch = math.ceil(time / POSITIONS)
        positions = math.ceil(time / patch)
        padding = [(0, 0)] * (x.ndim - 2) + [(0, positions * patch - time), (0, 0)]
        h = jnp.pad(x, padding).reshape(*x.shape[:-2], positions, patch * channels)
        place = _waves(jnp.arange(positions) / positions * 2, 4)
        h = jnp.concatenate([h, jnp.broadcast_to(place, (*h.shape[:-1], place.shape[-1]))], -1)
        condition = _condition(self.width, t, label)
        h = nn.Dense(self.width)(_neighbours(h, range(-3, 4)))
        for dilation in DILATIONS:
            inner = nn.Dense(self.width)(_neighbours(nn.LayerNorm()(h), (-dilation, 0, dilation)))
            inner = nn.silu(inner + nn.Dense(self.width)(condition)[..., None, :])
            h = h + nn.Dense(self.width)(inner)
        h = nn.Dense(patch * channels)(nn.silu(nn.LayerNorm()(h)))
        return h.reshape(*h.shape[:-2], positions * patch, channels)[..., :time, :]


class OfVectors(nn.Module):
    """The velocity of a Gaussian around each class's mean, in closed form, and what a residual network adds to it, which is nothing at
    first: of few vectors a network that is stopped early says little more than their covariance does, and alone it would say less.

    On the line x_t = (1 - t) z + t x from noise z to a vector x of mean m and covariance C, the mean velocity is
    m + (t C - (1 - t) I) S^-1 (x_t - t m), where S = t^2 C + (1 - t)^2 I is the covariance of x_t (the mean of a Gaussian given another:
    Bishop 2006, Pattern Recognition and Machine Learning, 2.81). The network sees x_t in the directions of C, each with a variance of 1.
    """

    width: int

    @nn.compact
    def __call__(self, x, t, label, mean, basis, variance):
        """x [..., d], t [...], label [..., classes] (one-hot), and :func:`gaussian` -> velocity [..., d]."""
        centre, at = label @ mean, t[..., None]
        spread = at**2 * variance + (1 - at) ** 2
        along = (x - at * centre) @ basis
        condition = _condition(self.width, t, label)
        h = nn.Dense(WIDER * self.width)(along / jnp.sqrt(spread)) + nn.Dense(WIDER * self.width)(condition)
        for _ in range(LAYERS):
            inner = nn.silu(nn.Dense(WIDER * self.width)(nn.LayerNorm()(h)) + nn.Dense(WIDER * self.width)(condition))
            h = h + nn.Dense(WIDER * self.width)(inner)
        added = nn.Dense(x.shape[-1], kernel_init=nn.initializers.zeros)(nn.silu(nn.LayerNorm()(h)))
        return centre + (along * (at * variance - (1 - at)) / spread) @ basis.T + added


def gaussian(x: np.ndarray, classes: np.ndarray, n_classes: int) -> dict[str, np.ndarray]:
    """What classes of vectors have in common, for :class:`OfVectors`.

    The covariance is that around the class's mean, drawn towards a round one as Ledoit and Wolf have it (2004, Journal of Multivariate
    Analysis 88, 365-411).

    Args:
      x: float [n, d], scaled.
      classes: int [n].

    Returns:
      {'mean': of each class [classes, d], drawn towards that of all; 'basis': directions [d, d], as columns; 'variance': along them [d]}.
    """
    from sklearn.covariance import ledoit_wolf
    rows = bounded(x.astype(float))
    mean = np.tile(rows.mean(0), (n_classes, 1))
    for label in np.unique(classes):
        own = rows[classes == label]
        mean[label] += (own.mean(0) - mean[label]) * len(own) / (len(own) + COMMON_COUNTS)
    variance, basis = np.linalg.eigh(ledoit_wolf(rows - mean[classes])[0])
    variance = np.maximum(variance, FLOOR * max(variance.mean(), FLOOR))
    return {name: value.astype(np.float32) for name, value in zip(BASE, (mean, basis, variance), strict=True)}


def _condition(width, t, label):
    """What a velocity depends on beside the place [..., width]; called within a network."""
    return nn.silu(nn.Dense(width)(jnp.concatenate([_waves(t / 2, TIME_WAVES), label], -1)))


def _waves(t, count: int):
    """Sine and cosine of pi, 2 pi, 4 pi, ... times t [...]: [..., 2 count]."""
    angle = t[..., None] * (math.pi * 2.0 ** jnp.arange(count))
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


def _neighbours(h, offsets):
    """Each position's neighbours at these offsets, side by side: [..., positions, channels] -> [..., positions, offsets * channels]."""
    return jnp.concatenate([jnp.roll(h, -offset, -2) for offset in offsets], -1)
