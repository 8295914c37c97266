"""Linkage: do stimuli lie nearer to the recordings of people whom they were made from than to those of strangers?

A person's windows lie nearer to everything if they are ordinary ones; so each person's distance to the nearest stimulus is taken
relative to the distance to the nearest real window of somebody else.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from neurostim.evaluation.neighbours import nearest
from neurostim.study import Study

FEWEST = 3  # people on either side
MOST_WINDOWS = 100  # of a person, drawn at random
MOST_STIMULI = 4000
DRAWS = 1000


def attack(study: Study, scaled: np.ndarray, stimuli: np.ndarray, seed: int = 0) -> dict:
    """Whether a person's rank among all by nearness to stimuli tells who is in: AUC with a 95 % bootstrap interval over people.

    The positive control releases every other training window instead of stimuli and is given the windows between: who can
    be linked at all is linked there.

    Args:
      scaled: the study's windows, scaled [n, *shape].
      stimuli: scaled [m, *shape].
    """
    inside = np.unique(study.subject[~study.test])
    strangers = np.setdiff1d(study.subject, inside)
    if min(len(inside), len(strangers)) < FEWEST:
        return {'auc': None, 'auc_ci95': None, 'control_auc': None,
                'note': f'{len(strangers)} people without training windows, {len(inside)} with some: each takes {FEWEST}'}
    rng = np.random.default_rng(seed)
    flat = scaled.reshape(len(scaled), -1)
    made = stimuli.reshape(len(stimuli), -1)
    made = made if len(made) <= MOST_STIMULI else made[rng.permutation(len(made))[:MOST_STIMULI]]
    train = np.flatnonzero(~study.test)
    released, between = train[::2], train[1::2]
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
        draws.append(roc_auc_score(known[drawn], np.asarray(ours)[drawn]))
    return {'auc': float(roc_auc_score(known, ours)), 'auc_ci95': np.percentile(draws, [2.5, 97.5]).tolist(),
            'control_auc': float(roc_auc_score(known, control)), 'people': len(inside), 'strangers': len(strangers)}
