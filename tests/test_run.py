"""The command, as a user types it: what lies in the folder afterwards, and how it ends on whatever can be wrong.

Nearly all runs are forks of one process (`forked.py`); two are processes of their own.
"""

import hashlib
import json
import os
import pathlib
import pickle
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from forked import ROOT, TINY, Finished, Runner

from neurostim import data, report
from neurostim import teacher as teachers
from neurostim.evaluation import association, utility

CONFIGS = ROOT / 'experiments' / 'configs'
OWN = ('--config.teacher.models=mlp', '--config.teacher.novices=()', '--config.teacher.training.steps=40', '--config.teacher.flow.steps=20',
       '--config.excite.count=100', '--config.students=knn', '--config.evaluate.seeds=1', '--config.evaluate.interval_draws=50',
       '--config.evaluate.privacy=False')


@pytest.fixture(scope='module')
def runner(tmp_path_factory):
    runner = Runner(tmp_path_factory.mktemp('scratch'))
    yield runner
    runner.close()


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """--config of a small simulated study."""
    path = tmp_path_factory.mktemp('config') / 'tiny.py'
    path.write_text(TINY)
    return f'--config={path}'


@pytest.fixture(scope='module')
def done(runner, tiny, tmp_path_factory) -> tuple[pathlib.Path, Finished]:
    """(folder, how the run ended) of all phases in one go; nobody may change it."""
    folder = tmp_path_factory.mktemp('runs') / 'done'
    return folder, runner.run(tiny, f'--workdir={folder}')


@pytest.fixture
def copy(done, tmp_path):
    return shutil.copytree(done[0], tmp_path / 'copy')


def results_of(folder):
    return json.loads((folder / 'results.json').read_text())


def timeless(results):
    return {**results, 'stimuli': {k: v for k, v in results['stimuli'].items() if k not in ('seconds', 'per_second')}}


