"""The comparison: every student is trained as often as announced, and its twin is chosen fairly, by windows that it has not seen."""

import dataclasses
import threading

import numpy as np
import pytest
from conftest import tiny_study

from neurostim import students, training
from neurostim.errors import UserError
from neurostim.evaluation import association, comparison, phase, utility
from neurostim.evaluation.comparison import Cache, Task
from neurostim.excitation.records import Stimuli
from neurostim.sources import Source, as_frequent_as_made, digest, synthetic_source

QUICK_COMPILE = True
NAMES = ('mlp', 'knn', 'random_forest')
SEEDS, STEPS = 2, 20
NETWORKS = students.training_options(0.0, STEPS)


@pytest.fixture(scope='module')
def parts(study, teacher):
    """(sources, scaled test windows, validation) as the pipeline makes them; stimuli are noisy training windows."""
    sources = comparison.real_sources(study, teacher)
    real = sources['real']
    rng = np.random.default_rng(0)
    for name, noise in (('stimuli', 0.5), ('control', 3.0)):
        x = (real.x + noise * rng.normal(size=real.x.shape)).astype(np.float32)
        sources[name] = synthetic_source(x, teacher.predict_scaled(x))
    train = study.part(test=False)
    return sources, teacher.scaling.forward(study.part(test=True).x), (real.x[real.held], train.y[real.held])


class Recorder:
    """Stands in for `students.fit`: notes (name, windows, whether labels are hard, seed) of what is trained.

    Args:
      truth: of the windows that will be predicted.
      skill: the chance of a right answer, by whether labels were hard.
      stop_after: students; the next one is interrupted.
    """

    def __init__(self, truth, skill=lambda hard: 0.9, stop_after=None):
        self.calls, self._truth, self._skill, self._stop_after, self._lock = [], truth, skill, stop_after, threading.Lock()

    def __call__(self, name, source, seed, options, capacity, advice=None):
        x, hard = source.x, bool(((source.targets == 0) | (source.targets == 1)).all())
        with self._lock:
            if len(self.calls) == self._stop_after:
                raise KeyboardInterrupt
            self.calls.append((name, len(x), hard, seed))
        rng = np.random.default_rng([seed, len(x), len(name), hard])

        def predict(windows):
            right = rng.random(len(windows)) < self._skill(hard)
            return (np.eye(2)[np.where(right, self._truth, 1 - self._truth)] * 0.8 + 0.1).astype(np.float32)

        return students.Student(name, predict)


@pytest.fixture
def record(monkeypatch, study, parts):
    """Replaces training by a :class:`Recorder`, which it returns."""
    truth = np.concatenate([study.part(test=True).y, parts[2][1]])

    def start(**options):
        recorder = Recorder(truth, **options)
        monkeypatch.setattr(students, 'fit', recorder)
        return recorder
    return start


def train(parts, folder=None, digest='d' * 64, names=NAMES, progress=lambda done: None):
    return comparison.train_all(names, SEEDS, *parts, Cache(folder, digest), NETWORKS, progress)


# ---------------------------------------------------------------------------------------------------- sources


def test_real_sources(study, teacher, parts):
    """Whole groups of training windows are held; nothing of the test windows is in; the checks leave out what is held, and hold others."""
    sources = comparison.real_sources(study, teacher)
    learning = study.part(test=False)
    real, soft = sources['real'], sources['real_soft']
    np.testing.assert_array_equal(real.x, teacher.scaling.forward(learning.x))
    np.testing.assert_array_equal(real.targets.argmax(1), learning.y)
    np.testing.assert_allclose(soft.targets, teacher.probabilities(learning.x), atol=1e-6)
    assert 0 < real.held.mean() < 0.4
    assert not set(learning.group[real.held]) & set(learning.group[~real.held])
    for name in ('real', 'real_soft'):
        check = sources[f'{name}_check']
        np.testing.assert_array_equal(check.x, real.x[~real.held])
        groups = learning.group[~real.held]
        assert 0 < check.held.mean() < 0.4 and not set(groups[check.held]) & set(groups[~check.held])


def test_of_a_large_study_twins_learn_a_part(study, teacher, monkeypatch):
    monkeypatch.setattr(comparison, 'LEARNT', (50, 2**28))
    real = comparison.real_sources(study, teacher)['real']
    learning = teacher.scaling.forward(study.part(test=False).x)
    assert len(real.x) == 50 and all((learning == window).all((1, 2)).any() for window in real.x)


