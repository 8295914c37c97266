"""The flow's networks: the velocity of a Gaussian in closed form, and what series and vectors of any size come to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from neurostim.excitation import velocity

QUICK_COMPILE = True


def vectors(n, d=3, seed=0):
    """Correlated vectors around a class's own mean: [n, d], [n]."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    return (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 2.0 * y[:, None]).astype(np.float32), y


def at_first(base, width=8):
    """The network for vectors before it has learnt anything: (x, t, label) -> velocity."""
    network, fixed = velocity.OfVectors(width), [base[name] for name in velocity.BASE]
    classes, d = base['mean'].shape
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros(d), jnp.zeros(()), jnp.zeros(classes), *fixed)
    return jax.jit(lambda x, t, label: network.apply(params, x, t, label, *fixed))


@pytest.mark.parametrize('t', [0.2, 0.5, 0.9])
def test_at_first_the_velocity_is_the_regression_of_what_is_left_on_where_it_is(t):
    """Of a million lines from noise to the Gaussian's vectors, a linear regression finds the same map."""
    base = velocity.gaussian(*vectors(400), 2)
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(1_000_000, 3))
    x = base['mean'][1] + rng.normal(size=noise.shape) * np.sqrt(base['variance']) @ base['basis'].T
    on_line = (1 - t) * noise + t * x
    seen = np.concatenate([on_line, np.ones((len(x), 1))], 1)
    found = np.linalg.lstsq(seen, x - noise, rcond=None)[0]
    told = at_first(base)(jnp.float32(on_line[:200]), jnp.full(200, t), jnp.eye(2)[jnp.ones(200, int)])
    np.testing.assert_allclose(told, seen[:200] @ found, atol=0.03)


def test_what_classes_have_in_common():
    x, y = vectors(4000)
    found = velocity.gaussian(x, y, 3)
    np.testing.assert_allclose(found['basis'].T @ found['basis'], np.eye(3), atol=1e-5)
    for label in (0, 1):
        np.testing.assert_allclose(found['mean'][label], x[y == label].mean(0), atol=0.06)
    np.testing.assert_allclose(found['mean'][2], x.mean(0), atol=0.06)  # a class that nobody has
    within = x - np.stack([x[y == 0].mean(0), x[y == 1].mean(0)])[y]
    np.testing.assert_allclose(found['basis'] * found['variance'] @ found['basis'].T, ledoit_wolf(within)[0], rtol=0.1, atol=0.1)


def test_no_single_vector_is_a_direction_or_a_mean():
    """One far from all others hardly moves either; and of a class of two the mean is mostly that of all."""
    x, y = vectors(200)
    far = x.copy()
    far[3] = 1e4
    before, after = (velocity.gaussian(a, y, 2) for a in (x, far))
    assert np.abs(after['mean'] - before['mean']).max() < 0.3 and after['variance'].max() < 2 * before['variance'].max()
    rare = np.where(np.arange(200) < 2, 1, 0)
    found = velocity.gaussian(x, rare, 2)['mean']
    assert np.linalg.norm(found[1] - x.mean(0)) < 0.2 * np.linalg.norm(x[:2].mean(0) - x.mean(0)) + 0.05


def test_features_that_never_change_leave_the_velocity_finite():
    for x in (np.zeros((30, 4)), np.concatenate([np.zeros((30, 3)), vectors(30)[0]], 1)):
        base = velocity.gaussian(x, np.arange(30) % 2, 2)
        for t in (0.0, 0.5, 1.0):
            assert np.isfinite(at_first(base)(jnp.ones(x.shape[1]), jnp.float32(t), jnp.eye(2)[0])).all()


@pytest.mark.slow
@pytest.mark.parametrize('shape', [(7, 3), (60, 1), (130, 2), (5,), (40,)])
def test_windows_of_any_length(shape):
    """The velocity has the window's shape, alone or in a batch."""
    rng = np.random.default_rng(0)
    network, fixed = velocity.OfSeries(8), []
    if len(shape) == 1:
        network, base = velocity.OfVectors(8), velocity.gaussian(rng.normal(size=(90, *shape)), np.arange(90) % 3, 3)
        fixed = [base[name] for name in velocity.BASE]
    x = rng.normal(size=(3, *shape)).astype(np.float32)
    t, label = np.array([0.1, 0.5, 0.9], np.float32), np.eye(3, dtype=np.float32)
    params = jax.jit(network.init)(jax.random.key(0), x[0], t[0], label[0], *fixed)
    params = jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), params)  # as if it had learnt something
    apply = jax.jit(lambda *at: network.apply(params, *at, *fixed))
    whole = apply(x, t, label)
    assert whole.shape == x.shape
    for i in range(3):
        np.testing.assert_allclose(apply(x[i], t[i], label[i]), whole[i], rtol=1e-4, atol=1e-4)
    # Every value is heard everywhere, and the time and the class too.
    jacobian = jax.jit(jax.jacobian(lambda one: apply(one, t[1], label[0])))(x[1])
    assert (np.abs(jacobian) > 0).mean() > 0.95
    assert np.abs(apply(x[1], t[2], label[0]) - apply(x[1], t[1], label[0])).max() > 1e-3
    assert np.abs(apply(x[1], t[1], label[1]) - apply(x[1], t[1], label[0])).max() > 1e-3
