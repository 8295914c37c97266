"""Differential privacy: what is counted is what is done."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from neurostim import models, pipeline, private, report
from neurostim.config import check, default_config
from neurostim.errors import UserError
from neurostim.evaluation import advice, differential_privacy, phase
from neurostim.excitation import produce
from neurostim.private import PrivacyOptions
from neurostim.study import make_study
from neurostim.training import cross_entropy

QUICK_COMPILE = True
OPTIONS = PrivacyOptions(epsilon=8.0, steps=30, batch=40, views=2)
RNG = np.random.default_rng(0)
X, TARGETS = RNG.normal(size=(12, 16, 1)).astype(np.float32), np.eye(2, dtype=np.float32)[np.arange(12) % 2]


def own_scale_study(n=240, seed=0):
    """Slow and fast waves, each window in standard deviations of its own."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    phase = rng.uniform(0, 2 * np.pi, (n, 1))
    x = np.sin(2 * np.pi * np.where(y, 2, 4)[:, None] * np.arange(16) / 16 + phase) + 0.3 * rng.normal(size=(n, 16))
    x = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    return make_study('waves', x[..., None], y, np.arange(n) * 6 // n, test=np.arange(n) // 2 % 4 == 3, own_scale='window')


@pytest.fixture(scope='module', autouse=True)
def coarse_losses():
    """Privacy losses are counted ten times as coarsely, which takes a tenth of the time and errs towards a larger epsilon."""
    exact = private.LOSS_INTERVAL
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(private, 'LOSS_INTERVAL', 10 * exact)
        private.calibrate.cache_clear()
        yield exact
    private.calibrate.cache_clear()


@pytest.fixture(scope='module')
def network():
    model = models.create('mlp', (16, 1), 2, width=8)
    return model, model.init(jax.random.key(0))


def test_each_window_counts_no_more_than_the_clip(network):
    """Against a plain loop over windows, one gradient each."""
    model, params = network
    options = dataclasses.replace(OPTIONS, clip=0.5)
    shifts = RNG.integers(0, 16, (12, 2))
    weight = np.r_[np.ones(10), np.zeros(2)].astype(np.float32)
    found = private.make_gradient(model, options)(params, X[:, None], TARGETS[:, None], weight[:, None], shifts[:, None])

    @jax.jit
    def one(x, target, shift):
        loss = lambda p: jnp.stack([cross_entropy(model.apply(p, jnp.roll(x, s, 0))[0], target) for s in shift]).mean()  # noqa: E731
        return jax.grad(loss)(params)

    total = None
    for i in range(10):
        gradient = one(X[i], TARGETS[i], shifts[i])
        norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient)))
        clipped = jax.tree.map(lambda leaf, norm=norm: leaf * min(1, 0.5 / norm), gradient)
        total = clipped if total is None else jax.tree.map(np.add, total, clipped)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(total), strict=True):
        np.testing.assert_allclose(ours, np.asarray(theirs) / options.batch, rtol=1e-4, atol=1e-6)


def test_padding_and_huge_windows_do_not_break_the_bound(network):
    model, params = network
    huge = np.where(np.arange(12)[:, None, None] == 3, 1e30, X).astype(np.float32)
    gradient = private.make_gradient(model, OPTIONS)
    alone = gradient(params, huge[:, None], TARGETS[:, None], (np.arange(12) == 3).astype(np.float32)[:, None], np.zeros((12, 1, 2), int))
    norm = np.sqrt(sum((np.asarray(leaf) ** 2).sum() for leaf in jax.tree.leaves(alone)))
    assert norm <= OPTIONS.clip / OPTIONS.batch * 1.001
    nothing = gradient(params, X[:, None], TARGETS[:, None], np.zeros((12, 1), np.float32), np.zeros((12, 1, 2), int))
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(nothing))


def test_batches_are_poisson_samples():
    """Every window is drawn with the same probability, independently: sizes are binomial, and pairs are as frequent as chance has it."""
    n, options = 100, dataclasses.replace(OPTIONS, steps=4000, batch=30)
    drawn = np.zeros((options.steps, n), bool)
    for i, rows in enumerate(private.poisson_batches(n, options, seed=1)):
        assert len(set(rows.tolist())) == len(rows)
        drawn[i, rows] = True
    assert i == options.steps - 1
    sizes = drawn.sum(1)
    assert abs(sizes.mean() - 30) < 0.4 and abs(sizes.var() / (n * 0.3 * 0.7) - 1) < 0.1
    assert stats.kstest(drawn.mean(0), stats.norm(0.3, np.sqrt(0.21 / options.steps)).cdf).pvalue > 1e-3
    pairs = drawn.T.astype(float) @ drawn / options.steps
    assert abs(pairs[np.triu_indices(n, 1)].mean() - 0.09) < 0.002


