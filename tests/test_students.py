"""Students, over the whole registry: each learns from distributions over the classes, and answers with distributions."""

import functools
import warnings

import jax
import numpy as np
import pytest
import threadpoolctl
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neurostim import students, training
from neurostim.errors import UserError
from neurostim.evaluation import utility
from neurostim.sources import Source

QUICK_COMPILE = True
NAMES = [name for name in students.NAMES if name != 'published']  # which takes images of digits only
OPTIONS = training.TrainingOptions(steps=60, batch=32, validations=4, learning_rate=1e-2)
CLASSES, SHAPE, CAPACITY = 3, (16, 1), (256, 64)


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """OpenMP's threads wait for each other, which takes a minute where another process wants the same cores."""
    with threadpoolctl.threadpool_limits(1):
        yield


def toy(n=240, seed=0):
    """Windows whose level tells the class, and their classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % CLASSES
    return (2.0 * (y - 1)[:, None, None] + 0.4 * rng.normal(size=(n, *SHAPE))).astype(np.float32), y


def one_hot(y, sure=1.0):
    return (np.eye(CLASSES)[y] * (sure - (1 - sure) / (CLASSES - 1)) + (1 - sure) / (CLASSES - 1)).astype(np.float32)


def fit(name, x, targets, seed=0):
    held = np.arange(len(x)) % 8 >= 7
    with warnings.catch_warnings(action='error'):
        return students.fit(name, Source(x, targets, held), seed, OPTIONS, CAPACITY)


@functools.cache
def learnt(name, seed=0, sure=1.0):
    x, y = toy()
    return fit(name, x, one_hot(y, sure), seed).predict(toy(seed=1)[0])


def assert_distributions(found, n):
    assert found.shape == (n, CLASSES) and found.min() >= 0 and np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def neighbours_asked(labels, x, held):
    """How many neighbours answer: each has one label, so that beliefs are multiples of one over their number."""
    beliefs = students.fit('knn', Source(x, one_hot(labels), held), 0).predict(x)
    return next(k for k in students.TUNED['knn'][1] if np.allclose(beliefs * k, np.round(beliefs * k), atol=1e-4))


def test_neighbours_are_tuned_by_windows_that_they_have_not_seen():
    x, y = toy(n=720)
    held = np.arange(len(x)) % 8 >= 7
    rng = np.random.default_rng(0)
    noisy = np.where(rng.random(len(y)) < 0.45, rng.integers(0, CLASSES, len(y)), y)  # many neighbours outvote a wrong label
    assert neighbours_asked(noisy, x, held) > 5
    apart = np.arange(len(x)) // 8  # each eight windows lie by themselves, and the next eight are of another class
    alone = (100.0 * apart[:, None, None] + np.zeros((1, *SHAPE))).astype(np.float32)
    assert neighbours_asked(apart % CLASSES, alone, held) < 9


def linear_toy(n=3000, numbers=12, seed=0):
    """Two classes that one direction tells apart fairly well, and the teacher is fairly sure of."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, numbers)).astype(np.float32)
    y = (x[:, 0] + 0.5 * x[:, 1] + 0.4 * rng.normal(size=n) > 0).astype(int)
    return x, (0.8 * np.eye(2) + 0.1)[y].astype(np.float32)


def test_where_held_rows_are_not_apart_logistic_regression_is_held_back_as_far_as_they_cannot_tell():
    """One standard error of scikit-learn's likelihood; where they are apart the best agreement counts."""
    x, targets = linear_toy()
    held = np.arange(len(x)) % 8 >= 7
    asked = np.random.default_rng(0).permutation(np.flatnonzero(held))[:students.TUNED_BY]

    def log_beliefs(value):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=100, C=value))
        rows, labels, weights = students.as_labels('logistic_regression', targets[~held])
        model.fit(x[~held][rows], labels, logisticregression__sample_weight=weights)
        return model.predict_log_proba(x[asked])

    def likelihood(value):
        return (targets[asked] * log_beliefs(value)).sum(1)

    values = students.HELD_BACK['logistic_regression']
    best = likelihood(max(values, key=lambda value: likelihood(value).mean()))
    bound = best.mean() - best.std() / len(best) ** 0.5
    near = min(value for value in values if likelihood(value).mean() >= bound)
    between = (near * max(value for value in values if value < near)) ** 0.5
    assert values[-1] < near < values[0]  # or nothing was asked
    found = students._tune('logistic_regression', Source(x, targets, held, apart=False), 0)[1]
    assert found == {'logisticregression__C': pytest.approx(between if likelihood(between).mean() >= bound else near)}
    agreement = {value: targets[asked, log_beliefs(value).argmax(1)].mean() for value in students.TUNED['logistic_regression'][1]}
    found = students._tune('logistic_regression', Source(x, targets, held), 0)[1]
    assert agreement[found['logisticregression__C']] == max(agreement.values())


