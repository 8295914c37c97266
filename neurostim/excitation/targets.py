"""What to excite towards: a belief over the classes for each stimulus.

A sampler is ``sample(key) -> Target`` for one stimulus; :func:`make_sampler` builds it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from neurostim.errors import UserError, choose

NAMES = ('threshold', 'beta', 'dirichlet', 'similarity')


class Target(NamedTuple):
    """What one stimulus should make the teacher believe.

    Attributes:
      belief: float32 [classes], a distribution.
      label: int32, the class it was drawn for.
      threshold: float32; a stimulus is accepted once the teacher's belief in `label` exceeds it. Above 1: never early.
    """

    belief: jax.Array
    label: jax.Array
    threshold: jax.Array


def make_sampler(name: str, class_share, *, low: float = 0.75, high: float = 0.9999, a: float = 4.0, b: float = 1.0,
                 concentration: float = 2.0, similarity=None) -> Callable[[jax.Array], Target]:
    """Builds a sampler of targets.

    Args:
      name: 'threshold', the published rule: a class, wholly, and acceptance at a threshold drawn from U[low, high].
        'beta': a class with a belief drawn from Beta(a, b) between even and certain, the rest spread by a flat Dirichlet.
        'dirichlet': the whole belief from a Dirichlet whose concentrations are `class_share` times `concentration`; with two
        classes alike and 2.0 that is every belief as often as any other.
        'similarity': a Dirichlet whose concentrations are the drawn class's row of `similarity`, times `concentration`
        (class-similarity targets of Nayak et al. 2019, zero-shot distillation).
      class_share: [classes], how often each class is drawn; it sums to one.
      similarity: [classes, classes], positive; only 'similarity' needs it.
    """
    choose(name, NAMES, 'excite.target.name')
    logits = jnp.log(jnp.asarray(class_share, jnp.float32))
    classes = logits.shape[0]
    if not 0 < low <= high <= 1:
        raise UserError(f'excite.target.low and .high are {low} and {high}: give 0 < low <= high <= 1')
    for field, value in (('a', a), ('b', b), ('concentration', concentration)):
        if not value > 0:
            raise UserError(f'excite.target.{field} is {value}: give a positive number')
    if name == 'similarity' and similarity is None:
        raise UserError("excite.target.name 'similarity' needs the teacher's class similarities")

    def one_hot(label):
        return jax.nn.one_hot(label, classes)

    def sample(key):
        class_key, belief_key, rest_key = jax.random.split(key, 3)
        label = jax.random.categorical(class_key, logits).astype(jnp.int32)
        threshold = jnp.float32(2.0)
        if name == 'threshold':
            belief = one_hot(label)
            threshold = jax.random.uniform(belief_key, minval=low, maxval=high)
        elif name == 'beta':
            own = 1 / classes + (1 - 1 / classes) * jax.random.beta(belief_key, a, b)
            rest = (jax.random.exponential(rest_key, (classes,)) + 1e-6) * (1 - one_hot(label))  # a draw may be exactly 0
            belief = own * one_hot(label) + (1 - own) * rest / rest.sum()
        elif name == 'dirichlet':
            belief = jax.random.dirichlet(belief_key, concentration * jnp.exp(logits))
            label = belief.argmax().astype(jnp.int32)
        else:
            belief = jax.random.dirichlet(belief_key, concentration * jnp.asarray(similarity)[label])
        return Target(belief, label, threshold)

    return sample


def class_similarity(head_kernels: list[np.ndarray], classes: int) -> np.ndarray:
    """How alike a teacher holds two classes to be: the cosine of their weights in the last layer, between 0 and 1.

    Args:
      head_kernels: one [units, classes] a member of the committee that has a last layer; their similarities are averaged. Where none has,
        no two classes are alike.

    Returns:
      [classes, classes]; each row is scaled to [0.01, 1] with its own class at 1 (Nayak et al. 2019, eq. 2).
    """
    rows = []
    for kernel in head_kernels:
        unit = kernel / np.linalg.norm(kernel, axis=0, keepdims=True)
        rows.append(unit.T @ unit)
    cosine = np.mean(rows, 0) if rows else np.eye(classes)
    low = cosine.min(1, keepdims=True)
    return np.clip((cosine - low) / np.maximum(1 - low, 1e-6), 0.01, 1.0)
