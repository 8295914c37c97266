"""Differential privacy: a teacher and statistics that hardly depend on any one window, or person, so that stimuli hardly do.

Everything that stimuli are made from is either constant or released by a Gaussian mechanism and counted: the teacher's weights by DP-SGD
(Abadi et al. 2016) with several views of each window (De et al. 2022, arXiv 2204.13650), and spectra and sizes of the classes. Stimuli are
then post-processing. Noise and samples come from the operating system's entropy, not from a config's seed: who knows the seed could take
the noise off again. Neighbours are training sets with one unit more or less, a window or a person with all of theirs; how many units
there are is taken to be known.
"""

from __future__ import annotations

import dataclasses
import functools
import secrets
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from neurostim import models, training
from neurostim.errors import UserError, choose
from neurostim.scaling import Scaling
from neurostim.study import Study
from neurostim.teacher import Teacher
from neurostim.training import running_average

LARGEST = 10.0  # of a sample: windows are given in standard deviations of their own
FLOOR = 0.05  # of a class's share of the counts: noise can make it negative
PAD = 128  # windows; a Poisson batch is filled up to a multiple: few programs are compiled
OWN_SCALES = {'record': ('window',), 'subject': ('window', 'record')}  # of a unit: how a study's windows may be scaled
UNITS = tuple(OWN_SCALES)
LOSS_INTERVAL = 1e-4  # in which privacy losses are counted, rounded so that epsilon is never too small
NOISE_TOLERANCE = 1e-3  # of the noise multiplier that is searched for; what is found spends no more than was asked


@dataclasses.dataclass(frozen=True)
class PrivacyOptions:
    """What is promised, and how the teacher is trained for it; with it neither the usual training's options nor a flow are used.

    Attributes:
      epsilon: of the whole release, for one unit; 0 promises nothing and trains as usual.
      unit: whom the promise is for: 'record', one window of a recording, or 'subject', a person with all their windows.
      delta: the probability with which the promise may fail, about.
      steps, batch: of DP-SGD; `batch` units are drawn on average: each takes part in a step with the same probability, always where there
        are no more.
      windows: most of a person's that are looked at in a step, drawn at random; their mean gradient is clipped.
      clip: most that a unit's gradient counts, its norm.
      views: copies of a window, shifted in time, whose mean gradient is clipped.
      learning_rate: Adam's.
      average: decay of the running average of weights.
      statistics_noise: standard deviation of the noise on spectra and class sizes over what one unit changes.
    """

    epsilon: float = 0.0
    delta: float = 1e-5
    unit: str = 'record'
    steps: int = 400
    batch: int = 512
    windows: int = 16
    clip: float = 1.0
    views: int = 4
    learning_rate: float = 2e-3
    average: float = 0.99
    statistics_noise: float = 20.0


class Ledger(NamedTuple):
    """What was spent.

    Attributes:
      noise_multiplier: of DP-SGD: the noise's standard deviation over `clip`.
      epsilon: of everything together.
      components: [{'name', 'epsilon'}], each mechanism by itself; 'epsilon' 0 for what is constant. They add up to more than the whole.
    """

    noise_multiplier: float
    epsilon: float
    components: list[dict]


def _accountant():
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import PLDAccountant
    return PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=LOSS_INTERVAL)


def training_event(noise_multiplier: float, probability: float, steps: int):
    """DP-SGD as the accountant sees it: Poisson samples, Gaussian noise, so many times."""
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
    return SelfComposedDpEvent(PoissonSampledDpEvent(probability, GaussianDpEvent(noise_multiplier)), steps)


def epsilon_of(*events, delta: float) -> float:
    """Epsilon of several mechanisms in turn, by privacy loss distributions."""
    accountant = _accountant()
    for event in events:
        accountant.compose(event)
    return float(accountant.get_epsilon(delta))


