"""What progress shows and writes, with a clock that the test turns."""

import io
import json

import numpy as np
import pytest

from neurostim.errors import UserError
from neurostim.progress import MetricsWriter, Progress


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(stream, seconds, writer=None, done=0):
    """Of a thousand units eight a second for some seconds, each with its update."""
    clock = Clock()
    progress = Progress(1000, 'stimuli', 'excite', writer, stream, done=done, clock=clock)
    for step in range(1, 8 * seconds + 1):
        clock.now = 100 + step / 8
        progress.update(done + step, accepted=0.93)
    return progress


def test_metrics_are_one_object_a_line(tmp_path):
    path = tmp_path / 'new' / 'metrics.jsonl'
    with MetricsWriter(path) as writer:
        writer.write(step=np.int64(3), loss=np.float32(0.5), gap=float('nan'), counts=np.array([1, 2]), name='cnn', limit=np.inf)
        writer.write(done=True)
    first, second = lines(path)
    assert first.pop('time') > 1e9
    assert first == {'step': 3, 'loss': 0.5, 'gap': None, 'counts': [1, 2], 'name': 'cnn', 'limit': None}
    assert second['done'] is True


@pytest.mark.parametrize('kept', [0, 1, 3])
@pytest.mark.parametrize('torn', ['', '{"a": 1', '{"a": "' + 9000 * 'x'])
def test_a_torn_last_line_is_cut_off(tmp_path, kept, torn):
    path = tmp_path / 'metrics.jsonl'
    path.write_text(kept * '{"a": 0}\n' + torn)
    with MetricsWriter(path) as writer:
        writer.write(a=2)
    assert [line['a'] for line in lines(path)] == kept * [0] + [2]


def test_metrics_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match='cannot write .*Is a directory'):
        MetricsWriter(tmp_path)


def test_a_terminal_shows_one_line():
    stream = Terminal()
    run(stream, 4).close()
    shown = stream.getvalue()
    assert shown.count('\n') == 1 and shown.endswith('\n')
    assert 15 <= shown.count('\r') <= 21
    assert '\rexcite: 30 of 1,000 stimuli (3 %), 8 a second, accepted 93 %, 2 min left\x1b[K\r' in shown
    assert shown.rstrip().endswith('excite: 32 of 1,000 stimuli (3 %), 8 a second, accepted 93 %, 4 s\x1b[K')


def test_elsewhere_it_is_quiet():
    stream = io.StringIO()
    run(stream, 65).close()
    shown = stream.getvalue().splitlines()
    assert len(shown) == 3 and '\r' not in stream.getvalue()
    assert 'left' in shown[0] and 'left' not in shown[-1]


def test_resumed_work_does_not_inflate_the_rate():
    stream = io.StringIO()
    run(stream, 30, done=600).close()
    first, last = stream.getvalue().splitlines()
    assert 'excite: 840 of 1,000 stimuli (84 %), 8 a second' in first and '20 s left' in first
    assert ' 8 a second' in last


def test_metrics_at_most_once_a_second(tmp_path):
    path = tmp_path / 'metrics.jsonl'
    with MetricsWriter(path) as writer:
        run(io.StringIO(), 10, writer).close()
    written = lines(path)
    assert 10 <= len(written) <= 11
    assert written[-1]['phase'] == 'excite' and written[-1]['done'] == 80 and written[-1]['total'] == 1000
    assert written[-1]['accepted'] == 0.93 and written[-1]['per_second'] == pytest.approx(8)


def test_compilation_does_not_slow_the_rate():
    stream, clock = io.StringIO(), Clock()
    progress = Progress(1000, 'stimuli', 'excite', stream=stream, clock=clock)
    for clock.now, done in ((200, 100), (210, 200), (240, 500)):
        progress.update(done)
    first, last = stream.getvalue().splitlines()
    assert first == 'excite: 100 of 1,000 stimuli (10 %)'
    assert last == 'excite: 500 of 1,000 stimuli (50 %), 10 a second, 50 s left'


def test_nothing_done_is_no_error():
    stream = io.StringIO()
    Progress(0, 'stimuli', 'excite', stream=stream, clock=Clock()).close()
    assert '0 of 0' in stream.getvalue()
