"""Advice: real windows say how students learn from stimuli, nobody else does, and what is said is what is done."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

import neurostim as ns
from neurostim import students
from neurostim.evaluation import advice, phase
from neurostim.sources import Source, synthetic_source
from neurostim.study import make_study

QUICK_COMPILE = True


def windows_of(x, y, groups=20):
    """Real windows with groups dealt out in turn; nothing is held out of them."""
    x = np.asarray(x, np.float32)
    study = make_study('real', x, np.asarray(y), np.arange(len(x)) % groups, classes=('a', 'b'))
    return dataclasses.replace(study, test=np.zeros(len(x), bool))


def one_hot(y):
    return np.eye(2, dtype=np.float32)[y]


def blobs(n, share, seed, apart=1.0):
    """(x [n, 3], y [n]): two Gaussians that overlap, the second a share of the rows."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < share).astype(int)
    return (rng.normal(size=(n, 3)) + apart * y[:, None]).astype(np.float32), y


def doubtful_labels(n, seed):
    """Stimuli whose beliefs mislead a line: of those far out on one side nobody is sure, and by their likeliest class all are alike."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, 1)).astype(np.float32)
    x[: n // 2] = rng.uniform(2, 30, (n // 2, 1))
    right = (x[:, 0] > 0.3).astype(int)
    sure = np.where(x[:, 0] > 2, 0.51, 0.95)
    order = rng.permutation(n)
    return x[order], np.where(one_hot(right) > 0, sure[:, None], 1 - sure[:, None]).astype(np.float32)[order]


@pytest.mark.parametrize('name', advice.NAMES)
@pytest.mark.parametrize('seed', range(3))
def test_the_choice_that_real_windows_like_best_is_advised(name, seed):
    """By the library's kappa, of every choice that there is; or none, where none of them is above what held stimuli ask for."""
    x, y = blobs(600, 0.5, seed)
    source, windows = synthetic_source(x, one_hot(y) * 0.8 + 0.1, surprise=np.ones(600, np.float32)), windows_of(*blobs(500, 0.2, seed + 9))

    def known(told):
        return cohen_kappa_score(windows.y, students.fit(name, source, 0, advice=told).predict(windows.x).argmax(1))

    there = advice.choices(name, source, windows)
    kappas, found = [known(told) for told in there], advice.advise(name, source, windows)
    assert len(set(map(str, there))) == len(there) <= 16
    assert max(kappas) == pytest.approx(known(found)) if found else known(None) > max(kappas) - 0.05


def test_what_is_no_clear_gain_is_not_advised():
    """Held stimuli that ask for what real windows ask for; and, of windows that say nothing, chance."""
    x, y = blobs(2000, 0.5, 0, apart=6.0)
    for name in advice.NAMES:
        assert advice.advise(name, synthetic_source(x, one_hot(y)), windows_of(x[:200], y[:200])) is None
    told = []
    for seed in range(8):
        x, y = blobs(300, 0.5, seed, apart=0.0)
        told.append(advice.advise('knn', synthetic_source(x, one_hot(y)), windows_of(*blobs(60, 0.5, seed + 50, apart=0.0))))
    assert told.count(None) >= 2  # the best of ten is above by a standard error often enough, but not always


@pytest.mark.parametrize('name', advice.NAMES)
def test_what_holds_back_more_than_a_choice_that_is_clearly_worse_is_not_asked(name, monkeypatch):
    """As kappa falls from one value to the next, of every path two are asked; of neighbours, which no value holds back, all."""
    asked, values = [], students.TUNED[name][1]

    def fit_columns(name, source, seed, told):
        asked.append(told)
        wrong = 0 if told is None else 100 * values.index(next(iter(told.parameters.values())))
        return lambda rows: one_hot(np.where(np.arange(len(rows)) < wrong, 1 - windows.y, windows.y))

    monkeypatch.setattr(students, 'fit_columns', fit_columns)
    x, y = blobs(600, 0.5, 0)
    source, windows = synthetic_source(x, one_hot(y), surprise=np.ones(600, np.float32)), windows_of(*blobs(500, 0.5, 1))
    advice.advise(name, source, windows)
    paths = len(advice.choices(name, source, windows)) // len(values)
    assert len(asked) == 1 + paths * (2 if name in students.HELD_BACK else len(values))


