"""Optimisers of networks: what an update of a matrix is, what is left to AdamW, and that a vector of all arrays is treated as these are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from neurostim import optimisers, training
from neurostim.errors import UserError

RATE, DECAY = 1e-2, 0.1


def arrays(seed, scale=1.0):
    keys = jax.random.split(jax.random.key(seed), 3)
    shapes = {'bias': (5,), 'filters': (3, 4, 6), 'matrix': (6, 4)}
    return {name: scale * jax.random.normal(key, shape) for key, (name, shape) in zip(keys, shapes.items(), strict=True)}


def first_update(name, gradients, params, decay=0.0, whole=None):
    optimiser = optimisers.create(name, lambda count: RATE, decay, whole)
    return optimiser.update(gradients, optimiser.init(params), params)[0]


@pytest.mark.parametrize('array', ['matrix', 'filters'])
def test_muon_moves_all_directions_of_a_matrix_alike(array):
    # A gradient of one strong direction and many weak ones.
    gradients = {name: value + 1 for name, value in arrays(0, 0.1).items()}
    spread = {}
    for name in optimisers.NAMES:
        moved = np.asarray(first_update(name, gradients, arrays(1))[array])
        values = np.linalg.svd(moved.reshape(-1, moved.shape[-1]), compute_uv=False)
        spread[name] = values.max() / values.min()
    # Newton and Schulz' iteration leaves singular values between about .5 and 1.5 of one another.
    assert spread['muon'] < 4 < spread['adamw']


def test_muon_is_as_large_as_told_and_leaves_vectors_to_adamw():
    gradients, params = arrays(0), arrays(1)
    moved = first_update('muon', gradients, params, DECAY)
    size = float(jnp.sqrt(jnp.mean(moved['matrix'] ** 2)))
    assert size == pytest.approx(optimisers.FASTER * optimisers.USUAL * RATE, rel=0.5)
    adamw = optax.nadamw(RATE, weight_decay=DECAY)
    np.testing.assert_allclose(moved['bias'], adamw.update(gradients, adamw.init(params), params)[0]['bias'], rtol=1e-5)


@pytest.mark.parametrize('name', optimisers.NAMES)
def test_without_gradients_all_arrays_decay_alike(name):
    params = arrays(1)
    moved = first_update(name, jax.tree.map(jnp.zeros_like, params), params, DECAY)
    for array, update in moved.items():
        np.testing.assert_allclose(update, -RATE * DECAY * params[array], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize('name', optimisers.NAMES)
def test_one_vector_of_all_arrays_is_treated_as_they_are(name):
    params = arrays(1)
    vector, whole = ravel_pytree(params)
    apart = together = None
    of_arrays, of_vector = (optimisers.create(name, lambda count: RATE / (1 + count), DECAY, given) for given in (None, whole))
    states = of_arrays.init(params), of_vector.init(vector)
    for step in range(3):
        gradients = arrays(10 + step)
        apart, first = of_arrays.update(gradients, states[0], params)
        together, second = of_vector.update(ravel_pytree(gradients)[0], states[1], vector)
        states = first, second
        np.testing.assert_allclose(ravel_pytree(apart)[0], together, rtol=1e-5, atol=1e-7)
        params, vector = optax.apply_updates(params, apart), optax.apply_updates(vector, together)


def test_unknown_optimiser_is_refused_with_those_there_are():
    with pytest.raises(UserError, match="unknown optimiser 'sgd': choose one of adamw, muon"):
        optimisers.create('sgd', lambda count: RATE, 0.0)


def test_networks_that_train_by_muon_learn_more_in_half_the_steps():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1600, 24, 2)).astype(np.float32)
    labels = (x[:, 3:9, 0].sum(1) * x[:, 10:16, 1].sum(1) > 0).astype(int)
    data, validation = training.examples(x[:1200], labels[:1200], 2), training.examples(x[1200:], labels[1200:], 2)
    least = {}
    for name in optimisers.NAMES:
        options = training.TrainingOptions(steps=200, batch=64, optimiser=name)
        _, history = training.fit(('mlp', (24, 2), 2, ()), options, jax.random.key(0), data, validation)
        least[name] = np.nanmin(history.train_loss)
    assert least['muon'] < least['adamw']
