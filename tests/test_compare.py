"""The sweep: what it writes, that a killed one goes on to the same figures, that only what changed is made anew, and its tests."""

import dataclasses
import fcntl
import functools
import json
import pathlib
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from forked import ROOT, TINY

from experiments import compare, compare_charts, compare_figures, compare_tables, sweep, sweep_config
from experiments.configs.compare import get_config
from experiments.configs.main_table import get_config as get_main_config
from experiments.sweep import Cell, Made, Twin
from experiments.sweep_config import Part
from neurostim import alternatives, pipeline, students
from neurostim.config import excite_settings
from neurostim.errors import UserError
from neurostim.evaluation import association, utility
from neurostim.excitation import produce
from neurostim.files import write_whole

QUICK_COMPILE = True
METHODS = ('real_soft', 'control', 'gaussian', 'generator')


class Loud(association.Attacker):
    """Sure of somebody wherever a window begins above 0."""

    def __init__(self):
        super().__init__('loud', lambda x: np.stack([x[:, 0, 0] > 0, np.zeros(len(x))], 1).astype(float))


@pytest.fixture(scope='module', autouse=True)
def quick_attackers():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(association, 'train_attackers', lambda *_, **__: [Loud()])
        yield


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    """The config file of a small simulated study."""
    path = tmp_path_factory.mktemp('config') / 'small.py'
    path.write_text(TINY.replace('return config', 'config.excite.target.concentration = 2.0\n    return config'))
    return str(path)


def config_of(study):
    config = get_config()
    config.studies, config.methods, config.students = (study,), METHODS, ('knn', 'naive_bayes')
    config.seeds, config.count, config.student_steps, config.interval_draws, config.reference = 2, 40, 5, 200, 'control'
    config.curves.counts, config.curves.count_methods = (20,), ('control',)
    config.curves.steps, config.curves.steps_methods = (0, 1), ('gaussian',)
    return config


def sweep_of(study, folder, **changes):
    return dataclasses.replace(sweep_config.make_sweep(config_of(study), folder), **changes)


def quiet(text):
    del text


def forget():
    """As a new process begins."""
    for remembered in (sweep.ground, sweep.dataset, sweep.synthetic):
        getattr(remembered, 'cache_clear', lambda: None)()  # a test may have put another in its place


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
        assert method['found_at_1pct'] == {'loud': None}  # of few strangers' windows it is not told
    shares = small['people']['loud']
    assert 0 < shares['known_confident'] < 1 and 0 < shares['stranger_confident'] < 1 and 0 < shares['stranger_draws_confident'] < 1
    assert small['methods'][0]['neighbours']['ratio'] == 0  # real windows are nearest to themselves
    points = small['curves']
    assert {(p['method'], p['at']) for p in points['count']} == {('control', 20), ('control', 40)}
    assert {(p['method'], p['at']) for p in points['steps']} == {('gaussian', 0), ('gaussian', 1)}


def test_more_seeds_do_not_pad_networks_otherwise(study, done):
    """Else all predictions would be made anew for them: of 280 some seeds leave more than 256 to learn from."""
    sizes = set()
    for seeds in (1, 2, 5):
        forget()
        own = sweep_of(study, done[0], seeds=seeds, count=280)
        sizes.add(sweep.ground(own, sweep_config.parts(study)[0]).capacity)
    forget()
    assert len(sizes) == 1


def test_table_and_pictures(done, tmp_path):
    results = done[1]
    table = compare_tables.table(results)
    rows = [line for line in table.splitlines() if line.startswith('| gaussian | knn |')]
    row = next(r for r in results['studies']['small']['rows'] if (r['method'], r['student']) == ('gaussian', 'knn'))
    assert len(rows) == 1 and f'{row["gap"]["difference"]:+.3f}' in rows[0] and f'{row["kappa"]:.3f}' in rows[0]
    for block in table.split('\n\n'):
        assert len({line.count('|') for line in block.splitlines() if line.startswith('|')}) <= 1
    pictures = {f'small-{what}.png' for what in ('gaps', 'counts', 'steps', 'privacy')}  # and no main.png: there are no stimuli
    assert {path.name for path in compare.write(results, tmp_path)} == {'compare.json', 'compare.md', 'main.md'} | pictures
    assert all((tmp_path / name).stat().st_size > 5000 for name in pictures)


