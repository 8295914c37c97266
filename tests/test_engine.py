"""The compiled search against a plain loop over one stimulus at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import heartbeats

from neurostim import models
from neurostim.excitation import engine, flow, parameterisation, targets
from neurostim.excitation.engine import Options
from neurostim.excitation.objective import Weights, make_objective
from neurostim.excitation.population import fit_population

QUICK_COMPILE = True
KEY = jax.random.key(7)
SHAPES = {'features': (5,), 'windows': (16, 2), 'images': (8, 8, 1), 'long': (600, 2)}
WEIGHTS = Weights(tether=0.3, total_variation=0.01)
COLD = [name for name in parameterisation.NAMES if name not in ('generator', 'matched')]  # matched draws are a flow's to the engine


class Setup:
    """A teacher of random weights, a population and one compiled gradient, for one parameterisation."""

    def __init__(self, method):
        kind = {'leaves': 'features', 'generator': 'images', 'slanted': 'images', 'banded': 'long', 'pulsed': 'long'}.get(method, 'windows')
        rng = np.random.default_rng(0)
        x = rng.normal(size=(200, *SHAPES[kind])).astype(np.float32)
        if kind == 'long':
            x = 0.3 * x + heartbeats(rng, np.full(200, 60.0), np.full(200, 0.1), time=600)[0]
        y = np.arange(200) % 3
        x[y == 1] *= 0.6
        self.population = fit_population(np.clip(x, 0, 1) if kind == 'images' else x, 'windows' if kind == 'long' else kind, y, 3)
        if method == 'flow':
            self.population.update(flow.fit(x, y, np.arange(200) % 5 == 0, 3, flow.FlowOptions(steps=50, width=8, batch=32), seed=0))
        self.teacher = models.create('mlp', SHAPES[kind], 3, width=16)
        blank = jax.eval_shape(self.teacher.init, jax.random.key(0))
        self.params = jax.tree.map(lambda leaf: np.float32(rng.normal(size=leaf.shape) * 2 / np.sqrt(max(leaf.shape[0], 4))), blank)
        p = parameterisation.make(method.removeprefix('warm '), SHAPES[kind], self.population)
        self.parameterisation = p = p._replace(warm=p.warm or method.startswith('warm'))
        self.weights = Weights() if method == 'generator' else WEIGHTS
        self.rate = 0.003 if method == 'generator' else 0.1
        self.sample = targets.make_sampler('threshold', np.full(3, 1 / 3), low=0.3, high=0.999)
        optimiser = optax.adam(self.rate)

        @jax.jit
        def begin(key, population):
            target_key, start_key = jax.random.split(key)
            target = self.sample(target_key)
            variables, context = p.start(population, start_key, target)
            return variables, context, target, optimiser.init(variables)

        @jax.jit
        def look(variables, context, belief, state, params, population):
            """(variables and optimiser after a step, stimulus and beliefs before it)."""
            one = make_objective(
                self.weights, lambda v, c: p.decode(population, v, c), lambda v, c: p.penalty(population, v, c), self.teacher.apply)
            (_, (x, logits)), grads = jax.value_and_grad(one, has_aux=True)(variables, context, belief, params)
            updates, state = optimiser.update(grads, state)
            return optax.apply_updates(variables, updates), state, x, jax.nn.softmax(logits)

        self.begin = lambda index, attempt: begin(jax.random.fold_in(jax.random.fold_in(KEY, index), attempt), self.population)
        self.look = lambda variables, context, target, state: look(
            variables, context, target.belief, state, self.params, self.population)
        self.probabilities = jax.jit(lambda x: jax.nn.softmax(self.teacher.apply(self.params, x)[0]))

    def excite(self, options, count, lanes):
        made = jax.jit(engine.make_excite(self.parameterisation, self.sample, self.teacher.apply, options, count, lanes))
        return lambda first=0, key=KEY: jax.tree.map(np.asarray, made(key, first, self.params, self.population))

    def options(self, **given):
        return Options(learning_rate=self.rate, weights=self.weights, **given)


@functools.cache
def setup(method):
    return Setup(method)


def close(ours, expected, rtol=2e-3, atol=2e-3):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), ours, expected)


# A number of steps.

@functools.cache
def fixed(method):
    return setup(method).excite(setup(method).options(steps=4), 6, 6)


@pytest.mark.parametrize('method', COLD)
def test_steps_equal_a_plain_loop_and_excite(method):
    """Stimulus i of a batch that begins elsewhere is what a loop over one stimulus, begun from index i's keys, makes."""
    s, found = setup(method), fixed(method)(5)
    before, after = [], []
    for slot in range(6):
        variables, context, target, state = s.begin(5 + slot, 0)
        for _ in range(5):
            variables, state, x, probabilities = s.look(variables, context, target, state)
            after.append(np.log(probabilities[target.label]))
        before.append(after[-5])
        close(found.x[slot], x)
        close(found.probabilities[slot], probabilities)
    assert np.mean(after[4::5]) > np.mean(before) + 0.05  # the wanted class is believed in more than at the start
    close(found.probabilities, s.probabilities(found.x), rtol=1e-4, atol=1e-5)  # the label is the teacher's own
    assert found.accepted.all() and (found.steps == 4).all() and (found.attempts == 1).all()


