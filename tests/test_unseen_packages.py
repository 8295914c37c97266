"""Studies of published packages: tables as R keeps them, time series as `.ts` files, and what is said where they are not there."""

import lzma
import struct
import zlib

import numpy as np
import pandas as pd
import pytest
import rdata

from experiments import unseen, unseen_packages
from neurostim.data import own_study
from neurostim.errors import UserError

FRAME = pd.DataFrame({
    'height': [1.5, 2.5, np.nan, 4.5, 5.5, 6.5, 7.5],
    'count': np.arange(7),
    'smokes': pd.Categorical(['no', 'yes', 'no', 'no', 'yes', 'yes', 'no']),
    'colour': pd.Categorical(['red', 'blue', 'red', 'green', 'blue', 'red', 'red'], ['red', 'green', 'blue']),
    'kind': pd.Categorical(['b', 'a', 'b', 'a', 'c', 'a', 'b']),
})


def bits(compress):
    """What R packs: a table as it is serialised, its length before it."""
    raw = rdata.unparser.unparse_data(rdata.conversion.convert_python_to_r_data(FRAME), file_format='xdr')
    return struct.pack('>i', len(raw)) + compress(raw)


def raw_lzma(raw):
    return b'Z' + lzma.compress(raw, format=lzma.FORMAT_RAW, filters=[{'id': lzma.FILTER_LZMA2, 'preset': 6}])


@pytest.fixture(params=['rda', 'zlib', 'lzma'])
def packages(request, tmp_path):
    """A folder with a package `shop`, whose table `goods` is a file of its own, or in the file of all."""
    data = tmp_path / 'shop' / 'data'
    data.mkdir(parents=True)
    if request.param == 'rda':
        rdata.write_rda(data / 'goods.rda', {'goods': FRAME})
    else:
        before, packed = b'another table', bits({'zlib': zlib.compress, 'lzma': raw_lzma}[request.param])
        (data / 'Rdata.rdb').write_bytes(before + packed + b'a third')
        rdata.write_rds(data / 'Rdata.rdx', {'variables': {'goods': np.array([len(before), len(packed)], np.int32)}})
    return tmp_path


def test_a_table_is_a_study(packages):
    """Numbers as they are, two levels as 0 and 1, three as indicators; the row with a missing value is left out."""
    made = unseen_packages.table('shop', 'goods', 'kind', blocks=3)(packages, 0)
    rows = [[1.5, 0, 0, 1, 0, 0], [2.5, 1, 1, 0, 0, 1], [4.5, 3, 0, 0, 1, 0],
            [5.5, 4, 1, 0, 0, 1], [6.5, 5, 1, 1, 0, 0], [7.5, 6, 0, 1, 0, 0]]
    np.testing.assert_array_equal(made['x'], np.float32(rows))
    assert made['x'].dtype == np.float32 and made['classes'].tolist() == ['a', 'b', 'c'] and made['y'].tolist() == [1, 0, 0, 2, 0, 1]
    assert sorted(made['subject']) == [0, 0, 1, 1, 2, 2]


def test_options_of_a_table(packages):
    made = unseen_packages.table('shop', 'goods', 'kind', unused=('count',), numbered=True, blocks=None, kept=('a', 'b'))(packages, 0)
    np.testing.assert_array_equal(made['x'], np.float32([[1.5, 0, 0], [2.5, 1, 2], [4.5, 0, 1], [6.5, 1, 0], [7.5, 0, 0]]))
    assert made['classes'].tolist() == ['a', 'b'] and sorted(made['subject']) == [0, 1, 2, 3, 4]


def test_a_table_that_is_not_there(packages):
    with pytest.raises(UserError, match='bads'):
        unseen_packages.r_table(packages, 'shop', 'bads')
    with pytest.raises(UserError, match='mall.*unseen_packages'):
        unseen_packages.r_table(packages, 'mall', 'goods')


def test_values_separated_by_commas_are_a_study(tmp_path):
    """Packed too; what is no number is levels, and a row with a missing value is left out."""
    FRAME.to_csv(tmp_path / 'goods.csv.gz', index=False)
    made = unseen_packages.separated('goods.csv.gz', 'kind', unused=('count',), blocks=3)(tmp_path, 0)
    rows = [[1.5, 0, 0, 0, 1], [2.5, 1, 1, 0, 0], [4.5, 0, 0, 1, 0], [5.5, 1, 1, 0, 0], [6.5, 1, 0, 0, 1], [7.5, 0, 0, 0, 1]]
    np.testing.assert_array_equal(made['x'], np.float32(rows))  # colours in alphabetical order, which a file does not say otherwise
    assert made['y'].tolist() == [1, 0, 0, 2, 0, 1] and sorted(made['subject']) == [0, 0, 1, 1, 2, 2]


