"""The sweep: what it writes, that a killed one goes on to the same figures, that only what changed is made anew, and its tests."""

import dataclasses
import fcntl
import functools
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from forked import ROOT, TINY

from experiments import compare, compare_charts
from experiments.compare import Cell, Made, Twin
from experiments.configs.compare import get_config
from neurostim import alternatives, students
from neurostim.errors import UserError
from neurostim.evaluation import association, utility

QUICK_COMPILE = True
pytestmark = pytest.mark.usefixtures('compile_once')
METHODS = ('real_soft', 'control', 'gaussian', 'generator')


class Loud(association.Attacker):
    """Sure of somebody wherever a window begins above 0."""

    def __init__(self):
        super().__init__('loud', lambda x: np.stack([x[:, 0, 0] > 0, np.zeros(len(x))], 1).astype(float))


@pytest.fixture(scope='module', autouse=True)
def quick_attackers():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(association, 'train_attackers', lambda *_: [Loud()])
        yield


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    """The config file of a small simulated study."""
    path = tmp_path_factory.mktemp('config') / 'small.py'
    path.write_text(TINY)
    return str(path)


def config_of(study):
    config = get_config()
    config.studies, config.methods, config.students = (study,), METHODS, ('knn', 'naive_bayes')
    config.seeds, config.count, config.student_steps, config.interval_draws, config.reference = 2, 40, 5, 200, 'control'
    config.curves.counts, config.curves.count_methods = (20,), ('control',)
    config.curves.steps, config.curves.steps_methods = (0, 1), ('gaussian',)
    return config


def sweep_of(study, folder, **changes):
    return dataclasses.replace(compare.make_sweep(config_of(study), folder), **changes)


def quiet(text):
    del text


@pytest.fixture(scope='module')
def done(study, tmp_path_factory):
    """(folder, results) of a sweep in one go; nobody may change it."""
    folder = tmp_path_factory.mktemp('sweeps') / 'done'
    return folder, compare.compare(sweep_of(study, folder), say=quiet)


@pytest.fixture
def copy(done, tmp_path):
    """A sweep that has its teacher and nothing else."""
    shutil.copytree(done[0] / 'small' / 'teacher', tmp_path / 'small' / 'teacher')
    return tmp_path


def timeless(tree):
    """Without what differs from run to run: times."""
    if isinstance(tree, dict):
        return {key: timeless(value) for key, value in tree.items() if key not in ('seconds', 'per_second')}
    return [timeless(value) for value in tree] if isinstance(tree, list) else tree


def test_figures(done):
    results = done[1]
    json.dumps(results, allow_nan=False)
    small = results['studies']['small']
    assert [method['name'] for method in small['methods']] == ['real_soft', 'control', 'gaussian']
    assert any(note.startswith('generator: left out (') for note in small['notes'])
    assert {(row['method'], row['student']) for row in small['rows']} == {
        (method, student) for method in METHODS[:3] for student in ('knn', 'naive_bayes')}
    real = {twin['student']: twin['kappa'] for twin in small['real']}
    for row in small['rows']:
        assert row['gap']['difference'] == pytest.approx(real[row['student']] - row['kappa'])
        assert row['gap']['p'] <= row['gap']['p_holm'] <= 1
        assert (row['against_reference'] is None) == (row['method'] == 'control')
    for method in small['methods']:
        own = [row for row in small['rows'] if row['method'] == method['name']]
        assert method['gap']['difference'] == pytest.approx(np.mean([row['gap']['difference'] for row in own]))
        assert method['per_second'] > 0 and sum(method['class_counts']) == method['count'] == 40
        assert 0 < method['confident']['loud'] < 1 and method['neighbours']['ratio'] >= 0
    assert small['methods'][0]['neighbours']['ratio'] == 0  # real windows are nearest to themselves
    points = small['curves']
    assert {(p['method'], p['at']) for p in points['count']} == {('control', 20), ('control', 40)}
    assert {(p['method'], p['at']) for p in points['steps']} == {('gaussian', 0), ('gaussian', 1)}


