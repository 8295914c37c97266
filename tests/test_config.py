"""Configs: each of the project's own is sound, and what is not is refused by its field's name."""

import importlib
import pkgutil

import numpy as np
import pytest

import experiments.configs
from neurostim import teacher as teachers
from neurostim.config import check, default_config
from neurostim.errors import UserError
from neurostim.study import make_study
from neurostim.training import TrainingOptions

OTHERS = ('benchmark', 'compare', 'main_table')  # of other entry points
NAMES = [module.name for module in pkgutil.iter_modules(experiments.configs.__path__) if module.name not in OTHERS]


@pytest.mark.parametrize('name', NAMES)
def test_each_config_is_sound(name):
    check(importlib.import_module(f'experiments.configs.{name}').get_config())


@pytest.mark.parametrize('field, value, complaint', [
    ('training.shift', 0.6, 'teacher.training.shift is 0.6'), ('committee', 'rooms', "teacher.committee 'rooms'"),
    ('least_skill', 1.5, 'teacher.least_skill is 1.5'), ('training.validations', 0, 'teacher.training.validations is 0'),
    ('training.patience', 0, 'teacher.training.patience is 0'), ('training.average', 1.0, 'teacher.training.average is 1.0'),
    ('draws', -2.0, 'teacher.draws is -2'), ('draws', float('inf'), 'teacher.draws is inf'),
    ('identity.refreshes', -1, 'teacher.identity.refreshes is -1'),
    ('privacy.unit', 'ward', "teacher.privacy.unit 'ward'"), ('privacy.windows', 0, 'teacher.privacy.windows is 0')])
def test_what_is_out_of_range_is_refused(field, value, complaint):
    config = default_config()
    config.update_from_flattened_dict({f'teacher.{field}': value})
    with pytest.raises(UserError, match=complaint):
        check(config)


def test_a_promise_of_differential_privacy_has_one_teacher():
    config = default_config()
    config.teacher.privacy.epsilon, config.teacher.committee = 4.0, 'people'
    with pytest.raises(UserError, match="'together', it is 'people'"):
        check(config)


@pytest.mark.parametrize(('field', 'value', 'complaint'), [
    ('committee', 'people', "leave teacher.committee 'together', it is 'people'"), ('privacy.epsilon', 4.0, 'leave teacher.draws 0')])
def test_draws_are_learnt_from_where_all_windows_may_be(field, value, complaint):
    config = default_config()
    config.update_from_flattened_dict({'teacher.draws': 1.0, f'teacher.{field}': value})
    with pytest.raises(UserError, match=complaint):
        check(config)


def test_stimuli_are_not_sifted_without_novices():
    config = default_config()
    config.excite.surplus = 4
    with pytest.raises(UserError, match='excite.surplus is 4, but teacher.novices'):
        check(config)
    config.teacher.novices = ('linear',)
    check(config)


def test_what_is_no_time_series_is_not_shifted():
    study = make_study('features', np.eye(12, 3), np.arange(12) % 2, np.arange(12) // 2)
    with pytest.raises(UserError, match='teacher.training.shift is 0.5.*features'):
        teachers.train_teacher(study, ('mlp',), options=TrainingOptions(shift=0.5))
