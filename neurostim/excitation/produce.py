"""Stimuli by the thousand: from settings to arrays in memory or shards on disk."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from neurostim import columns, devices
from neurostim.errors import UserError, choose
from neurostim.excitation import batch as batches
from neurostim.excitation import engine, targets
from neurostim.excitation import parameterisation as parameterisations
from neurostim.excitation.objective import INHIBITIONS, Weights
from neurostim.excitation.records import Stimuli
from neurostim.excitation.store import Store, summary
from neurostim.progress import MetricsWriter, Progress
from neurostim.teacher import Teacher

EXCITED, CONTROL = 0, 1  # uses of the seed
LEAST_SHARD = 4096  # stimuli
CPU_LANES = (100_000, 128)  # numbers in all lanes, and lanes at most: with their activations they fit a core's cache
ACCELERATOR_LANES = (2**21, 8192)
PROGRAMS = 2  # compiled ones that are kept: each takes some 100 MiB, and a rehearsal tries all paces of a method one after another
CPU_ROUNDS = 8  # times that many stimuli a call: less is paid for calls


@dataclasses.dataclass(frozen=True)
class TargetSettings:
    """What to excite towards; see :func:`neurostim.excitation.targets.make_sampler`.

    Attributes:
      name: the sampler.
      classes: 'uniform' draws all classes alike, 'natural' as often as they are in the training windows; 'auto': what served students best
        in the teacher's rehearsal, else 'uniform'.
      concentration: of a Dirichlet over all classes; small where most targets should be sure of one, as teachers are of most real
        windows. 0: what served students best in the rehearsal, else 0.2.
    """

    name: str = 'dirichlet'
    classes: str = 'uniform'
    low: float = 0.75
    high: float = 0.9999
    a: float = 4.0
    b: float = 1.0
    concentration: float = 0.2


@dataclasses.dataclass(frozen=True)
class Settings:
    """How stimuli are made.

    Attributes:
      method: a parameterisation, or 'auto': what served students best in the teacher's rehearsal, else what suits the kind of study.
      count: stimuli in all; -1 chooses as many as the teacher learnt windows, within `COUNT`, and fewer long ones, which would fill the
        memory.
      steps, learning_rate, temperature, accept, chain, attempts, candidates, as_drawn, marginals, weights: see
        :class:`neurostim.excitation.engine.Options`; steps -1, learning rate 0 and candidates 0 take what was rehearsed, else the
        method's own (one candidate). Marginals that are as they come in the rehearsal are put right, and every stimulus is excited, by
        naming the method.
      batch: stimuli a device and call; 0 chooses, -1 takes what is fastest on this machine: measured once, then remembered
        (:mod:`neurostim.excitation.batch`).
      lanes: stimuli worked on at once; 0 chooses as many as fit the cache.
      surplus: stimuli made for each that is kept. Above 1 every other one that is kept surprised novices (:mod:`neurostim.novices`). 0
        chooses `SURPLUS` where the teacher has novices that know something and windows are not long, of which few can be made, else 1.
      dtype: 'float32', or 'bfloat16' for devices that multiply it faster; in what the teacher computes gradients. Labels are float32.
      target: what to excite towards.
    """

    method: str = 'auto'
    count: int = 20_000
    steps: int = -1
    learning_rate: float = 0.0
    temperature: float = 0.0
    accept: bool = False
    chain: int = 1
    attempts: int = 20
    candidates: int = 0
    as_drawn: bool = False
    marginals: bool = True
    batch: int = 0
    lanes: int = 0
    surplus: int = 1
    dtype: str = 'float32'
    target: TargetSettings = TargetSettings()
    weights: Weights = Weights(tether=0.3)


COUNT = (4000, 20_000, 60_000, 2**26)  # stimuli, if left to choose: least; most of few windows; most; numbers in all
SURPLUS = 4
DEFAULT_STEPS = {'amortised': 300, 'direct': 100, 'flow': 3, 'matched': 3, 'generator': 50}
REHEARSED_TARGETS = ('classes', 'concentration')  # what a rehearsal chooses of a target
DTYPES = ('float32', 'bfloat16')
AMORTISED_LANES = 4096  # stimuli that one generator is trained for
GENERATOR_LANES = (1, 4)  # on CPU, elsewhere: a generator for each, megabytes that pass through the cache at every step
NO_DENSITY = ('flow', 'matched', 'generator', engine.AMORTISED)  # methods that Langevin steps cannot sample
DEFAULT_LEARNING_RATE = {'amortised': 2e-3, 'flow': 0.03, 'matched': 0.03, 'generator': 1e-3}


def check(settings: Settings) -> None:
    """Refuses what no teacher could be excited with.

    Raises:
      UserError: an unknown name, or a value out of range.
    """
    choose(settings.method, ('auto', engine.AMORTISED, *parameterisations.NAMES), 'excite.method')
    for name, least in (('count', 1), ('attempts', 1), ('candidates', 0), ('chain', 1), ('surplus', 0), ('batch', -1), ('lanes', 0),
                        ('steps', -1), ('learning_rate', 0), ('temperature', 0)):
        if not least <= getattr(settings, name) < math.inf and (name, settings.count) != ('count', -1):
            raise UserError(f'excite.{name} is {getattr(settings, name)}: give a finite number of at least {least}')
    for name, value in dataclasses.asdict(settings.weights).items():
        if not isinstance(value, str) and not math.isfinite(value):
            raise UserError(f'excite.weights.{name} is {value}: give a finite number')
        if name != 'unit' and not isinstance(value, str) and value < 0:
            raise UserError(f'excite.weights.{name} is {value}: give 0 or more; below 0 the search would run away')
    choose(settings.dtype, DTYPES, 'excite.dtype')
    choose(settings.weights.inhibit_form, INHIBITIONS, 'excite.weights.inhibit_form')
    if settings.accept and settings.candidates > 1:
        raise UserError(f'excite.candidates is {settings.candidates}, but excite.accept draws anew by itself: give 1, or turn accept off')
    if settings.as_drawn and settings.accept:
        raise UserError('excite.as_drawn is True: it leaves every other stimulus unexcited, which excite.accept would refuse: turn one of '
                        'them off')
    if settings.as_drawn and settings.surplus > 1:
        raise UserError(f'excite.surplus is {settings.surplus}: it keeps every other stimulus as it was made, which excite.as_drawn would '
                        'leave unexcited: turn one of them off')
    if settings.batch < 0 and settings.accept:
        raise UserError('excite.batch -1 measures batches of fixed steps, and excite.accept ends them early: give a number, or 0')
    choose(settings.target.classes, ('auto', 'uniform', 'natural'), 'excite.target.classes')
    _sampler(_resolve_target(settings.target, {}), np.full(2, 0.5), np.eye(2))


def resolve(settings: Settings, teacher: Teacher) -> Settings:
    """Fills in what was left to choose; the result says exactly what is run.

    Raises:
      UserError: as :func:`check`; also a method that does not suit the teacher's windows.
    """
    check(settings)
    settings = dataclasses.replace(settings, target=_resolve_target(settings.target, teacher.rehearsed))
    if not settings.surplus:
        sift = teacher.novices and teacher.novices.know_something and math.prod(teacher.shape) <= columns.MOST
        settings = dataclasses.replace(settings, surplus=SURPLUS if sift else 1)
    if settings.method == 'auto' and teacher.rehearsed:  # only what is not asked for
        given = {name: getattr(settings, name) for name in ('steps', 'learning_rate', 'candidates', 'as_drawn', 'marginals')
                 if getattr(settings, name) != getattr(Settings, name)}
        if settings.accept:  # which draws anew by itself
            given['candidates'] = 1
        if settings.accept or settings.surplus > 1:
            given['as_drawn'] = False
        way = {name: value for name, value in teacher.rehearsed.items() if name not in REHEARSED_TARGETS}
        settings = dataclasses.replace(settings, **{**way, **given})
    if settings.count < 0:
        least, usual, most, numbers = COUNT
        as_windows = np.clip(teacher.windows, usual, most)
        settings = dataclasses.replace(settings, count=int(np.clip(numbers // math.prod(teacher.shape), least, as_windows)))
    method = parameterisations.usual(teacher.population) if settings.method == 'auto' else settings.method
    _check_inhibition(settings.weights, teacher)
    if settings.surplus > 1 and teacher.novices is None:
        raise UserError(f'excite.surplus is {settings.surplus}, but the teacher has no novices to surprise: train in another --workdir '
                        "with teacher.novices, such as \"('linear','mlp')\"")
    if settings.temperature and method in NO_DENSITY:
        raise UserError(f'excite.temperature is {settings.temperature}, but excite.method {method!r} has no prior density to sample: '
                        "set it to 0, or choose another method, such as 'mixture'")
    if method == engine.AMORTISED:
        _check_amortised(settings, teacher)
    else:
        parameterisations.make(method, teacher.shape, teacher.population)  # refuses what does not suit, before anything is written
    lanes, batch = _resolve_lanes(settings, method, teacher.shape)
    weights = settings.weights
    if method in ('generator', engine.AMORTISED):
        weights = dataclasses.replace(weights, tether=0.0)
    elif settings.temperature:  # noise and the prior's density together keep the stimuli's spread, as the tether does without noise
        weights = dataclasses.replace(weights, tether=0.0, prior=weights.prior or 1.0)
    resolved = dataclasses.replace(
        settings, method=method, lanes=lanes, batch=batch,
        steps=DEFAULT_STEPS.get(method, 5) if settings.steps < 0 else settings.steps, candidates=settings.candidates or 1,
        learning_rate=settings.learning_rate or DEFAULT_LEARNING_RATE.get(method, 0.1),
        weights=weights)
    if settings.batch < 0:
        lanes = batches.fastest(teacher, resolved, make_call, lanes)
        resolved = dataclasses.replace(resolved, batch=lanes, lanes=lanes)
    if resolved.surplus > 1 and resolved.batch % 2:
        raise UserError(f'excite.batch is {resolved.batch}, but with excite.surplus stimuli are kept in pairs: give an even number')
    if resolved.as_drawn and resolved.lanes % 2:
        raise UserError(f'excite.lanes is {resolved.lanes}, but with excite.as_drawn stimuli are made in pairs: give an even number')
    return resolved


def _resolve_target(target: TargetSettings, rehearsed: dict) -> TargetSettings:
    """`target` with what was left to choose as it was rehearsed, or else the usual."""
    left = [name for name in REHEARSED_TARGETS if getattr(target, name) in ('auto', 0)]
    return dataclasses.replace(target, **{name: rehearsed.get(name, getattr(TargetSettings, name)) for name in left})


def _resolve_lanes(settings: Settings, method: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """(lanes, batch), a whole number of rounds of the lanes. Neither depends on the devices: a stimulus's last digits depend on both."""
    numbers, most = CPU_LANES if devices.on_cpu() else ACCELERATOR_LANES
    own = {engine.AMORTISED: AMORTISED_LANES, 'generator': GENERATOR_LANES[not devices.on_cpu()]}
    fits = own.get(method) or int(np.clip(2 ** round(math.log2(numbers / math.prod(shape))), 16, most))
    together = 1 + settings.as_drawn  # stimuli that are made in one, of which one is searched
    fits = together * math.ceil(fits / together)
    lanes, batch = settings.lanes or fits, max(settings.batch, 0)
    if settings.accept:
        batch = batch or max(4 * lanes, settings.chain * lanes)
        return lanes, math.ceil(batch / settings.chain) * settings.chain
    if method == engine.AMORTISED:  # a batch is what its generator learns from
        return batch or lanes, batch or lanes
    if batch:
        rounds = math.ceil(batch / lanes)
        lanes = settings.lanes or together * math.ceil(batch / rounds / together)
    else:
        rounds = min(CPU_ROUNDS, math.ceil(settings.count / lanes)) if devices.on_cpu() and settings.batch == 0 else 1
    return lanes, rounds * lanes


