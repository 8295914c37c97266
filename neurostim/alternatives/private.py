"""Stimuli with differential privacy: of a teacher of their own, trained privately (:mod:`neurostim.private`)."""

from __future__ import annotations

from neurostim import private
from neurostim.alternatives.base import Method, Options
from neurostim.excitation import produce
from neurostim.excitation.produce import Settings
from neurostim.excitation.records import Stimuli
from neurostim.study import Study
from neurostim.teacher import Teacher

MODELS = ('cnn',)
STEPS = 10


def make(study: Study, teacher: Teacher, count: int, seed: int, options: Options) -> Stimuli:
    """`count` stimuli under the private teacher's softmax. The teacher given, whose training promised nothing, is not asked.

    Sampling and noise come from `seed`, so that a comparison can be repeated. Whoever knows the seed could take the noise off: what is to
    be handed on is made by `experiments/configs/apnea_private.py`, whose noise nobody knows.
    """
    del teacher
    trained, _ = private.train_teacher(study, MODELS, _promise(options), seed)
    steps = STEPS if options.steps < 0 else options.steps
    return produce.generate(trained, Settings(method='mixture', count=count, steps=steps), seed)


def check(study: Study, teacher: Teacher, count: int, options: Options) -> None:
    """Refuses studies for which the promise would not hold."""
    del teacher, count
    private.check(study, MODELS, _promise(options))


def _promise(options: Options) -> private.PrivacyOptions:
    return private.PrivacyOptions(epsilon=options.epsilon)


METHODS = {'dp_stimuli': Method(make, check)}
