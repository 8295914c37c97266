"""Leaves of trees as a density: what they keep of windows, what they do not show, and how they are drawn from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import stats

from neurostim.errors import UserError
from neurostim.excitation import leaves, parameterisation
from neurostim.excitation.population import fit_population

QUICK_COMPILE = True


def mostly_nothing(n=600, seed=0):
    """Three numbers: of class 0 the second is there only where the first is, and of class 1 only where it is not; the third is the first
    and noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    there = rng.random(n) < 0.4
    first = there * rng.uniform(1, 2, n)
    second = (there == (y == 0)) * rng.uniform(1, 2, n)
    return np.stack([first, second, first + 0.1 * rng.normal(size=n)], 1).astype(np.float32), y


@pytest.fixture(scope='module')
def population():
    x, y = mostly_nothing()
    return fit_population(x, 'features', y, 2)


def draws(population, d, count=4000, name='leaves', **given):
    return parameterisation.unexcited(name, (d,), population, count, 0, **given)


def test_nothing_stays_nothing_and_what_goes_together_does(population):
    """A mixture of Gaussians smears both."""
    (x, y), (made, label) = mostly_nothing(), draws(population, 3)
    smeared, owner = draws(population, 3, name='mixture')
    together = lambda x, y: ((x[:, 0] == 0) == (x[:, 1] == 0))[y == 0].mean()  # noqa: E731
    empty = lambda x, y: (x[:, :2] == 0).mean(0)  # noqa: E731
    assert together(x, y) == 1 and together(made, label) > 0.9
    assert np.abs(empty(made, label) - empty(x, y)).max() < 0.1 and empty(smeared, owner).max() < 0.01
    assert np.corrcoef(made[:, 0], made[:, 2])[0, 1] > 0.95


def test_classes_have_leaves_of_their_own(population):
    (x, y), (made, label) = mostly_nothing(), draws(population, 3)
    both = lambda x, y, c: (x[y == c, :2] > 0.5).all(1).mean()  # noqa: E731
    assert abs(both(made, label, 0) - both(x, y, 0)) < 0.06 and both(made, label, 1) < 0.03 and both(x, y, 1) == 0


def test_a_lone_window_does_not_show():
    """One that is far from all others leaves no trace in the table: the outermost of each leaf are cut."""
    x, y = mostly_nothing()
    x[7] = 1000
    table = leaves.fit(x, y, 2)['leaves/quantiles']
    assert table.max() < 5 and np.isfinite(table).all()


def test_nodes_hold_many_windows():
    """Each row's node is the deepest that has enough rows; all that the node has are told of."""
    x, _ = mostly_nothing()
    for deepest, inside in leaves._grow(x, 3, np.random.default_rng(0)):
        assert inside.sum(0).min() >= leaves.FEWEST and inside[np.arange(len(x)), deepest].all()
        sizes = inside.sum(0)
        assert all(sizes[node] == sizes[np.flatnonzero(row)].min() for node, row in zip(deepest, inside, strict=True))
        assert len(np.unique(deepest)) > 5


def test_a_table_is_the_quantiles_of_those_windows():
    x, _ = mostly_nothing()
    deepest, inside = leaves._grow(x, 1, np.random.default_rng(0))[0]
    table, counts = leaves._table(x, (deepest, inside))
    for node, quantiles, count in zip(np.unique(deepest), table, counts, strict=True):
        np.testing.assert_array_equal(quantiles, np.quantile(x[inside[:, node]], leaves.LEVELS, axis=0, method='nearest'))
        assert count == (deepest == node).sum()


@pytest.mark.parametrize('sizes', [(300, 12, 5, 0), (12, 11, 10), (9, 8)])
def test_few_windows_are_one_leaf(sizes):
    """Of fewer than twice `FEWEST` no tree is grown; for a class of fewer than `FEWEST` all windows stand in."""
    y = np.repeat(np.arange(len(sizes)), sizes)
    x = (y[:, None] + np.random.default_rng(0).normal(size=(len(y), 4))).astype(np.float32)
    found = leaves.fit(x, y, len(sizes))
    owner = np.ceil(found['leaves/upto'] - 1e-9) - 1
    for label, size in enumerate(sizes):
        own = found['leaves/quantiles'][owner == label]
        rows = x[y == label] if size >= leaves.FEWEST else x
        if len(rows) < 2 * leaves.FEWEST:
            np.testing.assert_array_equal(own, np.quantile(rows, leaves.LEVELS, axis=0, method='nearest')[None])
        else:
            assert len(own) > 50 and np.isin(own, rows).all()


def test_leaves_come_as_often_as_windows_are_in_them():
    table = {'leaves/upto': jnp.array([0.75, 1, 1.25, 1.5, 2]), 'leaves/quantiles': jnp.arange(5.0)[:, None, None] * jnp.ones((1, 5, 1))}
    of = jax.jit(jax.vmap(lambda key, label: leaves.draw_leaf(table, key, label)[0, 0], (0, None)))
    for label, shares in ((0, [0.75, 0.25, 0, 0, 0]), (1, [0, 0, 0.25, 0.25, 0.5])):
        counts = np.bincount(np.asarray(of(jax.random.split(jax.random.key(label), 4000), label)).astype(int), minlength=5)
        assert not counts[np.equal(shares, 0)].any()
        kept = np.greater(shares, 0)
        assert stats.chisquare(counts[kept], 4000 * np.array(shares)[kept]).pvalue > 1e-3


def test_scores_have_places_between_quantiles():
    """The median at 0, the outermost quantiles far away, even steps of probability between; differentiable."""
    quantiles = jnp.array([[0.0], [1], [5], [6], [9]])
    at = lambda score: float(leaves.place(quantiles, jnp.array([score]))[0])  # noqa: E731
    assert at(0.0) == 5 and at(-9.0) == pytest.approx(0, abs=1e-6) and at(9.0) == 9
    np.testing.assert_allclose([at(stats.norm.ppf(p)) for p in (0.125, 0.5 + 0.125, 0.75)], [0.5, 5.5, 6], atol=1e-4)
    check_grads(lambda scores: leaves.place(quantiles, scores), (jnp.array([0.3]),), 1, eps=1e-3, atol=1e-2, rtol=1e-2)


def test_the_same_seed_is_the_same_table():
    x, y = mostly_nothing(200)
    first, again, other = (leaves.fit(x, y, 2, seed) for seed in (3, 3, 4))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first['leaves/upto'], other['leaves/upto'])


def test_a_table_is_bounded(monkeypatch):
    """By fewer trees, and where one is too much by fewer windows."""
    x, y = mostly_nothing(2000)
    monkeypatch.setattr(leaves, 'LEAVES', 400)
    assert len(leaves.fit(x, y, 2)['leaves/upto']) <= 400
    monkeypatch.setattr(leaves, 'NUMBERS', 5 * 3 * 100)
    assert len(leaves.fit(x, y, 2)['leaves/upto']) <= 100


def test_only_feature_vectors_have_leaves():
    assert leaves.suits('features', (leaves.LARGEST,)) and not leaves.suits('features', (leaves.LARGEST + 1,))
    assert not leaves.suits('windows', (32, 2)) and not leaves.suits('images', (8, 8, 1))
    with pytest.raises(UserError, match="'leaves'.*mixture"):
        parameterisation.make('leaves', (32, 2), {})
