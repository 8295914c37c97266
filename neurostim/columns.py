"""What classical algorithms and networks without filters see of a window: all of its numbers, or, of a long one, what a
practitioner would make of them.

Such algorithms cannot learn filters: from thousands of samples of a recording trees, neighbours and linear classifiers learn hardly
anything. What they are usually given is how strong each band of frequencies is.
"""

from __future__ import annotations

import math

import numpy as np

MOST = 1024  # numbers of a window that are seen as they are
PLACES = 6  # patches of a long time series
FEWEST_SAMPLES = 16  # of a patch, where a window has as many
BANDS = 12  # of frequencies in a patch
SILENCE = 1e-6  # power below which a band counts as silent; scaled windows have power 1
USUAL = 1e-3  # power in a band that becomes 0
PICTURE = 512  # most numbers of a large image
AT_ONCE = 2**22  # numbers of windows whose spectra are taken together


def columns(x: np.ndarray) -> np.ndarray:
    """Numbers [n, d] of scaled windows [n, *shape]: of a long time series what :func:`of_series` says, of a large image the mean of each
    patch, else all of them. Feature vectors are seen whole, however long."""
    if is_long_series(x.shape[1:]):
        several = max(1, AT_ONCE // x[0].size)
        return np.concatenate([of_series(x[i:i + several], np) for i in range(0, len(x), several)])
    return _image(x) if x.ndim == 4 and x[0].size > MOST else x.reshape(len(x), -1)


def is_long_series(shape: tuple[int, ...]) -> bool:
    """Whether windows of this shape are time series of more numbers than are seen as they are."""
    return len(shape) == 2 and shape[0] * shape[1] > MOST


def of_series(x, xp):
    """Scaled windows [..., time, channels] -> float32 [..., d]: for each of some patches and each channel the mean, and the logarithm of
    the amplitude in bands of frequencies, each about as much wider than the one before.

    Args:
      xp: the library that computes it: NumPy, or `jax.numpy` where it is a part of a network.
    """
    length = x.shape[-2] // places(x.shape[-2])
    means, spectrum = of_places(x, xp)
    power = (spectrum.real**2 + spectrum.imag**2) * np.float32(power_scale(length))
    bands = xp.einsum('bf,...fc->...bc', members(length), power)
    return xp.concatenate([means, 0.5 * xp.log((bands + SILENCE) / USUAL)], -2).reshape(*x.shape[:-2], -1).astype(np.float32)


def of_places(x, xp):
    """Windows [..., time, channels] -> (means [..., places, 1, channels], spectra [..., places, length // 2 + 1, channels] of each place
    without its mean, tapered); :func:`power_scale` times a spectrum's squares are mean squares."""
    *leading, time, channels = x.shape
    length = time // places(time)
    patches = x[..., :places(time) * length, :].reshape(*leading, places(time), length, channels)
    means = patches.mean(-2, keepdims=True)
    return means, xp.fft.rfft((patches - means) * taper(length)[:, None], axis=-2)


def power_scale(length: int) -> float:
    """What makes of the squares of a tapered place's spectrum the mean square that each frequency has."""
    return 2 / (length * (taper(length) ** 2).sum())


def places(time: int) -> int:
    """Into how many patches a time series of so many samples is cut."""
    return int(np.clip(time // FEWEST_SAMPLES, 1, PLACES))


def taper(length: int) -> np.ndarray:
    """What the samples [length] of a patch are weighted with."""
    return np.hanning(length + 2)[1:-1].astype(np.float32)


def edges(length: int) -> np.ndarray:
    """[bands + 1] frequencies, in cycles a patch of `length` samples; a band is from one of them to below the next."""
    return np.unique(np.round(np.geomspace(1, max(2, length // 2 + 1), BANDS + 1)).astype(int))


def members(length: int) -> np.ndarray:
    """[bands, length // 2 + 1], 1 where a frequency, in cycles a patch of `length` samples, belongs to a band; 0 belongs to none."""
    between, at = edges(length), np.arange(length // 2 + 1)
    return ((at >= between[:-1, None]) & (at < between[1:, None])).astype(np.float32)


def amplitude(seen, xp):
    """The amplitude, as a root mean square, that a number of a band stands for; `xp` as for :func:`of_series`."""
    return xp.sqrt(xp.maximum(USUAL * xp.exp(2 * seen) - SILENCE, 0) + 1e-12)


def _image(x):
    """Means [n, d] of the patches of images [n, height, width, channels]."""
    side = max(1, math.isqrt(PICTURE // x.shape[3]))
    rows = [row.mean(1) for row in np.array_split(x, min(side, x.shape[1]), axis=1)]
    return np.concatenate([patch.mean(1) for row in rows for patch in np.array_split(row, min(side, x.shape[2]), axis=1)], 1)
