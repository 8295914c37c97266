"""What excitation searches: the samples themselves, a spectrum, a population's Gaussian or mixture, an upright image's and its slant, an
envelope and a carrier, a train of pulses, places within a leaf, what is added to a flow's draw, or a generator's weights.

A parameterisation is a set of pure functions of ONE stimulus and the population's statistics; :func:`make` builds it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from neurostim import columns
from neurostim.errors import UserError, choose
from neurostim.excitation import bands, marginals, moments, pulses, settling, slant
from neurostim.excitation import flow as flows
from neurostim.excitation import leaves as forests
from neurostim.excitation.population import band_width, cosine_basis, envelope_terms
from neurostim.excitation.targets import Target

DRAWN = 256  # unexcited draws at once
# What populations of earlier versions lack.
NEWER = {'banded': {'banded/coherence', 'banded/spectra', 'banded/stretch'}, 'pulsed': {'pulsed/stretch'}}


class Context(NamedTuple):
    """What stays as it is while one stimulus is searched.

    Attributes:
      start: the variables' first values; the tether pulls towards them.
      fixed: whatever else decoding needs.
    """

    start: Any
    fixed: Any = ()


class Parameterisation(NamedTuple):
    """A way of writing a stimulus.

    Attributes:
      start: (population, key, target) -> (variables, context): a draw, unexcited.
      decode: (population, variables, context) -> x [*shape], scaled units.
      penalty: (population, variables, context) -> negative log prior density, a dimension; a constant is dropped.
      warm: whether the variables of an accepted stimulus are the next one's first values (the published generator).
      finish: (population, variables, context, x) -> x, what is left to do once marginals are put right; None for nothing.
    """

    start: Callable
    decode: Callable
    penalty: Callable
    warm: bool = False
    finish: Callable | None = None


def usual(population: dict) -> str:
    """The parameterisation that is taken where none is asked for: the best that the population has for its kind of study."""
    there = (name for name in ('pulsed', 'modulated', 'slanted') if f'{name}/mean' in population)
    return 'flow' if flows.fitted(population) else next(there, 'mixture')


def make(name: str, shape: tuple[int, ...], population: dict, put_right: bool = True) -> Parameterisation:
    """Builds the parameterisation `name` for stimuli of `shape`, within the population's bounds.

    Args:
      put_right: whether marginals are (:mod:`neurostim.excitation.marginals`), where the population says how.
      population: from :func:`neurostim.excitation.population.fit_population`; only names are read here.

    Raises:
      UserError: an unknown name, or one that does not suit this kind of study.
    """
    choose(name, NAMES, 'excite.method')
    if name == 'banded' and 'banded/mean' not in population:
        raise UserError(f"excite.method 'banded' needs time series of more than {columns.MOST} numbers a window that do not lie around an "
                        f"event like a heartbeat, and this study's, of shape {shape}, are others: choose 'modulated' or 'mixture'")
    if name == 'pulsed' and 'pulsed/mean' not in population:
        raise UserError(f"excite.method 'pulsed' needs long time series that are trains of pulses, such as heartbeats; this study's "
                        f"windows, of shape {shape}, are none: choose 'modulated' or 'mixture'")
    lacking = sorted(NEWER.get(name, set()) - population.keys())
    if lacking:
        raise UserError(f'excite.method {name!r}: the teacher is of an earlier version, whose population has no {" nor ".join(lacking)}: '
                        'train in another --workdir, or choose another method')
    needs = {'spectral': 'spectral/log_mean', 'stationary': 'stationary/mean', 'modulated': 'modulated/mean'}.get(name)
    if needs and needs not in population:
        raise UserError(f"excite.method {name!r} needs windows of at least 16 samples that do not lie around an event like a heartbeat, "
                        f"and this study's, of shape {shape}, are others: choose 'mixture', 'gaussian' or 'direct'")
    if name == 'flow' and not flows.fitted(population):
        raise UserError("excite.method 'flow' needs a teacher of time series or feature vectors that was trained with teacher.flow.steps "
                        'above 0: train so in another --workdir, or choose another method')
    if name == moments.METHOD and not moments.fitted(population):
        raise UserError(f"excite.method {name!r} needs a flow, of windows of at most {moments.LARGEST} numbers; this study's have shape "
                        f"{shape}: train with teacher.flow.steps above 0 in another --workdir, or choose another method")
    if name == 'slanted' and 'slanted/mean' not in population:
        raise UserError(f"excite.method 'slanted' needs images on an empty background, this study's windows of shape {shape} are none: "
                        "choose 'mixture'")
    if name == 'leaves' and not forests.fitted(population):
        raise UserError(f"excite.method 'leaves' needs feature vectors of at most {forests.LARGEST} numbers and a teacher that knows of "
                        f"leaves, this study's windows have shape {shape}: choose 'mixture'")
    if name == 'generator' and len(shape) != 3:
        raise UserError(f"excite.method 'generator' makes images, this study's windows have shape {shape}: choose another method")
    return finished(name, shape, put_right and marginals.fitted(population, name))


def finished(name: str, shape: tuple[int, ...], put_right: bool) -> Parameterisation:
    """The parameterisation `name`, whose draws have their marginals put right, if so asked, and lie within the population's bounds."""
    chosen = NAMES[name](shape)

    def decode(population, variables, context):
        x = chosen.decode(population, variables, context)
        x = marginals.put_right(population, name, x) if put_right else x
        x = chosen.finish(population, variables, context, x) if chosen.finish else x
        return clip(population, x)

    return chosen._replace(decode=decode, finish=None)


