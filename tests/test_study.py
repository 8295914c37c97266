"""A study's checks and splits, and a user's own study, whose file is not trusted."""

import io
import pathlib
import warnings
import zipfile

import numpy as np
import pytest

from neurostim.data import load, npz, own_study
from neurostim.errors import UserError
from neurostim.study import divide, hold_out_groups, hold_out_subject, make_study, time_locked_share


def arrays(**replaced):
    """24 windows of 6 subjects and two classes, with arrays replaced or (None) left out."""
    rng = np.random.default_rng(0)
    good = {'x': rng.normal(size=(24, 10, 2)), 'y': np.tile([0, 1], 12), 'subject': np.repeat(np.arange(6), 4)}
    return {key: value for key, value in (good | replaced).items() if value is not None}


def save(folder: pathlib.Path, **replaced) -> pathlib.Path:
    np.savez(folder / 'ours.npz', **arrays(**replaced))
    return folder / 'ours.npz'


@pytest.mark.parametrize('shape, kind', [((24, 5), 'features'), ((24, 9, 1), 'windows'), ((24, 4, 4, 1), 'images')])
def test_own_study_of_every_kind(tmp_path, shape, kind):
    x = np.arange(np.prod(shape)).reshape(shape)
    study = load('own_study', path=save(tmp_path, x=x))
    assert study.name == 'ours' and study.kind == kind and study.x.dtype == np.float32 and study.shape == x.shape[1:]
    assert study.classes == ('class 0', 'class 1') and len(study.channels) == x.shape[-1] and study.sampling_rate_hz is None
    # A third of the subjects is held out, whole.
    assert len(set(study.subject[study.test])) == 2
    assert not set(study.group[study.test]) & set(study.group[~study.test])


def test_own_study_with_everything(tmp_path):
    split = np.where(np.arange(24) % 6 < 2, 'test', 'train')
    study = load('own_study', path=save(
        tmp_path, split=split, classes=['calm', 'wild'], channels=['left', 'right'], sampling_rate_hz=50,
        subject=np.array(list('abcdef'))[np.repeat(np.arange(6), 4)], ignored=np.zeros(3)))
    assert (study.classes, study.channels, study.sampling_rate_hz) == (('calm', 'wild'), ('left', 'right'), 50.0)
    assert study.subjects == tuple('abcdef')
    np.testing.assert_array_equal(study.test, split == 'test')
    # The split divides subjects; their halves are groups of their own, and the report says so.
    assert not set(study.group[study.test]) & set(study.group[~study.test])
    assert 'divides' in study.notes[0]


