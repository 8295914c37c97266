"""Moments: a flow's draws that were matched have their windows' means and covariances, class by class."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurostim.excitation import flow, moments, parameterisation

QUICK_COMPILE = True
SHAPE = (16, 1)


@pytest.fixture(scope='module', autouse=True)
def flow_of_noise():
    """A flow whose draws are cheap: noise that is no Gaussian's, and the same for both classes."""
    mixing = np.float32(np.random.default_rng(5).normal(size=(16, 16)) / 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, 'draw', lambda population, shape, key, label: jnp.tanh(mixing @ jax.random.normal(key, (16,))).reshape(shape))
        parameterisation._drawer.cache_clear()
        yield
    parameterisation._drawer.cache_clear()  # compiled with these draws


def windows(n, seed=0):
    """Two classes with means and covariances of their own, [n, 16, 1] and [n]."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    mixing = np.random.default_rng(7).normal(size=(2, 16, 16)) / 4
    x = np.einsum('nij,nj->ni', mixing[y], rng.normal(size=(n, 16))) + np.where(y, 1.0, -0.5)[:, None] * np.linspace(0, 1, 16)
    return x[..., None].astype(np.float32), y


@functools.cache
def population(n):
    """Of `n` windows."""
    found = {'class_share': np.float32([0.9, 0.1]), 'bounds': np.float32([-50, 50]), 'gaussian/basis': np.zeros((16, 2), np.float32)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moments, 'LEAST_DRAWS', 10_000)  # so that little is left to chance
        return found | moments.fit(found, SHAPE, *windows(n))


def test_draws_have_the_mean_and_covariance_of_their_classs_windows():
    x, y = windows(20_000, seed=1)
    even = population(20_000) | {'class_share': np.float32([0.5, 0.5])}
    (plain, _), (made, label) = (parameterisation.unexcited(name, SHAPE, even, 12_000, 3) for name in ('flow', 'matched'))
    for own in (0, 1):
        found, wanted, before = (a[..., 0] for a in (made[label == own], x[y == own], plain[label == own]))
        spread = wanted.std()
        np.testing.assert_allclose(found.mean(0), wanted.mean(0), atol=0.06 * spread)
        apart, apart_before = (np.abs(np.cov(a.T) - np.cov(wanted.T)).max() / spread**2 for a in (found, before))
        assert apart < 0.08 < 0.4 < apart_before


def test_the_map_is_the_one_that_moves_least():
    """Between Gaussians it is symmetric and positive, and carries one covariance to the other."""
    for stretch in population(20_000)['matched/map']:
        np.testing.assert_allclose(stretch, stretch.T, atol=1e-5)
        assert np.linalg.eigvalsh(stretch).min() > 0
    draws, wide = np.random.default_rng(0).normal(size=(2, 50_000, 3)) * np.array([[[1, 2, 3]], [[2, 2, 1.5]]])
    *_, stretch = moments._between(draws, wide)
    np.testing.assert_allclose(stretch, np.diag([2, 1, 0.5]), atol=0.03)


def test_few_windows_hardly_move_or_stretch():
    few, many = population(8), population(20_000)
    stretched = [[np.linalg.norm(stretch - np.eye(16)) for stretch in found['matched/map']] for found in (few, many)]
    assert (np.array(stretched[0]) < 0.4 * np.array(stretched[1])).all()
    x, y = windows(8)
    own = np.stack([x[y == i].reshape(-1, 16).mean(0) for i in (0, 1)])
    np.testing.assert_allclose(few['matched/to'] - few['matched/from'], (own - few['matched/from']) * 4 / 24, atol=1e-6)  # 4 windows each


def test_a_class_of_one_window_is_not_that_window():
    x, y = windows(2)
    found = population(2)
    apart = [np.linalg.norm(found['matched/to'][i] - x[y == i].ravel()) for i in (0, 1)]
    assert (apart > 0.9 * np.linalg.norm(found['matched/from'] - x[..., 0], axis=1)).all()
    assert np.isfinite(found['matched/map']).all()


def test_a_class_that_nobody_has_stays_as_it_is_drawn():
    x, _ = windows(100)
    found = moments.fit(population(8), SHAPE, x, np.zeros(100, int))
    np.testing.assert_allclose(found['matched/to'][1], found['matched/from'][1], atol=1e-6)
    np.testing.assert_allclose(found['matched/map'][1], np.eye(16), atol=0.01)


def test_windows_beyond_the_limit_are_left_alone(monkeypatch):
    monkeypatch.setattr(moments, 'LARGEST', 15)
    assert moments.fit(population(8), SHAPE, *windows(8)) == {}


@pytest.mark.parametrize('label', [0, 1])
def test_one_draw_is_matched_as_its_class(label):
    found, x = population(20_000), np.random.default_rng(2).normal(size=SHAPE).astype(np.float32)
    expected = found['matched/to'][label] + found['matched/map'][label] @ (x.ravel() - found['matched/from'][label])
    made = moments.match(jax.tree.map(jnp.asarray, found), jnp.asarray(x), jnp.int32(label))
    np.testing.assert_allclose(made.ravel(), expected, rtol=1e-4, atol=1e-5)