def snapshot(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


def assert_refused(finished, message):
    """Status 2 and one line, which starts `error:`; `message` is a regular expression."""
    assert finished.status == 2, finished
    lines = finished.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith('error: '), finished.err
    assert re.search(message, lines[0]), lines[0]
    assert len(lines[0]) > 20 and 'Traceback' not in finished.out + finished.err


# ---------------------------------------------------------------------------------------------------- a whole run

FIGURES = {'accuracy': float, 'kappa': float}
RESULTS = {
    'study': {'name': str, 'train_windows': int, 'test_windows': int, 'subjects': int, 'classes': [str]},
    'teacher': {'models': [str], **FIGURES},
    'stimuli': {'count': int, 'method': str, 'seconds': float, 'per_second': float, 'accepted_fraction': float, 'class_counts': [int],
                'sha256': str},
    'students': [{'name': str, 'seeds': int, 'real': FIGURES, 'stimuli': FIGURES, 'control': FIGURES, 'kappa_gap': float,
                  'kappa_gap_ci95': [float]}],
    'privacy': None,
}
BEYOND = {'notes', 'note', 'kappa_sd', 'surplus', 'as_drawn', 'advice', *utility.SECONDARY}  # beside what scripts rely on


def assert_matches(value, schema, where='results'):
    if isinstance(schema, dict):
        assert isinstance(value, dict) and schema.keys() <= value.keys() <= schema.keys() | BEYOND, (where, sorted(value))
        for key, inner in schema.items():
            assert_matches(value[key], inner, f'{where}.{key}')
    elif isinstance(schema, list):
        assert isinstance(value, list) and value, where
        for index, item in enumerate(value):
            assert_matches(item, schema[0], f'{where}[{index}]')
    elif schema is None:
        assert value is None, where
    else:
        assert type(value) in ((int, float) if schema is float else (schema,)), (where, value)


def test_a_run_ends_well_and_quietly(done):
    folder, finished = done
    assert finished.status == 0, finished.err
    assert all(re.match('(excite|evaluate): ', line) for line in finished.err.splitlines()), finished.err  # progress, and nothing else
    assert finished.out.splitlines()[-1] == f'report: {folder / "report.html"}'
    assert report.table(results_of(folder)) in finished.out
    assert {path.name for path in folder.iterdir()} == {
        'results.json', 'report.html', 'metrics.jsonl', 'teacher', 'stimuli', 'predictions', 'release'}
    lines = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    assert [line['phase'] for line in lines] == sorted((line['phase'] for line in lines), key=('train', 'excite', 'evaluate').index)
    assert {line['phase'] for line in lines} == {'train', 'excite', 'evaluate'}


def test_results_have_the_shape_that_scripts_rely_on(done):
    results = results_of(done[0])
    assert_matches(results, RESULTS)
    assert [row['name'] for row in results['students']] == ['mlp', 'knn'] and results['teacher']['models'] == ['mlp']
    for row in results['students']:
        low, high = row['kappa_gap_ci95']
        assert low <= high and row['seeds'] == 1
        assert row['kappa_gap'] == pytest.approx(row['real']['kappa'] - row['stimuli']['kappa'])
    stimuli = results['stimuli']
    assert stimuli['count'] == sum(stimuli['class_counts']) == 300 and stimuli['method'] == 'mixture'
    assert stimuli['per_second'] == pytest.approx(300 / stimuli['seconds']) and stimuli['accepted_fraction'] == 1


def test_figures_are_those_of_the_saved_teacher(done):
    results, teacher = results_of(done[0]), teachers.load(done[0] / 'teacher')
    study = data.load('breathing', seed=0, subjects=6, minutes_per_subject=30)
    counts = {'train_windows': 120, 'test_windows': 60, 'subjects': 6}
    assert results['study'] == {'name': 'breathing', **counts, 'classes': ['normal', 'apnea']}
    expected = utility.score(study.y[study.test], teacher.probabilities(study.x[study.test]))
    assert {name: results['teacher'][name] for name in expected} == pytest.approx(expected, abs=1e-3)


def test_stimuli_are_a_tfds_dataset(done):
    results = results_of(done[0])
    source = tfds.builder_from_directory(str(done[0] / 'stimuli')).as_data_source('train')
    rows = [source[i] for i in range(len(source))]
    x = np.stack([row['x'] for row in rows])
    assert x.shape == (300, 60, 1) and x.dtype == np.float32
    assert hashlib.sha256(x.astype('<f4').tobytes()).hexdigest() == results['stimuli']['sha256']
    labels, beliefs = np.array([row['label'] for row in rows]), np.stack([row['probabilities'] for row in rows])
    assert np.bincount(labels).tolist() == results['stimuli']['class_counts']
    np.testing.assert_array_equal(labels, beliefs.argmax(1))
    np.testing.assert_allclose(beliefs, teachers.load(done[0] / 'teacher').probabilities(x), atol=1e-4)


def test_the_release_holds_stimuli_and_a_card(done):
    folder = done[0] / 'release'
    released, made = (tfds.builder_from_directory(str(f)).as_data_source('train') for f in (folder / 'dataset', done[0] / 'stimuli'))
    assert len(released) == 300 and np.array_equal(released[7]['x'], made[7]['x'])
    assert sorted(path.name for path in folder.iterdir()) == ['README.md', 'dataset']
    assert '**Not measured.**' in (folder / 'README.md').read_text()  # privacy was not evaluated


def test_the_report_needs_no_network(done):
    page = (done[0] / 'report.html').read_text()
    assert len(page) > 10_000 and 'breathing' in page and page.rstrip().endswith('</html>')
    assert not re.findall(r'''(?:src|href|action|data|poster|srcset)\s*=\s*["']?(?!#|data:)[^"'\s>]+''', page)
    assert not re.findall(r'''url\(\s*["']?(?!#|data:)''', page) and '@import' not in page and 'fetch(' not in page
    assert all(address.startswith('http://www.w3.org/') for address in re.findall(r'https?://[^\s"\'<]+', page))  # names of formats


# ---------------------------------------------------------------------------------------------------- phases, again, changed


def test_phases_speak_through_the_folder_alone(done, runner, tiny, tmp_path):
    """One by one they come to the figures of one go, wherever the folder is moved in between."""
    folder = tmp_path / 'first'
    for phase in ('train', 'excite', 'evaluate'):
        finished = runner.run(tiny, f'--workdir={folder}', f'--phase={phase}')
        assert finished.status == 0, finished.err
        folder = folder.rename(tmp_path / f'after-{phase}')
    assert timeless(results_of(folder)) == timeless(results_of(done[0]))


def test_what_is_done_is_not_done_again(done, runner, tiny, copy):
    before = {path: path.stat().st_mtime_ns for part in ('teacher', 'predictions') for path in (copy / part).rglob('*')}
    shards = {path: path.stat().st_mtime_ns for path in (copy / 'stimuli').glob('*.array_record*')}
    finished = runner.run(tiny, f'--workdir={copy}')
    assert finished.status == 0 and 'is complete' in finished.out
    assert all(path.stat().st_mtime_ns == time for path, time in {**before, **shards}.items()) and shards
    assert results_of(copy) == results_of(done[0])


@pytest.mark.parametrize('change,message', [
    ('--config.seed=1', r'a teacher of another config \(seed: 0 -> 1\).*another --workdir'),
    ('--config.teacher.models=cnn', r'models: .*mlp.* -> .*cnn'), ('--config.teacher.training.steps=41', 'training.steps: .* -> 41'),
    ('--config.study.subjects=7', 'study.subjects: .* -> 7'), ('--config.excite.count=301', 'count: 300 -> 301'),
    ('--config.excite.target.name=beta', 'target.name: "dirichlet" -> "beta"')])
def test_a_changed_config_is_refused_with_what_changed(done, runner, tiny, change, message):
    before = snapshot(done[0])
    assert_refused(runner.run(tiny, f'--workdir={done[0]}', change), message)
    assert snapshot(done[0]) == before


@pytest.mark.parametrize('config,message', [
    (['own_study', '--config.study.path=/nowhere.npz'], 'learnt from another study .*own_study'), (['demo'], 'learnt from another study'),
    (['tiny', '--config.seed=1'], 'seed: 0 -> 1'), (['tiny', '--config.study.minutes_per_subject=31'], 'minutes_per_subject: 30 -> 31')])
def test_a_teacher_of_another_study_is_refused(done, runner, tiny, config, message):
    """Another seed holds out other people: the teacher would be tested on what it has learnt."""
    before = snapshot(done[0])
    name = tiny if config[0] == 'tiny' else f'--config={CONFIGS / config[0]}.py'
    assert_refused(runner.run(name, f'--workdir={done[0]}', '--phase=evaluate', *config[1:]), message)
    assert snapshot(done[0]) == before


def test_other_students_need_no_other_folder(runner, tiny, copy, done):
    finished = runner.run(tiny, f'--workdir={copy}', '--phase=evaluate', '--config.students=naive_bayes')
    assert finished.status == 0, finished.err
    [row] = results_of(copy)['students']
    assert row['name'] == 'naive_bayes' and results_of(copy)['stimuli'] == results_of(done[0])['stimuli']


@pytest.mark.slow
def test_kills_lose_nothing(done, runner, tiny, tmp_path):
    """Killed at random moments of any phase and started again, a run comes to the figures of an uninterrupted one."""
    rng, folder, kills = np.random.default_rng(0), tmp_path / 'killed', 0
    for attempt in range(12):
        limit = rng.uniform(0.05, 0.5 + 0.6 * max(0, attempt - 1))
        finished = runner.run(tiny, f'--workdir={folder}', kill_after=limit)
        if (folder / 'results.json').exists():
            assert_matches(results_of(folder), RESULTS)
        if finished.status == 0:
            break
        assert finished.status == -9, finished.err
        kills += 1
    last = runner.run(tiny, f'--workdir={folder}')
    assert last.status == 0, last.err
    assert kills >= 2 and timeless(results_of(folder)) == timeless(results_of(done[0]))
    kept, expected = ({name for name in snapshot(where) if '/checkpoint/' not in name} for where in (folder, done[0]))
    assert kept == expected  # no temporary file stays


# ---------------------------------------------------------------------------------------------------- a user's own study


def arrays(**replaced):
    rng = np.random.default_rng(0)
    y = np.tile([0, 1, 2], 40)
    made = {'x': rng.normal(size=(120, 6)) + 2 * np.eye(6)[y], 'y': y, 'subject': np.repeat(np.arange(6), 20), **replaced}
    return {key: value for key, value in made.items() if value is not None}


def own(path, folder, *arguments):
    return (f'--config={CONFIGS / "own_study.py"}', f'--config.study.path={path}', f'--workdir={folder}', *OWN, *arguments)


@pytest.mark.slow
def test_inhibition_and_shadows_from_the_command_line(runner, tiny, tmp_path):
    folder = tmp_path / 'anonymous'
    small = ('--config.study.subjects=8', '--config.study.minutes_per_subject=60', '--config.students=knn', '--config.excite.count=64')
    finished = runner.run(
        tiny, f'--workdir={folder}', *small, '--config.teacher.identity.models=mlp', '--config.teacher.identity.steps=20',
        '--config.excite.weights.inhibit=1.0', '--config.excite.candidates=3', '--config.evaluate.privacy=True')
    assert finished.status == 0, finished
    privacy = results_of(folder)['privacy']
    inhibited = [a for a in privacy['association']['attackers'] if a['inhibited']]
    others = [a['name'] for a in privacy['association']['attackers'] if not a['inhibited']]
    assert [a['name'] for a in inhibited] == ['mlp'] and others == list(association.ATTACKERS)
    assert privacy['membership']['note'] == 'not attacked: evaluate.shadows is 0'
    card = (folder / 'release' / 'README.md').read_text()
    assert '(inhibited)' not in card and 'learned_features' in card
    refused = runner.run(tiny, f'--workdir={folder}', *small, '--config.teacher.identity.models=gru', '--phase=train')
    assert_refused(refused, 'identity')


@pytest.mark.slow
def test_an_own_study_from_its_file_to_results(runner, tmp_path):
    """The order of phases is enforced; excitation needs no recording; a file that goes bad later leaves the results as they are. Of three
    people one is held out, from whom there is no interval."""
    path, folder = tmp_path / 'mine.npz', tmp_path / 'run'
    people = np.repeat(['a', 'b', 'c'], 40)
    np.savez(path, **arrays(subject=people))
    for phase in ('excite', 'evaluate'):
        assert_refused(runner.run(*own(path, folder, f'--phase={phase}')), 'no teacher in .*run --phase=train')
        assert not folder.exists()
    finished = runner.run(*own(path, folder, '--phase=train'))
    # Two ways of the flow, of matched draws too, three of the mixture and of leaves; marginals, targets; then, if the teacher that learnt
    # from draws is asked, the best again beside that one's ways.
    again = 3 if re.search("draws by '(flow|matched)'", finished.out) else 4
    tried = 12 + again * ('kept as it was: validation loss' not in finished.out)
    assert finished.status == 0 and len(re.findall('of quick students', finished.out)) == tried
    assert re.search("draws by '.*' are learnt from beside 80 windows", finished.out)
    trained = snapshot(folder)
    assert_refused(runner.run(*own(path, folder, '--phase=evaluate')), 'no stimuli in .*run --phase=excite')
    assert snapshot(folder) == trained
    content = path.read_bytes()
    path.unlink()
    assert runner.run(*own(path, folder, '--phase=excite')).status == 0
    excited = snapshot(folder)
    assert_refused(runner.run(*own(path, folder, '--phase=evaluate')), 'mine.npz: there is no such file')
    assert snapshot(folder) == excited
    path.write_bytes(content)
    finished = runner.run(*own(path, folder))
    assert finished.status == 0, finished.err
    assert_matches(results_of(folder), {**RESULTS, 'students': [{**RESULTS['students'][0], 'kappa_gap_ci95': None}]})
    assert results_of(folder)['study']['name'] == 'mine' and results_of(folder)['students'][0]['note'].startswith('no interval')
    assert 'no interval' in (folder / 'report.html').read_text()
    finished = snapshot(folder)
    path.write_bytes(content[:1000])
    assert_refused(runner.run(*own(path, folder, '--phase=evaluate')), 'mine.npz: damaged')
    np.savez(path, **arrays(x=arrays()['x'][:90], y=arrays()['y'][:90], subject=people[:90]))
    assert_refused(runner.run(*own(path, folder, '--phase=evaluate')), "the teacher .* learnt study 'mine'")
    np.savez(path, **arrays(subject=np.roll(people, 40)))  # as many of all, but others are held out
    assert_refused(runner.run(*own(path, folder, '--phase=evaluate')), "labels, people or split of 'mine' have changed")
    assert snapshot(folder) == finished


def test_a_strange_study_needs_no_tuning(runner, tmp_path):
    """Long windows in odd units, a dead channel, a rare class, two people: it ends, and stimuli know what the windows are like."""
    rng, y = np.random.default_rng(0), np.arange(80) % 2
    y[[5, 45]] = 2
    wave = np.sin(np.arange(1500) / np.where(y, 3, 9)[:, None] + rng.uniform(0, 6, (80, 1)))
    x = np.stack([2e-6 * wave + 1e-7 * rng.normal(size=wave.shape), np.full(wave.shape, 32768.0)], -1)
    path, folder = tmp_path / 'strange.npz', tmp_path / 'run'
    np.savez(path, x=x, y=y, subject=np.repeat(['a', 'b'], 40))
    quick = ('--config.excite.count=60', '--config.students=naive_bayes', '--config.teacher.rehearse=False')
    finished = runner.run(*own(path, folder, *quick))
    assert finished.status == 0, finished.err
    source = tfds.builder_from_directory(str(folder / 'stimuli')).as_data_source('train')
    made = np.stack([source[i]['x'] for i in range(60)])
    assert results_of(folder)['stimuli']['method'] == 'modulated'  # patches of 47 samples and two channels are too wide for the flow
    assert 0.5 < made[..., 0].std() / x[..., 0].std() < 2 and np.abs(made[..., 1] / 32768 - 1).max() < 0.01


X = arrays()['x']


@pytest.mark.parametrize('replaced,message', [
    ({'x': np.where(np.arange(120)[:, None] == 7, np.nan, X)}, 'finite'), ({'x': np.where(X > 3, np.inf, X)}, 'finite'),
    ({'x': X[:100]}, "'y' has shape .*100 windows"), ({'subject': np.arange(5)}, "'subject' has shape"),
    ({'subject': np.zeros(120, int)}, 'one subject only'), ({'y': np.zeros(120, int)}, 'class'),
    ({'y': np.tile([0, 2], 60)}, 'class'), ({'y': np.tile([-1, 1], 60)}, "'y'"), ({'y': np.tile([0.5, 1.0], 60)}, "'y'"),
    ({'y': None}, "'y' is missing"), ({'x': X.astype(object)}, 'Python objects'),
    ({'split': np.tile(['train', 'test', 'tset'], 40)}, 'tset'), ({'split': np.tile(['train'], 120)}, 'test'),
], ids=['nan', 'inf', 'short x', 'short subject', 'one subject', 'one class', 'gap in labels', 'negative label', 'float labels', 'no y',
        'pickled', 'misspelt split', 'nothing held out'])
def test_bad_recordings_are_refused(runner, tmp_path, replaced, message):
    np.savez(tmp_path / 'bad.npz', **arrays(**replaced))
    assert_refused(runner.run(*own(tmp_path / 'bad.npz', tmp_path / 'run')), f'bad.npz: .*{message}')
    assert [path.name for path in tmp_path.iterdir()] == ['bad.npz']


@pytest.mark.parametrize('damage', [lambda content: content[: len(content) // 2], lambda content: b'', lambda content: b'no zip at all',
                                    lambda content: pickle.dumps({'x': 1})], ids=['cut', 'empty', 'text', 'pickle'])
def test_damaged_files_are_refused(runner, tmp_path, damage):
    path = tmp_path / 'bad.npz'
    np.savez(path, **arrays())
    path.write_bytes(damage(path.read_bytes()))
    assert_refused(runner.run(*own(path, tmp_path / 'run')), 'bad.npz: damaged')
    assert [path.name for path in tmp_path.iterdir()] == ['bad.npz']


@pytest.mark.parametrize('config', ['apnea_respiration', 'apnea_heart_rate', 'sleep_features', 'mnist', 'own_study'])
def test_missing_recordings_are_refused(runner, tmp_path, config):
    name = f'--config={CONFIGS / config}.py'
    assert_refused(runner.run(name, f'--workdir={tmp_path / "run"}'), '--config.study.path')
    assert_refused(runner.run(name, f'--workdir={tmp_path / "run"}', f'--config.study.path={tmp_path / "none"}'), str(tmp_path / 'none'))
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------------------------------- the command line


@pytest.mark.parametrize('arguments,message', [
    ('--config.excite.cuont=3', '''cuont.*Did you mean "count"'''), ('--config.nothing=3', "no such field.*'nothing'"),
    ('--config.excite.count=many', 'config.excite.count=many.*many'), ('--config.excite.count=2.5', 'config.excite.count=2.5'),
    ('--config.seed=one', 'config.seed=one'), ('--config.excite.accept=perhaps', 'config.excite.accept'),
    ('--config.study=mnist', 'config.study=mnist'), ('--config.seed=-1', 'seed is -1'),
    ('--config.study.name=mnits', "unknown study.name 'mnits': choose one of breathing"), ('--config.study.path=/x', "study.path is '/x'"),
    ('--config.study.subjects=1', "'subjects' is 1"),
    ('--config.teacher.models=cnnn', "unknown model in teacher.models 'cnnn': choose one of mlp"),
    ('--config.teacher.models=()', 'teacher.models is empty'), ('--config.teacher.models=published', "model 'published' takes images"),
    ('--config.teacher.training.learning_rate=nan', 'teacher.training.learning_rate is nan'),
    ('--config.teacher.training.steps=0', 'teacher.training.steps is 0'),
    ('--config.teacher.training.optimiser=sgd', "unknown optimiser in teacher.training.optimiser 'sgd': choose one of adamw, muon"),
    ('--config.teacher.flow.optimiser=sgd', 'teacher.flow.optimiser'), ('--config.student_optimiser=sgd', 'student_optimiser'),
    ('--config.students=tree', "unknown student in students 'tree': choose one of mlp"),
    ('--config.students=(3,)', 'unknown student in students 3'),
    ("--config.students=('knn','knn')", 'students names one twice'), ('--config.student_steps=0', 'student_steps is 0'),
    ('--config.excite.method=magic', "unknown excite.method 'magic': choose one of auto"), ('--config.excite.count=0', 'excite.count is 0'),
    ('--config.excite.learning_rate=nan', 'excite.learning_rate is nan'), ('--config.excite.batch=-2', 'excite.batch is -2'),
    ('--config.excite.target.name=hope', "unknown excite.target.name 'hope'"), ('--config.excite.target.low=2.0', 'excite.target.low'),
    ('--config.excite.target.classes=all', "unknown excite.target.classes 'all'"),
    ('--config.evaluate.seeds=0', 'evaluate.seeds is 0'), ('--config.evaluate.interval_draws=0', 'evaluate.interval_draws is 0'),
    ('--phase=exite', "unknown phase 'exite': choose 'all' or a comma list of train"), ('--phase=', 'unknown phase'),
    ('--phase=train,evaulate', "unknown phase 'evaulate'"), ('--wrokdir=x', 'wrokdir'), ('loose', "unexpected argument 'loose'"),
])
def test_bad_words_are_refused_before_any_work(runner, tiny, done, tmp_path, arguments, message):
    """In a fresh folder, where nothing appears, as in one that holds a run, where nothing changes."""
    fresh = tmp_path / 'run'
    assert_refused(runner.run(tiny, f'--workdir={fresh}', arguments), message)
    assert not fresh.exists()
    if not re.search('study|teacher|seed=', arguments):  # those contradict the finished run as well
        before = snapshot(done[0])
        assert_refused(runner.run(tiny, f'--workdir={done[0]}', arguments), message)
        assert snapshot(done[0]) == before


def test_an_experiment_needs_a_config_and_a_folder(runner, tiny, tmp_path):
    assert_refused(runner.run(tiny), '--workdir')
    assert_refused(runner.run(f'--workdir={tmp_path / "run"}'), '--config')
    assert_refused(runner.run('--config=experiments/configs/nope.py', f'--workdir={tmp_path / "run"}'), 'nope.py.*No such file')
    for text in ('def get_config(:', 'import nothing_of_that_name', 'x = 1', 'def get_config():\n    return 1 / 0'):
        (tmp_path / 'broken.py').write_text(text)
        assert_refused(runner.run(f'--config={tmp_path / "broken.py"}', f'--workdir={tmp_path / "run"}'), '.')
    assert not (tmp_path / 'run').exists()


def test_a_folder_that_cannot_be_written_to_is_refused_first(runner, tiny, tmp_path):
    (tmp_path / 'file').write_text('mine')
    for place in (tmp_path / 'file', tmp_path / 'file' / 'run', '/dev/null/run'):
        assert_refused(runner.run(tiny, f'--workdir={place}'), 'no folder that can be written to')
    assert (tmp_path / 'file').read_text() == 'mine'
    if os.getuid():
        (tmp_path / 'locked').mkdir(mode=0o500)
        assert_refused(runner.run(tiny, f'--workdir={tmp_path / "locked" / "run"}'), 'no folder that can be written to')


@pytest.mark.parametrize('damage,phase,message', [
    ('teacher/teacher.json', 'excite', 'cannot be read.*--phase=train'),
    ('teacher/study.json', 'evaluate', 'cannot be read.*--phase=train'),
    ('teacher/config.json', 'evaluate', 'cannot be read.*--phase=train'), ('stimuli/manifest.json', 'evaluate', 'damaged.*--phase=excite'),
    ('stimuli/stimuli-train.array_record-00000-of-00001', 'evaluate', 'damaged.*--phase=excite'),
    ('stimuli', 'evaluate', 'no stimuli.*--phase=excite'), ('teacher', 'excite', 'no teacher.*--phase=train')])
def test_a_damaged_folder_is_refused(runner, tiny, copy, damage, phase, message):
    """With the phase that mends it; what is whole stays."""
    path = copy / damage
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before = snapshot(copy)
    assert_refused(runner.run(tiny, f'--workdir={copy}', f'--phase={phase}'), message)
    assert snapshot(copy) == before


def test_stimuli_of_another_teacher_are_refused(runner, tiny, copy):
    """Who deletes a teacher and trains another one has to excite anew: stimuli would tell what that other one had learnt."""
    manifest = json.loads((copy / 'stimuli' / 'manifest.json').read_text())
    manifest['manifest']['teacher'] = 'f' * 64
    (copy / 'stimuli' / 'manifest.json').write_text(json.dumps(manifest))
    before = snapshot(copy)
    assert_refused(runner.run(tiny, f'--workdir={copy}', '--phase=evaluate'), 'another teacher.*--phase=excite')
    assert snapshot(copy) == before


def test_sifted_stimuli_that_do_not_say_what_surprised_are_refused(runner, tiny, copy):
    """As an earlier version wrote them."""
    path = copy / 'stimuli' / 'manifest.json'
    manifest = json.loads(path.read_text())
    manifest['manifest']['excite']['surplus'] = 4
    path.write_text(json.dumps(manifest))
    assert_refused(runner.run(tiny, f'--workdir={copy}', '--phase=evaluate'), 'stimuli holds sifted stimuli of an earlier version.*excite')


def test_a_damaged_shard_is_mended(runner, tiny, copy):
    [shard] = (copy / 'stimuli').glob('*.array_record*')
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-5])
    assert runner.run(tiny, f'--workdir={copy}', '--phase=excite').status == 0
    assert shard.read_bytes() == whole


