"""Marginals: draws that are put right have the windows' quantiles, by an increasing map whose derivative is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import USUAL_DRAWS

from neurostim.excitation import flow, marginals, moments, parameterisation, targets
from neurostim.excitation.population import fit_population, gaussian

QUICK_COMPILE = True


@pytest.fixture(autouse=True, scope='module')
def all_draws():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(marginals, 'DRAWS', USUAL_DRAWS)
        yield


def skewed(shape, n=1500, seed=0):
    """Windows whose numbers are correlated, mostly low and never negative, and their classes."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(n, *[1] * len(shape)))
    return np.maximum(common + rng.normal(size=(n, *shape)), 0).astype(np.float32), (common.ravel() > 0).astype(int)


def population_of(shape, kind):
    x, y = skewed(shape)
    population = fit_population(x, kind, y, 2)
    return x, jax.tree.map(jnp.asarray, population | marginals.fit(population, shape, x, y))


def draws(population, method, shape, count=6000, put_right=True):
    p = parameterisation.make(method, shape, population, put_right)

    def one(key):
        label_key, key = jax.random.split(key)
        label = jax.random.bernoulli(label_key, population['class_share'][1]).astype(jnp.int32)
        return p.decode(population, *p.start(population, key, targets.Target(jax.nn.one_hot(label, 2), label, 2.0)))

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(7), count)))


@pytest.mark.parametrize(('shape', 'kind', 'method'), [
    ((5,), 'features', 'mixture'), ((4, 4, 1), 'images', 'mixture'), ((32, 2), 'windows', 'mixture'), ((32, 2), 'windows', 'modulated')])
def test_draws_have_the_windows_quantiles(shape, kind, method):
    x, population = population_of(shape, kind)
    levels = [0.1, 0.3, 0.5, 0.7, 0.9, 0.97]

    def apart(made):
        flat = (a.reshape(-1, shape[-1]) if kind == 'windows' else a.reshape(len(a), -1) for a in (x, made))
        real, drawn = (np.quantile(a, levels, axis=0) for a in flat)
        return np.abs(real - drawn).max()

    right, wrong = apart(draws(population, method, shape)), apart(draws(population, method, shape, put_right=False))
    assert right < 0.12
    assert right < wrong / 2


@pytest.mark.slow
def test_a_flows_vectors_have_the_features_quantiles(monkeypatch):
    """Features that are mostly 0, of which a flow that has hardly learnt makes a smear; of time series it keeps its own."""
    monkeypatch.setattr(moments, 'NUMBERS', 4 * 512)
    x, y = skewed((4,))
    population = flow.fit(x, y, np.arange(len(x)) % 8 == 0, 2, flow.FlowOptions(steps=100, width=8, batch=64), seed=0)
    population['class_share'] = np.float32([0.5, 0.5])
    population.update(gaussian(x, 0), bounds=np.float32([-9, 9]))
    population.update(moments.fit(population, (4,), x, y))
    population = jax.tree.map(jnp.asarray, population | marginals.fit(population, (4,), x, y))
    for method in moments.FLOWS:
        right, wrong = ((np.abs(draws(population, method, (4,), put_right=right)) < 0.05).mean() for right in (True, False))
        real = (np.abs(x) < 0.05).mean()
        assert abs(right - real) < 0.05 and wrong < real - 0.2
        assert marginals.fit({f'{method}/map': 0}, (20, 1), np.zeros((30, 20, 1), np.float32), np.arange(30) % 2) == {}


def test_the_map_is_increasing_and_its_derivative_is_that_of_finite_differences():
    _, population = population_of((6,), 'features')
    x = jnp.asarray(np.random.default_rng(0).normal(size=(200, 6)), jnp.float32)

    def right(x):
        return jax.vmap(lambda row: marginals.put_right(population, 'mixture', row))(x)

    ordered = right(jnp.sort(x, 0))
    assert (np.diff(ordered, axis=0) >= -1e-6).all()
    h = 1e-3
    numeric = (right(x + h) - right(x - h)) / (2 * h)
    knots = population['mixture/marginal_from']
    between = np.abs(np.asarray(x)[:, None] - knots).min(1) > 2 * h  # at a knot both slopes would be right
    assert between.mean() > 0.8
    np.testing.assert_allclose(jax.grad(lambda x: right(x).sum())(x)[between], numeric[between], atol=2e-2)


def test_it_is_constant_beyond_the_outermost_quantiles_which_are_no_single_windows():
    x, population = population_of((3,), 'features')
    far = marginals.put_right(population, 'mixture', jnp.full(3, 1e6))
    np.testing.assert_allclose(far, population['mixture/marginal_to'][-1], rtol=1e-5)
    beyond = (x > population['mixture/marginal_to'][-1]).sum(0)
    assert (beyond >= marginals.FEWEST - 1).all()


def test_draws_of_the_right_distribution_stay_as_they_are():
    x = np.random.default_rng(0).normal(size=(20_000, 4)).astype(np.float32)
    population = fit_population(x, 'features', np.arange(len(x)) % 2, 2)
    population |= marginals.fit(population, (4,), x, np.arange(len(x)) % 2)
    rows = x[np.abs(x).max(1) < 2][:500]
    moved = jax.vmap(lambda row: marginals.put_right(population, 'mixture', row))(rows)
    assert np.abs(moved - rows).max() < 0.15


def test_a_method_without_a_map_is_left_alone():
    _, population = population_of((5,), 'features')
    assert not marginals.fitted(population, 'gaussian')
    np.testing.assert_array_equal(draws(population, 'gaussian', (5,)), draws(population, 'gaussian', (5,), put_right=False))