def _check_amortised(settings: Settings, teacher: Teacher) -> None:
    """Refuses what makes no sense for one generator a batch."""
    if settings.accept or settings.candidates > 1 or settings.as_drawn or settings.surplus > 1:
        raise UserError("excite.method 'amortised' trains one generator a batch: it has neither excite.accept nor excite.candidates nor "
                        'excite.as_drawn nor excite.surplus')
    if settings.weights.prior or 'gaussian/basis' not in teacher.population:
        raise UserError("excite.method 'amortised' keeps its generator near the population's Gaussian by itself: set "
                        'excite.weights.prior to 0, and give a teacher that has that Gaussian')


def _check_inhibition(weights: Weights, teacher: Teacher) -> None:
    """Refuses to inhibit networks that are not there, or people whom they do not know."""
    if not weights.inhibit:
        return
    if teacher.identity is None:
        raise UserError(f'excite.weights.inhibit is {weights.inhibit}, but the teacher has no identity networks: train in another '
                        "--workdir with teacher.identity.models, such as \"('mlp','gru','transformer')\"")
    if weights.inhibit_form == 'named':
        for person in weights.inhibit_people.split(','):
            choose(person, teacher.identity.people, 'person in excite.weights.inhibit_people')


def told(settings: Settings) -> dict:
    """Resolved settings for what says how stimuli were made. What is not done, and earlier versions did not know, is left out: what these
    made is found."""
    given = dataclasses.asdict(settings)
    if not settings.as_drawn:
        del given['as_drawn']
    return given