@pytest.mark.parametrize('n', [2, 3, 10, 1000])
def test_stimuli_are_learnt_from_and_held(n):
    for seed in range(5):
        source = synthetic_source(np.zeros((n, 4)), np.full((n, 2), 0.5), seed)
        assert 0 < source.held.sum() < n
    assert n < 1000 or 0.05 < source.held.mean() < 0.15


def test_one_stimulus_is_too_few():
    with pytest.raises(UserError, match='excite.count'):
        synthetic_source(np.zeros((1, 4)), np.full((1, 2), 0.5))


# ---------------------------------------------------------------------------------------------------- what is trained


@pytest.mark.parametrize('names', [NAMES, ('mlp',), ('knn', 'naive_bayes')])
def test_what_is_trained_is_what_was_announced(parts, record, names):
    recorder, progress = record(), []
    found = train(parts, names=names, progress=progress.append)
    assert progress == list(range(1, comparison.count_tasks(names, SEEDS, True) + 1)) and len(recorder.calls) == progress[-1]
    assert set(found) == {Task(n, s, seed) for n in names for s in comparison.SOURCES for seed in range(SEEDS)}
    assert {values.shape for values in found.values()} == {(len(parts[1]), 2)}


def test_deterministic_students_are_trained_once(parts, record):
    recorder = record()
    found = train(parts, names=('knn', 'random_forest'))
    assert {seed for name, *_, seed in recorder.calls if name == 'knn'} == {0}
    assert {seed for name, *_, seed in recorder.calls if name == 'random_forest'} == {0, 1}
    for source in comparison.SOURCES:
        np.testing.assert_array_equal(found[Task('knn', source, 0)], found[Task('knn', source, 1)])


@pytest.mark.parametrize('few', [False, True])
@pytest.mark.parametrize('better', ['real', 'real_soft'])
def test_the_twin_is_the_label_kind_that_validates_better(parts, record, better, few, monkeypatch):
    """By both seeds on the held windows, a classical one by the first; the other kind is not trained any further. Networks of few windows
    learn from held ones too, and are tried without these as classical ones are."""
    monkeypatch.setattr(training, 'FEW', (10_000, 2**20) if few else (0, 0))
    recorder = record(skill=lambda hard: 0.95 if hard == (better == 'real') else 0.6)
    train(parts, names=('mlp', 'random_forest'))
    n, n_check = len(parts[0]['real'].x), int((~parts[0]['real'].held).sum())
    for name, size in (('mlp', n_check if few else n), ('random_forest', n_check)):  # what both kinds are tried with
        assert {(hard, seed) for called, rows, hard, seed in recorder.calls if called == name and rows == size} >= {(True, 0), (False, 0)}
    mlps = [sum(called == 'mlp' and hard == kind and rows == n for called, rows, hard, _ in recorder.calls) for kind in (True, False)]
    twins = [SEEDS * (kind == better or not few) for kind in ('real', 'real_soft')]
    assert mlps == [twins[0], twins[1] + 2 * SEEDS]  # stimuli and control have as many windows, and soft labels
    forests = [(hard, seed) for called, rows, hard, seed in recorder.calls if called == 'random_forest' and rows == n]
    # Two seeds of stimuli and control each, and two of the twin.
    assert sorted(forests).count((better == 'real', 1)) == (1 if better == 'real' else 3) and len(forests) == 3 * SEEDS


def test_a_networks_labels_are_chosen_by_several_seeds():
    """Of the first seed alone the worse kind would be taken."""
    y = np.arange(10) % 2
    right, wrong, mostly = np.eye(2)[y], np.eye(2)[1 - y], np.eye(2)[np.where(np.arange(10) < 2, 1 - y, y)]
    assert comparison.better_twin({'real': [right, wrong, right], 'real_soft': [mostly] * 3}, y) == 'real_soft'
    assert comparison.better_twin({'real': [right], 'real_soft': [mostly]}, y) == 'real'
    assert comparison.check_tasks('mlp', 'real', 5, False) == [Task('mlp', 'real', seed) for seed in range(3)]
    assert comparison.check_tasks('mlp', 'real_soft', 1, False) == [Task('mlp', 'real_soft', 0)]
    assert comparison.check_tasks('mlp', 'real', 5, True) == [Task('mlp', 'real_check', seed) for seed in range(3)]  # it learns from all
    assert comparison.check_tasks('random_forest', 'real', 5, False) == [Task('random_forest', 'real_check', 0)]


