"""One jitted loop that trains teachers, identity networks and students.

The loop is built outside (:func:`make_train`) and is a pure function inside: data and key in, parameters and curves out. The whole
run is one compiled call: minibatches are drawn on the device, and validation decides which parameters are kept.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from scipy import special

from neurostim import optimisers
from neurostim.models import Model, boosted

STEP_NUMBERS = 2**19  # in the windows of a step, at most: a step of long windows costs what passes through the memory
LEAST_BATCH = 32  # windows a step, however long they are
FINER, EPOCHS = 10, 12  # few windows are validated by up to so many times as often, so that there are about so many epochs in between
FEW = (1500, 2**20)  # windows, and numbers in them, of which no more than so many are too few to learn from a part of them
NEVER = 2**30  # steps, more than any training has
LATE = 0.75  # share of the steps after which a network that knows held windows best was still learning when they ran out
LITTLE = 0.025  # nats, that a network has left to learn of its labels: more steps hardly change an answer (BUILD_NOTES)
RECURRENT = ('gru', 'lstm')  # learn by AdamW in any case: Muon's steps upset what they carry from sample to sample (BUILD_NOTES)
FEWER = 2  # times fewer steps that others take by Muon
AGAIN = 2**31 - 1  # use of a key, far from those of what `split` gives
VALIDATED = 128  # windows at a time, so that activations stay in the cache, and no more of the padding than need be
BLOCK = 128  # windows that a network is asked about at once; of fewer, as many cost (BUILD_NOTES)


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Attributes:
      steps: most optimiser steps, of AdamW; see `optimiser`.
      batch: examples a step; of windows of more than 4 096 numbers fewer (:func:`step_windows`).
      learning_rate: AdamW's at its peak, reached after 5 % of the steps and followed by a cosine to zero.
      weight_decay: AdamW's.
      balance: exponent of class weighting in the loss: 0 takes classes as they come, 1 gives all the same weight.
      patience: validations without improvement after which training stops, counted by `validations` however often there are any.
      validations: how often a full run is validated; of few windows up to `FINER` times as often, for networks have overfitted
        these before the first of so few validations.
      average: decay of the exponential moving average of parameters, which is what is validated and kept (Polyak & Juditsky 1992).
      shift: farthest that a window is shifted in time, end to beginning, each time that it is learnt from, as a share of its length: 0.5
        lets it begin anywhere. Such a network learns rhythms, and hardly any window by heart. For time series only. -1 lets a teacher
        choose 0 or 0.5 by what its first member makes of held-out groups.
      longer: how many times as many steps there are in all, where they ran out and much was left to learn (:func:`is_to_go_on`): training
        goes on from the parameters that it came to, through a second course of the learning rate (Loshchilov & Hutter 2017, arXiv
        1608.03983). 1 trains once. Only where that is :func:`affordable`.
      optimiser: of :data:`neurostim.optimisers.NAMES`. By Muon a network of the zoo takes fewer steps (`FEWER`); where it overfits before
        they run out, AdamW trains one too, and that one is kept which knows held windows better. AdamW alone trains those that are
        `RECURRENT`, and all of few windows (:func:`are_few`).
    """

    steps: int = 2000
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    balance: float = 0.0
    patience: int = 8
    validations: int = 20
    average: float = 0.99
    shift: float = 0.0
    longer: int = 1
    optimiser: str = 'adamw'


class Examples(NamedTuple):
    """Training or validation data.

    Attributes:
      x: [capacity, *shape]; rows from `n` on are padding.
      targets: [capacity, classes], each row a distribution: one-hot labels or a teacher's beliefs.
      n: how many rows count; traced, so that data of different lengths share one compiled loop.
    """

    x: jax.Array
    targets: jax.Array
    n: jax.Array


class History(NamedTuple):
    """Curves, one entry a validation; entries after an early stop are nan."""

    step: jax.Array
    train_loss: jax.Array
    validation_loss: jax.Array
    validation_kappa: jax.Array


def examples(x: np.ndarray, targets: np.ndarray, classes: int, capacity: int | None = None) -> Examples:
    """Makes :class:`Examples` of windows and hard (int [n]) or soft ([n, classes]) labels.

    Args:
      capacity: rows after padding; None rounds up to the next of 1, 1.5, 2, 3, 4, 6, ... times a power of two, so that data of
        like sizes do not each compile a loop of their own.
    """
    targets = np.eye(classes, dtype=np.float32)[targets] if targets.ndim == 1 else np.asarray(targets, np.float32)
    n = len(x)
    capacity = capacity or rounded(n)
    grow = [(0, capacity - n)]
    return Examples(
        jnp.asarray(np.pad(np.asarray(x, np.float32), grow + [(0, 0)] * (x.ndim - 1))),
        jnp.asarray(np.pad(targets, grow + [(0, 0)])), jnp.int32(n))


