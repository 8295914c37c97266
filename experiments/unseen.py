r"""Studies that nobody tuned for, and what `own_study` makes of them with its defaults.

    python -m experiments.unseen --folder=runs/unseen --studies=digits,small                  # writes DIR/NAME.npz
    python -m experiments.unseen --folder=runs/unseen --run                                   # all of them, each run, then one table
    python -m experiments.unseen --folder=runs/unseen --run -- --config.evaluate.seeds=1      # what follows -- goes to experiments.run
    python -m experiments.unseen --folder=runs/unseen --run --seeds=5 --studies=small         # five times, and each student's mean gap
    python -m experiments.unseen --folder=runs/unseen --packages=DIR --studies=sonar,letters  # real ones, of packages installed in DIR

With --seeds everything is made anew each time, from the simulated people on: one split of a small study says little. A run that has ended
is not redone: delete DIR/NAME or DIR/NAME-SEED to run it anew. Other files DIR/NAME.npz are run under their names as well
(with --seeds DIR/NAME-1.npz and so on have to be there too).
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
from absl import app, flags
from scipy import stats

from experiments import unseen_packages, unseen_studies
from experiments.command_line import fail
from neurostim.errors import UserError, choose

ROOT = pathlib.Path(__file__).parents[1]
MEANS = ('study', 'student', 'real windows', 'stimuli', 'gap [95 % interval]')
HEADINGS = ('study', 'windows', 'classes', 'subjects', 'teacher', 'way chosen', 'mean gap', 'worst student', 'seconds', 'of processors',
            'GiB')


def write_study(name: str, folder: pathlib.Path, seed: int = 0, packages: str | None = None) -> pathlib.Path:
    """The study's `.npz` file in `folder`; one that is there stays, whoever wrote it. Seeds but 0 have files of their own.

    Raises:
      UserError: no such study, and no such file; or a package that it is read from is not in the folder `packages`.
    """
    path = folder / (f'{name}-{seed}.npz' if seed else f'{name}.npz')
    if not path.exists():
        arrays = read_or_simulate(name, seed, packages)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix('.tmp.npz')
        np.savez(temporary, **arrays)
        os.replace(temporary, path)
    return path


def read_or_simulate(name: str, seed: int, packages: str | None) -> dict[str, np.ndarray]:
    """The arrays of a study's file: simulated, or read from the folder of `packages`.

    Raises:
      UserError: no such study, or no such folder, package or table.
    """
    choose(name, {**unseen_studies.STUDIES, **unseen_packages.STUDIES}, 'study in --studies')
    if name in unseen_studies.STUDIES:
        return unseen_studies.STUDIES[name](seed)
    if not packages:
        raise UserError(f'{name} is read from a published package: say with --packages=DIR where packages are installed; '
                        f'{unseen_packages.INSTALL}')
    return unseen_packages.STUDIES[name](pathlib.Path(packages), seed)


def run_study(path: pathlib.Path, arguments: list[str]) -> pathlib.Path:
    """Runs `own_study` on a file, in a process of its own, into the folder beside it that has the file's name; returns the folder.

    Beside the run's files, `cost.json` holds {'seconds', 'processor_seconds', 'peak_gib'}.

    Raises:
      UserError: the run failed.
    """
    workdir = path.with_suffix('')
    if (workdir / 'cost.json').exists():
        return workdir
    command = [sys.executable, '-m', 'experiments.run', f'--config={ROOT / "experiments/configs/own_study.py"}',
               f'--config.study.path={path.absolute()}', f'--workdir={workdir.absolute()}', *arguments]
    started = time.perf_counter()
    _, status, used = os.wait4(subprocess.Popen(command, cwd=ROOT).pid, 0)
    if status:
        raise UserError(f'the run of {path} ended with status {os.waitstatus_to_exitcode(status)}: see its message above')
    seconds = time.perf_counter() - started
    cost = {'seconds': seconds, 'processor_seconds': used.ru_utime + used.ru_stime, 'peak_gib': used.ru_maxrss / 2**20}
    (workdir / 'cost.json').write_text(json.dumps(cost))
    return workdir


def row(workdir: pathlib.Path) -> str:
    """The Markdown row of a finished run."""
    results, cost, teacher = (json.loads((workdir / name).read_text()) for name in ('results.json', 'cost.json', 'teacher/teacher.json'))
    study, students = results['study'], results['students']
    worst = max(students, key=lambda student: student['kappa_gap'])
    way = {**teacher['rehearsed'], 'method': results['stimuli']['method']}
    told = ', '.join([way.pop('method'), *(f'{name} {value}' for name, value in way.items())])
    cells = (study['name'], f'{study["train_windows"] + study["test_windows"]} of {" x ".join(map(str, teacher["shape"]))}',
             len(study['classes']), study['subjects'], f'{results["teacher"]["kappa"]:.3f}', told,
             f'{np.mean([student["kappa_gap"] for student in students]):+.3f}', f'{worst["name"]} {worst["kappa_gap"]:+.3f}',
             f'{cost["seconds"]:.0f}', f'{cost["processor_seconds"]:.0f}', f'{cost["peak_gib"]:.1f}')
    return f'| {" | ".join(map(str, cells))} |'


def table(headings: tuple[str, ...], rows: list[str]) -> str:
    """A Markdown table."""
    return '\n'.join([f'| {" | ".join(headings)} |', '| --- ' * len(headings) + '|', *rows])


def mean_rows(name: str, workdirs: list[pathlib.Path]) -> list[str]:
    """Markdown rows of a study's finished runs of several seeds: a student a row, the worst first, with means and standard deviations over
    the runs, and of the gap a 95 % interval by Student's t; then the mean over students."""
    runs = [json.loads((workdir / 'results.json').read_text())['students'] for workdir in workdirs]

    def cells(student, real, stimuli, gap):
        low, high = stats.ttest_1samp(gap, 0).confidence_interval()
        told = ' | '.join(f'{kappa.mean():.3f} ± {kappa.std(ddof=1):.3f}' for kappa in (real, stimuli))
        return f'| {name} | {student} | {told} | {gap.mean():+.3f} [{low:+.3f}, {high:+.3f}] |'

    figures = np.array([[(student['real']['kappa'], student['stimuli']['kappa'], student['kappa_gap']) for student in run] for run in runs])
    order = np.argsort(-figures[:, :, 2].mean(0), kind='stable')
    return [*(cells(runs[0][i]['name'], *figures[:, i].T) for i in order), cells(f'*mean, {len(runs)} seeds*', *figures.mean(1).T)]


