"""What the alternatives share: their options, how classes are drawn, and how made windows become stimuli."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from neurostim.excitation.produce import Settings
from neurostim.excitation.records import Stimuli
from neurostim.study import Study
from neurostim.teacher import Teacher


@dataclasses.dataclass(frozen=True)
class Options:
    """What may be asked of the alternatives; each reads what concerns it.

    Attributes:
      steps: gradient steps of whatever searches for stimuli; -1 takes the method's own number.
      training_steps: of a model that is trained on the real windows ('gan', 'vae', and 'diffusion' where the teacher brings no flow);
        -1 takes the model's own number.
      epsilon: what 'dp_stimuli' promises for one window, at the delta of :class:`neurostim.private.PrivacyOptions`.
      excite: how 'stimuli' and 'control' are made, but for their count; by default as a user gets them who chooses nothing.
    """

    steps: int = -1
    training_steps: int = -1
    epsilon: float = 8.0
    excite: Settings = Settings()


def asked(teacher: Teacher, count: int, options: Options) -> dict:
    """Those options that any method may read, as JSON can hold them: what a data set depends on unless its method says more."""
    del teacher, count
    return {name: value for name, value in dataclasses.asdict(options).items() if name != 'excite'}


class Method(NamedTuple):
    """A way to make a labelled data set.

    Attributes:
      make: (study, teacher, count, seed, options) -> Stimuli. x in the study's units; equal arguments give equal arrays; rows are in no
        order, so that the first n are a data set of n.
      check: (study, teacher, count, options) -> None; raises a UserError where the method does not suit the study or the teacher.
      depends: (teacher, count, options) -> a dict as JSON can hold it: what of the options a data set depends on. Where excitation makes
        it, the resolved settings, 'method' among them.
      timed: in place of `make`, -> (Stimuli, seconds without compilation); None where a method cannot tell them apart.
    """

    make: Callable[[Study, Teacher, int, int, Options], Stimuli] | None
    check: Callable[[Study, Teacher, int, Options], None] = lambda *_: None
    depends: Callable[[Teacher, int, Options], dict] = asked
    timed: Callable[[Study, Teacher, int, int, Options], tuple[Stimuli, float]] | None = None


def draw_classes(study: Study, count: int, seed: int) -> np.ndarray:
    """int [count]: classes as often as among the training windows (to one), in random order: what whoever imitates the windows would do."""
    share = np.bincount(study.y[~study.test], minlength=len(study.classes)) / (~study.test).sum()
    edges = np.round(np.cumsum(share) * count).astype(int)
    classes = np.searchsorted(edges, np.arange(count), side='right')
    return np.random.default_rng([seed, 1]).permutation(np.minimum(classes, len(study.classes) - 1))


def label(teacher: Teacher, x: np.ndarray, classes: np.ndarray) -> Stimuli:
    """Scaled windows [n, *shape] under the classes int [n] that they were made for: certain labels, the teacher is not asked."""
    low, high = teacher.population['bounds']
    probabilities = np.eye(len(teacher.classes), dtype=np.float32)[classes]
    return Stimuli(teacher.scaling.inverse(np.clip(x, low, high)), probabilities, probabilities.argmax(1))


def relabel(teacher: Teacher, stimuli: Stimuli) -> Stimuli:
    """The same windows under the teacher's whole softmax."""
    probabilities = teacher.probabilities(stimuli.x)
    return Stimuli(stimuli.x, probabilities, probabilities.argmax(1))


def shuffle(stimuli: Stimuli, seed: int) -> Stimuli:
    """The same rows in random order."""
    order = np.random.default_rng([seed, 2]).permutation(len(stimuli.x))
    return stimuli.rows(order)
