"""Studies from recordings: counts on the real ones where they are at hand, every rule and every error on small made-up ones."""

import gzip
import os
import pathlib
import shutil
import struct

import numpy as np
import pytest
import wfdb

from neurostim.data import SOURCES, apnea_ecg, apnea_heart_rate, apnea_respiration, load, prepared, sleep_features
from neurostim.errors import UserError

REAL = pathlib.Path(os.environ.get('NEUROSTIM_DATA_DIR') or pathlib.Path(__file__).parents[2] / 'shared/data')
pytestmark = pytest.mark.filterwarnings('ignore::DeprecationWarning:wfdb')
needs_recordings = pytest.mark.skipif(not REAL.is_dir(), reason=f'no recordings: NEUROSTIM_DATA_DIR is not set and {REAL} does not exist')


@pytest.fixture(scope='module', autouse=True)
def cache(tmp_path_factory):
    """A cache folder of the tests' own."""
    folder = tmp_path_factory.mktemp('cache')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('NEUROSTIM_CACHE_DIR', str(folder))
        yield folder


def files_in(folder):
    return sorted(path for path in folder.rglob('*') if path.is_file())


def assert_groups_whole(study):
    assert not set(study.group[study.test]) & set(study.group[~study.test])


# The registry

@pytest.mark.parametrize('name', [name for name in SOURCES if name not in ('breathing', 'digits')])
def test_without_a_path_says_how_to_give_one(name, monkeypatch):
    monkeypatch.delenv('NEUROSTIM_DATA_DIR', raising=False)
    with pytest.raises(UserError, match=r'--config\.study\.path='):
        load(name)


@pytest.mark.parametrize('name', [name for name in SOURCES if name not in ('breathing', 'digits')])
def test_folder_without_the_files_is_refused(name, tmp_path):
    for path in (tmp_path, tmp_path / 'absent'):
        with pytest.raises(UserError, match=str(tmp_path)):
            load(name, path=path)


def test_unknown_names_list_the_choices():
    with pytest.raises(UserError, match="'apnea': choose one of breathing, apnea_respiration"):
        load('apnea')
    with pytest.raises(UserError, match="'chanels': choose one of channels, split"):
        load('apnea_respiration', chanels=('SpO2',))
    with pytest.raises(UserError, match='reads no files'):
        load('digits', path='somewhere')


def test_data_folder_from_the_environment(monkeypatch, mnist):
    monkeypatch.setenv('NEUROSTIM_DATA_DIR', str(mnist.parent))
    assert len(load('mnist').x) == 400
    monkeypatch.setenv('NEUROSTIM_DATA_DIR', str(mnist))
    assert len(load('mnist', path='').x) == 400


# Images

def write_idx(path, array):
    data = bytes((0, 0, 8, array.ndim)) + struct.pack(f'>{array.ndim}I', *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == '.gz' else data)


@pytest.fixture
def mnist(tmp_path):
    """A small MNIST of 300 and 100 images, one part gzipped and one not."""
    folder = tmp_path / 'mnist'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part, count, suffix in (('train', 300, '.gz'), ('t10k', 100, '')):
        write_idx(folder / f'{part}-images-idx3-ubyte{suffix}', rng.integers(0, 256, (count, 28, 28), np.uint8))
        write_idx(folder / f'{part}-labels-idx1-ubyte{suffix}', (np.arange(count) % 10).astype(np.uint8))
    return folder


def test_small_mnist(mnist):
    study = load('mnist', path=mnist)
    assert study.x.shape == (400, 28, 28, 1) and study.test.sum() == 100 and study.kind == 'images'
    assert study.x.min() == 0 and study.x.max() == 1
    assert_groups_whole(study)


