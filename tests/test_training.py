"""The training loop: it learns, keeps the best, and nothing that should not matter does."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from sklearn import metrics

from neurostim import models, training
from neurostim.training import Examples, TrainingOptions

QUICK_COMPILE = True
SPEC = ('mlp', (4,), 3, (('width', 16),))
MODEL = models.create('mlp', (4,), 3, width=16)
OPTIONS = TrainingOptions(steps=160, batch=32, learning_rate=2e-2, validations=8, patience=3)


def blobs(n, seed, spread=0.5):
    """Three classes around three corners, and a fourth number that tells nothing."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    return (np.eye(4)[y] * 3 + spread * rng.normal(size=(n, 4))).astype(np.float32), y


def fit(data, validation, seed=0, options=OPTIONS, capacity=256):
    data = data if isinstance(data, Examples) else training.examples(*data, 3, capacity)
    validation = validation if isinstance(validation, Examples) else training.examples(*validation, 3, 128)
    params, history = training.fit(SPEC, options, jax.random.key(seed), data, validation)
    return jax.tree.map(np.asarray, params), jax.tree.map(np.asarray, history)


predict = training.predictor(MODEL)


def log_loss(params, x, y):
    return -np.log(predict(params, x))[np.arange(len(y)), y].mean()


@pytest.fixture(scope='module')
def learnt():
    return fit(blobs(200, 0), blobs(100, 1))


