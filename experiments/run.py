r"""Runs an experiment: trains a teacher, excites it, evaluates students.

    python -m experiments.run --config=experiments/configs/breathing.py --workdir=runs/breathing
    python -m experiments.run --config=... --workdir=... --phase=excite --config.excite.count=100000
"""

from __future__ import annotations

import os
import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from neurostim.errors import UserError

_CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment: a file of experiments/configs.', lock_config=True)
_WORKDIR = flags.DEFINE_string('workdir', None, 'The folder that the phases write to and speak through.')
_COORDINATOR = flags.DEFINE_string(
    'coordinator', '', "Several processes excite together: HOST:PORT of process 0, or 'auto' on a cluster (SLURM, GKE, TPU pods).")
_PROCESSES = flags.DEFINE_integer('processes', 0, 'How many processes there are, unless --coordinator=auto.')
_PROCESS = flags.DEFINE_integer('process', -1, 'The number of this process, from 0 on, unless --coordinator=auto.')
_PHASE = flags.DEFINE_list('phase', ['all'], "Comma list of 'train', 'excite', 'evaluate', or 'all'.")


def check_flags() -> None:
    """Refuses a command line without the flags that an experiment needs."""
    if _CONFIG.value is None or not _WORKDIR.value:
        raise UserError('give --config=experiments/configs/NAME.py and --workdir=DIR')
    try:
        _CONFIG.value.seed  # noqa: B018 (a file that cannot be loaded says so on its first use)
    except OSError as error:
        raise UserError(f'{error}: give one of experiments/configs') from error


def parse_flags(arguments: list[str], check=check_flags) -> list[str]:
    """Parses the command line; whatever is wrong with it or with the config file is the user's to mend.

    Args:
      check: raises a UserError where a flag is missing; another entry point has its own.
    """
    try:
        rest = flags.FLAGS(arguments)
        if not flags.FLAGS['verbosity'].present:
            logging.set_verbosity(logging.WARNING)  # absl shows INFO otherwise, and orbax has much to tell
        if rest[1:]:
            raise UserError(f'unexpected argument {rest[1]!r}: options are written --name=value')
        check()
        return rest
    except (AttributeError, LookupError) as error:
        text = error
        while isinstance(text, BaseException) and text.args:  # a LookupError's own text is the repr of what it has to say
            text = text.args[0]
        fail(f'--config, no such field or attribute: {text}: see the fields in the config file and in neurostim/config.py')
    except (UserError, flags.Error, ArithmeticError, ImportError, OSError, SyntaxError, TypeError, ValueError) as error:
        fail(error)


def fail(error: BaseException) -> None:
    """Prints one `error:` line and ends with status 2."""
    print('error: ' + ' '.join(str(error).split()), file=sys.stderr)
    sys.exit(2)


def prepare_jax() -> None:
    """Makes every core a device and every program repeatable, and keeps compiled programs on disk between runs."""
    import jax

    from neurostim import devices
    devices.use_all_cores()
    devices.make_repeatable()
    cache = os.environ.get('JAX_COMPILATION_CACHE_DIR') or pathlib.Path.home() / '.cache' / 'neurostim' / 'jax'
    jax.config.update('jax_compilation_cache_dir', str(cache))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.3)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', 0)


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
        configs.check(_CONFIG.value)
        pipeline.run(_CONFIG.value, _WORKDIR.value, phases)
    except UserError as error:
        fail(error)
    except OSError as error:
        fail(f'{error}: check that --workdir={_WORKDIR.value} can be written to and has space')


if __name__ == '__main__':
    app.run(main, flags_parser=parse_flags)