def test_a_killed_sweep_goes_on(done, copy, study, monkeypatch):
    """Killed while data sets, then while students are made: the figures are those of an uninterrupted sweep, and nothing is made twice."""
    whole = {alternatives: alternatives.timed, students: students.fit}
    calls = {alternatives: 0, students: 0}
    last = {alternatives: 3, students: 5}
    one_at_a_time = threading.Lock()

    def counted(place, *arguments):
        with one_at_a_time:
            if calls[place] == last[place]:
                last[place] = None  # once
                raise KeyboardInterrupt
            calls[place] += 1
        return whole[place](*arguments)

    monkeypatch.setattr(alternatives, 'timed', functools.partial(counted, alternatives))
    monkeypatch.setattr(students, 'fit', functools.partial(counted, students))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            compare.compare(sweep_of(study, copy), say=quiet)
        forget()
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
    own, part = sweep_of(study, copy), Part(study)
    cell = Cell('knn', Made('gaussian', 0))
    stimuli, seconds = sweep.dataset(own, part, cell.made)
    before = sweep.predicted(own, part, cell)
    fitted, whole = [], students.fit
    monkeypatch.setattr(students, 'fit', lambda *arguments: (fitted.append(arguments[0]), whole(*arguments))[1])
    monkeypatch.setattr(sweep, 'dataset', lambda *_: (stimuli, seconds))
    np.testing.assert_array_equal(sweep.predicted(own, part, Cell('knn', Made('control', 0))), before)
    assert not fitted
    monkeypatch.setattr(sweep, 'dataset', lambda *_: (stimuli._replace(x=stimuli.x + 1), seconds))
    forget()
    sweep.predicted(own, part, cell)
    assert fitted == ['knn']


def test_a_damaged_data_set_is_made_anew(done, copy, study):
    shutil.copytree(done[0] / 'small', copy / 'small', dirs_exist_ok=True)
    own, part, made = sweep_of(study, copy), Part(study), Made('gaussian', 1)
    kept, _ = sweep.dataset(own, part, made)
    forget()
    for shard in (copy / 'small' / 'datasets').glob('gaussian-1-*/stimuli-train*'):
        shard.write_bytes(shard.read_bytes()[:-30])
    again, _ = sweep.dataset(own, part, made)
    np.testing.assert_array_equal(again.x, kept.x)


# ---------------------------------------------------------------------------------------------------- as a study's own config asks


def test_a_study_keeps_its_own_ways(copy, study):
    """As many stimuli as its config asks for, made as `experiments.run` makes them, and its own students."""
    own, part = sweep_of(study, copy, methods=('stimuli', 'control'), count=0, students=(), more_students=('lstm', 'knn'),
                         student_steps=0, counts=(100, 1000)), Part(study)
    on, config = sweep.ground(own, part), sweep_config.study_config(study)
    assert (on.count, on.students, on.student_steps) == (300, ('mlp', 'knn', 'lstm'), 20)
    settings = produce.resolve(excite_settings(config), on.teacher)
    assert settings.method == 'mixture' and settings.target.concentration == 2
    for method, theirs, use in (('stimuli', settings, produce.EXCITED), ('control', produce.unexcited(settings), produce.CONTROL)):
        for seed in (0, 1):
            made, _ = sweep.dataset(own, part, Made(method, seed))
            wanted = produce.generate(on.teacher, theirs, seed, use)
            np.testing.assert_array_equal(made.x, wanted.x)
            np.testing.assert_array_equal(made.probabilities, wanted.probabilities)
    counted = {at for at, _ in sweep.curve_cells(dataclasses.replace(own, count_methods=('stimuli',)), part)['count']}
    assert counted == {100, 300}  # there are no 1000


def test_what_is_kept_depends_on_how_a_study_excites(done, study):
    """Of stimuli and control, and of no other method."""
    on = sweep.ground(sweep_of(study, done[0]), Part(study))
    other = dataclasses.replace(on.options, excite=dataclasses.replace(on.options.excite, learning_rate=0.5))
    for method, differs in (('stimuli', True), ('control', True), ('gaussian', False), ('gan', False)):
        assert (alternatives.depends(method, on.teacher, 40, on.options) != alternatives.depends(method, on.teacher, 40, other)) == differs


def test_the_main_table_names_studies_that_there_are(tmp_path):
    config = get_main_config()
    found = sweep_config.make_sweep(config, tmp_path)
    assert found.reference == 'control' and found.seeds == 5 and 'gru' in found.students_of('apnea_four_channels')
    assert sweep_config.study_config('apnea_four_channels').study.channels[-1] == 'SpO2'


# ---------------------------------------------------------------------------------------------------- every person in turn


@pytest.fixture(scope='module')
def folded(tmp_path_factory):
    """(sweep, results) over the folds of three people."""
    folder = tmp_path_factory.mktemp('folds')
    (folder / 'three.py').write_text(TINY.replace('subjects = 6', 'subjects = 3'))
    own = sweep_of(f'{folder / "three.py"}:subjects', folder, methods=('stimuli', 'control'), counts=(), steps=(),
                   students=('knn', 'random_forest'))
    return own, compare.compare(own, say=quiet)


