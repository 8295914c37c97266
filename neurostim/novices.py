"""Novices: small networks that have learnt little, from a few unexcited draws under the teacher's beliefs.

What a novice already knows teaches a student little more; what surprises it lies where classes meet. Of many windows those that are hard
teach more than as many at random (Sorscher et al. 2022, arXiv 2206.14486): with `excite.surplus` more stimuli are made than are kept, and
every other one that is kept is one that surprised novices (:func:`neurostim.excitation.engine.sifted`). A novice is a student in the loop,
but one that is left as it is: a stimulus still depends on nothing that was made before its group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from neurostim import models, training

DRAWS, DRAWN_NUMBERS = 4096, 2**24  # that a novice learns from, and numbers in them
HELD = 10  # every so manieth stops its training
STEPS = 400
LEAST_AGREEMENT = 0.4  # kappa with the teacher: who has learnt nothing is surprised by whatever is rare (BUILD_NOTES)
LEAST_BELIEF = 0.02  # a novice that is surer of something else is not more surprised


class Novices(NamedTuple):
    """Trained novices.

    Attributes:
      names: zoo names.
      params: a tuple, one entry a novice.
      agreement: kappa with the teacher on draws that they did not learn from, the greatest of any novice.
    """

    names: tuple[str, ...]
    params: Any
    agreement: float

    @property
    def know_something(self) -> bool:
        """Whether what surprises them says more than which class is rare."""
        return self.agreement >= LEAST_AGREEMENT

    def networks(self, shape: tuple[int, ...], classes: int) -> tuple[models.Model, ...]:
        """The zoo members for windows of `shape`."""
        return tuple(models.create(name, shape, classes) for name in self.names)


def train_novices(names: tuple[str, ...], x: np.ndarray, beliefs: np.ndarray, seed: int = 0,
                  report: Callable[[str], None] = lambda text: None) -> Novices:
    """Trains the novices.

    Args:
      names: zoo members; small ones of different kinds serve best, since what surprises one kind only serves that one.
      x: float32 [n, *shape], scaled draws.
      beliefs: float32 [n, classes], the teacher's.
      report: called with a line of text as novices are done.
    """
    classes, held = beliefs.shape[1], np.arange(len(x)) % HELD == 0
    learnt, checked = (training.examples(x[rows], beliefs[rows], classes) for rows in (~held, held))
    params, agreements = [], []
    for i, name in enumerate(names):
        key = jax.random.fold_in(jax.random.key(seed), 2000 + i)
        network, history = training.fit((name, x.shape[1:], classes, ()), training.TrainingOptions(steps=STEPS), key, learnt, checked)
        params.append(jax.tree.map(np.asarray, network))
        agreements.append(float(np.nanmax(history.validation_kappa)))
        report(f'{i + 1}/{len(names)} {name}: agrees with the teacher with kappa {agreements[-1]:.3f}')
    return Novices(tuple(names), tuple(params), max(agreements))


def count_draws(shape: tuple[int, ...]) -> int:
    """How many draws of this shape novices learn from: fewer long ones."""
    return int(np.clip(DRAWN_NUMBERS // np.prod(shape), 2 * HELD, DRAWS))


def make_surprise(networks: tuple[models.Model, ...]):
    """Builds ``surprise(params, x, belief)`` of one window x [*shape] whose belief [classes] is the teacher's: the mean over novices of
    -log of the chance that a class drawn from their belief is one drawn from the teacher's."""

    def surprise(params, x, belief):
        same = [(jax.nn.softmax(network.apply(p, x)[0]) * belief).sum() for network, p in zip(networks, params, strict=True)]
        return sum(-jnp.log(jnp.maximum(chance, LEAST_BELIEF)) for chance in same) / len(same)

    return surprise
