"""A conditional diffusion model, trained on the real windows, as a flow (:mod:`neurostim.excitation.flow`).

Where the teacher brings a flow, that one is drawn from: it is the same model, trained on the same windows. Else one is trained; images
are read as series of rows, and feature vectors too long for a flow of their own as series of single features.
"""

from __future__ import annotations

import math

import jax

from neurostim.alternatives import networks
from neurostim.alternatives.base import Method, Options, draw_classes, label
from neurostim.committee import validation_split
from neurostim.excitation import flow
from neurostim.excitation.records import Stimuli
from neurostim.study import Study
from neurostim.teacher import Teacher


def seen_as(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape under which the flow sees windows of `shape`: [time, channels], or that of a vector."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 or not flow.suits(shape) else shape


def trained(study: Study, teacher: Teacher, seed: int, options: Options) -> dict:
    """The teacher's flow, or one that is trained here."""
    if flow.fitted(teacher.population):
        return {name: value for name, value in teacher.population.items() if name.startswith(flow.PREFIX)}
    train = study.part(test=False)
    x = teacher.scaling.forward(train.x).reshape(len(train.y), *seen_as(study.shape))
    held = validation_split(train, seed * 1000)
    given = flow.FlowOptions() if options.training_steps < 0 else flow.FlowOptions(steps=options.training_steps)
    return flow.fit(x, train.y, held, len(study.classes), given, seed)


def make(study: Study, teacher: Teacher, count: int, seed: int, options: Options) -> Stimuli:
    """`count` draws under the classes they were drawn for."""
    population = trained(study, teacher, seed, options)

    def generate(population, key, of_class):
        return flow.draw(population, seen_as(study.shape), key, of_class.argmax()).reshape(study.shape)

    classes = draw_classes(study, count, seed)
    return label(teacher, networks.draw(generate, population, jax.random.key(seed), classes, len(study.classes)), classes)


METHODS = {'diffusion': Method(make)}
