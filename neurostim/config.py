"""An experiment's config: every field with its default, and from a config to the dataclasses that the library takes.

The library knows dataclasses only; `ml_collections` stays here and in `experiments/`.
"""

from __future__ import annotations

import dataclasses
import math

import ml_collections

from neurostim import committee, data, models, optimisers, students
from neurostim.errors import UserError, choose
from neurostim.evaluation import shadows
from neurostim.excitation import produce
from neurostim.excitation.flow import FlowOptions
from neurostim.excitation.produce import Settings, from_manifest
from neurostim.identity import IdentityOptions
from neurostim.private import UNITS, PrivacyOptions
from neurostim.study import Study, hold_out_subject
from neurostim.training import TrainingOptions

STUDENTS = ('cnn', 'resnet', 'gru', 'transformer', 'mlp', 'random_forest', 'gradient_boosting', 'svm', 'knn', 'logistic_regression',
            'naive_bayes')


def default_config() -> ml_collections.ConfigDict:
    """All fields; a config file changes what differs. Types are locked: a value must have its default's type."""
    settings = dataclasses.asdict(Settings())
    return ml_collections.ConfigDict({
        'seed': 0,
        'study': {'name': 'breathing', 'path': ''},
        'teacher': {'models': ('cnn', 'gru', 'mlp', 'cnn', 'mlp'), 'committee': 'together', 'least_skill': 0.0, 'weigh': False,
                    'rehearse': False, 'draws': 0.0, 'novices': (), 'training': dataclasses.asdict(TrainingOptions()),
                    'flow': dataclasses.asdict(FlowOptions()), 'identity': dataclasses.asdict(IdentityOptions()),
                    'privacy': dataclasses.asdict(PrivacyOptions())},
        'excite': settings,
        'students': STUDENTS,
        'student_steps': students.STEPS, 'student_longer': 1, 'student_batch': students.BATCH, 'student_optimiser': 'adamw',
        'evaluate': {'seeds': 3, 'interval_draws': 2000, 'privacy': True, 'shadows': 0, 'advise': False},
        'release': {'licence': 'other'},
    })


def check(config: ml_collections.ConfigDict) -> None:
    """Refuses unknown names and values out of range before any work is done.

    Raises:
      UserError: naming the field, its value and the choices.
    """
    _check_names(config)
    _check_numbers(config)
    _check_training(config.teacher.training, config.teacher.flow)
    _check_what_goes_together(config)
    produce.check(excite_settings(config))


def _check_names(config) -> None:
    """Refuses names that nothing has."""
    teacher = config.teacher
    choose(config.study.name, data.SOURCES, 'study.name')
    if not teacher.models:
        raise UserError('teacher.models is empty: name at least one model')
    for field, named, known in (('models', teacher.models, models.MEMBERS), ('identity.models', teacher.identity.models, models.NAMES),
                                ('novices', teacher.novices, models.NAMES)):
        for name in named:
            choose(name, known, f'model in teacher.{field}')
    choose(teacher.committee, committee.DEALS, 'teacher.committee')
    choose(teacher.privacy.unit, UNITS, 'teacher.privacy.unit')
    for field, name in (('teacher.training.optimiser', teacher.training.optimiser), ('teacher.flow.optimiser', teacher.flow.optimiser),
                        ('student_optimiser', config.student_optimiser)):
        choose(name, optimisers.NAMES, f'optimiser in {field}')
    for name in config.students:
        choose(name, students.NAMES, 'student in students')
    if len(set(config.students)) < len(config.students):
        raise UserError(f'students names one twice: {", ".join(config.students)}')


def _check_numbers(config) -> None:
    """Refuses numbers out of range."""
    teacher = config.teacher
    for name, value in (('evaluate.seeds', config.evaluate.seeds), ('student_steps', config.student_steps),
                        ('student_longer', config.student_longer), ('student_batch', config.student_batch),
                        ('teacher.training.longer', teacher.training.longer), ('teacher.training.steps', teacher.training.steps),
                        ('teacher.training.batch', teacher.training.batch),
                        ('teacher.training.validations', teacher.training.validations),
                        ('teacher.training.patience', teacher.training.patience),
                        ('teacher.identity.steps', teacher.identity.steps), ('teacher.identity.copies', teacher.identity.copies),
                        ('evaluate.interval_draws', config.evaluate.interval_draws)):
        if value < 1:
            raise UserError(f'{name} is {value}: give at least 1')
    if teacher.identity.refreshes < 0:
        raise UserError(f'teacher.identity.refreshes is {teacher.identity.refreshes}: give 0 (trained once) or more')
    if config.evaluate.shadows < 0 or 0 < config.evaluate.shadows < shadows.FEWEST:
        raise UserError(f'evaluate.shadows is {config.evaluate.shadows}: give 0 (no attack on membership) or at least '
                        f'{shadows.FEWEST}')
    if config.seed < 0:
        raise UserError(f'seed is {config.seed}: give 0 or more')
    if not 0 <= teacher.least_skill <= 1:
        raise UserError(f"teacher.least_skill is {teacher.least_skill}: give a share of the best member's skill, from 0 to 1")
    if teacher.draws != -1 and not 0 <= teacher.draws < math.inf:
        raise UserError(f'teacher.draws is {teacher.draws}: give how many draws for each training window the teacher learns from '
                        'too, 0 or more, or -1 for a rehearsal to choose between none and one')
    for name, value in teacher.privacy.items():
        if name != 'unit' and (not 0 <= value < math.inf or (name != 'epsilon' and not value)):
            raise UserError(f'teacher.privacy.{name} is {value}: give a finite number above 0 (epsilon: or 0, for no such promise)')