def test_training_sees_just_these_batches(monkeypatch, network):
    """The loop feeds on the Poisson samples, pads them with what does not count, and adds the noise that is counted."""
    model, _ = network
    seen, noise = [], []
    import jax_privacy
    from jax_privacy import noise_addition

    batches = [np.array([1, 3, 4]), np.array([], int), np.arange(12)]
    monkeypatch.setattr(private, 'poisson_batches', lambda n, options, seed: iter(batches))
    real_clip, real_noise = jax_privacy.clipped_grad, noise_addition.gaussian_privatizer

    def clip_spy(loss, **options):
        function = real_clip(loss, **options)

        def spy(params, x, target, weight, shifts):
            jax.debug.callback(lambda x, w: seen.append(np.asarray(x)[np.asarray(w) > 0]), x, weight)  # [windows, time, channels]
            return function(params, x, target, weight, shifts)
        assert options['l2_clip_norm'] == OPTIONS.clip and options['normalize_by'] == OPTIONS.batch
        return spy

    monkeypatch.setattr(jax_privacy, 'clipped_grad', clip_spy)
    monkeypatch.setattr(noise_addition, 'gaussian_privatizer', lambda **given: noise.append(given['stddev']) or real_noise(**given))
    private.train(model, X, TARGETS, OPTIONS, 3.0)
    jax.effects_barrier()
    assert noise == [3.0 * OPTIONS.clip / OPTIONS.batch]
    for rows, x in zip(batches, seen, strict=True):
        np.testing.assert_array_equal(x, X[rows])


def test_epsilon_is_that_of_the_literature(monkeypatch, coarse_losses):
    """One Gaussian mechanism against the exact formula (Balle & Wang 2018, theorem 8)."""
    from dp_accounting import GaussianDpEvent
    monkeypatch.setattr(private, 'LOSS_INTERVAL', coarse_losses)

    def delta(epsilon, sigma):
        return stats.norm.cdf(0.5 / sigma - epsilon * sigma) - np.exp(epsilon) * stats.norm.cdf(-0.5 / sigma - epsilon * sigma)

    for sigma in (1.0, 5.0):
        exact = optimize.brentq(lambda epsilon, sigma=sigma: delta(epsilon, sigma) - 1e-5, 0, 50)
        assert private.epsilon_of(GaussianDpEvent(sigma), delta=1e-5) == pytest.approx(exact, rel=1e-2)
    events = [private.training_event(z, 0.1, 20) for z in (1.0, 2.0)]
    fine = [private.epsilon_of(event, delta=1e-5) for event in events]
    assert fine[0] > fine[1]
    monkeypatch.setattr(private, 'LOSS_INTERVAL', 10 * coarse_losses)
    assert fine[0] < private.epsilon_of(events[0], delta=1e-5) < 1.01 * fine[0]  # what is counted coarsely is never too little


def test_what_is_asked_for_is_spent():
    ledger = private.calibrate(200, OPTIONS)
    assert 7.9 < ledger.epsilon <= 8.0001
    parts = [part['epsilon'] for part in ledger.components]
    assert max(parts) < ledger.epsilon < sum(parts)
    assert private.calibrate(200, dataclasses.replace(OPTIONS, epsilon=2.0)).noise_multiplier > ledger.noise_multiplier
    with pytest.raises(UserError, match='statistics_noise'):
        private.calibrate(200, dataclasses.replace(OPTIONS, epsilon=0.1, statistics_noise=1.0))


def test_one_window_changes_the_sums_by_no_more_than_is_counted():
    x = RNG.normal(size=(30, 16, 3)) * np.exp(RNG.normal(size=(30, 1, 1)))
    y = np.arange(30) % 2
    x[4] = 0
    x[5] = np.sin(2 * np.pi * 3 * np.arange(16) / 16)[:, None]  # all of its power at one frequency: the worst case
    unit = np.arange(30)
    whole = private.class_sums(x, y, 2, unit)
    changes = [np.linalg.norm(whole - private.class_sums(np.delete(x, i, 0), np.delete(y, i), 2, np.delete(unit, i))) for i in range(30)]
    assert max(changes) <= private.sensitivity(3) + 1e-9
    assert changes[5] == pytest.approx(private.sensitivity(3))


def test_one_person_changes_the_sums_by_no_more_than_is_counted():
    x, person = RNG.normal(size=(60, 16, 2)), np.repeat(np.arange(6), [1, 2, 5, 12, 20, 20])
    y = np.where(person < 4, 0, np.arange(60) % 2)
    x[person == 4] = np.sin(2 * np.pi * 3 * np.arange(16) / 16)[:, None]  # all of their power at one frequency,
    y[person == 4] = 1  # and in one class: the worst case
    whole = private.class_sums(x, y, 2, person)
    changes = [np.linalg.norm(whole - private.class_sums(x[person != p], y[person != p], 2, person[person != p])) for p in range(6)]
    assert max(changes) <= private.sensitivity(2) + 1e-9 and changes[4] == pytest.approx(private.sensitivity(2))
    assert whole[:, -1].sum() == pytest.approx(6)  # a person counts once, however many their windows


