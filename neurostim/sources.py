"""What students learn from: windows, a distribution over the classes for each, and which of them stop and tune a student."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from neurostim.errors import UserError

HELD_SHARE = 0.1  # of stimuli, to stop networks early and to tune algorithms: a third party has no real window for that


def digest(*parts) -> str:
    """SHA-256 of arrays and texts."""
    state = hashlib.sha256()
    for part in parts:
        state.update(np.ascontiguousarray(part).tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    return state.hexdigest()


class Source(NamedTuple):
    """What a student learns from.

    Attributes:
      x: scaled windows [n, *shape].
      targets: distributions [n, classes].
      held: bool [n], rows to stop early and to tune by.
      weights: float32 [n], of stimuli that were sifted how much each counts for whom it matters how frequent windows are
        (:func:`as_frequent_as_made`); None where all are as they were made.
      apart: whether held rows are of other groups than those learnt from, as real windows' are. Stimuli's are not: they are drawn as all
        others are.
    """

    x: np.ndarray
    targets: np.ndarray
    held: np.ndarray
    weights: np.ndarray | None = None
    apart: bool = True

    @property
    def plain(self) -> np.ndarray:
        """bool [n]: which came as they were made. Of sifted ones that is every other (:func:`neurostim.excitation.engine.sifted`)."""
        return np.ones(len(self.x), bool) if self.weights is None else np.arange(len(self.x)) % 2 == 0

    def digest(self, *parts) -> str:
        """Of its arrays and of `parts`, see :func:`digest`. Rows held by groups are others than rows held at random: so `apart` shows."""
        return digest(*(array for array in self[:4] if array is not None), *parts)


def synthetic_source(x: np.ndarray, probabilities: np.ndarray, seed: int = 0, surprise: np.ndarray | None = None) -> Source:
    """A source of labelled stimuli; a tenth, drawn at random, is held.

    Args:
      surprise: float32 [n], of sifted ones (:class:`neurostim.excitation.records.Stimuli`).
    """
    if len(x) < 2:
        raise UserError('one stimulus only: students need one to learn from and one to stop early, give excite.count of 2 or more')
    held = np.random.default_rng(seed).random(len(x)) < HELD_SHARE
    if held.all() or not held.any():  # a few stimuli only
        held = np.arange(len(x)) == 0
    return Source(x, probabilities, held, None if surprise is None else as_frequent_as_made(surprise), apart=False)


def as_frequent_as_made(surprise: np.ndarray) -> np.ndarray:
    """float32 [n]: weights by which sifted stimuli are about as frequent as they were made.

    Half of them came as they were made, half were drawn in proportion to surprise: together a window of surprise s is (1 + s / mean) / 2
    times as frequent as it was made, which is divided by (the balance heuristic of Veach and Guibas 1995, doi 10.1145/218380.218498). Draws
    of the most surprising ones are less frequent than in proportion, where the few that a group offers are like them: these come to count
    for less than they were made, which serves students as well (BUILD_NOTES).

    Args:
      surprise: float32 [n]; the mean is over even positions, which came as they were made.
    """
    return (2 / (1 + surprise / max(float(surprise[::2].mean()), np.finfo(np.float32).tiny))).astype(np.float32)