@pytest.mark.parametrize('method', ['modulated', 'direct'])
def test_a_stimulus_does_not_depend_on_where_its_batch_begins(method):
    excite = fixed(method)
    whole = jax.tree.map(lambda a, b: np.concatenate([a, b]), excite(0), excite(6))
    shifted = excite(3)
    np.testing.assert_array_equal(shifted.x, whole.x[3:9])
    assert len(np.unique(whole.x.reshape(12, -1), axis=0)) == 12  # no two alike
    assert not np.isclose(excite(0, jax.random.key(8)).x, whole.x[:6]).all(tuple(range(1, whole.x.ndim))).any()


def test_no_steps_are_plain_draws_labelled_by_the_teacher():
    """Without jit here, and with it in the plain draws."""
    s = setup('mixture')
    excite = engine.make_excite(s.parameterisation, s.sample, s.teacher.apply, s.options(steps=0), 4, 4)
    found = excite(KEY, 0, *jax.tree.map(jnp.asarray, (s.params, s.population)))
    for slot in range(4):
        variables, context, *_ = s.begin(slot, 0)
        close(found.x[slot], s.parameterisation.decode(s.population, variables, context), rtol=1e-5, atol=1e-5)
    close(found.probabilities, s.probabilities(found.x), rtol=1e-5, atol=1e-6)
    assert not found.steps.any()


@pytest.mark.parametrize('candidates', [1, 3])
def test_every_other_stimulus_stays_as_it_was_drawn(candidates):
    """The others are what they are where all are excited; in whatever lanes, and wherever a batch begins, at even numbers."""
    s = setup('modulated')
    excited, drawn = (s.excite(s.options(**given), 8, 8)(4) for given in ({'steps': 4, 'candidates': candidates}, {'steps': 0}))
    found = s.excite(s.options(steps=4, candidates=candidates, as_drawn=True), 8, 4)(4)
    for row in range(8):
        close(jax.tree.map(lambda a: a[row], found), jax.tree.map(lambda a: a[row], drawn if row % 2 else excited), 1e-4, 1e-4)  # noqa: B023
    assert (np.abs(excited.x - drawn.x).max((1, 2)) > 0.01).all()


def test_as_drawn_are_every_other_one_of_an_even_number():
    with pytest.raises(ValueError, match='an even number'):
        setup('modulated').excite(Options(as_drawn=True), 9, 3)


# Langevin steps.

def sampled(prior, options, teacher, count=256, shape=(6,), population=None):
    """float32 [count, *shape]: what Langevin steps make of draws from `prior` under a teacher without parameters."""
    population = population or {'bounds': np.array([-50, 50], np.float32)}
    sample = targets.make_sampler('threshold', np.array([1e-9, 1.0]))  # the second class, always
    excite = jax.jit(engine.make_excite(prior, sample, lambda params, x: (teacher(x), {}), options, count, count))
    return np.asarray(excite(KEY, 0, (), population).x)