@pytest.mark.parametrize('file, damage, message', [
    ('train-images-idx3-ubyte.gz', lambda data: data[:-100], 'cannot be read'),
    ('train-images-idx3-ubyte.gz', lambda data: b'not gzip at all', 'cannot be read'),
    ('t10k-images-idx3-ubyte', lambda data: data[:-1], 'announces 78400 values .* has 78399'),
    ('t10k-images-idx3-ubyte', lambda data: data + b'x', 'announces'),
    ('t10k-images-idx3-ubyte', lambda data: b'\0\0\x0d\3' + data[4:], 'does not begin as an idx file'),
    ('t10k-labels-idx1-ubyte', lambda data: data[:5], 'does not begin as an idx file'),
    ('t10k-labels-idx1-ubyte', lambda data: data[:4] + struct.pack('>I', 99) + data[8:-1], '99 labels'),
    ('t10k-labels-idx1-ubyte', lambda data: data[:-1] + b'\x0b', 'unknown class 11'),
    ('t10k-labels-idx1-ubyte', None, 'missing'),
])
def test_damaged_mnist_is_refused(mnist, file, damage, message):
    data = (mnist / file).read_bytes()
    (mnist / file).unlink()
    if damage:
        (mnist / file).write_bytes(damage(data))
    with pytest.raises(UserError, match=message):
        load('mnist', path=mnist)


def test_digits():
    study = load('digits')
    assert study.x.shape == (1797, 8, 8, 1) and study.test.sum() == 597 and len(study.classes) == 10
    assert study.x.min() == 0 and study.x.max() == 1
    assert_groups_whole(study)


@needs_recordings
def test_real_mnist():
    study = load('mnist', path=REAL)
    assert (len(study.part(test=False).x), len(study.part(test=True).x)) == (60000, 10000)
    assert_groups_whole(study)


# Sleep features

@pytest.fixture
def sleep(tmp_path):
    """A function that writes a small study.npz of 4 people and two nights of 30 epochs, with arrays replaced."""
    rng = np.random.default_rng(0)
    night = np.repeat(np.arange(8), 30)
    x = rng.uniform(0.5, 1.5, (240, 18))
    x[:, sleep_features.LOG_POWERS] = np.log(10 ** rng.uniform(-13, -9, (240, 12)) + 1e-10)
    arrays = {'x': x.astype(np.float32), 'y': np.arange(240) % 5, 'subject': night // 2, 'night': night % 2 + 1,
              'classes': np.array(['W', 'N1', 'N2', 'N3', 'REM'])}

    def write(**replaced):
        np.savez(tmp_path / 'study.npz', **{key: value for key, value in (arrays | replaced).items() if value is not None})
        return tmp_path

    return write


def test_sleep_context_stays_within_a_night(sleep):
    plain = load('sleep_features', path=sleep(), context=0, held_out=(1,))
    study = load('sleep_features', path=sleep(), context=5, held_out=(1,))
    assert study.shape == (11, 18) and plain.shape == (18,)
    np.testing.assert_array_equal(study.x[:, 5], plain.x)
    np.testing.assert_array_equal(study.x[30, :6], plain.x[[30] * 6])  # the first epoch of the second night
    np.testing.assert_array_equal(study.x[29, 5:], plain.x[[29] * 6])
    np.testing.assert_array_equal(study.x[10], plain.x[5:16])
    assert set(study.subject[study.test]) == {1} and len(set(study.group)) == 8
    assert_groups_whole(study)


def test_sleep_floor_is_undone(sleep):
    power = np.geomspace(1e-13, 1e-8, 50)
    x = np.ones((50, 18))
    x[:, 0] = np.log(power + 1e-10)
    np.testing.assert_allclose(sleep_features.remove_floor(x)[:, 0], np.log(power), atol=1e-3)
    np.testing.assert_array_equal(sleep_features.remove_floor(x)[:, 5], 1)
    shift = np.zeros(18, np.float32)
    shift[5] = 3  # a ratio of every epoch: a constant of the night, which its baseline takes away
    first = load('sleep_features', path=sleep(), held_out=(1,))
    moved = load('sleep_features', path=sleep(x=np.load(sleep() / 'study.npz')['x'] + shift), held_out=(1,))
    np.testing.assert_allclose(first.x, moved.x, atol=1e-5)


