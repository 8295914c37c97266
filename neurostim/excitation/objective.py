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
      inhibit: what identity networks recognise, a mean over networks.
      inhibit_form: one of `INHIBITIONS`: what counts as recognising.
      inhibit_people: with the form 'named', names of the subjects that are suppressed, with commas.
    """

    excite: float = 1.0
    prior: float = 0.0
    tether: float = 0.0
    total_variation: float = 0.0
    amplitude: float = 0.0
    unit: float = 0.0
    unit_name: str = ''
    inhibit: float = 0.0
    inhibit_form: str = 'kl'
    inhibit_people: str = ''


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


def kl(logits: jax.Array, hidden: jax.Array, expected: jax.Array, people: jax.Array) -> jax.Array:
    """Divergence of the belief softmax(logits) [people] from what knowing the class alone would say: KL(expected || belief)."""
    del hidden, people
    return (expected * (jnp.log(expected) - jax.nn.log_softmax(logits))).sum()


def entropy(logits: jax.Array, hidden: jax.Array, expected: jax.Array, people: jax.Array) -> jax.Array:
    """How much less than the most its entropy can be is the belief's: 0 where it is uniform."""
    del hidden, expected, people
    logs = jax.nn.log_softmax(logits)
    return jnp.log(logits.shape[-1]) + (jnp.exp(logs) * logs).sum()


def margin(logits: jax.Array, hidden: jax.Array, expected: jax.Array, people: jax.Array) -> jax.Array:
    """Logarithm of how many times as likely as expected the person is who stands out most."""
    del hidden, people
    return (jax.nn.log_softmax(logits) - jnp.log(expected)).max()


def named(logits: jax.Array, hidden: jax.Array, expected: jax.Array, people: jax.Array) -> jax.Array:
    """-log of the belief that it is none of `people` (bool [people]); the others are left as they are."""
    del hidden, expected
    return jax.nn.logsumexp(logits) - jax.nn.logsumexp(jnp.where(people, -jnp.inf, logits))


def hidden_layer(logits: jax.Array, hidden: jax.Array, expected: jax.Array, people: jax.Array) -> jax.Array:
    """Mean square of the last hidden layer's activations."""
    del logits, expected, people
    return (hidden * hidden).mean()


INHIBITIONS = {'kl': kl, 'entropy': entropy, 'margin': margin, 'named': named, 'hidden': hidden_layer}


def make_inhibition(form: str, people: jax.Array, identity_apply):
    """Builds ``inhibition(networks, x, belief) -> `` what identity networks recognise in one stimulus, a mean over them.

    Args:
      form: one of `INHIBITIONS`.
      people: bool [people], who is suppressed by the form 'named'.
      identity_apply: (networks, x) -> ([(logits, last hidden activation)], share [classes, people]).
    """
    term = INHIBITIONS[form]

    def inhibition(networks, x, belief):
        outputs, share = identity_apply(networks, x)
        expected = belief @ share  # identity and class are confounded: what the class says of the person is no betrayal
        return sum(term(logits, hidden, expected, people) for logits, hidden in outputs) / len(outputs)

    return inhibition


def make_objective(weights: Weights, decode, penalty, teacher_apply, inhibition=None):
    """Builds ``objective(variables, context, belief, networks) -> (loss, (x, logits))`` for one stimulus.

    Args:
      decode: (variables, context) -> x [*shape].
      penalty: (variables, context) -> negative log density a dimension.
      teacher_apply: (networks, x) -> (logits, activations).
      inhibition: (networks, x, belief) -> how much of a person is recognised; needed where its weight is not 0.
    """

    def objective(variables, context, belief, networks):
        x = decode(variables, context)
        logits, activations = teacher_apply(networks, x)
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
        if weights.inhibit:
            loss += weights.inhibit * inhibition(networks, x, belief)
        return loss, (x, logits)

    return objective