def test_what_holds_back_more_than_a_value_that_is_clearly_worse_is_not_tried(monkeypatch):
    """Noise asks to be held back, and all values are tried; a clear line does not, and the last ones would know next to nothing."""
    tried, usual = [], students._train

    def train(name, flat, targets, counts, seed, parameters):
        tried.append(parameters['logisticregression__C'])
        return usual(name, flat, targets, counts, seed, parameters)

    monkeypatch.setattr(students, '_train', train)
    values = students.HELD_BACK['logistic_regression']
    (x, targets), held = linear_toy(), np.arange(3000) % 8 >= 7
    for labels, all_of_them in ((targets[np.random.default_rng(0).permutation(len(targets))], True), (targets, False)):
        tried.clear()
        students._tune('logistic_regression', Source(x, labels, held, apart=False), 0)
        assert tried[:3] == list(values[:3]) and (min(tried) == values[-1]) == all_of_them


@pytest.mark.parametrize('few', [False, True])
def test_a_network_of_few_windows_learns_from_held_ones_too_in_the_end(few, monkeypatch):
    """For as many epochs as served it best without. Of many windows, and of stimuli, of which there are many, held ones only stop it."""
    monkeypatch.setattr(training, 'FEW', (10_000, 2**20) if few else (0, 0))
    (x, y), held, seen, usual = toy(), np.arange(240) % 8 == 7, [], training.fit

    def record(spec, options, key, learnt, checked, until=training.NEVER):
        params, history = usual(spec, options, key, learnt, checked, until)
        seen.append((int(learnt.n), until, float(history.step[np.nanargmin(history.validation_loss)])))
        return params, history

    monkeypatch.setattr(training, 'fit', record)
    for apart in (False, True):
        students.fit('mlp', Source(x, one_hot(y), held, apart=apart), 0, OPTIONS, CAPACITY)
    learnt = [(210, training.NEVER)] * 2 + [(240, round(seen[1][2] * 240 / 210))] * few
    assert [call[:2] for call in seen] == learnt


def test_an_algorithm_that_is_tuned_learns_from_all_windows_in_the_end():
    x, y = toy()
    held = np.arange(len(x)) % 8 >= 7
    tuned = students.fit('logistic_regression', Source(x, one_hot(y, 0.8), held), 0).predict(x)
    flat = x.reshape(len(x), -1)
    whole = [students._train('logistic_regression', flat, one_hot(y, 0.8), np.ones(len(x)), 0, {'logisticregression__C': value})(flat)
             for value in students.TUNED['logistic_regression'][1]]
    assert any(np.array_equal(tuned, each) for each in whole)
    by_default = students.fit('logistic_regression', Source(x, one_hot(y, 0.8), np.zeros(len(x), bool)), 0).predict(x)  # nothing to tune by
    assert np.array_equal(by_default, whole[students.TUNED['logistic_regression'][1].index(0.1)])


@pytest.mark.parametrize('name', NAMES)
def test_a_separable_problem_is_learnt(name):
    x, y = toy(seed=1)
    assert_distributions(learnt(name), len(x))
    assert (learnt(name).argmax(1) == y).mean() > 0.95


@pytest.mark.parametrize('name', NAMES)
def test_soft_labels_are_learnt_too(name):
    """A teacher that is 80 % sure of the right class is as good a guide to the classes, and makes its student less sure of them."""
    y = toy(seed=1)[1]
    soft = learnt(name, sure=0.8)
    assert_distributions(soft, len(y))
    assert (soft.argmax(1) == y).mean() > 0.95
    if name not in students.LIKELIEST:
        assert soft.max(1).mean() < learnt(name).max(1).mean() - 0.02
    if name not in (*students.LIKELIEST, 'logistic_regression', 'linear'):  # linear models are not as sure close to a border as far from it
        assert soft.max(1).mean() == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize('name', [name for name in NAMES if name not in students.LIKELIEST])
