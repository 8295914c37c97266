"""Adaptive DeepInversion (Yin et al. 2020, arXiv 1912.08795): whole batches are searched from noise until the teacher is sure of their
classes and its hidden activations have the means and variances that real windows give them, while a student is to disagree with it.

The paper reads the statistics from batch normalisation. Teachers here have none, so the training windows' statistics are taken once; they
are aggregates, as a batch normalisation's are. Distances are in standard deviations, so that layers of any scale count alike.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

from neurostim import models, training
from neurostim.alternatives import networks
from neurostim.alternatives.base import Method, Options, shuffle
from neurostim.excitation import objective
from neurostim.excitation.records import Stimuli
from neurostim.sources import synthetic_source
from neurostim.study import Study
from neurostim.teacher import Teacher

STEPS = 60
LEARNING_RATE = 0.1
BATCH = 256
ROUNDS = 4  # after each but the last the student learns from all stimuli so far; the first has none yet
STATISTICS = 1.0  # weights of the terms; excitation's is 1
TOTAL_VARIATION = 0.01
AMPLITUDE = 0.001
COMPETITION = 0.5
STUDENT_STEPS = 400
INPUT = 'input'  # the windows themselves count as the first activation


def per_channel(activations: dict[str, jax.Array]) -> dict[str, tuple[jax.Array, jax.Array]]:
    """{name: (mean [channels], mean square [channels])} of activations [n, ..., channels] over windows and places."""
    axes = {name: tuple(range(a.ndim - 1)) for name, a in activations.items()}
    return {name: (a.mean(axes[name]), (a * a).mean(axes[name])) for name, a in activations.items()}


def statistics(teacher: Teacher, x: np.ndarray, block: int = 512) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Means and variances of every named activation over windows x [n, *shape], scaled: {name: (mean [channels], variance [channels])}."""
    moments = jax.jit(lambda part: per_channel({INPUT: part, **teacher.model.apply(teacher.params, part)[1]}))
    parts, sizes = [], []
    for first in range(0, len(x), block):
        parts.append(jax.tree.map(np.asarray, moments(x[first:first + block])))
        sizes.append(len(x[first:first + block]))
    share = np.array(sizes) / len(x)
    whole = jax.tree.map(lambda *values: sum(w * v for w, v in zip(share, values, strict=True)), *parts)
    return {name: (mean.astype(np.float32), np.maximum(square - mean**2, 0).astype(np.float32)) for name, (mean, square) in whole.items()}


def mismatch(activations: dict[str, jax.Array], wanted: dict) -> jax.Array:
    """How far a batch's means and variances are from the wanted ones: the squared difference of means, in standard deviations, and that of
    standard deviations, relative; a mean over activations and channels."""
    terms = []
    for name, (mean, square) in per_channel(activations).items():
        real_mean, real_variance = wanted[name]
        floor = 1e-3 * real_variance.mean() + 1e-8  # a unit that hardly ever fires
        spread, real_spread = jnp.sqrt(jnp.maximum(square - mean**2, 0) + floor), jnp.sqrt(real_variance + floor)
        terms.append((((mean - real_mean) / real_spread) ** 2 + (spread / real_spread - 1) ** 2).mean())
    return sum(terms) / len(terms)


def agreement(logits: jax.Array, others: jax.Array) -> jax.Array:
    """1 - Jensen-Shannon divergence of two beliefs [..., classes], in bits: 1 where they are the same, 0 where they exclude each other."""
    first, second = jax.nn.log_softmax(logits), jax.nn.log_softmax(others)
    middle = jnp.logaddexp(first, second) - math.log(2)
    return 1 - 0.5 * sum((jnp.exp(p) * (p - middle)).sum(-1) for p in (first, second)) / math.log(2)


def make_loss(apply_teacher, apply_student):
    """Builds ``loss(x, belief, params, student, wanted, competition)`` of a whole batch x [n, *shape] with targets [n, classes]."""
    def one(window, logits, belief):
        rough = TOTAL_VARIATION * objective.total_variation(window) + AMPLITUDE * objective.amplitude(window)
        return objective.excite(logits, belief) + rough

    def loss(x, belief, params, student, wanted, competition):
        logits, activations = apply_teacher(params, x)
        of_one = jax.vmap(one)(x, logits, belief)
        rivalry = agreement(logits, apply_student(student, x)[0])
        return of_one.mean() + STATISTICS * mismatch({INPUT: x, **activations}, wanted) + competition * rivalry.mean()

    return loss


def make(study: Study, teacher: Teacher, count: int, seed: int, options: Options) -> Stimuli:
    """`count` stimuli under the teacher's softmax; of the study, the training windows' statistics alone are used."""
    shape, n_classes = teacher.shape, len(teacher.classes)
    steps = STEPS if options.steps < 0 else options.steps
    wanted = statistics(teacher, teacher.scaling.forward(study.part(test=False).x))
    low, high = teacher.population['bounds']
    name = networks.discriminating(shape)
    student = models.create(name, shape, n_classes)
    loss = make_loss(teacher.model.apply, student.apply)
    optimiser = optax.adam(LEARNING_RATE)

    @jax.jit
    def invert(key, params, of_student, wanted, competition):
        start_key, class_key = jax.random.split(key)
        belief = jax.nn.one_hot(jax.random.permutation(class_key, jnp.arange(BATCH) % n_classes), n_classes)
        x = jax.random.normal(start_key, (BATCH, *shape))

        def step(_, state):
            x, optimiser_state = state
            grads = BATCH * jax.grad(loss)(x, belief, params, of_student, wanted, competition)
            updates, optimiser_state = optimiser.update(grads, optimiser_state)
            return jnp.clip(optax.apply_updates(x, updates), low, high), optimiser_state

        x, _ = jax.lax.fori_loop(0, steps, step, (x, optimiser.init(x)))
        return x, jax.nn.softmax(teacher.model.apply(params, x)[0])

    key = jax.random.key(seed)
    batches = math.ceil(count / BATCH)
    learnt = student.init(jax.random.fold_in(key, batches))
    made: list[tuple[np.ndarray, np.ndarray]] = []
    rounds = np.array_split(np.arange(batches), min(ROUNDS, batches))
    for number, members in enumerate(rounds):
        for batch in members:
            found = invert(jax.random.fold_in(key, batch), teacher.params, learnt, wanted, COMPETITION if number else 0.0)
            made.append(tuple(map(np.asarray, found)))
        if number + 1 < len(rounds):
            learnt = _learn(name, *map(np.concatenate, zip(*made, strict=True)), seed, batches * BATCH)
    x, probabilities = (np.concatenate(column) for column in zip(*made, strict=True))
    return shuffle(Stimuli(teacher.scaling.inverse(x), probabilities, probabilities.argmax(1)), seed).rows(slice(count))


def _learn(name: str, x: np.ndarray, probabilities: np.ndarray, seed: int, capacity: int):
    """The parameters of a student of these stimuli."""
    source = synthetic_source(x, probabilities, seed)
    fit = functools.partial(training.examples, classes=probabilities.shape[1], capacity=capacity)
    params, _ = training.fit(
        (name, x.shape[1:], probabilities.shape[1], ()), training.TrainingOptions(steps=STUDENT_STEPS), jax.random.key(seed),
        *(fit(source.x[rows], source.targets[rows]) for rows in (~source.held, source.held)))
    return params


METHODS = {'deep_inversion': Method(make)}