def test_folds_test_every_window_once(folded):
    own, _ = folded
    [study] = own.studies
    parts = sweep_config.parts(study)
    loaded = [pipeline.load_study(sweep_config.study_config(study), part.fold) for part in parts]
    np.testing.assert_array_equal(sum(fold.test.astype(int) for fold in loaded), 1)
    assert all(len(set(fold.subject[fold.test])) == 1 for fold in loaded)


def test_figures_of_folds_are_of_their_pooled_predictions(folded):
    own, results = folded
    [study], found = own.studies, results['studies']['three_subjects']
    parts = sweep_config.parts(study)
    tests = [sweep.ground(own, part).test for part in parts]
    y, group = (np.concatenate([getattr(test, name) for test in tests]) for name in ('y', 'group'))
    for student, at_all in (('knn', found['real'][0]), ('random_forest', found['real'][1])):
        real = [sweep.twins(own, part, Twin(student))[1] for part in parts]
        kappas = [utility.score(y, np.concatenate(seed))['kappa'] for seed in zip(*real, strict=True)]
        assert at_all['kappa'] == pytest.approx(np.mean(kappas))
        made = [[sweep.predicted(own, part, Cell(student, Made('stimuli', seed))) for part in parts] for seed in range(own.seeds)]
        labels = [np.stack([np.concatenate(seed).argmax(1) for seed in seeds]) for seeds in (zip(*real, strict=True), made)]
        gap, interval = utility.gap_interval(y, group, *labels, 2, own.interval_draws)
        row = next(row for row in found['rows'] if (row['method'], row['student']) == ('stimuli', student))
        assert row['gap']['difference'] == pytest.approx(gap) and row['gap']['ci95'] == pytest.approx(interval)
    assert [part['held_out'] for part in found['parts']] == [f'{test.subjects[part.fold]}' for test, part in zip(tests, parts, strict=True)]
    assert len({part['train_windows'] + part['test_windows'] for part in found['parts']}) == 1
    assert any('held out in turn' in note for note in found['notes']) and found['people'] is None


def test_a_finished_sweep_costs_nothing(folded, monkeypatch):
    own, results = folded
    for place, name in ((alternatives, 'timed'), (students, 'fit')):
        monkeypatch.setattr(place, name, lambda *_: pytest.fail('made again'))
    forget()
    assert compare.compare(own, say=quiet) == results


def test_the_main_table_has_a_line_a_student_and_one_of_means(folded, tmp_path):
    own, results = folded
    lines = compare_tables.main_table(results).splitlines()
    rows = [line.split(' | ') for line in lines if line.startswith('| three_subjects')]
    assert [row[1] for row in rows[:-1]] == ['knn', 'random_forest'] and '40 stimuli by mixture' in rows[-1][1]
    found = results['studies']['three_subjects']
    of = {(row['method'], row['student']): row for row in found['rows']}
    for row in rows[:-1]:
        stimuli, control = of['stimuli', row[1]], of['control', row[1]]
        assert row[3].startswith(f'{stimuli["kappa"]:.3f}') and row[4].startswith(f'{control["kappa"]:.3f}')
        assert row[5].startswith(f'{stimuli["gap"]["difference"]:+.3f}')
        assert row[6].startswith(f'{stimuli["against_reference"]["difference"]:+.3f}')
        assert stimuli['against_reference']['difference'] == pytest.approx(stimuli['kappa'] - control['kappa'])
    assert len({line.count('|') for line in lines if line.startswith('|')}) == 1
    [picture] = [path for path in compare_charts.write(results, tmp_path) if path.name == 'main.png']
    assert picture.stat().st_size > 5000


def test_the_overview_has_a_student_a_row_and_a_study_a_column(done, folded):
    """With dashes where a study has no such student, or no stimuli."""
    studies = {**done[1]['studies'], **folded[1]['studies']}
    lines = [line.strip('| ').split(' | ') for line in compare_tables.overview({'studies': studies}).splitlines()]
    assert lines[0] == ['student', *studies] and {len(line) for line in lines} == {len(studies) + 1}
    cells = {line[0]: dict(zip(lines[0], line, strict=True)) for line in lines[2:]}
    with_stimuli = studies['three_subjects']
    for row in with_stimuli['rows']:
        if row['method'] == 'stimuli':
            shown = cells[row['student']]
            assert shown['three_subjects'].startswith(f'{row["kappa"]:.3f} ({row["gap"]["difference"]:+.3f}')
    assert cells['*teacher*'] == {'student': '*teacher*', **{name: f'{study["teacher"]["kappa"]:.3f}' for name, study in studies.items()}}
    assert cells['*stimuli in all, made a second*']['three_subjects'].startswith('40, ')
    assert all(cells[twin['student']]['small'] == compare_tables.NONE for twin in studies['small']['real'])