def _check_training(training, flow) -> None:
    """Refuses options of training, the teacher's and the flow's, that are out of range."""
    if training.shift != -1 and not 0 <= training.shift <= 0.5:
        raise UserError(f'teacher.training.shift is {training.shift}: give a share of a window from 0 to 0.5, or -1 to choose by the study')
    for name in ('learning_rate', 'weight_decay', 'balance'):
        if not 0 <= training[name] < math.inf:
            raise UserError(f'teacher.training.{name} is {training[name]}: give a finite number, 0 or more')
    if not 0 <= training.average < 1:
        raise UserError(f'teacher.training.average is {training.average}: give a decay from 0 (no average) to below 1')
    for name, least in (('steps', -1), ('width', 1), ('batch', 1), ('learning_rate', 0)):
        if not least <= flow[name] < math.inf:
            raise UserError(f'teacher.flow.{name} is {flow[name]}: give a finite number of at least {least}'
                            + ', which chooses by the number of windows' * (name == 'steps'))


def _check_what_goes_together(config) -> None:
    """Refuses fields that each may be but not together."""
    teacher, epsilon = config.teacher, config.teacher.privacy.epsilon
    if teacher.draws and teacher.committee != committee.TOGETHER:
        raise UserError(f'teacher.draws is {teacher.draws}, and draws are of all training windows: leave teacher.committee '
                        f'{committee.TOGETHER!r}, it is {teacher.committee!r}')
    if teacher.draws and epsilon:
        raise UserError(f'teacher.draws is {teacher.draws}, but teacher.privacy.epsilon promises that windows are looked at once: '
                        'leave teacher.draws 0, or epsilon 0')
    if epsilon and teacher.identity.models:
        raise UserError(f'teacher.privacy.epsilon is {epsilon}, but teacher.identity.models names networks whose training is not private: '
                        'leave teacher.identity.models empty, or epsilon 0')
    if epsilon and teacher.committee != committee.TOGETHER:
        raise UserError(f'teacher.privacy.epsilon is {epsilon}, and its teacher is one network: leave teacher.committee '
                        f'{committee.TOGETHER!r}, it is {teacher.committee!r}')
    if config.excite.surplus > 1 and not teacher.novices:  # the teacher would be trained in vain
        raise UserError(f'excite.surplus is {config.excite.surplus}, but teacher.novices names no networks to surprise: name some, such as '
                        "\"('linear','mlp')\", or leave excite.surplus 1")


def load_study(config, fold: int = -1) -> Study:
    """The config's study; with a `fold` from 0 on the person of this number is held out, instead of whom the config holds out."""
    options = {name: value for name, value in config.study.items() if name not in ('name', 'path')}
    study = data.load(config.study.name, config.study.path or None, config.seed, **options)
    return study if fold < 0 else hold_out_subject(study, fold)


def training_options(config) -> TrainingOptions:
    """How the teacher is trained."""
    return TrainingOptions(**config.teacher.training.to_dict())


def student_options(config, teacher_shift: float) -> TrainingOptions:
    """How networks among the students are trained, on windows that are shifted as the teacher's were."""
    return students.training_options(teacher_shift, config.student_steps, config.student_longer, config.student_batch,
                                     config.student_optimiser)


def committee_options(config) -> committee.CommitteeOptions:
    """What the teacher's members learn from, which are kept, and how much each counts. A rehearsal finds out first whose draws they may
    learn from."""
    teacher = config.teacher
    at_once, later = (0.0, abs(teacher.draws)) if teacher.rehearse else (max(teacher.draws, 0.0), 0.0)
    return committee.CommitteeOptions(teacher.committee, teacher.least_skill, teacher.weigh, at_once, later)


def flow_options(config) -> FlowOptions:
    """How the population's flow is trained."""
    return FlowOptions(**config.teacher.flow.to_dict())


def identity_options(config) -> IdentityOptions:
    """Which networks learn to name people."""
    return IdentityOptions(**config.teacher.identity.to_dict())


def privacy_options(config) -> PrivacyOptions:
    """What is promised by differential privacy."""
    return PrivacyOptions(**config.teacher.privacy.to_dict())


def excite_settings(config) -> Settings:
    """How stimuli are made."""
    return from_manifest({'excite': config.excite.to_dict()})