def unexcited(name: str, shape: tuple[int, ...], population: dict, count: int, seed: int, finish: bool = True,
              put_right: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Draws before any excitation, of classes as frequent as the population's: (x float32 [count, *shape], scaled; the class each was drawn
    for, int32 [count]).

    Args:
      finish: whether draws are put right and finished as stimuli are; else they are as the parameterisation makes them.
      put_right: as for :func:`make`.
    """
    several = _drawer(name, shape, len(population['class_share']), finish, put_right and marginals.fitted(population, name))
    keys = jax.random.split(jax.random.key(seed), math.ceil(count / DRAWN) * DRAWN).reshape(-1, DRAWN)
    parts = [jax.tree.map(np.asarray, several(population, batch)) for batch in keys]
    return tuple(np.concatenate(part)[:count] for part in zip(*parts, strict=True))


@functools.cache  # compiled once for teachers of one shape
def _drawer(name: str, shape: tuple[int, ...], n_classes: int, finish: bool, put_right: bool):
    """Compiles ``(population, keys [n]) -> (draws [n, *shape], classes [n])``."""
    p = finished(name, shape, put_right) if finish else NAMES[name](shape)

    def draw(population, key):
        class_key, draw_key = jax.random.split(key)
        label = jax.random.categorical(class_key, jnp.log(population['class_share'])).astype(jnp.int32)
        target = Target(jax.nn.one_hot(label, n_classes), label, jnp.float32(2))
        return p.decode(population, *p.start(population, draw_key, target)), label

    return jax.jit(jax.vmap(draw, (None, 0)))


def clip(population, x):
    """Within the population's bounds."""
    return jnp.clip(x, population['bounds'][0], population['bounds'][1])


def _half_square(population, variables, context):
    """Negative log density of independent standard normal variables, a dimension."""
    del population, context
    leaves = jax.tree.leaves(variables)
    return 0.5 * sum((v * v).sum() for v in leaves) / sum(v.size for v in leaves)


def _but_phases(population, variables, context):
    """The same where one of the variables is phases, which the prior leaves free."""
    return _half_square(population, {name: value for name, value in variables.items() if name != 'phase'}, context)


def dimensions(variables) -> int:
    """How many of the searched variables the penalty is a mean over: all but phases, which the prior leaves free."""
    return sum(leaf.size for path, leaf in jax.tree_util.tree_leaves_with_path(variables) if 'phase' not in jax.tree_util.keystr(path))


def direct(shape) -> Parameterisation:
    """The samples themselves, from white noise of the scaled units' spread: no prior at all."""

    def start(population, key, target: Target):
        del population, target
        x = jax.random.normal(key, shape)
        return x, Context(x)

    return Parameterisation(start, lambda population, x, context: x, _half_square)


def _one_gaussian(prefix, shape):
    """Whitened coordinates of one Gaussian for all classes."""

    def start(population, key, target: Target):
        del target
        score_key, rest_key = jax.random.split(key)
        scores = jax.random.normal(score_key, population[f'{prefix}/basis'].shape[1:])
        return scores, Context(scores, population[f'{prefix}/rest'] * jax.random.normal(rest_key, population[f'{prefix}/rest'].shape))

    def decode(population, scores, context):
        flat = population[f'{prefix}/mean'] + population[f'{prefix}/basis'] @ scores + context.fixed
        return flat.reshape(shape)

    return Parameterisation(start, decode, _half_square)