def test_sweeps_are_joined(done, folded, tmp_path):
    """Whatever their seeds, but not if they have different references; and nothing else passes for a sweep."""
    for name, results in (('one', done[1]), ('other', folded[1])):
        write_whole(tmp_path / name / 'compare.json', json.dumps(results))
    one, other = (str(tmp_path / name) for name in ('one', 'other'))
    both = compare.join([one, other])
    assert both['studies'] == {**done[1]['studies'], **folded[1]['studies']} and len(both['studies']) == 2
    compare.write(both, tmp_path)
    assert {line.split(' | ')[0] for line in (tmp_path / 'main.md').read_text().splitlines() if '*mean;' in line} == {
        f'| {name}' for name in both['studies']}
    for content in ('{', '[]', '{"studies": {}}', json.dumps({**folded[1], 'sweep': {'reference': 'gaussian'}})):
        (tmp_path / 'other' / 'compare.json').write_text(content)
        with pytest.raises(UserError, match='other/compare.json is no finished sweep|other has .*gaussian.*control'):
            compare.join([one, other])


def test_what_excitation_adds_does_not_depend_on_the_reference():
    figure = {'difference': 0.1, 'ci95': [0.05, 0.2], 'p': 0.01, 'p_holm': 0.02}
    turned = {**figure, 'difference': -0.1, 'ci95': [-0.2, -0.05]}
    nothing = {'against_reference': None}
    assert compare_tables.added({'against_reference': figure}, nothing, 'control') == figure
    assert compare_tables.added(nothing, {'against_reference': turned}, 'stimuli') == figure
    assert compare_tables.added(nothing, nothing, 'gan') is None and compare_tables.added(None, nothing, 'control') is None


def test_a_person_who_alone_has_a_class_cannot_be_held_out(tmp_path):
    n = np.arange(40)
    np.savez(tmp_path / 'own.npz', x=np.random.default_rng(0).normal(size=(40, 8, 1)), y=(n < 10) * (n % 2),
             subject=np.repeat(['ann', 'bob', 'cy', 'dee'], 10), split=np.where(n % 10 < 5, 'train', 'test'))
    (tmp_path / 'own.py').write_text(TINY.replace('study.subjects = 6', 'study.name = "own_study"').replace(
        'study.minutes_per_subject = 30', f'study.path = {str(tmp_path / "own.npz")!r}'))
    with pytest.raises(UserError, match="without 'ann' nobody has class"):
        sweep_config.parts(f'{tmp_path / "own.py"}:subjects')


@pytest.mark.slow
def test_several_processes_come_to_the_same(done, copy, study):
    assert timeless(compare.compare(sweep_of(study, copy, privacy=False), processes=2, say=quiet)['studies']['small']['rows']) == timeless(
        done[1]['studies']['small']['rows'])


# ---------------------------------------------------------------------------------------------------- tests


def test_differences_are_found_and_not_made_up(done, study):
    """Against a real twin that is right nine times in ten: itself, one as good, and one that is right seven times in ten."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 900)
    own = sweep_of(study, done[0], students=('a',), reference='same', seeds=3, interval_draws=4000)

    def right(share):
        return [np.eye(2)[np.where(rng.random(900) < share, y, 1 - y)] for _ in range(3)]

    real = right(.9)
    called = {('same', 'a'): real, ('as good', 'a'): right(.9), ('worse', 'a'): right(.7)}
    pooled = compare_figures.Outcome(y, np.arange(900) // 30, ('no', 'yes'), np.eye(2)[y], {'a': real}, called)
    rows, means = compare_figures.tests(pooled, ['same', 'as good', 'worse'], own)
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
    own = sweep_of(study, done[0])
    on = sweep.ground(own, Part(study))
    held = on.real['real'].held
    sources = {**on.real, 'stimuli': on.real['real_soft'], 'control': on.real['real_soft']}
    validation = (on.real['real'].x[held], on.study.part(test=False).y[held])
    networks = students.training_options(0.0, 5)
    trained = comparison.train_all(('knn',), 2, sources, on.test_x, validation, comparison.Cache(None, ''), networks)
    _, mine = sweep.twins(own, Part(study), Twin('knn'))
    np.testing.assert_allclose(mine[0], trained[comparison.Task('knn', 'real', 0)], atol=1e-6)


# ---------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(('change', 'what'), [
    ({'methods': ('gann',)}, "unknown method in methods 'gann'"), ({'students': ('cnn', 'cnn')}, 'names one twice'),
    ({'methods': ()}, 'methods is empty'), ({'more_students': ('lstms',)}, "unknown student in more_students 'lstms'"),
    ({'seeds': 0}, 'seeds is 0'), ({'count': 5}, 'count is 5'),
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
        sweep_config.make_sweep(config, tmp_path)


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