def rounded(n: int) -> int:
    """Rows that n of them are padded to, see :func:`examples`."""
    power = 2 ** math.floor(math.log2(max(n, 2)))
    return next(c for c in (power, power * 3 // 2, power * 2) if c >= n)


def are_few(x: np.ndarray) -> bool:
    """Whether windows x [n, *shape] are too few to do without those held out to stop early: then a network learns anew from all."""
    windows, numbers = FEW
    return len(x) <= windows and x.size <= numbers


def affordable(options: TrainingOptions, x: np.ndarray, numbers: int) -> TrainingOptions:
    """The options, without a longer training unless x [n, *shape] are many windows of at most so many `numbers`, for steps of larger ones
    cost too much and few windows are overfitted before steps run out; and of few windows by AdamW alone, which is slower to overfit."""
    if are_few(x):
        return dataclasses.replace(options, longer=1, optimiser='adamw')
    return options if math.prod(x.shape[1:]) <= numbers else dataclasses.replace(options, longer=1)


def suited(options: TrainingOptions, name: str) -> TrainingOptions:
    """The options with the optimiser that a network of the zoo is to learn by, and as many of its steps."""
    if options.optimiser != 'muon':
        return options
    if name in RECURRENT:
        return dataclasses.replace(options, optimiser='adamw')
    return dataclasses.replace(options, steps=max(options.steps // FEWER, 1))


def ran_out(history: History, steps: int) -> bool:
    """Whether a network knew held windows best when its steps had nearly run out (`LATE`), or later; never where no loss is a number."""
    losses = np.asarray(history.validation_loss)
    return bool(np.isfinite(losses).any() and history.step[np.nanargmin(losses)] >= LATE * steps)


def is_to_go_on(history: History, targets: np.ndarray, steps: int) -> bool:
    """Whether a network knew held windows best when its steps had nearly run out (`LATE`), and not nearly as well (`LITTLE`) as one that
    believes what their labels do.

    Args:
      history: its losses are in nats; where classes are weighted in them, labels have to be certain.
      targets: float [n, classes], those labels.
      steps: that the training had.
    """
    if not ran_out(history, steps):
        return False
    return bool(np.nanmin(history.validation_loss) - special.entr(targets).sum() / len(targets) > LITTLE)


def steps_anew(history: History, held: np.ndarray) -> int:
    """For how many steps a network learns anew from all windows: as many epochs as it knew held ones best after.

    Args:
      history: of the training that held some out.
      held: bool [n], which of all windows that were.
    """
    best = history.step[np.argmin(np.nan_to_num(history.validation_loss, nan=np.inf))]  # also where none is a number
    return round(float(best) * len(held) / (~held).sum())


def capacities(sources) -> tuple[int, int]:
    """(training rows, validation rows) that hold each of several sources with a boolean `held`."""
    return (rounded(max(int((~source.held).sum()) for source in sources)), rounded(max(int(source.held.sum()) for source in sources)))


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """-sum(targets * log softmax(logits)) over the last axis."""
    return -(targets * jax.nn.log_softmax(logits)).sum(-1)


def shifted(key: jax.Array, x: jax.Array, share: float) -> jax.Array:
    """Time series [n, time, channels], each shifted by a random number of samples, end to beginning, of at most a share of its length."""
    farthest = round(share * x.shape[1])
    shifts = jax.random.randint(key, (len(x),), -farthest, farthest + 1)
    order = (jnp.arange(x.shape[1]) - shifts[:, None]) % x.shape[1]
    return jnp.take_along_axis(x, order[..., None], 1)


def step_windows(batch: int, shape: tuple[int, ...]) -> int:
    """How many windows of `shape` a step takes where `batch` are asked for."""
    return min(batch, max(LEAST_BATCH, STEP_NUMBERS // math.prod(shape)))


def running_average(number, average, params, decay: float):
    """The average of parameters after step `number`, from the average before: an exponential one that warms up, for the first steps must
    not be remembered for long."""
    stays = jnp.minimum(decay, (1 + number) / (10 + number))
    return jax.tree.map(lambda a, p: stays * a + (1 - stays) * p, average, params)


def class_weights(share: jax.Array, balance: float) -> jax.Array:
    """[classes]: how much a window of each class counts in the loss, whose classes are so frequent: :attr:`TrainingOptions.balance`."""
    weight = jnp.where(share > 0, (share + 1e-6) ** -balance, 0)
    return weight / (weight * share).sum()


def kappa_of(table, n):
    """Cohen's kappa of a table [classes, classes] of n windows, as :func:`neurostim.evaluation.utility.kappa` has it."""
    chance = (table.sum(0) * table.sum(1)).sum() / n**2
    return jnp.where(chance < 1, (jnp.trace(table) / n - chance) / (1 - chance), 0)


def make_train(model: Model, options: TrainingOptions):
    """Builds ``train(key, data, validation, until=NEVER, stretch=1, start=None) -> (parameters, History)``, a pure function that may be
    `jit`ted and `vmap`ped.

    The parameters returned are the averaged ones with the least validation cross-entropy; or with ``until``, a number of steps, those that
    there are then, whatever validation says. With ``stretch`` there are so many times as many steps, from one validation to the next and
    in the learning rate's course too; being an argument, it costs no compilation. ``start`` are the parameters that it begins with, those
    of :func:`initial` where they are not given; these take long to compile, and all trainings of a network can share them.
    """
    validations = min(options.validations, options.steps)
    every = max(1, options.steps // validations)
    finer = FINER if every % FINER == 0 else 1
    part = every // finer  # steps; from one validation to the next there are 1 to `finer` parts
    batch = step_windows(options.batch, model.shape)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, options.learning_rate, max(1, options.steps // 20), max(options.steps, 2), 0.0)

    def train(key, data, validation, until=NEVER, stretch=1, start=None):
        loop_key = jax.random.split(key)[1]
        # In one piece, so that it is updated by a few loops and not by a few for each of a network's arrays: that compiles sooner.
        params, whole = ravel_pytree(initial(model, key) if start is None else start)
        optimiser = optax.chain(optax.clip_by_global_norm(1.0), optimisers.create(
            options.optimiser, lambda count: schedule(count / stretch), options.weight_decay, whole))
        present = jnp.arange(len(data.x)) < data.n
        class_weight = class_weights((data.targets * present[:, None]).sum(0) / data.n, options.balance)

        def loss(params, x, targets, dropout_key=None):
            logits, _ = model.apply(whole(params), x, dropout_key)
            return (cross_entropy(logits, targets) * (targets @ class_weight)).mean()

        def step(number, carry):
            (params, average, opt_state), total = carry
            index_key, shift_key, dropout_key = jax.random.split(jax.random.fold_in(loop_key, number), 3)
            index = jax.random.randint(index_key, (batch,), 0, data.n)
            x = data.x[index]
            if options.shift:
                x = shifted(shift_key, x, options.shift)
            value, grads = jax.value_and_grad(loss)(params, x, data.targets[index], dropout_key)
            updates, opt_state = optimiser.update(grads, opt_state, params)
            params = optax.apply_updates(params, updates)
            return (params, running_average(number, average, params, options.average), opt_state), total + value

        checked = Examples(*(jnp.pad(rows, [(0, -len(rows) % VALIDATED)] + [(0, 0)] * (rows.ndim - 1)) for rows in validation[:2]),
                           validation.n)
        part_steps = part * stretch
        between = jnp.clip(jnp.round(EPOCHS * data.n / (batch * part_steps)), 1, finer).astype(jnp.int32)  # parts
        told = until < NEVER
        last = jnp.minimum(validations * finer * part_steps, until)

        def more(state):
            steps, *_, since = state
            return (steps < last) & (told | (since < options.patience * finer))

        def advance(state):
            steps, row, learnt, best, best_loss, history, since = state
            reached = jnp.minimum(steps + between * part_steps, last)
            learnt, total = jax.lax.fori_loop(steps, reached, step, (learnt, 0.0))
            averaged = whole(learnt[1])
            validation_loss, kappa = validate(lambda x: model.apply(averaged, x)[0], checked, class_weight)
            better = validation_loss < best_loss
            found = History(reached, total / (reached - steps), validation_loss, kappa)
            history = jax.tree.map(lambda column, value: column.at[row].set(value), history, found)
            since = jnp.where(better, 0, since + between)
            return reached, row + 1, learnt, jnp.where(better, learnt[1], best), jnp.minimum(best_loss, validation_loss), history, since

        empty = History(*(jnp.full(validations * finer, jnp.nan) for _ in History._fields))
        begin = (0, 0, (params, params, optimiser.init(params)), params, jnp.inf, empty, 0)
        _, _, (_, average, _), best, _, history, _ = jax.lax.while_loop(more, advance, begin)
        return whole(jnp.where(told, average, best)), history

    return train


def validate(logits_of: Callable[[jax.Array], jax.Array], given: Examples, class_weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(cross-entropy in nats, kappa) of what ``logits_of(x) -> [rows, classes]`` says of windows.

    Args:
      given: padded to a multiple of `VALIDATED` rows; of these no more blocks are asked about than windows fill.
      class_weight: [classes], by which classes count in the cross-entropy.
    """
    classes = len(class_weight)

    def add(i, sums):
        x, targets = (jax.lax.dynamic_slice_in_dim(rows, i * VALIDATED, VALIDATED) for rows in given[:2])
        logits = logits_of(x)
        there = i * VALIDATED + jnp.arange(VALIDATED) < given.n
        losses = cross_entropy(logits, targets) * (targets @ class_weight)
        truth, answers = (jax.nn.one_hot(a.argmax(-1), classes) for a in (targets, logits))
        return sums[0] + (losses * there).sum(), sums[1] + (truth * there[:, None]).T @ answers

    loss, table = jax.lax.fori_loop(0, -(-given.n // VALIDATED), add, (0.0, jnp.zeros((classes, classes))))
    return loss / given.n, kappa_of(table, given.n)


def initial(model: Model, key: jax.Array):
    """The parameters with which a training by this key begins."""
    return model.init(jax.random.split(key)[0])


@functools.cache
def _compiled(spec, options):
    return jax.jit(make_train(_create(spec), options))


@functools.cache
def _compiled_initial(spec):
    return jax.jit(functools.partial(initial, _create(spec)))


def _create(spec):
    from neurostim.models import create
    name, shape, classes, extra = spec
    return create(name, shape, classes, **dict(extra))


def fit(spec, options: TrainingOptions, key, data: Examples, validation: Examples, until: int = NEVER) -> tuple[Any, History]:
    """Trains a zoo member; the compiled loop is kept, so that further data of like size and further seeds cost no compilation.

    Where it is trained by two optimisers (`TrainingOptions.optimiser`), the parameters and curves are those of the better one.

    Args:
      spec: (name, shape, classes, options as a tuple of pairs), hashable; what :func:`neurostim.models.create` takes.
      until: steps after which it ends, whatever validation says; :data:`NEVER` lets validation decide, and train longer.
    """
    if spec[0] == boosted.NAME:
        from neurostim import boosting  # here: who excites grows no trees
        return boosting.fit(spec, options, key, data, validation, until)
    first = suited(options, spec[0])
    params, history = _learn(spec, first, key, data, validation, until)
    if first.optimiser == 'muon' and until == NEVER and not ran_out(history, first.steps):  # it overfits
        slower = _learn(spec, dataclasses.replace(options, optimiser='adamw'), key, data, validation, until)
        if _least(slower[1]) < _least(history):
            return slower
    return params, history


def _least(history):
    """The least validation loss, infinite where none is a number."""
    return np.nan_to_num(history.validation_loss, nan=np.inf).min()


def _learn(spec, options, key, data, validation, until):
    """What :func:`fit` does, by one optimiser."""
    train, start = _compiled(spec, dataclasses.replace(options, longer=1)), _compiled_initial(spec)(key)
    params, history = train(key, data, validation, until, 1, start)
    if options.longer > 1 and until == NEVER and is_to_go_on(history, np.asarray(validation.targets[:validation.n]), options.steps):
        later, found = train(jax.random.fold_in(key, AGAIN), data, validation, until, options.longer - 1, params)
        if _least(found) < _least(history):
            return later, found._replace(step=options.steps + found.step)
    return params, history


def by_blocks(function):
    """Compiles ``function(params, x) -> [n, ...]`` once for arrays of any length: on the host it goes through them in blocks."""
    block = jax.jit(function)

    def apply(params, x, rows: int = BLOCK):
        outputs = []
        for start in range(0, max(len(x), 1), rows):
            part = np.asarray(x[start:start + rows], np.float32)
            short = rows - len(part)
            padded = np.pad(part, [(0, short)] + [(0, 0)] * (part.ndim - 1)) if short else part
            outputs.append(np.asarray(block(params, padded))[: len(part)])
        return np.concatenate(outputs)

    return apply


@functools.cache
def predictor(model: Model):
    """Compiles ``predict(params, x) -> probabilities [n, classes]`` for arrays of any length; kept, one for each model."""
    return by_blocks(lambda params, x: jax.nn.softmax(model.apply(params, x)[0]))


@functools.cache
def cached_predictor(spec):
    """The :func:`predictor` of a zoo member; kept, so that every seed's student shares one compilation."""
    return predictor(_create(spec))