@pytest.mark.parametrize('temperature', [1.0, 0.25])
def test_langevin_steps_without_a_teacher_keep_a_gaussian_priors_variance(temperature):
    """At temperature 1; at others they come to the temperature times it. A step's size widens it by 1 / (1 - size / 2)."""
    options = Options(100, 0.1, temperature, weights=Weights(excite=0, prior=1))
    x = sampled(parameterisation.direct((40,)), options, lambda x: x[..., :2], shape=(40,))
    assert x.var() == pytest.approx(temperature / 0.95, rel=0.05) and x.mean() == pytest.approx(0, abs=0.05)
    assert np.abs(np.corrcoef(x.T) - np.eye(40)).max() < 0.35  # noise is each number's own


def test_langevin_steps_sample_the_prior_times_the_belief():
    """Means of what they make are those of prior draws weighted by exp(-cross-entropy), which is the belief in the target."""
    teacher = lambda x: jnp.stack([x[..., 0], 3 * x[..., 1] + x[..., 2] ** 2], -1)  # noqa: E731
    x = sampled(parameterisation.direct((3,)), Options(200, 0.05, 1.0, weights=Weights(prior=1)), teacher, 4000, (3,))
    draws = np.random.default_rng(0).normal(size=(200_000, 3))
    weight = np.asarray(jax.nn.softmax(teacher(draws))[:, 1], float)
    for moment in (lambda x: x, lambda x: x**2):
        np.testing.assert_allclose(moment(x).mean(0), np.average(moment(draws), 0, weight), atol=0.1)


def test_phases_take_no_part_in_how_many_variables_have_a_density():
    s = setup('modulated')
    variables, context, *_ = s.begin(0, 0)
    whole = parameterisation.dimensions(variables) * s.parameterisation.penalty(s.population, variables, context)
    assert float(whole) == pytest.approx(0.5 * sum((v**2).sum() for name, v in variables.items() if name != 'phase').item(), rel=1e-5)


@pytest.mark.parametrize('method', ['mixture', 'modulated'])
def test_langevin_steps_equal_a_plain_loop_and_do_not_depend_on_the_batch(method):
    """Without jit: v - rate * gradient + sqrt(2 * rate * temperature) * noise, of each stimulus's own key."""
    s, rate, temperature = setup(method), 0.02, 0.5
    weights = Weights(prior=1)
    excite = s.excite(Options(3, rate, temperature, weights=weights), 4, 4)
    found = excite(1)
    p, population = s.parameterisation, s.population
    one = make_objective(weights, lambda v, c: p.decode(population, v, c),
                         lambda v, c: parameterisation.dimensions(v) * p.penalty(population, v, c), s.teacher.apply)
    _, start_key = jax.random.split(jax.random.fold_in(jax.random.fold_in(KEY, 2), 0))
    key = jax.random.fold_in(start_key, engine.NOISE)
    variables, context, target, _ = s.begin(2, 0)
    for _ in range(3):
        slopes = jax.grad(lambda v: one(v, context, target.belief, s.params)[0])(variables)
        leaves, structure = jax.tree.flatten(variables)
        key, *own = jax.random.split(key, 1 + len(leaves))
        leaves = [v - rate * slope + np.sqrt(2 * rate * temperature) * jax.random.normal(k, v.shape)
                  for v, slope, k in zip(leaves, jax.tree.leaves(slopes), own, strict=True)]
        variables = structure.unflatten(leaves)
    close(found.x[1], p.decode(population, variables, context))
    np.testing.assert_array_equal(excite(2).x[:3], found.x[1:])


# Acceptance.

STEPS, ATTEMPTS = 3, 3


def plain_loop(s, count, chain, first=0):
    """The published rule, one stimulus after another: (x, probabilities, accepted, steps, attempts) of each."""
    rows, handed = [], None
    for slot in range(count):
        if slot % chain == 0:
            handed = None  # a chain depends on nothing before it
        best, steps, attempt, accepted = (-1, None, None), 0, 0, False
        while not accepted and attempt < ATTEMPTS:
            variables, context, target, state = s.begin(first + slot, attempt)
            if handed is not None and attempt == 0:
                variables, state = handed
            for step in range(STEPS + 1):
                after, state_after, x, probabilities = s.look(variables, context, target, state)
                belief = float(probabilities[target.label])
                if belief > best[0]:
                    best = belief, x, probabilities
                if belief > target.threshold:
                    best, accepted = (belief, x, probabilities), True
                    break
                if step < STEPS:
                    variables, state, steps = after, state_after, steps + 1
            attempt += 1
        handed = (variables, state) if accepted and s.parameterisation.warm else None
        rows.append((best[1], best[2], accepted, steps, attempt))
    return engine.Excited(*map(np.stack, zip(*rows, strict=True)))


