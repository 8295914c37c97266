"""Shadow pipelines: the whole way from windows to students once more, for many random choices of who takes part.

A pipeline is one pure function of (key, who takes part): it trains a teacher on the members, takes the population's statistics, excites,
and trains a student on stimuli and, as the positive control, one on the members' real windows. What the students then believe of every
window, member or not, is what :mod:`neurostim.evaluation.membership` reads.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from neurostim import models, training
from neurostim.excitation import engine, parameterisation, targets
from neurostim.excitation.objective import Weights
from neurostim.study import Study
from neurostim.threads import side_by_side

LARGEST = 1024  # numbers in a window: the covariance of more would not fit
COPIES = 10  # shifted ones, of which an attacker asks
BEGINNINGS = 16  # of each window, where mixtures are of copies that begin anywhere
HELD = 8  # one member in so many stops the training of networks
RIDGE = 1e-2  # of the mean variance, in each direction

FEWEST = 8  # pipelines that an attack on membership needs


@dataclasses.dataclass(frozen=True)
class ShadowOptions:
    """A pipeline smaller than the one that is attacked, so that many can be run.

    Attributes:
      teacher, student: zoo names; the teacher is one network.
      steps, batch: of every network's training.
      stimuli: made by a pipeline.
      components: of a mixture of Gaussians, from which stimuli start.
      by_class: whether each class has a mixture of its own, or all have the same.
      stationary: whether mixtures are of copies of windows that begin anywhere.
      excite_steps, learning_rate, tether, concentration: of excitation; the last one's of its targets.
      shift: of the teacher's training, see :class:`neurostim.training.TrainingOptions`; students are trained without.
    """

    teacher: str = 'cnn'
    student: str = 'cnn'
    steps: int = 600
    batch: int = 64
    stimuli: int = 4096
    components: int = 8
    by_class: bool = True
    stationary: bool = False
    excite_steps: int = 5
    learning_rate: float = 0.1
    tether: float = 0.3
    concentration: float = 2.0
    shift: float = 0.0


class Scores(NamedTuple):
    """What one pipeline gives away of each window: float32 [n] each, higher where a member is suspected.

    Attributes:
      real, stimuli: of the student trained on members' windows and on stimuli, log(p / (1 - p)) of the window's label (Carlini
        et al. 2022).
      copies: `stimuli`, averaged over copies of the window that are shifted in time as the teacher's were: who knows how the teacher
        learnt asks so. The same as `stimuli` where it learnt from no shifted windows.
      distance: minus the distance to the nearest stimulus.
      density: logarithm of the density of stimuli at the window, see :func:`density`.
    """

    real: jax.Array
    stimuli: jax.Array
    copies: jax.Array
    distance: jax.Array
    density: jax.Array


def logit_of_label(logits: jax.Array, label: jax.Array) -> jax.Array:
    """log(p / (1 - p)) of each label's probability, from logits [n, classes] so that certainty does not saturate."""
    own = jnp.take_along_axis(logits, label[:, None], 1)[:, 0]
    rest = jnp.where(jax.nn.one_hot(label, logits.shape[1], dtype=bool), -jnp.inf, logits)
    return own - jax.nn.logsumexp(rest, 1)