@functools.lru_cache
def calibrate(n: int, options: PrivacyOptions) -> Ledger:
    """Finds the noise with which training on `n` units, together with the statistics, spends `options.epsilon`.

    Raises:
      UserError: the statistics alone spend it.
    """
    from dp_accounting import ComposedDpEvent, GaussianDpEvent, calibrate_dp_mechanism
    statistics = GaussianDpEvent(options.statistics_noise)
    of_statistics = epsilon_of(statistics, delta=options.delta)
    if of_statistics >= options.epsilon:
        raise UserError(f'teacher.privacy.epsilon is {options.epsilon}, but spectra and class sizes alone take {of_statistics:.2f}: '
                        'raise teacher.privacy.statistics_noise')
    probability = min(1.0, options.batch / n)
    noise = calibrate_dp_mechanism(
        _accountant, lambda z: ComposedDpEvent([training_event(z, probability, options.steps), statistics]), options.epsilon, options.delta,
        tol=NOISE_TOLERANCE)
    event = training_event(noise, probability, options.steps)
    components = [
        {'name': "teacher's weights", 'epsilon': epsilon_of(event, delta=options.delta)},
        {'name': 'spectra and sizes of classes', 'epsilon': of_statistics},
        {'name': 'scaling, bounds, architecture (constant)', 'epsilon': 0.0}]
    return Ledger(float(noise), epsilon_of(event, statistics, delta=options.delta), components)


def make_gradient(model: models.Model, options: PrivacyOptions):
    """Builds ``gradient(params, x, target, weight, shifts) -> sum of clipped gradients / options.batch``, a unit at a time.

    A unit's gradient is the mean over its windows: x [units, windows, time, channels]; target [units, windows, classes]; weight
    [units, windows], 0 for padding, which adds nothing; shifts int [units, windows, views].
    """
    from jax_privacy import clipped_grad

    def loss(params, x, target, weight, shifts):
        views = jax.vmap(lambda window, own: jax.vmap(lambda shift: jnp.roll(window, shift, 0))(own))(x, shifts)
        losses = training.cross_entropy(model.apply(params, views)[0], target[:, None]).mean(1)
        return (weight * losses).sum() / jnp.maximum(weight.sum(), 1)

    return clipped_grad(loss, l2_clip_norm=options.clip, batch_argnums=(1, 2, 3, 4), keep_batch_dim=False, normalize_by=options.batch)


def poisson_batches(n: int, options: PrivacyOptions, seed: int):
    """Index arrays, one a step: each of `n` units is in each with the same probability, independently (jax_privacy.batch_selection)."""
    from jax_privacy.batch_selection import CyclicPoissonSampling
    return CyclicPoissonSampling(min(1.0, options.batch / n), options.steps).batch_iterator(n, seed)


def _key(seed: int):
    """A key of all 64 bits of a seed: a key of one 32-bit word could be guessed."""
    return jax.random.fold_in(jax.random.key(seed & 0xffffffff), (seed >> 32) & 0xffffffff)


def units(study: Study, options: PrivacyOptions) -> np.ndarray:
    """int [n]: which unit of the promise each window belongs to."""
    return study.subject if options.unit == 'subject' else np.arange(len(study.y))


