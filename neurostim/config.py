"""An experiment's config: every field with its default, and from a config to the dataclasses that the library takes.

The library knows dataclasses only; `ml_collections` stays here and in `experiments/`.
"""

from __future__ import annotations

import dataclasses
import math

import ml_collections

from neurostim import models, students
from neurostim.data import SOURCES
from neurostim.errors import UserError, choose
from neurostim.evaluation import shadows
from neurostim.excitation import produce
from neurostim.excitation.flow import FlowOptions
from neurostim.excitation.produce import Settings, from_manifest
from neurostim.identity import IdentityOptions
from neurostim.private import UNITS, PrivacyOptions
from neurostim.teacher import COMMITTEES
from neurostim.training import TrainingOptions

STUDENTS = ('cnn', 'resnet', 'gru', 'transformer', 'mlp', 'random_forest', 'gradient_boosting', 'svm', 'knn', 'logistic_regression',
            'naive_bayes')


def default_config() -> ml_collections.ConfigDict:
    """All fields; a config file changes what differs. Types are locked: a value must have its default's type."""
    settings = dataclasses.asdict(Settings())
    return ml_collections.ConfigDict({
        'seed': 0,
        'study': {'name': 'breathing', 'path': ''},
        'teacher': {'models': ('cnn', 'gru', 'mlp', 'cnn', 'mlp'), 'committee': 'together', 'least_skill': 0.0, 'rehearse': False,
                    'draws': 0.0, 'novices': (), 'training': dataclasses.asdict(TrainingOptions()),
                    'flow': dataclasses.asdict(FlowOptions()), 'identity': dataclasses.asdict(IdentityOptions()),
                    'privacy': dataclasses.asdict(PrivacyOptions())},
        'excite': settings,
        'students': STUDENTS,
        'student_steps': students.STEPS,
        'evaluate': {'seeds': 3, 'interval_draws': 2000, 'privacy': True, 'shadows': 0},
        'release': {'licence': 'other'},
    })


def check(config: ml_collections.ConfigDict) -> None:
    """Refuses unknown names and values out of range before any work is done.

    Raises:
      UserError: naming the field, its value and the choices.
    """
    choose(config.study.name, SOURCES, 'study.name')
    if not config.teacher.models:
        raise UserError('teacher.models is empty: name at least one model')
    for name in config.teacher.models:
        choose(name, models.NAMES, 'model in teacher.models')
    choose(config.teacher.committee, COMMITTEES, 'teacher.committee')
    for name in config.teacher.identity.models:
        choose(name, models.NAMES, 'model in teacher.identity.models')
    for name in config.teacher.novices:
        choose(name, models.NAMES, 'model in teacher.novices')
    for name in config.students:
        choose(name, students.NAMES, 'student in students')
    if len(set(config.students)) < len(config.students):
        raise UserError(f'students names one twice: {", ".join(config.students)}')
    for name, value in (('evaluate.seeds', config.evaluate.seeds), ('student_steps', config.student_steps),
                        ('teacher.training.steps', config.teacher.training.steps),
                        ('teacher.training.batch', config.teacher.training.batch),
                        ('teacher.identity.steps', config.teacher.identity.steps),
                        ('teacher.identity.copies', config.teacher.identity.copies),
                        ('evaluate.interval_draws', config.evaluate.interval_draws)):
        if value < 1:
            raise UserError(f'{name} is {value}: give at least 1')
    if config.teacher.identity.refreshes < 0:
        raise UserError(f'teacher.identity.refreshes is {config.teacher.identity.refreshes}: give 0 (trained once) or more')
    if config.evaluate.shadows < 0 or 0 < config.evaluate.shadows < shadows.FEWEST:
        raise UserError(f'evaluate.shadows is {config.evaluate.shadows}: give 0 (no attack on membership) or at least '
                        f'{shadows.FEWEST}')
    if config.seed < 0:
        raise UserError(f'seed is {config.seed}: give 0 or more')
    if config.teacher.training.shift != -1 and not 0 <= config.teacher.training.shift <= 0.5:
        raise UserError(f'teacher.training.shift is {config.teacher.training.shift}: give a share of a window from 0 to 0.5, or -1 to '
                        'choose by the study')
    if not 0 <= config.teacher.least_skill <= 1:
        raise UserError(f"teacher.least_skill is {config.teacher.least_skill}: give a share of the best member's skill, from 0 to 1")
    if config.teacher.draws != -1 and not 0 <= config.teacher.draws < math.inf:
        raise UserError(f'teacher.draws is {config.teacher.draws}: give how many draws for each training window the teacher learns from '
                        'too, 0 or more, or -1 for a rehearsal to choose between none and one')
    if config.teacher.draws and config.teacher.committee != 'together':
        raise UserError(f'teacher.draws is {config.teacher.draws}, and draws are of all training windows: leave teacher.committee '
                        f"'together', it is {config.teacher.committee!r}")
    if config.teacher.draws and config.teacher.privacy.epsilon:
        raise UserError(f'teacher.draws is {config.teacher.draws}, but teacher.privacy.epsilon promises that windows are looked at once: '
                        'leave teacher.draws 0, or epsilon 0')
    for name in ('learning_rate', 'weight_decay', 'balance', 'average'):
        value = config.teacher.training[name]
        if not 0 <= value < math.inf:
            raise UserError(f'teacher.training.{name} is {value}: give a finite number, 0 or more')
    for name, least in (('steps', -1), ('width', 1), ('batch', 1), ('learning_rate', 0)):
        if not least <= config.teacher.flow[name] < math.inf:
            raise UserError(f'teacher.flow.{name} is {config.teacher.flow[name]}: give a finite number of at least {least}'
                            + ', which chooses by the number of windows' * (name == 'steps'))
    choose(config.teacher.privacy.unit, UNITS, 'teacher.privacy.unit')
    for name, value in config.teacher.privacy.items():
        if name != 'unit' and (not 0 <= value < math.inf or (name != 'epsilon' and not value)):
            raise UserError(f'teacher.privacy.{name} is {value}: give a finite number above 0 (epsilon: or 0, for no such promise)')
    if config.teacher.privacy.epsilon and config.teacher.identity.models:
        raise UserError(f'teacher.privacy.epsilon is {config.teacher.privacy.epsilon}, but teacher.identity.models names networks whose '
                        'training is not private: leave teacher.identity.models empty, or epsilon 0')
    if config.teacher.privacy.epsilon and config.teacher.committee != 'together':
        raise UserError(f'teacher.privacy.epsilon is {config.teacher.privacy.epsilon}, and its teacher is one network: leave '
                        f"teacher.committee 'together', it is {config.teacher.committee!r}")
    if config.excite.surplus > 1 and not config.teacher.novices:  # the teacher would be trained in vain
        raise UserError(f'excite.surplus is {config.excite.surplus}, but teacher.novices names no networks to surprise: name some, such as '
                        "\"('linear','mlp')\", or leave excite.surplus 1")
    produce.check(excite_settings(config))


def study_options(config) -> dict:
    """What the study's loader is asked for beyond name, path and seed."""
    return {name: value for name, value in config.study.items() if name not in ('name', 'path')}


def training_options(config) -> TrainingOptions:
    """How the teacher is trained."""
    return TrainingOptions(**config.teacher.training.to_dict())


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
