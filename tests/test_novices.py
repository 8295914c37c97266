"""Novices: what surprises them is drawn as often as it should be, and is what the teacher knows and they do not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neurostim as ns
import neurostim.teacher as teachers
from neurostim import columns, novices, pipeline
from neurostim.config import default_config
from neurostim.errors import UserError
from neurostim.excitation import engine, parameterisation, produce
from neurostim.models import Model
from neurostim.novices import Novices

QUICK_COMPILE = True


@pytest.fixture(scope='module')
def accompanied(teacher):
    """The tiny teacher with a linear novice and an mlp."""
    return teachers.with_novices(teacher, ('linear', 'mlp'), 1)


def test_surprise_is_how_unlikely_it_is_that_both_name_the_same_class():
    first, second = jnp.log(jnp.array([0.7, 0.2, 0.1])), jnp.log(jnp.array([0.5, 0.25, 0.25]))
    network = Model('given', (), 3, None, lambda params, x: (params, {}))
    surprise = novices.make_surprise((network, network))
    found = surprise((first, second), jnp.zeros(()), jnp.array([0.1, 0.9, 0.0]))
    np.testing.assert_allclose(found, -(np.log(0.07 + 0.18) + np.log(0.05 + 0.225)) / 2, rtol=1e-5)
    sure = jnp.array([0.0, 30.0, 0.0])
    worst = novices.make_surprise((network,))((sure,), jnp.zeros(()), jnp.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(worst, -np.log(novices.LEAST_BELIEF), rtol=1e-5)
    assert novices.make_surprise((network,))((sure,), jnp.zeros(()), jnp.array([0.0, 1.0, 0.0])) < 1e-3


def numbers(count):
    """An excite function whose stimuli are one number each, from 0 to 1."""
    def excite(key, first, networks, population):
        x = jax.vmap(lambda index: jax.random.uniform(jax.random.fold_in(key, index), (1,)))(first + jnp.arange(count))
        ones = jnp.ones(count, jnp.int32)
        return engine.Excited(x, jnp.concatenate([x, 1 - x], 1), ones > 0, ones, ones)
    return excite


@pytest.mark.parametrize('surplus', [2, 4])
def test_every_other_stimulus_is_drawn_in_proportion_to_its_surprise(surplus):
    """Of a group's numbers but the first one is taken with a probability in proportion to itself, as simulated by NumPy."""
    kept = 8000
    sift = jax.jit(engine.sifted(numbers(kept * surplus), lambda networks, x, belief: x[0], surplus))
    found = jax.tree.map(np.asarray, sift(jax.random.key(0), 0, (), {}))
    groups = np.asarray(numbers(kept * surplus)(jax.random.key(0), 0, (), {}).x).reshape(-1, 2 * surplus)
    np.testing.assert_array_equal(found.x[::2, 0], groups[:, 0])
    taken = found.x[1::2, 0]
    place = (groups[:, 1:] == taken[:, None])
    assert (place.sum(1) == 1).all()
    several = np.random.default_rng(0).random((200_000, 2 * surplus - 1))
    shares = several / several.sum(1, keepdims=True)
    for power in (1, 2):
        assert abs((taken**power).mean() - (shares * several**power).sum(1).mean()) < 0.015
    np.testing.assert_allclose(place.mean(0), 1 / (2 * surplus - 1), atol=0.03)  # wherever in the group it is
    for whole in (found.probabilities[:, 0], found.surprise):
        np.testing.assert_array_equal(whole, found.x[:, 0])  # all of a stimulus comes along
    later = sift(jax.random.key(0), 100, (), {}).x
    np.testing.assert_array_equal(later[:kept - 100], found.x[100:])  # it does not matter where a batch begins


def test_half_of_the_stimuli_surprise_novices(accompanied):
    surprise = jax.jit(jax.vmap(novices.make_surprise(accompanied.novices.networks(accompanied.shape, 2)), (None, 0, 0)))
    made = produce.generate(accompanied, produce.Settings('mixture', count=1024, steps=1, surplus=4), 2)
    surprised = np.asarray(surprise(accompanied.novices.params, accompanied.scaling.forward(made.x), made.probabilities)).reshape(-1, 2)
    np.testing.assert_allclose(made.surprise, surprised.ravel(), atol=1e-4)
    differ = surprised[:, 1] - surprised[:, 0]
    assert differ.mean() > 3 * differ.std() / np.sqrt(512)
    plain = produce.generate(accompanied, produce.Settings('mixture', count=4096, steps=1), 2)
    assert plain.surprise is None
    np.testing.assert_allclose(made.x[::2], plain.x[::8], atol=1e-4)  # and the others are those of the group that come first
    assert produce.unexcited(produce.resolve(produce.Settings(surplus=4), accompanied)).surplus == 1  # the control is not sifted


def test_a_batch_and_its_rounds_make_the_same_stimuli(accompanied):
    given = produce.Settings('mixture', count=96, steps=2, surplus=2)
    whole, rounds = (produce.generate(accompanied, dataclasses.replace(given, batch=batch, lanes=lanes), 3).x
                     for batch, lanes in ((96, 96), (48, 16)))
    np.testing.assert_allclose(rounds, whole, atol=1e-4)