def from_manifest(manifest: dict) -> Settings:
    """The resolved settings that a store's manifest holds."""
    given = manifest['excite']
    return Settings(**{**given, 'target': TargetSettings(**given['target']), 'weights': Weights(**given['weights'])})


def unexcited(settings: Settings) -> Settings:
    """The honest control: the same starting points, labelled by the teacher, without a step. As many at once as were worked on before: with
    acceptance a batch holds many more stimuli than lanes, and each may have megabytes of weights."""
    return dataclasses.replace(settings, steps=0, accept=False, candidates=1, as_drawn=False, surplus=1, batch=settings.lanes,
                               weights=dataclasses.replace(settings.weights, inhibit=0.0))


def _sampler(target: TargetSettings, share, similarity):
    given = dataclasses.asdict(target)
    given.pop('classes')
    return targets.make_sampler(class_share=share, similarity=similarity, **given)


class Pace(NamedTuple):
    """What a compiled excitation takes as arguments, so that for other values none is compiled anew.

    Attributes:
      steps: int32, of each stimulus.
      learning_rate: float32.
    """

    steps: np.ndarray
    learning_rate: np.ndarray


def make_call(teacher: Teacher, settings: Settings, over=None) -> devices.OverDevices:
    """What makes stimuli by resolved settings, over all devices unless some are given. Settings that differ in count and :class:`Pace`
    alone share a program, as many in a rehearsal do: to compile one takes longer than to make some thousand stimuli."""
    pace = Pace(np.int32(settings.steps), np.float32(settings.learning_rate))
    alike = dataclasses.replace(settings, count=0, steps=min(settings.steps, 1), learning_rate=0.0)  # without steps no gradient is compiled
    return _program(teacher, alike, None if over is None else tuple(over)).with_last(pace)


