"""How networks are trained: by AdamW, or by Muon, which takes half to a quarter of the steps and somewhat longer for each.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) makes the update of a matrix orthogonal, so that no direction of it
waits for another; what is no matrix is left to AdamW, with Nesterov's momentum.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import optax
from jax.flatten_util import ravel_pytree
from optax import contrib

from neurostim.errors import choose

NAMES = ('adamw', 'muon')
FASTER = 5.0  # times AdamW's rate at which matrices learn by Muon, whose updates are as large as AdamW's usually are (BUILD_NOTES)
WORTH = {'adamw': 1, 'muon': 4}  # steps of AdamW that one of theirs is worth to a flow (BUILD_NOTES)
USUAL = 0.2  # root mean square of AdamW's updates (Liu et al. 2025, arXiv 2502.16982)


def create(name: str, schedule: Callable[[jax.Array], jax.Array], weight_decay: float,
           whole: Callable | None = None) -> optax.GradientTransformation:
    """An optimiser of `NAMES`.

    Args:
      schedule: AdamW's learning rate at each step.
      weight_decay: AdamW's, by which matrices decay under Muon too.
      whole: makes a network's arrays of the vector that the optimiser is given, where it is given a vector.

    Raises:
      UserError: there is no such optimiser.
    """
    choose(name, NAMES, 'optimiser')
    if name == 'adamw':
        return optax.adamw(schedule, weight_decay=weight_decay)
    muon = contrib.muon(
        lambda count: FASTER * schedule(count), weight_decay=weight_decay / FASTER, consistent_rms=USUAL,
        adam_learning_rate=schedule, adam_weight_decay=weight_decay, muon_weight_dimension_numbers=_as_matrices)
    return _of_vectors(muon, whole) if whole else muon


def _as_matrices(params):
    """How arrays are matrices: filters [..., inputs, outputs] have all but their outputs as rows; vectors are none."""
    return jax.tree.map(
        lambda array: contrib.MuonDimensionNumbers(tuple(range(array.ndim - 1)), array.ndim - 1) if array.ndim > 1 else None, params)


def _of_vectors(optimiser: optax.GradientTransformation, whole: Callable) -> optax.GradientTransformation:
    """The optimiser of arrays for one vector of them all."""
    def update(gradients, state, params):
        updates, state = optimiser.update(whole(gradients), state, whole(params))
        return ravel_pytree(updates)[0], state

    return optax.GradientTransformation(lambda params: optimiser.init(whole(params)), update)
