"""A long recording as a train of pulses, such as heartbeats, and what is beside them.

x(t) = sum_j share_j(t) x gain_j x waveform_k(t - t_j) + rest(t): between two pulses the first one's waveform fades into the second one's.
Each is of the usual kind or, in some studies, of another. The waveforms are the window's own means; intervals between pulses and gains are
straight lines between a few knots and a deviation of each pulse by itself; and the rest is put together by bands
(:mod:`neurostim.excitation.bands`). A window is described by the numbers of these, whenever its first pulse comes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

from neurostim.excitation import bands

BEFORE = 0.4  # of the interval between two pulses belongs to the second one
FADES = 0.2  # of the interval, in the middle of which one gives way to the other
ROUNDED = 0.1  # of the fade: how far about its ends it is no straight line; at a kink batches would differ from single stimuli by rounding
GAINS = (0.2, 3.0)  # least and most of a pulse
KNOTS = 0.5  # for each pulse of a usual window
FEWEST_KNOTS = 4
SMOOTHNESS = 0.3  # how much a difference between neighbouring knots costs, in squared deviations of pulses
LEAST_SCATTER = 0.01  # a deviation that is counted as none
INTERVALS = (0.3, 4.0)  # of the usual one: the shortest and the longest that are made
USUAL_COUNTS = 0.5  # pulses, for which what is usual in all windows counts beside a window's own
HALF_SEEN = 0.3  # pulses of the other kind that a window counts as having besides
MOST_OTHERS = 0.9  # of a window's pulses
SPARE = 3  # pulses, for those before and after a window
# Root of the variance that each part has in all.
WEIGHTS = {'pace': 1.0, 'wander': 0.7, 'scatter': 1.0, 'waveform': 1.0, 'rest': 1.0, 'kinds': 1.0, 'other': 1.0}


class Trains(NamedTuple):
    """What windows [n, time, channels] are made of.

    Attributes:
      pulses: for each window the samples at which its pulses are, in order; none where there are too few.
      other: for each window which of them, bool, are of the other kind.
      gains: for each window its pulses' gains.
      offsets: int [length], the samples of a waveform, counted from its pulse.
      waveforms: [n, kinds, length, channels]; the second kind is there if the study has it.
      rest: [n, time, channels].
      interval: samples between pulses, the median.
    """

    pulses: list[np.ndarray]
    other: list[np.ndarray]
    gains: list[np.ndarray]
    offsets: np.ndarray
    waveforms: np.ndarray
    rest: np.ndarray
    interval: float


def _rounded_ramp(v, xp):
    """max(v, 0) of each number of v [...], whose kink is rounded from -ROUNDED to ROUNDED; `xp` as for :func:`between`."""
    return xp.where(v < ROUNDED, xp.maximum(v + ROUNDED, 0) ** 2 / (4 * ROUNDED), v)


def between(pulses, time: int, xp):
    """For each of so many samples the two pulses that it lies between, int [2, time], the samples since they came, and the shares that they
    have in it, [2, time] each; before the first pulse and after the last it is all theirs.

    Args:
      xp: the library that computes it: NumPy, or `jax.numpy`.
    """
    t = xp.arange(time)
    last = xp.searchsorted(pulses, t, side='right') - 1
    which = xp.clip(xp.stack([last, last + 1]), 0, len(pulses) - 1)
    since = t - pulses[which]
    interval = xp.maximum(since[0] - since[1], 1e-6)
    way = xp.clip((since[0] / interval - (1 - BEFORE)) / FADES, -0.5 - ROUNDED, 0.5 + ROUNDED)  # straight, with rounded ends
    second = (_rounded_ramp(way + 0.5, xp) - _rounded_ramp(way - 0.5, xp)) * (which[0] < which[1])
    return which, since, xp.stack([1 - second, second])


def count_knots(time: int, interval: float) -> int:
    """Between how many knots intervals and gains of a window of so many samples run."""
    return max(FEWEST_KNOTS, round(KNOTS * time / interval))


def knots(time: int, count: int) -> np.ndarray:
    """[count] samples at which they are."""
    return (np.arange(count) + 0.5) * time / count


def describe(trains: Trains) -> dict[str, np.ndarray]:
    """What windows are described by, {part: [n, numbers]}: the logarithm of the interval; the lines of intervals' and gains' logarithms at
    knots, in units of their spread; the logarithms of these spreads and of each pulse's own share in them; the waveform; and the rest as
    bands see it. Where there are pulses of another kind also the logarithms of their share and of how much longer the intervals before and
    after them are, and their waveform."""
    n, time, _ = trains.rest.shape
    count = count_knots(time, trains.interval)
    pace, wander = np.full((n, 1), math.log(trains.interval)), np.zeros((n, 2, count))
    scatter, kinds = np.log([[LEAST_SCATTER, 1.0] * 2] * n), _kinds(trains)
    for i, (own, other) in enumerate(zip(trains.pulses, trains.other, strict=True)):
        if len(own):
            logs = np.log(np.diff(own)) - kinds[i, 1] * other[1:] - kinds[i, 2] * other[:-1]
            pace[i] = logs.mean()
            wander[i, 0], scatter[i, :2] = _line((own[1:] + own[:-1]) / 2, logs - pace[i], time, count)
            wander[i, 1], scatter[i, 2:] = _line(own, np.log(trains.gains[i]), time, count)
    parts = {'pace': pace, 'wander': wander.reshape(n, -1), 'scatter': scatter, 'waveform': trains.waveforms[:, 0].reshape(n, -1),
             'rest': bands.split(trains.rest.astype(np.float32)).reshape(n, -1)}
    if trains.waveforms.shape[1] > 1:
        parts |= {'kinds': kinds, 'other': trains.waveforms[:, 1].reshape(n, -1)}
    return parts


def _kinds(trains):
    """[n, 3]: the logarithms of the share of pulses that are of the other kind, and of how much longer than those between usual ones the
    intervals before and after them are; as in all windows where a window has none."""
    found = [_longer(own, other) for own, other in zip(trains.pulses, trains.other, strict=True)]
    kinds = np.zeros((len(found), 3))
    kinds[:, 0] = [math.log((other.sum() + HALF_SEEN) / (len(other) + 2 * HALF_SEEN)) for other in trains.other]
    for side in (0, 1):
        sums, counts = (np.array([of(window[side]) for window in found], float) for of in (np.sum, len))
        usual = sums.sum() / max(counts.sum(), 1)
        kinds[:, 1 + side] = (sums + USUAL_COUNTS * usual) / (counts + USUAL_COUNTS)
    return kinds


def _longer(pulses, other):
    """The logarithms of how much longer than those between usual pulses the intervals before others are, and those after; none where
    there is nothing to compare with."""
    after, before = other[:-1], other[1:]
    ordinary = ~(after | before)
    if not ordinary.any():
        return np.zeros(0), np.zeros(0)
    logs = np.log(np.diff(pulses))
    logs = logs - np.median(logs[ordinary])
    return logs[before & ~after], logs[after & ~before]


def _line(at, values, time, count):
    """The straight lines between knots that go best through values [m] at some samples: their heights in units of the values' root mean
    square, and the logarithms of that and of the share of it by which the values miss them.

    Lines go after what is each pulse's own too: what they miss is counted as if they did not, and they are made as much flatter.
    """
    basis = np.stack([np.interp(at, knots(time, count), row) for row in np.eye(count)], 1)
    change = np.diff(np.eye(count), axis=0)
    bend = basis.T @ basis + SMOOTHNESS * change.T @ change + 1e-3 * np.eye(count)  # towards 0, where there is no pulse near
    heights = np.linalg.solve(bend, basis.T)
    height = heights @ values
    spread = (values**2).mean() + LEAST_SCATTER**2
    line = basis @ height
    missed = ((values - line) ** 2).sum() / max(len(values) - np.trace(basis @ heights), 1) + LEAST_SCATTER**2
    missed, size = min(missed, spread), (line**2).mean()
    height = height * math.sqrt((spread - missed) / max(size, 1e-12) / spread)
    return height, (0.5 * math.log(spread), 0.5 * math.log(missed / spread))


def most_pulses(count: int) -> int:
    """How many pulses there may be in a window with so many knots."""
    return math.ceil(count / KNOTS / INTERVALS[0]) + SPARE


def times(interval, scatter, start, deviations, usual, time: int, longer=0.0):
    """The samples [pulses], not rounded, at which pulses come; the first before the window.

    Args:
      interval: [count], the logarithms of intervals at knots.
      scatter: the standard deviation by which each interval's logarithm is off by itself.
      start: where between two pulses the window begins, 0 to 1.
      deviations: [pulses], standard normal.
      usual: samples between pulses, the median.
      longer: [pulses - 1], by how much each interval's logarithm is off since one of its pulses is of the other kind.
    """
    t = jnp.arange(time, dtype=jnp.float32)
    shortest, longest = (math.log(bound) for bound in INTERVALS)
    along = usual * jnp.exp(jnp.clip(jnp.interp(t, knots(time, len(interval)), interval) - jnp.log(usual), shortest, longest))
    passed = start + t / usual + jnp.cumsum(1 / along - 1 / usual)  # pulses until then; so written, little is lost by rounding
    number = jnp.arange(len(deviations))
    at = jnp.interp(number, passed, t)
    at = jnp.where(number < passed[0], (number - passed[0]) * along[0], at)
    at = jnp.where(number > passed[-1], time - 1 + (number - passed[-1]) * along[-1], at)
    own = jnp.diff(at) * jnp.exp(jnp.clip(scatter * deviations[1:] + longer, shortest, -shortest))
    return at[0] + jnp.concatenate([jnp.zeros(1), jnp.cumsum(jnp.maximum(own, INTERVALS[0] * usual))])


def assemble(parts, noise, start, deviations, usual, first):
    """One window [time, channels].

    Args:
      parts: {part: its numbers}, as of :func:`describe` for one window.
      noise: [bands, time, channels], see :func:`neurostim.excitation.bands.assemble`.
      start: see :func:`times`.
      deviations: [3, pulses], standard normal: of intervals, of gains, and of what decides which pulses are of the other kind.
      usual: samples between pulses, the median.
      first: samples from a pulse to the first sample of its waveform; negative.
    """
    _, time, channels = noise.shape
    wander = parts['wander'].reshape(2, -1)
    spread, own = jnp.exp(parts['scatter']).reshape(2, 2).T
    waveforms = [parts[name].reshape(-1, channels) for name in ('waveform', 'other') if name in parts]
    kind, longer = jnp.zeros(deviations.shape[1], jnp.int32), 0.0
    if len(waveforms) > 1:
        share, before, after = parts['kinds']
        kind = (deviations[2] < norm.ppf(jnp.clip(jnp.exp(share), 1e-6, MOST_OTHERS))).astype(jnp.int32)
        longer = before * kind[1:] + after * kind[:-1]
    at = times(parts['pace'] + spread[0] * wander[0], spread[0] * own[0], start, deviations[0], usual, time, longer)
    which, since, shares = between(at, time, jnp)
    length, waveforms = len(waveforms[0]), jnp.concatenate(waveforms)
    place = jnp.clip(since - first, 0, length - 1)  # beyond its ends a waveform stays as it is there
    left = jnp.clip(jnp.floor(place), 0, length - 2).astype(jnp.int32)
    further, begin = (place - left)[..., None], left + kind[which] * length
    pulse = waveforms[begin] * (1 - further) + waveforms[begin + 1] * further
    gain = spread[1] * (jnp.interp(at, knots(time, wander.shape[1]), wander[1]) + own[1] * deviations[1])
    gain = jnp.exp(jnp.clip(gain, *np.log(GAINS)))[which]
    train = ((shares * gain)[..., None] * pulse).sum(0)
    return train + bands.assemble(parts['rest'].reshape(-1, len(noise) + 1, channels), noise)
