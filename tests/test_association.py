"""Attackers who know people: they find who is to be found, and nobody where nobody is."""

import json

import jax
import numpy as np
import pytest

from neurostim import report
from neurostim.evaluation import association, phase, shadow_priors
from neurostim.excitation import produce
from neurostim.study import make_study

QUICK_COMPILE = True


def people(identity: float, n_people=8, windows=80, seed=0):
    """Windows [16, 1] of noise on each person's own wave, of strength `identity`; in the order of recording, two classes by turns."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(n_people), windows)
    own = rng.normal(size=(n_people, 16))
    x = identity * own[subject] + rng.normal(size=(len(subject), 16))
    test = np.tile(np.arange(windows) % 4 == 3, n_people)
    return make_study('people', x[..., None], np.arange(len(subject)) // 4 % 2, subject, test=test)


def attacked(study, stimuli, names=('mlp', 'random_forest'), control=None, draw=None):
    control = np.random.default_rng(9).normal(size=(200, 16, 1)).astype(np.float32) if control is None else control
    draw = draw or (lambda rows: shadow_priors.draw_like(study.take(rows), None))
    return association.attack(study, study.x, stimuli, np.arange(len(stimuli)) % 2, control, draw, names)


@pytest.fixture(scope='module')
def distinct():
    return people(2.0)


def test_people_are_kept_apart(distinct):
    chosen = association.choose_people(distinct)
    parts = [set(part.tolist()) for part in chosen[:4]]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert len(chosen.known) == 6 and not set(distinct.subject[chosen.stranger]) & set(chosen.known)
    assert not distinct.test[chosen.train].any() and not distinct.test[chosen.calibrate].any() and distinct.test[chosen.test].all()
    for person in chosen.known:  # later windows calibrate, so that overlapping neighbours do not vouch for each other
        learnt, held = (part[distinct.subject[part] == person] for part in (chosen.train, chosen.calibrate))
        assert learnt.max() < held.min()


def test_those_without_training_windows_are_the_strangers():
    study = people(1.0)
    study.test[:] = study.subject >= 6
    chosen = association.choose_people(study)
    assert set(study.subject[chosen.stranger]) == {6, 7} and set(chosen.known) == set(range(6))
    for person in chosen.known:  # nothing of theirs is in the test part: the last of their training windows are unseen ones
        learnt, held, unseen = (part[study.subject[part] == person] for part in chosen[:3])
        assert learnt.max() < held.min() <= held.max() < unseen.min()


def test_too_few_people_are_no_figures():
    entry = attacked(people(1.0, n_people=3), np.zeros((10, 16, 1), np.float32))
    assert entry['attackers'] is None and 'fewer than 3 people' in entry['note']


@pytest.mark.parametrize('name', [pytest.param(name, marks=[pytest.mark.slow] * (name == 'resnet')) for name in association.ATTACKERS])
def test_copies_are_recognised(distinct, name):
    """The positive control of the whole: stimuli that are somebody's windows are found out, by every attacker."""
    chosen = association.choose_people(distinct)
    copies = distinct.x[chosen.train[::2]]
    entry = attacked(distinct, copies, (name,))
    found = entry['attackers'][0]
    assert found['known_accuracy'] > 0.9 and found['known_confident'] > 0.7 and found['known_confident_right'] > 0.95
    assert found['stimuli_confident'] > 0.7
    assert found['chance'] == pytest.approx(1 / 6) and found['inhibited'] is False
    low, high = found['stimuli_confident_ci95']
    assert low <= found['stimuli_confident'] <= high
    assert found['stimuli_found_at_1pct'] is None and '160 windows of strangers' in entry['found_note']
    for what in ('stranger', 'control'):  # who must choose among six is sure of nobody too, but less often
        assert found[f'{what}_confident'] < found['known_confident']


def test_what_is_found_at_few_false_alarms_has_its_controls():
    study = people(2.0, windows=140)
    copies = study.x[association.choose_people(study).train[::2]]
    entry = attacked(study, copies, ('random_forest',))
    found = entry['attackers'][0]
    assert 'found_note' not in entry
    assert found['known_found_at_1pct'] > 0.5 and found['stimuli_found_at_1pct'] > 0.5 and found['control_found_at_1pct'] < 0.05
    low, high = found['stimuli_found_at_1pct_ci95']
    assert low <= found['stimuli_found_at_1pct'] <= high


