r"""Compares stimuli with real windows and with whatever else a user would try: studies x methods x students x seeds, as one sweep.

    python -m experiments.compare --config=experiments/configs/main_table.py --workdir=runs/main
    python -m experiments.compare --workdir=runs/compare --config.studies="('apnea_respiration', 'sleep_features')" --config.seeds=3

It may be killed at any moment; the same command goes on, and one that names more studies adds them. Every teacher, data set, student and
attack is kept under DIR/STUDY by what it was made from, so that a changed config makes anew only what it changes.

    python -m experiments.compare --join=runs/one,runs/other --workdir=runs/both

writes what finished sweeps, perhaps of other machines, found together, as if it were one.

A study that ends in ':subjects', such as 'apnea_respiration:subjects', is divided anew: every person in turn is held out.

DIR/main.md and main.png hold README's table and picture, DIR/compare.md all tables, DIR/compare.json all figures, DIR/STUDY-*.png charts.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import fcntl
import functools
import json
import multiprocessing
import pathlib
import sys

from absl import app, flags
from threadpoolctl import threadpool_limits

from experiments import command_line
from neurostim import workdir as workdirs
from neurostim.errors import UserError
from neurostim.files import write_whole
from neurostim.threads import a_core_each, cores

CONFIG = pathlib.Path(__file__).parent / 'configs' / 'compare.py'
_WORKDIR = flags.DEFINE_string('workdir', None, 'The folder that everything is written to; what it holds is not made again.')
_JOIN = flags.DEFINE_list('join', [], 'Folders of finished sweeps: what they found is written to --workdir, and nothing is swept.')


@contextlib.contextmanager
def workers(processes: int):
    """Gives (an executor for data sets, one for students and attacks): so many processes, or, for one, this process: excitation uses all
    cores by itself, so that data sets come one after another, and a student uses one core, so that they train in as many threads."""
    with contextlib.ExitStack() as stack:
        if processes > 1:
            pool = stack.enter_context(concurrent.futures.ProcessPoolExecutor(
                processes, multiprocessing.get_context('spawn'), initializer=command_line.prepare_jax))
            yield pool, pool
        else:
            threads = (1, cores())
            stack.enter_context(threadpool_limits(1))  # each student's own threads would only wait for each other
            yield tuple(stack.enter_context(a_core_each(number)) for number in threads)


@contextlib.contextmanager
def alone(workdir: pathlib.Path):
    """Holds the folder, created if absent, while a sweep is at work in it.

    Raises:
      UserError: it cannot be written to, or another sweep holds it.
    """
    workdirs.check_writable(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / 'lock', 'a') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it when the process dies
        except BlockingIOError:
            raise UserError(f'another sweep is at work in {workdir}: wait for it to end, or choose another --workdir') from None
        yield


def compare(sweep, processes: int = 1, say=lambda text: print(text, file=sys.stderr, flush=True)) -> dict:
    """The whole sweep; what an earlier, interrupted one has finished is kept. Returns what compare.json holds.

    Args:
      sweep: of :func:`experiments.sweep_config.make_sweep`.
      say: takes lines of text for the user.

    Raises:
      UserError: whatever a study, a teacher or a folder finds wrong; another sweep at work in the same folder.
    """
    from experiments import compare_figures
    from experiments.sweep import perform, plan
    from experiments.sweep_config import folder_of, parts, study_config, study_name
    from neurostim import pipeline
    from neurostim.files import as_json
    from neurostim.progress import MetricsWriter, Progress
    with alone(pathlib.Path(sweep.workdir)), workers(processes) as (makers, learners):
        studies, divided = {}, {study: parts(study) for study in sweep.studies}  # what cannot be divided is refused before any work
        for study, parts_of in divided.items():
            for part in parts_of:
                folder = folder_of(sweep, part)
                name = study_name(study) + (f' {part.fold + 1}/{len(parts_of)}' if part.fold >= 0 else '')
                pipeline.train(study_config(study), folder, lambda text, name=name: say(f'{name}: {text}'), part.fold)
                datasets, jobs = plan(sweep, part)
                for what, pool, of_these in (('data sets', makers, datasets), ('students and attacks', learners, jobs)):
                    with (MetricsWriter(folder / 'metrics.jsonl') as writer,
                          Progress(len(of_these), what, f'compare {name}', writer) as progress):
                        perform(sweep, part, of_these, pool, progress.update)
            studies[study_name(study)] = compare_figures.assemble(sweep, parts_of)
        return as_json({'sweep': {k: v for k, v in dataclasses.asdict(sweep).items() if k != 'workdir'}, 'studies': studies})


def join(folders: list[str]) -> dict:
    """What several finished sweeps found, as one; of a study that several have, the last folder's figures.

    Raises:
      UserError: a folder without a finished sweep, or sweeps that tested against different references.
    """
    studies, references = {}, {}
    for folder in folders:
        path = pathlib.Path(folder) / 'compare.json'
        try:
            results = json.loads(path.read_text())
            studies.update(results['studies'])
            references[results['sweep']['reference']] = folder
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f'--join: {path} is no finished sweep ({error!r}): name folders that experiments.compare wrote') from None
    if len(references) > 1:
        told = ', '.join(f'{folder} has {reference!r}' for reference, folder in reversed(references.items()))
        raise UserError(f'--join: the sweeps have other references ({told}): sweep with the same --config.reference')
    return {'sweep': {'reference': next(iter(references))}, 'studies': studies}


def write(results: dict, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes all figures, tables and pictures; returns their files."""
    from experiments import compare_charts, compare_tables
    texts = {'compare.json': json.dumps(results, indent=1), 'compare.md': compare_tables.table(results),
             'main.md': compare_tables.main_page(results)}
    for name, text in texts.items():
        write_whole(folder / name, text)
    return [*(folder / name for name in texts), *compare_charts.write(results, folder)]


def check_flags() -> None:
    """Refuses a command line without a folder, before any work."""
    if not _WORKDIR.value:
        raise UserError('give --workdir=DIR')
    if command_line.CONFIG.value is None:
        raise UserError('--config is empty: leave it out for experiments/configs/compare.py, or name a file like it')
    'methods' in command_line.CONFIG.value  # noqa: B015 (a file that cannot be loaded says so on its first use)


def main(_) -> None:
    """Sweeps, prints and writes."""
    folder = pathlib.Path(_WORKDIR.value)
    try:
        from experiments import compare_tables, sweep_config
        if _JOIN.value:
            results = join(_JOIN.value)
            folder.mkdir(parents=True, exist_ok=True)
        else:
            command_line.prepare_jax()
            results = compare(sweep_config.make_sweep(command_line.CONFIG.value, folder), command_line.CONFIG.value.processes)
        written = write(results, folder)
    except UserError as error:
        command_line.fail(error)
    except OSError as error:
        command_line.fail(f'{error}: check that --workdir={folder} can be written to and has space')
    print(compare_tables.table(results))
    print(compare_tables.main_page(results))
    print(f'written: {", ".join(map(str, written))}')


if __name__ == '__main__':
    app.run(main, flags_parser=functools.partial(command_line.parse_flags, check=check_flags, default_config=CONFIG))
