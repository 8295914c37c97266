"""Samplers of targets: distributions over the classes, drawn as often as they should be."""

import functools

import jax
import numpy as np
import pytest

from neurostim.errors import UserError
from neurostim.excitation import targets

QUICK_COMPILE = True
SHARE = np.array([0.5, 0.3, 0.15, 0.05])
SIMILARITY = np.array([[1, 0.9, 0.01, 0.1], [0.9, 1, 0.2, 0.1], [0.01, 0.2, 1, 0.5], [0.1, 0.1, 0.5, 1]])
DRAWS = 4000
OPTIONS = {'beta': {'a': 3.0, 'b': 2.0}, 'dirichlet': {'concentration': 1.5}, 'similarity': {'concentration': 2.0}}


@functools.cache
def sampler(name, share, options):
    return jax.jit(jax.vmap(targets.make_sampler(name, np.array(share), **dict(options))))


def draw(name, share=SHARE, count=DRAWS, seed=0, **options):
    options = OPTIONS.get(name, {}) | options
    if name == 'similarity':
        options['similarity'] = tuple(map(tuple, SIMILARITY[: len(share), : len(share)]))
    keys = jax.random.split(jax.random.key(seed), count)
    return jax.tree.map(np.asarray, sampler(name, tuple(share), tuple(options.items()))(keys))


@pytest.fixture(scope='module', params=targets.NAMES)
def drawn(request):
    return request.param, draw(request.param)


def test_beliefs_are_distributions_and_labels_follow_the_shares(drawn):
    name, target = drawn
    assert target.belief.shape == (DRAWS, 4) and (target.belief >= 0).all()
    np.testing.assert_allclose(target.belief.sum(1), 1, atol=1e-5)
    # How often a class is drawn, or, where no class is drawn, how much it is believed in on average.
    frequency = target.belief.mean(0) if name == 'dirichlet' else np.bincount(target.label, minlength=4) / DRAWS
    assert (np.abs(frequency - SHARE) < 4 * np.sqrt(SHARE * (1 - SHARE) / DRAWS)).all()


def test_thresholds(drawn):
    name, target = drawn
    if name != 'threshold':
        assert (target.threshold > 1).all()  # never early
        return
    assert target.threshold.min() >= 0.75 and target.threshold.max() <= 0.9999
    np.testing.assert_allclose(np.quantile(target.threshold, [0, 0.25, 0.5, 0.75, 1]), np.linspace(0.75, 0.9999, 5), atol=0.015)
    np.testing.assert_array_equal(target.belief, np.eye(4)[target.label])
    correlation = np.corrcoef(target.label, target.threshold)[0, 1]
    assert abs(correlation) < 4 / np.sqrt(DRAWS)


def test_thresholds_can_be_moved():
    target = draw('threshold', count=500, low=0.5, high=0.6)
    assert 0.5 <= target.threshold.min() < 0.51 and 0.59 < target.threshold.max() <= 0.6


def test_beta_believes_most_in_its_class():
    """(belief - 1 / classes) / (1 - 1 / classes) is Beta(a, b); the rest has no favourite."""
    target = draw('beta')
    own = np.take_along_axis(target.belief, target.label[:, None], 1)[:, 0]
    assert own.min() >= 0.25
    even = (own - 0.25) / 0.75
    assert even.mean() == pytest.approx(0.6, abs=0.015) and even.var() == pytest.approx(0.04, abs=0.004)
    rest = target.belief[target.label == 0][:, 1:]
    rest = rest / rest.sum(1, keepdims=True)
    np.testing.assert_allclose(rest.mean(0), 1 / 3, atol=0.03)
    np.testing.assert_allclose(rest.var(0), 1 / 18, atol=0.01)  # of a flat Dirichlet over three


def test_beta_of_two_classes_is_never_nan():
    """Even where the other class's share of the rest is drawn as zero."""
    sample = targets.make_sampler('beta', np.array([0.5, 0.5]))
    zero = jax.random.exponential

    try:
        jax.random.exponential = lambda key, shape: jax.numpy.zeros(shape)
        belief = sample(jax.random.key(0)).belief
    finally:
        jax.random.exponential = zero
    assert np.isfinite(belief).all() and belief.sum() == pytest.approx(1)


def test_dirichlet_concentration():
    target = draw('dirichlet')
    np.testing.assert_allclose(target.belief.var(0), SHARE * (1 - SHARE) / (OPTIONS['dirichlet']['concentration'] + 1), rtol=0.15)
    np.testing.assert_array_equal(target.label, target.belief.argmax(1))


def test_similarity_beliefs_have_the_row_of_their_class_as_mean():
    target = draw('similarity')
    for label in range(3):
        np.testing.assert_allclose(target.belief[target.label == label].mean(0), SIMILARITY[label] / SIMILARITY[label].sum(), atol=0.03)


def test_draws_depend_on_the_key_alone(drawn):
    name, target = drawn
    jax.tree.map(np.testing.assert_array_equal, target, draw(name))
    assert len(np.unique(target.belief, axis=0)) == (4 if name == 'threshold' else DRAWS)
    assert name != 'threshold' or len(np.unique(target.threshold)) > 0.99 * DRAWS


def test_absent_classes_are_never_drawn():
    target = draw('similarity', np.array([0.5, 0.0, 0.5]), count=300)
    assert set(target.label) == {0, 2} and np.isfinite(target.belief).all()


def test_class_similarity():
    rng = np.random.default_rng(0)
    kernels = [rng.normal(size=(30, 4)), rng.normal(size=(50, 4))]
    for kernel in kernels:
        kernel[:, 1] = 2 * kernel[:, 0] + 0.1 * kernel[:, 1]  # classes 0 and 1 are alike
    similarity = targets.class_similarity(kernels, 4)
    assert similarity.shape == (4, 4) and similarity.min() >= 0.01 and similarity.max() <= 1
    np.testing.assert_allclose(np.diag(similarity), 1)
    assert similarity[0, 1] > 0.9 and similarity[0, 1] > similarity[0, 2:].max() + 0.1
    # Units' order, the kernels' scale and the classes' order are nothing.
    np.testing.assert_allclose(targets.class_similarity([3 * k[::-1] for k in kernels], 4), similarity)
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(targets.class_similarity([k[:, order] for k in kernels], 4), similarity[np.ix_(order, order)])
    np.testing.assert_array_equal(targets.class_similarity([], 3), np.maximum(np.eye(3), 0.01))  # members without a last layer


@pytest.mark.parametrize('options, message', [
    ({'name': 'treshold'}, "unknown excite.target.name 'treshold'.*threshold"),
    ({'name': 'threshold', 'low': 0.9, 'high': 0.8}, '0.9 and 0.8'),
    ({'name': 'threshold', 'low': 0.0}, 'low'),
    ({'name': 'threshold', 'high': 1.5}, '1.5'),
    ({'name': 'similarity'}, 'similarities'),
    ({'name': 'beta', 'a': 0.0}, 'excite.target.a '),
    ({'name': 'beta', 'b': -1.0}, 'excite.target.b '),
    ({'name': 'dirichlet', 'concentration': 0.0}, 'excite.target.concentration'),
])
def test_what_the_user_can_fix(options, message):
    with pytest.raises(UserError, match=message):
        targets.make_sampler(class_share=SHARE, **options)
