"""Every way of writing a stimulus: draws, decoding, densities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import heartbeats
from scipy import stats

from neurostim.errors import UserError
from neurostim.excitation import flow, moments, parameterisation
from neurostim.excitation.population import fit_population
from neurostim.excitation.targets import Target

QUICK_COMPILE = True
SHAPES = {'features': (5,), 'windows': (20, 2), 'long': (600, 2), 'images': (8, 8, 1)}
DRAWS = 200
FLOWS = ('flow', 'matched')


@functools.cache
def statistics(kind):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, *SHAPES[kind])).astype(np.float32)
    if kind == 'long':
        x = 0.3 * x + heartbeats(rng, np.full(300, 60.0), np.full(300, 0.1), time=600)[0]
    y = np.arange(300) % 2
    x[y == 1] *= 0.5
    population = fit_population(np.clip(x, 0, 1) if kind == 'images' else x, 'windows' if kind == 'long' else kind, y, 2)
    if kind == 'windows':
        population.update(flow.fit(x, y, np.arange(300) % 5 == 0, 2, flow.FlowOptions(steps=20, width=8, batch=32), seed=0))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(moments, 'NUMBERS', x[0].size * 256)  # few draws do
            population.update(moments.fit(population, x.shape[1:], x, y))
    return population


def kind_of(name):
    return {'leaves': 'features', 'generator': 'images', 'slanted': 'images', 'banded': 'long', 'pulsed': 'long'}.get(name, 'windows')


def target(label=0):
    return Target(jnp.zeros(2), jnp.int32(label), jnp.float32(2))


@pytest.fixture(scope='module', params=parameterisation.NAMES)
def drawn(request):
    """(name, parameterisation, population, variables, contexts, stimuli, penalties, far stimuli, gradients) of some draws."""
    name = request.param
    population = statistics(kind_of(name))
    p = parameterisation.make(name, SHAPES[kind_of(name)], population)

    def one(key, population):
        variables, context = p.start(population, key, target())
        x = p.decode(population, variables, context)
        far = p.decode(population, jax.tree.map(lambda v: 5 * v, variables), context)
        gradient = jax.grad(lambda v: jnp.square(p.decode(population, v, context) - 0.1).sum())(variables)
        slope = jax.grad(lambda v: p.penalty(population, v, context))(variables)
        return variables, context, x, p.penalty(population, variables, context), far, gradient, slope

    count = 3 if name == 'generator' else DRAWS
    drawn = jax.jit(jax.vmap(one, (0, None)))(jax.random.split(jax.random.key(1), count), population)
    return name, p, population, *jax.tree.map(np.asarray, drawn)


def test_stimuli_are_finite_of_their_shape_and_in_bounds(drawn):
    name, _, population, _, _, x, _, far, *_ = drawn
    low, high = population['bounds']
    assert x.shape[1:] == SHAPES[kind_of(name)] and x.dtype == np.float32
    for given in (x, far):
        assert np.isfinite(given).all() and given.min() >= low - 1e-5 and given.max() <= high + 1e-5
    assert x.std(0).min() > 1e-4  # every sample varies from draw to draw


def test_every_variable_moves_the_stimulus(drawn):
    *_, gradient, _ = drawn
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0


def test_start_depends_on_its_key_alone(drawn):
    name, p, population, variables, context, x, *_ = drawn
    key = jax.random.split(jax.random.key(1), len(x))[1]
    again = jax.jit(p.start)(population, key, target())
    jax.tree.map(lambda many, one: np.testing.assert_allclose(many[1], one, rtol=1e-5, atol=1e-6), (variables, context), again)
    # The generator's biases start at zero, and so does all that is added to a flow's draw.
    moving = [leaf for leaf in jax.tree.leaves(context.fixed if name in FLOWS else variables) if name != 'generator' or leaf.ndim > 2]
    for leaf in moving:
        assert not np.array_equal(leaf[0], leaf[1])
    assert p.warm == (name == 'generator')


def flat(variables):
    """The variables that have a density, [draws, dimensions]; phases are uniform."""
    named = variables if isinstance(variables, dict) else {'all': variables}
    return np.concatenate([v.reshape(len(v), -1) for n, v in sorted(named.items()) if n != 'phase'], 1)


def test_penalty_is_the_negative_log_density_of_the_draws(drawn):
    name, _, _, variables, _, _, penalty, _, _, slope = drawn
    if name == 'generator':  # weights have no prior
        assert not penalty.any()
        return
    values = flat(variables)
    log_density = stats.norm.logpdf(values).sum(1)
    np.testing.assert_allclose(np.ptp(penalty * values.shape[1] + log_density), 0, atol=1e-3)
    np.testing.assert_allclose(flat(slope) * values.shape[1], values, atol=1e-4)  # the gradient of a standard normal's
    if name in FLOWS:  # nothing is added yet
        assert not values.any()
        return
    # And that is what the draws come from.
    assert stats.kstest(values.ravel(), 'norm').pvalue > 1e-4
    np.testing.assert_allclose(np.cov(values[:, :8].T), np.eye(min(8, values.shape[1])), atol=0.45)


def test_phases_are_uniform_and_free(drawn):
    _, _, _, variables, *_, slope = drawn
    if isinstance(variables, dict) and 'phase' in variables:
        phase = variables['phase'].ravel()
        assert stats.kstest(phase / (2 * np.pi), 'uniform').pvalue > 1e-4
        assert not slope['phase'].any()


def test_context_keeps_where_the_search_began(drawn):
    name, _, _, variables, context, *_ = drawn
    if name != 'generator':  # a tether to megabytes of weights is not worth their memory
        jax.tree.map(np.testing.assert_array_equal, context.start, variables)


def test_mixture_draws_a_component_of_the_targets_class():
    population = statistics('windows')
    p = parameterisation.make('mixture', SHAPES['windows'], population)
    start = jax.jit(jax.vmap(p.start, (None, 0, None)))
    for label in (0, 1):
        _, context = start(population, jax.random.split(jax.random.key(0), 50), target(label))
        centres = {tuple(c) for c in np.asarray(context.fixed[0])}
        own = {tuple(c) for c in population['mixture/centre'][population['mixture/owner'] == label]}
        assert centres <= own and len(centres) > 0


# The generator.

def test_generator_starts_as_glorot_has_it_and_keeps_its_mask(drawn):
    name, p, population, variables, context, x, *_ = drawn
    if name != 'generator':
        return
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        if 'bias' in jax.tree_util.keystr(path):
            assert not leaf.any()
        else:
            spread = leaf.std(axis=tuple(range(1, leaf.ndim)))
            np.testing.assert_allclose(np.abs(leaf).max() / spread, np.sqrt(3), rtol=0.1)  # uniform
    one = jax.tree.map(lambda leaf: leaf[0], (variables, context))
    np.testing.assert_allclose(jax.jit(p.decode)(population, *one), x[0], rtol=1e-4, atol=1e-4)  # the same dropout at each look
    assert not np.array_equal(context.fixed[0][0], context.fixed[0][1]) and not np.array_equal(context.fixed[1][0], context.fixed[1][1])


# Waves.

@pytest.mark.parametrize('time', [16, 17, 60, 1024, 1025, 1026])
def test_waves_are_the_inverse_transform(time):
    rng = np.random.default_rng(0)
    amplitude, phase = rng.lognormal(size=(2, time // 2, 2))
    spectrum = np.concatenate([np.zeros((1, 2)), amplitude * np.exp(1j * phase)])
    expected = np.fft.irfft(spectrum, time, axis=0)
    found = parameterisation._waves(jnp.asarray(amplitude, jnp.float32), jnp.asarray(phase, jnp.float32), time)
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())
    # Parseval: each frequency's power comes twice, but for the last of an even length, where the sine is silent.
    power = 2 * amplitude**2
    if time % 2 == 0:
        power[-1] = (amplitude[-1] * np.cos(phase[-1])) ** 2
    np.testing.assert_allclose((np.asarray(found) ** 2).sum(0), power.sum(0) / time, rtol=1e-3)


# Errors.

@pytest.mark.parametrize('name, kind, message', [
    ('gausian', 'windows', "unknown excite.method 'gausian'.*gaussian"),
    ('spectral', 'features', "'spectral' needs windows"), ('modulated', 'images', "'modulated' needs windows"),
    ('flow', 'features', "'flow' needs a teacher of time series.*teacher.flow.steps"),
    ('matched', 'features', "'matched' needs a flow, of windows of at most 512 numbers"),
    ('generator', 'windows', "'generator' makes images"),
])
def test_what_does_not_suit_is_refused(name, kind, message):
    with pytest.raises(UserError, match=message):
        parameterisation.make(name, SHAPES[kind], statistics(kind))


def test_generator_refuses_sides_that_do_not_divide():
    with pytest.raises(UserError, match='divide by 4'):
        p = parameterisation.make('generator', (8, 10, 1), statistics('images'))
        jax.eval_shape(lambda key: p.start(statistics('images'), key, target()), jax.random.key(0))


def test_unexcited_draws_come_in_the_populations_shares_and_from_their_seed():
    population = dict(statistics('windows'), class_share=np.float32([0.8, 0.2]))
    x, classes = parameterisation.unexcited('mixture', SHAPES['windows'], population, 700, seed=3)
    assert x.shape == (700, *SHAPES['windows']) and x.dtype == np.float32 and abs((classes == 1).mean() - 0.2) < 0.06
    assert x[classes == 1].std() < 0.8 * x[classes == 0].std()  # the second class is half as strong
    again, more = (parameterisation.unexcited('mixture', SHAPES['windows'], population, count, seed=3) for count in (700, 900))
    np.testing.assert_array_equal(again[0], x)
    other, _ = parameterisation.unexcited('mixture', SHAPES['windows'], population, 700, seed=4)
    assert not np.array_equal(other, x) and len(more[0]) == 900