def plant(study: Study, most: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Canaries: at most so many windows of the test part, int [m], of which nothing else is learnt, and a wrong label for each, int [m]."""
    rows = rng.permutation(np.flatnonzero(study.test))[:most]
    classes = len(study.classes)
    return rows, (study.y[rows] + rng.integers(1, classes, len(rows))) % classes


def fit_mixture(key, x: jax.Array, weight: jax.Array, components: int, rounds: int = 10) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A mixture of Gaussians by expectation maximisation, of rows [n, d] with weights [n].

    Returns:
      (share [components], centre [components, d], Cholesky factor of the covariance [components, d, d]).
    """
    d = x.shape[1]
    total = weight.sum()
    mean = weight @ x / total
    centred = (x - mean) * jnp.sqrt(weight)[:, None]
    whole = centred.T @ centred / total
    ridge = 1e-2 * jnp.trace(whole) / d * jnp.eye(d)
    first = jax.random.choice(key, len(x), (components,), p=weight / total)
    centre = 0.5 * x[first] + 0.5 * mean  # no component starts as somebody's window

    def advance(_, state):
        share, centre, factor = state

        def log_density(c, f):
            z = jax.scipy.linalg.solve_triangular(f, (x - c).T, lower=True)
            return -0.5 * (z * z).sum(0) - jnp.log(jnp.diag(f)).sum()

        logs = jax.lax.map(lambda a: log_density(*a), (centre, factor)) + jnp.log(share)[:, None]
        belongs = jax.nn.softmax(logs, 0) * weight
        sums = belongs.sum(1)
        prior = d / 4  # rows like those of the whole population, besides a component's own: one of few windows stays broad
        share = sums / total
        centre = (belongs @ x + prior / d * mean) / (sums + prior / d)[:, None]

        def factor_of(a):
            c, own, n = a
            off = (x - c) * jnp.sqrt(own)[:, None]
            return jnp.linalg.cholesky((off.T @ off + prior * whole) / (n + prior) + ridge)

        return share + 1e-9, centre, jax.lax.map(factor_of, (centre, belongs, sums))

    start = (jnp.full(components, 1 / components), centre, jnp.tile(jnp.linalg.cholesky(whole + ridge), (components, 1, 1)))
    return jax.lax.fori_loop(0, rounds, advance, start)


def make_pipeline(shape: tuple[int, ...], classes: int, options: ShadowOptions):
    """Builds ``pipeline(key, order, n, x, y) -> Scores`` over all windows x [rows, *shape] with labels y.

    The members are ``order[:n]``; `order` [most members] is padded, so that pipelines of different sizes share one program.
    """
    train_options = training.TrainingOptions(
        steps=options.steps, batch=options.batch, validations=10, patience=10, learning_rate=2e-3)
    teacher, student = (models.create(name, shape, classes) for name in (options.teacher, options.student))
    train_teacher = training.make_train(teacher, dataclasses.replace(train_options, shift=options.shift))
    train_student = training.make_train(student, train_options)
    sampler = targets.make_sampler('dirichlet', np.full(classes, 1 / classes), concentration=options.concentration)
    lanes = 256
    excite = engine.make_excite(
        parameterisation.mixture(shape), sampler, teacher.apply,
        engine.Options(options.excite_steps, options.learning_rate, weights=Weights(tether=options.tether)), lanes, lanes)

    def learn(train, key, x, soft, n):
        """Trains on rows [:n]; the last of them, one in `HELD`, stop it early. Their order is random."""
        held = n // HELD
        rows = jnp.arange(len(x) // HELD + 1)
        last = jnp.clip(n - held + rows, 0, len(x) - 1)
        return train(key, training.Examples(x, soft, n - held), training.Examples(x[last], soft[last], held))[0]

    def population_of(key, own, label, n):
        present = (jnp.arange(len(own)) < n).astype(jnp.float32)
        if options.stationary:
            firsts = jax.random.randint(jax.random.fold_in(key, classes), (len(own),), 0, shape[0])
            shifts = firsts + jnp.arange(BEGINNINGS)[:, None] * shape[0] // BEGINNINGS
            own = jax.vmap(jax.vmap(lambda window, shift: jnp.roll(window, shift, 0)), (None, 0))(own, shifts)
            label, present = jnp.tile(label, BEGINNINGS), jnp.tile(present, BEGINNINGS)
        flat = own.reshape(len(label), -1)
        weights = [present * (label == c) + 1e-6 * present for c in range(classes)] if options.by_class else [present]
        fits = [fit_mixture(jax.random.fold_in(key, i), flat, weight, options.components) for i, weight in enumerate(weights)]
        fits = fits if options.by_class else fits * classes
        share, centre, factor = (jnp.concatenate(parts) for parts in zip(*fits, strict=True))
        d = flat.shape[1]
        bound = 4 * jnp.abs(flat).max()
        return {'mixture/weight': share, 'mixture/centre': centre, 'mixture/factor': factor,
                'mixture/owner': jnp.repeat(jnp.arange(classes), options.components), 'mixture/mean': jnp.zeros(d),
                'mixture/basis': jnp.eye(d), 'mixture/rest': jnp.zeros(d), 'bounds': jnp.stack([-bound, bound])}

    def score(params, x, y):
        logits = jax.lax.map(lambda block: student.apply(params, block)[0], _blocks(x))
        return logit_of_label(logits.reshape(-1, classes)[:len(x)], y)

    def score_copies(params, x, y):
        farthest = round(options.shift * shape[0])
        shifts = jnp.linspace(-farthest, farthest, COPIES, endpoint=False).astype(int)
        return jax.lax.map(lambda shift: score(params, jnp.roll(x, shift, 1), y), shifts).mean(0)

    def pipeline(key, order, n, x, y):
        keys = jax.random.split(key, 5)
        own, label = x[order], y[order]
        truth = jax.nn.one_hot(label, classes)
        teacher_params = learn(train_teacher, keys[0], own, truth, n)
        population = population_of(keys[1], own, label, n)
        firsts = jnp.arange(-(-options.stimuli // lanes)) * lanes
        made = jax.lax.map(lambda first: excite(keys[2], first, teacher_params, population)[:2], firsts)
        stimuli, soft = (part.reshape(-1, *part.shape[2:]) for part in made)
        of_real = learn(train_student, keys[3], own, truth, n)
        of_stimuli = learn(train_student, keys[4], stimuli, soft, jnp.int32(len(stimuli)))
        rows, made = x.reshape(len(x), -1), stimuli.reshape(len(stimuli), -1)
        plain = score(of_stimuli, x, y)
        return Scores(score(of_real, x, y), plain, score_copies(of_stimuli, x, y) if options.shift else plain,
                      nearness(rows, made), density(rows, y, made, soft))

    return pipeline


def _blocks(x, rows: int = 256):
    """[n, ...] -> [blocks, rows, ...], padded."""
    padded = jnp.pad(x, [(0, -len(x) % rows)] + [(0, 0)] * (x.ndim - 1))
    return padded.reshape(-1, rows, *x.shape[1:])


def nearness(x: jax.Array, made: jax.Array) -> jax.Array:
    """Minus the distance [n] of each row of x [n, d] to the nearest of what was made, [m, d]."""
    norms = (made * made).sum(1)
    squares = jax.lax.map(lambda block: ((block * block).sum(1)[:, None] + norms - 2 * block @ made.T).min(1), _blocks(x))
    return -jnp.sqrt(jnp.maximum(squares.reshape(-1)[:len(x)], 0))


def density(x: jax.Array, y: jax.Array, made: jax.Array, belongs: jax.Array) -> jax.Array:
    """Log density [n] of each row of x [n, d] by a Gaussian with the mean and the covariance of what was made, [m, d], of its class y [n].

    A window pulls the mean and the covariance of its class a little towards itself, in each of d directions; together these betray it where
    windows are not many times as many as numbers (tracing from released averages: Homer et al. 2008, PLoS Genetics 4:e1000167; Dwork et
    al. 2015, Robust Traceability from Trace Amounts). Each class's covariance is drawn towards that of all, as if as many rows as there are
    numbers had said so.

    Args:
      belongs: [m, classes], how far each row belongs to each class.
    """
    d = x.shape[1]
    whole = jnp.cov(made.T).reshape(d, d)

    def of_class(own):
        count = own.sum()
        mean = own @ made / jnp.maximum(count, 1e-6)
        apart = (made - mean) * jnp.sqrt(own)[:, None]
        covariance = (apart.T @ apart + d * whole) / (count + d) + RIDGE * jnp.trace(whole) / d * jnp.eye(d)
        factor = jnp.linalg.cholesky(covariance)
        whitened = jax.scipy.linalg.solve_triangular(factor, (x - mean).T, lower=True)
        return -0.5 * (whitened**2).sum(0) - jnp.log(jnp.diag(factor)).sum()

    return jnp.take_along_axis(jax.lax.map(of_class, belongs.T), y[None], 0)[0]


def run(pipeline, key, member: np.ndarray, x: np.ndarray, y: np.ndarray, progress: Callable[[int], None] = lambda done: None) -> Scores:
    """Runs a pipeline for every row of `member` [pipelines, n]: Scores of [pipelines, n].

    As many at a time as there are cores, in threads, which keeps cores busier than a batch would: products of a batch of small networks
    are slow there.
    """
    counts = member.sum(1)
    rng = np.random.default_rng(0)
    # Members first, in random order: what stops the training early is a random part of them.
    orders = [np.concatenate([rng.permutation(np.flatnonzero(part)) for part in (row, ~row)])[:counts.max()] for row in member]
    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32)
    compiled = jax.jit(pipeline).lower(key, jnp.asarray(orders[0], jnp.int32), jnp.int32(0), x, y).compile()

    def one(i):
        scores = compiled(jax.random.fold_in(key, i), jnp.asarray(orders[i], jnp.int32), jnp.int32(counts[i]), x, y)
        return Scores(*map(np.asarray, scores))

    done = itertools.count(1)
    results = side_by_side(one, range(len(member)), lambda i, scores: progress(next(done)))
    return Scores(*(np.stack(parts) for parts in zip(*results, strict=True)))
