"""Attacks on membership: they find members where a model memorises, and nobody where it cannot know."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from scipy import signal, special, stats
from sklearn import metrics

from neurostim import report
from neurostim.evaluation import membership, shadow_priors, shadows
from neurostim.evaluation.shadow_priors import Prior
from neurostim.excitation import moments
from neurostim.excitation.flow import FlowOptions
from neurostim.study import make_study

QUICK_COMPILE = True
RNG = np.random.default_rng(0)
MODELS, WINDOWS = 32, 200


def simulated(effect, models=MODELS, seed=0, spread=1.0):
    """Scores of models that know of a window by `effect` more if they learnt from it; windows differ in how hard they are."""
    rng = np.random.default_rng(seed)
    member = membership.halves(np.arange(WINDOWS), models, seed)
    hard, scale = 3 * rng.normal(size=WINDOWS), spread * np.exp(0.5 * rng.normal(size=WINDOWS))
    return hard + scale * (effect * member + rng.normal(size=member.shape)), member


def auc(scores, member):
    return metrics.roc_auc_score(member.ravel(), scores.ravel())


@pytest.mark.parametrize('online', [True, False])
def test_lira_finds_members_of_a_model_that_memorises(online):
    scores, member = simulated(2.0)
    found = auc(membership.lira(scores, member, online), member)
    # Who knew all means and deviations would come to Phi(effect / sqrt 2); how hard a window is hides most of it from the bare score.
    best = special.ndtr(2 / np.sqrt(2))
    assert auc(scores, member) < best - 0.15 and best - 0.08 < found <= best + 0.02


@pytest.mark.parametrize('attack', ['online', 'offline', 'rmia'])
def test_nobody_is_found_where_nothing_is_known(attack):
    scores, member = simulated(0.0)
    result = (membership.rmia(scores, member, simulated(0.0, seed=5)[0]) if attack == 'rmia'
              else membership.lira(scores, member, attack == 'online'))
    low, high = membership.figures(result, member, np.arange(WINDOWS))['auc_ci95']
    assert low < 0.5 < high and high - low < 0.06


def test_models_of_opposite_halves_do_not_serve_each_others_attacker():
    """Two models that learnt from opposite halves are good and bad together, at all windows alike: no window has left a trace."""
    rng = np.random.default_rng(0)
    member = membership.halves(np.arange(1000), MODELS, 0)
    whole = np.repeat(rng.normal(size=MODELS // 2), 2) * np.tile([1, -1], MODELS // 2)
    scores = rng.normal(size=1000) + rng.normal(size=member.shape) + whole[:, None]
    assert auc(membership.lira(scores, member), member) == pytest.approx(0.5, abs=0.015)  # with the opposite one it is .53
    assert membership.attackers(member, 4).tolist() == [i not in (4, 5) for i in range(MODELS)]


def test_rmia_finds_members_of_a_model_that_memorises():
    scores, member = simulated(2.0)
    result = membership.rmia(scores, member, simulated(0.0, seed=5)[0])
    assert auc(result, member) > 0.8 and result.min() >= 0 and result.max() <= 1


def test_rmia_is_the_ratio_of_ratios():
    """Against the definition, window by window."""
    scores, member = simulated(1.0, models=5)
    population = simulated(0.0, models=5, seed=1)[0][:, :50]
    p, q = special.expit(scores), special.expit(population)
    result = membership.rmia(scores, member, population)
    for target, window in ((0, 3), (2, 70), (4, 199)):
        rest = [m for m in range(5) if m not in (target, target ^ 1)]  # nor the one of the other half
        sides = [[p[m, window] for m in rest if member[m, window] == side] for side in (True, False)]
        mean = np.mean([np.mean(side) for side in sides if side])
        ratio = p[target, window] / mean
        others = q[target] / q[rest].mean(0)
        assert result[target, window] == pytest.approx((ratio / others >= 1).mean(), abs=1e-9)


def test_a_target_does_not_help_its_attacker():
    scores, member = simulated(1.0, models=8)
    changed = scores.copy()
    changed[3] += 100.0
    for attack in (lambda s: membership.lira(s, member), lambda s: membership.rmia(s, member, s[:, :20])):
        before, after = attack(scores), attack(changed)
        assert not np.allclose(before[0], after[0])  # the other targets' attackers see model 3
    shifted = membership.lira(np.where(np.arange(8)[:, None] == 3, scores, scores), member)[3]
    own = membership.lira(changed, member)[3]
    assert not np.allclose(shifted, own)
    np.testing.assert_allclose(membership.lira(changed - 100.0 * (np.arange(8) == 3)[:, None], member)[3], shifted)


def test_halves_are_halves():
    member = membership.halves(np.arange(10), 6, 0)
    assert member.shape == (6, 10) and (member.sum(0) == 3).all() and (member.sum(1) == 5).all()
    people = np.repeat(np.arange(5), 3)
    together = membership.halves(people, 4, 1)
    assert all(len(set(together[m, people == p])) == 1 for m in range(4) for p in range(5))
    assert set(together.sum(1)) == {6, 9}


def test_auc_is_the_librarys():
    scores, member = np.round(RNG.normal(size=(3, 50)), 1), RNG.random((3, 50)) < 0.4
    weight = RNG.integers(0, 4, (3, 50))
    expected = metrics.roc_auc_score(member.ravel(), scores.ravel(), sample_weight=weight.ravel())
    assert membership.weighted_auc(scores, member, weight) == pytest.approx(expected)


def test_figures_are_the_librarys():
    scores, member = simulated(1.5)
    found = membership.figures(scores, member, np.arange(WINDOWS))
    assert found['auc'] == pytest.approx(auc(scores, member), abs=1e-6)
    false, true, _ = metrics.roc_curve(member.ravel(), scores.ravel())
    assert found['tpr_at_1pct_fpr'] == pytest.approx(np.interp(0.01, false, true), abs=0.02)
    low, high = found['auc_ci95']
    assert low < found['auc'] < high and found['epsilon_lower_bound'] >= 0
    together = membership.figures(scores, member, np.arange(WINDOWS) // 50)['auc_ci95']
    assert together[1] - together[0] != high - low
    assert membership.figures(scores, member, np.zeros(WINDOWS, int))['auc_ci95'] is None


def test_logit_of_label():
    logits = RNG.normal(size=(20, 3)) * 3
    label = RNG.integers(0, 3, 20)
    p = special.softmax(logits, 1)[np.arange(20), label]
    np.testing.assert_allclose(shadows.logit_of_label(logits, label), special.logit(p), rtol=1e-4, atol=1e-5)
    assert np.isfinite(shadows.logit_of_label(np.array([[500.0, -500.0]]), np.array([0]))).all()


def test_mixture_is_that_of_the_rows():
    """Two heaps far apart are two components, with their shares, centres and spreads; rows without weight count for nothing."""
    rng = np.random.default_rng(1)
    heaps = np.concatenate([rng.normal(size=(3000, 2)) * (1, 0.5) + (6, 0), rng.normal(size=(1000, 2)) * 0.7 - (6, 0)])
    rows = np.concatenate([heaps, 100 + rng.normal(size=(500, 2))]).astype(np.float32)
    weight = np.r_[np.ones(4000), np.zeros(500)].astype(np.float32)
    share, centre, factor = shadows.fit_mixture(jax.random.key(0), rows, weight, 2, rounds=30)
    first = int(np.argmax(share))
    np.testing.assert_allclose(np.sort(share), (0.25, 0.75), atol=0.01)
    np.testing.assert_allclose(centre[first], (6, 0), atol=0.1)
    covariance = factor[first] @ factor[first].T
    np.testing.assert_allclose(np.diag(covariance), (1, 0.25), atol=0.4)  # the ridge and the prior broaden it


SMALL = shadows.ShadowOptions(teacher='mlp', student='mlp', steps=60, batch=32, stimuli=256, components=2)


def small_study(n=160):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    x = rng.normal(size=(n, 12, 1)) + 1.2 * np.where(y, 1, -1)[:, None, None] * np.sin(np.arange(12))[None, :, None]
    subject = np.arange(n) * 8 // n
    return make_study('small', x, y, subject, test=np.arange(n) // 2 % 4 == 3)


@pytest.mark.slow
def test_a_pipeline_learns_from_members_alone():
    study = small_study()
    pipeline = shadows.make_pipeline(study.shape, 2, SMALL)
    member = membership.halves(np.arange(len(study.y)), 2, 0)
    changed = study.x.copy()
    changed[~member[0]] += 50.0  # what does not take part in the first pipeline
    ours = shadows.run(pipeline, jax.random.key(0), member[:1], study.x, study.y)
    theirs = shadows.run(pipeline, jax.random.key(0), member[:1], changed, study.y)
    for name in ('real', 'stimuli', 'distance'):
        np.testing.assert_allclose(getattr(ours, name)[member[:1]], getattr(theirs, name)[member[:1]], rtol=1e-3, atol=1e-3)
    assert (ours.real > 0).mean() > 0.8 and (ours.stimuli > 0).mean() > 0.8  # and it learns the task
    # Padding is nothing: the same members beside a larger pipeline.
    both = np.stack([member[0], np.ones(len(study.y), bool)])
    padded = shadows.run(pipeline, jax.random.key(0), both, study.x, study.y)
    np.testing.assert_allclose(padded.real[0].mean(), ours.real.mean(), rtol=0.3)


def test_shifts_are_modelled_and_asked_about():
    """A teacher of shifted windows makes other stimuli; a student of these is asked about shifted copies, which are another question."""
    study = small_study(80)
    options = dataclasses.replace(SMALL, shift=0.5, by_class=False, stationary=True, components=1)
    entry = membership.attack(study, study.x, 8, options)
    asked = [a['attack'] for a in entry['record']['attacks'] if a['attack'].endswith('over shifted copies')]
    assert asked == ['LiRA, online, over shifted copies', 'RMIA, over shifted copies']
    assert 'all classes of windows that begin anywhere' in entry['pipelines']


def test_one_mixture_of_all_classes_knows_no_class():
    """Where all classes share a mixture, unexcited stimuli are the same whatever the labels are, and no other copies are asked about."""
    study = small_study()
    member = membership.halves(np.arange(len(study.y)), 2, 0)[:1]
    pipeline = shadows.make_pipeline(study.shape, 2, dataclasses.replace(SMALL, by_class=False, excite_steps=0, components=1))
    ours, theirs = (shadows.run(pipeline, jax.random.key(0), member, study.x, y)
                    for y in (study.y, np.random.default_rng(0).permutation(study.y)))
    np.testing.assert_allclose(ours.distance, theirs.distance, rtol=1e-4)
    assert not np.allclose(ours.stimuli, theirs.stimuli, atol=0.1)
    np.testing.assert_array_equal(ours.copies, ours.stimuli)


def test_distance_is_to_the_nearest_stimulus():
    x, stimuli = RNG.normal(size=(300, 5)).astype(np.float32), RNG.normal(size=(70, 5)).astype(np.float32)
    expected = np.linalg.norm(x[:, None] - stimuli, axis=2)
    np.testing.assert_allclose(-shadows.nearness(x, stimuli), expected.min(1), atol=1e-3)


def test_the_membership_entry():
    study = small_study()
    done = []
    entry = membership.attack(study, study.x, 8, SMALL, 0, done.append)
    assert done[-1] <= membership.count(study, 8) == 12
    record = entry['record']
    assert record['shadow_models'] == 8 and set(record['real']) >= {'auc', 'auc_ci95', 'tpr_at_1pct_fpr'}
    assert {a['attack'] for a in record['attacks']} >= {'LiRA, online', 'LiRA, offline', 'RMIA', 'LiRA on the distance of stimuli'}
    controls = [a for a in record['attacks'] if a['attack'] == membership.NEGATIVE_CONTROL]
    assert [a['against'] for a in controls] == ['real', 'stimuli'] and all(a['auc_ci95'][0] < 0.5 < a['auc_ci95'][1] for a in controls)
    assert report.strongest({'attacks': [{**controls[1], 'auc': 0.9}, {**controls[1], 'attack': 'RMIA'}]})['attack'] == 'RMIA'
    assert entry['subject']['note'] and entry['subject']['real'] is None  # four models are too few
    assert entry['canaries']['planted'] == 10
    assert json.loads(json.dumps(entry)) == entry
    assert membership.attack(study, study.x, 0)['note']


def test_people_are_told_from_others_by_who_took_part_and_not_by_chance(monkeypatch):
    """Scores say who took part, window by window: the attack finds people, and told of people at random it finds nobody."""
    def run(pipeline, key, member, x, y, progress):
        told = 2.0 * member + np.random.default_rng(1).normal(size=member.shape)
        return shadows.Scores(told, 0.0 * told, told, told, told)

    n, people = 400, 20
    study = make_study('people', RNG.normal(size=(n, 4)), RNG.integers(0, 2, n), np.arange(n) * people // n, test=np.arange(n) < 20)
    monkeypatch.setattr(shadows, 'run', run)
    entry = membership._attack_subjects(study, study.x, 16, None, None, 0, None)
    found = {(a['attack'], a['against']): a for a in entry['attacks']}
    by_chance = found[membership.NEGATIVE_CONTROL_PEOPLE, 'real']
    assert entry['real']['auc'] > 0.99 and entry['stimuli']['auc'] == 0.5
    assert by_chance['auc_ci95'][0] < 0.5 < by_chance['auc_ci95'][1] and abs(by_chance['auc'] - 0.5) < 0.1
    assert report.strongest({'attacks': [{**by_chance, 'against': 'stimuli'}]}) is None


@pytest.mark.slow
def test_the_attack_works_on_a_student_that_memorises():
    """The positive control, by the whole path: few windows, labels that are noise, long training."""
    rng = np.random.default_rng(0)
    n = 120
    study = make_study('noise', rng.normal(size=(n, 12, 1)), rng.integers(0, 2, n), np.arange(n) * 6 // n, test=np.arange(n) % 5 == 4)
    options = shadows.ShadowOptions(teacher='mlp', student='mlp', steps=250, batch=32, stimuli=256, components=1)
    entry = membership.attack(study, study.x, 12, options)
    assert entry['record']['real']['auc_ci95'][0] > 0.5 and entry['record']['real']['auc'] > entry['record']['stimuli']['auc']


# ------------------------------------------------------------------------------------------------ density, and shadow priors


def test_density_is_the_librarys():
    """Of each window under the Gaussian of its class; belief may be divided."""
    made = RNG.normal(size=(500, 3)) @ RNG.normal(size=(3, 3)) + 2
    belongs = RNG.dirichlet((0.5, 0.5), 500)
    x, y = RNG.normal(size=(20, 3)) + 2, RNG.integers(0, 2, 20)
    whole, found = np.cov(made.T), shadows.density(*(np.asarray(a, np.float32) for a in (x,)), y, made, belongs)
    for c in range(2):
        own = belongs[:, c]
        covariance = np.cov(made.T, aweights=own, ddof=0)
        covariance = (own.sum() * covariance + 3 * whole) / (own.sum() + 3) + shadows.RIDGE * np.trace(whole) / 3 * np.eye(3)
        expected = stats.multivariate_normal(np.average(made, axis=0, weights=own), covariance).logpdf(x[y == c])
        np.testing.assert_allclose(found[y == c], expected + 1.5 * np.log(2 * np.pi), rtol=1e-3, atol=1e-3)


def features_study(n, d):
    rng = np.random.default_rng(3)
    x = (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) / np.sqrt(d)).astype(np.float32)
    return make_study('features', x, rng.integers(0, 2, n), np.arange(n) * 10 // n, test=np.arange(n) % 5 == 4)


@pytest.mark.slow
def test_a_prior_of_few_windows_gives_them_away_and_one_of_many_does_not():
    """Of as many numbers, what is fitted to a hundred windows is theirs, and what is fitted to thousands hardly."""
    found = {}
    for n in (250, 5000):
        study = features_study(n, 24)
        entry = membership._attack_priors(study, study.x, 'record', 8, Prior('mixture', True), 0, lambda done: None)
        attacks = {(a['attack'], a['against']): a for a in entry['attacks']}
        found[n] = entry['stimuli']['auc']
        assert entry['attack'] == 'LiRA on the density of draws of mixture'
        assert attacks['LiRA on the distance of draws of mixture', 'real']['auc'] > 0.95  # the positive control
        low, high = attacks[membership.NEGATIVE_CONTROL, 'stimuli']['auc_ci95']
        assert low < 0.5 < high
    assert found[250] > 0.65 and found[5000] < 0.6 < found[250] - 0.05


FLOW = FlowOptions(steps=100, width=8, batch=32)


@pytest.mark.parametrize('method', ['mixture', 'leaves', pytest.param('matched', marks=pytest.mark.slow)])  # the last of a flow's draws
def test_a_prior_learns_from_members_alone(method, monkeypatch):
    monkeypatch.setattr(moments, 'NUMBERS', 8 * 512)  # few draws do
    study = features_study(200, 8)
    member = membership.halves(np.arange(200), 2, 0)[:1]
    asked, changed = np.flatnonzero(member[0])[:50], study.x.copy()
    changed[~member[0]] += 50.0
    ours, theirs = (shadow_priors.run(study, x, member, asked, Prior(method, True, FLOW)) for x in (study.x, changed))
    for name in shadow_priors.Scores._fields:
        np.testing.assert_array_equal(getattr(ours[''], name), getattr(theirs[''], name))


@pytest.mark.parametrize(('prior', 'by'), [(Prior('leaves', True), 'leaves'), (Prior('spectral', True), 'mixture'), (None, 'mixture'),
                                           (Prior('flow', True), 'mixture')])
def test_draws_like_some_windows_are_by_the_prior_that_suits_them(prior, by):
    """Features have no spectra, and no flow is trained whose options are not told. Some people's windows may be of one class."""
    study = features_study(200, 8)
    own = study.take(study.y == 1)
    draws, method = shadow_priors.draw_like(own, prior)
    assert method == by and draws.shape == (shadow_priors.draws(own), 8)
    np.testing.assert_allclose(draws.mean(0), own.x.mean(0), atol=0.15)


