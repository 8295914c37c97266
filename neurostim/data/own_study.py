"""`own_study`: a user's own windows, from one `.npz` file.

| array | |
| --- | --- |
| `x` | numbers [n, time, channels], [n, features] or [n, height, width, channels], finite |
| `y` | int [n], from 0; every class needs windows |
| `subject` | int or str [n], at least two different ones |
| `split` | optional, 'train' or 'test' [n]; without it a third of the subjects is held out |
| `classes` | optional, names of the classes |
| `channels` | optional, names of the channels |
| `sampling_rate_hz` | optional, a positive number |

Write one with `numpy.savez('study.npz', x=x, y=y, subject=subject)`. The file is not trusted: nothing in it is unpickled.
"""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from neurostim.data.npz import read_npz
from neurostim.errors import UserError, choose
from neurostim.scaling import scale_alone
from neurostim.study import Study, make_study

MOST_NUMBERS = 2**29  # in all windows: a run needs several copies of them


def load(*, path=None, scale: str = 'none') -> Study:
    """The study in the `.npz` file `path`, named after the file.

    Groups are subjects; where a given `split` divides a subject, the two parts of that subject.

    Args:
      scale: 'none' takes windows as they come; 'window' gives each channel of a window a median of 0 and a standard deviation of 1, so
        that no window depends on another (which differential privacy needs) and how strong a signal is among others is lost.

    Raises:
      UserError: see :func:`neurostim.data.npz.read_npz` and :func:`neurostim.study.make_study`; also a malformed optional array.
    """
    if not path:
        raise UserError('study.path is empty: give your study with --config.study.path=FILE.npz')
    choose(scale, ('none', 'window'), 'study.scale')
    where = str(path)
    arrays = read_npz(path, ('x', 'y', 'subject'), ('split', 'classes', 'channels', 'sampling_rate_hz'))
    names = {key: _names(arrays[key], key, where) for key in ('classes', 'channels') if key in arrays}
    test = group = None
    notes = ()
    if 'split' in arrays:
        test = _held_out(arrays['split'], where)
        subject = arrays['subject']
        if subject.shape == test.shape:
            group = np.char.add(subject.astype(str), np.where(test, ' test', ' train'))
            divided = len(np.unique(group)) - len(np.unique(subject))
            notes = (f'the given split divides {divided} subjects: their windows are in both parts',) if divided else ()
    study = make_study(
        pathlib.Path(path).stem, arrays['x'], arrays['y'], arrays['subject'], test=test, group=group, notes=notes, where=where,
        sampling_rate_hz=_sampling_rate_hz(arrays['sampling_rate_hz'], where) if 'sampling_rate_hz' in arrays else None, **names)
    if scale == 'window':
        if study.kind != 'windows':
            raise UserError(f"study.scale is 'window', but {where} holds {study.kind}, no time series: leave it 'none'")
        study = dataclasses.replace(study, x=scale_alone(study.x), own_scale='window')
    some = study.at_most(len(study.y), MOST_NUMBERS)
    taken = f'{len(some.y)} of {len(study.y)} windows are used, drawn at random: of all the memory could not hold copies'
    return study if some is study else dataclasses.replace(some, notes=(*notes, taken))


def _held_out(split: np.ndarray, where: str) -> np.ndarray:
    """bool [n] from 'train' and 'test'."""
    known = np.isin(split, ('train', 'test')) if split.dtype.kind == 'U' else np.zeros(split.shape, bool)
    if not known.all():
        raise UserError(f"{where}: 'split' holds {split[~known][0]!r}: use the strings 'train' and 'test'")
    return split == 'test'


def _names(names: np.ndarray, key: str, where: str) -> list[str]:
    """A list of names."""
    if names.dtype.kind != 'U' or names.ndim != 1:
        raise UserError(f"{where}: '{key}' has dtype {names.dtype} and shape {names.shape}: give a list of strings")
    return names.tolist()


def _sampling_rate_hz(rate: np.ndarray, where: str) -> float:
    """A single number."""
    if rate.dtype.kind not in 'fiu' or rate.size != 1:
        raise UserError(f"{where}: 'sampling_rate_hz' has dtype {rate.dtype} and shape {rate.shape}: give one number")
    return float(rate.reshape(()))