@pytest.mark.parametrize('replaced, options, message', [
    ({'night': None}, {}, "'night' is missing"),
    ({'y': np.zeros(9, int)}, {}, 'shapes'),
    ({'x': np.zeros((240, 17))}, {}, r'not \[n, 18\]'),
    ({'x': np.full((240, 18), np.nan)}, {}, 'no log powers'),
    ({'x': np.zeros((240, 18)) - 99}, {}, 'no log powers'),
    ({'y': np.arange(240) % 6}, {}, 'unknown class 5'),
    ({'subject': np.arange(240) % 4}, {}, 'do not follow each other'),
    ({}, {'context': -1}, 'study.context is -1'),
    ({}, {'context': 2.0}, 'study.context is 2.0'),
    ({}, {'held_out': (9,)}, 'held_out: 9'),
    ({}, {'held_out': 1}, 'held_out is 1'),
    ({}, {'held_out': (0, 1, 2, 3)}, 'everybody'),
    ({}, {'held_out': ()}, 'test part is empty'),
    ({}, {'baseline': 'no'}, "study.baseline 'no'"),
])
def test_bad_sleep_features_are_refused(sleep, replaced, options, message):
    with pytest.raises(UserError, match=message):
        load('sleep_features', path=sleep(**replaced), **{'held_out': (1,), **options})


@needs_recordings
def test_real_sleep_features():
    study = load('sleep_features', path=REAL)
    assert study.x.shape == (52647, 11, 18)
    assert np.bincount(study.y).tolist() == [35994, 1643, 8462, 3025, 3523]
    assert len(study.subjects) == 10 and len(set(study.group)) == 20 and set(study.subject[study.test]) == {2, 5, 8}
    assert sorted(np.unique(study.group, return_counts=True)[1])[0] == 951
    assert_groups_whole(study)


# Apnea-ECG: respiration

MINUTES = 95


def write_respiration(folder, rate_hz=1, minutes=MINUTES, labels=None, people=apnea_respiration.PEOPLE):
    """Eight records of breathing at 0.231 Hz with a saturation that drops out, labelled in turns of five minutes."""
    seconds = np.arange(60 * minutes * rate_hz) / rate_hz
    labels = np.arange(minutes) // 5 % 2 if labels is None else labels
    for i, person in enumerate(people):
        breath = np.sin(2 * np.pi * 0.231 * seconds + i) * (1 + i)
        spo2 = np.where((seconds > 100) & (seconds < 200), 0.0, 96.0)
        signals = np.stack([0.1 * breath, -breath, breath + 3, spo2], 1)
        channels, units = list(apnea_ecg.RESPIRATION_CHANNELS), ['mV', 'mV', 'mV', '%']
        wfdb.wrsamp(f'{person}r', rate_hz, units, channels, signals, fmt=['16'] * 4, write_dir=str(folder))
        write_labels(folder, f'{person}r', labels, rate_hz)
    return folder


def write_labels(folder, record, labels, rate_hz):
    symbols = np.array(['N', 'A'])[np.asarray(labels, int)]
    wfdb.wrann(record, 'apn', 60 * rate_hz * np.arange(len(labels)), symbols, write_dir=str(folder))


