"""A long recording as bands of frequencies whose strength changes from place to place: put together from the very numbers that classical
algorithms and networks without filters see of it (:mod:`neurostim.columns`).

x(t) = drift(t) + sum over bands of envelope(t) x noise of that band. Drift and envelopes are straight lines between the middles of the
places: the drift has the places' means, an envelope runs through the band's amplitudes there.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from neurostim import columns

CHANCE = 4  # standard deviations of chance that a place's mean may be off by
UNSURE = 0.01  # of a band's power: what channels never share
AT_ONCE = 64  # windows whose spectra are taken together
PARTS = 8  # of a band, of which each has as much of a class's power as that says
LEAST = 0.3  # of its usual amplitude: how weak a band's noise may be at a place before it is strengthened no further


def suits(shape: tuple[int, ...]) -> bool:
    """Whether windows of this shape are seen by bands."""
    return columns.is_long_series(shape)


def split(x: np.ndarray) -> np.ndarray:
    """Windows [n, time, channels] -> the numbers [n, places, 1 + bands, channels] that are seen of them."""
    seen = columns.columns(x)
    return seen.reshape(len(x), columns.places(x.shape[1]), -1, x.shape[2])


def place_share(seen: np.ndarray, classes: np.ndarray) -> float:
    """How far it matters at which place of its window something is seen: the share of a number's variance within classes that its mean at
    each place has, without what chance may give it. The largest of any number.

    Args:
      seen: of :func:`split`, [n, places, 1 + bands, channels], of at least two places.
      classes: int [n].
    """
    of_place, whole = np.zeros(seen.shape[2:]), np.full(seen.shape[2:], 1e-12)
    chance = 1 + CHANCE * np.sqrt(2 / (seen.shape[1] - 1))  # times a mean's variance, of that over places: chi-squared
    for label in np.unique(classes):
        own = seen[classes == label]
        apart = own.mean(0) - own.mean((0, 1))
        within = own - own.mean(1, keepdims=True) - apart  # windows differ from each other at all places alike
        share = len(own) / len(seen)
        of_place += share * ((apart**2).mean(0) - chance * (within**2).mean((0, 1)) / len(own))
        whole += share * own.var((0, 1))
    return float((of_place / whole).max())


def edges(time: int) -> np.ndarray:
    """[bands + 1] frequencies, in cycles a window, between which each band lies: those of the columns, half a step lower, where what a
    place's frequency takes in begins."""
    places = columns.places(time)
    of_place = columns.edges(time // places)
    return np.clip(np.ceil((of_place - 0.5) * time / (time // places)).astype(int), 1, time // 2 + 1)


def shares(power: np.ndarray, time: int) -> np.ndarray:
    """From mean power [..., time // 2, channels] at 1, 2, ... cycles a window of `time` samples the amplitudes, as many, that give each
    band's noise a mean square of 1."""
    between = edges(time) - 1
    out = np.zeros_like(power)
    for low, high in zip(between[:-1], between[1:], strict=True):
        own = power[..., low:high, :]
        out[..., low:high, :] = np.sqrt(own / np.maximum(own.sum(-2, keepdims=True), 1e-12))
    return out


def spectra(x: np.ndarray, classes: np.ndarray, n_classes: int, common_counts: float, fewest: int = 1) -> np.ndarray:
    """Where in each band its noise is, by classes: the amplitudes [classes, time // 2, channels] of :func:`shares`. A rhythm is narrower
    than a band, and two of them, each a class's own, may be in one.

    A window's power in a band counts as 1, however strong. What all classes have in common is told at each frequency, what a class has of
    its own by `PARTS` of each band: of few windows a single frequency's power would be theirs.

    Args:
      x: float32 [n, time, channels].
      classes: int [n].
      common_counts: windows for which what all classes have in common counts beside a class's own.
      fewest: windows of which a class has something of its own; for one of fewer what all have in common stands in.
    """
    time, between = x.shape[1], edges(x.shape[1]) - 1
    total = np.zeros((n_classes, time // 2, x.shape[2]))
    for first in range(0, len(x), AT_ONCE):
        rows = x[first:first + AT_ONCE]
        power = np.abs(np.fft.rfft(rows - rows.mean(1, keepdims=True), axis=1)[:, 1:]) ** 2
        np.add.at(total, classes[first:first + AT_ONCE], shares(power, time) ** 2)
    mean, common = _towards_common(total, classes, common_counts, fewest)
    cuts = np.unique(np.concatenate([np.linspace(low, high, min(PARTS, high - low) + 1).round().astype(int)
                                     for low, high in zip(between[:-1], between[1:], strict=True) if low < high]))
    covered = slice(cuts[0], cuts[-1])
    own, all_alike = (np.add.reduceat(power[..., covered, :], cuts[:-1] - cuts[0], -2) for power in (mean, common))
    power = np.zeros_like(mean)
    power[:, covered] = common[covered] * np.repeat(own / np.maximum(all_alike, 1e-12), np.diff(cuts), 1)
    return shares(power, time)


def _towards_common(total, classes, common_counts, fewest):
    """(means [classes, ...] of windows whose sums by classes are `total`, each drawn towards what all have in common; that [...]); see
    :func:`spectra` for the other arguments."""
    counts = np.bincount(classes, minlength=len(total)).reshape(-1, *[1] * (total.ndim - 1))
    common, enough = total.sum(0) / counts.sum(), counts >= fewest
    return (total * enough + common_counts * common) / (counts * enough + common_counts), common


def coherences(x: np.ndarray, classes: np.ndarray, n_classes: int, common_counts: float, fewest: int = 1) -> np.ndarray:
    """How channels go together in each band, by classes: complex64 [classes, bands, channels, channels], triangular factors L of the mean
    L L* of the windows' cross-spectra, each channel's power made 1. L times independent noise of mean square 1 goes together so too.

    Args:
      x: float32 [n, time, channels].
      classes: int [n].
      common_counts, fewest: see :func:`spectra`.
    """
    between = edges(x.shape[1]) - 1
    total = np.zeros((n_classes, len(between) - 1, x.shape[2], x.shape[2]), complex)
    for first in range(0, len(x), AT_ONCE):
        rows = x[first:first + AT_ONCE]
        spectrum = np.fft.rfft(rows - drift_lines(x.shape[1]) @ split(rows)[:, :, 0], axis=1)[:, 1:]
        for band, (low, high) in enumerate(zip(between[:-1], between[1:], strict=True)):
            cross = np.einsum('nfc,nfd->ncd', spectrum[:, low:high], spectrum[:, low:high].conj())
            scale = np.sqrt(np.maximum(np.einsum('ncc->nc', cross).real, 1e-12))
            np.add.at(total[:, band], classes[first:first + AT_ONCE], cross / scale[:, :, None] / scale[:, None])
    mean = _towards_common(total, classes, common_counts, fewest)[0] + UNSURE * np.eye(x.shape[2])
    scale = np.sqrt(np.einsum('...cc->...c', mean).real)
    return np.linalg.cholesky(mean / scale[..., None] / scale[..., None, :]).astype(np.complex64)


def together(noise, factors, time: int):
    """Complex noise [time // 2, channels] of mean square 1, made to go together as `factors` [bands, channels, channels] of
    :func:`coherences` say."""
    between = edges(time) - 1
    parts = [noise[low:high] @ factor.T for low, high, factor in zip(between[:-1], between[1:], factors, strict=True)]
    return jnp.concatenate([noise[:between[0]], *parts, noise[between[-1]:]])  # no band has what is slower, and may be faster


def noises(spectrum, time: int):
    """Complex amplitudes [time // 2, channels] at 1, 2, ... cycles -> noise of each band [bands, time, channels], whose mean square is
    the sum of the squares of the band's amplitudes."""
    at = np.arange(1, len(spectrum) + 1)
    between = edges(time)
    own = ((at >= between[:-1, None]) & (at < between[1:, None])).astype(np.float32)  # [bands, frequencies]
    full = jnp.pad(own[..., None] * spectrum, ((0, 0), (1, 0), (0, 0)))
    return jnp.fft.irfft(full, time, axis=1) * np.float32(time / np.sqrt(2))


def lines(time: int) -> np.ndarray:
    """[time, places]: the matrix that makes of one number a place straight lines from the middle of each place to that of the next."""
    places = columns.places(time)
    middle = (np.arange(places) + 0.5) * (time // places)
    return np.stack([np.interp(np.arange(time), middle, row) for row in np.eye(places)], 1).astype(np.float32)


def drift_lines(time: int) -> np.ndarray:
    """[time, places]: the matrix that makes straight lines of which the means over places are the given ones."""
    along, places = lines(time), columns.places(time)
    length = time // places
    return along @ np.linalg.inv(along[:places * length].reshape(places, length, places).mean(1))


def assemble(numbers, noise):
    """One window [time, channels] of which bands see `numbers` [places, 1 + bands, channels], made of `noise` [bands, time, channels].

    How strong a band's noise happens to be at a place is divided out, or its chance would come on top of that which the numbers hold.
    """
    bands, time, channels = noise.shape
    places = columns.places(time)
    length = time // places
    weight = columns.taper(length) ** 2
    there = (noise[:, :places * length].reshape(bands, places, length, channels) ** 2 * (weight / weight.sum())[:, None]).sum(2)
    strength = jnp.maximum(jnp.sqrt(there + 1e-12), LEAST)  # [bands, places, channels]
    wanted = columns.amplitude(numbers[:, 1:], jnp).swapaxes(0, 1)
    along = lines(time)
    return drift_lines(time) @ numbers[:, 0] + (jnp.einsum('tp,bpc->btc', along, wanted / strength) * noise).sum(0)
