"""Aggregate statistics of the training windows: all that excitation knows of where real signals live.

Statistics are taken over the whole population, in scaled units, and are saved beside the teacher: whoever excites needs no
recording. A population is a flat dict of float32 arrays; the names' first part says which parameterisation reads them.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from threadpoolctl import threadpool_limits

from neurostim.excitation import bands, leaves, pulses, slant
from neurostim.study import LOCKED, time_locked_share

RANK = 256  # most principal components of the Gaussian
MIXTURE_RANK = (32, 96)  # fewest and most principal components in which components of the mixture differ
SHIFTED_RANK = 64  # their number where shifted copies of each window make up for the many more numbers of a component
MIXTURE_ROWS = 8000  # most rows a class that the mixture is fitted to
SHIFTED_ROWS = 16_000  # the same with shifted copies
NUMBERS = 50_000_000  # most numbers in what a statistic is taken from: long windows must not fill the memory
SERIES_NUMBERS = 2**24  # the same, of what spectra are taken of: several copies of it, in complex numbers
LEAST_ROWS = 500  # windows of which statistics are taken, however long they are
BANDS = 256  # most numbers of a spectrum in a descriptor
REACH = 3.0
WINDOWS = 80  # that a component of the mixture averages, where classes are not larger still
MOST_COMPONENTS = 50  # of the mixture, in a class
COMPONENTS = 500  # and over all classes
LEAST_VARIANCE = 1e-3  # of a component along a principal component whose variance is 1
COMMON_COUNTS = 20  # windows, for which what classes have in common counts beside a class's own: few windows' own is not the class's
FEWEST = 10  # windows that a component of the mixture averages; a centre of one window would be that window
SLANT_SHARE = 0.1  # of all pixels' variance: what an image's slant has
PLACED = 0.02  # of the variance of what is seen at a place: what it may owe to which place it is
ENVELOPE_FLOOR = 0.05  # of the typical envelope: a silent window has a finite logarithm


@threadpool_limits.wrap(limits=1)
def fit_population(x: np.ndarray, kind: str, classes: np.ndarray, n_classes: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Fits every statistic that suits the kind of study. Time series around an event begin where they should: of these there is a mixture
    of windows as they are, and none of the statistics that leave phases free.

    On one thread: where other work shares the cores, OpenBLAS's threads wait for each other, and its singular value decomposition was seen
    not to converge; and several threads add up a cluster's rows in another order each time.

    Args:
      x: float32 [n, *shape], scaled training windows.
      kind: 'features', 'windows' or 'images'.
      classes: int [n], the class of each window, for the mixture's class-conditional components.
    """
    flat = x.reshape(len(x), -1)
    anywhere = kind == 'windows' and x.shape[1] >= 16 and time_locked_share(x, classes) <= LOCKED
    population = gaussian(flat, seed)
    population.update(shifted_mixture(x, classes, n_classes, seed) if anywhere else mixture(flat, classes, n_classes, seed))
    if kind == 'images':
        population.update(slanted(x, classes, n_classes, seed))
    if leaves.suits(kind, x.shape[1:]):
        population.update(leaves.fit(flat, classes, n_classes, seed))
    population['class_share'] = (np.bincount(classes, minlength=n_classes) / len(classes)).astype(np.float32)
    if kind == 'images':
        low, high = np.float32(x.min()), np.float32(x.max())
    else:  # nowhere near the data: a guard against runaway search, not a description of it
        low, high = -np.float32(4 * np.abs(x).max()), np.float32(4 * np.abs(x).max())
    population['bounds'] = np.array([low, high], np.float32)
    if anywhere:
        most = SERIES_NUMBERS // x[0].size
        # As many of each class: a rare one must not be thinned out with the rest.
        some = np.concatenate([own[_some_rows(len(own), most // n_classes, seed)]
                               for own in (np.flatnonzero(classes == c) for c in range(n_classes))]) if len(x) > most else slice(None)
        population.update(spectral(x[_some_rows(len(x), most, seed)]))
        population.update(stationary(x[_some_rows(len(x), most, seed)]))
        population.update(modulated(x[some], classes[some], n_classes, seed))
        if bands.suits(x.shape[1:]):
            population.update(banded(x[some], classes[some], n_classes, seed))
            population.update(pulsed(x[some], classes[some], n_classes, seed))
    return {name: np.asarray(value, np.float32) for name, value in population.items()}


def principal_components(flat: np.ndarray, rank: int, seed: int):
    """Mean [d], basis [d, r], standard deviations [r] along it, and the standard deviation that is left over [d].

    At most 8192 windows are used, drawn at random: enough for the directions that matter. Of thousands of directions only the leading
    ones are computed (Halko et al. 2011, arXiv 0909.4061).
    """
    rows = bounded(flat[_some_rows(len(flat), min(8192, NUMBERS // flat.shape[1]), seed)]).astype(np.float64)
    mean = rows.mean(0)
    if min(rows.shape) > 4 * rank:
        from sklearn.utils.extmath import randomized_svd
        _, singular, directions = randomized_svd(rows - mean, rank, random_state=seed)
    else:
        singular, directions = _directions(rows - mean)
    rank = int(min(rank, (singular > 1e-5 * singular[0]).sum()))
    scale = singular[:rank] / math.sqrt(max(len(rows) - 1, 1))
    basis = directions[:rank].T
    rest = np.sqrt(np.maximum(rows.var(0) - (basis**2) @ scale**2, 0))
    return mean, basis, scale, rest


def _directions(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Singular values, largest first, and right singular vectors as rows, of a matrix [n, d]: by the eigenvectors of its smaller Gram
    matrix, which is faster than a singular value decomposition, and as exact as is needed here."""
    few = len(centred) < centred.shape[1]
    values, vectors = np.linalg.eigh(centred @ centred.T if few else centred.T @ centred)
    singular, vectors = np.sqrt(np.maximum(values[::-1], 0)), vectors[:, ::-1]
    return singular, (centred.T @ vectors / np.maximum(singular, 1e-12)).T if few else vectors.T


def _some_rows(n: int, most: int, seed: int):
    """All of n rows, or indices of at most `most` (and no fewer than `LEAST_ROWS`) drawn at random, in order."""
    most = max(most, LEAST_ROWS)
    return slice(None) if n <= most else np.sort(np.random.default_rng(seed).permutation(n)[:most])


def bounded(rows: np.ndarray) -> np.ndarray:
    """Rows [n, d] drawn in towards the median row so that none is more than `REACH` times as far from it as half of them are.

    A row far from all others would be a direction of its own, and that direction the row: the population would hold a window.
    """
    centre = np.median(rows, axis=0)
    distance = np.linalg.norm(rows - centre, axis=1)
    reach = REACH * np.median(distance)
    return centre + (rows - centre) * np.minimum(1, reach / np.maximum(distance, 1e-12))[:, None] if reach else rows


def gaussian(flat: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """The population's mean and covariance, as its leading principal components and an independent rest."""
    mean, basis, scale, rest = principal_components(flat, RANK, seed)
    return {'gaussian/mean': mean, 'gaussian/basis': basis * scale, 'gaussian/rest': rest}


def stationary(x: np.ndarray) -> dict[str, np.ndarray]:
    """The Gaussian with the mean and the covariance that windows have over all their shifts in time, end to beginning: whenever one begins,
    it is as likely. Its principal components are a cosine and a sine of each frequency, in channels as the mean cross-spectrum has them.

    Of so few numbers each is known from very many samples: a window hardly leaves a trace in them (BUILD_NOTES, *Membership*).

    Args:
      x: float32 [n, time, channels], scaled.
    """
    _, time, channels = x.shape
    x = bounded(x.reshape(len(x), -1)).reshape(x.shape)
    mean = x.mean((0, 1))
    spectrum = np.fft.rfft(x - mean, axis=1).transpose(1, 2, 0)  # [frequencies, channels, n]
    power, vectors = np.linalg.eigh(spectrum @ spectrum.conj().swapaxes(1, 2) / len(x))
    at = np.arange(len(power))
    twice = np.where((at == 0) | (2 * at == time), 1, 2)  # the others have frequencies below 0 that belong to them
    power = np.maximum(power, 0) * twice[:, None] / time**2  # what a component adds to the variance at any time
    frequency, which = np.unravel_index(np.argsort(-power, axis=None)[:RANK // 2], power.shape)
    own = vectors[frequency, :, which] * np.sqrt(power[frequency, which])[:, None]  # [components, channels]
    wave = np.exp(2j * np.pi * frequency[:, None] * np.arange(time) / time)[:, :, None] * own[:, None]
    basis = np.concatenate([wave.real, wave.imag]).reshape(-1, time * channels).T
    rest = np.einsum('fk,fck->c', power, np.abs(vectors) ** 2) - (np.abs(own) ** 2).sum(0)
    return {'stationary/mean': np.tile(mean, time), 'stationary/basis': basis[:, (basis**2).sum(0) > 1e-9 * (basis**2).sum()],
            'stationary/rest': np.tile(np.sqrt(np.maximum(rest, 0)), time)}


def shifted_mixture(x: np.ndarray, classes: np.ndarray, n_classes: int, seed: int) -> dict[str, np.ndarray]:
    """The mixture of copies of the windows, shifted in time, end to beginning: by a random number of samples, and evenly from there.

    A rhythm may begin anywhere: shifts say so outright, where a mixture would need a component for every phase. A component then averages
    as many copies more, which pays for covariances of twice the rank.

    Args:
      x: float32 [n, time, channels], scaled.
      classes: int [n].
    """
    rarest = max(FEWEST, np.bincount(classes, minlength=n_classes).min())
    useful = 4 * n_classes * SHIFTED_ROWS // len(x)  # of more, the fit would look at none
    copies = int(np.clip(min(SHIFTED_ROWS // rarest, useful, NUMBERS // x.size), 1, 16))
    if copies == 1:
        return mixture(x.reshape(len(x), -1), classes, n_classes, seed, SHIFTED_RANK, SHIFTED_ROWS)
    rng = np.random.default_rng(seed)
    time = x.shape[1]
    shifts = rng.integers(0, time, len(x)) + np.arange(copies)[:, None] * time // copies  # no phase is more frequent than another
    order = (np.arange(time) + shifts[..., None]) % time  # [copies, n, time]
    rows = np.take_along_axis(x[None], order[..., None], 2).reshape(copies * len(x), -1)
    return mixture(rows, np.tile(classes, copies), n_classes, seed, SHIFTED_RANK, SHIFTED_ROWS, copies)


def _components(windows: int, n_classes: int) -> int:
    """How many components describe a class of so many windows."""
    return int(np.clip(windows // WINDOWS, 1, max(2, min(MOST_COMPONENTS, COMPONENTS // n_classes))))


def affordable_rank(classes: np.ndarray, n_classes: int) -> int:
    """An eighth of the windows of the rarest class, within `MIXTURE_RANK`: a covariance of more would be theirs and not the class's."""
    windows = np.bincount(classes, minlength=n_classes)
    return int(np.clip(windows[windows > 0].min() // 8, *MIXTURE_RANK))


def mixture(flat: np.ndarray, classes: np.ndarray, n_classes: int, seed: int, rank: int = 0, most_rows: int = MIXTURE_ROWS,
            copies: int = 1) -> dict[str, np.ndarray]:
    """A mixture of Gaussians for each class in the leading principal components; the other components are one Gaussian.

    A class with n windows gets n / 80 components, at least one and at most 50 (500 over all classes), so that each averages many
    windows; one that has gathered fewer than `FEWEST` is left out. For a class of fewer windows the whole population stands in.

    Args:
      rank: most principal components in which the mixture's components differ; 0 takes :func:`affordable_rank`.
      most_rows: most rows a class that are looked at, drawn at random.
      copies: how many rows each window has in `flat`; what counts windows counts them once.
    """
    mean, basis, scale, rest = principal_components(flat, RANK, seed)
    rank = min(rank or affordable_rank(classes, n_classes), len(scale))
    directions = basis[:, :rank] / scale[:rank]
    scores = flat @ directions - mean @ directions
    weights, centres, factors, owners = [], [], [], []
    fewest = FEWEST * copies  # rows, were all of a window's copies in one component
    rng = np.random.default_rng(seed)
    for c in range(n_classes):
        rows = scores[classes == c]
        if len(rows) == 0:
            continue
        components = _components(len(rows) // copies, n_classes)
        rows = rows if len(rows) <= most_rows else rows[rng.permutation(len(rows))[:most_rows]]
        if len(rows) < fewest:
            weights.append([1.0]), centres.append(np.zeros((1, rank))), factors.append(np.eye(rank)[None])
        elif len(rows) <= rank + 1:
            spread = np.diag(rows.std(0) + 0.1)
            weights.append([1.0]), centres.append(rows.mean(0)[None]), factors.append(spread[None])
        else:
            share, middle, covariance = _clusters(rows, scale[:rank], components, copies, seed)
            kept = share * len(rows) >= fewest
            weights.append(share[kept] / share[kept].sum())
            centres.append(middle[kept]), factors.append(np.linalg.cholesky(covariance[kept]))
        owners.append(np.full(len(weights[-1]), c))
    return {
        'mixture/weight': np.concatenate(weights), 'mixture/owner': np.concatenate(owners),
        'mixture/centre': np.concatenate(centres), 'mixture/factor': np.concatenate(factors),
        'mixture/mean': mean, 'mixture/basis': basis * scale, 'mixture/rest': rest,
    }


def beyond_rank(flat: np.ndarray, classes: np.ndarray, n_classes: int, fitted: dict[str, np.ndarray],
                copies: int = 1) -> dict[str, np.ndarray]:
    """What classes have of their own where a mixture's components do not differ: a mean, and spreads along the components beyond the rank.

    Of some hundred windows with as many numbers most of what tells classes apart may be there, each number a little: linear classifiers
    and kernel machines learn from it.

    Args:
      fitted: of :func:`mixture`, for these rows.
      copies: how many rows each window has in `flat`.

    Returns:
      {'mixture/own_mean': [classes, d], added to every draw; 'mixture/own_spread': [classes, components beyond the rank], multiplied}.
    """
    rank = fitted['mixture/centre'].shape[1]
    scale = np.linalg.norm(fitted['mixture/basis'], axis=0)
    basis = fitted['mixture/basis'] / scale
    own_mean, own_spread = np.zeros((n_classes, len(basis))), np.ones((n_classes, len(scale) - rank))
    for c in range(n_classes):
        rows = flat[classes == c]
        windows = len(rows) / copies
        if windows >= FEWEST:
            known = windows / (windows + COMMON_COUNTS)
            apart = bounded(rows) - fitted['mixture/mean']
            apart = apart - apart @ basis[:, :rank] @ basis[:, :rank].T
            own_mean[c] = known * apart.mean(0)
            own_spread[c] = np.sqrt(known * (apart @ (basis[:, rank:] / scale[rank:])).var(0) + 1 - known)
    return {'mixture/own_mean': own_mean, 'mixture/own_spread': own_spread}


def _clusters(rows: np.ndarray, scale: np.ndarray, components: int, copies: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights [k], centres [k, rank] and covariances [k, rank, rank] of at most so many components of one class.

    Hard clusters, not expectation maximisation, which serves students less (BUILD_NOTES). A cluster's
    covariance is drawn towards that within all of the class's, as if as many windows as there are dimensions had said so: of few windows it
    would be a plane, and a draw would lie between these very windows.

    Args:
      rows: [n, rank], in standard deviations along principal components.
      scale: [rank], these standard deviations: clusters are near in the windows' own units.
      copies: rows of each window.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    # Fewer rows may differ than there are components. For good: to put back what was ignored before would undo what another thread has
    # had ignored meanwhile, as students do.
    warnings.filterwarnings('ignore', category=ConvergenceWarning, module='sklearn')
    owner = KMeans(components, n_init=1, max_iter=30, random_state=seed).fit_predict(rows * scale)
    owner = np.unique(owner, return_inverse=True)[1]
    sizes = np.bincount(owner)
    centres = np.stack([rows[owner == k].mean(0) for k in range(len(sizes))])
    apart = rows - centres[owner]
    covariances = np.stack([apart[owner == k].T @ apart[owner == k] / sizes[k] for k in range(len(sizes))])
    within = np.tensordot(sizes / len(rows), covariances, 1)
    said = (sizes / copies / (sizes / copies + rows.shape[1]))[:, None, None]
    return sizes / len(rows), centres, said * covariances + (1 - said) * within + LEAST_VARIANCE * np.eye(rows.shape[1])


def spectral(x: np.ndarray) -> dict[str, np.ndarray]:
    """Each channel's amplitude spectrum: mean and spread of its logarithm, and the windows' means (which have no phase)."""
    offsets = x.mean(1)
    logs = _log_amplitudes(x - offsets[:, None])
    return {'spectral/offset': offsets.mean(0), 'spectral/offset_factor': _factor(offsets),
            'spectral/log_mean': logs.mean(0), 'spectral/log_spread': logs.std(0)}


def envelope_terms(time: int) -> int:
    """Cosine terms of the slow log-envelope: five for a minute at 1 Hz, eight for five minutes."""
    return max(3, round(5 * (time / 60) ** 0.3))


def band_width(time: int) -> int:
    """Neighbouring frequencies of a window of `time` samples that share one number of its descriptor. Of a long window's spectrum each
    single amplitude is nearly all chance, and there are thousands; their mean squares over bands say what the window is like."""
    return math.ceil((time // 2) / BANDS)


def cosine_basis(time: int, terms: int) -> np.ndarray:
    """[terms, time] slow cosines: the first rows of the discrete cosine transform, each with mean square 1."""
    basis = np.cos(np.pi * (np.arange(time) + 0.5)[None] * np.arange(terms)[:, None] / time)
    basis[1:] *= math.sqrt(2)
    return basis


def describe(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Windows as offset + exp(slow envelope) x carrier.

    Args:
      x: [n, time, channels].

    Returns:
      (descriptors [n, d], carriers [n, time, channels]). A descriptor holds, in this order and with channels innermost: the offset, the
      cosine coefficients of the log-envelope, and the log-amplitudes of the carrier's spectrum, those of long windows by bands
      (:func:`band_width`). No phase is in it, so that it does not change when a rhythm begins a little later.
    """
    from scipy import signal  # here: who excites fits nothing, and need not wait for it
    n, time, channels = x.shape
    offsets = x.mean(1, keepdims=True)
    envelope = np.abs(signal.hilbert(x - offsets, axis=1))
    floor = ENVELOPE_FLOOR * np.median(envelope, axis=(0, 1), keepdims=True) + 1e-6
    basis = cosine_basis(time, envelope_terms(time))
    coefficients = np.einsum('ntc,et->nec', np.log(envelope + floor), basis) / time
    carriers = (x - offsets) / np.exp(np.einsum('nec,et->ntc', coefficients, basis))
    logs = _log_amplitudes(carriers, band_width(time))
    return np.concatenate([part.reshape(n, -1) for part in (offsets, coefficients, logs)], 1), carriers


def modulated(x: np.ndarray, classes: np.ndarray, n_classes: int, seed: int) -> dict[str, np.ndarray]:
    """The mixture of the windows' descriptors (:func:`describe`), the range in which nearly all of them lie, and the phase differences
    between channels: their circular mean and standard deviation at each frequency."""
    descriptors, carriers = describe(x)
    fitted = mixture(descriptors, classes, n_classes, seed, MIXTURE_RANK[0])
    phase, jitter = _between_channels(carriers)
    return {
        **{name.replace('mixture', 'modulated'): value for name, value in fitted.items()},
        'modulated/range': np.percentile(bounded(descriptors), [0.1, 99.9], axis=0),
        'modulated/phase': phase, 'modulated/jitter': jitter,
    }


def _between_channels(x):
    """Circular mean and standard deviation [frequencies, channels] of phase differences to the first channel."""
    phases = np.exp(1j * np.angle(np.fft.rfft(x, axis=1)[:, 1:]))
    relative = (phases * phases[..., :1].conj()).mean(0)
    return np.angle(relative), np.sqrt(-2 * np.log(np.clip(np.abs(relative), 0.02, 1)))


def banded(x: np.ndarray, classes: np.ndarray, n_classes: int, seed: int) -> dict[str, np.ndarray]:
    """The mixture of what is seen of long windows (:mod:`neurostim.excitation.bands`), the range in which nearly all of it lies, and
    by classes the spectrum that a band's noise has and how channels go together in each band, real and imaginary parts apart.

    Where one place is as good as another, the mixture is fitted to copies of which each begins at another place, as
    :func:`shifted_mixture` is: nothing of a window is seen of two places, so that its end may meet its beginning without a seam.
    """
    seen = bands.split(x)
    rows, owners, copies = seen.reshape(len(x), -1), classes, 1
    if seen.shape[1] > 1 and bands.place_share(seen, classes) <= PLACED:
        copies = seen.shape[1]
        rows = np.concatenate([np.roll(seen, places, 1).reshape(len(x), -1) for places in range(copies)])
        owners = np.tile(classes, copies)
    fitted = mixture(rows, owners, n_classes, seed, 0, MIXTURE_ROWS if copies == 1 else SHIFTED_ROWS, copies)
    fitted.update(beyond_rank(rows, owners, n_classes, fitted, copies))
    coherence = bands.coherences(x, classes, n_classes, COMMON_COUNTS, FEWEST)
    spectra = bands.spectra(x, classes, n_classes, COMMON_COUNTS, FEWEST)
    return {**{name.replace('mixture', 'banded'): value for name, value in fitted.items()},
            'banded/range': np.percentile(bounded(rows), [0.1, 99.9], axis=0), 'banded/spectra': spectra,
            'banded/coherence': np.stack([coherence.real, coherence.imag]),
            'banded/stretch': np.ones((n_classes, rows.shape[1])), 'banded/correction': np.zeros((n_classes, rows.shape[1]))}


def _power(x):
    """The windows' power [time // 2, channels] at 1, 2, ... cycles a window, in all."""
    return sum((np.abs(np.fft.rfft(row, axis=0)[1:]) ** 2 for row in x - x.mean(1, keepdims=True)), np.zeros(()))


def pulsed(x: np.ndarray, classes: np.ndarray, n_classes: int, seed: int) -> dict[str, np.ndarray]:
    """The mixture of what long windows that are trains of pulses are described by (:mod:`neurostim.excitation.pulses`), and what puts them
    together again; nothing where windows are none."""
    from neurostim.excitation import pulse_search  # here, as below: who excites finds nothing
    width = pulse_search.usual_width(x)
    trains = width and pulse_search.find(x, width)
    if not trains:
        return {}
    parts = pulses.describe(trains)
    # Parts are in units of their own: of the mixture's components each is to have its share.
    units = {name: max(float(np.sqrt(part.var(0).sum())), 1e-6) / pulses.WEIGHTS[name] for name, part in parts.items()}
    numbers = np.concatenate([part / units[name] for name, part in parts.items()], 1)
    fitted = mixture(numbers, classes, n_classes, seed)
    fitted.update(beyond_rank(numbers, classes, n_classes, fitted))
    phase, jitter = _between_channels(trains.rest)
    # Independent noise in a waveform would come again with every pulse.
    fitted['mixture/rest'] *= np.concatenate([np.full(part.shape[1], name not in ('waveform', 'other')) for name, part in parts.items()])
    return {**{name.replace('mixture', 'pulsed'): value for name, value in fitted.items()},
            # One for each number, so that their lengths say where a part ends.
            **{f'pulsed/unit_{name}': np.full(part.shape[1], units[name]) for name, part in parts.items()},
            'pulsed/range': np.percentile(bounded(numbers), [0.1, 99.9], axis=0), 'pulsed/phase': phase, 'pulsed/jitter': jitter,
            'pulsed/share': bands.shares(_power(trains.rest), x.shape[1]), 'pulsed/stretch': np.ones((n_classes, parts['rest'].shape[1])),
            'pulsed/correction': np.zeros((n_classes, parts['rest'].shape[1])),
            'pulsed/interval': trains.interval, 'pulsed/first': trains.offsets[0]}


def slanted(images: np.ndarray, classes: np.ndarray, n_classes: int, seed: int) -> dict[str, np.ndarray]:
    """The mixture of upright images (:mod:`neurostim.excitation.slant`), each with its slant as a last number; nothing where images have
    no background.

    The slant is counted in such units that it has a tenth as much variance as all pixels together, or the mixture would not see it.
    """
    background = slant.background(images)
    if background is None:
        return {}
    leaning = slant.slants(images, background)
    flat = slant.upright(images, leaning, background).reshape(len(images), -1)
    unit = float(leaning.std() / math.sqrt(SLANT_SHARE * flat.var(0).sum() + 1e-12)) or 1.0
    fitted = mixture(np.concatenate([flat, leaning[:, None] / unit], 1), classes, n_classes, seed)
    return {**{name.replace('mixture', 'slanted'): value for name, value in fitted.items()},
            'slanted/background': background, 'slanted/unit': unit, 'slanted/threshold': 0.0}


def _log_amplitudes(x, width=1):
    amplitude = np.abs(np.fft.rfft(x, axis=1))[:, 1:]
    if width > 1:
        first = np.arange(0, amplitude.shape[1], width)
        sizes = np.diff(first, append=amplitude.shape[1])
        amplitude = np.sqrt(np.add.reduceat(amplitude**2, first, axis=1) / sizes[:, None])
    return np.log(amplitude + 1e-3 * amplitude.mean((0, 1)) + 1e-6)


def _factor(rows):
    """A square root of the rows' covariance."""
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(rows.T)))
    return vectors * np.sqrt(np.maximum(values, 0))