@functools.lru_cache(PROGRAMS)
def _program(teacher: Teacher, settings: Settings, over: tuple | None) -> devices.OverDevices:
    """What makes stimuli by all settings that differ in count and pace alone; the :class:`Pace` is its last argument. Of `settings.steps`
    only whether there are any is read."""
    classes = len(teacher.classes)
    share = np.full(classes, 1 / classes) if settings.target.classes == 'uniform' else teacher.population['class_share']
    heads = [np.asarray(member['head']['kernel']) for member in teacher.params if 'head' in member]
    similarity = targets.class_similarity(heads, classes)
    sampler = _sampler(settings.target, share, similarity)
    given = {field.name: getattr(settings, field.name) for field in dataclasses.fields(engine.Options)}

    def excite(key, first, networks, population, pace):
        options = engine.Options(**{**given, **(pace._asdict() if settings.steps else {})})
        paced = engine.build(teacher, teacher.population, settings.method, sampler, options, settings.batch, settings.lanes,
                             settings.dtype, settings.surplus)
        return paced(key, first, networks, population)

    return devices.OverDevices(excite, settings.batch, over)


def stream(call, key, teacher: Teacher, firsts: Iterable[int], ahead: int = 2) -> Iterator[tuple[int, engine.Excited]]:
    """Yields (first, NumPy Excited) of the batch that begins with each first index; later batches compute while one is fetched."""
    waiting, firsts = collections.deque(), iter(firsts)
    at_once = iter(lambda: list(itertools.islice(firsts, call.devices)), [])
    for several in itertools.chain(at_once, [None] * ahead):
        if several is not None:
            idle = call.devices - len(several)  # at the very end: these make the last batch once more
            waiting.append((several, call(key, [*several, *several[-1:] * idle], teacher.networks, teacher.population)))
        if len(waiting) >= ahead or (several is None and waiting):
            made, batches = waiting.popleft()
            batches = jax.tree.map(np.asarray, batches)
            for i, first in enumerate(made):
                yield first, jax.tree.map(lambda whole, i=i: whole[i * call.count:(i + 1) * call.count], batches)


