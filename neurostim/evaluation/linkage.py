"""Linkage: do stimuli lie nearer to the recordings of people whom they were made from than to those of strangers?

A person's windows lie nearer to everything if they are ordinary ones; so each person's distance to the nearest stimulus is taken
relative to the distance to the nearest real window of somebody else.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from neurostim.evaluation.neighbours import nearest
from neurostim.evaluation.utility import weighted_auc
from neurostim.study import Study

FEWEST = 3  # people on either side
MOST_WINDOWS = 100  # of a person, drawn at random
MOST_STIMULI = 4000
DRAWS = 1000
SHORTEST = 16  # samples of a window that has a spectrum to speak of


def attack(study: Study, scaled: np.ndarray, stimuli: np.ndarray, seed: int = 0) -> dict:
    """Whether a person's rank among all by nearness to stimuli tells who is in: AUC with a 95 % bootstrap interval over people.

    The positive control releases every other training window of each person instead of stimuli and is given the windows between: who can
    be linked at all is linked there. Time series are compared a second time by their spectra, under 'spectra': whose rhythm begins a
    little later is still the same person.

    Args:
      scaled: the study's windows, scaled [n, *shape].
      stimuli: scaled [m, *shape].
    """
    learnt = study.subject[~study.test]
    inside = np.flatnonzero(np.bincount(learnt) >= 2)  # of one window nothing is left when it is released
    strangers = np.setdiff1d(study.subject, learnt)
    if min(len(inside), len(strangers)) < FEWEST:
        return {'auc': None, 'auc_ci95': None, 'control_auc': None,
                'note': f'{len(strangers)} people without training windows, {len(inside)} with two or more: each takes {FEWEST}'}
    entry = _rank(study, scaled.reshape(len(scaled), -1), stimuli.reshape(len(stimuli), -1), inside, strangers, seed)
    if study.kind == 'windows' and study.shape[0] >= SHORTEST:
        found = _rank(study, *spectra(scaled, stimuli), inside, strangers, seed)
        entry['spectra'] = {name: found[name] for name in ('auc', 'auc_ci95', 'control_auc')}
    return entry


def spectra(scaled: np.ndarray, stimuli: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-amplitude spectra of windows and stimuli [n, time, channels] as [n, d], each number in standard deviations over the windows."""
    floor = silence(scaled)
    real, made = (log_spectra(x, floor) for x in (scaled, stimuli))
    mean, spread = real.mean(0), real.std(0) + 1e-9
    return (real - mean) / spread, (made - mean) / spread


def log_spectra(x: np.ndarray, floor: float) -> np.ndarray:
    """Logarithms of amplitudes, and of `floor` more, of windows [n, time, channels] as [n, d]."""
    return np.log(np.abs(np.fft.rfft(x, axis=1)) + floor).reshape(len(x), -1)


def silence(x: np.ndarray) -> float:
    """An amplitude that is hardly any, of windows [n, time, channels]."""
    return 1e-2 * float(np.abs(np.fft.rfft(x, axis=1)).mean())


def _rank(study: Study, flat: np.ndarray, made: np.ndarray, inside: np.ndarray, strangers: np.ndarray, seed: int) -> dict:
    """The figures for windows [n, d] and stimuli [m, d], which any distance can be taken between."""
    rng = np.random.default_rng(seed)
    made = made if len(made) <= MOST_STIMULI else made[rng.permutation(len(made))[:MOST_STIMULI]]
    of_people = [np.flatnonzero(~study.test & (study.subject == person)) for person in np.unique(study.subject[~study.test])]
    released, between = (np.concatenate([rows[first::2] for rows in of_people]) for first in (0, 1))
    people = np.concatenate([inside, strangers])
    known = np.isin(people, inside)
    # As many of others for everybody: who has none of their own among them would otherwise seem to have nearer ones.
    crowd = min(MOST_STIMULI, min(int((study.subject[released] != person).sum()) for person in people))
    ours, control = [], []
    for person, is_known in zip(people, known, strict=True):
        rows = between[study.subject[between] == person] if is_known else np.flatnonzero(study.subject == person)
        rows = rows if len(rows) <= MOST_WINDOWS else rng.permutation(rows)[:MOST_WINDOWS]
        others = rng.permutation(released[study.subject[released] != person])[:crowd]
        yardstick = np.median(nearest(flat[rows], flat[others])) + 1e-9
        ours.append(-np.median(nearest(flat[rows], made)) / yardstick)
        control.append(-np.median(nearest(flat[rows], flat[released])) / yardstick)
    draws = []
    for _ in range(DRAWS):
        drawn = np.concatenate([rng.choice(np.flatnonzero(part), part.sum()) for part in (known, ~known)])
        draws.append(weighted_auc(np.asarray(ours), known, np.bincount(drawn, minlength=len(known))))
    return {'auc': float(roc_auc_score(known, ours)), 'auc_ci95': np.percentile(draws, [2.5, 97.5]).tolist(),
            'control_auc': float(roc_auc_score(known, control)), 'people': len(inside), 'strangers': len(strangers)}
