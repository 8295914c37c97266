"""Paired tests: hand-worked examples, and false alarms as often as promised."""

import numpy as np
import pytest
from scipy import stats

from neurostim.evaluation import significance, utility


def test_holm_by_hand():
    """Of four: .005 x 4, .01 x 3, .03 x 2, .04 x 1; the last may not be less than the one before it."""
    np.testing.assert_allclose(significance.holm([.01, .04, .03, .005]), [.03, .06, .06, .02])


@pytest.mark.parametrize(('given', 'corrected'), [([], []), ([.2], [.2]), ([.6, .7], [1, 1]), ([.01, .01], [.02, .02])])
def test_holm_at_the_edges(given, corrected):
    np.testing.assert_allclose(significance.holm(given), corrected)


def test_holm_follows_its_values():
    p = np.random.default_rng(0).uniform(size=30) ** 3
    order = np.random.default_rng(1).permutation(30)
    np.testing.assert_allclose(significance.holm(p)[order], significance.holm(p[order]))
    assert (significance.holm(p) >= p).all() and (np.diff(significance.holm(p)[np.argsort(p)]) >= 0).all()


def test_two_sided_is_that_of_a_normal_difference():
    draws = np.random.default_rng(0).normal(2, 1, 200_000)
    assert significance.two_sided(draws) == pytest.approx(2 * stats.norm.sf(2), rel=0.05)
    assert significance.two_sided(-draws) == significance.two_sided(draws)


def test_two_sided_is_never_zero_and_never_above_one():
    assert significance.two_sided(np.ones(99)) == pytest.approx(0.02)
    assert significance.two_sided(np.zeros(99)) == 1


def test_the_test_agrees_with_the_interval():
    """Where the 95 % interval just leaves out 0, p is just below .05."""
    rng = np.random.default_rng(0)
    y, group = rng.integers(0, 2, 600), np.arange(600) // 30
    better, worse = (np.where(rng.random((2, 600)) < wrong, 1 - y, y) for wrong in (.1, .13))
    gap, draws = utility.gap_draws(y, group, better, worse, 2, 4000)
    same_gap, interval = utility.gap_interval(y, group, better, worse, 2, 4000)
    assert gap == same_gap and interval == np.percentile(draws, [2.5, 97.5]).tolist()
    for end in interval:
        assert significance.two_sided(draws - end) == pytest.approx(.05, abs=.003)
