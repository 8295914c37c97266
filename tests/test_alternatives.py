"""Every alternative over the registry, on a small simulated study; what the trained ones learn, on distributions that are known."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from jax.test_util import check_grads
from scipy.spatial.distance import jensenshannon

from neurostim import alternatives, data, private
from neurostim.alternatives import base, deep_inversion, diffusion, excited, gan, networks, vae
from neurostim.alternatives.base import Options
from neurostim.errors import UserError
from neurostim.excitation import flow, moments, produce, velocity
from neurostim.teacher import train_teacher
from neurostim.training import TrainingOptions

QUICK_COMPILE = True
COUNT = 41
TINY = Options(steps=2, training_steps=2)


@pytest.fixture(scope='module')
def breathing():
    """Six simulated people; each window in standard deviations of its own, so that differential privacy suits it."""
    study = data.load('breathing', subjects=6, minutes_per_subject=30)
    x = study.x - study.x.mean(1, keepdims=True)
    return dataclasses.replace(study, x=(x / x.std(1, keepdims=True)).astype(np.float32), own_scale='window')


@pytest.fixture(scope='module')
def trained(breathing):
    """A teacher with a flow that has not learnt."""
    teacher = train_teacher(breathing, ('mlp',), 0, TrainingOptions(steps=40, batch=32, validations=4))
    params = jax.jit(velocity.OfSeries(8).init)(jax.random.key(0), jnp.zeros((60, 1)), jnp.zeros(()), jnp.zeros(2))['params']
    weights = {flow.PREFIX + name: np.asarray(value) for name, value in traverse_util.flatten_dict(params, sep='/').items()}
    population = {**teacher.population, **weights}
    train = breathing.part(test=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moments, 'NUMBERS', 60 * 256)  # few draws do
        population.update(moments.fit(population, breathing.shape, teacher.scaling.forward(train.x), train.y))
    return dataclasses.replace(teacher, population=population)


@pytest.fixture(scope='module')
def made(breathing, trained):
    """{(method, seed): Stimuli}, each made once."""
    @functools.cache
    def make(name, seed):
        origin = alternatives.origin(name)
        if origin:
            return base.relabel(trained, make(origin, seed))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(alternatives.private, 'MODELS', ('mlp',))
            patch.setattr(private, 'train', lambda model, *_: model.init(jax.random.key(seed)))
            patch.setattr(private, 'calibrate', lambda n, options: private.Ledger(1.0, options.epsilon, []))
            patch.setattr(deep_inversion, 'BATCH', 16)
            patch.setattr(deep_inversion, 'STUDENT_STEPS', 2)
            patch.setattr(networks, 'discriminating', lambda shape: 'mlp')  # quick to compile
            patch.setattr(networks, 'COARSE', 64)
            return alternatives.make(name)(breathing, trained, COUNT, seed, TINY)
    return make


SUITED = [name for name in alternatives.NAMES if name not in ('generator', 'slanted', 'banded', 'pulsed', 'leaves')]  # of minutes at 1 Hz


@pytest.mark.parametrize('name', SUITED)
def test_what_is_made_is_a_labelled_data_set(name, made, breathing):
    stimuli = made(name, 0)
    assert stimuli.x.shape == (COUNT, 60, 1) and stimuli.x.dtype == np.float32 and np.isfinite(stimuli.x).all()
    assert stimuli.probabilities.shape == (COUNT, 2) and (stimuli.probabilities >= 0).all()
    np.testing.assert_allclose(stimuli.probabilities.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(stimuli.label, stimuli.probabilities.argmax(1))
    certain = (stimuli.probabilities.max(1) == 1).all()
    assert certain == (name in alternatives.CERTAIN)
    assert stimuli.x.std() > 0.1  # in the study's units, where windows have 1
    assert len(np.unique(stimuli.x.reshape(COUNT, -1), axis=0)) == COUNT


@pytest.mark.parametrize('name', ['real', 'control', 'deep_inversion', 'gan', 'vae', 'diffusion'])
def test_a_seed_decides(name, made, breathing, trained, monkeypatch):
    monkeypatch.setattr(deep_inversion, 'BATCH', 16)
    monkeypatch.setattr(deep_inversion, 'STUDENT_STEPS', 2)
    monkeypatch.setattr(networks, 'discriminating', lambda shape: 'mlp')
    monkeypatch.setattr(networks, 'COARSE', 64)
    again = alternatives.make(name)(breathing, trained, COUNT, 0, TINY)
    for first, second in zip(made(name, 0), again, strict=True):
        np.testing.assert_array_equal(first, second)
    other = alternatives.make(name)(breathing, trained, COUNT, 1, TINY)
    assert np.abs(other.x - again.x).max() > 1e-3


@pytest.mark.parametrize('name', alternatives.CERTAIN)
def test_soft_is_the_same_windows_under_the_teachers_labels(name, made, trained):
    soft, hard = made(f'{name}_soft', 0), made(name, 0)
    np.testing.assert_array_equal(soft.x, hard.x)
    np.testing.assert_allclose(soft.probabilities, trained.probabilities(hard.x), atol=1e-6)


@pytest.mark.parametrize('name', ['gan', 'vae', 'diffusion'])
def test_imitations_have_the_classes_of_the_windows(name, made, breathing):
    share = (breathing.y[~breathing.test] == 1).mean()
    assert abs((made(name, 0).label == 1).sum() - share * COUNT) <= 1


def test_classes_are_drawn_to_one(breathing):
    drawn = base.draw_classes(breathing, 1000, 0)
    wanted = np.bincount(breathing.y[~breathing.test]) / (~breathing.test).sum() * 1000
    assert (np.abs(np.bincount(drawn) - wanted) <= 1).all()
    assert 300 < (np.diff(drawn) != 0).sum() * 0.5 / (wanted / 1000).prod() < 1700  # mixed, not one class after the other


def test_real_windows_are_those_of_training_and_their_labels(made, breathing):
    train = breathing.part(test=False)
    known = {window.tobytes(): label for window, label in zip(train.x, train.y, strict=True)}
    stimuli = made('real', 0)
    assert [known[window.tobytes()] for window in stimuli.x] == stimuli.label.tolist()


def test_adapters_add_nothing_to_produce(breathing, trained):
    mine = alternatives.make('mixture')(breathing, trained, COUNT, 3, Options(steps=1))
    theirs = produce.generate(trained, produce.Settings('mixture', count=COUNT, steps=1), 3)
    np.testing.assert_array_equal(mine.x, theirs.x)
    settings = excited.settings('control', trained, COUNT, Options())
    assert settings.steps == 0 and settings.method == excited.settings('stimuli', trained, COUNT, Options()).method


@pytest.mark.parametrize(('name', 'what'), [
    ('generator', 'makes images'), ('dp_stimuli', 'scaled by itself'), ('nonesuch', 'choose one of')])
def test_what_does_not_suit_is_refused_before_work(name, what, breathing, trained):
    plain = dataclasses.replace(breathing, own_scale='')
    for refused in (lambda: alternatives.check(name, plain, trained, COUNT), lambda: alternatives.make(name)(plain, trained, COUNT)):
        with pytest.raises(UserError, match=what):
            refused()


# ---------------------------------------------------------------------------------------------------- imitations


@pytest.mark.parametrize('shape', [(7,), (1,), (60, 1), (11, 18), (3, 2), (6000, 3), (28, 28, 1), (9, 5, 3)])
def test_a_generator_makes_windows_of_any_shape(shape):
    network = networks.Generator(shape, width=8)
    out, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), jnp.zeros((4, 10)))
    assert out.shape == (4, *shape)


def test_a_generators_patches_are_neighbours():
    """A generator whose places hold constants, the last convolution's biases, repeats them along time."""
    network = networks.Generator((128, 1), width=8)
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros(3))['params']
    last = max((name for name in params if name.startswith('Conv')), key=lambda name: int(name.split('_')[1]))
    params = jax.tree.map(jnp.zeros_like, params) | {last: {'kernel': 0 * params[last]['kernel'], 'bias': jnp.array([1.0, 2.0, 3.0, 4.0])}}
    np.testing.assert_array_equal(jax.jit(network.apply)({'params': params}, jnp.zeros(3))[:, 0], np.tile([1, 2, 3, 4], 32))


