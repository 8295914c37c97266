"""The teacher: trained on training windows alone, saved and read back whole, or not at all."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from conftest import TINY_OPTIONS

from neurostim import committee as committees
from neurostim import teacher as teachers
from neurostim import training
from neurostim.committee import CommitteeOptions
from neurostim.errors import UserError
from neurostim.excitation import parameterisation
from neurostim.study import make_study

QUICK_COMPILE = True
# No traceback of orbax's threads beside the one line of the error.
pytestmark = pytest.mark.filterwarnings('error::pytest.PytestUnraisableExceptionWarning')


def retrain(study, seed=1, **options):
    return teachers.train_teacher(study, ('mlp', 'mlp'), seed, TINY_OPTIONS, **options)


@pytest.fixture
def saved(teacher, tmp_path):
    teachers.save(teacher, tmp_path / 'teacher')
    return tmp_path / 'teacher'


def test_the_classes_are_learnt(teacher, study):
    held_out = study.part(test=True)
    beliefs = teacher.probabilities(held_out.x)
    assert beliefs.shape == (len(held_out.y), 2) and (beliefs >= 0).all()
    np.testing.assert_allclose(beliefs.sum(1), 1, atol=1e-5)
    assert (beliefs.argmax(1) == held_out.y).mean() > 0.9
    assert (teacher.shape, teacher.classes, teacher.channels, teacher.kind) == (study.shape, study.classes, study.channels, 'windows')


def test_networks_are_one_object(teacher):
    """What is compared by identity before it is put on a device again."""
    assert teacher.networks is teacher.networks
    assert dataclasses.replace(teacher, params=()).networks == ((), (), ())


def test_probabilities_are_those_of_the_scaled_windows(teacher, study):
    x = study.x[:5]
    scaled = teacher.scaling.forward(x)
    logits, _ = teacher.model.apply(teacher.params, scaled)
    np.testing.assert_allclose(teacher.probabilities(x), jax.nn.softmax(logits), atol=1e-5)
    np.testing.assert_array_equal(teacher.predict_scaled(scaled), teacher.probabilities(x))
    assert training.predictor(teacher.model) is training.predictor(teacher.model)  # compiled once


def test_curves_are_finite_and_one_a_member(teacher):
    assert list(teacher.curves) == ['0/mlp', '1/mlp']
    for curves in teacher.curves.values():
        lengths = {len(column) for column in curves.values()}
        assert lengths == {len(curves['step'])} and 1 <= len(curves['step']) <= TINY_OPTIONS.validations
        assert all(np.isfinite(column).all() for column in curves.values())
        assert (np.diff(curves['step']) > 0).all() and curves['train_loss'][-1] < curves['train_loss'][0]


def test_held_out_windows_are_not_touched(teacher, study):
    x, y = study.x.copy(), study.y.copy()
    x[study.test], y[study.test] = 1e6, 1 - y[study.test]
    other = retrain(dataclasses.replace(study, x=x, y=y))
    assert other.digest() == teacher.digest()
    assert other.curves == teacher.curves
    # Whereas one training window is felt.
    x = study.x.copy()
    x[np.flatnonzero(~study.test)[3]] += 1
    assert retrain(dataclasses.replace(study, x=x)).digest() != teacher.digest()


def test_the_seed_decides(teacher, study):
    lines = []
    assert retrain(study, seed=2, report=lines.append).digest() != teacher.digest()
    assert len(lines) == 2 and all('mlp' in line for line in lines)


def test_members_differ_and_hold_out_other_groups(teacher, study):
    first, second = teacher.params
    assert not np.allclose(first['head']['kernel'], second['head']['kernel'])
    train = study.part(test=False)
    held = np.stack([committees.validation_split(train, seed) for seed in range(1000, 1005)])
    for mask in held:
        assert set(train.y[mask]) == set(train.y[~mask]) == {0, 1}
        assert not set(train.group[mask]) & set(train.group[~mask])
        assert 0.1 < mask.mean() < 0.25
    assert not held.all(0).any() and len(np.unique(held, axis=0)) > 1  # together they have learnt from every window


def test_digest_knows_every_number(teacher):
    def nudge(tree):
        leaves, structure = jax.tree.flatten(tree)
        for i in range(len(leaves)):
            changed = [leaf.copy() for leaf in leaves]
            changed[i].flat[-1] = np.nextafter(changed[i].flat[-1], np.inf)
            yield structure.unflatten(changed)

    digests = [teacher.digest()]
    for name in ('params', 'population', 'scaling'):
        digests += [dataclasses.replace(teacher, **{name: changed}).digest() for changed in nudge(getattr(teacher, name))]
    assert len(set(digests)) == len(digests) > 20


def test_round_trip(teacher, study, saved):
    read = teachers.load(saved)
    assert read.digest() == teacher.digest()
    np.testing.assert_array_equal(read.probabilities(study.x[:20]), teacher.probabilities(study.x[:20]))
    for name in ('names', 'classes', 'channels', 'kind', 'curves', 'shape'):
        assert getattr(read, name) == getattr(teacher, name), name
    for ours, theirs in zip(jax.tree.leaves((read.params, read.population, tuple(read.scaling))),
                            jax.tree.leaves((teacher.params, teacher.population, tuple(teacher.scaling))), strict=True):
        assert isinstance(ours, np.ndarray) and ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_a_population_with_an_array_of_no_numbers_is_kept(teacher, tmp_path):
    """Bands may have no component beyond those that go together, so that none has a spread of its own."""
    empty = dataclasses.replace(teacher, population={**teacher.population, 'banded/own_spread': np.ones((2, 0), np.float32)})
    teachers.save(empty, tmp_path / 'teacher')
    again = teachers.load(tmp_path / 'teacher')
    assert again.population['banded/own_spread'].shape == (2, 0) and again.digest() == empty.digest()
    assert list(again.population) == list(empty.population)


def test_saving_again_replaces_and_failing_leaves_what_was_there(teacher, saved, monkeypatch):
    renamed = dataclasses.replace(teacher, classes=('a', 'b'))
    monkeypatch.setattr(json, 'dumps', lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        teachers.save(renamed, saved)
    monkeypatch.undo()
    assert teachers.load(saved).classes == teacher.classes
    teachers.save(renamed, saved)
    assert teachers.load(saved).classes == ('a', 'b')
    assert sorted(p.name for p in saved.parent.iterdir()) == ['teacher']


# Damage.

def cut(path, share=0.5):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def largest(folder):
    return max((p for p in (folder / 'checkpoint').rglob('*') if p.is_file()), key=lambda p: p.stat().st_size)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(bytes(content))


def edit(folder, change):
    path = folder / 'teacher.json'
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


DAMAGE = {
    'no folder': lambda f: shutil.rmtree(f),
    'no description': lambda f: (f / 'teacher.json').unlink(),
    'cut description': lambda f: cut(f / 'teacher.json'),
    'empty description': lambda f: (f / 'teacher.json').write_text(''),
    'a list': lambda f: (f / 'teacher.json').write_text('[]'),
    'no UTF-8': lambda f: (f / 'teacher.json').write_bytes(b'\xff\xfe{}'),
    **{f'without {name}': lambda f, name=name: edit(f, lambda d: d.pop(name))
       for name in ('models', 'shape', 'classes', 'channels', 'kind', 'population', 'knots', 'curves', 'digest', 'files')},
    'unknown model': lambda f: edit(f, lambda d: d.update(models=['cnm', 'mlp'])),
    'another model': lambda f: edit(f, lambda d: d.update(models=['cnn', 'mlp'])),
    'one model': lambda f: edit(f, lambda d: d.update(models=['mlp'])),
    'no model': lambda f: edit(f, lambda d: d.update(models=[])),
    'another shape': lambda f: edit(f, lambda d: d.update(shape=[21, 2])),
    'another digest': lambda f: edit(f, lambda d: d.update(digest='0' * 64)),
    'no checkpoint': lambda f: shutil.rmtree(f / 'checkpoint'),
    'empty checkpoint': lambda f: (shutil.rmtree(f / 'checkpoint'), (f / 'checkpoint').mkdir()),
    'cut checkpoint': lambda f: cut(largest(f)),
    'flipped bits': lambda f: flip(largest(f)),
    'a file gone': lambda f: largest(f).unlink(),
}


@pytest.mark.parametrize('damage', DAMAGE)
def test_damage_is_the_users(saved, damage):
    DAMAGE[damage](saved)
    with pytest.raises(UserError, match='run --phase=train|choose one of|name at least one') as caught:
        teachers.load(saved)
    assert str(saved) in str(caught.value) or damage in ('unknown model', 'no model')


@pytest.mark.parametrize('names, message', [((), 'teacher.models is empty'), (('mlp', 'gru2'), "unknown model 'gru2'")])
def test_what_the_user_can_fix(study, names, message):
    with pytest.raises(UserError, match=message):
        teachers.train_teacher(study, names, options=TINY_OPTIONS)


def test_what_a_good_member_loses_is_not_hidden_by_a_weak_one(study):
    def with_losses(*least):
        return dataclasses.replace(made, curves={f'{i}/mlp': {'validation_loss': [1.0, loss]} for i, loss in enumerate(least)})

    made = teachers.train_teacher(study, ('mlp',), 1, TINY_OPTIONS)
    assert with_losses(0.16, 0.5).validation_loss() == pytest.approx(2**0.5 * with_losses(0.08, 0.5).validation_loss())
    assert with_losses(0.0, 0.5).validation_loss() > 0  # and can be compared


@pytest.mark.parametrize('anywhere', [True, False])
def test_the_first_member_finds_whether_windows_may_begin_anywhere(anywhere, tmp_path):
    """Few windows of a rhythm that begins at random gain by it; where the class is the time of an event, it would destroy the class."""
    rng = np.random.default_rng(0)
    y, time = np.arange(240) % 2, np.arange(32)
    begins = rng.integers(0, 32, 240) if anywhere else np.where(y, 20, 4) + rng.integers(-1, 2, 240)
    wave = np.sin(2 * np.pi * np.where(y, 2, 3)[:, None] * (time - begins[:, None]) / 32) if anywhere else time == begins[:, None]
    x = (wave + 0.4 * rng.normal(size=(240, 32)))[..., None]
    study = make_study('s', x, y, np.arange(240) // 20)
    lines = []
    made = teachers.train_teacher(study, ('mlp',), 0, dataclasses.replace(TINY_OPTIONS, shift=-1.0, steps=200), report=lines.append)
    assert made.shift == (0.5 if anywhere else 0.0)
    assert ('windows may begin anywhere' if anywhere else 'windows are learnt as they begin') in lines
    teachers.save(made, tmp_path / 'teacher')
    assert teachers.load(tmp_path / 'teacher').shift == made.shift


@pytest.mark.parametrize('unit', [1, 1e-6])
def test_windows_around_an_event_are_not_tried_elsewhere(unit):
    y = np.arange(240) % 2
    wave = unit * (np.random.default_rng(0).normal(size=(240, 32)) + 2 * (np.arange(32) == 16))
    lines = []
    options = dataclasses.replace(TINY_OPTIONS, shift=-1.0)
    made = teachers.train_teacher(make_study('s', wave[..., None], y, np.arange(240) // 20), ('mlp',), 0, options, report=lines.append)
    assert made.shift == 0 and lines[0].startswith('windows are learnt as they begin: 1')


def test_what_is_no_time_series_is_learnt_as_it_is(study):
    flat = dataclasses.replace(study, x=study.x.reshape(len(study.x), -1))
    assert teachers.train_teacher(flat, ('mlp',), 1, dataclasses.replace(TINY_OPTIONS, shift=-1.0)).shift == 0


def test_what_was_learnt_from_draws_is_known_of_draws(teacher, study):
    lines = []
    taught = teachers.learn_from_draws(teacher, study, 'gaussian', 1, TINY_OPTIONS, share=0.5, report=lines.append)
    x, y = parameterisation.unexcited('gaussian', study.shape, teacher.population, 500, seed=9)
    # One Gaussian for all draws is the same for every class: whoever has learnt from it is sure of none, whoever has not often is.
    sure_before, sure_after = (one.predict_scaled(x).max(1).mean() for one in (teacher, taught))
    assert sure_after < sure_before - 0.05
    assert lines[0] == f"{(~study.test).sum() // 2} draws by 'gaussian' are learnt from beside {(~study.test).sum()} windows"
    test = study.part(test=True)
    assert (taught.probabilities(test.x).argmax(1) == test.y).mean() > 0.9  # windows are known all the same
    assert taught.population is teacher.population and taught.scaling is teacher.scaling and taught.names == teacher.names
    assert list(taught.curves) == list(teacher.curves) and taught.digest() != teacher.digest()


def test_a_committee_can_be_asked_before_there_is_a_population(study):
    early = []
    made = retrain(study, meanwhile=early.append)
    (committee,) = early
    assert committee.population == {} and made.population
    np.testing.assert_array_equal(committee.probabilities(study.x), made.probabilities(study.x))
    assert dataclasses.replace(committee, population=made.population).digest() == made.digest()


def test_members_with_room_for_draws_are_the_same_and_are_taught_by_the_same_program(study):
    options = dataclasses.replace(TINY_OPTIONS, steps=TINY_OPTIONS.steps + 1)  # nobody else's
    spec = ('mlp', study.shape, 2, ())
    alike = [teachers.train_teacher(study, ('mlp',), 1, options, committee=CommitteeOptions(draws_later=later)) for later in (0.0, 1.0)]
    assert alike[0].digest() == alike[1].digest()
    programs = training._compiled(spec, options)._cache_size()
    teachers.learn_from_draws(alike[1], study, 'gaussian', 1, options, share=1.0)
    assert training._compiled(spec, options)._cache_size() == programs == 2


def test_members_that_learn_from_draws_at_once_are_those_taught_later(study):
    """Only that no committee is trained to be thrown away."""
    lines = []
    later = teachers.learn_from_draws(retrain(study), study, 'modulated', 1, TINY_OPTIONS, share=0.5)
    at_once = retrain(study, report=lines.append, committee=CommitteeOptions(draws=0.5))
    assert at_once.digest() == later.digest() and at_once.curves == later.curves
    assert lines[0] == "50 draws by 'modulated' are learnt from beside 100 windows"
    with pytest.raises(UserError, match='draws 0'):
        retrain(study, committee=CommitteeOptions('people', draws=0.5))


def test_draws_do_not_validate(study, teacher, one_core, monkeypatch):
    seen, firsts = [], []

    def fit(spec, options, key, learnt, checked, until):
        seen.append((int(learnt.n), int(checked.n), np.asarray(checked.x[:int(checked.n)])))
        raise InterruptedError

    monkeypatch.setattr(training, 'fit', fit)
    for learn in (lambda: retrain(study), lambda: teachers.learn_from_draws(teacher, study, 'mixture', 1, TINY_OPTIONS)):
        with pytest.raises(InterruptedError):
            learn()
        firsts.append(seen[0])
        seen.clear()
    (alone, checked, windows), (beside, checked_too, windows_too) = firsts
    assert beside == alone + (~study.test).sum() and checked_too == checked
    np.testing.assert_array_equal(windows, windows_too)


@pytest.mark.parametrize('few', [False, True])
def test_members_of_few_windows_learn_from_all_in_the_end(study, one_core, monkeypatch, few):
    """For as many epochs as served them best when some were held out; what they were validated with is what they had not learnt."""
    monkeypatch.setattr(training, 'FEW', (10_000, 2**20) if few else (0, 0))
    seen, fit = [], training.fit

    def record(spec, options, key, learnt, checked, until):
        params, history = fit(spec, options, key, learnt, checked, until)
        seen.append((int(learnt.n), int(checked.n), until, float(history.step[np.nanargmin(history.validation_loss)]), params))
        return params, history

    monkeypatch.setattr(training, 'fit', record)
    trained, windows = retrain(study), (~study.test).sum()
    for (n, held, until, best, params), kept in zip(seen[::2] if few else seen, trained.params, strict=True):
        assert n + held == windows and until == training.NEVER
        assert few or jax.tree.all(jax.tree.map(np.array_equal, params, kept))
        assert 0 < best <= TINY_OPTIONS.steps
    if few:
        for (some, _, _, best, _), (n, _, until, _, params), kept in zip(seen[::2], seen[1::2], trained.params, strict=True):
            assert n == windows and until == round(best * windows / some) and jax.tree.all(jax.tree.map(np.array_equal, params, kept))


@pytest.mark.parametrize(('numbers', 'longer'), [(2048, (3, 3)), (2049, (3, 1)), (2**14, (3, 1)), (2**14 + 1, (1, 1))])
def test_members_learn_long_windows_for_longer_but_not_their_draws(study, teacher, one_core, monkeypatch, numbers, longer):
    """As if windows had so many numbers: by limits that are as far from these windows' as theirs are from the limits."""
    monkeypatch.setattr(training, 'FEW', (0, 0))
    ratio = study.x[0].size / numbers
    monkeypatch.setattr(committees, 'LONGER_NUMBERS', {which: limit * ratio for which, limit in committees.LONGER_NUMBERS.items()})
    seen, fit = [], training.fit

    def record(spec, options, *rest):
        seen.append(options.longer)
        return fit(spec, dataclasses.replace(options, longer=1), *rest)

    monkeypatch.setattr(training, 'fit', record)
    options = dataclasses.replace(TINY_OPTIONS, longer=3)
    teachers.train_teacher(study, ('mlp',), 1, options)
    teachers.learn_from_draws(dataclasses.replace(teacher, names=('mlp',)), study, 'gaussian', 1, options)
    assert tuple(seen) == longer


def test_draws_are_no_more_than_fit(study, teacher, monkeypatch):
    monkeypatch.setattr(teachers, 'MOST_DRAWS', 7)
    lines = []
    teachers.learn_from_draws(teacher, study, 'mixture', 1, dataclasses.replace(TINY_OPTIONS, steps=2, validations=1), report=lines.append)
    assert lines[0].startswith('7 draws')
