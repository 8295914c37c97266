"""The objective's terms against numpy and finite differences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurostim.errors import UserError
from neurostim.excitation import objective
from neurostim.excitation.objective import Weights, make_objective
from neurostim.excitation.parameterisation import Context

QUICK_COMPILE = True
RNG = np.random.default_rng(0)
X = RNG.normal(size=(9, 3))
START = RNG.normal(size=(9, 3))
BELIEF = RNG.dirichlet(np.ones(4))
MATRIX = RNG.normal(size=(27, 4))
NAMES = [field.name for field in dataclasses.fields(Weights) if field.type == 'float' and field.name != 'inhibit']


def log_softmax(z):
    return z - z.max() - np.log(np.exp(z - z.max()).sum())


def teacher(params, x):
    hidden = jnp.tanh(x * 2)
    return hidden.reshape(-1) @ params, {'0/hidden': hidden, '1/flat': hidden.reshape(-1)}


REFERENCE = {
    'excite': lambda x: -(BELIEF * log_softmax(np.tanh(4 * x).ravel() @ MATRIX)).sum(),
    'prior': lambda x: 0.5 * np.mean(x**2),
    'tether': lambda x: np.mean((x - START) ** 2),
    'total_variation': lambda x: np.abs(2 * x[1:] - 2 * x[:-1]).mean(),
    'amplitude': lambda x: np.mean(4 * x**2),
    'unit': lambda x: -np.tanh(4 * x)[:, 1].mean(),
}


def compute(weights):
    """Value and gradient where a stimulus is twice its variables."""
    one = make_objective(weights, lambda v, c: 2 * v, lambda v, c: 0.5 * (v * v).mean(), teacher)
    return jax.jit(jax.value_and_grad(one, has_aux=True))(X, Context(START), BELIEF, MATRIX)


def difference(function, x, eps=1e-6):
    steps = np.eye(x.size).reshape(-1, *x.shape) * eps
    return np.array([function(x + step) - function(x - step) for step in steps]).reshape(x.shape) / (2 * eps)


@pytest.mark.parametrize('name', NAMES)
def test_each_term_and_its_gradient(name):
    with jax.enable_x64(True):
        weights = Weights(**(dict.fromkeys(NAMES, 0.0) | {name: 0.7}), unit_name='0/hidden:1')
        (value, (x, logits)), gradient = compute(weights)
    assert value == pytest.approx(0.7 * REFERENCE[name](X), rel=1e-9)
    np.testing.assert_allclose(gradient, 0.7 * difference(REFERENCE[name], X), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(x, 2 * X)
    np.testing.assert_allclose(logits, np.tanh(4 * X).ravel() @ MATRIX)


def test_terms_add_up():
    share = dict(zip(NAMES, (1.0, 0.3, 2.0, 0.5, 0.1, 4.0), strict=True))
    with jax.enable_x64(True):
        (value, _), gradient = compute(Weights(**share, unit_name='0/hidden:1'))
    total = lambda x: sum(weight * REFERENCE[name](x) for name, weight in share.items())  # noqa: E731
    assert value == pytest.approx(total(X), rel=1e-9)
    np.testing.assert_allclose(gradient, difference(total, X), rtol=1e-5, atol=1e-8)


def test_terms_of_weight_zero_are_not_computed():
    def never(*args):
        raise AssertionError('computed')

    def broken_logits(params, x):
        return jnp.full(4, jnp.nan), {}

    one = make_objective(Weights(unit_name='no such unit'), lambda v, c: v, never, teacher)
    value, _ = one(X, Context(()), BELIEF, MATRIX)  # with no start to be tethered to
    assert np.isfinite(value)
    one = make_objective(Weights(excite=0, amplitude=1), lambda v, c: v, never, broken_logits)
    value, gradient = jax.value_and_grad(lambda v: one(v, Context(()), BELIEF, MATRIX)[0])(X)
    assert value == pytest.approx(np.mean(X**2), rel=1e-5) and np.isfinite(gradient).all()


def test_excitation_is_least_at_the_target_and_never_nan():
    logits = jnp.log(BELIEF)
    least = objective.excite(logits, BELIEF)
    assert least == pytest.approx(-(BELIEF * np.log(BELIEF)).sum(), rel=1e-5)
    np.testing.assert_allclose(jax.grad(objective.excite)(logits, BELIEF), 0, atol=1e-6)
    for other in RNG.normal(size=(20, 4)):
        assert objective.excite(other, BELIEF) > least
    assert np.isfinite(objective.excite(jnp.array([1e4, -1e4, 0, 0]), jnp.eye(4)[0]))


@pytest.mark.parametrize('shape', [(7,), (7, 2), (5, 6, 3)])
def test_total_variation_knows_time_but_not_channels(shape):
    x = RNG.normal(size=shape)
    axes = range(max(1, len(shape) - 1))
    assert objective.total_variation(x) == pytest.approx(sum(np.abs(np.diff(x, axis=a)).mean() for a in axes), rel=1e-5)
    constant = np.broadcast_to(np.arange(shape[-1], dtype=float), shape)
    assert objective.total_variation(constant) == pytest.approx(1.0 if len(shape) == 1 else 0.0)  # channels may differ
    assert objective.total_variation(x + 3.0) == pytest.approx(float(objective.total_variation(x)), rel=1e-5)


def test_total_variation_of_a_single_sample_is_nothing():
    for shape in ((1,), (1, 3), (1, 4, 1)):
        assert np.isfinite(objective.total_variation(np.ones(shape)))


def test_tether_weighs_every_number_alike():
    start = {'a': np.zeros(3), 'b': np.zeros((2, 2))}
    moved = {'a': np.ones(3), 'b': 2 * np.ones((2, 2))}
    assert objective.tether(start, start) == 0
    assert objective.tether(moved, start) == pytest.approx((3 * 1 + 4 * 4) / 7)


def test_unit_activation_takes_one_unit_over_all_positions():
    named = {'0/conv': np.arange(24.0).reshape(2, 4, 3), '0/a:b': np.array([5.0, 6.0])}
    assert objective.unit_activation(named, '0/conv:2') == pytest.approx(named['0/conv'][..., 2].mean())
    assert objective.unit_activation(named, '0/a:b:1') == 6


@pytest.mark.parametrize('name', ['', '0/conv', '0/conv:', '0/conv:3', '0/conv:-1', '0/conv:1.0', '0/conv:²', '1/conv:0', 'conv:0', ':0'])
def test_unknown_units_are_the_users(name):
    with pytest.raises(UserError, match='excite.weights.unit_name'):
        objective.unit_activation({'0/conv': np.zeros((4, 3))}, name)