def test_labels_that_mislead_a_line_are_not_learnt_where_windows_say_so():
    x, targets = doubtful_labels(2000, 0)
    source = synthetic_source(x, targets)
    rng = np.random.default_rng(1)
    asked = rng.uniform(-1, 1, (1000, 1))
    windows = windows_of(asked, (asked[:, 0] > 0.3).astype(int))
    found = advice.advise('logistic_regression', source, windows)
    assert found.likeliest
    kappas = [cohen_kappa_score(windows.y, students.fit('logistic_regression', source, 0, advice=told).predict(windows.x).argmax(1))
              for told in (None, found)]
    assert kappas[1] > kappas[0] + 0.05


def test_neighbours_are_told_how_frequent_classes_are():
    """Of stimuli as many are of one class as of the other, of windows a tenth: where these overlap, most are of the frequent one."""
    x, y = blobs(3000, 0.5, 0)
    source = synthetic_source(x, one_hot(y))
    windows = windows_of(*blobs(3000, 0.1, 1))
    found = advice.advise('knn', source, windows)
    share = np.bincount(windows.y) / len(windows.y)
    octaves = np.log2(found.class_weights)
    np.testing.assert_allclose(octaves, np.log2(share / source.targets.mean(0)), atol=0.26)
    np.testing.assert_allclose(2 * octaves, np.round(2 * octaves), atol=0.01)
    asked, truth = blobs(3000, 0.1, 2)
    kappas = [cohen_kappa_score(truth, students.fit('knn', source, 0, advice=told).predict(asked).argmax(1)) for told in (None, found)]
    assert kappas[1] > kappas[0] + 0.02


def test_what_is_told_of_shares_seldom_tells_one_window(monkeypatch):
    """Who knows all windows but one, and what is told, must not know whether it was there. Exact shares are the positive control."""
    x, y = blobs(500, 0.5, 0)
    source = synthetic_source(x, one_hot(y))

    def tells():
        """Of how many of 20 studies of 200 windows something else is told without the first."""
        studies = [windows_of(*blobs(200, 0.1 + 0.02 * seed, seed)) for seed in range(20)]
        told = [[advice.choices('knn', source, each)[-1].class_weights for each in (study, study.take(np.arange(1, 200)))]
                for study in studies]
        return sum(whole != without for whole, without in told)

    assert tells() <= 1
    monkeypatch.setattr(advice, '_told', tuple)
    assert tells() == 20


def test_neighbours_count_as_they_are_told():
    x, y = blobs(40, 0.5, 3)
    source = Source(x, one_hot(y) * 0.6 + 0.2, np.zeros(40, bool))
    told = students.Advice({'n_neighbors': 40}, class_weights=(0.5, 2.0))
    weights = source.targets @ np.array([0.5, 2.0])
    expected = (source.targets * weights[:, None]).sum(0) / weights.sum()
    np.testing.assert_allclose(students.fit('knn', source, 0, advice=told).predict(x), np.tile(expected, (40, 1)), rtol=1e-5)


def test_a_student_does_as_it_is_told():
    x, y = blobs(400, 0.5, 4)
    soft = one_hot(y) * 0.6 + 0.2
    surprise = np.random.default_rng(0).exponential(size=400).astype(np.float32)
    source = synthetic_source(x, soft, surprise=surprise)

    def predicted(told, of=source):
        return students.fit('logistic_regression', of, 0, advice=told).predict(x)

    value = {'logisticregression__C': 0.01}
    np.testing.assert_array_equal(predicted(students.Advice(value, likeliest=True)),
                                  predicted(students.Advice(value), source._replace(targets=one_hot(y))))
    np.testing.assert_array_equal(predicted(students.Advice(value)), predicted(students.Advice(value), source._replace(weights=None)))
    assert np.abs(predicted(students.Advice(value, power=1)) - predicted(students.Advice(value))).max() > 1e-4
    assert np.abs(predicted(students.Advice({'logisticregression__C': 1.0})) - predicted(students.Advice(value))).max() > 1e-3


def test_what_was_found_is_kept_and_found_anew_where_it_is_damaged_or_another(tmp_path, monkeypatch):
    x, y = blobs(600, 0.5, 0)
    sources = {'stimuli': synthetic_source(x, one_hot(y)), 'control': synthetic_source(x + 1, one_hot(y))}
    windows, names = windows_of(*blobs(400, 0.1, 1)), ('svm', 'knn', 'logistic_regression')
    found = advice.advise_all(names, sources, windows, tmp_path)
    assert found and {name for name, _ in found} <= set(advice.NAMES)
    asked, whole = [], advice.advise
    monkeypatch.setattr(advice, 'advise', lambda name, *rest: asked.append(name) or whole(name, *rest))
    assert advice.advise_all(names, sources, windows, tmp_path) == found and not asked
    files = sorted(tmp_path.rglob('*.json'))
    assert len(files) == 4
    files[0].write_text('{"parameters"')
    assert advice.advise_all(names, sources, windows, tmp_path) == found and len(asked) == 1
    assert json.loads(files[0].read_text()) is None or json.loads(files[0].read_text())['parameters']
    advice.advise_all(names, sources, windows_of(*blobs(400, 0.1, 2)), tmp_path)
    assert len(asked) == 5
    assert advice.advise_all(names, sources, windows) == found  # without a folder


