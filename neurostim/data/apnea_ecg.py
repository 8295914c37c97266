"""Reads the PhysioNet Apnea-ECG database (Penzel et al., "The Apnea-ECG database", Computers in Cardiology 27, 2000) as it ships.

A label "A" of minute k says that apnea (or hypopnea) was in progress at the start of that minute, second 60 k. Records a, b, c
have their labels in `.apn` files; those of the records x are in `event-2-answers`. 32 people slept for the 70 records.
"""

from __future__ import annotations

import pathlib
import re

import numpy as np
import wfdb
from scipy import signal

from neurostim.errors import UserError, choose

SUBFOLDER = 'apnea-ecg-1.0.0'
CITATION = 'Penzel T, Moody GB, Mark RG, Goldberger AL, Peter JH. The Apnea-ECG Database. Computers in Cardiology 2000;27:255-258.'
LICENSE = 'Open Data Commons Attribution License v1.0'
CLASSES = ('normal', 'apnea')
RESPIRATION_CHANNELS = ('Resp C', 'Resp A', 'Resp N', 'SpO2')  # chest and abdominal effort, nasal airflow, oxygen saturation in %
TRAINING_RECORDS = tuple(f'{letter}{i:02}' for letter, count in (('a', 20), ('b', 5), ('c', 10)) for i in range(1, count + 1))
TEST_RECORDS = tuple(f'x{i:02}' for i in range(1, 36))
DROPOUT_PERCENT = 50  # a saturation below this is the sensor's dropout, not a person's
REMEDY = 'fetch the file again from physionet.org/content/apnea-ecg/1.0.0'


def read_labels(folder: pathlib.Path, record: str) -> np.ndarray:
    """bool [minutes]: whether apnea was in progress at the start of each minute of a record.

    Raises:
      UserError: missing, truncated or malformed labels.
    """
    if record in TEST_RECORDS:
        return _read_answers(folder / 'event-2-answers', record)
    path = folder / f'{record}.apn'
    seconds, symbols = _read_annotations(folder, record, 'apn')
    if not np.array_equal(seconds, 60 * np.arange(len(seconds))) or not set(symbols) <= {'A', 'N'}:
        raise UserError(f'{path}: not one label A or N a minute from second 0: {REMEDY}')
    return np.array(symbols) == 'A'


def _read_answers(path: pathlib.Path, record: str) -> np.ndarray:
    """The labels of one record of `event-2-answers`: its name on a line, then lines of an hour and up to 60 letters."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: cannot be read ({error}): {REMEDY}') from error
    found = re.search(rf'^{record}\s*\n((?:[ \t]*\d+[ \t]+[AN]+[ \t]*(?:\n|$))+)', text, re.MULTILINE)
    if not found:
        raise UserError(f'{path}: no labels of record {record}: {REMEDY}')
    hours = [line.split() for line in found.group(1).splitlines()]
    if any(int(hour) != i or (len(labels) != 60 and i < len(hours) - 1) for i, (hour, labels) in enumerate(hours)):
        raise UserError(f'{path}: the labels of record {record} have gaps: {REMEDY}')
    return np.array([letter == 'A' for _, labels in hours for letter in labels])


def read_beats(folder: pathlib.Path, record: str) -> np.ndarray:
    """float64 [beats]: the times of a record's heart beats in seconds, rising, as the database's detector found them (unaudited)."""
    seconds, symbols = _read_annotations(folder, record, 'qrs')
    seconds = seconds[np.array(symbols) == 'N']
    if len(seconds) < 2 or (np.diff(seconds) < 0).any():
        raise UserError(f'{folder / record}.qrs: not a rising list of beats: {REMEDY}')
    return seconds


def read_respiration(folder: pathlib.Path, record_name: str, channels: tuple[str, ...], alone_seconds: int | None = None) -> np.ndarray:
    """float32 [seconds, channels]: respiration signals at 1 Hz in the file's units, without gaps.

    Official files hold 100 samples a second and are decimated through an anti-alias filter; other files hold 1.

    Args:
      alone_seconds: where given, each stretch of so many seconds is read as if there were no others: neither filter nor bridge over a gap
        reaches beyond it. A stretch without a valid sample is 0, an incomplete last one is left out.

    Raises:
      UserError: a file or channel is missing or malformed, a rate is not a whole number, or a channel is empty.
    """
    path = folder / record_name
    header = _read(f'{path}.hea', wfdb.rdheader, str(path))
    for channel in channels:
        choose(channel, header.sig_name or (), f'channel of {path}.hea:')
    if header.fs < 1 or header.fs != round(header.fs):
        raise UserError(f'{path}.hea: the rate is {header.fs} Hz: give recordings of a whole number of samples a second')
    record = _read(f'{path}.dat', wfdb.rdrecord, str(path), channel_names=list(channels))
    if record.p_signal is None or len(record.p_signal) != header.sig_len:
        raise UserError(f'{path}.dat: does not hold the {header.sig_len} samples that {path}.hea announces: {REMEDY}')
    rate_hz = int(header.fs)
    length = alone_seconds * rate_hz if alone_seconds else header.sig_len
    stretches = np.empty((header.sig_len // length, length, len(channels)))
    for column, channel in enumerate(channels):
        samples = record.p_signal[:, record.sig_name.index(channel)]
        good = np.isfinite(samples) & (np.nan_to_num(samples, nan=-np.inf) >= (DROPOUT_PERCENT if channel == 'SpO2' else -np.inf))
        if not good.any():
            raise UserError(f'{path}.dat: channel {channel} has no valid sample: leave the channel out of study.channels')
        for stretch in range(len(stretches)):
            own = slice(stretch * length, (stretch + 1) * length)
            stretches[stretch, :, column] = _fill_gaps(samples[own], good[own])
    slow = decimate_to_1_hz(stretches.swapaxes(0, 1).reshape(length, -1), rate_hz)
    return slow.reshape(len(slow), -1, len(channels)).swapaxes(0, 1).reshape(-1, len(channels)).astype(np.float32)


def _fill_gaps(samples: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Replaces samples that are not good by a straight line between their neighbours (held at the ends), or by 0 where none is."""
    index = np.arange(len(samples))
    return np.interp(index, index[good], samples[good]) if good.any() else np.zeros(len(samples))