def test_traces_are_both_parts(tmp_path):
    (tmp_path / 'tslearn' / '.cached_datasets').mkdir(parents=True)
    x = np.arange(24.0).reshape(6, 4, 1)
    np.savez(tmp_path / 'tslearn' / '.cached_datasets' / 'Trace.npz', X_train=x[:2], X_test=x[2:], y_train=[3, 1], y_test=[1, 2, 3, 3])
    made = unseen_packages.traces(tmp_path, 0)
    np.testing.assert_array_equal(made['x'], np.float32(x))
    assert made['y'].tolist() == [2, 0, 0, 1, 2, 2] and made['classes'].tolist() == ['1', '2', '3'] and len(made['subject']) == 6


def write_series(folder, train, test):
    place = folder / 'aeon' / 'datasets' / 'data' / 'Steps'
    place.mkdir(parents=True)
    for part, lines in (('TRAIN', train), ('TEST', test)):
        (place / f'Steps_{part}.ts').write_text('\ufeff# of steps\n@classLabel true up down\n@data\n\n' + '\n'.join(lines) + '\n')


def test_series_are_a_study(tmp_path):
    """Both parts of it, channels last; of windows of different lengths those long enough, from their beginning."""
    write_series(tmp_path, ['1,2,3:4,5,6:up', '1,2:3,4:up'], ['7,8,9.5,0:1,1,1,1:down'])
    made = unseen_packages.series('aeon', 'Steps', time=3, blocks=2)(tmp_path, 0)
    np.testing.assert_array_equal(made['x'], np.float32([[[1, 4], [2, 5], [3, 6]], [[7, 1], [8, 1], [9.5, 1]]]))
    assert made['y'].tolist() == [1, 0] and made['classes'].tolist() == ['down', 'up'] and sorted(made['subject']) == [0, 1]


@pytest.mark.parametrize('line', ['1,2:3,x:up', '1,2:3:up'])
def test_a_line_that_is_not_numbers_is_named(tmp_path, line):
    write_series(tmp_path, ['1,2:3,4:up', line], [])
    with pytest.raises(UserError, match='Steps_TRAIN.ts, line 6'):
        unseen_packages.series('aeon', 'Steps')(tmp_path, 0)


def test_people_of_vowels_are_each_tested_once(tmp_path, monkeypatch):
    people = pd.Categorical(np.repeat(np.arange(15), 22).astype(str))
    frame = pd.DataFrame({'V1': people, 'V2': np.arange(330.0), 'Class': pd.Categorical(np.tile(list('abcdefghijk'), 30))})
    monkeypatch.setattr(unseen_packages, 'r_table', lambda *_: frame)
    tested = [made['subject'][made['split'] == 'test'] for made in (unseen_packages.vowels(tmp_path, seed) for seed in range(3))]
    assert sorted(np.concatenate([np.unique(people) for people in tested])) == list(range(15))
    assert unseen_packages.vowels(tmp_path, 0)['x'].shape == (330, 1)


def test_a_study_of_a_package_is_written_for_own_study(packages, tmp_path, monkeypatch):
    monkeypatch.setitem(unseen_packages.STUDIES, 'goods', unseen_packages.table('shop', 'goods', 'smokes', blocks=3))
    with pytest.raises(UserError, match='--packages=DIR'):
        unseen.write_study('goods', tmp_path / 'runs')
    assert not (tmp_path / 'runs').exists()
    study = own_study.load(path=unseen.write_study('goods', tmp_path / 'runs', packages=str(packages)))
    assert study.x.shape[1:] == (8,) and study.classes == ('no', 'yes')


@pytest.mark.parametrize('name', unseen_packages.STUDIES)
def test_a_study_says_where_it_is_looked_for(name, tmp_path):
    with pytest.raises(UserError, match=f'{tmp_path}.*unseen_packages'):
        unseen_packages.STUDIES[name](tmp_path, 0)
