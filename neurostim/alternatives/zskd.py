"""Class impressions of zero-shot knowledge distillation (Nayak et al. 2019, arXiv 1905.08114).

Samples are searched directly, from noise and without any prior, until the teacher's softmax is one drawn from a Dirichlet whose
concentrations say how alike the teacher holds the classes to be: the weights of its last layer. Half of the impressions get
concentrations up to 1 and half up to 0.1, as in the paper.
"""

from __future__ import annotations

import jax
import numpy as np

from neurostim.alternatives.base import Method, Options, shuffle
from neurostim.excitation import produce
from neurostim.excitation.objective import Weights
from neurostim.excitation.produce import Settings, TargetSettings
from neurostim.excitation.records import Stimuli
from neurostim.study import Study
from neurostim.teacher import Teacher

CONCENTRATIONS = (1.0, 0.1)
STEPS = 50
LEARNING_RATE = 0.1


def make(study: Study, teacher: Teacher, count: int, seed: int, options: Options) -> Stimuli:
    """`count` class impressions under the teacher's softmax, which comes close to the target; the study is not looked at."""
    del study
    parts = []
    for i, concentration in enumerate(CONCENTRATIONS):
        share = (count + i) // 2  # of an odd number one more
        if share:
            settings = Settings(
                method='direct', count=share, steps=STEPS if options.steps < 0 else options.steps, learning_rate=LEARNING_RATE,
                target=TargetSettings(name='similarity', concentration=concentration), weights=Weights())
            parts.append(produce.generate(teacher, settings, len(CONCENTRATIONS) * seed + i))
    return shuffle(jax.tree.map(lambda *columns: np.concatenate(columns), *parts), seed)


METHODS = {'zskd': Method(make)}