def gaussian(shape) -> Parameterisation:
    """Whitened coordinates of the population's Gaussian."""
    return _one_gaussian('gaussian', shape)


def stationary(shape) -> Parameterisation:
    """The same of the Gaussian of windows that may begin anywhere, in which single windows leave hardly a trace."""
    return _one_gaussian('stationary', shape)


def _draw_component(population, prefix, key, target: Target):
    """Whitened coordinates of one component of a mixture, and what places them: the component is one of the target's class."""
    component_key, score_key, rest_key = jax.random.split(key, 3)
    own = population[f'{prefix}/owner'] == target.label
    component = jax.random.categorical(component_key, jnp.where(own, jnp.log(population[f'{prefix}/weight']), -1e9))
    scores = jax.random.normal(score_key, population[f'{prefix}/basis'].shape[1:])
    rest = population[f'{prefix}/rest'] * jax.random.normal(rest_key, population[f'{prefix}/rest'].shape)
    placing = population[f'{prefix}/centre'][component], population[f'{prefix}/factor'][component], rest
    if f'{prefix}/own_mean' in population:
        placing += (population[f'{prefix}/own_mean'][target.label], population[f'{prefix}/own_spread'][target.label])
    return scores, placing


def _place(population, prefix, scores, placing):
    """The vector that whitened coordinates stand for."""
    centre, factor, rest, *own = placing
    rank = centre.shape[0]
    own_mean, own_spread = own or (0, 1)
    full = jnp.concatenate([centre + factor @ scores[:rank], own_spread * scores[rank:]])
    return population[f'{prefix}/mean'] + own_mean + population[f'{prefix}/basis'] @ full + rest


def _component(prefix):
    """The start of what is searched in whitened coordinates of one component of a mixture."""

    def start(population, key, target: Target):
        scores, placing = _draw_component(population, prefix, key, target)
        return scores, Context(scores, placing)

    return start


def mixture(shape) -> Parameterisation:
    """Whitened coordinates of one component of the windows' mixture; the component is drawn from the target's class."""

    def decode(population, scores, context):
        return _place(population, 'mixture', scores, context.fixed).reshape(shape)

    return Parameterisation(_component('mixture'), decode, _half_square)


def slanted(shape) -> Parameterisation:
    """Whitened coordinates of one component of the mixture of upright images and their slants, slanted afterwards."""

    def decode(population, scores, context):
        return _place(population, 'slanted', scores, context.fixed)[:-1].reshape(shape)

    def finish(population, scores, context, image):
        leaning = _place(population, 'slanted', scores, context.fixed)[-1] * population['slanted/unit']
        background = population['slanted/background']
        return slant.clear(slant.lean(image, leaning, background), background, population['slanted/threshold'])

    return Parameterisation(_component('slanted'), decode, _half_square, finish=finish)


def _waves(amplitude, phase, time):
    """The real signals [time, channels] with these amplitudes and phases [frequencies, channels] at 1, 2, ... cycles a window."""
    frequencies = amplitude.shape[0]
    if time > 1024:
        spectrum = amplitude * jnp.exp(1j * phase)
        return jnp.fft.irfft(jnp.concatenate([jnp.zeros((1, amplitude.shape[1])), spectrum]), time, axis=0)
    # A matrix product beats a transform of this length. The last frequency of an even length has no twin.
    angle = 2 * math.pi * jnp.outer(jnp.arange(time), jnp.arange(1, frequencies + 1)) / time
    twin = jnp.where((jnp.arange(1, frequencies + 1) * 2 == time), 1.0, 2.0) / time
    return (jnp.cos(angle) * twin) @ (amplitude * jnp.cos(phase)) - (jnp.sin(angle) * twin) @ (amplitude * jnp.sin(phase))


def spectral(shape) -> Parameterisation:
    """Each channel's spectrum: log-amplitudes around the population's, free phases; the mean apart, since it has no phase."""

    def start(population, key, target: Target):
        del target
        keys = jax.random.split(key, 3)
        bins = population['spectral/log_mean'].shape
        variables = {'offset': jax.random.normal(keys[0], (shape[1],)), 'log': jax.random.normal(keys[1], bins),
                     'phase': jax.random.uniform(keys[2], bins, maxval=2 * math.pi)}
        return variables, Context(variables)

    def decode(population, variables, context):
        del context
        amplitude = jnp.exp(population['spectral/log_mean'] + population['spectral/log_spread'] * variables['log'])
        offset = population['spectral/offset'] + population['spectral/offset_factor'] @ variables['offset']
        return offset + _waves(amplitude, variables['phase'], shape[0])

    return Parameterisation(start, decode, _but_phases)


