"""Stimuli on disk: shards that appear whole or not at all.

A finished folder is a TFDS dataset: `tfds.builder_from_directory(folder).as_data_source('train')` yields what
:mod:`neurostim.excitation.records` says.

    stimuli-train.array_record-00000-of-00004 ...   the stimuli in index order
    dataset_info.json  features.json                what TFDS needs to read them
    manifest.json                                   what made them, their layout, and once finished their digests
    progress/                                       locks, temporary files, each shard's checksum and running figures (timings)

All but `progress/` depend on the stimuli alone: an interrupted and resumed run ends with the bytes of an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Iterator

import numpy as np

from neurostim.errors import UserError
from neurostim.excitation import records
from neurostim.excitation.records import Stimuli
from neurostim.files import as_json, changes

_FORMAT = 1


class Store:
    """Writes the stimuli of one run, by one process or several; an interrupted run goes on where it stopped.

    Args:
      folder: the dataset's folder, created if absent.
      manifest: whatever the stimuli depend on, as JSON can hold it.
      count: the number of stimuli.
      shard_size: stimuli a shard.
      shape: the shape of one stimulus.
      classes: the number of classes.
      sifted: whether each comes with how much it surprised novices.
      process: (index, number of processes). Process i writes the shards whose number leaves i when divided by the number; process 0
        calls `finish` when all are done.

    Raises:
      UserError: another run holds the folder, it holds something else, or stimuli of another manifest.
    """

    def __init__(self, folder, manifest: dict, count: int, shard_size: int, shape, classes: int, sifted: bool = False,
                 process=(0, 1)):
        if count < 1 or shard_size < 1:
            raise ValueError(f'count {count} and shard_size {shard_size} must be positive')
        self._folder = pathlib.Path(folder)
        self._progress = self._folder / 'progress'
        layout = {'format': _FORMAT, 'count': count, 'shard_size': shard_size, 'shape': list(shape), 'classes': classes}
        if sifted:  # named only there: a manifest of others is as it was before stimuli could be sifted
            layout['sifted'] = True
        self._made = as_json({'manifest': manifest, 'layout': layout})
        self._count, self._shard_size, self._shape, self._classes = count, shard_size, tuple(shape), classes
        self._sifted, self._process = sifted, process
        self.shards = -(-count // shard_size)
        self._held = None

    def __enter__(self):
        with self._disk():
            self._refuse_foreign()
            self._progress.mkdir(parents=True, exist_ok=True)
            # One process opens at a time, so that looking at the locks, at the manifest and taking a lock are one step.
            with open(self._progress / 'lock', 'a') as gate:
                fcntl.flock(gate, fcntl.LOCK_EX)
                self._refuse_others()
                self._open_manifest()
                self._held = open(self._lock_path(), 'a')
                fcntl.flock(self._held, fcntl.LOCK_EX)  # The kernel lets go of it when the process dies.
        return self

    def __exit__(self, *_):
        self._held.close()

    def bounds(self, shard: int) -> tuple[int, int]:
        """The indices (start, stop) of a shard's stimuli."""
        start = shard * self._shard_size
        return start, min(start + self._shard_size, self._count)

    @property
    def own(self) -> range:
        """The shards that this process makes."""
        index, processes = self._process
        return range(index, self.shards, processes)

    def missing(self) -> list[int]:
        """This process's shards that are yet to be made: absent, cut short, or unlike their checksum. Removes temporary files."""
        with self._disk():
            for shard in self.own:
                for suffix in ('tmp', 'json.tmp'):
                    (self._progress / f'{shard:05d}.{suffix}').unlink(missing_ok=True)
            return [shard for shard in self.own if not self._verified(shard)]

    def write(self, shard: int, x, probabilities, extra: dict | None = None, surprise=None):
        """Adds a shard: whole, or after a kill or an error not at all.

        Args:
          shard: its number.
          x: [stop - start, *shape], finite; stored as float32.
          probabilities: [stop - start, classes]; stored as float32.
          extra: numbers to be summed up by `finish`, such as seconds and attempts; no part of the dataset.
          surprise: [stop - start] of sifted stimuli, else None; stored as float32.

        Raises:
          UserError: non-finite stimuli, or the disk refuses. Shards written before stay.
        """
        start, stop = self.bounds(shard)
        x, probabilities = np.ascontiguousarray(x, '<f4'), np.ascontiguousarray(probabilities, '<f4')
        if x.shape != (stop - start, *self._shape) or probabilities.shape != (stop - start, self._classes):
            raise ValueError(f'shard {shard} needs {stop - start} stimuli of shape {self._shape} in {self._classes} classes, '
                             f'not x {x.shape} and probabilities {probabilities.shape}')
        if self._sifted != (surprise is not None):
            raise ValueError(f'shard {shard} is {"" if self._sifted else "not "}to hold what surprised novices')
        if surprise is not None:
            surprise = np.ascontiguousarray(surprise, '<f4').reshape(stop - start)
        if not all(np.isfinite(column).all() for column in (x, probabilities, surprise) if column is not None):
            raise UserError(f'non-finite values among stimuli {start} to {stop - 1} for {self._folder}: '
                            'check that the teacher is finite, or lower the learning rate of the excitation')
        temporary = self._progress / f'{shard:05d}.tmp'
        try:
            with self._disk():
                records.write(temporary, x, probabilities, surprise)
                record = {'sha256': _digest(temporary), 'bytes': temporary.stat().st_size, 'extra': as_json(extra or {})}
                # The data first: a checksum without its shard would be a second case to tell apart.
                _publish(temporary, self._path(shard))
                _write_json(self._record_path(shard), record)
        except UserError:
            temporary.unlink(missing_ok=True)  # Gives the space back.
            raise

    def wait_for_others(self, poll_s: float = 0.5) -> None:
        """Returns once the others have done their part: all shards where this is process 0, the whole dataset elsewhere.

        A process that dies does not leave the others waiting: `jax.distributed` ends them.
        """
        index, processes = self._process
        waiting = [shard for shard in range(self.shards) if shard not in self.own] if processes > 1 and not index else []
        while waiting := [shard for shard in waiting if not self._verified(shard)]:
            time.sleep(poll_s)
        while index and not _read_manifest(self._folder)['finished']:
            time.sleep(poll_s)

    def finish(self) -> dict:
        """Verifies all shards, of all processes, and writes what makes them a dataset.

        Returns:
          count, class_counts, sha256 (over all values of x, float32 little-endian, in index order) and totals: the sums of `extra`.

        Raises:
          UserError: a shard is missing or damaged.
        """
        sha256, class_counts, totals = hashlib.sha256(), np.zeros(self._classes, np.int64), {}
        done, lengths = [], []
        with self._disk():
            for shard in range(self.shards):
                start, stop = self.bounds(shard)
                record = self._record(shard)
                stimuli = _read_shard(self._path(shard), record['sha256'], stop - start, self._shape, self._classes, self._sifted)
                sha256.update(stimuli.x.astype('<f4', copy=False).data)
                class_counts += np.bincount(stimuli.label, minlength=self._classes)
                for key, value in record['extra'].items():
                    totals[key] = totals.get(key, 0) + value
                done.append(record)
                lengths.append(stop - start)
            finished = {'count': self._count, 'class_counts': class_counts.tolist(), 'sha256': sha256.hexdigest()}
            self._write_metadata(lengths, sum(record['bytes'] for record in done))
            _write_json(self._progress / 'totals.json', totals)
            shards = [record['sha256'] for record in done]
            _write_json(self._folder / 'manifest.json', {**self._made, 'finished': {**finished, 'shards': shards}})
        return {**finished, 'totals': totals}

    def _path(self, shard: int) -> pathlib.Path:
        return records.file(self._folder, shard, self.shards)

    def _record_path(self, shard: int) -> pathlib.Path:
        return self._progress / f'{shard:05d}.json'

    def _verified(self, shard: int) -> bool:
        path = self._path(shard)
        return path.is_file() and _digest(path) == self._record(shard)['sha256']

    def _record(self, shard: int) -> dict:
        """The shard's checksum, bytes and extra; a checksum of None where it was never finished."""
        record = _read_json(self._record_path(shard))
        return record if isinstance(record, dict) and {'sha256', 'bytes', 'extra'} <= record.keys() else {'sha256': None}

    def _lock_path(self) -> pathlib.Path:
        index, processes = self._process
        return self._progress / f'lock-{index}-of-{processes}'

    def _refuse_foreign(self):
        # A kill before the manifest is written leaves progress/ alone.
        if self._folder.exists() and not (self._folder / 'manifest.json').exists():
            foreign = sorted(entry.name for entry in self._folder.iterdir() if entry.name != 'progress')
            if foreign:
                raise UserError(f'{self._folder} holds {foreign[0]!r} but no stimuli of ours: empty it or choose another --workdir')

    def _refuse_others(self):
        """Refuses if a lock is held that is this process's own or belongs to another number of processes."""
        mine, processes = self._lock_path(), self._process[1]
        for path in self._progress.glob('lock-*'):
            if path == mine or not path.name.endswith(f'-of-{processes}'):
                with open(path) as file:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        raise UserError(f'another run is writing {self._folder}: wait for it to end, or choose another '
                                        '--workdir') from None

    def _open_manifest(self):
        path = self._folder / 'manifest.json'
        if not path.exists():
            _write_json(path, {**self._made, 'finished': None}, temporary=self._progress / 'manifest.json.tmp')
            return
        old = _read_manifest(self._folder)
        changed = changes(old['manifest'], self._made['manifest']) + changes(old['layout'], self._made['layout'])
        if changed:
            raise UserError(f'{self._folder} holds stimuli made otherwise ({"; ".join(changed[:5])}'
                            f'{" ..." if len(changed) > 5 else ""}): choose another --workdir, or delete {self._folder}')

    def _write_metadata(self, lengths: list[int], num_bytes: int):
        staging = self._progress / 'metadata.tmp'
        staging.mkdir(exist_ok=True)
        what = records.features(self._shape, self._classes, self._sifted)
        records.write_metadata(staging, self._folder, what, lengths, num_bytes)
        for file in sorted(staging.iterdir()):
            _publish(file, self._folder / file.name)
        staging.rmdir()

    @contextlib.contextmanager
    def _disk(self):
        """Turns what the file system says into a UserError."""
        try:
            yield
        except (OSError, RuntimeError) as error:  # array_record raises RuntimeError.
            reason = getattr(error, 'strerror', None) or str(error).split(';')[0]
            raise UserError(f'cannot write stimuli to {self._folder} ({reason}): free some space, or choose another --workdir; '
                            'the shards written so far stay and the same command goes on from there') from error


