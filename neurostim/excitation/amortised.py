"""One generator for a whole batch: a network that maps noise and a belief to stimuli is trained against the teacher, then asked.

The data-free distillation way (Chen et al. 2019, DAFL, arXiv 1904.01186), for comparison with searching each stimulus. Every batch trains a
generator of its own from fresh weights, so that a batch depends on nothing before it; within a batch stimuli share the generator.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from neurostim.excitation.engine import Excited, Options
from neurostim.excitation.objective import make_objective
from neurostim.excitation.parameterisation import clip

NOISE = 64  # numbers that a stimulus is made from
TRAINING_BATCH = 128
SPREAD = 1.0  # weight of the term that keeps stimuli apart


class Generator(nn.Module):
    """Noise [NOISE] and a belief [classes] -> whitened coordinates [rank] of the population's Gaussian."""

    rank: int
    width: int = 256

    @nn.compact
    def __call__(self, noise, belief):
        h = jnp.concatenate([noise, belief], -1)
        for _ in range(2):
            h = nn.LayerNorm()(nn.silu(nn.Dense(self.width)(h)))
        return nn.Dense(self.rank)(h)


def spread(scores: jax.Array) -> jax.Array:
    """How far whitened coordinates [n, rank] are from mean 0 and variance 1 in every direction: a generator that says one and the same
    thing pays for it."""
    return (scores.mean(0) ** 2).mean() + ((scores.var(0) - 1) ** 2).mean()


def make_excite(shape: tuple[int, ...], sample_target, teacher_apply, options: Options, count: int, inhibition=None):
    """Builds ``excite(key, first, networks, population) -> Excited``, as :func:`neurostim.excitation.engine.make_excite` does;
    `options.steps` are the generator's, on fresh noise and targets each."""
    optimiser = optax.adam(options.learning_rate)

    def draw(key):
        noise_key, target_key = jax.random.split(key)
        return jax.random.normal(noise_key, (NOISE,)), sample_target(target_key)

    def excite(key, first, networks, population):
        generator = Generator(population['gaussian/basis'].shape[1])
        own = jax.random.fold_in(jax.random.fold_in(key, first), 1)

        def decode(params, noise_and_belief):
            scores = generator.apply({'params': params}, *noise_and_belief)
            return clip(population, (population['gaussian/mean'] + population['gaussian/basis'] @ scores).reshape(shape))

        def no_penalty(params, context):
            raise ValueError('the prior is kept by `spread`')

        one = make_objective(options.weights, decode, no_penalty, teacher_apply, inhibition)

        def loss(params, noise, belief):
            losses, _ = jax.vmap(one, (None, 0, 0, None))(params, (noise, belief), belief, networks)
            return losses.mean() + SPREAD * spread(generator.apply({'params': params}, noise, belief))

        def step(number, state):
            params, optimiser_state = state
            noise, target = jax.vmap(draw)(jax.random.split(jax.random.fold_in(own, number), TRAINING_BATCH))
            updates, optimiser_state = optimiser.update(jax.grad(loss)(params, noise, target.belief), optimiser_state)
            return optax.apply_updates(params, updates), optimiser_state

        indices = first + jnp.arange(count)
        noise, target = jax.vmap(lambda i: draw(jax.random.fold_in(jax.random.fold_in(key, i), 0)))(indices)
        params = generator.init(own, noise[0], target.belief[0])['params']
        params, _ = jax.lax.fori_loop(0, options.steps, step, (params, optimiser.init(params)))
        x = jax.vmap(decode, (None, 0))(params, (noise, target.belief))
        probabilities = jax.nn.softmax(teacher_apply(networks, x)[0])
        ones = jnp.ones(count, jnp.int32)
        return Excited(x, probabilities, ones > 0, options.steps * ones, ones)

    return excite
