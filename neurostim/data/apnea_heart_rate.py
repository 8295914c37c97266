"""`apnea_heart_rate`: minutes of sleep with or without apnea, seen through the heart rate, of all 70 records of Apnea-ECG.

Apnea slows the heart, and the gasp that ends it quickens it: a train of events is a slow swing of the heart rate, one to two
swings a minute. The beats are those of the database's own, unaudited detector.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from neurostim import study
from neurostim.data import apnea_ecg, find_data
from neurostim.data.prepared import Records, load_records
from neurostim.errors import UserError, choose

RECORDS = apnea_ecg.TRAINING_RECORDS + apnea_ecg.TEST_RECORDS
MINUTE = 60  # seconds
FEWEST_BEATS = 30  # accepted ones, in the labelled minute

SHORTEST_RR, LONGEST_RR = 0.4, 2.0  # seconds: 150 and 30 beats a minute
# A missed or false beat stands out against its neighbours. The usual limit of 20 % (Task Force of the ESC and NASPE, "Heart rate
# variability", Circulation 93, 1996) rejects true beats at the end of apneas, where the rate leaps.
LARGEST_RR_CHANGE = 0.3
RR_NEIGHBOURS = 11

BASELINE_SECONDS = 600
BEATS_PER_MINUTE_UNIT = 8.0  # makes the spread of most windows about 1
LARGEST = 6.0  # after scaling


def load(*, path=None, seed: int = 0, window_seconds: int = 300, split: str = 'official') -> study.Study:
    """Windows [33 796, window_seconds, 1] of heart rate at 1 Hz, of two classes.

    Args:
      path: the database's folder, or one that holds it as `apnea-ecg-1.0.0`; None asks NEUROSTIM_DATA_DIR.
      seed: of the choice of people held out, for the split 'people'.
      window_seconds: length of a window, whose middle is the instant that the label speaks of: the start of its minute.
      split: 'official' trains on records a, b, c and holds out the records x (most people are in both); 'people' holds out a
        third of the 32 people with all their records.

    Returns:
      A study whose subjects are people and whose groups are records, or people for the split 'people'.

    Raises:
      UserError: missing or malformed files, or an option out of range.
    """
    choose(split, ('official', 'people'), 'study.split')
    if isinstance(window_seconds, bool) or not isinstance(window_seconds, int) or not MINUTE <= window_seconds <= 3600:
        raise UserError(f'study.window_seconds is {window_seconds!r}: give a number of seconds from {MINUTE} to 3600')
    folder = find_data(path, apnea_ecg.SUBFOLDER, 'event-2-answers')
    records = load_records(ApneaHeartRate, folder, window_seconds)
    label = np.concatenate([r['label'] for r in records])
    person, record = (np.concatenate([[r[key]] * len(r['label']) for r in records]) for key in ('person', 'record'))
    if split == 'official':
        group, test = record, np.char.startswith(record, 'x')
        notes = ('most people of the test records also have a training record: the split keeps records apart, not people',)
    else:
        group, test, notes = person, study.hold_out_groups(person, label, len(apnea_ecg.CLASSES), seed=seed), ()
    return study.make_study(
        'apnea_heart_rate', np.concatenate([r['windows'] for r in records]), label, person, group=group, test=test, notes=notes,
        classes=apnea_ecg.CLASSES, channels=('heart rate',), sampling_rate_hz=1, where=str(folder), own_scale='record')


class ApneaHeartRate(Records, skip_registration=True):
    """Windows of heart rate at 1 Hz with apnea labels, one example a night."""

    DESCRIPTION = __doc__
    CITATION = apnea_ecg.CITATION
    LICENSE = apnea_ecg.LICENSE
    READERS = (apnea_ecg,)

    def __init__(self, folder, window_seconds: int = 300, **builder_options):
        """Reads from the database's `folder`; see :class:`neurostim.data.prepared.Records`."""
        super().__init__(folder, (window_seconds, 1), **builder_options)

    def source_files(self):
        files = [f'{record}.{kind}' for record in RECORDS for kind in ('hea', 'qrs', 'apn') if kind != 'apn' or record[0] != 'x']
        return [self.folder / file for file in (*files, 'event-2-answers', 'additional-information.txt')]

    def examples(self):
        table = apnea_ecg.read_table(self.folder)
        for record in RECORDS:
            person, minutes = table[record]
            label = apnea_ecg.read_labels(self.folder, record)
            # A cut in a text file leaves no trace, but the table knows each length (to a last, incomplete minute). It is wrong of c07.
            if record in apnea_ecg.TEST_RECORDS and abs(minutes - len(label)) > 1:
                raise UserError(f'{self.folder}/event-2-answers: {len(label)} labels of the {minutes} of {record}: {apnea_ecg.REMEDY}')
            seconds, rr = accepted_intervals(apnea_ecg.read_beats(self.folder, record))
            kept = np.flatnonzero(np.histogram(seconds, MINUTE * np.arange(len(label) + 1))[0] >= FEWEST_BEATS)
            if len(kept) == 0:
                raise UserError(f'{self.folder / record}.qrs: no minute has {FEWEST_BEATS} beats: {apnea_ecg.REMEDY}')
            rate = scale(heart_rate(seconds, rr, MINUTE * len(label)))
            yield {
                'record': record, 'person': person, 'windows': cut(rate, MINUTE * kept, self.window_shape[0])[..., None],
                'minute': kept.astype(np.int32), 'label': label[kept].astype(np.int32),
            }


