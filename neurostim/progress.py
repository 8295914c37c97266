"""What a user sees while something long runs, and the lines it leaves in metrics.jsonl."""

from __future__ import annotations

import collections
import json
import os
import sys
import time

from neurostim.errors import UserError
from neurostim.files import as_json


class MetricsWriter:
    """Appends JSON objects to a file, one a line.

    Each line is one unbuffered append, so that processes may share the file and a kill costs at most the line being written.
    A torn last line that an earlier kill left is cut off on opening.

    Args:
      path: the file; its folder is created.

    Raises:
      UserError: the file cannot be written.
    """

    def __init__(self, path):
        self._path = os.fspath(path)
        try:
            os.makedirs(os.path.dirname(self._path) or '.', exist_ok=True)
            self._file = open(self._path, 'ab+', buffering=0)
            self._file.truncate(self._end_of_last_line())
        except OSError as error:
            raise self._trouble(error) from error

    def write(self, **figures):
        """Appends one object: `figures`, after the `time` (seconds since 1970)."""
        line = json.dumps(as_json({'time': round(time.time(), 3), **figures}), allow_nan=False) + '\n'
        try:
            self._file.write(line.encode())
        except OSError as error:
            raise self._trouble(error) from error

    def close(self):
        self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _end_of_last_line(self) -> int:
        end = self._file.seek(0, os.SEEK_END)
        while end:  # Backwards by blocks: the file may be large.
            start = max(0, end - 4096)
            self._file.seek(start)
            newline = self._file.read(end - start).rfind(b'\n')
            if newline >= 0:
                return start + newline + 1
            end = start
        return 0

    def _trouble(self, error: OSError) -> UserError:
        return UserError(f'cannot write {self._path} ({error.strerror}): free some space or choose another --workdir')


class Progress:
    """Shows rate, figures and time left, and writes them to metrics.jsonl at most once a second.

    On a terminal one line is rewritten at most five times a second; elsewhere a line appears at most every 30 seconds, and one at
    the end. The rate is that of the last samples, from the first update on, so that neither compilation nor work that an earlier run
    did distorts it; the last line gives the mean of the whole run.

    Args:
      total: the number of units when all is done.
      unit: what is counted, such as 'stimuli'.
      label: what runs, such as 'excite'.
      writer: a MetricsWriter, or None.
      stream: where to show it; standard error by default.
      done: units that an earlier run finished.
      clock: seconds, monotonic.
    """

    def __init__(self, total: int, unit: str, label: str, writer: MetricsWriter | None = None, stream=None, done: int = 0,
                 clock=time.monotonic):
        self._total, self._unit, self._label = total, unit, label
        self._writer, self._stream, self._clock = writer, stream or sys.stderr, clock
        self._terminal = self._stream.isatty()
        self._begin = self._shown = self._written = clock()
        self._resumed = self._done = done
        self._figures = {}
        self._samples = collections.deque(maxlen=64)

    def update(self, done: int, **figures):
        """Says that `done` units (in all, an earlier run's included) are finished; `accepted` is a share, other figures as named."""
        now = self._clock()
        self._done, self._figures = done, figures
        if not self._samples or now - self._samples[-1][0] >= 0.2:
            self._samples.append((now, done))
        if now - self._shown >= (0.2 if self._terminal else 30):
            self._shown = now
            self._show(self._line(self._rate(), left=True))
        if now - self._written >= 1:
            self._written = now
            self._write(self._rate())

    def close(self):
        """Shows and writes the last state, with the mean rate of this run."""
        seconds = self._clock() - self._begin
        rate = (self._done - self._resumed) / seconds if seconds > 0 else None
        self._show(f'{self._line(rate, left=False)}, {_duration(seconds)}', last=True)
        self._write(rate)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _rate(self) -> float | None:
        (start, before), now = self._samples[0], self._clock()
        return (self._done - before) / (now - start) if now > start else None

    def _line(self, rate: float | None, left: bool) -> str:
        share = 100 * self._done / self._total if self._total else 100
        parts = [f'{self._label}: {self._done:,} of {self._total:,} {self._unit} ({share:.0f} %)']
        if rate is not None:
            parts.append(f'{rate:,.0f} a second' if rate >= 100 else f'{rate:.3g} a second')
        for name, value in self._figures.items():
            parts.append(f'accepted {100 * value:.0f} %' if name == 'accepted' else f'{name} {value:.4g}')
        if left and rate:
            parts.append(f'{_duration((self._total - self._done) / rate)} left')
        return ', '.join(parts)

    def _show(self, line: str, last: bool = False):
        if self._terminal:
            line = f'\r{line}\x1b[K'  # Rewrites the line and clears what a longer one left.
        self._stream.write(line + ('\n' if last or not self._terminal else ''))
        self._stream.flush()

    def _write(self, rate: float | None):
        if self._writer:
            self._writer.write(phase=self._label, done=self._done, total=self._total, per_second=rate,
                               seconds=self._clock() - self._begin, **self._figures)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    return f'{minutes} min' if minutes < 60 else f'{minutes // 60} h {minutes % 60} min'