def decimate_to_1_hz(x: np.ndarray, rate_hz: int) -> np.ndarray:
    """Decimates [time, channels] to 1 Hz in stages of at most 10, sample k of the result lying at second k (no delay).

    Each stage's filter is symmetric, passes what 1 Hz can carry up to 0.35 Hz (21 breaths a minute) and stops what would fold.
    """
    while rate_hz > 1:
        factor = max((f for f in range(2, 11) if rate_hz % f == 0), default=rate_hz)
        taps = signal.firwin(40 * factor + 1, 0.85 / factor, window=('kaiser', 6.0))
        x = signal.resample_poly(x, 1, factor, axis=0, window=taps, padtype='line')
        rate_hz //= factor
    return x


def read_table(folder: pathlib.Path) -> dict[str, tuple[str, int]]:
    """Who slept for each record, and how long it was scored: its name -> the name of the person's first record, minutes.

    The database does not name people; records of equal age, sex, height and weight (`additional-information.txt`) are taken to be
    of one person, which gives 32, the number that the database's authors state.
    """
    path = folder / 'additional-information.txt'
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: cannot be read ({error}): {REMEDY}') from error
    rows = [line.split() for line in text.splitlines() if re.match(r'[abcx]\d\d\s+\d+\s', line)]
    missing = set(TRAINING_RECORDS + TEST_RECORDS) - {row[0] for row in rows if len(row) == 12}
    if missing:
        raise UserError(f'{path}: no complete row of record {min(missing)}: {REMEDY}')
    first: dict[tuple[str, ...], str] = {}
    return {row[0]: (first.setdefault(tuple(row[8:]), row[0]), int(row[1])) for row in rows}


def _read_annotations(folder: pathlib.Path, record: str, kind: str) -> tuple[np.ndarray, list[str]]:
    """Times in seconds and symbols of an annotation file, whose rate is the header's."""
    path = folder / f'{record}.{kind}'
    rate_hz = _read(f'{folder / record}.hea', wfdb.rdheader, str(folder / record)).fs
    # MIT format ends with a zero word; wfdb reads a truncated file without complaint.
    if path.is_file() and not path.read_bytes().endswith(b'\x00\x00'):
        raise UserError(f'{path}: has no end mark, so it is truncated: {REMEDY}')
    annotation = _read(path, wfdb.rdann, str(folder / record), kind)
    if len(annotation.sample) == 0 or not rate_hz > 0:
        raise UserError(f'{path}: holds no annotation, or its header no rate: {REMEDY}')
    return np.asarray(annotation.sample) / rate_hz, annotation.symbol


def _read(path, function, *arguments, **options):
    """Calls a reader of wfdb, which meets damaged files with errors of every kind."""
    if not pathlib.Path(path).is_file():
        raise UserError(f'{path} is missing: {REMEDY}')
    try:
        return function(*arguments, **options)
    except Exception as error:
        raise UserError(f'{path}: cannot be read ({error}): {REMEDY}') from error
