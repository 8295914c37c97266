"""A long recording as a train of pulses, such as heartbeats, and what is beside them.

x(t) = gain_j x waveform(t - t_j) + rest(t): each sample belongs to one pulse j. The waveform is the window's own mean, intervals between
pulses and gains are straight lines between a few knots and a deviation of each pulse by itself, and the rest is put together by bands
(:mod:`neurostim.excitation.bands`). A window is described by the numbers of these four, whenever its first pulse comes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from neurostim.excitation import bands

FEWEST = 3  # pulses in a window that has any
LEAST_WITH = 0.5  # of windows must have pulses, or the study has none
LEAST_MORE = 0.07  # of the variance lies in pulses, than of noise with the same spectrum: any rhythm looks somewhat like pulses
LOOKED_AT = 150  # windows by which the width of what changes fastest in a pulse is chosen
STRONGEST = 0.98  # quantile of a window's change that its strongest peaks reach
BEFORE = 0.4  # of the interval between two pulses belongs to the second one
REACH = (0.5, 0.85)  # of the usual interval: how far a waveform reaches before and after its pulse
APART = 3  # widths between two pulses at least, and how far from a pulse the middle of a waveform reaches
CHANGE, LIKENESS = 0.3, 0.45  # how strong a peak must be: of the strongest ones' change, and of the pulse that all are like on average
GAINS = (0.2, 3.0)  # least and most of a pulse
SEEN = 0.3  # of its usual energy must be within the window, or a pulse counts as one of gain 1
USUAL_COUNTS = 0.5  # pulses, for which all windows' mean waveform counts beside a window's own
KNOTS = 0.5  # for each pulse of a usual window
FEWEST_KNOTS = 4
SMOOTHNESS = 0.3  # how much a difference between neighbouring knots costs, in squared deviations of pulses
LEAST_SCATTER = 0.01  # a deviation that is counted as none
INTERVALS = (0.3, 4.0)  # of the usual one: the shortest and the longest that are made
WEIGHTS = {'interval': 1.0, 'gain': 0.5, 'scatter': 1.0, 'waveform': 1.0, 'rest': 1.0}  # root of the variance that each part has in all


class Trains(NamedTuple):
    """What windows [n, time, channels] are made of.

    Attributes:
      pulses: for each window the samples at which its pulses are, in order; none where there are fewer than `FEWEST`.
      gains: for each window its pulses' gains.
      offsets: int [length], the samples of a waveform, counted from its pulse.
      waveforms: [n, length, channels].
      rest: [n, time, channels].
      interval: samples between pulses, the median.
    """

    pulses: list[np.ndarray]
    gains: list[np.ndarray]
    offsets: np.ndarray
    waveforms: np.ndarray
    rest: np.ndarray
    interval: float


def owners(pulses: np.ndarray, time: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of so many samples the index of the pulse that it belongs to, and its distance from it."""
    own = np.searchsorted(pulses[:-1] + (1 - BEFORE) * np.diff(pulses), np.arange(time), side='right')
    return own, np.arange(time) - pulses[own]


