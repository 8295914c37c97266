"""Several processes excite together, as on several hosts: real ones, that find each other over loopback."""

import os
import re
import shutil
import socket
import subprocess
import sys

import pytest
from forked import ROOT, TINY, Runner

from neurostim.excitation import store

ENVIRONMENT = {**os.environ, 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1', 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)}


@pytest.fixture(scope='module')
def flags(tmp_path_factory):
    """Of a small simulated study, and three shards: one process makes two, the other one."""
    path = tmp_path_factory.mktemp('config') / 'tiny.py'
    path.write_text(TINY)
    return f'--config={path}', '--config.excite.method=gaussian', '--config.excite.count=9000'


def start(folder, *flags):
    return subprocess.Popen([sys.executable, '-m', 'experiments.run', f'--workdir={folder}', *flags], cwd=ROOT, env=ENVIRONMENT,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


@pytest.fixture(scope='module')
def alone(flags, tmp_path_factory):
    """A folder with a teacher and the stimuli that one process made."""
    folder = tmp_path_factory.mktemp('alone')
    run = start(folder, *flags, '--phase=train,excite')
    out, err = run.communicate(timeout=200)
    assert run.returncode == 0, out + err
    return folder


def stimuli_of(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / 'stimuli').iterdir()) if path.is_file()}


@pytest.mark.slow
def test_two_processes_make_the_bytes_of_one(alone, flags, tmp_path):
    shutil.copytree(alone / 'teacher', tmp_path / 'teacher')
    address = f'--coordinator=127.0.0.1:{free_port()}'
    runs = [start(tmp_path, *flags, '--phase=excite', address, '--processes=2', f'--process={i}') for i in (0, 1)]
    ends = [run.communicate(timeout=200) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], ends
    assert not any('Traceback' in text for end in ends for text in end)
    # Each made its share: the first and the third shard, and the second.
    for end, share in zip(ends, ('4,904', '4,096'), strict=True):
        assert f'{share} of {share} stimuli (100 %)' in end[1]
    assert stimuli_of(tmp_path) == stimuli_of(alone)
    assert store.summary(tmp_path / 'stimuli')['count'] == 9000


@pytest.fixture(scope='module')
def runner(tmp_path_factory):
    runner = Runner(tmp_path_factory.mktemp('scratch'))
    yield runner
    runner.close()


@pytest.mark.parametrize('wrong, message', [
    (('--coordinator=127.0.0.1:1234',), '--processes=0 --process=-1: give HOST:PORT'),
    (('--coordinator=here', '--processes=2', '--process=0'), '--coordinator=here .*give HOST:PORT'),
    (('--coordinator=127.0.0.1:1234', '--processes=2', '--process=2'), '--process=2: give HOST:PORT'),
    (('--processes=2', '--process=0'), 'say nothing without --coordinator'),
    (('--coordinator=auto',), '--coordinator=auto: .*start all'),
])
def test_what_does_not_fit_is_refused(runner, flags, wrong, message):
    run = runner.run(*flags, '--workdir=/nowhere/at/all', '--phase=excite', *wrong)
    assert run.status == 2 and len(run.err.splitlines()) == 1 and run.err.startswith('error: '), run
    assert re.search(message, run.err)