def read(folder) -> Stimuli:
    """All stimuli of a finished dataset, in index order.

    Raises:
      UserError: there is none, it is not finished, or it is damaged.
    """
    layout = _finished(folder)['layout']
    n = layout['count']
    whole = Stimuli(np.empty((n, *layout['shape']), np.float32), np.empty((n, layout['classes']), np.float32), np.empty(n, np.int64),
                    np.empty(n, np.float32) if 'sifted' in layout else None)
    start = 0
    for part in iterate(folder):
        stop = start + len(part.label)
        for array, values in zip(whole, part, strict=True):
            if array is not None:
                array[start:stop] = values
        start = stop
    return whole


def iterate(folder) -> Iterator[Stimuli]:
    """The stimuli of a finished dataset shard by shard, in index order, each verified. Raises as `read` does."""
    document = _finished(folder)
    layout, digests = document['layout'], document['finished']['shards']
    for shard, digest in enumerate(digests):
        count = min(layout['shard_size'], layout['count'] - shard * layout['shard_size'])
        yield _read_shard(records.file(pathlib.Path(folder), shard, len(digests)), digest, count, tuple(layout['shape']), layout['classes'],
                          'sifted' in layout)


def manifest(folder) -> dict:
    """What the stimuli in `folder` were made from; a UserError if there are none."""
    return _read_manifest(folder)['manifest']