@pytest.mark.parametrize('replaced, message', [
    ({'x': None}, "'x' is missing"),
    ({'subject': None}, "'subject' is missing"),
    ({'x': np.zeros(24)}, "'x' has 1 dimensions"),
    ({'x': np.zeros((24, 0, 2))}, "'x' is empty"),
    ({'x': np.zeros((0, 10, 2)), 'y': np.zeros(0, int), 'subject': np.zeros(0, int)}, "'x' is empty"),
    ({'x': np.tile([[[3.0, 7.0]]], (24, 10, 1))}, "'x' never changes"),
    ({'x': np.full((24, 5), 'a')}, "'x' has dtype <U1"),
    ({'x': np.zeros((24, 5), complex)}, "'x' has dtype complex128"),
    ({'x': np.where(np.arange(24) == 7, np.nan, 0.0)[:, None]}, 'non-finite samples in 1 windows, the first is window 7'),
    ({'x': np.where(np.arange(24) == 7, 1e300, 0.0)[:, None]}, 'non-finite'),
    ({'x': 3e9 + np.random.default_rng(0).normal(size=(24, 1))}, "channel 0 of 'x' varies by .* around .*: subtract a constant"),
    ({'x': np.array([{}] * 24)}, "'x' holds Python objects, which are never unpickled"),
    ({'y': np.array(['a'] * 24, object)}, "'y' holds Python objects"),
    ({'y': np.zeros(23, int)}, r"'y' has shape \(23,\) but 'x' has 24 windows"),
    ({'y': np.zeros((24, 2), int)}, "'y' has shape"),
    ({'y': np.tile(['wake', 'sleep'], 12)}, "'y' has dtype <U5"),
    ({'y': np.tile([0, 0.5], 12)}, "'y' has dtype float64"),
    ({'y': np.tile([0, np.inf], 12)}, "'y' has dtype float64"),
    ({'y': np.tile([0, -1], 12)}, 'unknown class -1, at window 1'),
    ({'y': np.tile([0, 2], 12)}, r"class 1 \('class 1'\) has no window"),
    ({'y': np.tile([0, 10**9], 12)}, "'y' holds 1000000000"),
    ({'y': np.zeros(24, int)}, 'single class'),
    ({'y': np.zeros(24, int), 'classes': ['calm', 'wild']}, "class 1 \\('wild'\\) has no window"),
    ({'classes': ['calm']}, 'unknown class 1'),
    ({'classes': ['calm', 'calm']}, "'classes' repeats a name"),
    ({'classes': [1, 2]}, "'classes' has dtype int64"),
    ({'classes': 'calm'}, "'classes' has dtype"),
    ({'subject': np.zeros(24, int)}, 'one subject only'),
    ({'subject': np.zeros(5, int)}, "'subject' has shape"),
    ({'subject': np.linspace(0, 1, 24)}, "'subject' has dtype float64"),
    ({'subject': np.repeat([0, 1], 12), 'y': np.repeat([0, 1], 12)}, 'training part'),
    ({'split': np.full(24, 'Train')}, "'split' holds .*Train"),
    ({'split': np.arange(24) % 2}, "'split' holds"),
    ({'split': np.full(24, 'train')}, 'test part is empty'),
    ({'split': np.full(24, 'test')}, 'training part is empty'),
    ({'split': np.full(5, 'test')}, "'split' has shape"),
    ({'split': np.where(np.arange(24) % 2, 'test', 'train')}, "class 'class 1' has no window in the training part"),
    ({'split': np.where(np.arange(24) % 4 == 1, 'test', 'train')}, 'test part has windows of one class only'),
    ({'channels': ['one']}, "'channels' has 1 names but 'x' has 2 channels"),
    ({'sampling_rate_hz': 0}, "'sampling_rate_hz' is 0"),
    ({'sampling_rate_hz': np.nan}, "'sampling_rate_hz' is nan"),
    ({'sampling_rate_hz': '100'}, "'sampling_rate_hz' has dtype"),
    ({'sampling_rate_hz': [1, 2]}, "'sampling_rate_hz' has dtype"),
])
def test_bad_own_study_is_refused_without_a_warning(tmp_path, replaced, message):
    path = save(tmp_path, **replaced)
    with warnings.catch_warnings(), pytest.raises(UserError, match=message) as error:
        warnings.simplefilter('error')
        load('own_study', path=path)
    assert str(path) in str(error.value) and '\n' not in str(error.value)


def test_windows_scaled_by_themselves(tmp_path):
    """None depends on another; features have no time to be scaled along."""
    x = np.random.default_rng(0).normal(size=(24, 10, 2)) * (3e-6, 50)
    changed = np.where(np.arange(24)[:, None, None] == 5, -7 * x, x)
    first, second = (load('own_study', path=save(tmp_path, x=windows, channels=None), scale='window') for windows in (x, changed))
    assert first.own_scale == 'window'
    np.testing.assert_allclose(first.x.std(1), 1, rtol=1e-3)
    others = np.arange(24) != 5
    np.testing.assert_array_equal(first.x[others], second.x[others])
    np.testing.assert_allclose(first.x, np.where(others[:, None, None], 1, -1) * second.x, atol=1e-4)
    with pytest.raises(UserError, match="leave it 'none'"):
        load('own_study', path=save(tmp_path, x=x[:, 0], channels=None), scale='window')