@pytest.mark.parametrize('sifted', [False, True])
def test_of_many_stimuli_some_are_tried(monkeypatch, sifted):
    monkeypatch.setattr(advice, 'LEARNT', (50, 2**24))
    monkeypatch.setattr(advice, 'ASKED', (40, 2**24))
    seen, whole = [], students.fit_columns

    def spy(name, source, *rest):
        predict = whole(name, source, *rest)
        return lambda rows: seen.append((len(source.x), source.weights is not None and len(source.weights), len(rows))) or predict(rows)

    monkeypatch.setattr(students, 'fit_columns', spy)
    x, y = blobs(600, 0.5, 0)
    source = synthetic_source(x, one_hot(y), surprise=np.ones(600, np.float32) if sifted else None)
    advice.advise('logistic_regression', source, windows_of(*blobs(400, 0.1, 1)))
    assert set(seen) == {(50, 50 if sifted else False, 40)}
    assert 1 + (4 if sifted else 2) < len(seen) <= 1 + (16 if sifted else 8)  # one of each path at least, see above


# ---------------------------------------------------------------------------------------------------- the whole comparison


@pytest.fixture(scope='module')
def stimuli(study, teacher):
    return ns.excite(teacher, count=300, method='mixture', steps=1)


def test_only_training_windows_advise(study, teacher, stimuli, monkeypatch):
    asked = []
    monkeypatch.setattr(advice, 'advise', lambda name, source, windows: asked.append(windows))
    ns.evaluate(study, teacher, stimuli, students=('knn',), seeds=1, advise=True)
    learning = study.part(test=False)
    assert len(asked) == 2  # about stimuli and the control
    for windows in asked:
        np.testing.assert_array_equal(windows.x, teacher.scaling.forward(learning.x))
        np.testing.assert_array_equal(windows.y, learning.y)


def test_what_was_advised_is_told_and_changes_nobody_else(study, teacher, stimuli, monkeypatch):
    told = students.Advice({'n_neighbors': 31}, class_weights=(1.0, 3.0))
    monkeypatch.setattr(advice, 'advise', lambda name, *rest: told if name == 'knn' else None)
    names = ('knn', 'logistic_regression', 'naive_bayes')
    with_advice, without = (ns.evaluate(study, teacher, stimuli, students=names, seeds=1, advise=asked) for asked in (True, False))
    knn, *others = with_advice['students']
    assert knn['advice'] == {'parameters': {'n_neighbors': 31}, 'likeliest': False, 'power': 0, 'class_weights': [1.0, 3.0]}
    assert others == without['students'][1:] and knn['real'] == without['students'][0]['real']
    assert [note for note in with_advice['notes'] if note not in without['notes']] == [
        'knn learnt from stimuli as real training windows advised: n_neighbors = 31, classes as frequent as among real windows']
    student = ns.fit_student('knn', stimuli, teacher, advice=knn['advice'])
    test = study.part(test=True)
    assert cohen_kappa_score(test.y, student.predict(test.x).argmax(1)) == pytest.approx(knn['stimuli']['kappa'])


def test_predictions_of_the_untold_are_not_taken_for_those_of_the_told(study, teacher, stimuli, tmp_path, monkeypatch):
    """Evaluated once without advice and once with, in one folder: the second time as if the first had not been."""
    monkeypatch.setattr(advice, 'advise', lambda *rest: students.Advice({'n_neighbors': 3}))

    def kappas(folder, advised):
        networks = students.training_options(0.0, 10)
        rows, _ = phase.compare_students(
            study, teacher, stimuli, stimuli, ('knn',), 1, networks, draws=50, predictions=folder, advised=advised)
        return rows[0]['stimuli'], rows[0]['control']

    untold = kappas(tmp_path / 'a', False)
    assert kappas(tmp_path / 'a', True) == kappas(tmp_path / 'b', True)
    assert kappas(tmp_path / 'a', False) == untold


def test_advice_in_words():
    told = students.Advice({'logisticregression__C': 0.01}, True, 1)._asdict()
    assert advice.in_words(told) == "C = 0.01, each stimulus' likeliest class alone as its label, sifted stimuli by their weights"