def test_a_windows_whole_belief_counts(name):
    """Where the input tells nothing, what is believed is the mean belief, not the share of the likeliest class."""
    rng = np.random.default_rng(0)
    x = np.zeros((240, *SHAPE), np.float32) + rng.normal(size=(240, 1, 1)).astype(np.float32)
    belief = np.tile(np.array([0.6, 0.3, 0.1], np.float32), (240, 1))
    found = fit(name, x, belief).predict(x)
    np.testing.assert_allclose(found.mean(0), belief[0], atol=0.08)


@pytest.mark.parametrize('name', students.LIKELIEST)
def test_an_unsure_window_counts_less(name):
    """Where the teacher is of two minds, students of the likeliest class follow what it is surer of."""
    x = np.random.default_rng(0).normal(size=(120, *SHAPE)).astype(np.float32)
    sure, unsure = (np.tile(np.array(row, np.float32), (len(x), 1)) for row in ([0.98, 0.01, 0.01], [0.32, 0.36, 0.32]))
    found = fit(name, np.concatenate([x, x, x]), np.concatenate([sure, unsure, unsure])).predict(x)
    assert (found.argmax(1) == 0).mean() > 0.95  # the class of 120 windows, though 240 say the other


def test_labels_with_weights_are_a_windows_belief():
    """Copies' weights add up to the belief but for what is below the least share; the likeliest class carries its own belief."""
    belief = np.array([[0.6, 0.39, 0.01], [0.0, 1.0, 0.0], [0.3, 0.3, 0.4]], np.float32)
    rows, labels, weights = students.as_labels('logistic_regression', belief)
    table = np.zeros_like(belief)
    table[rows, labels] = weights
    np.testing.assert_array_equal(table, np.where(belief < students.LEAST_SHARE, 0, belief))
    for name in students.LIKELIEST:
        rows, labels, weights = students.as_labels(name, belief)
        np.testing.assert_array_equal(rows, [0, 1, 2])
        np.testing.assert_array_equal(labels, [0, 1, 2])
        np.testing.assert_allclose(weights, [0.6, 1.0, 0.4])


@pytest.mark.parametrize('name', NAMES)
def test_a_class_that_no_window_has_is_not_believed_in(name):
    x, y = toy()
    kept = y != 1
    found = fit(name, x[kept], one_hot(y[kept])).predict(toy(seed=1)[0])
    assert_distributions(found, 240)
    told = toy(seed=1)[1]
    assert (found.argmax(1) == told)[told != 1].mean() > 0.95 and found[told != 1, 1].max() < 0.3


@pytest.mark.parametrize('name', NAMES)
def test_one_class_is_all_that_is_known(name):
    """What the control can come to: a teacher that sees one class in all that is not excited."""
    x, y = toy()
    found = fit(name, x, one_hot(np.full(len(y), 2))).predict(x)
    assert_distributions(found, len(x))
    assert (found.argmax(1) == 2).all()


@pytest.mark.parametrize('name', NAMES)
def test_seeds_decide(name):
    """Equal seeds give equal students; others do where the registry says that they need not be trained."""
    x, y = toy()
    again = fit(name, x, one_hot(y, 0.8)).predict(toy(seed=1)[0])
    np.testing.assert_array_equal(again, learnt(name, sure=0.8))
    other = learnt(name, seed=1, sure=0.8)
    if students.is_deterministic(name):
        np.testing.assert_array_equal(other, again)
    elif name != 'svm':  # deterministic only as long as they need not leave windows out
        assert np.abs(other - again).max() > 1e-6


@pytest.mark.parametrize('name', ['svm', 'knn', 'random_forest', 'naive_bayes'])
def test_features_and_images_are_taken(name):
    x, y = toy()
    for shape in ((16,), (4, 4, 1)):
        found = fit(name, x.reshape(-1, *shape), one_hot(y)).predict(toy(seed=1)[0].reshape(-1, *shape))
        assert (found.argmax(1) == toy(seed=1)[1]).mean() > 0.95


def test_many_windows_are_thinned_for_kernel_machines_and_trees(monkeypatch):
    """By the seed, so that students differ, and without losing what there is to learn."""
    monkeypatch.setattr(students, 'KERNEL_ROWS', 60)
    monkeypatch.setattr(students, 'TREE_ROWS', 60)
    x, y = toy()
    for name in ('svm', 'random_forest'):
        first, second = (fit(name, x, one_hot(y), seed).predict(toy(seed=1)[0]) for seed in (0, 1))
        assert (first.argmax(1) == toy(seed=1)[1]).mean() > 0.95 and np.abs(first - second).max() > 1e-6


