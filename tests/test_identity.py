"""Identity networks, and what excitation does to them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurostim import identity, students, training
from neurostim import teacher as teachers
from neurostim.errors import UserError
from neurostim.evaluation import association
from neurostim.excitation import engine, objective, population, produce, targets
from neurostim.excitation import parameterisation as parameterisations
from neurostim.excitation.objective import Weights
from neurostim.identity import IdentityOptions

QUICK_COMPILE = True
OPTIONS = IdentityOptions(('mlp', 'mlp'), steps=300, copies=2)


def own_waves(n_people=4, windows=60, seed=0):
    """Windows [16, 1]: noise on each person's own wave; who it is, int [n]; two classes by turns."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(n_people), windows)
    x = 2 * rng.normal(size=(n_people, 16))[person] + rng.normal(size=(len(person), 16))
    return x[..., None].astype(np.float32), person, np.arange(len(person)) % 2


def beliefs(networks, shape, x):
    """What each network believes of scaled windows [n, *shape]: [networks, n, people]."""
    return np.stack([training.predictor(network)(params, np.asarray(x))
                     for network, params in zip(networks.networks(shape), networks.params, strict=True)])


@pytest.fixture(scope='module')
def known():
    x, person, y = own_waves()
    return identity.train_identity(x, person, tuple('abcd'), y, 2, OPTIONS)


@pytest.fixture(scope='module')
def refreshed():
    x, person, y = own_waves()
    return identity.train_identity(x, person, tuple('abcd'), y, 2, dataclasses.replace(OPTIONS, refreshes=1))


@pytest.fixture(scope='module')
def disguises(known, refreshed):
    """New windows of the same people, disguised from networks that were trained once and from refreshed ones; who it is."""
    x, person, _ = own_waves(windows=90)
    learnt, new = own_waves()[0], x[np.arange(len(x)) % 90 >= 60]
    basis = population.gaussian(learnt.reshape(len(learnt), -1), 0)['gaussian/basis']
    disguise = identity.make_disguise(known.networks((16, 1)), basis)
    return disguise(known.params, new), disguise(refreshed.params, new), np.repeat(np.arange(4), 30), disguise


@pytest.fixture(scope='module')
def inhibiting(study, teacher):
    """The tiny study's teacher with networks that tell four made-up people apart, whose windows differ in strength."""
    train = study.part(test=False)
    x = teacher.scaling.forward(train.x)
    strength = np.abs(x).mean((1, 2))
    person = np.searchsorted(np.quantile(strength, (0.25, 0.5, 0.75)), strength)
    tiled = np.concatenate([x] * 2), np.concatenate([person] * 2), np.concatenate([train.y] * 2)
    made = identity.train_identity(tiled[0], tiled[1], tuple('abcd'), tiled[2], 2, OPTIONS)
    return dataclasses.replace(teacher, identity=made)


def test_people_are_named(known):
    x, person, _ = own_waves()
    for believed in beliefs(known, (16, 1), x):
        assert (believed.argmax(1) == person).mean() > 0.8
    assert known.people == tuple('abcd') and known.names == OPTIONS.models
    np.testing.assert_allclose(known.share, 0.25, atol=0.02)  # every person has as many windows of either class