def toy(n, seed):
    """Points of two classes around -2 and 2 whose coordinates go together."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = (4 * y - 2)[:, None] + rng.normal(size=(n, 1)) * [1, 1, -1] + 0.2 * rng.normal(size=(n, 3))
    return jnp.asarray(x, jnp.float32), jnp.eye(2)[y]


def class_moments(x, labels):
    """Means and covariances of both classes, one vector."""
    rows = [np.asarray(x)[np.asarray(labels)[:, c] == 1] for c in range(2)]
    return np.concatenate([np.concatenate([r.mean(0), np.cov(r.T).ravel()]) for r in rows])


@pytest.mark.slow
@pytest.mark.parametrize(('family', 'steps'), [(gan, 300), (vae, 800)])
def test_imitations_learn_a_distribution(family, steps):
    train, validate = toy(600, 0), toy(200, 1)

    def off(params):
        labels = jnp.eye(2)[jnp.arange(2000) % 2]
        if family is gan:
            noise = jax.random.normal(jax.random.key(9), (2000, gan.NOISE))
            x = networks.Generator((3,)).apply({'params': params}, jnp.concatenate([noise, labels], 1))
        else:
            z = jax.random.normal(jax.random.key(9), (2000, vae.LATENT))
            x = vae.Decoder((3,)).apply({'params': params}, z, labels)
        return np.linalg.norm(class_moments(x, labels) - class_moments(*validate))

    learnt, errors = family.fit(train, validate, (3,), 2, steps, seed=0)
    untrained, first = family.fit(train, validate, (3,), 2, 0, seed=0)
    assert len(first) == 1 and errors[0] == pytest.approx(first[0], rel=0.3)
    assert min(errors) < errors[0] and off(learnt) < 0.35 * off(untrained)


def test_energy_distance_tells_distributions_apart():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 400, 3))
    same, shifted = float(networks.energy_distance(a, b)), float(networks.energy_distance(a, b + 1))
    assert abs(float(networks.energy_distance(a, a))) < 1e-2 and same < 0.1 < shifted
    # In one dimension it is twice the area between the squared distribution functions.
    x, y = np.sort(rng.normal(size=(2, 300, 1)) + [[[0]], [[0.5]]], axis=1)
    grid = np.sort(np.concatenate([x, y])[:, 0])
    steps = (np.searchsorted(x[:, 0], grid, 'right') - np.searchsorted(y[:, 0], grid, 'right')) / 300
    assert float(networks.energy_distance(x, y)) == pytest.approx(2 * (steps[:-1] ** 2 * np.diff(grid)).sum(), abs=2e-3)


def test_the_teachers_flow_is_taken_where_there_is_one(breathing, trained, monkeypatch):
    asked = []
    monkeypatch.setattr(flow, 'fit', lambda x, y, held, n_classes, options, seed: asked.append((x.shape, n_classes, options.steps, seed)))
    own = diffusion.trained(breathing, trained, 5, TINY)
    assert own.keys() == {name for name in trained.population if name.startswith('flow/')} and not asked
    without = dataclasses.replace(trained, population={k: v for k, v in trained.population.items() if not k.startswith('flow/')})
    diffusion.trained(breathing, without, 5, TINY)
    assert asked == [(((~breathing.test).sum(), 60, 1), 2, 2, 5)]
    assert [diffusion.seen_as(shape) for shape in ((7,), (2000,), (28, 28, 3), (60, 2))] == [(7,), (2000, 1), (28, 84), (60, 2)]


# ---------------------------------------------------------------------------------------------------- searches without a prior


def test_statistics_are_those_of_all_windows(breathing, trained):
    x = trained.scaling.forward(breathing.x[:70])
    found = deep_inversion.statistics(trained, x, block=32)
    whole = {deep_inversion.INPUT: x, **trained.model.apply(trained.params, x)[1]}
    assert found.keys() == whole.keys()
    for name, activation in whole.items():
        flat = np.asarray(activation).reshape(-1, activation.shape[-1])
        np.testing.assert_allclose(found[name][0], flat.mean(0), atol=1e-5)
        np.testing.assert_allclose(found[name][1], flat.var(0), atol=1e-4)
    assert float(deep_inversion.mismatch(whole, found)) < 1e-4
    noisy = {name: activation + 0.5 for name, activation in whole.items()}
    assert float(deep_inversion.mismatch(noisy, found)) > 0.1


def test_gradient_of_the_batch_against_finite_differences(breathing, trained):
    wanted = deep_inversion.statistics(trained, trained.scaling.forward(breathing.x))
    student = jax.tree.map(lambda leaf: 0.5 * leaf, trained.params)
    loss = jax.jit(deep_inversion.make_loss(trained.model.apply, trained.model.apply))
    x = jax.random.normal(jax.random.key(0), (5, 60, 1))
    belief = jax.nn.one_hot(jnp.arange(5) % 2, 2)
    check_grads(lambda x: loss(x, belief, trained.params, student, wanted, 0.5), (x,), 1, modes=['rev'], eps=1e-2, rtol=2e-2, atol=1e-3)


def test_agreement_is_what_jensen_and_shannon_leave():
    first, second = np.random.default_rng(0).normal(size=(2, 6, 4))
    beliefs = [np.exp(logits) / np.exp(logits).sum(1, keepdims=True) for logits in (first, second)]
    np.testing.assert_allclose(deep_inversion.agreement(first, second), 1 - jensenshannon(*beliefs, axis=1, base=2) ** 2, rtol=1e-5)
    certain = jnp.array([[50.0, 0.0], [0.0, 50.0]])
    np.testing.assert_allclose(deep_inversion.agreement(certain, certain[::-1]), 0, atol=1e-6)


def test_inversion_nears_the_statistics(breathing, trained, monkeypatch):
    """More steps: batches closer to the real windows' statistics, and a surer teacher."""
    monkeypatch.setattr(deep_inversion, 'BATCH', 32)
    monkeypatch.setattr(deep_inversion, 'ROUNDS', 1)
    wanted = deep_inversion.statistics(trained, trained.scaling.forward(breathing.part(test=False).x))

    def off(steps):
        x = trained.scaling.forward(alternatives.make('deep_inversion')(breathing, trained, 32, 0, Options(steps=steps)).x)
        return float(deep_inversion.mismatch({deep_inversion.INPUT: x, **trained.model.apply(trained.params, x)[1]}, wanted))
    assert off(60) < 0.5 * off(0)


def test_class_impressions_reach_their_beliefs(breathing, trained, made):
    """With two classes that the teacher holds to be unlike, nearly certain ones."""
    reached = alternatives.make('zskd')(breathing, trained, COUNT, 0, Options(steps=20)).probabilities.max(1)
    before = made('zskd', 0).probabilities.max(1)
    assert (reached > 0.95).mean() > (before > 0.95).mean() + 0.2