@pytest.mark.slow
def test_a_flow_of_vectors_is_attacked_as_other_priors_are():
    """Its draws say little of noise in six numbers; members' own windows in their place say who they are, and nobody tells who was not
    asked."""
    study = features_study(150, 6)
    entry = membership._attack_priors(study, study.x, 'record', 4, Prior('flow', True, FLOW), 0, lambda done: None)
    found = {(a['attack'], a['against']): a for a in entry['attacks']}
    assert entry['attack'] == 'LiRA on the density of draws of flow' and entry['stimuli']['auc'] < 0.7
    assert found['LiRA on the distance of draws of flow', 'real']['auc'] > 0.95  # the positive control
    low, high = found[membership.NEGATIVE_CONTROL, 'stimuli']['auc_ci95']
    assert low < 0.5 < high


def test_a_short_time_series_is_compared_by_spectra_too():
    """Which do not change when a window begins a little later; a long one is seen by bands, features as they are."""
    x = RNG.normal(size=(50, 40, 2)).astype(np.float32)
    views = shadow_priors.make_views(x)
    assert list(views) == ['', ', by spectra'] and views[''](x).shape == (50, 80)
    seen = views[', by spectra'](x)
    np.testing.assert_allclose(seen, views[', by spectra'](np.roll(x, 7, 1)), atol=1e-3)
    np.testing.assert_allclose((seen.mean(0), seen.std(0)), (np.zeros(42), np.ones(42)), atol=2e-2)
    assert list(shadow_priors.make_views(RNG.normal(size=(20, 600, 2)))) == list(shadow_priors.make_views(x[:, :, 0])) == ['']