def test_share_is_what_the_class_says_of_the_person():
    x, person, _ = own_waves()
    share = identity.train_identity(x, person, tuple('abcd'), person // 2, 2, dataclasses.replace(OPTIONS, models=('mlp',), steps=5)).share
    np.testing.assert_allclose(share, [[0.49, 0.49, 0.01, 0.01], [0.01, 0.01, 0.49, 0.49]], atol=0.01)
    np.testing.assert_allclose(share.sum(1), 1, rtol=1e-6)


def test_who_has_few_windows_is_not_learnt():
    x, person, y = own_waves()
    keep = (person != 2) | (np.arange(len(x)) % 60 < identity.FEWEST_WINDOWS - 1)
    short = dataclasses.replace(OPTIONS, models=('mlp',), steps=5)
    made = identity.train_identity(x[keep], person[keep], tuple('abcd'), y[keep], 2, short)
    assert made.people == ('a', 'b', 'd') and made.share.shape == (2, 3)
    assert identity.train_identity(x, person, tuple('abcd'), y, 2, IdentityOptions()) is None
    assert identity.train_identity(x[:60], person[:60], tuple('abcd'), y[:60], 2, short) is None  # one person is nobody to tell apart


def test_augmented_windows_are_shifted_ones():
    rng = np.random.default_rng(0)
    x = np.sin(2 * np.pi * 2 * np.arange(32) / 32)[None, :, None].repeat(50, 0).astype(np.float32)
    changed = identity.augment(x, rng)
    assert changed.shape == x.shape and changed.dtype == np.float32
    spectra = np.abs(np.fft.rfft(changed[..., 0]))
    assert (spectra.argmax(1) == 2).all()  # the same rhythm
    phases = np.angle(np.fft.rfft(changed[..., 0])[:, 2])
    assert np.abs(np.exp(1j * phases).mean()) < 0.5  # that begins anywhere
    assert identity.augment(np.zeros((3, 5), np.float32), rng).shape == (3, 5)


def test_a_disguise_hides_who_it_is(known, disguises):
    plain, _, person, disguise = disguises
    x = own_waves(windows=90)[0]
    new = x[np.arange(len(x)) % 90 >= 60]
    at = np.arange(len(new)), person
    for before, after in zip(beliefs(known, (16, 1), new), beliefs(known, (16, 1), plain), strict=True):
        assert after[at].mean() < 0.7 * before[at].mean()
    np.testing.assert_allclose(disguise(known.params, new[:5]), plain[:5], atol=1e-4)  # each window by itself
    # Networks that know nobody have nothing to hide from.
    np.testing.assert_array_equal(disguise(jax.tree.map(np.zeros_like, known.params), new[:5]), new[:5])


def test_refreshed_networks_name_whom_those_before_could_not(known, refreshed, disguises):
    plain, _, person, _ = disguises
    right = [(beliefs(networks, (16, 1), plain).argmax(-1) == person).mean() for networks in (known, refreshed)]
    assert right[1] > right[0] + 0.05
    assert refreshed.people == known.people and len(refreshed.params) == len(OPTIONS.models)
    np.testing.assert_array_equal(refreshed.share, known.share)


@pytest.mark.parametrize('name', ['cnn', 'random_forest'])
def test_what_refreshed_networks_do_not_recognise_others_recognise_less(disguises, name):
    """Attackers of other architectures, who took no part, are less sure of anybody."""
    x, person, _ = own_waves()
    held = identity.held_back(person)
    attacker = association.train_attacker(name, x[~held], person[~held], x[held], person[held], 4, 7, steps=200)
    plain, refreshed = (attacker.beliefs(windows).max(1).mean() for windows in disguises[:2])
    assert refreshed < plain - 0.05
    assert attacker.confident(disguises[1]).mean() < 0.7 * attacker.confident(disguises[0]).mean()


LOGITS, EXPECTED = np.array([2.0, 0.5, -1.0, 0.0]), np.array([0.1, 0.2, 0.3, 0.4])
BELIEF = np.exp(LOGITS) / np.exp(LOGITS).sum()
HIDDEN = np.array([1.0, -2.0, 0.5])


@pytest.mark.parametrize('form, value', [
    ('kl', (EXPECTED * np.log(EXPECTED / BELIEF)).sum()), ('entropy', np.log(4) + (BELIEF * np.log(BELIEF)).sum()),
    ('margin', np.log((BELIEF / EXPECTED).max())), ('named', -np.log(1 - BELIEF[0] - BELIEF[2])), ('hidden', (HIDDEN**2).mean())])
def test_forms_of_inhibition(form, value):
    people = np.array([True, False, True, False])
    term = lambda logits: objective.INHIBITIONS[form](logits, HIDDEN, EXPECTED, people)  # noqa: E731
    with jax.enable_x64(True):
        assert float(term(jnp.asarray(LOGITS))) == pytest.approx(value, rel=1e-9)
        if form != 'hidden':
            step = 1e-6 * np.eye(4)
            numeric = [(term(LOGITS + s) - term(LOGITS - s)) / 2e-6 for s in step]
            np.testing.assert_allclose(jax.grad(term)(jnp.asarray(LOGITS)), numeric, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize('form', ['kl', 'entropy'])
def test_whoever_believes_as_expected_is_not_inhibited(form):
    expected = np.full(4, 0.25)
    assert float(objective.INHIBITIONS[form](np.zeros(4), HIDDEN, expected, None)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize('form', [form for form in objective.INHIBITIONS])
def test_an_inhibited_networks_belief_flattens(inhibiting, form):
    settings = produce.Settings(
        'gaussian', count=64, steps=20, weights=Weights(inhibit=2.0, inhibit_form=form, inhibit_people='a,c' if form == 'named' else ''))
    made = produce.generate(inhibiting, settings)
    free = produce.generate(inhibiting, dataclasses.replace(settings, weights=Weights()))
    ours, theirs = (beliefs(inhibiting.identity, inhibiting.shape, inhibiting.scaling.forward(s.x)) for s in (made, free))
    if form == 'named':
        assert ours[..., [0, 2]].sum(-1).mean() < 0.6 * theirs[..., [0, 2]].sum(-1).mean()
    elif form == 'margin':  # of what the class says, which may be much
        ratio = [(b / (s.probabilities @ inhibiting.identity.share)).max(-1).mean() for b, s in ((ours, made), (theirs, free))]
        assert ratio[0] - 1 < 0.6 * (ratio[1] - 1)
    elif form == 'hidden':
        assert ours.max(-1).mean() < theirs.max(-1).mean()
    else:
        assert (ours.max(-1) > 0.9).mean() < 0.3 * (theirs.max(-1) > 0.9).mean()
    # And the task is still there.
    target = (made.probabilities.max(1) - free.probabilities.max(1)).mean()
    assert abs(target) < 0.25


def test_the_best_candidate_is_taken(teacher):
    """Of eight draws with one target the one of least objective, whatever the batch."""
    p = parameterisations.make('gaussian', teacher.shape, teacher.population)
    sample = targets.make_sampler('dirichlet', np.full(2, 0.5))
    apply = lambda networks, x: teacher.model.apply(networks[0], x)  # noqa: E731
    key = jax.random.key(3)

    def made(candidates, count, first=0):
        excite = engine.make_excite(p, sample, apply, engine.Options(steps=0, candidates=candidates), count, count)
        return jax.tree.map(np.asarray, jax.jit(excite)(key, first, teacher.networks, teacher.population))

    best = made(8, 6)
    for i in range(6):
        target_key, start_key = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, i), 0))
        target = sample(target_key)
        draws = [p.decode(teacher.population, *p.start(teacher.population, jax.random.fold_in(start_key, c), target)) for c in range(8)]
        losses = [float(objective.excite(apply(teacher.networks, x)[0], target.belief)) for x in draws]
        np.testing.assert_allclose(best.x[i], draws[int(np.argmin(losses))], atol=1e-5)
    np.testing.assert_allclose(made(8, 3, first=3).x, best.x[3:], atol=1e-5)
    assert best.accepted.all() and (best.attempts == 1).all()


