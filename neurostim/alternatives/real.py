"""The real training windows with their true labels: what stimuli stand in for, and what may not be shared."""

from __future__ import annotations

import numpy as np

from neurostim.alternatives.base import Method, Options
from neurostim.excitation.records import Stimuli
from neurostim.study import Study
from neurostim.teacher import Teacher


def make(study: Study, teacher: Teacher, count: int, seed: int, options: Options) -> Stimuli:
    """`count` of the training windows, drawn at random without repetition; all where there are fewer."""
    del options
    train = study.part(test=False)
    rows = np.random.default_rng(seed).permutation(len(train.y))[:count]
    probabilities = np.eye(len(teacher.classes), dtype=np.float32)[train.y[rows]]
    return Stimuli(train.x[rows], probabilities, probabilities.argmax(1))


METHODS = {'real': Method(make)}