def generate(teacher: Teacher, settings: Settings, seed: int = 0, use: int = EXCITED) -> Stimuli:
    """Makes all stimuli in memory, in the study's units.

    Args:
      settings: resolved here.
      use: `EXCITED`, or `CONTROL` for draws that share nothing with the stimuli of the same seed.
    """
    return generate_timed(teacher, settings, seed, use)[0]


def generate_timed(teacher: Teacher, settings: Settings, seed: int = 0, use: int = EXCITED) -> tuple[Stimuli, float]:
    """What :func:`generate` makes, and the seconds that it took, compilation apart."""
    settings = resolve(settings, teacher)
    call = make_call(teacher, settings)
    key = jax.random.fold_in(jax.random.key(seed), use)
    call.compile(key, teacher.networks, teacher.population)  # before the clock starts
    started = time.perf_counter()
    parts = [batch for _, batch in stream(call, key, teacher, range(0, settings.count, call.count))]
    made = _joined(parts, settings.count)
    stimuli = Stimuli(teacher.scaling.inverse(made.x), made.probabilities, made.probabilities.argmax(1), made.surprise)
    return stimuli, time.perf_counter() - started


def _joined(batches: list[engine.Excited], count: int) -> engine.Excited:
    """The first `count` of consecutive batches."""
    return jax.tree.map(lambda *columns: np.concatenate(columns)[:count], *batches)


def write(teacher: Teacher, settings: Settings, folder, manifest: dict, seed: int = 0, writer: MetricsWriter | None = None) -> dict:
    """Makes all stimuli and writes them as shards; what an earlier, interrupted run has finished is verified and kept.

    Args:
      settings: resolved (:func:`resolve`).
      folder: shared by all processes, where there are several; each makes its share of the shards.
      manifest: what the stimuli depend on, beyond settings and seed.

    Returns:
      what :meth:`Store.finish` returns; totals hold accepted, attempts, steps and seconds (compilation apart).
    """
    call = make_call(teacher, settings)
    shard_size = math.ceil(max(LEAST_SHARD, 8 * settings.lanes) / settings.batch) * settings.batch  # whatever the number of devices
    key = jax.random.fold_in(jax.random.key(seed), EXCITED)
    manifest = {**manifest, 'excite': told(settings), 'seed': seed, 'teacher': teacher.digest(),
                'versions': {'jax': jax.__version__}, 'platform': devices.platform()}
    with Store(folder, manifest, settings.count, shard_size, teacher.shape, len(teacher.classes),
               settings.surplus > 1, devices.process()) as store:
        missing = store.missing()
        if missing:
            call.compile(key, teacher.networks, teacher.population)  # before the clock starts
        own, left = (sum(stop - start for start, stop in map(store.bounds, shards)) for shards in (store.own, missing))
        done = own - left
        with Progress(own, 'stimuli', 'excite', writer, done=done) as progress, concurrent.futures.ThreadPoolExecutor(1) as scribe:
            firsts = (first for shard in missing for first in range(*store.bounds(shard), call.count))
            batches = stream(call, key, teacher, firsts)
            written = None  # the shard before, which is on its way to the disk while the next one is made
            for shard in missing:
                started = time.perf_counter()
                start, stop = store.bounds(shard)
                parts = []
                for _, batch in itertools.islice(batches, math.ceil((stop - start) / call.count)):
                    parts.append(batch)
                    produced = min(stop - start, len(parts) * call.count)
                    progress.update(done + produced, accepted=float(batch.accepted.sum() / batch.attempts.sum()))
                whole = _joined(parts, stop - start)
                if written:
                    written.result()
                figures = {'accepted': int(whole.accepted.sum()), 'attempts': int(whole.attempts.sum()), 'steps': int(whole.steps.sum()),
                           'seconds': (time.perf_counter() - started) / devices.process()[1]}  # processes run side by side
                written = scribe.submit(
                    store.write, shard, teacher.scaling.inverse(whole.x), whole.probabilities, figures, whole.surprise)
                done += stop - start
            if written:
                written.result()
        store.wait_for_others()
        return summary(folder) if devices.process()[0] else store.finish()