@pytest.mark.parametrize('damage', [
    lambda data: data[:len(data) // 2], lambda data: b'', lambda data: b'not a zip', lambda data: data[:-40],
    lambda data: data[:200] + bytes(300) + data[500:],
])
def test_damaged_file_is_refused(tmp_path, damage):
    path = save(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r'ours\.npz: damaged'):
        load('own_study', path=path)


class Trap:
    """What a pickle can do: run anything when it is loaded."""

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path('sprung'),)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    array = np.empty(24, object)
    array[:] = Trap()
    for name in ('subject', 'split', 'ignored'):
        path = save(tmp_path, **{name: array})
        if name == 'ignored':
            load('own_study', path=path)
        else:
            with pytest.raises(UserError, match='never unpickled'):
                load('own_study', path=path)
    assert not (tmp_path / 'sprung').exists()


def test_sizes_are_checked_before_anything_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, 'LARGEST_BYTES', 1000)
    with pytest.raises(UserError, match='more than 1000'):
        load('own_study', path=save(tmp_path))
    path = save(tmp_path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {'descr': '<f8', 'fortran_order': False, 'shape': (10**12, 10)})
    with zipfile.ZipFile(path, 'w') as archive:  # announces 80 TB and holds nothing
        for name in 'x', 'y', 'subject':
            archive.writestr(f'{name}.npy', header.getvalue())
    with pytest.raises(UserError, match='does not have the 80000000000000 bytes'):
        load('own_study', path=path)


def test_path_is_needed_and_must_be_a_file(tmp_path):
    with pytest.raises(UserError, match='no such file'):
        load('own_study', path=tmp_path)


def test_parts_and_selections_keep_names():
    study = make_study('s', **arrays())
    test, train = study.part(test=True), study.part(test=False)
    assert len(test.x) + len(train.x) == 24 and test.test.all() and not train.test.any()
    assert test.subjects == train.subjects == study.subjects
    np.testing.assert_array_equal(study.take(np.array([3, 1])).x, study.x[[3, 1]])


def test_held_out_groups_are_whole_and_see_every_class():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(12), 20)
    y = rng.integers(0, 2, 240)
    y[group < 3] = 2  # a class of three groups only
    test = hold_out_groups(group, y, 3, seed=0)
    assert len(set(group[test])) == 4 and not set(group[test]) & set(group[~test])
    assert set(y[test]) == set(y[~test]) == {0, 1, 2}
    np.testing.assert_array_equal(test, hold_out_groups(group, y, 3, seed=0))
    assert (test != hold_out_groups(group, y, 3, seed=1)).any()


def test_a_class_of_one_group_is_left_to_be_learnt():
    """Whatever group it is: a class that nobody else has cannot be tested on others, but it can be learnt."""
    for people in (2, 5):
        for owner in range(people):
            group, y = np.repeat(np.arange(people), 20), np.tile([0, 1], 10 * people)
            y[np.flatnonzero(group == owner)[:9]] = 2
            test = hold_out_groups(group, y, 3)
            assert set(y[~test]) == {0, 1, 2} and set(y[test]) == {0, 1}


def test_offsets_are_taken_that_float32_can_hold():
    rng = np.random.default_rng(0)
    x = np.stack([101_325 + rng.normal(size=24), np.full(24, 1e9 + 1), rng.integers(0, 2**15, 24)], -1)  # pascals, a constant, counts
    np.testing.assert_allclose(make_study('s', **{**arrays(), 'x': x}).x, x, rtol=1e-6)


