"""Everything that :mod:`neurostim.excitation.produce` makes: stimuli by default, their unexcited control, and each other way to excite."""

from __future__ import annotations

import dataclasses
import functools

from neurostim.alternatives.base import Method, Options
from neurostim.excitation import produce
from neurostim.excitation.produce import Settings, TargetSettings
from neurostim.excitation.records import Stimuli
from neurostim.study import Study
from neurostim.teacher import Teacher

CHAIN = 125  # stimuli that the published generator hands its weights on to

SETTINGS = {
    'stimuli': None,  # as the options ask
    'control': None,
    **{name: Settings(method=name) for name in (
        'direct', 'gaussian', 'stationary', 'spectral', 'modulated', 'banded', 'pulsed', 'mixture', 'leaves', 'slanted', 'flow', 'matched',
        'amortised')},
    'generator': Settings(method='generator', accept=True, chain=CHAIN, target=TargetSettings(name='threshold')),
}


def settings(name: str, teacher: Teacher, count: int, options: Options) -> Settings:
    """The resolved settings of a method; a UserError where it does not suit the teacher."""
    given = SETTINGS[name] or options.excite
    steps = options.steps if options.steps >= 0 else given.steps
    resolved = produce.resolve(dataclasses.replace(given, count=count, steps=steps, chain=min(given.chain, count)), teacher)
    return produce.unexcited(resolved) if name == 'control' else resolved


def timed(name: str, study: Study, teacher: Teacher, count: int, seed: int, options: Options) -> tuple[Stimuli, float]:
    """`count` stimuli and the seconds that they took, compilation apart; the study is not looked at."""
    del study
    use = produce.CONTROL if name == 'control' else produce.EXCITED
    return produce.generate_timed(teacher, settings(name, teacher, count, options), seed, use)


def check(name: str, study: Study, teacher: Teacher, count: int, options: Options) -> None:
    """Refuses what does not suit the teacher."""
    del study
    settings(name, teacher, count, options)


def depends(name: str, teacher: Teacher, count: int, options: Options) -> dict:
    """The resolved settings."""
    return produce.told(settings(name, teacher, count, options))


METHODS = {name: Method(None, *(functools.partial(function, name) for function in (check, depends, timed))) for name in SETTINGS}
