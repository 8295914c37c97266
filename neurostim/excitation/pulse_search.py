"""Finds the pulses of recordings, such as heartbeats, for :mod:`neurostim.excitation.pulses` to describe: used by who trains a teacher, not
by who excites it."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage, signal

from neurostim.excitation.pulses import GAINS, USUAL_COUNTS, Trains, between

FEWEST = 3  # pulses in a window that has any
LEAST_WITH = 0.5  # of windows must have pulses, or the study has none
LEAST_MORE = 0.07  # of the variance lies in pulses, than of noise with the same spectrum: any rhythm looks somewhat like pulses
LOOKED_AT = 150  # windows by which the width of what changes fastest in a pulse is chosen
STRONGEST = 0.98  # quantile of a window's change that its strongest peaks reach
REACH = (0.5, 0.85)  # of the usual interval: how far a waveform reaches before and after its pulse
APART = 3  # widths between two pulses at least, and how far from a pulse the middle of a waveform reaches
CHANGE, LIKENESS = 0.3, 0.45  # how strong a peak must be: of the strongest ones' change, and of the pulse that all are like on average
SEEN = 0.3  # of its usual energy must be within the window, or a pulse counts as one of gain 1
PLACED = 0.5  # of an interval: how far at most a window's pulses are moved to be where those of other windows are
ROUNDS = 3  # in which windows' waveforms are placed
AGAINST = 60  # windows among which the one is chosen that others are like most
OUTLYING = 4.0  # times what the usual waveform leaves of a usual pulse: what is left where there is another kind
OTHERS_APART = 0.35  # of the usual interval
OTHERS_ALIKE = 0.3  # of its energy a pulse of the other kind must have in common with the window's others
LEAST_WITH_OTHERS, FEW_OTHERS = 0.05, 2  # of windows must have so many of the other kind, or there is none


def usual_width(x: np.ndarray) -> int | None:
    """The width, in samples, of what changes fastest in the pulses of windows x [n, time, channels]: that by which pulses' share of the
    variance is most above that of noise whose spectra are the windows'; None where it is not above it by `LEAST_MORE`."""
    rng = np.random.default_rng(0)
    some = x[np.sort(rng.permutation(len(x))[:LOOKED_AT])]
    spectrum = np.fft.rfft(some, axis=1)
    turn = np.exp(2j * np.pi * rng.uniform(size=(*spectrum.shape[:2], 1)))  # the same in all channels
    turn[:, 0] = 1
    noise = np.fft.irfft(spectrum * turn, x.shape[1], axis=1)
    widths = [2**power for power in range(1, max(2, int(math.log2(max(4, x.shape[1] // 40))) + 1))]
    more = {width: share(some, find(some, width, 1)) - share(noise, find(noise, width, 1)) for width in widths}
    width = max(more, key=more.get)
    return width if more[width] >= LEAST_MORE else None


def share(x: np.ndarray, trains: Trains | None) -> float:
    """Of the windows' variance, that which is not in the rest; 0 where they have no pulses."""
    return 0.0 if trains is None else 1 - float(trains.rest.var(1).sum() / max(x.var(1).sum(), 1e-12))


def find(x: np.ndarray, width: int, kinds: int = 2) -> Trains | None:
    """The pulses of scaled windows x [n, time, channels]: first where all channels together change fastest, then where the window is like
    the mean of what was found, then moved to where they are in other windows, and at last those of another kind.

    Args:
      width: samples, of what changes fastest.
      kinds: 1 looks for no others.

    Returns:
      None where fewer than `LEAST_WITH` of the windows have pulses.
    """
    rows = x - np.median(x, axis=1, keepdims=True)
    pulses = [_enough(_peaks(row, CHANGE * np.quantile(row, STRONGEST), width)) for row in _change(x, width)]
    intervals = np.concatenate([np.diff(own) for own in pulses])
    if not len(intervals):
        return None
    offsets = np.arange(-round(REACH[0] * np.median(intervals)), round(REACH[1] * np.median(intervals)))
    none = np.zeros((1, len(offsets), x.shape[2]))
    for _ in range(2):
        pulses = [_enough(_alike(row, own, _waveforms(row, own, _usual(own), offsets, none)[0], offsets, width)) if len(own) else own
                  for row, own in zip(rows, pulses, strict=True)]
    if np.mean([len(own) > 0 for own in pulses]) < LEAST_WITH:
        return None
    interval = float(np.median(np.concatenate([np.diff(own) for own in pulses])))
    pulses, other = _placed(rows, pulses, list(map(_usual, pulses)), offsets, interval, 0, 1)
    both = [_with_others(row, own, offsets, width, interval) if len(own) and kinds == 2 else (own, _usual(own))
            for row, own in zip(rows, pulses, strict=True)]
    kinds = 2 if np.mean([others.sum() >= FEW_OTHERS for _, others in both]) >= LEAST_WITH_OTHERS else 1
    if kinds == 2:
        pulses, other = _placed(rows, *zip(*both, strict=True), offsets, interval, 1, 2)
    usual = _usual_waveforms(rows, pulses, other, offsets, kinds)
    apart = [_apart(row, own, others, offsets, usual) if len(own) else (np.zeros_like(usual), np.ones(0), 0)
             for row, own, others in zip(rows, pulses, other, strict=True)]
    waveforms, gains, trains = zip(*apart, strict=True)
    rest = np.stack([row - train for row, train in zip(x, trains, strict=True)])
    return Trains(pulses, other, list(gains), offsets, np.stack(waveforms), rest, interval)


def _usual(pulses):
    return np.zeros(len(pulses), bool)


def _usual_waveforms(rows, pulses, other, offsets, kinds):
    """[kinds, length, channels]: the mean waveforms of all windows' pulses."""
    sums = [_sums(row, own, others, offsets, kinds) for row, own, others in zip(rows, pulses, other, strict=True) if len(own)]
    return sum(total for total, _ in sums) / np.maximum(sum(count for _, count in sums), 1)


def _sums(row, pulses, other, offsets, kinds):
    """Of a window [time, channels] the sums around pulses of each kind [kinds, length, channels], and of how many [kinds, length, 1]."""
    total, count = np.zeros((kinds, len(offsets), row.shape[1])), np.zeros((kinds, len(offsets), 1))
    for which, since, share in zip(*between(pulses, len(row), np), strict=True):
        at = since - offsets[0]
        within = (at >= 0) & (at < len(offsets)) & (share > 0)
        place = other[which].astype(int)[within], at[within]
        np.add.at(total, place, share[within, None] * row[within])
        np.add.at(count, place, share[within, None])
    return total, count


def _waveforms(row, pulses, other, offsets, usual):
    """[kinds, length, channels]: the means of a window [time, channels] around its pulses of each kind, beside `usual` ones."""
    total, count = _sums(row, pulses, other, offsets, len(usual))
    return (total + USUAL_COUNTS * usual) / (count + USUAL_COUNTS)


def _apart(row, pulses, other, offsets, usual):
    """The waveforms of a window [time, channels], its pulses' gains and, of these shapes, the train that they make."""
    waveforms = _waveforms(row, pulses, other, offsets, usual)
    which, since, shares = between(pulses, len(row), np)
    plain = waveforms[other[which].astype(int), np.clip(since - offsets[0], 0, len(offsets) - 1)]
    plain *= shares[..., None]
    size, like = (np.bincount(which.ravel(), (plain * of).sum(2).ravel(), len(pulses)) for of in (plain, row))
    usual_size = np.array([size[other == kind].mean() if (other == kind).any() else 0 for kind in (False, True)])
    gain = np.where(size > SEEN * usual_size[other.astype(int)], np.clip(like / np.maximum(size, 1e-12), *GAINS), 1)
    return waveforms, gain, (plain * gain[which][..., None]).sum(0)


def _change(x, width):
    """[n, time]: how fast windows change, all channels together, at the scale of so many samples."""
    slope = ndimage.gaussian_filter1d(x, width / 4, axis=1, order=1, mode='nearest')
    return ndimage.gaussian_filter1d((slope**2).sum(2), width / 2, axis=1, mode='nearest')


def _peaks(row, least, distance):
    return signal.find_peaks(row, height=least, distance=max(1, distance))[0]


def _enough(pulses):
    return pulses if len(pulses) >= FEWEST else pulses[:0]


def _alike(row, pulses, waveform, offsets, width):
    """Where a window [time, channels] changes like the middle of a waveform."""
    first = max(0, -offsets[0] - APART * width)
    middle = _slopes(waveform, width)[first:-offsets[0] + APART * width]
    size = (middle**2).sum()
    if not size:
        return pulses[:0]
    slopes = _slopes(row, width)
    likeness = sum(signal.correlate(channel, its, mode='same') for channel, its in zip(slopes.T, middle.T, strict=True)) / size
    found = _peaks(likeness, LIKENESS, APART * width) - (first + len(middle) // 2 + offsets[0])
    return found[(found >= 0) & (found < len(row))]


def _slopes(x, width):
    return ndimage.gaussian_filter1d(x, width / 4, axis=0, order=1, mode='nearest')


def _placed(rows, pulses, other, offsets, interval, kind, kinds):
    """(pulses, other) with those of one kind moved, all of a window by as many samples, to where they are in other windows: where the
    slopes of the windows' waveforms go together best. What is strongest in one window may be weak in another."""
    usual = _usual_waveforms(rows, pulses, other, offsets, kinds)
    able = [i for i, others in enumerate(other) if (others == kind).any()]
    most = round(PLACED * interval)
    lags = np.arange(-most, most + 1)
    slopes = np.stack([np.diff(_waveforms(rows[i], pulses[i], other[i], offsets, usual)[kind], axis=0) for i in able])
    slopes /= np.maximum(np.linalg.norm(slopes, axis=(1, 2), keepdims=True), 1e-12)
    size = slopes.shape[1] + most
    spectra = np.fft.rfft(slopes, 2 * size, axis=1)

    def likeness(reference):
        """[able, lags]: how like each is to a reference's spectrum when it comes so many samples later."""
        return np.fft.irfft(np.einsum('nfc,fc->nf', spectra, reference.conj()), 2 * size, axis=1)[:, lags]

    some = np.linspace(0, len(able) - 1, min(AGAINST, len(able))).astype(int)
    reference = spectra[max(some, key=lambda i: likeness(spectra[i]).max(1).mean())]
    for _ in range(ROUNDS):
        lag = lags[likeness(reference).argmax(1)]
        turn = np.exp(2j * np.pi * np.arange(spectra.shape[1])[None] * lag[:, None] / (2 * size))
        reference = (spectra * turn[..., None]).mean(0)
    pulses, other = list(pulses), list(other)
    lag = lag - round(float(np.median(lag)))
    for i, by in zip(able, lag, strict=True):
        pulses[i], first = np.unique(np.where(other[i] == kind, pulses[i] + by, pulses[i]), return_index=True)
        other[i] = other[i][first]
    return pulses, other


def _with_others(row, pulses, offsets, width, interval):
    """(pulses, which are of the other kind) of a window [time, channels] of which the usual ones are known, and perhaps some that are not.

    Where the usual train leaves much more of the window than it does at most pulses, there is one of the other kind; those that are like
    the others are kept.
    """
    none, far = np.zeros((1, len(offsets), row.shape[1])), round(OTHERS_APART * interval)

    def left(usual):
        rest = row - _apart(row, usual, _usual(usual), offsets, none)[2]
        rest = rest - ndimage.gaussian_filter1d(rest, far, axis=0, mode='nearest')  # what is slow is of no pulse
        return rest, ndimage.gaussian_filter1d((rest**2).sum(1), far / 4, mode='nearest')

    def near(a, b):
        return (np.abs(a[:, None] - b) <= far).any(1) if len(b) else np.zeros(len(a), bool)

    _, size = left(pulses)
    which, _, shares = between(pulses, len(row), np)
    own = which[shares.argmax(0), np.arange(len(row))]
    most = np.array([size[own == i].max(initial=0) for i in range(len(pulses))])
    bound = OUTLYING * np.median(most)
    usual = pulses[~(near(pulses, _peaks(size, bound, 2 * far)) & (most > bound))]
    if len(usual) < FEWEST:
        return pulses, _usual(pulses)
    rest, size = left(usual)
    odd = _peaks(size, bound, 2 * far)
    odd = _like_each_other(rest, odd[~near(odd, usual)], far)
    if len(odd) > 1:
        odd = _like_these(rest, odd, far)
        odd = odd[~near(odd, usual)]
    usual = pulses[np.isin(pulses, usual) | ~near(pulses, odd)]
    at = np.concatenate([usual, odd])
    order = np.argsort(at, kind='stable')
    return at[order], (np.arange(len(at)) >= len(usual))[order]


def _like_each_other(rest, at, reach):
    """Of places in a window [time, channels] those around which it is like it is around the others, moved to where it is most."""
    if len(at) < 2:
        return at
    most = reach // 2  # that one is moved
    padded, width, kept = np.pad(rest, [(reach + most, reach + most), (0, 0)]), 2 * reach + 1, []
    pieces = np.stack([padded[i + most:i + most + width] for i in at])
    for i in range(len(at)):
        others = np.delete(pieces, i, 0).mean(0)
        others = others - others.mean(0)
        wide = padded[at[i]:at[i] + width + 2 * most]
        like = sum(signal.correlate(channel, its, mode='valid') for channel, its in zip(wide.T, others.T, strict=True))
        best = like.argmax()
        there = wide[best:best + width]
        if like[best] ** 2 >= OTHERS_ALIKE * ((there - there.mean(0)) ** 2).sum() * (others**2).sum():
            kept.append(at[i] + best - most)
    return np.unique(np.clip(kept, 0, len(rest) - 1)).astype(int)


def _like_these(rest, at, reach):
    """All places in a window [time, channels] around which it is as it is on average around these."""
    padded = np.pad(rest, [(reach, reach), (0, 0)])
    mean = np.mean([padded[i:i + 2 * reach + 1] for i in at], 0)
    mean = mean - mean.mean(0)
    size, one = max((mean**2).sum(), 1e-12), np.ones(len(mean))
    like = sum(signal.correlate(channel, its, mode='valid') for channel, its in zip(padded.T, mean.T, strict=True)) / size
    energy = sum(signal.correlate(channel**2, one, mode='valid') - signal.correlate(channel, one, mode='valid') ** 2 / len(mean)
                 for channel in padded.T)
    found = _peaks(like, LIKENESS, reach)
    return found[like[found] ** 2 * size >= OTHERS_ALIKE * energy[found]]