def equal(a, b):
    return all(np.array_equal(u, v, equal_nan=True) for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_a_separable_problem_is_learnt(learnt):
    params, history = learnt
    x, y = blobs(300, 2)
    assert (predict(params, x).argmax(1) == y).mean() > 0.98
    done = np.isfinite(history.step)
    assert done.sum() >= 2 and history.train_loss[done][-1] < 0.3 * history.train_loss[0]
    assert history.validation_loss[done].min() < 0.3
    np.testing.assert_array_equal(history.step[done], 20 * (1 + np.arange(done.sum())))


def test_same_seed_same_result_and_another_seed_another(learnt):
    assert equal(learnt, fit(blobs(200, 0), blobs(100, 1)))
    assert not equal(learnt, fit(blobs(200, 0), blobs(100, 1), seed=1))


def test_padding_never_matters(learnt):
    data, validation = training.examples(*blobs(200, 0), 3, 256), training.examples(*blobs(100, 1), 3, 128)

    def poisoned(given):
        padding = np.arange(len(given.x)) >= given.n
        assert padding.any()
        return Examples(jnp.where(padding[:, None], 1e18, given.x), jnp.where(padding[:, None], -1e18, given.targets), given.n)

    assert equal(learnt, fit(poisoned(data), poisoned(validation)))


def test_lengths_and_seeds_share_one_compilation(learnt):
    compiled = training._compiled(SPEC, OPTIONS)
    before = compiled._cache_size()
    for n, seed in ((129, 3), (256, 4)):
        fit(blobs(n, 0), blobs(n // 2, 1), seed)
    assert compiled._cache_size() == before >= 1


def test_every_row_that_counts_is_used():
    """One class lies wholly in the last rows: it is learnt if they count, and unknown if they do not."""
    x, y = blobs(200, 0)
    order = np.argsort(y, kind='stable')
    data = training.examples(x[order], y[order], 3, 256)
    test_x, test_y = blobs(200, 3)
    for n, known in ((200, True), (int((y < 2).sum()), False)):
        params, _ = fit(data._replace(n=jnp.int32(n)), blobs(100, 1))
        found = (predict(params, test_x).argmax(1) == 2)[test_y == 2].mean()
        assert found > 0.95 if known else found < 0.05


def test_the_parameters_with_least_validation_loss_are_kept(learnt):
    """Also where later ones are worse: half of the validation labels are wrong, so that confidence is punished."""
    x, y = blobs(100, 1)
    wrong = np.where(np.arange(100) % 2, y, (y + 1) % 3)
    for labels, (params, history) in ((y, learnt), (wrong, fit(blobs(200, 0), (x, wrong)))):
        done = np.isfinite(history.step)
        assert log_loss(params, x, labels) == pytest.approx(np.nanmin(history.validation_loss), rel=1e-3)
        if labels is wrong:
            best = np.nanargmin(history.validation_loss)
            assert done.sum() < OPTIONS.validations  # stopped early,
            assert done.sum() == best + 1 + OPTIONS.patience  # not before its patience was at an end
        assert not done[done.sum():].any() and np.isfinite(history.validation_loss[done]).all()


def test_balance_sets_the_prior_that_is_learnt(balance=0.5):
    """Where the input tells nothing, beliefs become the class shares to the power of 1 - balance."""
    share = np.array([0.6, 0.3, 0.1])
    y = np.repeat([0, 1, 2], (share * 200).astype(int))
    x = np.ones((200, 4), np.float32)
    options = dataclasses.replace(OPTIONS, balance=balance, patience=8, steps=320)
    params, _ = fit((x, y), (x[::2], y[::2]), options=options)
    expected = share ** (1 - balance) / (share ** (1 - balance)).sum()
    np.testing.assert_allclose(predict(params, x[:1])[0], expected, atol=0.03)


def test_soft_targets_are_learnt_as_they_are():
    rng = np.random.default_rng(0)
    beliefs = rng.dirichlet(np.ones(3), 2)
    kind = rng.integers(0, 2, 200)
    x = np.eye(4, dtype=np.float32)[kind]
    params, _ = fit((x, beliefs[kind]), (x[:100], beliefs[kind][:100]))
    np.testing.assert_allclose(predict(params, np.eye(4, dtype=np.float32)[:2]), beliefs, atol=0.04)


def test_hard_labels_equal_one_hot_beliefs(learnt):
    (x, y), (vx, vy) = blobs(200, 0), blobs(100, 1)
    assert equal(learnt, fit((x, np.eye(3)[y]), (vx, np.eye(3)[vy])))


def test_vmap_over_seeds_and_data_equals_a_loop():
    sets = [(training.examples(*blobs(n, n), 3, 256), training.examples(*blobs(n // 2, n + 1), 3, 128)) for n in (150, 200)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *sets)
    keys = jax.random.split(jax.random.key(0), 2)
    mapped = jax.jit(jax.vmap(training.make_train(MODEL, OPTIONS)))(keys, *stacked)
    for i, (data, validation) in enumerate(sets):
        one = training.fit(SPEC, OPTIONS, keys[i], data, validation)
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=2e-3, atol=1e-4), mapped, one)


def test_few_windows_are_validated_more_often_and_learnt_alike(monkeypatch):
    """What is learnt does not depend on how often that is looked at, and a training that looks seldom has seen the same where it looks."""
    options = dataclasses.replace(OPTIONS, patience=8, batch=8)
    few, checked = blobs(12, 0), blobs(100, 1)

    def validated(data, epochs):
        monkeypatch.setattr(training, 'EPOCHS', epochs)
        training._compiled.cache_clear()
        history = fit(data, checked, options=options)[1]
        training._compiled.cache_clear()
        done = np.isfinite(history.step)
        return np.asarray(history.step[done]).tolist(), np.asarray(history.validation_loss[done])

    often, seldom = validated(few, 0.1), validated(few, 4)  # of twelve windows 4 epochs are 6 steps
    assert often[0] == list(range(2, 161, 2)) and seldom[0] == [*range(6, 160, 6), 160]
    np.testing.assert_array_equal(often[1][[step // 2 - 1 for step in map(int, seldom[0])]], seldom[1])
    assert validated(blobs(200, 0), 4)[0] == list(range(20, 161, 20))  # many are looked at as often as was asked


def test_a_training_that_is_told_when_to_end_is_at_that_step():
    """The parameters are those of a training whose best step that was, of the same data: whatever validation says."""
    data, (x, y) = blobs(200, 0), blobs(100, 1)
    params, history = fit(data, (x, np.where(np.arange(100) % 2, y, (y + 1) % 3)))  # half wrong: confidence is punished
    best = int(history.step[np.nanargmin(history.validation_loss)])
    assert best < OPTIONS.steps
    assert training.steps_anew(history, np.arange(200) < 40) == round(best * 200 / 160)
    nowhere = history._replace(validation_loss=np.full_like(history.validation_loss, np.nan))
    assert training.steps_anew(nowhere, np.arange(200) < 40) == round(float(history.step[0]) * 200 / 160)
    told, _ = training.fit(SPEC, OPTIONS, jax.random.key(0), training.examples(*data, 3), training.examples(x, y, 3, 128), best)
    jax.tree.map(np.testing.assert_array_equal, told, params)


def test_no_more_steps_than_asked():
    given = training.examples(*blobs(20, 0), 3)
    for steps, validations in ((3, 8), (8, 8), (17, 8), (1, 20)):
        train = training.make_train(MODEL, TrainingOptions(steps=steps, validations=validations))
        _, history = jax.eval_shape(train, jax.random.key(0), given, given)
        assert len(history.step) == min(steps, validations)  # validations, at least a step apart


# Parts.

def test_cross_entropy():
    rng = np.random.default_rng(0)
    logits, targets = 5 * rng.normal(size=(2, 6, 3)), rng.dirichlet(np.ones(3), (2, 6))
    expected = -(targets * special.log_softmax(logits, -1)).sum(-1)
    np.testing.assert_allclose(training.cross_entropy(logits, targets), expected, rtol=1e-5)


def test_examples_pad_little_and_share_shapes():
    shapes = set()
    for n in range(1, 300):
        given = training.examples(np.ones((n, 2)), np.zeros(n, int), 2)
        assert n <= len(given.x) == len(given.targets) <= max(2, 1.5 * n) and given.n == n
        shapes.add(len(given.x))
    assert len(shapes) <= 17
    x, y = blobs(5, 0)
    given = training.examples(x, y, 3, 7)
    np.testing.assert_array_equal(given.x[:5], x)
    np.testing.assert_array_equal(given.targets[:5], np.eye(3)[y])
    assert given.x.shape == (7, 4) and not given.targets[5:].any()


@pytest.mark.parametrize('n', [1, 7, 8, 9, 16, 21])
def test_predictor_equals_apply_for_any_length(learnt, n):
    params, _ = learnt
    x, _ = blobs(21, 4)
    ours = predict(params, x[:n], rows=8)
    assert ours.shape == (n, 3)
    np.testing.assert_allclose(ours, jax.nn.softmax(MODEL.apply(params, x)[0])[:n], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('n', [1, 6, 7, 8, 20])
def test_validation_is_of_all_windows_in_blocks_and_of_no_padding(monkeypatch, n):
    """The loss and kappa of the parameters that are kept, of so many windows seven at a time; padding would spoil both."""
    monkeypatch.setattr(training, 'VALIDATED', 7)
    x, y = blobs(n, 1)
    y = np.where(np.arange(n) % 3, y, (y + 1) % 3)  # some wrong
    checked = training.examples(x, y, 3, 24)
    poisoned = checked._replace(x=jnp.where((np.arange(24) >= n)[:, None], 1e18, checked.x))
    params, history = jax.jit(training.make_train(MODEL, dataclasses.replace(OPTIONS, steps=16)))(
        jax.random.key(0), training.examples(*blobs(200, 0), 3), poisoned)
    best = np.nanargmin(history.validation_loss)
    assert history.validation_loss[best] == pytest.approx(log_loss(params, x, y), rel=1e-3)
    if n > 1:
        expected = metrics.cohen_kappa_score(y, predict(params, x).argmax(1))
        assert history.validation_kappa[best] == pytest.approx(expected, abs=1e-5)


def test_longer_trainings_and_given_beginnings_are_arguments_of_one_program(learnt):
    """Thrice as many steps are those that were asked for three times as often, validated as often; the beginning is that of the key."""
    train = jax.jit(training.make_train(MODEL, OPTIONS))
    key, given = jax.random.key(0), (training.examples(*blobs(200, 0), 3), training.examples(*blobs(100, 1), 3, 128))
    once, thrice = (train(key, *given, training.NEVER, stretch, training.initial(MODEL, key)) for stretch in (1, 3))
    assert train._cache_size() == 1
    assert equal(once, learnt)
    longer = dataclasses.replace(OPTIONS, steps=3 * OPTIONS.steps)
    expected = jax.jit(training.make_train(MODEL, longer))(key, *given)
    np.testing.assert_array_equal(thrice[1].step, expected[1].step)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4), thrice, expected)


def test_shifted_windows_are_the_windows_elsewhere_in_time():
    x = np.random.default_rng(0).normal(size=(300, 20, 2)).astype(np.float32)
    found = np.asarray(training.shifted(jax.random.key(0), x, 0.2))
    whole = {shift: np.roll(x, shift, 1) for shift in range(-4, 5)}
    which = [[shift for shift, rolled in whole.items() if np.array_equal(rolled[i], found[i])] for i in range(len(x))]
    assert all(len(fits) == 1 for fits in which) and {fits[0] for fits in which} == set(whole)


def test_learning_from_shifted_windows_knows_them_wherever_they_begin():
    """A pulse at one place only, against none: who has seen it elsewhere knows it elsewhere. Without shifts the option changes nothing."""
    rng = np.random.default_rng(1)
    y = np.arange(200) % 2
    x = (0.3 * rng.normal(size=(200, 16, 1))).astype(np.float32)
    x[y == 1, 3] += 3
    elsewhere = np.roll(x, 8, 1)
    options = TrainingOptions(steps=150, batch=32, validations=5)
    data = training.examples(x, y, 2)

    def right(shift):
        spec = ('mlp', (16, 1), 2, ())
        params, _ = training.fit(spec, dataclasses.replace(options, shift=shift), jax.random.key(0), data, data)
        return (training.cached_predictor(spec)(params, elsewhere).argmax(1) == y).mean()

    assert right(0.5) > 0.95 and right(0.0) < 0.8


def test_a_step_takes_fewer_of_long_windows():
    """Never more than asked for, never hardly any, and as many numbers at most as pass through the memory in good time."""
    assert training.step_windows(128, (60, 4)) == training.step_windows(128, (28, 28, 1)) == 128
    assert training.step_windows(8, (6000, 2)) == 8
    assert training.LEAST_BATCH <= training.step_windows(128, (6000, 2)) < 64
    assert training.step_windows(128, (10**6, 2)) == training.LEAST_BATCH


# ---------------------------------------------------------------------------------------------------- by Muon


def test_by_muon_networks_take_half_the_steps_but_recurrent_ones_which_adamw_trains():
    by_adamw = dataclasses.replace(OPTIONS, steps=80, patience=100)
    options = dataclasses.replace(by_adamw, optimiser='muon')
    assert training.suited(options, 'cnn') == dataclasses.replace(options, steps=40)
    assert all(training.suited(options, name) == training.suited(by_adamw, name) == by_adamw for name in ('gru', 'lstm'))
    assert training.suited(by_adamw, 'cnn') == by_adamw
    given = training.examples(*blobs(200, 0), 3, 256), training.examples(*blobs(100, 1), 3, 128)
    assert np.nanmax(training.fit(SPEC, options, jax.random.key(0), *given)[1].step) == 40


@pytest.mark.parametrize('others', ['better', 'worse'])
def test_where_muon_overfits_adamw_trains_too_and_the_better_is_kept(monkeypatch, others):
    asked = []

    def learn(spec, options, *rest):
        asked.append((options.optimiser, options.steps))
        losses = {'muon': [0.5, 0.4, 0.6, 0.7], 'adamw': [0.5, 0.3 if others == 'better' else 0.45, 0.6, 0.7]}[options.optimiser]
        steps = np.arange(1, 5) * options.steps / 4
        return options.optimiser, training.History(steps, np.zeros(4), np.array(losses), np.zeros(4))
    monkeypatch.setattr(training, '_learn', learn)
    options = TrainingOptions(steps=40, optimiser='muon')
    assert training.fit(SPEC, options, None, None, None)[0] == ('adamw' if others == 'better' else 'muon')
    assert asked == [('muon', 20), ('adamw', 40)]
    assert training.fit(('gru', *SPEC[1:]), options, None, None, None)[0] == 'adamw'
    assert asked[2:] == [('adamw', 40)]
    monkeypatch.setattr(training, 'LATE', 0.5)  # nothing overfits any more
    assert training.fit(SPEC, options, None, None, None)[0] == 'muon'
    assert asked[3:] == [('muon', 20)]


def test_few_windows_are_learnt_by_adamw_alone():
    options = TrainingOptions(optimiser='muon', longer=3)
    few, many = (np.zeros((n, 2), np.float32) for n in (training.FEW[0], training.FEW[0] + 1))
    assert training.affordable(options, few, 2048) == TrainingOptions()
    assert training.affordable(options, many, 2048) == options


def test_a_training_by_muon_is_the_same_alone_and_beside_others():
    given = training.examples(*blobs(200, 0), 3, 256), training.examples(*blobs(100, 1), 3, 128)
    train = training.make_train(MODEL, dataclasses.replace(OPTIONS, steps=20, optimiser='muon'))
    keys = jax.random.split(jax.random.key(0), 2)
    together = jax.jit(jax.vmap(lambda key: train(key, *given)[0]))(keys)
    alone = jax.jit(train)(keys[1], *given)[0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, atol=2e-4), together, alone)


# ---------------------------------------------------------------------------------------------------- where steps run out


SLOW = dataclasses.replace(OPTIONS, steps=40, learning_rate=2e-3, longer=4)


def test_where_steps_ran_out_training_goes_on_from_what_it_came_to():
    """Through as many steps as are left, by other batches; and its steps are counted on."""
    given = training.examples(*blobs(200, 0), 3, 256), training.examples(*blobs(100, 1), 3, 128)
    key = jax.random.key(0)
    once, longer = (training.fit(SPEC, dataclasses.replace(SLOW, longer=times), key, *given) for times in (1, 4))
    params, history = training._compiled(SPEC, dataclasses.replace(SLOW, longer=1))(
        jax.random.fold_in(key, training.AGAIN), *given, training.NEVER, 3, once[0])
    assert equal(longer, (params, history._replace(step=40 + history.step)))
    assert np.nanmax(longer[1].step) == 160
    assert np.nanmin(longer[1].validation_loss) < 0.7 * np.nanmin(once[1].validation_loss)


def test_training_goes_on_where_steps_ran_out_and_much_is_left_to_learn_of_the_labels():
    def history(*losses):
        return training.History(*(np.array(column, float) for column in ([10, 20, 30, 40, 50], losses, losses, losses)))

    hard, soft = np.eye(2)[[0, 1, 1]], np.array([[0.5, 0.5], [0.9, 0.1]])
    entropy = float(special.entr(soft).sum(1).mean())
    late, early = (0.9, 0.8, 0.7, 0.6, np.nan), (0.9, 0.5, 0.6, 0.7, 0.7)
    assert training.is_to_go_on(history(*late), hard, 40) and training.is_to_go_on(history(*late), soft, 40)
    assert not training.is_to_go_on(history(*early), hard, 50)
    assert not training.is_to_go_on(history(*[np.nan] * 5), hard, 50)
    for left, goes_on in ((0.9 * training.LITTLE, False), (1.1 * training.LITTLE, True)):
        assert training.is_to_go_on(history(2, 2, 2, 2, entropy + left), soft, 50) == goes_on
        assert training.is_to_go_on(history(2, 2, 2, 2, left), hard, 50) == goes_on


def test_nothing_is_trained_longer_that_had_learnt_or_that_is_told_when_to_end(learnt, monkeypatch):
    noise = blobs(200, 0)[0], np.random.default_rng(3).integers(0, 3, 200)  # any step makes it surer of what is wrong
    stretches, whole = [], training._compiled

    def counted(spec, options):
        return lambda key, data, validation, until, stretch, start: stretches.append(stretch) or whole(spec, options)(
            key, data, validation, until, stretch, start)

    monkeypatch.setattr(training, '_compiled', counted)
    overfitted = fit(noise, blobs(100, 1), options=dataclasses.replace(OPTIONS, longer=4))
    assert stretches == [1] and overfitted[1].step[np.nanargmin(overfitted[1].validation_loss)] < training.LATE * OPTIONS.steps
    data, validation = training.examples(*blobs(200, 0), 3, 256), training.examples(*blobs(100, 1), 3, 128)
    training.fit(SPEC, SLOW, jax.random.key(0), data, validation, 40)
    assert stretches == [1, 1]


def test_of_two_trainings_the_one_that_knows_held_windows_better_is_kept(monkeypatch):
    """More steps at a rate that throws it off: the first stays."""
    def worse(spec, options, whole=training._compiled):
        def thrown(key, data, validation, until, stretch, start):
            params, history = whole(spec, options)(key, data, validation, until, stretch, start)
            if stretch == 1:
                return params, history
            return jax.tree.map(jnp.zeros_like, params), history._replace(validation_loss=history.validation_loss + 9)
        return thrown

    once = fit(blobs(200, 0), blobs(100, 1), options=dataclasses.replace(SLOW, longer=1))
    monkeypatch.setattr(training, '_compiled', worse)
    assert equal(fit(blobs(200, 0), blobs(100, 1), options=SLOW), once)


@pytest.mark.parametrize(('shape', 'longer'), [
    ((2000, 3), 3), ((1400, 3), 1), ((2000, 400, 5), 3), ((2000, 1025, 2), 1), ((2000, 6, 6, 1), 3)])
def test_many_small_windows_are_learnt_for_longer(shape, longer):
    assert training.affordable(TrainingOptions(longer=3), np.zeros(shape), 2048) == TrainingOptions(longer=longer)