def summary(folder) -> dict:
    """What `Store.finish` returned. `totals` is empty where `progress/` was not copied along. Raises as `read` does."""
    finished = {key: value for key, value in _finished(folder)['finished'].items() if key != 'shards'}
    return {**finished, 'totals': _read_json(pathlib.Path(folder) / 'progress' / 'totals.json') or {}}


def _read_shard(path: pathlib.Path, digest: str | None, count: int, shape: tuple, classes: int, sifted: bool) -> Stimuli:
    """Reads and verifies a shard; a UserError where it is missing or differs from its `digest`."""
    if not path.is_file() or _digest(path) != digest:
        raise UserError(f'{path} is {"damaged" if path.exists() else "missing"}: run --phase=excite again to redo it')
    return records.read(path, count, shape, classes, sifted)


def _read_manifest(folder) -> dict:
    path = pathlib.Path(folder) / 'manifest.json'
    if not path.exists():
        raise UserError(f'no stimuli in {folder}: run --phase=excite first')
    document = _read_json(path)
    if not isinstance(document, dict) or not {'manifest', 'layout', 'finished'} <= document.keys():
        raise UserError(f'{path} is damaged: delete {folder} and run --phase=excite again')
    return document


def _finished(folder) -> dict:
    document = _read_manifest(folder)
    if not document['finished']:
        raise UserError(f'the stimuli in {folder} are not finished: run --phase=excite again, it goes on from there')
    return document


def _digest(path: pathlib.Path) -> str:
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def _read_json(path: pathlib.Path):
    """The file's content, or None where there is none or it is no JSON."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _write_json(path: pathlib.Path, value, temporary: pathlib.Path | None = None):
    temporary = temporary or path.with_name(path.name + '.tmp')
    temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + '\n')
    _publish(temporary, path)


def _publish(temporary: pathlib.Path, path: pathlib.Path):
    """Moves a file to its place such that not even a power cut leaves half of it there."""
    _sync(temporary)
    os.replace(temporary, path)
    _sync(path.parent)


def _sync(path: pathlib.Path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
