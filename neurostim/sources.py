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
      plain: bool [n], of stimuli that were sifted those that came as they are; None where all are.
      apart: whether held rows are of other groups than those learnt from, as real windows' are. Stimuli's are not: they are drawn as all
        others are.
    """

    x: np.ndarray
    targets: np.ndarray
    held: np.ndarray
    plain: np.ndarray | None = None
    apart: bool = True

    def digest(self, *parts) -> str:
        """Of its arrays and of `parts`, see :func:`digest`. Rows held by groups are others than rows held at random: so `apart` shows."""
        return digest(*(array for array in self[:4] if array is not None), *parts)


def synthetic_source(x: np.ndarray, probabilities: np.ndarray, seed: int = 0, surplus: int = 1) -> Source:
    """A source of labelled stimuli; a tenth, drawn at random, is held. With a `surplus` above 1 every other one came as it is
    (:func:`neurostim.excitation.engine.sifted`)."""
    if len(x) < 2:
        raise UserError('one stimulus only: students need one to learn from and one to stop early, give excite.count of 2 or more')
    held = np.random.default_rng(seed).random(len(x)) < HELD_SHARE
    if held.all() or not held.any():  # a few stimuli only
        held = np.arange(len(x)) == 0
    return Source(x, probabilities, held, np.arange(len(x)) % 2 == 0 if surplus > 1 else None, apart=False)