def test_a_classical_twin_learns_from_all_windows_but_is_chosen_without_the_held_ones(study, teacher, monkeypatch):
    """Labels that are wrong on what is held: whoever chose by windows that were learnt from would take them for right."""
    learning = study.part(test=False)
    sources = comparison.real_sources(study, teacher)
    real = sources['real']
    held = real.held
    right, wrong = np.eye(2, dtype=np.float32)[learning.y], np.eye(2, dtype=np.float32)[1 - learning.y]
    # True labels are right throughout. The teacher's are right on what is held only: a student that saw these would know the answers.
    sources['real_soft'] = Source(real.x, np.where(held[:, None], right, wrong) * 0.98 + 0.01, held)
    sources |= {f'{name}_check': Source(*(column[~held] for column in sources[name][:3])) for name in ('real', 'real_soft')}
    sources |= {name: synthetic_source(real.x, right) for name in ('stimuli', 'control')}
    fitted = []

    def spy(name, source, *rest, fit=students.fit):
        fitted.append((len(source.x), source.targets))
        return fit(name, source, *rest)

    monkeypatch.setattr(students, 'fit', spy)
    test = study.part(test=True)
    found = comparison.train_all(('random_forest',), 1, sources, teacher.scaling.forward(test.x), (real.x[held], learning.y[held]),
                                 Cache(None, ''), NETWORKS)
    assert utility.score(test.y, found[Task('random_forest', 'real', 0)])['kappa'] > 0.8
    whole = [targets for rows, targets in fitted if rows == len(real.x)]
    assert len(whole) == 3 and any(targets is sources['real'].targets for targets in whole)
    assert all(targets is not sources['real_soft'].targets for targets in whole)


# ---------------------------------------------------------------------------------------------------- predictions on disk


def test_a_killed_evaluation_goes_on(parts, record, tmp_path):
    record()
    whole = train(parts, tmp_path / 'a')
    stopped = record(stop_after=5)
    with pytest.raises(KeyboardInterrupt):
        train(parts, tmp_path / 'b')
    rest = record()
    resumed = train(parts, tmp_path / 'b')
    assert len(stopped.calls) == 5 and len(stopped.calls) + len(rest.calls) == comparison.count_tasks(NAMES, SEEDS, True)
    for task, values in whole.items():
        np.testing.assert_array_equal(resumed[task], values)


def test_finished_predictions_are_taken_unless_something_changed(parts, record, tmp_path):
    record()
    first = train(parts, tmp_path)
    again = record()
    second = train(parts, tmp_path)
    assert not again.calls and all((first[task] == second[task]).all() for task in first)
    train(parts, tmp_path, digest='e' * 64)
    assert len(again.calls) == comparison.count_tasks(NAMES, SEEDS, True)


@pytest.mark.parametrize('damage', [
    lambda content: b'', lambda content: content[:-7], lambda content: content[:100], lambda content: b'no array' * 9,
    lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:]], ids=['empty', 'cut', 'header', 'text', 'flipped'])
def test_damaged_predictions_are_made_again(parts, record, tmp_path, damage):
    record()
    first = train(parts, tmp_path)
    [file] = tmp_path.rglob('mlp-stimuli-1.npy')
    file.write_bytes(damage(file.read_bytes()))
    again = record()
    second = train(parts, tmp_path)
    assert [(name, seed) for name, *_, seed in again.calls] == [('mlp', 1)]
    assert all((first[task] == second[task]).all() for task in first)


def test_a_torn_temporary_file_does_no_harm(tmp_path):
    cache, task = Cache(tmp_path, 'd' * 64), Task('mlp', 'real', 0)
    values = np.random.default_rng(0).random((5, 2)).astype(np.float32)
    assert cache.get(task) is None
    cache.put(task, values)
    [file] = tmp_path.rglob('*.npy')
    file.with_name(f'.{file.name}.1.2.tmp').write_bytes(b'torn')
    np.testing.assert_array_equal(cache.get(task), values)
    assert cache.get(Task('mlp', 'real', 1)) is None and Cache(tmp_path, 'e' * 64).get(task) is None
    Cache(None, 'd').put(task, values)
    assert Cache(None, 'd').get(task) is None


def test_students_of_another_recipe_are_not_taken(tmp_path, monkeypatch):
    task, values = Task('cnn', 'real', 0), np.full((5, 2), 0.5, np.float32)
    Cache(tmp_path, 'd' * 64).put(task, values)
    monkeypatch.setattr(comparison.students, 'RECIPES', {'svm': 9})
    assert Cache(tmp_path, 'd' * 64).get(task) is not None  # this student is made as before
    monkeypatch.setattr(comparison.students, 'RECIPES', {'cnn': 9})
    assert Cache(tmp_path, 'd' * 64).get(task) is None
    monkeypatch.setattr(comparison.students, 'RECIPES', {})
    monkeypatch.setattr(comparison.students, 'RECIPE', comparison.students.RECIPE + 1)
    assert Cache(tmp_path, 'd' * 64).get(task) is None


