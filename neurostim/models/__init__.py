"""A functional model zoo: ``create(name, shape, classes) -> Model(init, apply)``; one family a file.

A model is a value: parameters are a pytree that the caller owns, so a stacked pytree is many models. Inputs are scaled windows,
feature vectors or images with any number of leading axes; ``apply`` also returns the activations by name, so that any
layer can be excited.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from neurostim.errors import UserError, choose

NAMES = ('mlp', 'cnn', 'resnet', 'gru', 'lstm', 'transformer', 'published', 'linear', 'binned')
MEMBERS = (*NAMES, 'boosted')  # of teachers: a student's trees are scikit-learn's own


class Model(NamedTuple):
    """A network as a pair of pure functions.

    Attributes:
      name, shape, classes: what :func:`create` was asked for.
      init: key -> parameters.
      apply: (parameters, x [..., *shape], dropout key or None) -> (logits [..., classes], {name: activations}). A key turns
        dropout on.
    """

    name: str
    shape: tuple[int, ...]
    classes: int
    init: Callable[[jax.Array], Any]
    apply: Callable[..., tuple[jax.Array, dict[str, jax.Array]]]


def create(name: str, shape: tuple[int, ...], classes: int, **options) -> Model:
    """Builds a zoo member for inputs of `shape` ([features], [time, channels] or [height, width, channels]).

    Args:
      name: one of `MEMBERS`.
      options: the family's own attributes, e.g. ``width``.

    Raises:
      UserError: an unknown name or option, or a family that cannot take such inputs.
    """
    choose(name, MEMBERS, 'model')
    family = importlib.import_module(f'neurostim.models.{name}').Network
    try:
        network = family(shape=tuple(shape), classes=classes, **options)
    except TypeError as error:
        raise UserError(f'model {name!r}: {error}') from None

    def init(key):
        return network.init(key, jnp.zeros(shape))['params']

    def apply(params, x, dropout_key=None):
        return network.apply({'params': params}, x, rngs=None if dropout_key is None else {'dropout': dropout_key})

    return Model(name, tuple(shape), classes, init, apply)


def committee(models: tuple[Model, ...], weights: tuple[float, ...] = ()) -> Model:
    """Several models as one: its softmax is the mean of theirs.

    Parameters are a tuple, one entry a member; activations are named ``member/activation``, e.g. ``0/dense``. A committee of
    one is that model, with the same naming.

    Args:
      weights: how much each member counts in the mean, in any unit; none where all count alike.
    """
    first = models[0]

    def init(key):
        return tuple(m.init(k) for m, k in zip(models, jax.random.split(key, len(models)), strict=True))

    def apply(params, x, dropout_key=None):
        outputs = [m.apply(p, x, dropout_key) for m, p in zip(models, params, strict=True)]
        activations = {f'{i}/{name}': a for i, (_, named) in enumerate(outputs) for name, a in named.items()}
        logs = jnp.stack([jax.nn.log_softmax(logits) for logits, _ in outputs])
        if not weights:
            return jax.nn.logsumexp(logs, 0) - jnp.log(len(models)), activations
        counts = jnp.asarray(weights, logs.dtype).reshape(-1, *[1] * (logs.ndim - 1))
        return jax.nn.logsumexp(logs + jnp.log(counts / counts.sum()), 0), activations

    return Model('+'.join(m.name for m in models), first.shape, first.classes, init, apply)


def blank(names: tuple[str, ...], shape: tuple[int, ...], classes: int) -> tuple:
    """Shapes of the parameters of members for windows of `shape`, one entry a name."""
    return tuple(jax.eval_shape(create(name, shape, classes).init, jax.random.key(0)) for name in names)
