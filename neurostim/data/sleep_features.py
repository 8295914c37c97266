"""`sleep_features`: sleep stages from 18 spectral features of two EEG channels, 10 people, two nights each, 30-s epochs.

Source: PhysioNet Sleep-EDF, SC part (Kemp et al., "Analysis of a sleep-dependent neuronal feedback loop", IEEE Trans Biomed Eng
47(9), 2000), as `study.npz`: x [epochs, 18], y, subject, night, classes.

Two things are undone before anyone learns from the features:
* Twelve of them are log(power + 1e-10) of powers far below 1e-10, so they crowd against log(1e-10) = -23.03 with differences in the
  third decimal. The floor is taken away: log(exp(v) - 1e-10).
* Power also depends on electrodes and skull. Every feature is counted from a low percentile of its own night, a quiet level that each
  night reaches whatever its mix of stages (a median moves with the share of wakefulness). No label is used. Gradient boosting and a
  small network gained 0.01 to 0.1 of kappa by it on each of three choices of held-out people (0.80 -> 0.86 on average).
"""

from __future__ import annotations

import numpy as np

from neurostim.data import find_data
from neurostim.data.npz import read_npz
from neurostim.errors import UserError, choose
from neurostim.study import Study, make_study

N_FEATURES = 18
LOG_POWERS = (0, 1, 2, 3, 4, 7, 9, 10, 11, 12, 13, 16)  # the columns that are log(power + FLOOR); the others are ratios near 1
CHANNELS = tuple(
    f'{("Fpz-Cz", "Pz-Oz")[f // 9]} {"log power" if f in LOG_POWERS else "ratio"} {f % 9}' for f in range(N_FEATURES))
FLOOR = 1e-10
SMALLEST_POWER = 2e-16  # what float32 resolves beside FLOOR
BASELINE_PERCENTILE = 10
LARGEST = 8.0  # after scaling
EPOCH_SECONDS = 30
REMEDY = 'fetch study.npz again'


def load(*, path=None, context: int = 5, held_out: tuple[int, ...] = (2, 5, 8), baseline: str = 'night') -> Study:
    """Sleep stages W, N1, N2, N3, REM.

    Args:
      path: the folder of `study.npz`, or one that holds it as `sleep-edf-features`; None asks NEUROSTIM_DATA_DIR.
      context: each window is an epoch amid as many epochs on either side: [2 context + 1, 18] (a night's first and last epoch are
        repeated beyond its ends); 0 gives the epoch's features alone, [18].
      held_out: numbers of the people held out.
      baseline: 'night' counts each feature from the 10th percentile of its night, 'none' from the training part's mean.

    Returns:
      A study whose groups are nights.

    Raises:
      UserError: a missing or malformed file, or an option out of range.
    """
    choose(baseline, ('night', 'none'), 'study.baseline')
    if isinstance(context, bool) or not isinstance(context, int) or not 0 <= context <= 60:
        raise UserError(f'study.context is {context!r}: give a number of epochs from 0 to 60')
    file = find_data(path, 'sleep-edf-features', 'study.npz') / 'study.npz'
    x, y, subject, night, classes = _read(file)
    if not isinstance(held_out, tuple | list):
        raise UserError(f'study.held_out is {held_out!r}: give a tuple of subject numbers')
    for person in held_out:
        choose(person, np.unique(subject).tolist(), 'subject in study.held_out:')
    test = np.isin(subject, held_out)
    if test.all():
        raise UserError(f'study.held_out is {held_out!r}, which is everybody: leave some to train on')
    group = np.array([f'subject {s} night {n}' for s, n in zip(subject, night, strict=True)])
    x = remove_floor(x)
    if baseline == 'none':
        x -= x[~test].mean(axis=0)
    window_index = np.arange(len(x))[:, None] + np.arange(-context, context + 1)
    for one in np.unique(group):
        rows = np.flatnonzero(group == one)
        if rows[-1] - rows[0] >= len(rows):
            raise UserError(f'{file}: the epochs of {one} do not follow each other: {REMEDY}')
        if baseline == 'night':
            x[rows] -= np.percentile(x[rows], BASELINE_PERCENTILE, axis=0)
        window_index[rows] = np.clip(window_index[rows], rows[0], rows[-1])
    # Ratios vary by hundredths and powers by units: each feature is put in units of its spread in the training part.
    x = np.clip(x / np.maximum(x[~test].std(axis=0), 1e-6), -LARGEST, LARGEST)
    return make_study(
        'sleep_features', x[window_index] if context else x, y, [f'subject {s}' for s in subject], group=group,
        test=test, classes=classes, channels=CHANNELS,
        sampling_rate_hz=1 / EPOCH_SECONDS if context else None, where=str(file))


def remove_floor(x: np.ndarray) -> np.ndarray:
    """float32 [n, 18] with log(power + 1e-10) turned into log(power); other columns as they are."""
    x = x.astype(np.float64)
    columns = list(LOG_POWERS)
    x[:, columns] = np.log(np.maximum(np.exp(x[:, columns]) - FLOOR, SMALLEST_POWER))
    return x.astype(np.float32)


def _read(file):
    """x [n, 18], y, subject, night [n] and class names of `study.npz`, checked against each other."""
    x, y, subject, night, classes = read_npz(file, ('x', 'y', 'subject', 'night', 'classes')).values()
    if x.shape[1:] != (N_FEATURES,) or not x.shape[:1] == y.shape == subject.shape == night.shape:
        shapes = ', '.join(str(array.shape) for array in (x, y, subject, night))
        raise UserError(f'{file}: x, y, subject, night have the shapes {shapes}, not [n, {N_FEATURES}] and three times [n]: {REMEDY}')
    powers = x[:, LOG_POWERS]
    if not np.isfinite(x).all() or powers.min() < np.log(FLOOR) - 1e-3 or powers.max() > 0:
        raise UserError(f'{file}: x holds values that are no log powers above log({FLOOR}): {REMEDY}')
    return x, y, subject, night, classes