def test_table_and_pictures(done, tmp_path):
    results = done[1]
    table = compare.table(results)
    rows = [line for line in table.splitlines() if line.startswith('| gaussian | knn |')]
    row = next(r for r in results['studies']['small']['rows'] if (r['method'], r['student']) == ('gaussian', 'knn'))
    assert len(rows) == 1 and f'{row["gap"]["difference"]:+.3f}' in rows[0] and f'{row["kappa"]:.3f}' in rows[0]
    for block in table.split('\n\n'):
        assert len({line.count('|') for line in block.splitlines() if line.startswith('|')}) <= 1
    written = compare_charts.write(results, tmp_path)
    assert {path.name for path in written} == {f'small-{what}.png' for what in ('gaps', 'counts', 'steps', 'privacy')}
    assert all(path.stat().st_size > 5000 for path in written)


def test_a_killed_sweep_goes_on(done, copy, study, monkeypatch):
    """Killed while data sets, then while students are made: the figures are those of an uninterrupted sweep, and nothing is made twice."""
    whole = {alternatives: alternatives.make, students: students.fit}
    calls = {alternatives: 0, students: 0}
    last = {alternatives: 3, students: 5}

    def counted(place, *arguments):
        if calls[place] == last[place]:
            last[place] = None  # once
            raise KeyboardInterrupt
        calls[place] += 1
        return whole[place](*arguments)

    monkeypatch.setattr(alternatives, 'make', functools.partial(counted, alternatives))
    monkeypatch.setattr(students, 'fit', functools.partial(counted, students))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            compare.compare(sweep_of(study, copy), say=quiet)
        compare.dataset.cache_clear()  # as a new process begins
    assert timeless(compare.compare(sweep_of(study, copy), say=quiet)) == timeless(done[1])
    assert calls == {alternatives: 3 * 2 + 2, students: len(list((done[0] / 'small' / 'predictions').rglob('*.npy')))}


def test_only_what_changes_is_made_anew(done, copy, study, monkeypatch):
    shutil.copytree(done[0] / 'small', copy / 'small', dirs_exist_ok=True)
    whole, fitted = students.fit, []
    monkeypatch.setattr(students, 'fit', lambda *arguments: (fitted.append(arguments[0]), whole(*arguments))[1])
    compare.compare(sweep_of(study, copy, students=('knn', 'naive_bayes', 'logistic_regression')), say=quiet)
    assert set(fitted) == {'logistic_regression'}
    fitted.clear()
    more = compare.compare(sweep_of(study, copy, count=50, counts=(), steps=(), privacy=False), say=quiet)
    assert set(fitted) == {'knn', 'naive_bayes'}  # another count: other data sets
    assert more['studies']['small']['people'] is None and more['studies']['small']['methods'][1]['confident_mean'] is None


def test_what_is_kept_goes_by_content(done, copy, study, monkeypatch):
    """A data set that comes out the same from elsewhere trains nobody again; one that differs does."""
    shutil.copytree(done[0] / 'small', copy / 'small', dirs_exist_ok=True)
    sweep = sweep_of(study, copy)
    cell = Cell('knn', Made('gaussian', 0))
    stimuli, seconds = compare.dataset(sweep, study, cell.made)
    before = compare.predicted(sweep, study, cell)
    fitted, whole = [], students.fit
    monkeypatch.setattr(students, 'fit', lambda *arguments: (fitted.append(arguments[0]), whole(*arguments))[1])
    monkeypatch.setattr(compare, 'dataset', lambda *_: (stimuli, seconds))
    np.testing.assert_array_equal(compare.predicted(sweep, study, Cell('knn', Made('control', 0))), before)
    assert not fitted
    monkeypatch.setattr(compare, 'dataset', lambda *_: (stimuli._replace(x=stimuli.x + 1), seconds))
    compare.predicted(sweep, study, cell)
    assert fitted == ['knn']


def test_a_damaged_data_set_is_made_anew(done, copy, study):
    shutil.copytree(done[0] / 'small', copy / 'small', dirs_exist_ok=True)
    sweep, made = sweep_of(study, copy), Made('gaussian', 1)
    kept, _ = compare.dataset(sweep, study, made)
    compare.dataset.cache_clear()
    for shard in (copy / 'small' / 'datasets').glob('gaussian-1-*/stimuli-train*'):
        shard.write_bytes(shard.read_bytes()[:-30])
    again, _ = compare.dataset(sweep, study, made)
    np.testing.assert_array_equal(again.x, kept.x)


@pytest.mark.slow
def test_several_processes_come_to_the_same(done, copy, study):
    assert timeless(compare.compare(sweep_of(study, copy, privacy=False), processes=2, say=quiet)['studies']['small']['rows']) == timeless(
        done[1]['studies']['small']['rows'])