def test_novices_know_something(accompanied):
    x, _ = parameterisation.unexcited('modulated', accompanied.shape, accompanied.population, 500, 9)
    truth = accompanied.predict_scaled(x).argmax(1)
    for network, params in zip(accompanied.novices.networks(accompanied.shape, 2), accompanied.novices.params, strict=True):
        answers = np.asarray(jax.jit(lambda p, x, network=network: network.apply(p, x)[0])(params, x)).argmax(1)
        assert (answers == truth).mean() > 0.55


def test_a_teacher_with_novices_is_saved_whole(accompanied, teacher, tmp_path):
    assert teachers.with_novices(teacher, ()) is teacher
    teachers.save(accompanied, tmp_path / 'teacher')
    found = teachers.load(tmp_path / 'teacher')
    assert found.digest() == accompanied.digest() != teacher.digest()
    assert (found.novices.names, found.novices.agreement) == (('linear', 'mlp'), accompanied.novices.agreement)
    settings = produce.Settings('mixture', count=16, surplus=2)
    np.testing.assert_array_equal(produce.generate(found, settings).x, produce.generate(accompanied, settings).x)
    assert isinstance(found.novices, Novices)


def test_novices_learn_what_the_prepared_teacher_believes_of_the_draws_rehearsed(study, teacher, monkeypatch, tmp_path):
    """Not what it believed before it learnt from draws, nor of another method's."""
    turned = jax.tree.map(np.negative, teacher.params)
    rehearsed = {'method': 'mixture', 'marginals': False}
    monkeypatch.setattr(pipeline, 'load_study', lambda *_: study)
    monkeypatch.setattr(teachers, 'train_teacher', lambda *_: teacher)
    monkeypatch.setattr(pipeline, 'prepare', lambda teacher, *_: dataclasses.replace(teacher, params=turned, rehearsed=rehearsed))
    config = default_config()
    config.teacher.novices = ('linear',)
    pipeline.train(config, tmp_path, lambda line: None)
    found = teachers.load(tmp_path / 'teacher')
    x, _ = parameterisation.unexcited('mixture', found.shape, found.population, novices.DRAWS, 0, put_right=False)
    expected = novices.train_novices(('linear',), x, found.predict_scaled(x))
    jax.tree.map(np.testing.assert_array_equal, found.novices.params, expected.params)


@pytest.mark.parametrize(('most', 'novices_there', 'surplus'), [(40, True, 4), (39, True, 1), (40, False, 1)])
def test_left_to_choose_stimuli_are_sifted_unless_they_are_long(accompanied, teacher, monkeypatch, most, novices_there, surplus):
    monkeypatch.setattr(columns, 'MOST', most)
    assert produce.resolve(produce.Settings(surplus=0), accompanied if novices_there else teacher).surplus == surplus


@pytest.mark.parametrize(('agreement', 'surplus'), [(novices.LEAST_AGREEMENT, 4), (novices.LEAST_AGREEMENT - 0.01, 1)])
def test_novices_that_know_nothing_sift_only_where_they_are_told_to(accompanied, agreement, surplus):
    those = dataclasses.replace(accompanied, novices=accompanied.novices._replace(agreement=agreement))
    assert produce.resolve(produce.Settings(surplus=0), those).surplus == surplus
    assert produce.resolve(produce.Settings(surplus=2), those).surplus == 2


def test_agreement_is_that_of_the_best_on_draws_it_has_not_learnt_from(accompanied):
    """Beliefs that windows tell nothing of are known by nobody."""
    x, _ = parameterisation.unexcited('mixture', accompanied.shape, accompanied.population, 400, 5)
    by_chance = np.eye(2, dtype=np.float32)[np.random.default_rng(0).integers(0, 2, 400)]
    assert novices.train_novices(('linear',), x, by_chance).agreement < novices.LEAST_AGREEMENT
    told = []
    found = novices.train_novices(('linear', 'mlp'), x, accompanied.predict_scaled(x), report=told.append)
    assert found.know_something and f'{found.agreement:.3f}' == max(line.split()[-1] for line in told)


@pytest.mark.parametrize(('given', 'complaint'), [({'surplus': 2}, 'no novices'), ({'surplus': -1}, 'excite.surplus is -1')])
def test_who_has_no_novices_is_told(teacher, given, complaint):
    with pytest.raises(UserError, match=complaint):
        produce.resolve(produce.Settings(**given), teacher)


@pytest.mark.parametrize(('given', 'complaint'), [({'batch': 5, 'lanes': 5}, 'excite.batch is 5'), ({'method': 'amortised'}, 'surplus')])
def test_what_cannot_be_sifted_is_refused(accompanied, given, complaint):
    with pytest.raises(UserError, match=complaint):
        produce.resolve(produce.Settings(**{'method': 'mixture', 'surplus': 2, **given}), accompanied)


def test_a_notebook_can_sift(study):
    made = ns.train_teacher(study, ('mlp',), flow_steps=0, novices=('linear',), steps=20)
    stimuli = ns.excite(made, count=60, method='mixture', surplus=2)
    student = ns.fit_student('naive_bayes', stimuli, made)
    assert made.novices.names == ('linear',) and student.predict(study.x[:5]).shape == (5, 2)


def test_of_long_windows_novices_learn_from_fewer():
    assert novices.count_draws((60, 1)) == novices.DRAWS
    assert novices.count_draws((6000, 2)) == novices.DRAWN_NUMBERS // 12_000
    assert novices.count_draws((10**9, 1)) == 2 * novices.HELD