def test_units_are_dealt_whole_and_alike():
    rng = np.random.default_rng(0)
    unit = rng.integers(0, 23, 600)
    y = (rng.random(600) < np.linspace(0.1, 0.9, 23)[unit]).astype(int)  # units differ in their classes
    part = divide(unit, y, 2, 4, seed=3)
    assert all(len(set(part[unit == u])) == 1 for u in range(23))
    sizes = np.bincount([part[unit == u][0] for u in range(23)])
    assert sizes.tolist() in ([6, 6, 6, 5], [6, 6, 5, 6], [6, 5, 6, 6], [5, 6, 6, 6])
    shares = np.array([y[part == p].mean() for p in range(4)])
    at_random = np.array([y[np.arange(23)[unit] % 4 == p].mean() for p in range(4)])
    assert np.ptp(shares) < 0.06 < np.ptp(at_random)
    np.testing.assert_array_equal(part, divide(unit + 100, y, 2, 4, seed=3))  # names of units do not matter


def test_one_person_is_held_out_even_of_one_class():
    y = np.r_[np.zeros(4, int), np.tile([0, 1], 10)]
    study = make_study('folds', **arrays(y=y))
    for person in range(6):
        fold = hold_out_subject(study, person)
        np.testing.assert_array_equal(fold.test, study.subject == person)
        assert len(np.unique(fold.group[fold.test])) == 1 and not np.isin(fold.group[fold.test], fold.group[~fold.test]).any()
    pooled = [np.unique(hold_out_subject(study, person).part(test=True).group) for person in range(6)]
    assert len(np.unique(np.concatenate(pooled))) == 6  # intervals over pooled folds are over people
    assert set(hold_out_subject(study, 0).part(test=True).y) == {0}


def test_who_alone_has_a_class_is_not_held_out():
    study = make_study('folds', **arrays(y=np.r_[np.tile([0, 1], 2), np.zeros(20, int)]), test=np.arange(24) % 4 < 2)
    assert hold_out_subject(study, 1).test.sum() == 4
    with pytest.raises(UserError, match="without '0' nobody has class 'class 1'"):
        hold_out_subject(study, 0)


def test_a_large_study_is_thinned_out_and_keeps_its_order():
    """At most so many windows and so many numbers; what fits is left as it is."""
    study = make_study('s', **arrays())
    n, size = len(study.y), study.x[0].size
    assert study.at_most(n) is study and study.at_most(n, n * size) is study
    for some in (study.at_most(n // 2), study.at_most(n, n // 2 * size + 1)):
        rows = [int(np.flatnonzero((study.x == window).all(tuple(range(1, study.x.ndim))))[0]) for window in some.x]
        assert len(some.y) == n // 2 and rows == sorted(rows)
        np.testing.assert_array_equal(some.subject, study.subject[rows])


def test_more_numbers_than_the_memory_holds_are_thinned_out(tmp_path, monkeypatch):
    path = tmp_path / 'own.npz'
    np.savez(path, **arrays())
    whole = load('own_study', path)
    monkeypatch.setattr(own_study, 'MOST_NUMBERS', whole.x.size // 2)
    some = load('own_study', path)
    assert some.x.size <= whole.x.size // 2 and f'{len(some.y)} of {len(whole.y)} windows' in some.notes[-1]


def test_time_locked_share_is_that_of_what_all_windows_of_a_class_have():
    """Where they begin: not how high they lie, and not what happens at any time; however few windows there are."""
    rng, time = np.random.default_rng(0), np.arange(50)
    y, pattern = np.repeat([0, 1], [40, 4000]), np.sqrt(2) * np.sin(2 * np.pi * time / 50)
    noise, level = rng.normal(size=(2, 4040, 50, 2)), 9 * rng.normal(size=(4040, 1, 2))
    x = noise[0] + level
    assert abs(time_locked_share(x, y)) < 0.02
    x[y == 1, :, 1] += 0.5 * pattern
    assert time_locked_share(x, y) == pytest.approx(0.25 / 1.25, abs=0.02)
    rolled = np.stack([np.roll(window, shift, 0) for window, shift in zip(x, rng.integers(0, 50, 4040), strict=True)])
    assert abs(time_locked_share(rolled, y)) < 0.02
    assert time_locked_share(x[20:60], y[20:60]) == 0  # twenty of each class say nothing
