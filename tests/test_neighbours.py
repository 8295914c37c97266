"""Distances to the nearest training window, against those of held-out windows."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from neurostim.evaluation import neighbours
from neurostim.study import make_study


def study(seed=0, n=600, d=6):
    rng = np.random.default_rng(seed)
    return make_study('normal', rng.normal(size=(n, d)), np.arange(n) % 2, np.arange(n) // 20, test=np.arange(n) >= n // 2)


def test_nearest_is_the_least_of_all_distances():
    rng = np.random.default_rng(0)
    x, to = rng.normal(size=(300, 4)).astype(np.float32), rng.normal(size=(500, 4)).astype(np.float32)
    np.testing.assert_allclose(neighbours.nearest(x, to), cdist(x, to).min(1), rtol=1e-4)
    assert not neighbours.nearest(to, to).any()  # exactly, not to a rounding


def test_copies_are_seen_and_new_draws_are_not():
    s = study()
    fresh = np.random.default_rng(5).normal(size=(1000, 6)).astype(np.float32)
    entry = neighbours.measure(s, s.x, fresh)
    assert entry['ratio'] == pytest.approx(1, abs=0.1) and entry['ratio_ci95'][0] < 1 < entry['ratio_ci95'][1]
    copies = s.x[~s.test][:200]
    entry = neighbours.measure(s, s.x, copies)
    assert entry['ratio'] == 0 and entry['stimuli_nearest'] == 0
    near = neighbours.measure(s, s.x, copies + 0.1)
    assert near['ratio_ci95'][1] < 0.6
    assert near['ratio'] == pytest.approx(near['stimuli_to_train'] / near['holdout_to_train'])


def test_the_interval_is_over_people():
    """Where half of the people lie far from all others, new people could be of either half; new windows would always be of both."""
    s = study()
    x = s.x.copy()
    x[s.test & (s.subject % 2 == 0)] += 3
    narrow = neighbours.measure(s, s.x, s.x[s.test])['ratio_ci95']
    wide = neighbours.measure(s, x, s.x[s.test])['ratio_ci95']
    assert np.diff(wide) > 3 * np.diff(narrow)


def test_no_yardstick_is_no_ratio():
    s = study()
    x = s.x.copy()
    x[s.test] = x[~s.test]
    entry = neighbours.measure(s, x, x[:10])
    assert entry['ratio'] is None and entry['ratio_ci95'] is None and 'no yardstick' in entry['note']