def test_draws_of_strangers_are_a_control_that_can_fail():
    """A population of strangers betrays nobody; where its draws are somebody's windows after all, the control shows it."""
    study = people(2.0, windows=140)
    chosen = association.choose_people(study)
    asked = []

    def copies(rows):
        asked.append(rows)
        return study.x[chosen.train], 'copies'

    honest, broken = (attacked(study, study.x[:100], ('random_forest',), draw=draw) for draw in (None, copies))
    np.testing.assert_array_equal(asked[0], chosen.stranger)
    assert 'draws of mixture' in honest['stranger_draws'] and 'draws of copies' in broken['stranger_draws']
    assert honest['attackers'][0]['stranger_draws_found_at_1pct'] < 0.05 and honest['attackers'][0]['stranger_draws_confident'] < 0.05
    assert broken['attackers'][0]['stranger_draws_found_at_1pct'] > 0.5 and broken['attackers'][0]['stranger_draws_confident'] > 0.5
    assert 'inconclusive: as sure about draws of strangers' in report.association_verdict(broken['attackers'][0])


def test_who_has_no_identity_is_not_recognised():
    study = people(0.0)
    for found in attacked(study, study.x[:200])['attackers']:
        assert found['known_accuracy'] < 0.35
        assert found['known_confident'] < 0.05 and found['stranger_confident'] < 0.05


def test_each_class_has_its_share(distinct):
    """Stimuli of class 0 are copies, those of class 1 nothing."""
    stimuli = distinct.x[association.choose_people(distinct).train[:200]].copy()
    stimuli[1::2] = 0
    found = attacked(distinct, stimuli, ('random_forest',))['attackers'][0]
    first, second = found['stimuli_confident_by_class']
    assert first > 0.7 and second < 0.1
    assert found['stimuli_confident'] == pytest.approx((first + second) / 2)


def test_who_is_sure_of_nobody_may_find_people_all_the_same():
    """Beliefs of two groups that differ, all below what counts as sure: what is found is what strangers' highest do not reach."""
    rng = np.random.default_rng(0)
    strangers, stimuli = rng.uniform(0, 0.5, 1000), np.r_[rng.uniform(0, 0.5, 700), rng.uniform(0.6, 0.8, 300)]
    assert 0.3 < association.found(stimuli, strangers) < 0.32
    assert association.found(strangers, strangers) <= association.FALSE_ALARMS
    low, high = association.found_interval(stimuli, strangers, np.arange(1000) // 100)
    assert 0.25 < low < 0.3 < high < 0.35
    one_is_known = np.where(np.arange(1000) < 100, 0.9, strangers)  # who does not draw this one of ten finds as much as before
    assert association.found(stimuli, one_is_known) == 0
    assert association.found_interval(stimuli, one_is_known, np.arange(1000) // 100)[1] > 0.2
    few = association.FEWEST_STRANGERS - 1
    assert association.found(stimuli, strangers[:few]) is None
    assert association.found_interval(stimuli, strangers, np.zeros(1000)) is None


def test_temperature_is_the_one_that_was_applied():
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(4000, 5))
    true = np.asarray(jax.nn.softmax(logits))
    person = np.array([rng.choice(5, p=p / p.sum()) for p in true])
    for temperature in (0.5, 1.0, 3.0):  # beliefs that are too sure or too timid by so much
        believed = np.asarray(jax.nn.softmax(logits / temperature))
        assert association.fit_temperature(believed, person) == pytest.approx(1 / temperature, rel=0.25)
    np.testing.assert_allclose(association.soften(true, 1.0), true, atol=1e-3)


def test_interval_counts_people_not_windows():
    group = np.repeat(np.arange(10), 100)
    values = np.repeat(np.arange(10) < 5, 100)  # all windows of a person alike
    low, high = association.interval(values, group)
    assert high - low > 0.4
    low, high = association.interval(values, None)
    assert 0.03 < high - low < 0.1
    assert association.interval(values[:100], group[:100]) is None


def test_the_privacy_entry_of_results(teacher, study):
    """Of the tiny study's people there are too few windows to know them by: that is said, and the rest is measured."""
    stimuli, control = (produce.generate(teacher, produce.Settings('mixture', count=100, steps=1), seed) for seed in (0, 1))
    entry = phase.attack(study, teacher, stimuli, control)
    assert entry['association']['attackers'] is None and entry['association']['note']
    assert entry['membership'] == {'record': None, 'subject': None, 'note': 'not attacked: evaluate.shadows is 0'}
    assert 0 <= entry['association']['linkage']['auc'] <= 1  # people are apart here
    assert entry['differential_privacy'] is None and entry['neighbours']['ratio'] > 0
    results = phase.assemble(study, teacher, {'count': 100}, [], entry)
    assert json.loads(json.dumps(results))['privacy'] == entry
    text = report.table(results)
    assert 'nearest training window' in text and 'not attacked' in text
    # The teacher's own windows instead of stimuli are found out.
    copies = stimuli._replace(x=study.x[~study.test][:100])
    assert phase.attack(study, teacher, copies, control)['neighbours']['ratio'] < 0.01