def test_respiration_of_small_records(tmp_path):
    write_respiration(tmp_path)
    study = load('apnea_respiration', path=tmp_path)
    assert study.x.shape == (8 * MINUTES, 60, 1) and study.sampling_rate_hz == 1 and study.classes == ('normal', 'apnea')
    np.testing.assert_array_equal(study.y, np.tile(np.arange(MINUTES) // 5 % 2, 8))
    # Amplitude and offset, which differ between people, are gone.
    assert np.ptp(study.x.max((1, 2))) < 0.1
    # Every third block of half an hour is held out.
    np.testing.assert_array_equal(study.test, np.tile(np.arange(MINUTES) // 30 == 2, 8))
    assert_groups_whole(study)


def test_channels_come_in_the_order_asked_for_and_dropouts_are_bridged(tmp_path):
    write_respiration(tmp_path)
    study = load('apnea_respiration', path=tmp_path, channels=('SpO2', 'Resp N', 'Resp A'))
    assert study.channels == ('SpO2', 'Resp N', 'Resp A')
    np.testing.assert_allclose(study.x[..., 0], (96 - 95) / 5, atol=1e-3)
    np.testing.assert_allclose(study.x[..., 1], -study.x[..., 2], atol=1e-2)


def test_leave_one_subject_out(tmp_path):
    write_respiration(tmp_path)
    study = load('apnea_respiration', path=tmp_path, split='subject:a02')
    np.testing.assert_array_equal(study.test, np.array(study.subjects)[study.subject] == 'a02')
    several = load('apnea_respiration', path=tmp_path, split='subject:a03,c01')
    assert set(np.array(several.subjects)[several.subject[several.test]]) == {'a03', 'c01'}


def test_official_rate_is_decimated_in_step(tmp_path):
    slow, fast = (tmp_path / name for name in ('slow', 'fast'))
    for folder, rate_hz in ((slow, 1), (fast, 100)):
        folder.mkdir()
        write_respiration(folder, rate_hz)
    channels = ('Resp N', 'SpO2')
    expected, found = (load('apnea_respiration', path=folder, channels=channels) for folder in (slow, fast))
    np.testing.assert_array_equal(expected.y, found.y)
    inner = np.arange(8 * MINUTES) % MINUTES % (MINUTES - 1) != 0  # a filter has nothing beyond a record's ends
    np.testing.assert_allclose(expected.x[inner], found.x[inner], atol=0.02)


@pytest.mark.parametrize('rate_hz', [1, 100])
def test_a_window_scaled_by_itself_depends_on_no_other(tmp_path, rate_hz):
    """Neither through the filter that decimates nor through a bridge over missing samples: differential privacy counts on it."""
    first = load('apnea_respiration', path=write_respiration(tmp_path, rate_hz), scale='window')
    assert first.own_scale == 'window'
    record = wfdb.rdrecord(str(tmp_path / 'a01r'), physical=True)
    minute = slice(7 * 60 * rate_hz, 8 * 60 * rate_hz)
    record.p_signal[minute] = np.random.default_rng(0).normal(size=record.p_signal[minute].shape)
    record.p_signal[minute.start:minute.start + 20 * rate_hz] = np.nan  # a gap that begins with the minute
    wfdb.wrsamp('a01r', rate_hz, record.units, record.sig_name, record.p_signal, fmt=record.fmt, write_dir=str(tmp_path))
    second = load('apnea_respiration', path=tmp_path, scale='window')
    changed = np.flatnonzero((first.x != second.x).any((1, 2)))
    rounded = np.abs(first.x - second.x).max((1, 2)) < 0.05  # the file's own steps may be others now
    assert changed.size and not rounded[7] and rounded[np.arange(len(first.x)) != 7].all()


def test_decimation_passes_breathing_and_stops_what_would_fold():
    seconds = np.arange(100 * 600) / 100
    inner = slice(60, -60)
    for frequency_hz, passes in ((0.05, True), (0.3, True), (0.55, False), (0.8, False), (1.0, False), (3.3, False), (49.8, False)):
        tone = np.sin(2 * np.pi * frequency_hz * seconds)[:, None]
        slow = apnea_ecg.decimate_to_1_hz(tone, 100)
        assert slow.shape == (600, 1)
        if passes:
            np.testing.assert_allclose(slow[inner], tone[::100][inner], atol=0.02)
        else:
            assert np.abs(slow[inner]).max() < 0.01, frequency_hz


def test_scaling_uses_no_labels(tmp_path):
    rng = np.random.default_rng(0)
    first = load('apnea_respiration', path=write_respiration(tmp_path))
    second = load('apnea_respiration', path=write_respiration(tmp_path, labels=rng.permutation(np.arange(MINUTES) % 2)))
    assert (first.y != second.y).any()
    np.testing.assert_array_equal(first.x, second.x)


def test_cache_is_reused_until_a_source_changes(tmp_path, monkeypatch):
    data, cache = tmp_path / 'data', tmp_path / 'cache'
    data.mkdir()
    monkeypatch.setenv('NEUROSTIM_CACHE_DIR', str(cache))
    write_respiration(data)
    first = load('apnea_respiration', path=data)
    prepared = files_in(cache)
    times = [file.stat().st_mtime_ns for file in prepared]
    np.testing.assert_array_equal(load('apnea_respiration', path=data).x, first.x)
    assert files_in(cache) == prepared and [file.stat().st_mtime_ns for file in prepared] == times
    write_labels(data, 'a01r', np.arange(MINUTES) % 2, 1)
    assert (load('apnea_respiration', path=data).y != first.y).any()
    assert len(files_in(cache)) == 2 * len(prepared)


def test_damaged_cache_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv('NEUROSTIM_CACHE_DIR', str(tmp_path / 'cache'))
    write_respiration(tmp_path)
    first = load('apnea_respiration', path=tmp_path)
    for file in files_in(tmp_path / 'cache'):
        file.write_bytes(file.read_bytes()[:20])
    np.testing.assert_array_equal(load('apnea_respiration', path=tmp_path).x, first.x)


def test_another_process_may_be_faster(tmp_path, monkeypatch):
    monkeypatch.setenv('NEUROSTIM_CACHE_DIR', str(tmp_path / 'cache'))
    first = load('apnea_respiration', path=write_respiration(tmp_path))
    read, calls = prepared._read, []

    def not_there_yet(folder):
        calls.append(folder)
        if len(calls) == 1:
            raise FileNotFoundError
        return read(folder)

    monkeypatch.setattr(prepared, '_read', not_there_yet)
    monkeypatch.setattr(prepared.shutil, 'rmtree', lambda *args, **options: None)
    np.testing.assert_array_equal(load('apnea_respiration', path=tmp_path).x, first.x)
    assert len(calls) == 2


def test_cache_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('NEUROSTIM_CACHE_DIR', str(tmp_path / 'file'))
    with pytest.raises(UserError, match='NEUROSTIM_CACHE_DIR'):
        load('apnea_respiration', path=write_respiration(tmp_path))


def cut_short(path, keep=0.5):
    path.write_bytes(path.read_bytes()[:int(keep * path.stat().st_size)])


@pytest.mark.parametrize('damage, message', [
    (lambda folder: (folder / 'b01r.dat').unlink(), 'b01r.dat is missing'),
    (lambda folder: (folder / 'b01r.apn').unlink(), 'b01r.apn is missing'),
    (lambda folder: cut_short(folder / 'b01r.dat'), r'b01r\.dat'),
    (lambda folder: cut_short(folder / 'b01r.apn'), r'b01r\.apn'),
    (lambda folder: cut_short(folder / 'b01r.hea'), 'b01r'),
    (lambda folder: (folder / 'b01r.hea').write_bytes(b'\xff\xfe nonsense'), 'b01r.hea'),
    (lambda folder: write_labels(folder, 'b01r', [0, 1] * MINUTES, 1), f'ends after {MINUTES} of {2 * MINUTES} labelled minutes'),
    (lambda folder: wfdb.wrann('b01r', 'apn', np.array([0, 61]), ['N', 'A'], write_dir=str(folder)), 'not one label A or N a minute'),
    (lambda folder: wfdb.wrsamp('b01r', 1, ['mV'], ['Resp A'], np.ones((5700, 1)), fmt=['16'], write_dir=str(folder)), "'Resp N': choose"),
    (lambda folder: (folder / 'b01r.dat').write_bytes(b'\x00\x80' * 4 * 60 * MINUTES), 'Resp N has no valid sample'),  # the format's NaN
    (lambda folder: wfdb.wrsamp('b01r', 2.5, ['mV'], ['Resp N'], np.ones((5700, 1)), fmt=['16'], write_dir=str(folder)), '2.5 Hz'),
])
def test_damaged_respiration_is_refused_and_leaves_nothing(tmp_path, monkeypatch, damage, message):
    monkeypatch.setenv('NEUROSTIM_CACHE_DIR', str(tmp_path / 'cache'))
    write_respiration(tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError, match=message):
        load('apnea_respiration', path=tmp_path)
    assert files_in(tmp_path / 'cache') == []


@pytest.mark.parametrize('options, message', [
    ({'channels': ('Resp X',)}, "'Resp X': choose one of Resp C"),
    ({'channels': 'SpO2'}, 'give a tuple'),
    ({'channels': ()}, 'give a tuple'),
    ({'channels': ('SpO2', 'SpO2')}, 'different names'),
    ({'split': 'thirds'}, "study.split is 'thirds'"),
    ({'split': 'subject:a05'}, "'a05': choose one of a01"),
    ({'split': 3}, 'study.split is 3'),
])
def test_bad_respiration_options_are_refused(tmp_path, options, message):
    (tmp_path / 'a01r.hea').write_text('')
    with pytest.raises(UserError, match=message):
        load('apnea_respiration', path=tmp_path, **options)


@needs_recordings
def test_real_respiration():
    study = load('apnea_respiration', path=REAL)
    assert study.x.shape == (3951, 60, 1) and study.y.sum() == 1609
    assert ((~study.test).sum(), study.test.sum()) == (2724, 1227)
    counts = {'a01': (489, 470), 'a02': (528, 420), 'a03': (519, 246), 'a04': (492, 453), 'b01': (486, 19), 'c01': (483, 0),
              'c02': (501, 1), 'c03': (453, 0)}
    assert {name: (np.sum(study.subject == i), study.y[study.subject == i].sum()) for i, name in enumerate(study.subjects)} == counts
    assert_groups_whole(study)
    four = load('apnea_respiration', path=REAL, channels=apnea_ecg.RESPIRATION_CHANNELS)
    percent = four.x[..., 3] * apnea_respiration.SPO2_UNIT + apnea_respiration.NORMAL_SPO2
    assert percent.min() > 50 and percent.max() <= 100.01
    assert 0.4 < four.x[..., :3].std() < 2


# Apnea-ECG: heart rate

HEART_MINUTES = 12


def write_heart_rate(folder):
    """The 70 records with regular beats, 60 a minute rising by one a record, and the tables of the database; two people a record pair."""
    for i, record in enumerate(apnea_heart_rate.RECORDS):
        beats = np.arange(1, HEART_MINUTES * 60 * 100, 6000 / (60 + i % 20)).round().astype(int)
        (folder / f'{record}.hea').write_text(f'{record} 1 100 {HEART_MINUTES * 6000}\n{record}.dat 16 200 12 0 0 0 0 ECG\n')
        wfdb.wrann(record, 'qrs', beats, ['N'] * len(beats), write_dir=str(folder))
        if record[0] != 'x':
            write_labels(folder, record, np.arange(HEART_MINUTES) % 2, 100)
    answers = ''.join(f'{record}\n 0 {"NA" * (HEART_MINUTES // 2)}\n\n' for record in apnea_ecg.TEST_RECORDS)
    (folder / 'event-2-answers').write_text(answers)
    rows = [f'{r}\t{HEART_MINUTES}\t6\t6\t1\t1\t1\t2\t{30 + i % 32}\tM\t180\t80' for i, r in enumerate(apnea_heart_rate.RECORDS)]
    (folder / 'additional-information.txt').write_text('Words.\n\n' + '\n'.join(rows[:35]) + '\n\t\n' + '\n'.join(rows[35:]) + '\n')
    return folder


@pytest.fixture(scope='module')
def heart(tmp_path_factory):
    return write_heart_rate(tmp_path_factory.mktemp('heart'))


def test_heart_rate_of_small_records(heart):
    study = load('apnea_heart_rate', path=heart, window_seconds=120)
    assert study.x.shape == (70 * HEART_MINUTES, 120, 1) and len(study.subjects) == 32 and len(set(study.group)) == 70
    np.testing.assert_array_equal(study.y, np.tile([0, 1], 70 * HEART_MINUTES // 2))
    assert study.test.sum() == 35 * HEART_MINUTES
    assert np.abs(study.x).max() < 0.3  # a steady heart lies on its own baseline, whatever its rate
    assert_groups_whole(study)


def test_people_are_kept_apart(heart):
    study = load('apnea_heart_rate', path=heart, split='people')
    assert not set(study.subject[study.test]) & set(study.subject[~study.test])
    assert len(set(study.subject[study.test])) == 11
    other = load('apnea_heart_rate', path=heart, split='people', seed=1)
    assert (study.test != other.test).any()


def test_false_and_missed_beats_are_rejected():
    beats = np.arange(0, 600, 0.8)
    damaged = np.sort(np.concatenate([np.delete(beats, [100, 300, 301, 302, 303]), [160.3, 400.4]]))
    seconds, rr = apnea_heart_rate.accepted_intervals(damaged)
    np.testing.assert_allclose(rr, 0.8)
    np.testing.assert_allclose(apnea_heart_rate.heart_rate(seconds, rr, 600), 75)
    # The leap of the rate at the end of an apnea is no artefact.
    leap = np.cumsum(np.concatenate([np.full(50, 1.0), np.full(20, 0.75), np.full(50, 1.0)]))
    assert len(apnea_heart_rate.accepted_intervals(leap)[1]) == len(leap) - 1


def test_windows_are_centred_on_the_label_and_held_at_the_ends():
    windows = apnea_heart_rate.cut(np.arange(1000.0), np.array([0, 300, 960]), 300)
    np.testing.assert_array_equal(windows[:, 150], [0, 300, 960])
    assert windows[0, 0] == 0 and windows[0, -1] == 149 and windows[2, -1] == 999
    np.testing.assert_array_equal(np.diff(windows[1]), 1)


def test_heart_rate_baseline_follows_drift_and_keeps_swings():
    seconds = np.arange(8 * 3600)
    swing = 5 * np.sin(2 * np.pi * seconds / 45)
    scaled = apnea_heart_rate.scale(60 + 20 * seconds / seconds[-1] + swing)
    np.testing.assert_allclose(scaled[600:-600], swing[600:-600] / 8, atol=0.1)


@pytest.mark.parametrize('damage, message', [
    (lambda folder: (folder / 'x07.qrs').unlink(), 'x07.qrs is missing'),
    (lambda folder: (folder / 'additional-information.txt').unlink(), 'additional-information.txt is missing'),
    (lambda folder: cut_short(folder / 'x07.qrs'), 'x07.qrs: has no end mark'),
    (lambda folder: cut_short(folder / 'b02.apn'), 'b02.apn'),
    (lambda folder: (folder / 'x07.qrs').write_bytes(b''), 'x07.qrs'),
    (lambda folder: cut_short(folder / 'event-2-answers', 0.995), r'event-2-answers: \d+ labels of the 12 of x35'),
    (lambda folder: (folder / 'event-2-answers').write_text('x01\n 0 NANANANANANA\n'), 'event-2-answers: no labels of record x02'),
    (lambda folder: (folder / 'event-2-answers').write_bytes(b'\xff\xfe'), 'event-2-answers: cannot be read'),
    (lambda folder: (folder / 'event-2-answers').write_text('x01\n 0 NANA\n 1 NAN\n'), 'labels of record x01 have gaps'),
    (lambda folder: cut_short(folder / 'additional-information.txt'), 'no complete row of record'),
    (lambda folder: wfdb.wrann('a03', 'qrs', np.array([1, 50, 100]), ['N'] * 3, write_dir=str(folder)), 'no minute has 30 beats'),
])
def test_damaged_heart_rate_is_refused_and_leaves_nothing(heart, tmp_path, monkeypatch, damage, message):
    monkeypatch.setenv('NEUROSTIM_CACHE_DIR', str(tmp_path / 'cache'))
    folder = shutil.copytree(heart, tmp_path / 'data')
    damage(folder)
    with pytest.raises(UserError, match=message):
        load('apnea_heart_rate', path=folder)
    assert files_in(tmp_path / 'cache') == []


@pytest.mark.parametrize('options', [{'split': 'blocks'}, {'window_seconds': 30}, {'window_seconds': '300'}, {'window_seconds': True}])
def test_bad_heart_rate_options_are_refused(heart, options):
    with pytest.raises(UserError, match=rf'study\.{next(iter(options))}'):
        load('apnea_heart_rate', path=heart, **options)


@needs_recordings
def test_real_minute_labels_and_people():
    folder = REAL / 'apnea-ecg-1.0.0'
    for records, expected in ((apnea_ecg.TRAINING_RECORDS, (17045, 6514)), (apnea_ecg.TEST_RECORDS, (17268, 6550))):
        labels = np.concatenate([apnea_ecg.read_labels(folder, record) for record in records])
        assert (len(labels), labels.sum()) == expected
    table = apnea_ecg.read_table(folder)
    assert len(table) == 70 and len({person for person, _ in table.values()}) == 32 and table['a14'][0] == 'a01'


@needs_recordings
def test_real_heart_rate():
    study = load('apnea_heart_rate', path=REAL)
    for part, windows, apnea in ((False, 16756, 6391), (True, 17041, 6489)):
        found = study.part(part)
        assert len(found.x) == pytest.approx(windows, rel=0.003) and found.y.sum() == pytest.approx(apnea, rel=0.003)
    assert study.shape == (300, 1) and 0.6 < study.x.std() < 0.9
    assert_groups_whole(study)