def _noisy_component(prefix, bins, grainy):
    """The start of what is searched in one component of a mixture, and in the phases of noise of so many frequencies and channels.

    Args:
      grainy: whether each frequency's amplitude is noise's too: Rayleigh, of mean square 1.
    """

    def start(population, key, target: Target):
        draw_key, phase_key, jitter_key, grain_key = jax.random.split(key, 4)
        scores, placing = _draw_component(population, prefix, draw_key, target)
        variables = {'scores': scores, 'phase': jax.random.uniform(phase_key, bins[:1], maxval=2 * math.pi),
                     'jitter': jax.random.normal(jitter_key, bins)}
        grain = jnp.sqrt(jax.random.exponential(grain_key, bins)) if grainy else ()
        return variables, Context(variables, (placing, grain))

    return start


def _phases(population, variables, prefix='modulated'):
    """[frequencies, channels]: free but for the differences between channels, which are the population's."""
    return variables['phase'][:, None] + population[f'{prefix}/phase'] + population[f'{prefix}/jitter'] * variables['jitter']


def modulated(shape) -> Parameterisation:
    """Offset + exp(slow envelope) x carrier: turns exactly the knobs that make a breath deep, shallow or absent.

    The descriptor (offset, envelope, log-amplitudes) comes from the mixture of the windows' descriptors; phases are free, but for the
    differences between channels that the population has. Within a band amplitudes are those of noise, with the band's mean square.
    """
    time, channels = shape
    bins = (time // 2, channels)
    terms, width = envelope_terms(time), band_width(time)

    def decode(population, variables, context):
        low, high = population['modulated/range']
        placing, grain = context.fixed
        descriptor = jnp.clip(_place(population, 'modulated', variables['scores'], placing), low, high)
        offset, coefficients, logs = jnp.split(descriptor, [channels, channels * (1 + terms)])
        basis = jnp.asarray(cosine_basis(time, terms), jnp.float32)
        envelope = jnp.exp(basis.T @ coefficients.reshape(terms, channels))
        amplitude = jnp.exp(logs.reshape(-1, channels))
        if width > 1:
            amplitude = jnp.repeat(amplitude, width, 0)[: bins[0]] * grain
        return offset + envelope * _waves(amplitude, _phases(population, variables), time)

    return Parameterisation(_noisy_component('modulated', bins, width > 1), decode, _but_phases)


def banded(shape) -> Parameterisation:
    """A long window put together from what bands see of it, drawn from a mixture, and from noise of that strength, whose spectrum is the
    class's and whose channels go together as the class's do. It is settled (:mod:`neurostim.excitation.settling`) as it was drawn: a
    search's small steps take along by how much it was moved. The noise stays as it was drawn: where its phases were searched too, students
    with filters learnt less (BUILD_NOTES)."""
    time, channels = shape

    def assemble(population, scores, placing, noise, adjusted):
        low, high = population['banded/range']
        stretch, correction = adjusted
        numbers = (stretch * jnp.clip(_place(population, 'banded', scores, placing), low, high) + correction).reshape(
            -1, noise.shape[0] + 1, channels)
        return bands.assemble(numbers, noise), numbers

    def start(population, key, target: Target):
        draw_key, grain_key = jax.random.split(key)
        scores, placing = _draw_component(population, 'banded', draw_key, target)
        real, imaginary = population['banded/coherence'][:, target.label]
        grain = jax.random.normal(grain_key, (time // 2, channels, 2)) @ jnp.array([1, 1j]) / math.sqrt(2)
        noise = bands.noises(population['banded/spectra'][target.label] * bands.together(grain, real + 1j * imaginary, time), time)
        adjusted = population['banded/stretch'][target.label], population['banded/correction'][target.label]
        x, numbers = assemble(population, scores, placing, noise, adjusted)
        return scores, Context(scores, (placing, noise, adjusted, settling.settle(x, numbers) - x))

    def decode(population, scores, context):
        *drawn, moved = context.fixed
        return assemble(population, scores, *drawn)[0] + moved

    return Parameterisation(start, decode, _half_square)


def pulsed(shape) -> Parameterisation:
    """A train of pulses and what is beside them, as a mixture describes them; when the first pulse comes, and by how much each is off by
    itself, stays as it was drawn."""
    time, channels = shape
    bins = (time // 2, channels)
    start_noisy = _noisy_component('pulsed', bins, True)

    def start(population, key, target: Target):
        draw_key, begin_key, pulse_key = jax.random.split(key, 3)
        variables, (_, (placing, grain)) = start_noisy(population, draw_key, target)
        deviations = jax.random.normal(pulse_key, (3, pulses.most_pulses(len(population['pulsed/unit_wander']) // 2)))
        adjusted = population['pulsed/stretch'][target.label], population['pulsed/correction'][target.label]
        return variables, Context(variables, (placing, grain, jax.random.uniform(begin_key), deviations, adjusted))

    def decode(population, variables, context):
        placing, grain, begin, deviations, (stretch, correction) = context.fixed
        low, high = population['pulsed/range']
        numbers = jnp.clip(_place(population, 'pulsed', variables['scores'], placing), low, high)
        units = {name: population[f'pulsed/unit_{name}'] for name in pulses.WEIGHTS if f'pulsed/unit_{name}' in population}
        ends = np.cumsum([len(unit) for unit in units.values()])
        parts = {name: unit * part for (name, unit), part in zip(units.items(), jnp.split(numbers, ends[:-1]), strict=True)}
        parts['rest'] = stretch * parts['rest'] + correction
        noise = bands.noises(population['pulsed/share'] * grain * jnp.exp(1j * _phases(population, variables, 'pulsed')), time)
        return pulses.assemble(parts, noise, begin, deviations, population['pulsed/interval'], population['pulsed/first'])

    return Parameterisation(start, decode, _but_phases)


def leaves(shape) -> Parameterisation:
    """Standard normal scores of each number within a leaf of the target's class (:mod:`neurostim.excitation.leaves`)."""

    def start(population, key, target: Target):
        leaf_key, score_key = jax.random.split(key)
        scores = jax.random.normal(score_key, shape)
        return scores, Context(scores, forests.draw_leaf(population, leaf_key, target.label))

    def decode(population, scores, context):
        del population
        return forests.place(context.fixed, scores)

    return Parameterisation(start, decode, _half_square)


def flow(shape) -> Parameterisation:
    """A draw of the target's class from the flow, and whitened coordinates of the population's Gaussian for what is added to it."""

    def start(population, key, target: Target):
        scores = jnp.zeros(population['gaussian/basis'].shape[1:])
        return scores, Context(scores, flows.draw(population, shape, key, target.label))

    def decode(population, scores, context):
        return context.fixed + (population['gaussian/basis'] @ scores).reshape(shape)

    return Parameterisation(start, decode, _half_square)


def matched(shape) -> Parameterisation:
    """The same, where draws of a class have the mean and covariance of its windows."""
    plain = flow(shape)

    def start(population, key, target: Target):
        scores, context = plain.start(population, key, target)
        return scores, context._replace(fixed=moments.match(population, context.fixed, target.label))

    return plain._replace(start=start)


def generator(shape) -> Parameterisation:
    """The weights of the published generator, for noise that is drawn anew for each stimulus (arXiv 2009.10007)."""
    from neurostim.models.published import Generator
    network = Generator(shape)

    def start(population, key, target: Target):
        del population, target
        weights_key, z_key, dropout_key = jax.random.split(key, 3)
        z = jax.random.normal(z_key, (512,))
        # The start is not kept in the context: a tether to megabytes of weights would double what a lane holds.
        return network.init(weights_key, z)['params'], Context((), (z, jax.random.key_data(dropout_key)))

    def decode(population, weights, context):
        z, dropout_data = context.fixed
        image = network.apply({'params': weights}, z, rngs={'dropout': jax.random.wrap_key_data(dropout_data)})
        low, high = population['bounds'][0], population['bounds'][1]
        return low + (high - low) * image

    def penalty(population, weights, context):
        del population, weights, context
        return jnp.float32(0)

    return Parameterisation(start, decode, penalty, warm=True)


NAMES = {f.__name__: f for f in (
    direct, spectral, gaussian, stationary, mixture, slanted, modulated, banded, pulsed, leaves, flow, matched, generator)}
