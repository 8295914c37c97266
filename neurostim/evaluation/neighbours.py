"""Neighbours: do stimuli lie nearer to the windows that the teacher learnt from than real windows that it never saw?

A bare distance says nothing; the yardstick is that of held-out real windows. A copy of a training window is as near as 0, whatever the
yardstick.
"""

from __future__ import annotations

import numpy as np

from neurostim.study import Study

MOST = 2000  # stimuli and held-out windows that are looked up, drawn at random
BLOCK = 256
DRAWS = 1000


def nearest(x: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Euclidean distance [n] from each of x [n, d] to the nearest of to [m, d]."""
    squares = (to * to).sum(1)
    parts = []
    for start in range(0, len(x), BLOCK):
        part = x[start:start + BLOCK]
        # The nearest by a quick formula, whose rounding would make small distances large; then exactly.
        closest = (squares - 2 * part @ to.T).argmin(1)
        parts.append(np.linalg.norm(part - to[closest], axis=1))
    return np.concatenate(parts)


def measure(study: Study, scaled: np.ndarray, stimuli: np.ndarray, seed: int = 0) -> dict:
    """The `neighbours` entry of results.json: median distances to the nearest training window, and their ratio with a 95 % interval over
    held-out people, or over test groups where people are in both parts.

    Args:
      scaled: the study's windows, scaled [n, *shape].
      stimuli: scaled [m, *shape].
    """
    rng = np.random.default_rng(seed)
    train = scaled[~study.test].reshape((~study.test).sum(), -1)
    held = np.flatnonzero(study.test)
    held = held if len(held) <= MOST else np.sort(rng.permutation(held)[:MOST])
    made = stimuli if len(stimuli) <= MOST else stimuli[np.sort(rng.permutation(len(stimuli))[:MOST])]
    ours, theirs = nearest(made.reshape(len(made), -1), train), nearest(scaled[held].reshape(len(held), -1), train)
    stimuli_median, held_median = float(np.median(ours)), float(np.median(theirs))
    entry = {'stimuli_to_train': stimuli_median, 'holdout_to_train': held_median, 'ratio': None, 'ratio_ci95': None,
             'stimuli_nearest': float(ours.min()), 'holdout_nearest': float(theirs.min())}
    if held_median == 0:  # half of the held-out windows are training windows
        return {**entry, 'note': 'held-out windows equal training windows: there is no yardstick'}
    entry['ratio'] = stimuli_median / held_median
    groups = study.subject[held]
    if np.isin(groups, study.subject[~study.test]).any():
        groups = study.group[held]
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    if len(members) < 2:
        return {**entry, 'note': 'one held-out person or group only: no interval'}
    ratios = []
    for _ in range(DRAWS):
        drawn = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        yardstick = np.median(theirs[drawn])
        if yardstick > 0:
            ratios.append(np.median(ours[rng.integers(0, len(ours), len(ours))]) / yardstick)
    return {**entry, 'ratio_ci95': np.percentile(ratios, [2.5, 97.5]).tolist()}