def test_the_digest_sees_every_part():
    x = np.arange(6.0)
    same = digest(x, 'a', 3)
    assert same == digest(x.copy(), 'a', 3) and len(same) == 64
    assert len({same, digest(x + 1, 'a', 3), digest(x, 'b', 3), digest(x, 'a', 4)}) == 4


def test_an_error_in_training_is_not_swallowed(parts, monkeypatch):
    def broken(*_):
        raise UserError('no such thing')
    monkeypatch.setattr(students, 'fit', broken)
    with pytest.raises(UserError, match='no such thing'):
        train(parts)


# ---------------------------------------------------------------------------------------------------- figures


@pytest.fixture(scope='module')
def compared(parts, study):
    """(predictions, rows, matrices) of real students."""
    predictions = comparison.train_all(NAMES, SEEDS, *parts, Cache(None, ''), students.training_options(0.0, 200))
    return predictions, *comparison.compare(NAMES, SEEDS, predictions, study.part(test=True), draws=200)


def test_rows_are_means_over_seeds(compared, study):
    predictions, rows, matrices = compared
    test = study.part(test=True)
    assert [row['name'] for row in rows] == list(NAMES)
    for row in rows:
        assert row['seeds'] == SEEDS
        for source in comparison.SOURCES:
            scores = [utility.score(test.y, predictions[Task(row['name'], source, seed)]) for seed in range(SEEDS)]
            expected = {key: np.mean([score[key] for score in scores]) for key in scores[0]}
            assert row[source] == pytest.approx({**expected, 'kappa_sd': np.std([score['kappa'] for score in scores])})
            assert matrices[row['name']][source].sum() == SEEDS * len(test.y)
            assert np.trace(matrices[row['name']][source]) == pytest.approx(row[source]['accuracy'] * SEEDS * len(test.y))
        assert row['kappa_gap'] == pytest.approx(row['real']['kappa'] - row['stimuli']['kappa'])
        called = [np.stack([predictions[Task(row['name'], source, s)].argmax(1) for s in range(SEEDS)]) for source in ('real', 'stimuli')]
        assert row['kappa_gap_ci95'] == utility.gap_interval(test.y, test.group, *called, 2, draws=200)[1]


def test_students_learn(compared):
    kappas = {row['name']: row['real']['kappa'] for row in compared[1]}
    assert kappas['mlp'] > 0.7 and kappas['random_forest'] > 0.7 and kappas['knn'] > 0.5  # neighbours suffer from free phases