def usual_width(x: np.ndarray) -> int | None:
    """The width, in samples, of what changes fastest in the pulses of windows x [n, time, channels]: that by which most of the variance
    lies in pulses; None where it never is more, by `LEAST_MORE`, than of noise whose spectra are the windows'."""
    rng = np.random.default_rng(0)
    some = x[np.sort(rng.permutation(len(x))[:LOOKED_AT])]
    spectrum = np.fft.rfft(some, axis=1)
    turn = np.exp(2j * np.pi * rng.uniform(size=(*spectrum.shape[:2], 1)))  # the same in all channels
    turn[:, 0] = 1
    noise = np.fft.irfft(spectrum * turn, x.shape[1], axis=1)
    widths = [2**power for power in range(1, max(2, int(math.log2(max(4, x.shape[1] // 40))) + 1))]
    shares = {width: share(some, find(some, width)) for width in widths}
    shaped = [width for width in widths if shares[width] >= share(noise, find(noise, width)) + LEAST_MORE]
    return max(shaped, key=shares.get, default=None)


def share(x: np.ndarray, trains: Trains | None) -> float:
    """Of the windows' variance, that which is not in the rest; 0 where they have no pulses."""
    return 0.0 if trains is None else 1 - float(trains.rest.var(1).sum() / max(x.var(1).sum(), 1e-12))


def find(x: np.ndarray, width: int) -> Trains | None:
    """The pulses of scaled windows x [n, time, channels]: first where all channels together change fastest, then where the window is like
    the mean of what was found.

    Args:
      width: samples, of what changes fastest.

    Returns:
      None where fewer than `LEAST_WITH` of the windows have pulses.
    """
    level = np.median(x, axis=1, keepdims=True)
    pulses = [_enough(_peaks(row, CHANGE * np.quantile(row, STRONGEST), width)) for row in _change(x, width)]
    intervals = np.concatenate([np.diff(own) for own in pulses])
    if not len(intervals):
        return None
    offsets = np.arange(-round(REACH[0] * np.median(intervals)), round(REACH[1] * np.median(intervals)))
    none = np.zeros((len(offsets), x.shape[2]))
    for _ in range(2):
        pulses = [_enough(_alike(row, own, _mean_waveform(row, own, offsets, none), offsets, width)) if len(own) else own
                  for row, own in zip(x - level, pulses, strict=True)]
    if np.mean([len(own) > 0 for own in pulses]) < LEAST_WITH:
        return None
    usual = np.mean([_mean_waveform(row, own, offsets, none) for row, own in zip(x - level, pulses, strict=True) if len(own)], 0)
    apart = [_apart(row, own, offsets, usual) if len(own) else (none, np.ones(0), 0) for row, own in zip(x - level, pulses, strict=True)]
    waveforms, gains, trains = zip(*apart, strict=True)
    rest = np.stack([row - train for row, train in zip(x, trains, strict=True)])
    interval = float(np.median(np.concatenate([np.diff(own) for own in pulses])))
    return Trains(pulses, list(gains), offsets, np.stack(waveforms), rest, interval)


def _apart(row, pulses, offsets, usual):
    """The waveform of a window [time, channels], its pulses' gains and, of its shape, the train that they make."""
    waveform = _mean_waveform(row, pulses, offsets, usual)
    within, at, own = _within(pulses, offsets, len(row))
    plain = np.where(within[:, None], waveform[at], 0)
    size = np.bincount(own, (plain**2).sum(1), len(pulses))
    gain = np.bincount(own, (plain * row).sum(1), len(pulses)) / np.maximum(size, 1e-12)
    gain = np.where(size > SEEN * size.mean(), np.clip(gain, *GAINS), 1)
    return waveform, gain, plain * gain[own][:, None]


def _change(x, width):
    """[n, time]: how fast windows change, all channels together, at the scale of so many samples."""
    from scipy import ndimage  # here, as below: who excites finds nothing
    slope = ndimage.gaussian_filter1d(x, width / 4, axis=1, order=1, mode='nearest')
    return ndimage.gaussian_filter1d((slope**2).sum(2), width / 2, axis=1, mode='nearest')


def _peaks(row, least, width):
    from scipy import signal
    return signal.find_peaks(row, height=least, distance=APART * width)[0]


def _enough(pulses):
    return pulses if len(pulses) >= FEWEST else pulses[:0]


def _within(pulses, offsets, time):
    """For each of so many samples whether its pulse's waveform reaches it, where in the waveform it is, and whose it is."""
    own, offset = owners(pulses, time)
    at = offset - offsets[0]
    return (at >= 0) & (at < len(offsets)), np.clip(at, 0, len(offsets) - 1), own


def _mean_waveform(row, pulses, offsets, usual):
    """[length, channels]: the mean of a window [time, channels] around its pulses, beside `usual`."""
    within, at, _ = _within(pulses, offsets, len(row))
    total, count = usual * USUAL_COUNTS, np.full((len(offsets), 1), USUAL_COUNTS)
    np.add.at(total, at[within], row[within])
    np.add.at(count, at[within], 1.0)
    return total / count


def _alike(row, pulses, waveform, offsets, width):
    """Where a window [time, channels] is like the middle of a waveform."""
    from scipy import signal
    first = max(0, -offsets[0] - APART * width)
    middle = waveform[first:-offsets[0] + APART * width]
    middle = middle - middle.mean(0)
    size = (middle**2).sum()
    if not size:
        return pulses[:0]
    likeness = sum(signal.correlate(row[:, c], middle[:, c], mode='same') for c in range(row.shape[1])) / size
    found = _peaks(likeness, LIKENESS, width) - (first + len(middle) // 2 + offsets[0])
    return found[(found >= 0) & (found < len(row))]


def count_knots(time: int, interval: float) -> int:
    """Between how many knots intervals and gains of a window of so many samples run."""
    return max(FEWEST_KNOTS, round(KNOTS * time / interval))


def knots(time: int, count: int) -> np.ndarray:
    """[count] samples at which they are."""
    return (np.arange(count) + 0.5) * time / count


def describe(trains: Trains) -> dict[str, np.ndarray]:
    """What windows are described by, {part: [n, numbers]}: the logarithms of intervals and of gains at knots, those of their scatter around
    the lines, the waveform, and the rest as bands see it."""
    n, time, _ = trains.rest.shape
    count = count_knots(time, trains.interval)
    interval, gain = np.full((n, count), math.log(trains.interval)), np.zeros((n, count))
    scatter = np.full((n, 2), math.log(LEAST_SCATTER))
    for i, own in enumerate(trains.pulses):
        if len(own):
            interval[i], scatter[i, 0] = _line((own[1:] + own[:-1]) / 2, np.log(np.diff(own)), time, count)
            gain[i], scatter[i, 1] = _line(own, np.log(trains.gains[i]), time, count)
    rest = bands.split(trains.rest.astype(np.float32))
    return {'interval': interval, 'gain': gain, 'scatter': scatter, 'waveform': trains.waveforms.reshape(n, -1),
            'rest': rest.reshape(n, -1)}


def _line(at, values, time, count):
    """The heights at knots of the straight lines that go best through values [m] at some samples, and the logarithm of the root mean
    square by which the values miss them."""
    basis = np.stack([np.interp(at, knots(time, count), row) for row in np.eye(count)], 1)
    change = np.diff(np.eye(count), axis=0)
    mean = values.mean()
    bend = basis.T @ basis + SMOOTHNESS * change.T @ change + 1e-3 * np.eye(count)  # towards the mean, where there is no pulse near
    height = mean + np.linalg.solve(bend, basis.T @ (values - mean))
    return height, 0.5 * math.log(((values - basis @ height) ** 2).mean() + LEAST_SCATTER**2)


def most_pulses(count: int) -> int:
    """How many pulses there may be in a window with so many knots."""
    return math.ceil(count / KNOTS / INTERVALS[0]) + FEWEST


def times(interval, scatter, start, deviations, usual, time: int):
    """The samples [pulses], not rounded, at which pulses come; the first before the window.

    Args:
      interval: [count], the logarithms of intervals at knots.
      scatter: the standard deviation by which each interval's logarithm is off by itself.
      start: where between two pulses the window begins, 0 to 1.
      deviations: [pulses], standard normal.
      usual: samples between pulses, the median.
    """
    t = jnp.arange(time, dtype=jnp.float32)
    shortest, longest = (math.log(bound) for bound in INTERVALS)
    along = usual * jnp.exp(jnp.clip(jnp.interp(t, knots(time, len(interval)), interval) - jnp.log(usual), shortest, longest))
    passed = start + t / usual + jnp.cumsum(1 / along - 1 / usual)  # pulses until then; so written, little is lost by rounding
    number = jnp.arange(len(deviations))
    at = jnp.interp(number, passed, t)
    at = jnp.where(number < passed[0], (number - passed[0]) * along[0], at)
    at = jnp.where(number > passed[-1], time - 1 + (number - passed[-1]) * along[-1], at)
    own = jnp.diff(at) * jnp.exp(jnp.clip(scatter * deviations[1:], shortest, -shortest))
    return at[0] + jnp.concatenate([jnp.zeros(1), jnp.cumsum(jnp.maximum(own, INTERVALS[0] * usual))])


def assemble(parts, noise, start, deviations, usual, first):
    """One window [time, channels].

    Args:
      parts: {part: its numbers}, as of :func:`describe` for one window.
      noise: [bands, time, channels], see :func:`neurostim.excitation.bands.assemble`.
      start: see :func:`times`.
      deviations: [2, pulses], standard normal: of intervals and of gains.
      usual: samples between pulses, the median.
      first: samples from a pulse to the first sample of its waveform; negative.
    """
    _, time, channels = noise.shape
    scatter = jnp.sqrt(jnp.maximum(jnp.exp(2 * parts['scatter']) - LEAST_SCATTER**2, 1e-12))
    at = times(parts['interval'], scatter[0], start, deviations[0], usual, time)
    t = jnp.arange(time, dtype=jnp.float32)
    own = jnp.searchsorted(at[:-1] + (1 - BEFORE) * jnp.diff(at), t)
    waveform = parts['waveform'].reshape(-1, channels)
    place = t - at[own] - first
    left = jnp.clip(jnp.floor(place), 0, len(waveform) - 2).astype(jnp.int32)
    between = (place - left)[:, None]
    pulse = waveform[left] * (1 - between) + waveform[left + 1] * between
    there = (place >= 0) & (place <= len(waveform) - 1)
    gain = jnp.interp(at, knots(time, len(parts['gain'])), parts['gain']) + scatter[1] * deviations[1]
    gain = jnp.exp(jnp.clip(gain, *np.log(GAINS)))[own]
    return jnp.where(there[:, None], gain[:, None] * pulse, 0) + bands.assemble(parts['rest'].reshape(-1, len(noise) + 1, channels), noise)
