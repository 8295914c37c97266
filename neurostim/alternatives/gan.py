"""A conditional generative adversarial network, trained on the real windows: the synthetic data that many would try.

Non-saturating loss with a gradient penalty on real windows (R1, Mescheder et al. 2018, arXiv 1801.04406). The discriminator is a zoo
network with one output a class; the generator's weights are averaged, and those are kept whose draws lie nearest to held-out windows.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
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
NOISE = 32
PENALTY = 1.0  # of R1
PENALISE_EVERY = 4  # steps: the penalty changes slowly and costs a second derivative
RATES = {'generator': 1e-3, 'discriminator': 1e-3}
MOST_HELD = 512  # windows that the weights are chosen by


def fit(train, validate, shape: tuple[int, ...], n_classes: int, steps: int, seed: int):
    """Trains both networks.

    Args:
      train, validate: (x [n, *shape], labels [n, classes]), scaled.

    Returns:
      (the generator's weights, the energy distance to held-out windows at each check).
    """
    generator = networks.Generator(shape)
    critic = models.create(networks.discriminating(shape), shape, n_classes)
    optimisers = {name: optax.adam(rate, b1=0.0, b2=0.99) for name, rate in RATES.items()}

    def fake(params, noise, labels):
        return generator.apply({'params': params}, jnp.concatenate([noise, labels], -1))

    def judge(params, x, labels):
        """How real windows of a class look: logits [n]."""
        return (critic.apply(params, x)[0] * labels).sum(-1)

    def penalty(params, x, labels):
        slopes = jax.grad(lambda windows: judge(params, windows, labels).sum())(x)
        return (slopes**2).sum() / len(x)

    def critic_loss(params, x, made, labels, penalise):
        loss = jax.nn.softplus(-judge(params, x, labels)).mean() + jax.nn.softplus(judge(params, made, labels)).mean()
        return loss + (0.5 * PENALTY * PENALISE_EVERY * penalty(params, x, labels) if penalise else 0.0)

    def generator_loss(params, critic_params, noise, labels):
        return jax.nn.softplus(-judge(critic_params, fake(params, noise, labels), labels)).mean()

    def step(state, number, train):
        params, mean, judging, states, key = state
        row_key, first_key, second_key = jax.random.split(jax.random.fold_in(key, number), 3)
        rows = jax.random.randint(row_key, (BATCH,), 0, len(train[0]))
        x, labels = train[0][rows], train[1][rows]
        made = fake(params, jax.random.normal(first_key, (BATCH, NOISE)), labels)
        slopes = [functools.partial(jax.grad(functools.partial(critic_loss, penalise=p)), judging, x, made, labels) for p in (False, True)]
        updates, critic_state = optimisers['discriminator'].update(
            jax.lax.cond(number % PENALISE_EVERY == 0, slopes[1], slopes[0]), states[1], judging)
        judging = optax.apply_updates(judging, updates)
        updates, generator_state = optimisers['generator'].update(
            jax.grad(generator_loss)(params, judging, jax.random.normal(second_key, (BATCH, NOISE)), labels), states[0], params)
        params = optax.apply_updates(params, updates)
        return params, running_average(number, mean, params, networks.AVERAGE), judging, (generator_state, critic_state), key

    def distance(params, held):
        x, labels = held
        made = fake(params, jax.random.normal(jax.random.key(0), (len(x), NOISE)), labels)
        rows = [jnp.concatenate([a.reshape(len(a), -1), 10 * labels], 1) for a in (x, made)]  # classes apart: each against its own
        return networks.energy_distance(*rows)

    held = tuple(a[np.random.default_rng(0).permutation(len(a))[:MOST_HELD]] for a in validate)
    key = jax.random.key(seed)
    init_key, critic_key = jax.random.split(jax.random.fold_in(key, steps))
    params, judging = generator.init(init_key, jnp.zeros(NOISE + n_classes))['params'], critic.init(critic_key)
    state = (params, jax.tree.map(jnp.copy, params), judging,
             (optimisers['generator'].init(params), optimisers['discriminator'].init(judging)), key)
    return networks.descend(step, distance, lambda s: s[1], state, steps, train, held)


def make(study: Study, teacher: Teacher, count: int, seed: int, options: Options) -> Stimuli:
    """`count` draws under the classes they were drawn for."""
    n_classes = len(study.classes)
    steps = STEPS if options.training_steps < 0 else options.training_steps
    params, _ = fit(*networks.split(study, teacher, seed), study.shape, n_classes, steps, seed)
    generator = networks.Generator(study.shape)

    def generate(params, key, of_class):
        return generator.apply({'params': params}, jnp.concatenate([jax.random.normal(key, (NOISE,)), of_class]))

    classes = draw_classes(study, count, seed)
    return label(teacher, networks.draw(generate, params, jax.random.key(seed), classes, n_classes), classes)


METHODS = {'gan': Method(make)}
