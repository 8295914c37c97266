"""Runs `experiments.run` in forks of a process that has imported everything already: a real process with its own exit status, standard
output and standard error, without the seconds that a fresh one spends on imports.

The parent has started no backend and no thread of its own, so that forking is safe.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import typing
import warnings

ROOT = pathlib.Path(__file__).parents[1]
# The text of a config whose every phase takes a second or two.
TINY = """
from neurostim.config import default_config


def get_config():
    config = default_config()
    config.study.subjects = 6
    config.study.minutes_per_subject = 30
    config.teacher.models = ('mlp',)
    config.teacher.training.steps = 40
    config.teacher.flow.steps = 0
    config.excite.method = 'mixture'
    config.excite.count = 300
    config.students = ('mlp', 'knn')
    config.student_steps = 20
    config.evaluate.seeds = 1
    config.evaluate.interval_draws = 50
    config.evaluate.privacy = False
    return config
"""


class Finished(typing.NamedTuple):
    """How a run ended; `status` is minus the signal where one ended it."""

    status: int
    out: str
    err: str
    seconds: float


class Runner:
    """Starts the parent; `run` starts a fork and waits for it.

    Args:
      scratch: a folder for the forks' output.
    """

    def __init__(self, scratch: pathlib.Path):
        self._scratch = scratch
        environment = {**os.environ, 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1', 'OPENBLAS_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
        environment.pop('NEUROSTIM_DATA_DIR', None)
        self._process = subprocess.Popen(
            [sys.executable, __file__], cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, *arguments: str, kill_after: float | None = None) -> Finished:
        """Runs `python -m experiments.run ARGUMENTS` in the repository's root, and kills it after so many seconds."""
        out, err = self._scratch / 'out', self._scratch / 'err'
        started = time.perf_counter()
        print(json.dumps({'arguments': arguments, 'out': str(out), 'err': str(err)}), file=self._process.stdin, flush=True)
        pid = int(self._process.stdout.readline())
        killer = threading.Timer(kill_after or 300, os.kill, (pid, signal.SIGKILL))
        killer.start()
        status = int(self._process.stdout.readline())
        killer.cancel()
        return Finished(status, out.read_text(), err.read_text(), time.perf_counter() - started)

    def close(self):
        self._process.stdin.close()
        self._process.wait(10)


def child(arguments: list[str], out: str, err: str) -> typing.NoReturn:
    """What a fresh process would do after its imports."""
    from absl import app

    from experiments import run
    for path, stream in ((out, sys.stdout), (err, sys.stderr)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, stream.fileno())
    status = 1
    sys.argv = ['experiments/run.py', *arguments]
    try:
        app.run(run.main, flags_parser=functools.partial(run.parse_flags, check=run.check_flags))
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


def main() -> None:
    """Forks for every line of standard input; answers with the fork's id, then its status."""
    import orbax.checkpoint  # noqa: F401
    import sklearn.ensemble  # noqa: F401
    import sklearn.neighbors  # noqa: F401

    import experiments.run  # noqa: F401
    from neurostim import config  # noqa: F401
    from neurostim.evaluation import phase  # noqa: F401
    from neurostim.excitation import marginals
    marginals.DRAWS, marginals.SEEN = 1024, 192  # of a test's few windows these many draws say as much
    for line in sys.stdin:
        with warnings.catch_warnings(action='ignore'):  # JAX warns of forks: there is no thread yet that could hold a lock
            pid = os.fork()
        if pid == 0:
            child(**json.loads(line))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == '__main__':
    main()
