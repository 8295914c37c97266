r"""Runs an experiment: trains a teacher, excites it, evaluates students.

    python -m experiments.run --config=experiments/configs/breathing.py --workdir=runs/breathing
    python -m experiments.run --config=... --workdir=... --phase=excite --config.excite.count=100000
"""

from __future__ import annotations

import functools

from absl import app, flags

from experiments.command_line import CONFIG, fail, parse_flags, prepare_jax
from neurostim.errors import UserError

_WORKDIR = flags.DEFINE_string('workdir', None, 'The folder that the phases write to and speak through.')
_COORDINATOR = flags.DEFINE_string(
    'coordinator', '', "Several processes excite together: HOST:PORT of process 0, or 'auto' on a cluster (SLURM, GKE, TPU pods).")
_PROCESSES = flags.DEFINE_integer('processes', 0, 'How many processes there are, unless --coordinator=auto.')
_PROCESS = flags.DEFINE_integer('process', -1, 'The number of this process, from 0 on, unless --coordinator=auto.')
_PHASE = flags.DEFINE_list('phase', ['all'], "Comma list of 'train', 'excite', 'evaluate', or 'all'.")


def check_flags() -> None:
    """Refuses a command line without the flags that an experiment needs."""
    if CONFIG.value is None or not _WORKDIR.value:
        raise UserError('give --config=experiments/configs/NAME.py and --workdir=DIR')
    try:
        CONFIG.value.seed  # noqa: B018 (a file that cannot be loaded says so on its first use)
    except OSError as error:
        raise UserError(f'{error}: give one of experiments/configs') from error


def main(_) -> None:
    """Runs the phases asked for."""
    try:
        from neurostim import config as configs
        from neurostim import devices, pipeline
        phases = pipeline.PHASES if _PHASE.value == ['all'] else _PHASE.value
        for phase in phases or ['']:
            if phase not in pipeline.PHASES:
                raise UserError(f"unknown phase {phase!r}: choose 'all' or a comma list of {', '.join(pipeline.PHASES)}")
        if _COORDINATOR.value:
            devices.join(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        elif _PROCESSES.present or _PROCESS.present:
            raise UserError('--processes and --process say nothing without --coordinator: give HOST:PORT of process 0')
        prepare_jax()  # before anything is compiled
        configs.check(CONFIG.value)
        pipeline.run(CONFIG.value, _WORKDIR.value, phases)
    except UserError as error:
        fail(error)
    except OSError as error:
        fail(f'{error}: check that --workdir={_WORKDIR.value} can be written to and has space')


if __name__ == '__main__':
    app.run(main, flags_parser=functools.partial(parse_flags, check=check_flags))