def test_few_groups_are_pointed_out(compared, study):
    """Two of the tiny study's people are held out: the interval is there, and a remark; with one there is none."""
    predictions, rows, _ = compared
    test = study.part(test=True)
    groups = np.unique(test.group)
    assert 2 <= len(groups) < comparison.FEW_GROUPS
    assert all(row['kappa_gap_ci95'] is not None and f'rests on {len(groups)} test' in row['note'] for row in rows)
    one = test.group == groups[0]
    alone, _ = comparison.compare(NAMES, SEEDS, {task: values[one] for task, values in predictions.items()}, test.take(one))
    assert all(row['kappa_gap_ci95'] is None and row['note'].startswith('no interval') for row in alone)
    # A study of 30 people has nothing to be pointed out.
    many = tiny_study()
    many = many.__class__(**{**vars(many), 'group': np.arange(len(many.y)) // 5})
    some = {task: np.eye(2)[many.y] for task in predictions}
    assert all('note' not in row for row in comparison.compare(NAMES, SEEDS, some, many)[0])


def test_what_a_large_study_leaves_out_is_said(study, teacher, monkeypatch):
    """One remark for each limit that is reached, none where everything was used."""
    assert phase.assemble(study, teacher, {}, [])['notes'] == []
    monkeypatch.setattr(comparison, 'TESTED', (5, 2**27))
    (note,) = phase.assemble(study, teacher, {}, [])['notes']
    assert f'5 of {study.test.sum()} windows' in note


@pytest.mark.parametrize('sifted', [False, True])
def test_of_sifted_stimuli_every_other_one_came_as_it_is(sifted):
    surprise = np.array([1.0, 2.0, 3.0, 6.0, 0.0], np.float32) if sifted else None
    source = synthetic_source(np.zeros((5, 3), np.float32), np.full((5, 2), 0.5, np.float32), surprise=surprise)
    assert source.plain.tolist() == ([True, False, True, False, True] if sifted else [True] * 5)
    others = source._replace(weights=None)
    assert (source.digest() == others.digest()) == (not sifted)
    if sifted:
        np.testing.assert_allclose(source.weights, 2 / (1 + surprise / (4 / 3)), rtol=1e-6)


def test_sifted_stimuli_count_as_often_as_they_were_made():
    """Of windows whose surprise is moderate, so that draws are in proportion to it."""
    rng = np.random.default_rng(0)
    made = rng.uniform(0.6, 1.4, (100_000, 8))
    taken = rng.random((100_000, 1)) < np.cumsum(made[:, 1:], 1) / made[:, 1:].sum(1, keepdims=True)
    surprise = np.stack([made[:, 0], np.take_along_axis(made[:, 1:], taken.argmax(1)[:, None], 1)[:, 0]], 1).ravel()
    weights = as_frequent_as_made(surprise)
    for moment in (1, 2, 3):
        assert abs(np.average(surprise**moment) / (made**moment).mean() - 1) > 0.02  # uneven as they come
        np.testing.assert_allclose(np.average(surprise**moment, weights=weights), (made**moment).mean(), rtol=0.012)
    assert np.isfinite(as_frequent_as_made(np.zeros(4, np.float32))).all()  # whom nothing surprises


def test_students_are_told_what_is_plain_and_whether_held_rows_are_apart(study, teacher, monkeypatch):
    told = {}

    def fit(name, source, seed, options, capacity, advice):
        told[source.weights is not None, source.apart] = len(source.x)
        return students.Student(name, lambda rows: np.full((len(rows), 2), 0.5, np.float32))
    monkeypatch.setattr(students, 'fit', fit)
    some = Stimuli(study.x[:6], np.full((6, 2), 0.5, np.float32), np.zeros(6, int), np.ones(6, np.float32))
    more = Stimuli(study.x[:8], np.full((8, 2), 0.5, np.float32), np.zeros(8, int))
    phase.compare_students(study, teacher, some, more, ('knn',), 1, NETWORKS, draws=20)
    assert told.pop((True, False)) == 6 and told.pop((False, False)) == 8  # stimuli, their control
    assert set(told) == {(False, True)}  # and real windows


def test_networks_that_learn_otherwise_are_not_taken_for_others(study, teacher, monkeypatch, tmp_path):
    told = []

    def fit(name, source, seed, options, capacity=None, advice=None):
        told.append((options.longer, options.batch, options.optimiser))
        return students.Student(name, lambda rows: np.full((len(rows), source.targets.shape[1]), 0.5, np.float32))
    monkeypatch.setattr(students, 'fit', fit)
    some = Stimuli(study.x[:6], np.full((6, 2), 0.5, np.float32), np.zeros(6, int))
    ways = ((1, 128, 'adamw'), (3, 128, 'adamw'), (3, 64, 'adamw'), (3, 64, 'muon'))
    for way in (*ways, *ways[1:], ways[0]):
        networks = students.training_options(0.0, STEPS, *way)
        phase.compare_students(study, teacher, some, some, ('mlp',), 1, networks, draws=20, predictions=tmp_path)
    each = len(told) // len(ways)
    assert each and told == [way for way in ways for _ in range(each)]  # what was kept is found


def test_networks_learn_windows_that_begin_anywhere_if_the_teacher_found_so(study, teacher, monkeypatch, tmp_path):
    """Twins and students of stimuli, and attackers; and what was predicted by others is not taken for theirs."""
    told = []

    def fit(name, source, seed, options, capacity=None, advice=None):
        told.append((len(source.x), options.shift))
        return students.Student(name, lambda rows: np.full((len(rows), source.targets.shape[1]), 0.5, np.float32))
    monkeypatch.setattr(students, 'fit', fit)
    some = Stimuli(study.x[:6], np.full((6, 2), 0.5, np.float32), np.zeros(6, int))
    for shift in (0.0, 0.5, 0.5):
        made = dataclasses.replace(teacher, shift=shift)
        networks = students.training_options(shift, STEPS)
        phase.compare_students(study, made, some, some, ('mlp',), 1, networks, draws=20, predictions=tmp_path)
    held = comparison.real_sources(study, teacher)['real'].held
    assert {rows for rows, _ in told} == {6, len(held), int((~held).sum())}  # of few windows a twin is chosen without held ones
    assert [shift for _, shift in told] == [0.0] * (len(told) // 2) + [0.5] * (len(told) // 2)  # the third time nothing is trained
    told.clear()
    half = np.arange(len(study.y)) % 2 == 0
    people = association.People(*map(np.flatnonzero, (half, ~half, ~half)), np.zeros(0, int), np.arange(len(study.subjects)))
    association.train_attackers(study, study.x, people, ('mlp',), shift=0.5)
    assert [shift for _, shift in told] == [0.5]