def test_boosting_that_breaks_down_learns_anew(monkeypatch):
    """Two numbers, eleven noisy classes, some of them rare: without a bound on leaves it ends up knowing less of the very windows that it
    learnt from than their classes' shares; one that did not break down is left as it was."""
    rng, classes = np.random.default_rng(0), 11
    x = rng.normal(size=(3000, 2)).astype(np.float32)
    logits = 3 * x @ rng.normal(size=(2, classes)) / np.sqrt(2) - 1.5 * np.arange(classes)
    y = (logits + 3 * rng.normal(size=logits.shape)).argmax(1)

    def beliefs(labels):
        return students.fit('gradient_boosting', Source(x, np.eye(classes, dtype=np.float32)[labels], np.zeros(len(x), bool)), 0).predict(x)

    def likelihood(found):
        return np.log(np.maximum(found[np.arange(len(y)), y], 1e-6)).mean()

    share = np.bincount(y) / len(y)
    mended, usual, sound = beliefs(y), likelihood(np.tile(share, (len(y), 1))), beliefs(np.minimum(y, 1))
    monkeypatch.setattr(students, 'STEADY', {})
    assert likelihood(beliefs(y)) < usual < likelihood(mended) - 0.3
    np.testing.assert_array_equal(beliefs(np.minimum(y, 1)), sound)


def test_boosting_that_slips_learns_anew(monkeypatch):
    """Five classes that are apart, one of them of two windows: some trees later it knows less of what it learnt than it did, if more than
    shares say."""
    rng, y = np.random.default_rng(2), np.repeat(np.arange(5), (2, 40, 600, 1200, 1500))
    x = (2 * rng.normal(size=(5, 9))[y] + rng.normal(size=(len(y), 9))).astype(np.float32)

    def likelihood():
        found = students.fit('gradient_boosting', Source(x, np.eye(5, dtype=np.float32)[y], np.zeros(len(x), bool)), 0).predict(x)
        return np.log(np.maximum(found[np.arange(len(y)), y], 1e-6)).mean()

    mended = likelihood()
    monkeypatch.setattr(students, 'STEADY', {})
    share = np.bincount(y) / len(y)
    assert np.log(share[y]).mean() + 0.5 < likelihood() < -0.2 < -0.01 < mended


def test_a_classical_algorithm_learns_from_long_windows():
    """Noise of one of three strengths, in windows of 3000 samples: hopeless sample by sample, plain by patches."""
    rng, y = np.random.default_rng(0), np.arange(240) % CLASSES
    x = ((0.5 + y)[:, None, None] * rng.normal(size=(240, 3000, 1))).astype(np.float32)
    student = students.fit('logistic_regression', Source(x[:180], one_hot(y[:180]), np.zeros(180, bool)), 0)
    assert (student.predict(x[180:]).argmax(1) == y[180:]).mean() > 0.95


def test_unknown_names_list_the_choices():
    with pytest.raises(UserError, match="unknown student 'tree': choose one of mlp, .*naive_bayes"):
        fit('tree', *toy())


def sifted_toy(out=4):
    """Two classes around -1 and 1, and every other row drawn so far out on the other side of where its class mostly is: rare in truth."""
    rng = np.random.default_rng(3)
    y = np.arange(400) // 2 % 2
    plain = np.arange(400) % 2 == 0
    x = np.where(plain, 2 * y - 1, np.where(y, -out, out))[:, None] + 0.8 * rng.normal(size=(400, 1))
    asked = 2 * y[plain] - 1 + 0.8 * rng.normal(size=plain.sum())
    weights = np.where(plain, 1.9, 0.1).astype(np.float32)
    return x.astype(np.float32), np.eye(2, dtype=np.float32)[y], weights, asked[:, None].astype(np.float32), y[plain]


@pytest.mark.parametrize(('name', 'out'), [('logistic_regression', 4), ('naive_bayes', 4), ('svm', 1)])
def test_to_some_students_what_was_sifted_counts_less_where_that_serves_them(name, out):
    """The SVM, which would learn that rare ones lie far out, where they lie among the others."""
    x, targets, weights, asked, truth = sifted_toy(out)
    held = np.random.default_rng(0).random(len(x)) < 0.2
    kappas = [utility.score(truth, students.fit(name, Source(x, targets, held, given, apart=False), 0).predict(asked))['kappa']
              for given in (None, weights)]
    assert kappas[1] > 0.6 > kappas[0] + 0.3


