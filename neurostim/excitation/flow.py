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

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from neurostim.training import running_average

POSITIONS = 32  # most places in time; longer windows are cut into patches
FEWEST_SAMPLES = 16  # of a window that the flow suits
LARGEST_PATCH = 64  # numbers in a patch: a layer that is no wider than its patch leaves some of the noise in it
DILATIONS = (1, 2, 4, 8, 16, 4, 1)  # from neighbours to the whole window and back
DRAW_STEPS = 5  # of Heun's rule, two evaluations each
TIME_WAVES = 8
PREFIX = 'flow/'
AVERAGE = 0.998  # of the weights: what stays of it a step; less of it while training is young
CHECK_EVERY = 500  # steps
LEAST_SHARE = 0.5  # of an even share: what a rare class has of the windows learnt from, at least
PATIENCE = 3  # checks without improvement after which training stops
STEPS, PASSES = (4000, 24_000), 24  # at least and at most, and how often each window is met meanwhile, where the study chooses


@dataclasses.dataclass(frozen=True)
class FlowOptions:
    """How the flow is trained.

    Attributes:
      steps: of AdamW; 0 leaves the flow out, and with it the method 'flow'; -1 chooses by how many windows there are to learn from.
      width: channels of every layer.
      learning_rate: at the start of a cosine decay to 0.
      batch: windows a step.
    """

    steps: int = 4000
    width: int = 64
    learning_rate: float = 2e-3
    batch: int = 128


class Velocity(nn.Module):
    """Residual dilated convolutions over time that wrap around, on patches of the window; positions know their place.

    Wrapping makes a shift of the window a shift of the result, but for the places.
    """

    shape: tuple[int, int]
    width: int

    @nn.compact
    def __call__(self, x, t, label):
        """x [..., *shape], t [...], label [..., classes] (one-hot) -> velocity [..., *shape]."""
        time, channels = self.shape
        patch = math.ceil(time / POSITIONS)
        positions = math.ceil(time / patch)
        padding = [(0, 0)] * (x.ndim - 2) + [(0, positions * patch - time), (0, 0)]
        h = jnp.pad(x, padding).reshape(*x.shape[:-2], positions, patch * channels)
        place = _waves(jnp.arange(positions) / positions * 2, 4)
        h = jnp.concatenate([h, jnp.broadcast_to(place, (*h.shape[:-1], place.shape[-1]))], -1)
        condition = nn.silu(nn.Dense(self.width)(jnp.concatenate([_waves(t / 2, TIME_WAVES), label], -1)))
        h = nn.Dense(self.width)(_neighbours(h, range(-3, 4)))
        for dilation in DILATIONS:
            inner = nn.Dense(self.width)(_neighbours(nn.LayerNorm()(h), (-dilation, 0, dilation)))
            inner = nn.silu(inner + nn.Dense(self.width)(condition)[..., None, :])
            h = h + nn.Dense(self.width)(inner)
        h = nn.Dense(patch * channels)(nn.silu(nn.LayerNorm()(h)))
        return h.reshape(*h.shape[:-2], positions * patch, channels)[..., :time, :]


def _waves(t, count: int):
    """Sine and cosine of pi, 2 pi, 4 pi, ... times t [...]: [..., 2 count]."""
    angle = t[..., None] * (math.pi * 2.0 ** jnp.arange(count))
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