COUNT = 12


@functools.cache
def reference(method, count=COUNT, chain=1, first=0):
    return plain_loop(setup(method), count, chain, first)


@functools.cache
def accepting(method, lanes, count=COUNT, chain=1):
    s = setup(method)
    return s.excite(s.options(steps=STEPS, accept=True, attempts=ATTEMPTS, chain=chain), count, lanes)


@pytest.mark.parametrize('lanes', [5, 20])
def test_acceptance_equals_a_plain_loop_with_any_number_of_lanes(lanes):
    """More lanes than stimuli, and numbers that do not divide the count."""
    s, found, expected = setup('gaussian'), accepting('gaussian', lanes)(), reference('gaussian')
    close(found, expected)
    # The cases that matter are among them.
    assert 2 <= expected.accepted.sum() < COUNT and (expected.steps == 0).any() and (expected.attempts > 1).any()
    assert (expected.attempts[~expected.accepted] == ATTEMPTS).all()
    assert (expected.steps[~expected.accepted] == STEPS * ATTEMPTS).all()
    close(found.probabilities, s.probabilities(found.x), rtol=1e-4, atol=1e-5)


def test_accepted_means_above_its_own_threshold():
    s, found = setup('gaussian'), accepting('gaussian', 5)(100)
    beliefs = np.asarray(s.probabilities(found.x))
    for slot in range(COUNT):
        tried = [s.begin(100 + slot, attempt)[2] for attempt in range(found.attempts[slot])]
        if found.accepted[slot]:
            assert beliefs[slot, tried[-1].label] > tried[-1].threshold - 1e-5
        else:
            assert all(beliefs[slot, t.label] <= t.threshold + 1e-5 for t in tried)
    assert np.abs(found.x).reshape(COUNT, -1).max(1).min() > 0  # every slot was written


def test_accepting_batches_that_begin_elsewhere_agree():
    excite = accepting('gaussian', 5)
    whole = jax.tree.map(lambda a, b: np.concatenate([a, b]), excite(0), excite(12))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[6:18], rtol=1e-5, atol=1e-5), excite(6), whole)


# Chains: 'warm gaussian' hands its coordinates on as the generator does its weights, and is quick.

CHAIN = 4


def chained(first=0):
    return accepting('warm gaussian', 2, COUNT, CHAIN)(first)


def test_warm_chains_equal_a_plain_loop():
    found, expected = chained(), reference('warm gaussian', COUNT, CHAIN)
    close(found, expected)
    assert not expected.accepted.all() and (expected.attempts > 1).any()  # some begin anew


def test_a_chain_depends_on_nothing_before_it():
    close(jax.tree.map(lambda a: a[:-CHAIN], chained(CHAIN)), jax.tree.map(lambda a: a[CHAIN:], chained()), rtol=1e-5, atol=1e-5)


def test_warm_variables_are_handed_on_within_a_chain_alone():
    """A stimulus within a chain starts where its predecessor was accepted: on its own it would be another one."""
    found, alone = chained(), reference('gaussian')
    apart = np.abs(found.x - alone.x).reshape(COUNT, -1).max(1)
    handed = np.array([i % CHAIN > 0 and found.accepted[i - 1] and alone.attempts[i] == 1 for i in range(COUNT)])
    assert handed.sum() >= 3 and (apart[handed] > 0.01).all() and (apart[::CHAIN] < 2e-3).all()


@pytest.mark.slow
def test_the_generator_equals_a_plain_loop():
    found, expected = accepting('generator', 2, 4, 2)(), reference('generator', 4, 2)
    close(found, expected, rtol=5e-3, atol=5e-3)
    assert expected.accepted.any() and expected.steps.any()


def test_counts_and_chains_must_agree():
    s = setup('gaussian')
    with pytest.raises(ValueError, match='multiple of chain'):
        s.excite(s.options(accept=True, chain=5), 12, 2)
