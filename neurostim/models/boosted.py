"""Gradient-boosted trees as a member of a committee: what thresholds of several numbers say together, which networks are slow to learn
(Grinsztajn et al. 2022, arXiv 2207.08815). Grown by `neurostim/boosting.py`, asked here."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from neurostim.models.layers import numbers

NAME = 'boosted'
ROUNDS = 200  # of boosting, at most; each with a tree for every score
DEPTH = 6


def scores_of(classes: int) -> int:
    """How many scores, and trees a round, there are: of two classes one is enough."""
    return 1 if classes == 2 else classes


def logits_of(scores: jax.Array, classes: int) -> jax.Array:
    """Logits [..., classes] of scores [..., :func:`scores_of` classes]; of two classes the one is the second's."""
    return jnp.concatenate([jnp.zeros_like(scores), scores], -1) if classes == 2 else scores


class Network(nn.Module):
    """Sums of trees' leaves. Each tree is a complete one of `DEPTH` levels over the input's numbers; its nodes are counted from the root,
    level by level: from node i a number of at most the threshold leads to 2 i + 1, any other to 2 i + 2. As initialised all say 0.

    What trees say of an input does not change a little where the input does: their gradient is 0, and in a committee others show the
    way. Activations: `leaves`, of each tree, round by round.
    """

    shape: tuple[int, ...]
    classes: int

    @nn.compact
    def __call__(self, x):
        h = numbers(x, self.shape)
        scores, inner = scores_of(self.classes), 2**DEPTH - 1
        trees = ROUNDS * scores
        feature = jnp.asarray(self.param('feature', lambda key: jnp.zeros((trees, inner), jnp.int32)))
        threshold = jnp.asarray(self.param('threshold', lambda key: jnp.full((trees, inner), jnp.inf)))
        leaf = jnp.asarray(self.param('leaf', lambda key: jnp.zeros((trees, inner + 1))))
        start = self.param('start', lambda key: jnp.zeros(scores))
        tree, h = jnp.arange(trees), jax.lax.stop_gradient(h)

        def down(_, node):
            return 2 * node + 1 + (jnp.take_along_axis(h, feature[tree, node], -1) > threshold[tree, node])

        node = jax.lax.fori_loop(0, DEPTH, down, jnp.zeros((*h.shape[:-1], trees), jnp.int32))
        leaves = leaf[tree, node - inner]
        told = leaves.reshape(*h.shape[:-1], ROUNDS, scores).sum(-2) + start
        return logits_of(told, self.classes), {'leaves': leaves}
