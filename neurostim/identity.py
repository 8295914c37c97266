"""Networks that recognise individuals, trained so that excitation can inhibit them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from neurostim import models, training
from neurostim.excitation import objective, population

FEWEST_WINDOWS = 30  # of a person that can be learnt
DISGUISE_STEPS, DISGUISE_RATE, DISGUISE_TETHER = 10, 0.1, 0.3  # as excitation from a Gaussian
DISGUISE_BATCH = 128  # windows at once: they stay in the cache


@dataclasses.dataclass(frozen=True)
class IdentityOptions:
    """Which networks learn to name people, and how.

    Attributes:
      models: zoo names; a name may come more than once. Where there are none, nobody can be inhibited.
      steps: most optimiser steps of each.
      copies: of every window that a network learns from; all but the first are changed as `augment` says.
      refreshes: how often fresh networks take the place of those before. They learn from one more copy of every window each time, one
        that was disguised from those before (:func:`make_disguise`). Measure whether it serves: on simulated people inhibition then
        transfers far better to other attackers, on Apnea-ECG it does not (BUILD_NOTES).
    """

    models: tuple[str, ...] = ()
    steps: int = 1000
    copies: int = 3
    refreshes: int = 0


class Identity(NamedTuple):
    """Trained identity networks.

    Attributes:
      names: zoo names.
      people: names of the subjects that they tell apart, in the order of their outputs.
      params: a tuple, one entry a network.
      share: float32 [classes, people], how often a window of a class is of each person; rows sum to one. What
        somebody believes about the person who knows only the class.
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
    learnt, checked = x[~held], x[held]
    fit = functools.partial(_fit_all, learnt, person[~held], checked, person[held], len(known), options, seed, report)
    disguises, params = [], fit([])
    if options.refreshes:
        networks = tuple(models.create(name, x.shape[1:], len(known)) for name in options.models)
        disguise = make_disguise(networks, population.gaussian(x.reshape(len(x), -1), seed)['gaussian/basis'])
    for turn in range(options.refreshes):
        rng = np.random.default_rng([seed, 99, turn])
        disguises.append((disguise(params, augment(learnt, rng)), disguise(params, checked)))
        params = fit(disguises)
    counts = np.stack([np.bincount(person[y == c], minlength=len(known)) for c in range(n_classes)]) + 1.0
    share = (counts / counts.sum(1, keepdims=True)).astype(np.float32)
    return Identity(tuple(options.models), tuple(subjects[k] for k in known), params, share)


def _fit_all(learnt, person, checked, checked_person, people: int, options: IdentityOptions, seed: int, report, disguises):
    """Parameters of the networks, a tuple, trained on `learnt`, augmented copies of it and disguised ones: pairs (of `learnt`, of
    `checked`), one a refresh."""
    turn, shape, params = len(disguises), learnt.shape[1:], []
    more, more_checked = ([pair[i] for pair in disguises] for i in range(2))
    validation = training.examples(np.concatenate([checked, *more_checked]), np.tile(checked_person, 1 + turn), people)
    fit_options = training.TrainingOptions(steps=options.steps, balance=1.0)
    for i, name in enumerate(options.models):
        number = turn * len(options.models) + i
        rng = np.random.default_rng([seed, number])
        copies = [learnt, *(augment(learnt, rng) for _ in range(options.copies - 1)), *more]
        data = training.examples(np.concatenate(copies), np.tile(person, len(copies)), people)
        network, history = training.fit((name, shape, people, ()), fit_options,
                                        jax.random.fold_in(jax.random.key(seed), 1000 + number), data, validation)
        params.append(jax.tree.map(np.asarray, network))
        report(f'{i + 1}/{len(options.models)} {name}{f", refresh {turn}" if turn else ""}: names people with kappa '
               f'{np.nanmax(history.validation_kappa):.3f}')
    return tuple(params)


def make_disguise(networks: tuple[models.Model, ...], basis: np.ndarray):
    """Builds ``disguise(params, x) -> x``: windows [n, *shape] moved until the networks hardly recognise whose they are.

    The search is excitation's with inhibition by entropy and without a task, from a real window instead of a draw: what is added to it are
    the population's whitened coordinates, tethered to 0. Training on what it finds is adversarial training (Madry et al. 2018, arXiv
    1706.06083) with examples of a whole ensemble (Tramer et al. 2018, arXiv 1705.07204).

    Args:
      basis: [numbers in a window, rank], of the population's Gaussian.
    """
    apply, optimiser = make_apply(networks), optax.adam(DISGUISE_RATE)

    def moved(window, scores):
        return window + (basis @ scores).reshape(window.shape)

    def loss(scores, window, params):
        beliefs = [logits for logits, _ in apply(params, moved(window, scores))]
        recognised = sum(objective.entropy(logits, None, None, None) for logits in beliefs) / len(beliefs)
        return recognised + DISGUISE_TETHER * objective.tether(scores, jnp.zeros_like(scores))

    def one(params, window):
        def step(_, state):
            scores, optimiser_state = state
            updates, optimiser_state = optimiser.update(jax.grad(loss)(scores, window, params), optimiser_state)
            return optax.apply_updates(scores, updates), optimiser_state

        start = jnp.zeros(basis.shape[1])
        scores, _ = jax.lax.fori_loop(0, DISGUISE_STEPS, step, (start, optimiser.init(start)))
        return moved(window, scores)

    many = jax.jit(lambda params, x: jax.lax.map(lambda window: one(params, window), x, batch_size=DISGUISE_BATCH))
    return lambda params, x: np.asarray(many(params, x))


def make_apply(networks: tuple[models.Model, ...]):
    """Builds ``apply(params, x) -> [(logits [people], last hidden activation)]``, a pair a network, for one window x [*shape]."""

    def apply(params, x):
        outputs = [network.apply(p, x) for network, p in zip(networks, params, strict=True)]
        return [(logits, list(activations.values())[-1]) for logits, activations in outputs]

    return apply