def test_one_person_counts_no_more_than_the_clip(network):
    """Against a plain loop: each person's mean gradient is clipped, not each window's."""
    model, params = network
    options = dataclasses.replace(OPTIONS, clip=0.2, unit='subject', windows=5)
    person = np.repeat([7, 8, 9], [2, 3, 7])
    members = [np.flatnonzero(person == p) for p in (7, 8, 9)]
    rows, weight = private.windows_of(np.arange(3), members, options.windows, np.random.default_rng(0))
    assert weight.sum(1).tolist() == [2, 3, 5] and all(len(set(r[w > 0])) == w.sum() for r, w in zip(rows, weight, strict=True))
    assert all(set(r[w > 0]) <= set(own) for r, w, own in zip(rows, weight, members, strict=True))
    found = private.make_gradient(model, options)(params, X[rows], TARGETS[rows], weight, np.zeros((3, 5, 2), int))

    @jax.jit
    def one(x, target):
        return jax.grad(lambda p: cross_entropy(model.apply(p, x)[0], target))(params)

    total, norms = None, []
    for row, counted in zip(rows, weight, strict=True):
        parts = [one(X[r], TARGETS[r]) for r in row[counted > 0]]
        mean = jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *parts)
        norms.append(np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(mean))))
        clipped = jax.tree.map(lambda leaf: leaf * min(1, 0.2 / norms[-1]), mean)
        total = clipped if total is None else jax.tree.map(np.add, total, clipped)
    assert max(norms) > 0.2
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(total), strict=True):
        np.testing.assert_allclose(ours, np.asarray(theirs) / options.batch, rtol=1e-4, atol=1e-6)


def test_people_are_sampled_as_people(monkeypatch, network):
    """Poisson batches are of people: of those drawn, and of nobody else, windows are seen."""
    model, _ = network
    person = np.repeat([3, 5, 9, 11], 3)
    asked, seen = [], []
    batches = [np.array([0, 2]), np.array([], int), np.array([3])]
    monkeypatch.setattr(private, 'poisson_batches', lambda n, options, seed: asked.append(n) or iter(batches))
    gather = private.windows_of

    def spy(units, members, most, rng):
        rows, weight = gather(units, members, most, rng)
        seen.append(set(person[rows[weight > 0]].tolist()))
        assert most == 2 and (weight.sum(1) == 2).all()
        return rows, weight

    monkeypatch.setattr(private, 'windows_of', spy)
    private.train(model, X, TARGETS, dataclasses.replace(OPTIONS, unit='subject', windows=2), 1.0, unit=person)
    assert asked == [4] and seen == [{3, 9}, set(), {11}]


def test_draws_have_the_classes_spectra():
    study = own_scale_study()
    population = private.class_statistics(study.x, study.y, 2, 0.0, 0, np.arange(len(study.y)))
    for c, frequency in ((0, 4), (1, 2)):
        covariance = population['mixture/factor'][c] @ population['mixture/factor'][c].T
        assert np.diag(covariance) == pytest.approx(1, abs=0.01)
        power = np.abs(np.fft.rfft(covariance[0]))
        assert power[1:].argmax() + 1 == frequency
    np.testing.assert_allclose(population['class_share'], 0.5, atol=1e-6)
    noisy = private.class_statistics(study.x, study.y, 2, 1e6, 0, study.subject)
    assert all(np.isfinite(value).all() for value in noisy.values()) and (noisy['class_share'] > 0).all()


@pytest.fixture(scope='module')
def trained():
    study = own_scale_study()
    return study, *private.train_teacher(study, ('mlp',), dataclasses.replace(OPTIONS, steps=150, batch=90, learning_rate=1e-2), seed=0)


def test_a_private_teacher_learns_and_can_be_excited(trained):
    study, teacher, ledger = trained
    test = study.part(test=True)
    assert (teacher.probabilities(test.x).argmax(1) == test.y).mean() > 0.8 and ledger.epsilon <= 8.0001
    stimuli = produce.generate(teacher, produce.Settings(count=64, steps=3))
    assert np.isfinite(stimuli.x).all() and set(stimuli.label) == {0, 1}
    np.testing.assert_array_equal(teacher.scaling.forward(test.x), test.x)  # constants, not statistics


