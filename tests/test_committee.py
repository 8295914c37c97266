"""A committee: what its members learn from, which are kept, and how much each counts."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from conftest import TINY_OPTIONS

from neurostim import committee as committees
from neurostim import models, training
from neurostim import teacher as teachers
from neurostim.committee import CommitteeOptions
from neurostim.errors import UserError
from neurostim.study import make_study

QUICK_COMPILE = True


def retrain(study, names=('mlp', 'mlp'), report=lambda line: None, **committee):
    return teachers.train_teacher(study, names, 1, TINY_OPTIONS, committee=CommitteeOptions(**committee), report=report)


def test_validation_without_groups_to_spare_takes_whole_blocks(study):
    train = study.take(np.isin(study.subject, [0, 1, 2]))
    mask = committees.validation_split(train, 0)
    assert 0.1 <= mask.mean() <= 0.2
    assert np.abs(np.diff(mask.astype(int))).sum() <= 2 * 3  # at most three stretches of neighbouring windows


@pytest.mark.parametrize('committee', ['people', 'groups'])
def test_members_of_a_disjoint_committee_see_nothing_of_each_others_windows(study, committee):
    """One person's windows, played backwards so that no sample's value and no scale changes, move one member and no other."""
    train = study.part(test=False)
    part = committees.deal(train, committee, 2, seed=1)
    person = train.subject[0]
    x = study.x.copy()
    x[study.subject == person] = x[study.subject == person][:, ::-1]
    one, other = (retrain(dataclasses.replace(study, x=windows), dealt=committee) for windows in (study.x, x))
    assert one.scaling.knots.tolist() == other.scaling.knots.tolist()
    moved = [jax.tree.map(np.array_equal, *pair) for pair in zip(one.params, other.params, strict=True)]
    owner = int(part[train.subject == person][0])
    assert not any(jax.tree.leaves(moved[owner])) and all(jax.tree.leaves(moved[1 - owner]))
    # Together they have learnt from everybody, and well enough.
    assert set(part) == {0, 1} and (one.probabilities(study.x[study.test]).argmax(1) == study.y[study.test]).mean() > 0.65


def test_a_committee_that_cannot_be_dealt_is_refused(study, teacher):
    train = study.part(test=False)
    people = len(np.unique(train.subject))
    with pytest.raises(UserError, match=f"'people', but there are {people} people to train {people + 1} members.*teacher.models"):
        committees.deal(train, 'people', people + 1, 0)
    confounded = dataclasses.replace(train, y=(train.subject == train.subject[0]).astype(np.int32))
    with pytest.raises(UserError, match="none has class 'broken'"):
        committees.deal(confounded, 'people', 2, 0)
    with pytest.raises(UserError, match='teacher.committee.*together'):
        committees.deal(train, 'rooms', 2, 0)
    assert retrain(study, dealt='together').digest() == teacher.digest()


def test_skill_is_what_is_known_beyond_the_classes_shares():
    y = np.repeat([0, 1], [90, 10])
    shares = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert committees.skill([3.0, shares], y, 2) == pytest.approx(0)
    assert committees.skill([shares / 4, 1.0], y, 2) == pytest.approx(0.75)
    assert committees.skill([2 * shares], y, 2) < 0
    assert committees.skill([np.log(2)], y, 2, balance=1.0) == pytest.approx(0)  # with class weights chance is an even guess
    assert np.isfinite(committees.skill([0.1], np.zeros(5, int), 3))


@pytest.mark.parametrize('people, by_luck', [(3, True), (8, True), (16, True), (18, False)])
def test_losses_that_one_or_two_groups_decide_luck_decides(people, by_luck, monkeypatch):
    n = 2000  # too many to be few
    study = make_study('many', np.random.default_rng(0).normal(size=(n, 4)), np.arange(n) // 7 % 2, np.arange(n) % people)
    train = dataclasses.replace(study, test=np.zeros(n, bool))
    assert committees.luck_decides(train) == by_luck
    monkeypatch.setattr(training, 'FEW', (n, 2**20))
    assert committees.luck_decides(train)


def test_a_member_far_behind_is_left_out(study, one_core, monkeypatch, tmp_path):
    skills = iter([0.1, 0.8, 0.5])
    monkeypatch.setattr(committees, 'skill', lambda *_: next(skills))
    lines = []
    made = retrain(study, ('mlp', 'mlp', 'mlp'), lines.append, least_skill=0.5)
    assert made.names == ('mlp', 'mlp') and len(made.params) == 2 and 'left out, far behind the best: mlp' in lines
    assert list(made.curves) == [f'0/mlp{committees.LEFT_OUT}', '1/mlp', '2/mlp']
    kept = [min(made.curves[member]['validation_loss']) for member in ('1/mlp', '2/mlp')]
    assert made.validation_loss() == pytest.approx(np.sqrt(np.prod(kept)))
    teachers.save(made, tmp_path / 'teacher')
    np.testing.assert_array_equal(teachers.load(tmp_path / 'teacher').probabilities(study.x[:4]), made.probabilities(study.x[:4]))
    skills = iter([-0.3, -0.2])
    found = retrain(study, least_skill=0.5)
    assert found.names == ('mlp',)  # none is any good: the best is kept
    skills = iter([0.1, 0.8])
    assert retrain(study).names == ('mlp', 'mlp')  # unless asked for, nobody is left out


def test_members_count_by_what_they_know(study, tmp_path):
    names = ('mlp', 'linear')
    even, made = (retrain(study, names, weigh=weigh) for weigh in (False, True))
    losses = [min(made.curves[member]['validation_loss']) for member in ('0/mlp', '1/linear')]
    assert even.weights == () and sum(made.weights) == pytest.approx(1)
    assert training.are_few(study.part(test=False).x) and made.weights[0] / made.weights[1] == pytest.approx(losses[1] / losses[0])
    many = committees.member_weights(made.curves)  # whose losses are less a matter of luck
    assert sum(many) == pytest.approx(1) and many[0] / many[1] == pytest.approx((losses[1] / losses[0]) ** 3)
    x = made.scaling.forward(study.x)
    own = [training.predictor(models.create(name, study.shape, 2))(params, x) for name, params in zip(names, made.params, strict=True)]
    np.testing.assert_allclose(made.predict_scaled(x), np.tensordot(made.weights, own, 1), atol=1e-6)
    np.testing.assert_allclose(even.predict_scaled(x), np.mean(own, 0), atol=1e-6)
    assert made.digest() != even.digest()  # stimuli depend on it
    teachers.save(made, tmp_path / 'teacher')
    again = teachers.load(tmp_path / 'teacher')
    assert again.weights == made.weights
    np.testing.assert_array_equal(again.predict_scaled(x), made.predict_scaled(x))
    taught = teachers.learn_from_draws(made, study, 'gaussian', 1, TINY_OPTIONS, share=0.5)  # whose members know other things
    assert taught.weights == made.weights  # draws are of the windows that validate as well: losses say too much then
    assert retrain(study, draws=0.5, weigh=True).weights == ()
    apart = retrain(study, dealt='people', weigh=True)
    assert apart.weights == ()  # one member's windows would decide about another
    description = tmp_path / 'teacher' / 'teacher.json'
    description.write_text(json.dumps({**json.loads(description.read_text()), 'weights': [0.5, 0.5]}))
    with pytest.raises(UserError, match='damaged'):
        teachers.load(tmp_path / 'teacher')
