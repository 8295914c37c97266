"""Networks that recognise individuals, trained so that excitation can inhibit them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from neurostim import models, training

FEWEST_WINDOWS = 30  # of a person that can be learnt


@dataclasses.dataclass(frozen=True)
class IdentityOptions:
    """Which networks learn to name people, and how.

    Attributes:
      models: zoo names; a name may come more than once. Where there are none, nobody can be inhibited.
      steps: most optimiser steps of each.
      copies: of every window that a network learns from; all but the first are changed as `augment` says.
    """

    models: tuple[str, ...] = ()
    steps: int = 1000
    copies: int = 3


class Identity(NamedTuple):
    """Trained identity networks.

    Attributes:
      names: zoo names.
      people: names of the subjects that they tell apart, in the order of their outputs.
      params: a tuple, one entry a network.
      share: float32 [classes, people], how often a window of a class is of each person; rows sum to one. What who knows the class
        but not the person has to believe.
    """

    names: tuple[str, ...]
    people: tuple[str, ...]
    params: Any
    share: np.ndarray

    def networks(self, shape: tuple[int, ...]) -> tuple[models.Model, ...]:
        """The zoo members for windows of `shape`."""
        return tuple(models.create(name, shape, len(self.people)) for name in self.names)


def augment(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Windows [n, *shape] that stimuli could have come from as well: series shifted in time, end to beginning, each window a little
    stronger or weaker, with a little noise. What recognises these looks at more than a window's own samples."""
    if x.ndim == 3:
        order = (np.arange(x.shape[1]) + rng.integers(0, x.shape[1], (len(x), 1))) % x.shape[1]
        x = np.take_along_axis(x, order[..., None], 1)
    gain = np.exp(0.1 * rng.normal(size=(len(x), *[1] * (x.ndim - 1))))
    return (gain * x + 0.1 * x.std() * rng.normal(size=x.shape)).astype(np.float32)


def held_back(person: np.ndarray) -> np.ndarray:
    """bool [n]: the last sixth of each person's windows, in the order of recording, which is not learnt from; person int [n]."""
    held = np.zeros(len(person), bool)
    for one in np.unique(person):
        own = np.flatnonzero(person == one)
        held[own[round(len(own) * 5 / 6):]] = True
    return held


def train_identity(x: np.ndarray, person: np.ndarray, subjects: tuple[str, ...], y: np.ndarray, n_classes: int, options: IdentityOptions,
                   seed: int = 0, report: Callable[[str], None] = lambda text: None) -> Identity | None:
    """Trains the networks of `options` on training windows; None where fewer than two people have enough of them.

    What :func:`held_back` names stops training early.

    Args:
      x: float32 [n, *shape], scaled.
      person: int [n], indices into `subjects`.
      y: int [n], classes.
      report: called with a line of text as networks are done.
    """
    known = np.flatnonzero(np.bincount(person, minlength=len(subjects)) >= FEWEST_WINDOWS)
    if not options.models or len(known) < 2:
        return None
    rows = np.isin(person, known)
    x, y, person = x[rows], y[rows], np.searchsorted(known, person[rows])
    held = held_back(person)
    params, fit_options = [], training.TrainingOptions(steps=options.steps, balance=1.0)
    for i, name in enumerate(options.models):
        rng = np.random.default_rng([seed, i])
        learnt = np.concatenate([x[~held], *(augment(x[~held], rng) for _ in range(options.copies - 1))])
        data = training.examples(learnt, np.tile(person[~held], options.copies), len(known))
        validation = training.examples(x[held], person[held], len(known))
        network, history = training.fit((name, x.shape[1:], len(known), ()), fit_options,
                                        jax.random.fold_in(jax.random.key(seed), 1000 + i), data, validation)
        params.append(jax.tree.map(np.asarray, network))
        report(f'{i + 1}/{len(options.models)} {name}: names people with kappa {np.nanmax(history.validation_kappa):.3f}')
    counts = np.stack([np.bincount(person[y == c], minlength=len(known)) for c in range(n_classes)]) + 1.0
    share = (counts / counts.sum(1, keepdims=True)).astype(np.float32)
    return Identity(tuple(options.models), tuple(subjects[k] for k in known), tuple(params), share)


def make_apply(networks: tuple[models.Model, ...]):
    """Builds ``apply(params, x) -> [(logits [people], last hidden activation)]``, a pair a network, for one window x [*shape]."""

    def apply(params, x):
        outputs = [network.apply(p, x) for network, p in zip(networks, params, strict=True)]
        return [(logits, list(activations.values())[-1]) for logits, activations in outputs]

    return apply


def blank(names: tuple[str, ...], shape: tuple[int, ...], people: int):
    """Shapes of the parameters of networks for windows of `shape`."""
    return tuple(jax.eval_shape(models.create(name, shape, people).init, jax.random.key(0)) for name in names)
