"""What excitation minimises: pure functions of ONE stimulus; batching is `vmap` in `engine.py`."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from neurostim.errors import UserError


@dataclasses.dataclass(frozen=True)
class Weights:
    """How much each term counts; a term of weight 0 is not computed.

    Attributes:
      excite: cross-entropy of the teacher's belief against the target.
      prior: negative log density of the searched variables, a dimension.
      tether: squared distance of the searched variables from where they started, a dimension.
      total_variation: mean absolute difference of neighbours along time (or height and width), scaled units.
      amplitude: mean square of the stimulus, scaled units.
      unit: minus the mean activation of one hidden unit.
      unit_name: which, as ``member/activation:index``, e.g. ``0/dense:7``; a channel of a convolution is averaged over space.
    """

    excite: float = 1.0
    prior: float = 0.0
    tether: float = 0.0
    total_variation: float = 0.0
    amplitude: float = 0.0
    unit: float = 0.0
    unit_name: str = ''


def excite(logits: jax.Array, belief: jax.Array) -> jax.Array:
    """Cross-entropy of softmax(logits) [classes] against a target belief [classes]."""
    return -(belief * jax.nn.log_softmax(logits)).sum()


def tether(variables, start) -> jax.Array:
    """Mean squared distance between two pytrees of one structure."""
    pairs = list(zip(jax.tree.leaves(variables), jax.tree.leaves(start), strict=True))
    return sum(((a - b) ** 2).sum() for a, b in pairs) / sum(a.size for a, _ in pairs)


def total_variation(x: jax.Array) -> jax.Array:
    """Mean absolute difference of neighbours along every axis but the last (channels); along features for a vector."""
    axes = [axis for axis in range(max(1, x.ndim - 1)) if x.shape[axis] > 1]
    return sum((jnp.abs(jnp.diff(x, axis=axis)).mean() for axis in axes), jnp.zeros(()))


def amplitude(x: jax.Array) -> jax.Array:
    """Mean square."""
    return (x * x).mean()


def unit_activation(activations: dict[str, jax.Array], unit_name: str) -> jax.Array:
    """Mean activation of the named hidden unit over all positions.

    Raises:
      UserError: no such activation or unit.
    """
    name, _, index = unit_name.rpartition(':')
    if name not in activations:
        raise UserError(f'excite.weights.unit_name {unit_name!r}: choose one of {", ".join(f"{n}:INDEX" for n in activations)}')
    units = activations[name].shape[-1]
    if not index.isdecimal() or int(index) >= units:
        raise UserError(f'excite.weights.unit_name {unit_name!r}: INDEX is a number from 0 to {units - 1}')
    return activations[name][..., int(index)].mean()


def make_objective(weights: Weights, decode, penalty, teacher_apply):
    """Builds ``objective(variables, context, belief, teacher_params) -> (loss, (x, logits))`` for one stimulus.

    Args:
      decode: (variables, context) -> x [*shape].
      penalty: (variables, context) -> negative log density a dimension.
      teacher_apply: (params, x) -> (logits, activations).
    """

    def objective(variables, context, belief, teacher_params):
        x = decode(variables, context)
        logits, activations = teacher_apply(teacher_params, x)
        loss = jnp.zeros(())
        if weights.excite:
            loss += weights.excite * excite(logits, belief)
        if weights.prior:
            loss += weights.prior * penalty(variables, context)
        if weights.tether:
            loss += weights.tether * tether(variables, context.start)
        if weights.total_variation:
            loss += weights.total_variation * total_variation(x)
        if weights.amplitude:
            loss += weights.amplitude * amplitude(x)
        if weights.unit:
            loss -= weights.unit * unit_activation(activations, weights.unit_name)
        return loss, (x, logits)

    return objective