def accepted_intervals(beats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intervals between beats without those of missed and false beats.

    Args:
      beats: times in seconds, rising.

    Returns:
      The times of the beats that end an accepted interval, and the intervals (RR), in seconds: within physiological limits and
      within 30 % of the median of their neighbours.
    """
    rr = np.diff(beats)
    possible = (rr >= SHORTEST_RR) & (rr <= LONGEST_RR)
    seconds, rr = beats[1:][possible], rr[possible]
    usual = ndimage.median_filter(rr, RR_NEIGHBOURS, mode='nearest')
    accepted = np.abs(rr - usual) <= LARGEST_RR_CHANGE * usual
    return seconds[accepted], rr[accepted]


def heart_rate(seconds: np.ndarray, rr: np.ndarray, length: int) -> np.ndarray:
    """The heart rate in beats a minute at seconds 0 ... length - 1: straight lines between beats, held at the ends."""
    return np.interp(np.arange(length), seconds, 60 / rr)


def scale(rate: np.ndarray) -> np.ndarray:
    """One record's heart rate [seconds] relative to its own course, in units of 8 beats a minute; no label is used.

    The running median over ten minutes takes away the person's resting rate and its drift over the night; at a night's ends the
    median is over what there is. Dividing by each record's own spread instead was worse (kappa 0.73-0.75, against 0.757, of a linear
    classifier on random convolutions): how many beats the rate swings is itself the sign of apnea.
    """
    # A median a minute, joined by lines, is as good as one a second and much faster.
    centres = np.arange(0, len(rate), MINUTE)
    medians = [np.median(rate[max(0, c - BASELINE_SECONDS // 2):c + BASELINE_SECONDS // 2 + 1]) for c in centres]
    baseline = np.interp(np.arange(len(rate)), centres, medians)
    return np.clip((rate - baseline) / BEATS_PER_MINUTE_UNIT, -LARGEST, LARGEST).astype(np.float32)


def cut(signal: np.ndarray, centres: np.ndarray, length: int) -> np.ndarray:
    """[n, length] windows of a signal around sample numbers; the signal's ends are held where a window reaches beyond them."""
    index = centres[:, None] + np.arange(length) - length // 2
    return signal[np.clip(index, 0, len(signal) - 1)]
