"""What a sweep is: its fields, checked, and the studies that it names, each whole or in folds."""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import pathlib
import runpy
from typing import NamedTuple

from neurostim import alternatives, students
from neurostim import config as configs
from neurostim.config import load_study
from neurostim.errors import UserError, choose
from neurostim.study import hold_out_subject

CONFIGS = pathlib.Path(__file__).parent / 'configs'
OTHERS = ('__init__', 'compare', 'main_table', 'benchmark')  # of CONFIGS, not of an experiment
FOLDS = ':subjects'  # ends the name of a study of which every person in turn is held out
LEAST_COUNT = 20  # windows of a data set


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What is compared; the fields are those of experiments/configs/compare.py. `workdir` is the folder of everything that is kept."""

    workdir: str
    studies: tuple[str, ...]
    methods: tuple[str, ...]
    students: tuple[str, ...]
    more_students: tuple[str, ...]
    seeds: int
    count: int
    student_steps: int
    reference: str
    privacy: bool
    interval_draws: int
    options: tuple[tuple[str, float], ...]
    counts: tuple[int, ...]
    count_methods: tuple[str, ...]
    steps: tuple[int, ...]
    steps_methods: tuple[str, ...]
    curve_seeds: int

    def students_of(self, study: str) -> tuple[str, ...]:
        """Who learns in a study: the sweep's students, or the study's own, and then those that are asked for besides."""
        named = self.students or tuple(study_config(study).students)
        return (*named, *(student for student in self.more_students if student not in named))

    def student_steps_of(self, study: str) -> int:
        """Most optimiser steps of a network: the sweep's, or the study's own."""
        return self.student_steps or study_config(study).student_steps


class Part(NamedTuple):
    """A study as a teacher sees it: with the windows held out that its config holds out, or, with a `fold` from 0 on, those of the person
    of this number."""

    study: str
    fold: int = -1


def make_sweep(config, workdir) -> Sweep:
    """The sweep that a config describes.

    Raises:
      UserError: a name, or a value out of range.
    """
    curves = config.curves
    _check_names(config)
    _check_numbers(config)
    same = {name: config[name] for name in ('seeds', 'count', 'student_steps', 'reference', 'privacy', 'interval_draws')}
    named = {name: tuple(config[name]) for name in ('studies', 'methods', 'students', 'more_students')}
    return Sweep(
        workdir=str(pathlib.Path(workdir).absolute()), **named, **same, options=tuple(sorted(config.options.items())),
        counts=tuple(sorted(curves.counts)), count_methods=tuple(curves.count_methods), steps=tuple(sorted(curves.steps)),
        steps_methods=tuple(curves.steps_methods), curve_seeds=curves.seeds)


def _check_names(config) -> None:
    curves = config.curves
    for what, names, known in (('method in methods', config.methods, alternatives.NAMES),
                               ('method in curves.count_methods', curves.count_methods, alternatives.NAMES),
                               ('method in curves.steps_methods', curves.steps_methods, alternatives.NAMES),
                               ('student in students', config.students, students.NAMES),
                               ('student in more_students', config.more_students, students.NAMES)):
        for name in names:
            choose(name, known, what)
        if len(set(names)) < len(names):
            raise UserError(f'{what}: {", ".join(names)} names one twice')
    for what, names in (('studies', config.studies), ('methods', config.methods)):
        if not names:
            raise UserError(f'{what} is empty: name at least one')
    choose(config.reference, config.methods, 'reference')
    for name in (*curves.count_methods, *curves.steps_methods):
        choose(name, config.methods, 'method in curves (it must be among the methods)')
    repeated = [name for name, times in collections.Counter(map(study_name, config.studies)).items() if times > 1]
    if repeated:
        raise UserError(f'studies: {repeated[0]} is named twice')
    for study in config.studies:
        study_config(study)


def _check_numbers(config) -> None:
    curves = config.curves
    for name, value, least in (
            ('seeds', config.seeds, 1), ('student_steps', config.student_steps, 0), ('interval_draws', config.interval_draws, 1),
            ('processes', config.processes, 1), ('curves.seeds', curves.seeds, 1), ('options.steps', config.options.steps, -1),
            ('options.training_steps', config.options.training_steps, -1)):
        if value < least:
            raise UserError(f'{name} is {value}: give at least {least}')
    if config.count and config.count < LEAST_COUNT:
        raise UserError(f"count is {config.count}: give at least {LEAST_COUNT}, or 0 for as many as each study's config asks for")
    if not config.options.training_steps:
        raise UserError("options.training_steps is 0: give at least 1, or -1 for each model's own")
    if not 0 < config.options.epsilon < math.inf:
        raise UserError(f'options.epsilon is {config.options.epsilon}: give a positive number')
    if curves.seeds > config.seeds:
        raise UserError(f'curves.seeds is {curves.seeds}, but there are {config.seeds} seeds: give at most as many')
    for count in curves.counts:
        if not LEAST_COUNT <= count < (config.count or math.inf):
            most = f' to below count, which is {config.count}' if config.count else ' on'
            raise UserError(f'curves.counts holds {count}: give numbers from {LEAST_COUNT}{most}')
    if any(step < 0 for step in curves.steps):
        raise UserError(f'curves.steps is {curves.steps}: give numbers of steps, 0 or more')


def study_name(study: str) -> str:
    """What a study of the sweep is called: its config's name, and how it is divided."""
    config, folds = _divided(study)
    return pathlib.Path(config).stem + '_subjects' * folds


@functools.cache
def study_config(study: str):
    """The config of a study: a name of experiments/configs, or a file; not to be changed.

    Raises:
      UserError: there is none, or it is none of an experiment.
    """
    config, _ = _divided(study)
    path = pathlib.Path(config) if config.endswith('.py') else CONFIGS / f'{config}.py'
    if not path.is_file():
        names = sorted(p.stem for p in CONFIGS.glob('*.py') if p.stem not in OTHERS)
        raise UserError(f'unknown study {study!r}: choose a config file, or one of {", ".join(names)}, and end it with {FOLDS!r} to hold '
                        'every person out in turn')
    loaded = runpy.run_path(str(path)).get('get_config', lambda: {})()
    if 'teacher' not in loaded:
        raise UserError(f'studies: {path} has no teacher: choose the config of an experiment')
    configs.check(loaded)
    return loaded


def parts(study: str) -> list[Part]:
    """What a study's figures are pooled over: the study as its config divides it, or a part a person.

    Raises:
      UserError: a class that only one person has, so that it could not be learnt where that person is held out.
    """
    if not _divided(study)[1]:
        return [Part(study)]
    whole = load_study(study_config(study))
    for person in range(len(whole.subjects)):
        hold_out_subject(whole, person)
    return [Part(study, person) for person in range(len(whole.subjects))]


def folder_of(sweep: Sweep, part: Part) -> pathlib.Path:
    """Where everything of a part is kept."""
    folder = pathlib.Path(sweep.workdir) / study_name(part.study)
    return folder if part.fold < 0 else folder / f'fold-{part.fold:02d}'


def _divided(study: str) -> tuple[str, bool]:
    """(its config's name or file, whether every person is held out in turn)."""
    return study.removesuffix(FOLDS), study.endswith(FOLDS)
