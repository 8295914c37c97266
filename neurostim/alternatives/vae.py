"""A conditional variational autoencoder, trained on the real windows (Kingma & Welling 2014; Sohn et al. 2015).

The spread of the decoder's Gaussian is given, which is the beta of Higgins et al. 2017 in other words: learnt, it comes to explain
everything as noise where windows are few. Windows are the decoder's means. The averaged weights with the greatest evidence bound on
held-out groups are kept.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from neurostim import models
from neurostim.alternatives import networks
from neurostim.alternatives.base import Method, Options, draw_classes, label
from neurostim.excitation.records import Stimuli
from neurostim.study import Study
from neurostim.teacher import Teacher
from neurostim.training import running_average

STEPS = 4000
BATCH = 64
LATENT = 32
SPREAD = 0.3  # of what the decoder leaves unsaid, scaled units
LEARNING_RATE = 1e-3


class Decoder(nn.Module):
    """Latent numbers [..., LATENT] and a class [..., classes] -> a window [..., *shape]."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, z, labels):
        return networks.Generator(self.shape, name='generator')(jnp.concatenate([z, labels], -1))


def fit(train, validate, shape: tuple[int, ...], n_classes: int, steps: int, seed: int):
    """Trains encoder and decoder.

    Args:
      train, validate: (x [n, *shape], labels [n, classes]), scaled.

    Returns:
      (the decoder's weights, minus the evidence bound a sample of the window on held-out windows at each check; a constant is dropped).
    """
    encoder = models.create(networks.discriminating(shape), shape, 2 * LATENT)
    decoder = Decoder(shape)
    optimiser = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, max(steps, 1)))
    init_key, step_key = jax.random.split(jax.random.key(seed))

    def loss(params, key, x, labels):
        centre, log_scale = jnp.split(encoder.apply(params['encoder'], x)[0], 2, -1)
        log_scale = jnp.clip(log_scale, -8, 4)
        z = centre + jnp.exp(log_scale) * jax.random.normal(key, centre.shape)
        left = (x - decoder.apply({'params': params['decoder']}, z, labels)) / SPREAD
        divergence = 0.5 * (centre**2 + jnp.exp(2 * log_scale) - 1 - 2 * log_scale).sum(-1).mean()
        return 0.5 * (left**2).mean() + divergence / x[0].size

    def step(state, number, train):
        params, mean, optimiser_state, step_key = state
        row_key, noise_key = jax.random.split(jax.random.fold_in(step_key, number))
        rows = jax.random.randint(row_key, (BATCH,), 0, len(train[0]))
        grads = jax.grad(loss)(params, noise_key, train[0][rows], train[1][rows])
        updates, optimiser_state = optimiser.update(grads, optimiser_state, params)
        params = optax.apply_updates(params, updates)
        return params, running_average(number, mean, params, networks.AVERAGE), optimiser_state, step_key

    encoder_key, decoder_key = jax.random.split(init_key)
    params = {'encoder': encoder.init(encoder_key),
              'decoder': decoder.init(decoder_key, jnp.zeros(LATENT), jnp.zeros(n_classes))['params']}
    state = params, jax.tree.map(jnp.copy, params), optimiser.init(params), step_key
    kept, errors = networks.descend(
        step, lambda p, held: loss(p, jax.random.key(0), *held), lambda s: s[1], state, steps, train, validate)
    return kept['decoder'], errors


def make(study: Study, teacher: Teacher, count: int, seed: int, options: Options) -> Stimuli:
    """`count` draws under the classes they were drawn for."""
    n_classes = len(study.classes)
    steps = STEPS if options.training_steps < 0 else options.training_steps
    params, _ = fit(*networks.split(study, teacher, seed), study.shape, n_classes, steps, seed)
    decoder = Decoder(study.shape)

    def generate(params, key, of_class):
        return decoder.apply({'params': params}, jax.random.normal(key, (LATENT,)), of_class)

    classes = draw_classes(study, count, seed)
    return label(teacher, networks.draw(generate, params, jax.random.key(seed), classes, n_classes), classes)


METHODS = {'vae': Method(make)}