# ---------------------------------------------------------------------------------------------------- tests


def test_differences_are_found_and_not_made_up(done, study):
    """Against a real twin that is right nine times in ten: itself, one as good, and one that is right seven times in ten."""
    on = compare.ground(sweep_of(study, done[0]), study)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 900)
    test = dataclasses.replace(on.test, x=np.zeros((900, 60, 1)), y=y, group=np.arange(900) // 30)
    sweep = sweep_of(study, done[0], students=('a',), reference='same', seeds=3, interval_draws=4000)

    def right(share):
        return [np.eye(2)[np.where(rng.random(900) < share, y, 1 - y)] for _ in range(3)]

    real = right(.9)
    called = {('same', 'a'): real, ('as good', 'a'): right(.9), ('worse', 'a'): right(.7)}
    rows, means = compare.tests(on._replace(test=test), ['same', 'as good', 'worse'], sweep, {'a': ('real', real)}, called)
    same, as_good, worse = (row['gap'] for row in rows)
    assert same['difference'] == 0 and same['p'] == 1
    assert abs(as_good['difference']) < .05 and as_good['p_holm'] > .05
    assert worse['difference'] == pytest.approx(.4, abs=.06) and worse['p_holm'] < .01 and worse['ci95'][0] > .3
    assert rows[2]['against_reference']['difference'] == pytest.approx(-worse['difference'])
    assert means[2]['gap']['difference'] == worse['difference']
    kappas = [utility.score(y, p)['kappa'] for p in called['worse', 'a']]
    assert rows[2]['kappa'] == pytest.approx(np.mean(kappas)) and rows[2]['kappa_sd'] == pytest.approx(np.std(kappas))


def test_the_twin_is_that_of_evaluate(done, study):
    """As :func:`neurostim.evaluation.comparison.train_all` chooses it."""
    from neurostim.evaluation import comparison
    sweep = sweep_of(study, done[0])
    on = compare.ground(sweep, study)
    held = on.real['real'].held
    sources = {**on.real, 'stimuli': on.real['real_soft'], 'control': on.real['real_soft']}
    validation = (on.real['real'].x[held], on.study.part(test=False).y[held])
    trained = comparison.train_all(('knn',), 2, sources, on.test_x, validation, comparison.Cache(None, ''), 5)
    _, mine = compare.twins(sweep, study, Twin('knn'))
    np.testing.assert_allclose(mine[0], trained[comparison.Task('knn', 'real', 0)], atol=1e-6)


# ---------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(('change', 'what'), [
    ({'methods': ('gann',)}, "unknown method in methods 'gann'"), ({'students': ('cnn', 'cnn')}, 'names one twice'),
    ({'students': ()}, 'students is empty'), ({'seeds': 0}, 'seeds is 0'), ({'count': 5}, 'count is 5'),
    ({'studies': ('nonesuch',)}, "unknown study 'nonesuch'"), ({'studies': ('benchmark',)}, 'has no teacher'),
    ({'reference': 'direct'}, "unknown reference 'direct'"), ({'processes': 0}, 'processes is 0'),
    ({'curves.counts': (4000,)}, 'curves.counts holds 4000'), ({'curves.steps': (-1,)}, 'curves.steps'),
    ({'curves.count_methods': ('direct',)}, "'direct'"), ({'curves.seeds': 3}, 'curves.seeds is 3'),
    ({'options.training_steps': 0}, 'training_steps is 0'), ({'options.epsilon': 0.0}, 'epsilon is 0.0'),
])
def test_what_makes_no_sense_is_refused(study, tmp_path, change, what):
    config = config_of(study)
    config.update_from_flattened_dict(change)
    with pytest.raises(UserError, match=what):
        compare.make_sweep(config, tmp_path)


def test_another_sweep_in_the_folder_is_refused(study, copy):
    with open(copy / 'lock', 'a') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match='another sweep is at work'):
            compare.compare(sweep_of(study, copy), say=quiet)


def test_an_error_is_one_line(tmp_path):
    done = subprocess.run([sys.executable, '-m', 'experiments.compare', f'--workdir={tmp_path / "new"}', '--config.methods=gann'], cwd=ROOT,
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.startswith("error: unknown method in methods 'gann'") and done.stderr.count('\n') == 1
    assert not pathlib.Path(tmp_path / 'new').exists()