def parse_flags(arguments: list[str]) -> list[str]:
    """Parses this command's own flags; what follows -- stays."""
    try:
        return flags.FLAGS(arguments)
    except flags.Error as error:
        fail(f'{error}: options of experiments.run follow after --')


def main(arguments: list[str]) -> None:
    """Writes the studies asked for; with --run, runs them and prints the table, and with several --seeds the students' means too."""
    folder = pathlib.Path(FOLDER.value).absolute()
    try:
        paths = {name: [write_study(name, folder, seed, PACKAGES.value) for seed in range(SEEDS.value)] for name in STUDIES.value}
        if not RUN.value:
            print('\n'.join(str(path) for seeds in paths.values() for path in seeds))
            return
        runs = {name: [run_study(path, [f'--config.seed={seed}', *arguments[1:]]) for seed, path in enumerate(seeds)]
                for name, seeds in paths.items()}
        print(table(HEADINGS, [row(workdir) for workdirs in runs.values() for workdir in workdirs]))
        if SEEDS.value > 1:
            print('\n' + table(MEANS, [line for name, workdirs in runs.items() for line in mean_rows(name, workdirs)]))
    except UserError as error:
        fail(error)
    except OSError as error:
        fail(f'{error}: check that --folder={folder} can be written to and has space')


FOLDER = flags.DEFINE_string('folder', 'runs/unseen', 'Where studies and runs are written.')
STUDIES = flags.DEFINE_list('studies', list(unseen_studies.STUDIES),
                            'Which studies: simulated ones, those of packages, or names of other .npz files in the folder.')
PACKAGES = flags.DEFINE_string('packages', None, 'Where packages are installed that hold real studies (experiments/unseen_packages.py).')
RUN = flags.DEFINE_boolean('run', False, 'Whether to run own_study on each and print a table.')
SEEDS = flags.DEFINE_integer('seeds', 1, 'How often each is made and run: with the seeds 0, 1, ...', lower_bound=1)

if __name__ == '__main__':
    app.run(main, flags_parser=parse_flags)
