"""A study: labelled windows of recordings, whose they are, and which are held out.

Everything downstream (scaling, teachers, excitation, students, evaluation) sees a :class:`Study` and nothing else of the
recordings.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math

import numpy as np

from neurostim.errors import UserError

LOCKED = 0.1  # time_locked_share from which on windows begin where they should, and nowhere else (BUILD_NOTES)
LOCKED_WINDOWS = 30  # of a class, that say whether its windows are alike from their beginnings on


@dataclasses.dataclass(frozen=True)
class Study:
    """Labelled windows.

    Attributes:
      name: the study's name.
      x: float32 [n, time, channels], [n, features] or [n, height, width, channels], finite, in the study's own units.
      y: int32 [n], indices into `classes`.
      subject: int32 [n], indices into `subjects`: the person a window comes from.
      group: int32 [n], the unit that is never divided between training and test, and that is resampled for intervals: a
        subject, a record, or a block of a record.
      test: bool [n], whether a window is held out.
      classes, channels, subjects: names.
      sampling_rate_hz: of the time axis of `x`; None where there is none.
      notes: remarks on how the recordings were read, for the report.
      own_scale: what of the recordings a window's samples depend on alone, in units in which they are near one: 'window', that very
        window, or 'record', its person's recordings; '' where they come as they are, or depend on other people's.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    subject: np.ndarray
    group: np.ndarray
    test: np.ndarray
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    subjects: tuple[str, ...]
    sampling_rate_hz: float | None = None
    notes: tuple[str, ...] = ()
    own_scale: str = ''

    @property
    def kind(self) -> str:
        """'features' ([n, features]), 'windows' ([n, time, channels]) or 'images' ([n, height, width, channels])."""
        return {2: 'features', 3: 'windows', 4: 'images'}[self.x.ndim]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one window."""
        return self.x.shape[1:]

    def describe(self) -> dict:
        """The `study` entry of results.json."""
        return {'name': self.name, 'train_windows': int((~self.test).sum()), 'test_windows': int(self.test.sum()),
                'subjects': len(self.subjects), 'classes': list(self.classes)}

    def digest(self) -> str:
        """SHA-256 over labels, people and who is held out: what of a study is the same on every machine, down to the last bit."""
        state = hashlib.sha256()
        for column in (self.y, self.subject, self.test):
            state.update(np.ascontiguousarray(column, '<i4').tobytes())
        return state.hexdigest()

    def part(self, test: bool) -> Study:
        """The held-out windows (`test=True`) or the training windows."""
        return self.take(self.test == test)

    def take(self, which: np.ndarray) -> Study:
        """The windows that a mask or an index array selects; names stay."""
        arrays = {name: getattr(self, name)[which] for name in ('x', 'y', 'subject', 'group', 'test')}
        return dataclasses.replace(self, **arrays)

    def most_windows(self, windows: int, numbers: int) -> int:
        """How many of so many windows of this shape hold at most so many numbers; at least one."""
        return max(1, min(windows, numbers // math.prod(self.shape)))

    def at_most(self, windows: int, numbers: int = 2**62, seed: int = 0) -> Study:
        """The study, or, where it has more than so many windows, or more than `numbers` numbers in them, as many as there may be: drawn at
        random, in their order."""
        most = self.most_windows(windows, numbers)
        return self if len(self.y) <= most else self.take(np.sort(np.random.default_rng(seed).permutation(len(self.y))[:most]))


def make_study(
    name, x, y, subject, *, test=None, group=None, classes=None, channels=None, sampling_rate_hz=None, notes=(), where='study',
    own_scale='',
) -> Study:
    """Checks arrays that come from a loader or a user and makes them a :class:`Study`.

    Args:
      x: [n, ...] numbers; see :class:`Study`.
      y: int [n] class indices, each class with at least one window.
      subject: int or str [n].
      test: bool [n]; None holds out a third of the subjects.
      group: int or str [n]; None takes the subject.
      classes, channels: names; None numbers them.
      where: names the source in error messages.
      own_scale: see :class:`Study`.

    Raises:
      UserError: wrong dimensions or lengths, non-finite samples, one subject only, one class only, a class without windows, in
        the whole or in the training part, a test part of one class, training windows that never change.
    """
    x, y, subject = np.asarray(x), np.asarray(y), np.asarray(subject)
    x = _check_windows(x, where)
    for label, array in (('y', y), ('subject', subject), ('split', test), ('group', group)):
        if array is not None and np.shape(array) != (len(x),):
            raise UserError(f"{where}: '{label}' has shape {np.shape(array)} but 'x' has {len(x)} windows: give one value a window")
    y, classes = _check_labels(y, classes, where)
    if subject.dtype.kind not in 'iuU':
        raise UserError(f"{where}: 'subject' has dtype {subject.dtype}: give whole numbers or strings")
    subjects, subject = np.unique(subject, return_inverse=True)
    if len(subjects) < 2:
        raise UserError(f"{where}: 'subject' names one subject only ({subjects[0]}): give at least two, so that some can be held out")
    group = np.unique(subject if group is None else group, return_inverse=True)[1]
    test = hold_out_groups(subject, y, len(classes)) if test is None else np.asarray(test, bool)
    _check_parts(y, test, classes, where)
    if (x[~test].reshape(-1, x.shape[-1]) == x[~test][0].reshape(-1, x.shape[-1])[0]).all():
        raise UserError(f"{where}: 'x' never changes in the training part, in no channel: there is nothing to learn")
    n_channels = x.shape[-1]
    channels = tuple(map(str, channels)) if channels is not None else tuple(f'channel {c}' for c in range(n_channels))
    if len(channels) != n_channels:
        raise UserError(f"{where}: 'channels' has {len(channels)} names but 'x' has {n_channels} channels: give one name a channel")
    if sampling_rate_hz is not None and not (np.isfinite(sampling_rate_hz) and sampling_rate_hz > 0):
        raise UserError(f"{where}: 'sampling_rate_hz' is {sampling_rate_hz}: give a positive number")
    return Study(
        name, x, y.astype(np.int32), subject.astype(np.int32), group.astype(np.int32), test,
        classes, channels, tuple(map(str, subjects)), None if sampling_rate_hz is None else float(sampling_rate_hz), tuple(notes),
        own_scale,
    )


def _check_windows(x: np.ndarray, where: str) -> np.ndarray:
    """`x` as float32, of a known number of dimensions, not empty, finite."""
    if x.ndim not in (2, 3, 4):
        shapes = '[n, features], [n, time, channels] or [n, height, width, channels]'
        raise UserError(f"{where}: 'x' has {x.ndim} dimensions {x.shape}: give {shapes}")
    if x.dtype.kind not in 'fiub':
        raise UserError(f"{where}: 'x' has dtype {x.dtype}: give numbers (float32)")
    if 0 in x.shape:
        raise UserError(f"{where}: 'x' is empty, its shape is {x.shape}: give at least one window of each class")
    given = x
    with np.errstate(over='ignore'):  # what float32 cannot hold becomes infinite and is refused with the rest
        x = x.astype(np.float32, copy=False)
    finite = np.isfinite(x).reshape(len(x), -1).all(1)
    if not finite.all():
        first, count = int(np.flatnonzero(~finite)[0]), int((~finite).sum())
        raise UserError(f"{where}: 'x' has non-finite samples in {count} windows, the first is window {first}: drop or repair them")
    if given.dtype.itemsize > 4:
        _check_resolution(given, x, where)
    return x


def _check_resolution(given: np.ndarray, x: np.ndarray, where: str) -> None:
    """Refuses a channel whose variation drowns in float32's rounding, as beside a huge offset."""
    some = max(1, given.size // 2**22)  # a part is enough to see it
    exact, rounded = (np.asarray(a[::some], np.float64).reshape(-1, a.shape[-1]) for a in (given, x))
    spread, lost = (exact - exact[0]).std(0), (exact - rounded).std(0)
    bad = np.flatnonzero((spread > 0) & (lost > 0.1 * spread))
    if len(bad):
        c = bad[0]
        raise UserError(f"{where}: channel {c} of 'x' varies by {spread[c]:.3g} around {exact[:, c].mean():.9g}, which float32 "
                        'cannot hold: subtract a constant from it first')


def _check_labels(y: np.ndarray, classes, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """`y` as int64 and the classes' names, at least two, all different, each with windows."""
    if y.dtype.kind not in 'iu' and not (y.dtype.kind == 'f' and np.isfinite(y).all() and np.array_equal(y, np.round(y))):
        raise UserError(f"{where}: 'y' has dtype {y.dtype} and no whole numbers: give integer class indices")
    y = y.astype(np.int64)
    if classes is None:
        if y.max() >= len(y):  # before names are made up for a billion classes
            raise UserError(f"{where}: 'y' holds {y.max()}, so there are classes without a window: number them from 0 without gaps")
        classes = [f'class {c}' for c in range(int(y.max()) + 1)]
    classes = tuple(map(str, classes))
    unknown = np.flatnonzero((y < 0) | (y >= len(classes)))
    if len(unknown):
        known = f'0 to {len(classes) - 1} ({", ".join(classes)})'
        raise UserError(f"{where}: 'y' holds the unknown class {y[unknown[0]]}, at window {unknown[0]}: use {known}")
    if len(classes) < 2:
        raise UserError(f"{where}: 'y' has the single class {classes[0]!r}: a study needs at least two classes")
    if len(set(classes)) < len(classes):
        raise UserError(f"{where}: 'classes' repeats a name ({', '.join(classes)}): give each class its own")
    absent = np.setdiff1d(np.arange(len(classes)), y)
    if len(absent):
        raise UserError(f"{where}: class {absent[0]} ({classes[absent[0]]!r}) has no window: give it windows, or number without gaps")
    return y, classes


def _check_parts(y: np.ndarray, test: np.ndarray, classes: tuple[str, ...], where: str) -> None:
    """Refuses a split with an empty part, a class that cannot be learned, or a test of one class."""
    for part, mask in (('training', ~test), ('test', test)):
        if not mask.any():
            raise UserError(f"{where}: the {part} part is empty: mark some windows 'train' and some 'test' in 'split'")
        present = np.bincount(y[mask], minlength=len(classes)) > 0
        if part == 'training' and not present.all():
            absent = classes[int(np.flatnonzero(~present)[0])]
            raise UserError(f'{where}: class {absent!r} has no window in the training part: give it some, drop it, or split otherwise')
        if present.sum() < 2:
            raise UserError(f'{where}: the {part} part has windows of one class only: give another split')


def time_locked_share(x: np.ndarray, y: np.ndarray) -> float:
    """How far windows of a class are alike from their beginnings on, as those around a heartbeat are and minutes of a night are not: the
    share of their variance around their own means that the mean window of their class has, without what chance gives it. The largest of
    any channel, and of any class of at least `LOCKED_WINDOWS` windows; 0 where there is none.

    Args:
      x: float32 [n, time, channels], scaled: what hardly varies beside 1 counts as constant.
      y: int [n], their classes.
    """
    largest = 0.0
    for label in np.flatnonzero(np.bincount(y) >= LOCKED_WINDOWS):
        windows = x[y == label]
        windows = windows - windows.mean(1, keepdims=True)
        of_mean, around_it = windows.mean(0).var(0), windows.var(0).mean(0)
        share = (of_mean - around_it / (len(windows) - 1)) / np.maximum(of_mean + around_it, 1e-9)
        largest = max(largest, float(share.max()))
    return largest


def hold_out_subject(study: Study, subject: int) -> Study:
    """The study with one person's windows held out, and only theirs: a fold of leave-one-subject-out. They are one group: intervals over
    pooled folds are over people.

    The test part may have windows of one class only, as :func:`make_study` does not allow: figures of folds are pooled.

    Args:
      subject: index into `study.subjects`.

    Raises:
      UserError: the training part, everybody else, lacks a class.
    """
    test = study.subject == subject
    present = np.bincount(study.y[~test], minlength=len(study.classes)) > 0
    if not present.all():
        absent = study.classes[int(np.flatnonzero(~present)[0])]
        raise UserError(f'{study.name}: without {study.subjects[subject]!r} nobody has class {absent!r}, so that it cannot be learnt: give '
                        'windows of it of a second person, or a split that keeps the person in the training part')
    return dataclasses.replace(study, test=test, group=np.where(test, study.group.max() + 1 + subject, study.group).astype(np.int32))


def hold_out_groups(group: np.ndarray, y: np.ndarray, n_classes: int, fraction: float = 1 / 3, seed: int = 0) -> np.ndarray:
    """Holds out about a `fraction` of the groups so that both parts see all classes in like shares.

    Args:
      group: int [n]; groups are never divided.
      y: int [n] class indices.

    Returns:
      bool [n], True for held-out windows: of 200 random choices of groups (of a `fraction` of them, at least one), the one
      whose class counts come closest to `fraction` of each class. A class of one group alone is left to be learnt.
    """
    groups = np.unique(group)
    counts = np.stack([np.bincount(y[group == g], minlength=n_classes) for g in groups])
    chosen = min(max(1, round(len(groups) * fraction)), len(groups) - 1)
    rng = np.random.default_rng(seed)
    wanted = counts.sum(0) * fraction
    best, best_cost = None, np.inf
    for _ in range(200):
        pick = rng.permutation(len(groups))[:chosen]
        held = counts[pick].sum(0)
        untested, unlearnt = (((held == n) & (counts.sum(0) > 0)).sum() for n in (0, counts.sum(0)))
        cost = np.abs(np.log((held + 1) / (wanted + 1))).sum() + 100 * untested + 10_000 * unlearnt
        if cost < best_cost:
            best, best_cost = pick, cost
    return np.isin(group, groups[best])


def divide(unit: np.ndarray, y: np.ndarray, n_classes: int, parts: int, seed: int = 0) -> np.ndarray:
    """Deals units out to parts so that all parts see all classes in like shares.

    Args:
      unit: int [n]; the windows of a unit (a group, a person) stay together.
      y: int [n] class indices.
      parts: how many; at most as many as there are units.

    Returns:
      int [n], the part of each window: of 200 random deals, each part getting as many units as any other or one more, the one whose class
      counts are most alike. Counts of labels decide, and nothing else of the windows.
    """
    unit = np.unique(unit, return_inverse=True)[1]
    counts = np.zeros((unit.max() + 1, n_classes))
    np.add.at(counts, (unit, y), 1)
    rng = np.random.default_rng(seed)
    dealt = np.arange(len(counts)) % parts
    best, best_cost = None, np.inf
    for _ in range(200):
        part = rng.permutation(dealt)
        sums = np.eye(parts)[part].T @ counts
        cost = np.abs(np.log((sums + 1) / (sums.mean(0) + 1))).sum()
        if cost < best_cost:
            best, best_cost = part, cost
    return best[unit]