def windows_of(units: np.ndarray, members: list[np.ndarray], most: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """At most so many windows of each unit, drawn at random.

    Args:
      units: int [n], indices into `members`.
      members: each unit's windows, an index array a unit.

    Returns:
      (int [n, most], indices of windows; float32 [n, most], 1 where there is one and 0 for padding).
    """
    rows, weight = np.zeros((len(units), most), int), np.zeros((len(units), most), np.float32)
    for i, unit in enumerate(units):
        own = members[unit]
        own = own if len(own) <= most else rng.permutation(own)[:most]
        rows[i, :len(own)], weight[i, :len(own)] = own, 1
    return rows, weight


def train(model: models.Model, x: np.ndarray, targets: np.ndarray, options: PrivacyOptions, noise_multiplier: float, seed: int = 0,
          progress: Callable[[int], None] = lambda done: None, unit: np.ndarray | None = None):
    """DP-SGD; returns the running average of the weights. Nothing else of the training may be looked at: no loss, no early stop.

    Args:
      x: float32 [n, time, channels], scaled.
      targets: [n, classes], distributions.
      progress: called with how many steps are done.
      unit: int [n], whose a window is; None takes each window for a unit of its own.
    """
    from jax_privacy.noise_addition import gaussian_privatizer
    init_key, noise_key, shift_key = jax.random.split(_key(seed), 3)
    gradient = make_gradient(model, options)
    privatizer = gaussian_privatizer(stddev=noise_multiplier * options.clip / options.batch, prng_key=noise_key)
    optimiser = optax.adam(optax.cosine_decay_schedule(options.learning_rate, options.steps, 0.1))
    unit = np.arange(len(x)) if unit is None else unit
    members = [np.flatnonzero(unit == one) for one in np.unique(unit)]
    most = 1 if options.unit == 'record' else options.windows
    rng = np.random.default_rng([seed, 78])

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, number, x, target, weight):
        params, average, noise_state, optimiser_state = state
        shifts = jax.random.randint(jax.random.fold_in(shift_key, number), (*weight.shape, options.views), 0, x.shape[2])
        noisy, noise_state = privatizer.update(gradient(params, x, target, weight, shifts), noise_state)
        updates, optimiser_state = optimiser.update(noisy, optimiser_state, params)
        params = optax.apply_updates(params, updates)
        return params, running_average(number, average, params, options.average), noise_state, optimiser_state

    params = model.init(init_key)
    state = params, jax.tree.map(jnp.copy, params), privatizer.init(params), optimiser.init(params)
    pad = max(1, PAD // most)
    for number, units in enumerate(poisson_batches(len(members), options, seed)):
        padding = ((0, -len(units) % pad if len(units) else pad), (0, 0))
        rows, weight = (np.pad(part, padding) for part in windows_of(units, members, most, rng))
        state = step(state, number, x[rows], targets[rows], weight)
        progress(number + 1)
    return jax.tree.map(np.asarray, state[1])


def class_sums(x: np.ndarray, y: np.ndarray, n_classes: int, unit: np.ndarray) -> np.ndarray:
    """[classes, bins * channels + 1]: sums over units of the means over their windows, in each class's row, of the spectrum's shares, each
    channel's adding up to one, and of 1.

    A window changes its row by a vector whose norm is at most 1 a channel, and by 1; a mean of such changes is no longer.

    Args:
      x: float32 [n, time, channels].
      y, unit: int [n].
    """
    power = np.abs(np.fft.rfft(x, axis=1)[:, 1:]) ** 2
    share = power / np.maximum(power.sum(1, keepdims=True), 1e-12)
    rows = np.concatenate([share.reshape(len(x), -1), np.ones((len(x), 1))], 1)
    unit = np.unique(unit, return_inverse=True)[1]
    rows /= np.bincount(unit)[unit][:, None]
    return np.stack([rows[y == c].sum(0) for c in range(n_classes)])


def sensitivity(channels: int) -> float:
    """How much one unit more or less can change :func:`class_sums`, as a Euclidean norm."""
    return float(np.sqrt(channels + 1))


def class_statistics(
        x: np.ndarray, y: np.ndarray, n_classes: int, noise_multiplier: float, seed: int, unit: np.ndarray) -> dict[str, np.ndarray]:
    """The population that stimuli are drawn from: each class a stationary Gaussian process of mean 0 with a noisy spectrum; class sizes are
    noisy too. By one Gaussian mechanism.

    Args:
      x: float32 [n, time, channels], scaled.
      y, unit: int [n].
    """
    _, time, channels = x.shape
    n = len(np.unique(unit))
    sums = class_sums(x, y, n_classes, unit)
    noise = np.random.default_rng([seed, 77]).normal(size=sums.shape)
    noisy = sums + noise_multiplier * sensitivity(channels) * noise
    sizes = np.maximum(noisy[:, -1], FLOOR * n / n_classes)
    spectrum = np.maximum(noisy[:, :-1].reshape(n_classes, -1, channels), 0)
    spectrum /= np.maximum(spectrum.sum(1, keepdims=True), 1e-12)
    d = time * channels
    waves = np.arange(time)[:, None] * np.arange(1, spectrum.shape[1] + 1) * (2 * np.pi / time)
    basis = np.concatenate([np.cos(waves), np.sin(waves)], 1)  # [time, 2 bins]; every cosine with its sine has variance 1
    factors = np.zeros((n_classes, d, d))
    for c in range(n_classes):
        for channel in range(channels):
            scaled = basis * np.sqrt(np.tile(spectrum[c, :, channel], 2))
            covariance = scaled @ scaled.T + 1e-6 * np.eye(time)
            place = np.arange(time) * channels + channel
            factors[c][np.ix_(place, place)] = np.linalg.cholesky(covariance)
    population = {
        'mixture/weight': np.ones(n_classes), 'mixture/owner': np.arange(n_classes), 'mixture/centre': np.zeros((n_classes, d)),
        'mixture/factor': factors, 'mixture/mean': np.zeros(d), 'mixture/basis': np.eye(d), 'mixture/rest': np.zeros(d),
        'class_share': sizes / sizes.sum(), 'bounds': np.array([-LARGEST, LARGEST])}
    return {name: np.asarray(value, np.float32) for name, value in population.items()}


def check(study: Study, names: tuple[str, ...], options: PrivacyOptions) -> None:
    """Refuses studies for which the promise would not hold or was not worked out."""
    if study.kind != 'windows':
        raise UserError(f'teacher.privacy.epsilon: only for time series, this study has windows of shape {study.shape}: leave it 0')
    if len(names) != 1:
        raise UserError(f'teacher.privacy.epsilon: one teacher only, since each costs its share; teacher.models names {len(names)}')
    choose(names[0], models.NAMES, 'model in teacher.models, trained with differential privacy')
    choose(options.unit, UNITS, 'teacher.privacy.unit')
    if study.own_scale not in OWN_SCALES[options.unit]:
        by = {'record': 'itself', 'subject': "itself or by its person's recordings"}[options.unit]
        raise UserError(f'teacher.privacy.epsilon: each window must be scaled by {by}, to units in which it is near one, or its scale '
                        'would depend on others: load the study with --config.study.scale=window, where it has it')


def train_teacher(study: Study, names: tuple[str, ...], options: PrivacyOptions, seed: int | None = None,
                  report: Callable[[str], None] = lambda text: None, progress: Callable[[int], None] = lambda done: None
                  ) -> tuple[Teacher, Ledger]:
    """A teacher whose release, and with it that of any number of stimuli, is (epsilon, delta)-differentially private for one unit.

    Args:
      seed: of everything random, for tests: the promise holds only while nobody knows it. None draws one and forgets it.

    Raises:
      UserError: a study or teacher for which that does not hold.
    """
    check(study, names, options)
    seed = secrets.randbits(64) if seed is None else seed
    train_part = study.part(test=False)
    scaling = Scaling(np.tile([0.0, 1.0], (study.shape[-1], 1)), np.tile([0.0, 1.0], (study.shape[-1], 1)))
    x = np.clip(train_part.x, -LARGEST, LARGEST)
    unit = units(train_part, options)
    ledger = calibrate(len(np.unique(unit)), options)
    report(f'differential privacy: epsilon {ledger.epsilon:.2f} at delta {options.delta:g}, noise multiplier {ledger.noise_multiplier:.2f}')
    classes = len(study.classes)
    member = models.create(names[0], study.shape, classes)
    params = train(member, x, np.eye(classes, dtype=np.float32)[train_part.y], options, ledger.noise_multiplier, seed, progress,
                   unit)
    population = class_statistics(x, train_part.y, classes, options.statistics_noise, seed, unit)
    teacher = Teacher(names, models.committee((member,)), (params,), scaling, population, classes=study.classes, channels=study.channels,
                      kind=study.kind, curves={})
    return teacher, ledger