def test_a_teacher_with_identity_networks_is_saved_whole(inhibiting, tmp_path):
    teachers.save(inhibiting, tmp_path / 'teacher')
    found = teachers.load(tmp_path / 'teacher')
    assert found.digest() == inhibiting.digest() != dataclasses.replace(inhibiting, identity=None).digest()
    assert (found.identity.names, found.identity.people) == (inhibiting.identity.names, inhibiting.identity.people)
    settings = produce.Settings('gaussian', count=8, weights=Weights(inhibit=1.0))
    np.testing.assert_array_equal(produce.generate(found, settings).x, produce.generate(inhibiting, settings).x)


def test_training_a_teacher_trains_identity_networks(study):
    from conftest import TINY_OPTIONS
    crowded = study.take(np.tile(np.arange(len(study.x)), 3))  # the tiny study has too few windows of a person
    made = teachers.train_teacher(crowded, ('mlp',), 0, TINY_OPTIONS, identity=dataclasses.replace(OPTIONS, models=('mlp',), steps=20))
    assert set(made.identity.people) == {crowded.subjects[s] for s in np.unique(crowded.part(test=False).subject)}


@pytest.mark.parametrize('weights, candidates, accept, complaint', [
    (Weights(inhibit=1.0), 1, False, 'no identity networks'), (Weights(inhibit_form='shout'), 1, False, 'shout'),
    (Weights(), -1, False, 'candidates'), (Weights(), 4, True, 'accept')])
def test_what_cannot_be_inhibited_is_refused(teacher, weights, candidates, accept, complaint):
    with pytest.raises(UserError, match=complaint):
        produce.resolve(produce.Settings('gaussian', weights=weights, candidates=candidates, accept=accept), teacher)


def test_unknown_people_are_refused(inhibiting):
    with pytest.raises(UserError, match="'z'"):
        produce.resolve(produce.Settings(weights=Weights(inhibit=1.0, inhibit_form='named', inhibit_people='a,z')), inhibiting)


def test_the_control_is_not_inhibited(inhibiting):
    settings = produce.resolve(produce.Settings('gaussian', count=8, candidates=4, weights=Weights(inhibit=1.0)), inhibiting)
    control = produce.unexcited(settings)
    assert control.candidates == 1 and not control.weights.inhibit and not control.steps
    plain = produce.generate(inhibiting, dataclasses.replace(control, weights=Weights(tether=9.0)))
    np.testing.assert_allclose(produce.generate(inhibiting, control).x, plain.x, atol=1e-5)


def test_inhibited_networks_are_shown_as_such(study, inhibiting):
    people = dataclasses.replace(inhibiting, identity=inhibiting.identity._replace(people=study.subjects[:4]))
    scaled = people.scaling.forward(study.x)
    rows = association.inhibited(study, people, scaled, scaled[:50], scaled[:50])
    assert [row['name'] for row in rows] == list(people.identity.names) and all(row['inhibited'] for row in rows)
    assert all(row['stimuli_confident'] == row['control_confident'] for row in rows)
    names = set(students.NAMES)
    assert names.issuperset(people.identity.names)
