"""`apnea_respiration`: minutes of respiration in sleep, with or without apnea, of the eight people of Apnea-ECG who wore sensors.

Each minute label of a record is the class of the 60 samples at 1 Hz that follow it. Class and person are confounded: two people
have over 90 % apnea and three have (almost) none.
"""

from __future__ import annotations

import numpy as np

from neurostim.data import apnea_ecg, find_data
from neurostim.data.prepared import Records, load_records
from neurostim.errors import UserError, choose
from neurostim.scaling import LARGEST, scale_alone
from neurostim.study import Study, make_study

PEOPLE = ('a01', 'a02', 'a03', 'a04', 'b01', 'c01', 'c02', 'c03')
WINDOW_SECONDS = 60
BLOCK_MINUTES = 30
NORMAL_SPO2, SPO2_UNIT = 95.0, 5.0  # percent; see `scale_record`


def load(*, path=None, channels: tuple[str, ...] = ('Resp N',), split: str = 'blocks',
         scale: str = 'record') -> Study:
    """Windows [3951, 60, channels] of two classes; groups are blocks of 30 minutes of a record, or people who are
    held out.

    Args:
      path: the database's folder, or one that holds it as `apnea-ecg-1.0.0`; None asks NEUROSTIM_DATA_DIR.
      channels: any of 'Resp C', 'Resp A', 'Resp N', 'SpO2'.
      split: 'blocks' holds out every third block of each record; 'subject:a03' holds out one person, 'subject:a03,c01' several
        (c01 and c03 have no apnea and cannot be held out alone).
      scale: 'record' takes a record's own median and range; 'window' each window's median and standard deviation, so that no window
        depends on another (which differential privacy needs) and how deep a breath is among others is lost.

    Raises:
      UserError: missing or malformed files, an unknown channel, person or split.
    """
    if isinstance(channels, str) or not channels or len(set(channels)) < len(channels):
        raise UserError(f"study.channels is {channels!r}: give a tuple of different names, such as ('Resp N', 'SpO2')")
    for channel in channels:
        choose(channel, apnea_ecg.RESPIRATION_CHANNELS, 'channel in study.channels:')
    folder = find_data(path, apnea_ecg.SUBFOLDER, 'a01r.hea')
    held_out = _people_held_out(split)
    choose(scale, SCALES, 'study.scale')
    if scale == 'window' and 'SpO2' in channels:
        raise UserError("study.scale 'window' suits respiration, not SpO2: leave it out of study.channels")
    records = load_records(ApneaRespiration, folder, tuple(channels), scale)
    person = np.concatenate([[r['person']] * len(r['label']) for r in records])
    block = np.concatenate([r['minute'] // BLOCK_MINUTES for r in records])
    strangers = np.isin(person, held_out)
    return make_study(
        'apnea_respiration', np.concatenate([r['windows'] for r in records]), np.concatenate([r['label'] for r in records]), person,
        group=np.where(strangers, person, [f'{p} block {b}' for p, b in zip(person, block, strict=True)]),
        test=block % 3 == 2 if split == 'blocks' else strangers,
        classes=apnea_ecg.CLASSES, channels=channels, sampling_rate_hz=1, where=str(folder), own_scale=scale)


def _people_held_out(split: str) -> list[str]:
    """The names in 'subject:NAME,NAME'; none for 'blocks'."""
    if split == 'blocks':
        return []
    kind, _, names = str(split).partition(':')
    if kind != 'subject':
        raise UserError(f"study.split is {split!r}: give 'blocks' or 'subject:NAME' with a name of {', '.join(PEOPLE)}")
    return [choose(name, PEOPLE, 'subject in study.split:') for name in names.split(',')]


class ApneaRespiration(Records, skip_registration=True):
    """Minutes of respiration at 1 Hz with apnea labels, one example a person's night."""

    DESCRIPTION = __doc__
    CITATION = apnea_ecg.CITATION
    LICENSE = apnea_ecg.LICENSE
    READERS = (apnea_ecg,)

    def __init__(self, folder, channels: tuple[str, ...] = ('Resp N',), scale: str = 'record', **builder_options):
        """Reads `channels`, scaled by `SCALES[scale]`, from the database's `folder`; see :class:`neurostim.data.prepared.Records`."""
        self.channels, self.scale = channels, SCALES[scale]
        super().__init__(folder, (WINDOW_SECONDS, len(channels)), **builder_options)

    def source_files(self):
        return [self.folder / f'{person}r.{kind}' for person in PEOPLE for kind in ('hea', 'dat', 'apn')]

    def examples(self):
        for person in PEOPLE:
            record = f'{person}r'
            alone = WINDOW_SECONDS if self.scale is scale_window else None
            x = self.scale(apnea_ecg.read_respiration(self.folder, record, self.channels, alone), self.channels)
            label = apnea_ecg.read_labels(self.folder, record)
            minutes = min(len(label), len(x) // WINDOW_SECONDS)  # some records end within a labelled minute
            if minutes < len(label) - 2:
                raise UserError(f'{self.folder / record}.dat: ends after {minutes} of {len(label)} labelled minutes: {apnea_ecg.REMEDY}')
            yield {
                'record': record, 'person': person, 'windows': x[:minutes * WINDOW_SECONDS].reshape(minutes, *self.window_shape),
                'minute': np.arange(minutes, dtype=np.int32), 'label': label[:minutes].astype(np.int32),
            }


def scale_record(x: np.ndarray, channels: tuple[str, ...]) -> np.ndarray:
    """Scales one record's [seconds, channels] without labels.

    Belts and masks sit differently every night, so respiration loses its record's median and is divided by half of its 5th to 95th
    percentile range. Saturation means the same on everybody: it is counted from a healthy 95 % in units of 5 %.
    """
    low, middle, high = np.percentile(x, [5, 50, 95], axis=0)
    is_spo2 = np.array(channels) == 'SpO2'
    middle = np.where(is_spo2, NORMAL_SPO2, middle)
    unit = np.where(is_spo2, SPO2_UNIT, np.maximum((high - low) / 2, 1e-6))
    return np.clip((x - middle) / unit, -LARGEST, LARGEST).astype(np.float32)


def scale_window(x: np.ndarray, channels: tuple[str, ...]) -> np.ndarray:
    """Scales one record's [seconds, channels], each window by itself: its median becomes 0, its standard deviation 1."""
    del channels
    whole = len(x) // WINDOW_SECONDS * WINDOW_SECONDS
    return scale_alone(x[:whole].reshape(-1, WINDOW_SECONDS, x.shape[1])).reshape(whole, -1)


SCALES = {'record': scale_record, 'window': scale_window}
