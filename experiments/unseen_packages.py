"""Studies that nobody tuned for, of recordings and tables that published packages hold; but three all are real (see docs/unseen.md).

They are read where packages are installed, DIR/PACKAGE/…; an R library and Python's packages may share one DIR:

    Rscript -e "install.packages(c('mlbench', 'kernlab', 'modeldata'), 'DIR')"      # or a library that has them
    pip install --target DIR --no-deps aeon==1.6.0 sktime==1.2.0 river==0.26.1 tslearn==0.10.0 palmerpenguins==0.1.6

R's own are tables, as are some of Python's: a row is a window of features. Numbers and ordered levels are one feature, two levels one of 0
and 1, other levels an indicator each, or all of them one number; rows with a missing value are left out. Others of Python are time series,
most in `.ts` files. Where nobody says whom a window is of, windows are dealt out to blocks by the seed, so that each seed holds out others.
"""

from __future__ import annotations

import lzma
import pathlib
import warnings
import zlib
from collections.abc import Callable

import numpy as np

from experiments.simulation import invented_people
from neurostim.errors import UserError

BLOCKS = 30
INSTALL = 'see the head of experiments/unseen_packages.py for how to have it there'


def r_table(folder: pathlib.Path, package: str, name: str):
    """The data frame (pandas) of an installed R package: of a file of its own, or of the package's one file of all.

    Raises:
      UserError: rdata is not installed, or the package or the table is not there.
    """
    try:
        import rdata
    except ImportError as error:
        raise UserError(f'{error}: studies from R packages need it: pip install rdata') from error
    data = folder / package / 'data'
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of encodings and of R classes without a Python twin
        if (data / f'{name}.rda').exists():
            return rdata.read_rda(data / f'{name}.rda')[name]
        if not (data / 'Rdata.rdx').exists():
            raise UserError(f'no {name} in {data}: {INSTALL}')
        places = rdata.read_rds(data / 'Rdata.rdx')['variables']
        if name not in places:
            raise UserError(f'no table {name} in {data / "Rdata.rdb"}, which has {", ".join(places)}')
        start, length = map(int, places[name])
        packed = (data / 'Rdata.rdb').read_bytes()[start:start + length]
        return rdata.conversion.convert(rdata.parser.parse_data(_unpack(packed)))


def _unpack(packed: bytes) -> bytes:
    """What R's lazyLoadDBinsertValue packed: four bytes of length, then zlib, or the letter Z and raw LZMA2."""
    if packed[4:5] != b'Z':
        return zlib.decompress(packed[4:])
    return lzma.decompress(packed[5:], format=lzma.FORMAT_RAW, filters=[{'id': lzma.FILTER_LZMA2, 'preset': 6}])


def features(frame, numbered: bool = False) -> np.ndarray:
    """float32 [n, features] of a data frame's columns.

    Args:
      numbered: levels are numbered in their order and one feature; otherwise more than two that have no order are an indicator each.
    """
    columns = []
    for _, column in frame.items():
        if column.dtype != 'category':
            columns.append(column.to_numpy(np.float64)[:, None])
        elif numbered or column.cat.ordered or len(column.cat.categories) <= 2:
            columns.append(column.cat.codes.to_numpy()[:, None])
        else:
            columns.append(column.cat.codes.to_numpy()[:, None] == np.arange(len(column.cat.categories)))
    return np.concatenate(columns, 1).astype(np.float32)


def of_frame(read: Callable, label: str, *, unused: tuple[str, ...] = (), numbered: bool = False, blocks: int | None = BLOCKS,
             kept: tuple[str, ...] | None = None) -> Callable[..., dict[str, np.ndarray]]:
    """A study of a data frame: how it comes from the folder of packages and a seed.

    Args:
      read: folder -> the data frame.
      label: the column of classes.
      unused: columns that are not features.
      numbered: see :func:`features`.
      blocks: how many subjects are invented; None makes each row one of its own.
      kept: the classes that are kept; all, where None.
    """

    def load(folder: pathlib.Path, seed: int):
        frame = read(folder).drop(columns=list(unused)).dropna()
        if kept:
            frame = frame[frame[label].isin(kept)]
        classes, y = np.unique(frame[label].astype(str).to_numpy(dtype=str), return_inverse=True)
        people = invented_people(np.random.default_rng(seed), len(y), blocks or len(y))
        return {'x': features(frame.drop(columns=label), numbered), 'y': y, 'subject': people, 'classes': classes}

    return load


def table(package: str, name: str, label: str, **options) -> Callable[..., dict[str, np.ndarray]]:
    """A study of a table of an R package; see :func:`of_frame` for the options."""
    return of_frame(lambda folder: r_table(folder, package, name), label, **options)


def separated(file: str, label: str, **options) -> Callable[..., dict[str, np.ndarray]]:
    """A study of a file of values separated by commas, packed or not; see :func:`of_frame` for the options."""

    def read(folder: pathlib.Path):
        import pandas
        try:
            frame = pandas.read_csv(folder / file)
        except OSError as error:
            raise UserError(f'{error}: {INSTALL}') from error
        return frame.astype(dict.fromkeys(frame.select_dtypes(exclude='number'), 'category'))

    return of_frame(read, label, **options)


def traces(folder: pathlib.Path, seed: int) -> dict[str, np.ndarray]:
    """Four kinds of failures of an instrument in a nuclear power station, simulated, 275 samples each."""
    path = folder / 'tslearn' / '.cached_datasets' / 'Trace.npz'
    try:
        parts = np.load(path, allow_pickle=False)
    except OSError as error:
        raise UserError(f'{error}: {INSTALL}') from error
    x, named = (np.concatenate([parts[f'{name}_train'], parts[f'{name}_test']]) for name in 'Xy')
    classes, y = np.unique(named.astype(str), return_inverse=True)
    return {'x': x.astype(np.float32), 'y': y, 'classes': classes,
            'subject': invented_people(np.random.default_rng(seed), len(y), BLOCKS)}


