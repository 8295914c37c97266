"""From a study's units to the networks' and back, channel by channel.

The constants are aggregate statistics of the training windows. They travel with the teacher, so that whoever receives stimuli
(in the study's units) can scale real recordings in the same way.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import special

ROWS = 200_000  # samples a channel that decide about its map
BLOCK_NUMBERS = 2**22  # mapped at once, in float64: long windows must not fill the memory
HEAVY_KURTOSIS = 30.0  # excess kurtosis from which a waveform's tails (artefacts, dropouts) would rule a linear scale
LARGEST = 8.0  # after a window was scaled by itself; movements reach many times a breath
SKEWED = 1.0  # skewness from which a feature's distribution is mapped to a normal one


class Scaling(NamedTuple):
    """A piecewise-linear increasing map for each channel, continued linearly at both ends.

    Attributes:
      knots: float64 [channels, k], increasing, in the study's units; k >= 2.
      values: float64 [channels, k], what the knots become.
    """

    knots: np.ndarray
    values: np.ndarray

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Study's units -> scaled, float32, same shape; channels are the last axis."""
        return _map(x, self.knots, self.values)

    def inverse(self, x: np.ndarray) -> np.ndarray:
        """Scaled -> study's units, float32, same shape."""
        return _map(x, self.values, self.knots)


def scale_alone(windows: np.ndarray) -> np.ndarray:
    """Windows [n, time, channels], each by itself, float32: in each channel its median becomes 0 and its standard deviation 1, and what is
    farther than `LARGEST` is drawn in to it."""
    unit = np.maximum(windows.std(1, keepdims=True), _resolution(np.abs(windows).max(1, keepdims=True)))
    return np.clip((windows - np.median(windows, 1, keepdims=True)) / np.where(unit > 0, unit, 1), -LARGEST, LARGEST).astype(np.float32)


def fit_scaling(x: np.ndarray, kind: str) -> Scaling:
    """Chooses each channel's map from the training windows.

    Images share one mean and spread. Other channels are centred on their median and divided by a robust spread (10th to 90th
    percentile, as many standard deviations as a normal distribution has there); skewed features, and waveforms with very heavy
    tails, are mapped to a normal distribution through their quantiles instead.

    Args:
      x: [n, ..., channels] training windows in the study's units.
      kind: 'features', 'windows' or 'images' (:attr:`neurostim.study.Study.kind`).
    """
    columns = x.reshape(-1, x.shape[-1])
    if kind == 'images':
        mean, spread = columns.mean(dtype=np.float64), columns.std(dtype=np.float64)
        spread = spread if spread > _resolution(mean) else abs(mean) or 1.0
        knots = np.tile([mean, mean + spread], (x.shape[-1], 1))
        return Scaling(knots, np.tile([0.0, 1.0], (x.shape[-1], 1)))
    step, places = max(1, len(columns) // ROWS), len(columns) // len(x)
    while math.gcd(step, places) > 1:  # or some places of a window would never be looked at
        step += 1
    maps = [_channel(column, kind) for column in columns[::step].astype(np.float64).T]
    longest = max(len(knots) for knots, _ in maps)
    extended = [_extend(knots, values, longest) for knots, values in maps]
    return Scaling(np.stack([k for k, _ in extended]), np.stack([v for _, v in extended]))


def _channel(column, kind):
    low, median, high = np.percentile(column, [10, 50, 90])
    spread = (high - low) / (2 * special.ndtri(0.9)) or column.std()
    if spread <= _resolution(np.abs(column).max()):  # constant: in units of itself, lest a channel that wakes up later explodes
        return np.array([median, median + (abs(median) or 1.0)]), np.array([0.0, 1.0])
    standard = (column - column.mean()) / (column.std() or 1.0)
    heavy = (standard**4).mean() - 3 > HEAVY_KURTOSIS or (kind == 'features' and abs((standard**3).mean()) > SKEWED)
    if heavy:
        levels = np.concatenate([[0.001, 0.003], np.linspace(0.01, 0.99, 33), [0.997, 0.999]])
        knots, first = np.unique(np.quantile(column, levels), return_index=True)
        wide = np.concatenate([[True], np.diff(knots) > 1e-6 * spread])
        knots, values = knots[wide], special.ndtri(levels[first][wide])
        if len(knots) >= 8:  # fewer distinct quantiles: a discrete feature, which stays linear
            return knots, values
    return np.array([median, median + spread]), np.array([0.0, 1.0])


def _resolution(value):
    """The smallest difference at `value` that is no rounding of float32."""
    return 4 * np.finfo(np.float32).eps * abs(value)


def _extend(knots, values, length):
    """Repeats the last segment's line so that all channels have as many knots; the map does not change."""
    extra = np.arange(1, length - len(knots) + 1)
    return (np.concatenate([knots, knots[-1] + extra * (knots[-1] - knots[-2])]),
            np.concatenate([values, values[-1] + extra * (values[-1] - values[-2])]))


def _map(x, knots, values):
    out = np.empty(x.shape, np.float32)
    rows, mapped = x.reshape(-1, x.shape[-1]), out.reshape(-1, x.shape[-1])
    block = max(1, BLOCK_NUMBERS // x.shape[-1])
    for start in range(0, len(rows), block):
        mapped[start:start + block] = _map_block(rows[start:start + block], knots, values)
    return out


def _map_block(x, knots, values):
    if knots.shape[1] == 2:
        slope = (values[:, 1] - values[:, 0]) / (knots[:, 1] - knots[:, 0])
        return (x - knots[:, 0]) * slope + values[:, 0]
    out = np.empty(x.shape)
    for c, (k, v) in enumerate(zip(knots, values, strict=True)):
        segment = np.clip(np.searchsorted(k, x[:, c]) - 1, 0, len(k) - 2)
        slope = np.diff(v) / np.diff(k)
        out[:, c] = v[segment] + (x[:, c] - k[segment]) * slope[segment]
    return out