# ---------------------------------------------------------------------------------------------------- processes of their own


def fresh_process(*arguments):
    environment = {key: value for key, value in os.environ.items() if key not in ('NEUROSTIM_DATA_DIR', 'JAX_DISABLE_MOST_OPTIMIZATIONS')}
    finished = subprocess.run([sys.executable, '-m', 'experiments.run', *arguments], cwd=ROOT, env=environment, capture_output=True,
                              text=True, timeout=300)
    return Finished(finished.returncode, finished.stdout, finished.stderr, 0.0)


def test_a_process_of_its_own_is_as_quiet(tiny, copy, done):
    """What forks show holds for the command itself: neither JAX nor orbax nor absl has anything to say on standard error."""
    finished = fresh_process(tiny, f'--workdir={copy}', '--phase=train,excite')
    assert finished.status == 0 and 'is complete' in finished.out
    assert all(line.startswith('excite: ') for line in finished.err.splitlines()), finished.err
    assert snapshot(copy / 'teacher') == snapshot(done[0] / 'teacher')


def test_a_process_of_its_own_refuses_alike(tmp_path):
    finished = fresh_process('--config=experiments/configs/breathing.py', f'--workdir={tmp_path / "run"}', '--config.excite.cuont=3')
    assert_refused(finished, 'Did you mean "count"')
    assert not list(tmp_path.iterdir())