def vowels(folder: pathlib.Path, seed: int) -> dict[str, np.ndarray]:
    """Eleven vowels of fifteen people, five of whom are tested: three seeds test each once."""
    frame = r_table(folder, 'mlbench', 'Vowel')
    person = frame['V1'].cat.codes.to_numpy().astype(int)
    held = np.isin(person, np.random.default_rng(seed // 3).permutation(15).reshape(3, 5)[seed % 3])
    classes, y = np.unique(frame['Class'].astype(str).to_numpy(dtype=str), return_inverse=True)
    return {'x': features(frame.drop(columns=['V1', 'Class'])), 'y': y, 'subject': person, 'classes': classes,
            'split': np.where(held, 'test', 'train')}


def read_ts(path: pathlib.Path) -> tuple[list[np.ndarray], np.ndarray]:
    """A `.ts` file: windows, float32 [time, channels] of any length each, and their classes, str [n].

    Raises:
      UserError: no such file, or a line that is not numbers.
    """
    try:
        lines = path.read_text(encoding='utf-8-sig').splitlines()
    except OSError as error:
        raise UserError(f'{error}: {INSTALL}') from error
    windows, classes = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip()[0] in '#@%':
            continue
        *channels, label = line.strip().split(':')
        try:
            windows.append(np.array([channel.split(',') for channel in channels], np.float32).T)
        except ValueError as error:
            raise UserError(f'{path}, line {number}: {error}: channels of one length, separated by colons, are expected') from error
        classes.append(label)
    return windows, np.array(classes)


def series(package: str, name: str, *, file: str | None = None, time: int | None = None, blocks: int = BLOCKS) -> Callable[..., dict]:
    """A study of time series, the files' training and test parts together: how it comes from the folder of packages and a seed.

    Args:
      file: how the two files' names begin; the name, where None.
      time: how many samples are taken of windows of different lengths; shorter ones are left out.
    """

    def load(folder: pathlib.Path, seed: int):
        place = folder / package / 'datasets' / 'data' / name
        parts = [read_ts(place / f'{file or name}_{part}.ts') for part in ('TRAIN', 'TEST')]
        windows, classes = [w for part in parts for w in part[0]], np.concatenate([part[1] for part in parts])
        enough = np.array([time is None or len(window) >= time for window in windows])
        x = np.stack([window[:time] for window, takes in zip(windows, enough, strict=True) if takes])
        classes, y = np.unique(classes[enough], return_inverse=True)
        return {'x': x, 'y': y, 'subject': invented_people(np.random.default_rng(seed), len(y), blocks), 'classes': classes}

    return load


STUDIES = {
    'satellite': table('mlbench', 'Satellite', 'classes', blocks=40),
    'shuttle': table('mlbench', 'Shuttle', 'Class', blocks=60),
    'diabetes': table('mlbench', 'PimaIndiansDiabetes', 'diabetes'),
    'vehicles': table('mlbench', 'Vehicle', 'Class'),
    'dna': table('mlbench', 'DNA', 'Class'),
    'ionosphere': table('mlbench', 'Ionosphere', 'Class'),
    'sonar': table('mlbench', 'Sonar', 'Class'),
    'vowels': vowels,
    'spam': table('kernlab', 'spam', 'type'),
    'musk': table('kernlab', 'musk', 'Class'),
    'cells': table('modeldata', 'cells', 'class', unused=('case',)),
    'churn': table('modeldata', 'mlc_churn', 'churn', numbered=True),
    'hpc': table('modeldata', 'hpc_data', 'class', numbered=True),
    'alzheimer': table('modeldata', 'ad_data', 'Class', unused=('Genotype',), blocks=None),
    'parkinson': table('modeldata', 'pd_speech', 'class', blocks=None),
    'lending': table('modeldata', 'lending_club', 'Class', numbered=True),
    'letters': table('mlbench', 'LetterRecognition', 'lettr', kept=tuple('ABCDEFGHIJ')),
    'votes': table('mlbench', 'HouseVotes84', 'Class'),
    'cytology': table('mlbench', 'BreastCancer', 'Class', unused=('Id',)),
    'customers': table('modeldata', 'wa_churn', 'churn'),
    'credit': table('modeldata', 'credit_data', 'Status'),
    'attrition': table('modeldata', 'attrition', 'Attrition'),
    'remote': table('modeldata', 'stackoverflow', 'Remote'),
    'two_numbers': table('modeldata', 'two_class_dat', 'Class'),
    'incomes': table('kernlab', 'income', 'INCOME'),
    'phishing': separated('river/datasets/phishing.csv.gz', 'is_phishing'),
    'segments': separated('river/datasets/segment.csv.zip', 'category'),
    'penguins': separated('palmerpenguins/data/penguins.csv', 'species', unused=('island', 'year')),
    'traces': traces,
    'power': series('aeon', 'ItalyPowerDemand'),
    'leaves': series('aeon', 'OSULeaf'),
    'speakers': series('aeon', 'JapaneseVowels', file='JapaneseVowels_eq'),
    'appliances': series('sktime', 'PLAID', time=200),
    'arrowheads': series('aeon', 'ArrowHead'),
    'gestures': series('aeon', 'GunPoint'),
    'plugs': series('aeon', 'ACSF1'),
    'motions': series('aeon', 'BasicMotions', blocks=20),
}