def test_naive_bayes_takes_the_power_of_weights_that_answers_held_ones_best():
    """Some windows of one class lie anywhere, and surprise: the less they count, the less its Gaussian is widened by them."""
    rng = np.random.default_rng(0)
    y = np.arange(600) // 2 % 2
    anywhere = (y == 1) & (rng.random(600) < 0.3)
    x = np.where(anywhere, rng.normal(0, 8, 600), (2 * y - 1) * 0.5 + 0.5 * rng.normal(size=600))[:, None].astype(np.float32)
    weights = np.where(anywhere, 0.4, 1.7).astype(np.float32)
    targets, held, plain = np.eye(2, dtype=np.float32)[y], rng.random(600) < 0.3, np.arange(600) % 2 == 0
    agreement = []
    for power in range(4):
        predict = students._train('naive_bayes', x, targets, weights**power * ~held, 0, {})
        agreement.append((predict(x[held & plain]).argmax(1) == y[held & plain]).mean())
    assert max(agreement) > agreement[1] > agreement[0]
    found, _ = students._tune('naive_bayes', Source(x, targets, held, weights, apart=False), 0)
    np.testing.assert_array_equal(found, weights ** int(np.argmax(agreement)))


@pytest.mark.parametrize('name', ['random_forest', 'svm'])
def test_students_that_bend_learn_from_all_that_was_sifted(name):
    """The SVM unless the rest alone clearly serves it better."""
    x, targets, weights, asked, _ = sifted_toy()
    held = np.arange(len(x)) % 10 == 0
    given, not_given = (students.fit(name, Source(x, targets, held, those, apart=False), 0).predict(asked) for those in (weights, None))
    np.testing.assert_array_equal(given, not_given)


def test_an_svm_leaves_nothing_out_by_chance():
    """Every other row as good as any: over several draws the half would answer held ones better now and then, but never clearly."""
    for seed in range(6):
        x, y = toy(seed=seed)
        x = x + 4 * np.random.default_rng(seed).normal(size=x.shape).astype(np.float32)  # classes overlap
        held, ones = np.arange(len(x)) % 5 == 0, np.ones(len(x), np.float32)
        given, not_given = (students.fit('svm', Source(x, one_hot(y), held, those, apart=False), 0).predict(x) for those in (ones, None))
        np.testing.assert_array_equal(given, not_given)


def test_no_student_begins_as_a_network_of_the_teacher(monkeypatch):
    """Members, identity networks and novices of the same seed have keys of their own."""
    keys = []

    def fit_nothing(spec, options, key, *data):
        keys.append(key)
        raise StopIteration

    monkeypatch.setattr(students.training, 'fit', fit_nothing)
    x, y = toy()
    for name in students.models.NAMES:
        with pytest.raises(StopIteration):
            fit(name, x, one_hot(y), 3)
    taken = np.r_[:100, 1000:1100, 2000:2100]
    others, mine = (np.asarray(jax.random.key_data(found)) for found in (
        jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(3), taken), jax.numpy.stack(keys)))
    assert len(np.unique(mine, axis=0)) == len(mine) and len(np.unique(np.r_[mine, others], axis=0)) == len(mine) + len(others)


def test_an_mlp_takes_longer_over_windows_that_are_shifted(monkeypatch):
    """It learns every place in time by itself; networks that do not, and mlps of windows as they begin, take what is asked for."""
    steps = {}

    def fit_nothing(spec, options, key, *data):
        steps[spec[0], options.shift] = options.steps
        raise StopIteration

    monkeypatch.setattr(students.training, 'fit', fit_nothing)
    x, y = toy()
    source = Source(x, one_hot(y), np.arange(len(x)) % 5 == 0)
    for name in students.models.NAMES:
        for shift in (0.0, 0.5):
            with pytest.raises(StopIteration):
                students.fit(name, source, 0, students.training_options(shift, 10))
    assert steps.pop(('mlp', 0.5)) > 10
    assert set(steps.values()) == {10}


@pytest.mark.parametrize(('samples', 'longer'), [(students.LONGER_NUMBERS, 3), (students.LONGER_NUMBERS + 1, 1)])
def test_networks_learn_for_longer_unless_windows_are_very_long(monkeypatch, samples, longer):
    asked = []

    def fit_nothing(spec, options, *rest):
        asked.append(options.longer)
        raise StopIteration

    monkeypatch.setattr(students.training, 'fit', fit_nothing)
    monkeypatch.setattr(students.training, 'FEW', (0, 0))
    source = Source(np.zeros((4, samples, 1), np.float32), one_hot(np.arange(4) % CLASSES), np.arange(4) == 0)
    with pytest.raises(StopIteration):
        students.fit('cnn', source, 0, students.training_options(0.0, 10, longer=3))
    assert asked == [longer]