@pytest.mark.slow
def test_an_audit_finds_what_is_there(trained):
    """Without noise canaries are learnt by heart and betrayed; with it the bound is not broken."""
    _, _, ledger = trained
    study = own_scale_study(160)
    rng = np.random.default_rng(5)
    study = dataclasses.replace(study, x=rng.normal(size=study.x.shape).astype(np.float32))  # nothing to learn but by heart
    options = dataclasses.replace(OPTIONS, steps=300, batch=200, learning_rate=2e-2, views=1)
    loud = differential_privacy.audit(study, 'mlp', options, ledger._replace(noise_multiplier=1e-3))
    quiet = differential_privacy.audit(study, 'mlp', dataclasses.replace(options, steps=20), ledger._replace(noise_multiplier=50.0))
    assert loud > 0.3 and quiet <= ledger.epsilon and quiet < loud


@pytest.mark.parametrize('change, names, complaint', [
    ({'own_scale': ''}, ('mlp',), 'study.scale=window'), ({'own_scale': 'record'}, ('mlp',), 'study.scale=window'),
    ({}, ('mlp', 'cnn'), 'one teacher'),
    ({'x': np.zeros((240, 5))}, ('mlp',), 'time')])
def test_where_the_promise_would_not_hold_it_is_not_given(change, names, complaint):
    with pytest.raises(UserError, match=complaint):
        private.train_teacher(dataclasses.replace(own_scale_study(), **change), names, OPTIONS)


@pytest.mark.parametrize('own_scale, holds', [('window', True), ('record', True), ('', False)])
def test_people_are_promised_something_where_no_window_depends_on_others(own_scale, holds):
    study, options = dataclasses.replace(own_scale_study(), own_scale=own_scale), dataclasses.replace(OPTIONS, unit='subject')
    if holds:
        private.check(study, ('mlp',), options)
    else:
        with pytest.raises(UserError, match='by its person'):
            private.check(study, ('mlp',), options)


def test_networks_that_are_not_private_are_refused_beside_a_promise():
    config = default_config()
    config.teacher.privacy.epsilon, config.teacher.identity.models = 4.0, ('mlp',)
    with pytest.raises(UserError, match='identity.models'):
        check(config)


def test_a_run_with_a_promise_says_what_was_spent(monkeypatch, tmp_path):
    study = own_scale_study(200)
    for module in (pipeline, phase):
        monkeypatch.setattr(module, 'load_study', lambda config, fold=-1: study)
    config = default_config()
    config.teacher.models, config.students = ('mlp',), ('knn',)
    config.teacher.privacy.epsilon, config.teacher.privacy.steps, config.teacher.privacy.batch = 4.0, 10, 50
    config.excite.method, config.excite.count = 'mixture', 64
    config.evaluate.seeds, config.evaluate.interval_draws, config.evaluate.advise = 1, 20, True
    monkeypatch.setattr(advice, 'advise', None)  # windows are not asked for advice, whatever the config says: that was not promised
    pipeline.run(config, tmp_path, say=lambda text: None)
    promised = json.loads((tmp_path / 'results.json').read_text())['privacy']['differential_privacy']
    assert promised['unit'] == 'record' and promised['delta'] == 1e-5 and 3.9 < promised['epsilon'] <= 4.0001
    assert len(promised['components']) == 3 and 0 <= promised['audited_epsilon_lower_bound'] <= 4
    assert 'epsilon 4.00' in (tmp_path / 'release' / 'README.md').read_text()
    assert 'epsilon 4.00' in report.table(json.loads((tmp_path / 'results.json').read_text()))


def test_the_noise_cannot_be_known_from_the_config():
    """Two trainings of one config differ; a seed that is told makes them alike, to the last of its 64 bits."""
    study, options = own_scale_study(80), dataclasses.replace(OPTIONS, steps=2)
    one, two = (private.train_teacher(study, ('mlp',), options)[0].digest() for _ in range(2))
    assert one != two
    given = [private.train_teacher(study, ('mlp',), options, seed=seed)[0].digest() for seed in (5, 5, 5 + 2**40)]
    assert given[0] == given[1] != given[2]


def test_windows_are_scaled_by_themselves():
    from neurostim.data import apnea_respiration
    x = RNG.normal(size=(200, 2)) * (3, 0.1) + (50, -2)
    scaled = apnea_respiration.SCALES['window'](x, ('Resp N', 'Resp A'))
    assert scaled.shape == (180, 2)  # whole windows
    np.testing.assert_allclose(scaled.reshape(3, 60, 2).std(1), 1, rtol=1e-3)
    changed = x.copy()
    changed[60:120] = 1e3 * RNG.normal(size=(60, 2))
    np.testing.assert_array_equal(apnea_respiration.SCALES['window'](changed, ())[:60], scaled[:60])
    np.testing.assert_allclose(apnea_respiration.SCALES['window'](5 * x - 7, ())[:60], scaled[:60], rtol=1e-4, atol=1e-4)
    assert np.isfinite(apnea_respiration.SCALES['window'](np.zeros((60, 1)), ())).all()