def _neighbours(h, offsets):
    """Each position's neighbours at these offsets, side by side: [..., positions, channels] -> [..., positions, offsets * channels]."""
    return jnp.concatenate([jnp.roll(h, -offset, -2) for offset in offsets], -1)


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
    """Trains the flow; the weights' running average that does best on held-out windows is kept.

    Args:
      x: float32 [n, *shape], scaled windows.
      classes: int [n].
      held: bool [n], which windows validate.
      report: called with a line of text at the end.

    Returns:
      the weights as a flat dict whose names begin with `PREFIX`.
    """
    network = Velocity(x.shape[1:], options.width)
    sample_rows, sample_checked = (row_sampler(classes[rows], n_classes) for rows in (~held, held))
    options = dataclasses.replace(options, steps=steps_for(int((~held).sum()), options))
    labels = np.eye(n_classes, dtype=np.float32)[classes]
    train, validate = ((jnp.asarray(x[rows]), jnp.asarray(labels[rows])) for rows in (~held, held))
    schedule = optax.cosine_decay_schedule(options.learning_rate, options.steps)
    optimiser = optax.adamw(schedule, weight_decay=1e-4)

    def step(state, number, train):
        params, optimiser_state, average = state
        row_key, loss_key = jax.random.split(jax.random.fold_in(step_key, number))
        rows = sample_rows(row_key, options.batch)
        grads = jax.grad(lambda p: loss(functools.partial(network.apply, {'params': p}), loss_key, train[0][rows], train[1][rows]))(params)
        updates, optimiser_state = optimiser.update(grads, optimiser_state, params)
        params = optax.apply_updates(params, updates)
        return params, optimiser_state, running_average(number, average, params, AVERAGE)

    @functools.partial(jax.jit, donate_argnums=0)
    def several(state, first, train, validate):
        state = jax.lax.fori_loop(first, jnp.minimum(first + CHECK_EVERY, options.steps), lambda i, s: step(s, i, train), state)
        apply = functools.partial(network.apply, {'params': state[2]})
        # The same rows and the same noise at every check.
        rows = sample_checked(jax.random.key(1), 8 * options.batch)
        parts = jax.tree.map(lambda a: a[rows].reshape(8, options.batch, *a.shape[1:]), validate)
        return state, jax.lax.map(lambda a: loss(apply, *a), (jax.random.split(jax.random.key(0), 8), *parts)).mean()

    init_key, step_key = jax.random.split(jax.random.key(seed))
    params = network.init(init_key, jnp.zeros(x.shape[1:]), jnp.zeros(()), jnp.zeros(n_classes))['params']
    state = params, optimiser.init(params), jax.tree.map(jnp.copy, params)
    best, kept, worse = math.inf, jax.tree.map(np.array, params), 0
    for start in range(0, options.steps, CHECK_EVERY):
        state, error = several(state, start, train, validate)
        worse = 0 if error < best else worse + 1
        if not worse:
            best, kept = float(error), jax.tree.map(np.array, state[2])  # copies: the state is given away
        elif worse == PATIENCE:
            break
    report(f'validation loss {best:.3f} after {min(start + CHECK_EVERY, options.steps)} steps')
    return {PREFIX + name: np.asarray(value) for name, value in traverse_util.flatten_dict(kept, sep='/').items()}


def steps_for(windows: int, options: FlowOptions) -> int:
    """How many steps the flow is trained where it learns from so many windows."""
    return options.steps if options.steps >= 0 else int(np.clip(PASSES * windows // options.batch, *STEPS))


def suits(shape: tuple[int, ...]) -> bool:
    """Whether windows of this shape are time series, long enough, whose patches have at most `LARGEST_PATCH` numbers."""
    return len(shape) == 2 and shape[0] >= FEWEST_SAMPLES and math.ceil(shape[0] / POSITIONS) * shape[1] <= LARGEST_PATCH


def fitted(population: dict) -> bool:
    """Whether a population has a flow."""
    return any(name.startswith(PREFIX) for name in population)


def draw(population: dict, shape: tuple[int, int], key, label):
    """One window [*shape] of the class `label`: noise carried along the velocity by Heun's rule."""
    params = traverse_util.unflatten_dict(
        {name[len(PREFIX):]: value for name, value in population.items() if name.startswith(PREFIX)}, sep='/')
    width = params['Dense_0']['bias'].shape[0]
    classes = params['Dense_0']['kernel'].shape[0] - 2 * TIME_WAVES
    network = Velocity(shape, width)
    velocity = lambda x, t: network.apply({'params': params}, x, t, jax.nn.one_hot(label, classes))  # noqa: E731

    def step(i, x):
        t, h = i / DRAW_STEPS, 1 / DRAW_STEPS
        slope = velocity(x, t)
        return x + h / 2 * (slope + velocity(x + h * slope, t + h))

    return jax.lax.fori_loop(0, DRAW_STEPS, step, jax.random.normal(key, shape))
