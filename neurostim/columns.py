"""What a classical algorithm sees of a window: all of its numbers, or, of a long one, what a practitioner would make of them.

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
PICTURE = 512  # most numbers of a large image
AT_ONCE = 2**22  # numbers of windows whose spectra are taken together


def columns(x: np.ndarray) -> np.ndarray:
    """Numbers [n, d] of scaled windows [n, *shape].

    Of a long time series, for each of some patches and each channel: the mean, and the logarithm of the power in bands of frequencies, each
    about as much wider than the one before. Of a large image the mean of each patch. Feature vectors are seen whole, however long.
    """
    if x[0].size <= MOST or x.ndim == 2:
        return x.reshape(len(x), -1)
    if x.ndim == 4:
        return _image(x)
    several = max(1, AT_ONCE // x[0].size)
    return np.concatenate([_series(x[i:i + several]) for i in range(0, len(x), several)])


def _series(x):
    n, time, channels = x.shape
    places = int(np.clip(time // FEWEST_SAMPLES, 1, PLACES))
    length = time // places
    patches = x[:, :places * length].reshape(n * places, length, channels)
    means = patches.mean(1, keepdims=True)
    taper = np.hanning(length + 2)[1:-1].astype(np.float32)
    spectrum = np.fft.rfft((patches - means) * taper[:, None], axis=1)
    edges = np.unique(np.round(np.geomspace(1, max(2, length // 2 + 1), BANDS + 1)).astype(int))
    edges = edges[edges <= spectrum.shape[1]]
    power = 2 * np.abs(spectrum[:, :edges[-1]]) ** 2 / (length * (taper**2).sum())
    bands = np.add.reduceat(power, edges[:-1], axis=1) if len(edges) > 1 else power[:, :0]
    return np.concatenate([means, np.log(bands + SILENCE)], 1).reshape(n, -1).astype(np.float32)


def _image(x):
    side = max(1, math.isqrt(PICTURE // x.shape[3]))
    rows = [row.mean(1) for row in np.array_split(x, min(side, x.shape[1]), axis=1)]
    return np.concatenate([patch.mean(1) for row in rows for patch in np.array_split(row, min(side, x.shape[2]), axis=1)], 1)
