"""A flow that carries noise to windows of a class: a network that learns how such windows are distributed.

Flow matching (Lipman et al. 2023, arXiv 2210.02747; Liu et al. 2023, arXiv 2209.03003): on the straight line x_t = (1 - t) z + t x from
noise z to a window x the network learns the velocity x - z given x_t, t and the class. Integrated from t = 0 to 1, the mean velocity turns
noise into a draw.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from neurostim import optimisers
from neurostim.errors import choose
from neurostim.excitation import velocity
from neurostim.training import are_few, running_average

FEWEST_SAMPLES = 16  # of a time series that the flow suits
LARGEST_PATCH = 64  # numbers in a patch: a layer that is no wider than its patch leaves some of the noise in it
LARGEST_VECTOR = 1024  # features: their covariance has the square of it
DRAW_STEPS, VECTOR_DRAW_STEPS = 5, 10  # of Heun's rule, two evaluations each: features that are mostly one value want finer ones
PREFIX, BASE = 'flow/', 'base'
AVERAGE = 0.998  # of the weights: what stays of it a step of AdamW; less of it while training is young
CHECK_EVERY = 500  # steps of AdamW, after which it is checked
PATIENCE = {'adamw': 3, 'muon': 8}  # checks without improvement after which training stops: Muon's large steps stand still for a while
VECTORS_CHECKED = 100, 6  # the same of feature vectors, of which a few hundred are soon known by heart
PACES = 1.0, 0.25  # times the learning rate, with which few vectors are learnt: the usual one is too fast for some (BUILD_NOTES)
WEIGHT_DECAY = 1e-4
LEAST_SHARE = 0.5  # of an even share: what a rare class has of the windows learnt from, at least
STEPS, PASSES = (4000, 24_000), 24  # at least and at most, and how often each window is met meanwhile, where the study chooses


@dataclasses.dataclass(frozen=True)
class FlowOptions:
    """How the flow is trained.

    Attributes:
      steps: at most; 0 leaves the flow out, and with it the method 'flow'; -1 chooses by how many windows there are to learn from.
      width: channels of every layer; of feature vectors `velocity.WIDER` times as many.
      learning_rate: at the start of a cosine decay to 0; of few feature vectors a lower one may be kept, see `PACES`.
      batch: windows a step; of feature vectors, which cost little, twice as many.
      optimiser: of :data:`neurostim.optimisers.NAMES`; feature vectors are learnt by AdamW in any case, for Muon gains nothing there.
    """

    steps: int = 4000
    width: int = 64
    learning_rate: float = 2e-3
    batch: int = 128
    optimiser: str = 'adamw'


def loss(apply, key, x, label):
    """Mean squared error of the velocity at random times of the lines from noise to the windows x [n, *shape]."""
    noise_key, time_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, x.shape)
    t = (jnp.arange(len(x)) + jax.random.uniform(time_key, (len(x),))) / len(x)  # one in each n-th of [0, 1]: less variance
    at = t.reshape(-1, *[1] * (x.ndim - 1))
    return ((apply((1 - at) * noise + at * x, t, label) - (x - noise)) ** 2).mean()


def row_sampler(classes: np.ndarray, n_classes: int) -> Callable[[jax.Array, int], jax.Array]:
    """Builds ``sample(key, count) -> rows``: at random, but a class with less than half of an even share comes as if it had half of one, or
    the network would hardly ever see it.

    Args:
      classes: int [n].
    """
    counts = np.bincount(classes, minlength=n_classes)
    share = np.where(counts, np.maximum(counts / len(classes), LEAST_SHARE / n_classes), 0)
    order, start, logits = jnp.asarray(np.argsort(classes, kind='stable')), jnp.asarray(np.cumsum(counts) - counts), jnp.log(share)

    def sample(key, count):
        class_key, row_key = jax.random.split(key)
        own = jax.random.categorical(class_key, logits, shape=(count,))
        return order[start[own] + jax.random.randint(row_key, (count,), 0, jnp.asarray(counts)[own])]

    return sample


def fit(x: np.ndarray, classes: np.ndarray, held: np.ndarray, n_classes: int, options: FlowOptions, seed: int,
        report: Callable[[str], None] = lambda text: None) -> dict[str, np.ndarray]:
    """Trains the flow; the weights' running average that does best on held-out windows is kept, of few vectors out of a training at each
    of `PACES`.

    Args:
      x: float32 [n, *shape], scaled windows.
      classes: int [n].
      held: bool [n], which windows validate.
      report: called with a line of text at the end.

    Returns:
      the weights as a flat dict whose names begin with `PREFIX`, and what stays as it is in a flow of vectors.
    """
    base = velocity.gaussian(x[~held], classes[~held], n_classes) if x.ndim == 2 else {}
    network, fixed = _network(x.shape[1:], options.width), _fixed(base)
    if base:
        options = dataclasses.replace(options, optimiser='adamw')
    worth = optimisers.WORTH[choose(options.optimiser, optimisers.NAMES, 'optimiser')]
    check_every, patience = VECTORS_CHECKED if base else (CHECK_EVERY // worth, PATIENCE[options.optimiser])
    decay = AVERAGE**worth
    sample_rows, sample_checked = (row_sampler(classes[rows], n_classes) for rows in (~held, held))
    options = dataclasses.replace(options, steps=steps_for(int((~held).sum()), options), batch=options.batch * (2 if base else 1))
    labels = np.eye(n_classes, dtype=np.float32)[classes]
    train, validate = ((jnp.asarray(x[rows]), jnp.asarray(labels[rows])) for rows in (~held, held))
    optimiser = optimisers.create(options.optimiser, optax.cosine_decay_schedule(options.learning_rate, options.steps), WEIGHT_DECAY)

    def error_of(params, key, x, label):
        return loss(lambda *at: network.apply({'params': params}, *at, *fixed), key, x, label)

    def step(state, number, pace, train):
        params, optimiser_state, average = state
        row_key, loss_key = jax.random.split(jax.random.fold_in(step_key, number))
        rows = sample_rows(row_key, options.batch)
        grads = jax.grad(error_of)(params, loss_key, train[0][rows], train[1][rows])
        updates, optimiser_state = optimiser.update(grads, optimiser_state, params)
        params = optax.apply_updates(params, jax.tree.map(lambda update: pace * update, updates))
        return params, optimiser_state, running_average(number, average, params, decay)

    @functools.partial(jax.jit, donate_argnums=0)
    def several(state, first, last, pace, train, validate):
        state = jax.lax.fori_loop(first, last, lambda i, s: step(s, i, pace, train), state)
        # The same rows and the same noise at every check.
        rows = sample_checked(jax.random.key(1), 8 * options.batch)
        parts = jax.tree.map(lambda a: a[rows].reshape(8, options.batch, *a.shape[1:]), validate)
        return state, jax.lax.map(lambda a: error_of(state[2], *a), (jax.random.split(jax.random.key(0), 8), *parts)).mean()

    init_key, step_key = jax.random.split(jax.random.key(seed))

    def trained(pace):
        """(least loss of held-out windows, the weights that have it, steps taken)."""
        params = network.init(init_key, jnp.zeros(x.shape[1:]), jnp.zeros(()), jnp.zeros(n_classes), *fixed)['params']
        state = params, optimiser.init(params), jax.tree.map(jnp.copy, params)
        state, error = several(state, 0, 0, pace, train, validate)  # a flow of vectors knows something before its first step
        best, kept, at, done = float(error), jax.tree.map(np.array, state[2]), 0, 0
        while done < options.steps and done - at < patience * check_every:
            first, done = done, min(done + check_every, options.steps)
            state, error = several(state, first, done, pace, train, validate)
            if error < best:
                best, kept, at = float(error), jax.tree.map(np.array, state[2]), done  # copies: the state is given away
        return best, kept, done

    paces = PACES if base and are_few(x) else PACES[:1]
    best, kept, done = min((trained(pace) for pace in paces), key=lambda found: found[0])
    report(f'validation loss {best:.3f} after {done} steps')
    flat = traverse_util.flatten_dict({**kept, **({BASE: base} if base else {})}, sep='/')
    return {PREFIX + name: np.asarray(value) for name, value in flat.items()}


def _network(shape: tuple[int, ...], width: int):
    """The network for windows of `shape`."""
    return (velocity.OfVectors if len(shape) == 1 else velocity.OfSeries)(width)


def _fixed(base: dict) -> tuple:
    """What a network takes beside the place, the time and the class."""
    return tuple(base[name] for name in velocity.BASE) if base else ()


def steps_for(windows: int, options: FlowOptions) -> int:
    """How many steps the flow is trained where it learns from so many windows."""
    if options.steps >= 0:
        return options.steps
    return int(np.clip(PASSES * windows // options.batch, *STEPS)) // optimisers.WORTH[options.optimiser]


def suits(shape: tuple[int, ...]) -> bool:
    """Whether windows of this shape are time series, long enough, whose patches have at most `LARGEST_PATCH` numbers, or feature vectors
    of at most `LARGEST_VECTOR`."""
    if len(shape) == 1:
        return shape[0] <= LARGEST_VECTOR
    return len(shape) == 2 and shape[0] >= FEWEST_SAMPLES and math.ceil(shape[0] / velocity.POSITIONS) * shape[1] <= LARGEST_PATCH


def fitted(population: dict) -> bool:
    """Whether a population has a flow."""
    return any(name.startswith(PREFIX) for name in population)


def draw(population: dict, shape: tuple[int, ...], key, label):
    """One window [*shape] of the class `label`: noise carried along the velocity by Heun's rule."""
    params = traverse_util.unflatten_dict(
        {name[len(PREFIX):]: value for name, value in population.items() if name.startswith(PREFIX)}, sep='/')
    # Maps of its draws' marginals, if there are any, come along: no network asks for them.
    fixed, steps = _fixed(params.pop(BASE, {})), VECTOR_DRAW_STEPS if len(shape) == 1 else DRAW_STEPS
    inlet, width = params['Dense_0']['kernel'].shape  # of what the velocity depends on beside the place
    network, classes = _network(shape, width), inlet - 2 * velocity.TIME_WAVES
    velocity_at = lambda x, t: network.apply({'params': params}, x, t, jax.nn.one_hot(label, classes), *fixed)  # noqa: E731

    def step(i, x):
        t, h = i / steps, 1 / steps
        slope = velocity_at(x, t)
        return x + h / 2 * (slope + velocity_at(x + h * slope, t + h))

    return jax.lax.fori_loop(0, steps, step, jax.random.normal(key, shape))