@pytest.mark.slow
def test_a_stationary_prior_does_not_tell_windows_apart_where_one_of_windows_as_they_begin_does():
    rng = np.random.default_rng(6)
    x = signal.lfilter([1], [1, -0.8], rng.normal(size=(400, 60)))[:, 20:, None].astype(np.float32)
    study = make_study('noise', x, rng.integers(0, 2, 400), np.arange(400) // 40, test=np.arange(400) % 5 == 4)
    found = {method: membership._attack_priors(study, study.x, 'record', 8, Prior(method, False), 0, lambda done: None)['stimuli']
             for method in ('gaussian', 'stationary')}
    assert found['gaussian']['auc_ci95'][0] > 0.6
    assert found['stationary']['auc_ci95'][0] < 0.52 and found['stationary']['auc'] < 0.54


@pytest.mark.slow
def test_windows_too_large_for_pipelines_are_attacked_through_their_prior(monkeypatch):
    """Where the statistics are fitted anew; a method that trains a network says that it is not."""
    monkeypatch.setattr(shadows, 'LARGEST', 10)
    study = features_study(400, 12)
    done = []
    entry = membership.attack(study, study.x, 16, None, 0, done.append, Prior('mixture', False))
    assert done == [*range(1, 25)] and membership.count(study, 16, Prior('mixture', False)) == 24
    assert entry['record']['shadow_models'] == 16 and entry['subject']['shadow_models'] == 8 and 'mixture' in entry['priors']
    assert report.strongest(entry['record']) == max(entry['record']['attacks'][2:4], key=lambda a: a['auc'])
    assert json.loads(json.dumps(entry)) == entry
    none = membership.attack(study, study.x, 16, prior=Prior('banded', False))  # of features
    assert none['record']['stimuli'] is None and "no prior 'banded'" in none['record']['note'] and report.strongest(none['record']) is None
    assert "'flow' is not fitted anew" in membership.attack(study, study.x, 16, prior=Prior('flow', False))['note']
    assert membership.count(study, 16, Prior('flow', False)) == 0  # it does not say how its flow is trained
    assert membership.count(study, 16, Prior('flow', False, FLOW)) == 24
    series = make_study('series', RNG.normal(size=(40, 20, 1)), np.arange(40) % 2, np.arange(40) // 4)
    assert membership.count(series, 16, Prior('flow', False, FLOW)) == membership.count(series, 16)
