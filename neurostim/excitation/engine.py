"""Lanes of stimuli: the compiled search.

:func:`make_excite` builds a pure function that makes the stimuli of consecutive indices. Stimulus i is a function of (teacher,
options, key, i) alone: every random number comes from ``fold_in(key, i)``.

Two loops share one gradient step. Where no stimulus is accepted early, all lanes take the same number of steps and leave
together, for the next lanes of the call. With acceptance, a lane that is done is stored and refilled inside the compiled loop, so that
none idles.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from neurostim.excitation import parameterisation as parameterisations
from neurostim.excitation.objective import Weights, make_inhibition, make_objective
from neurostim.excitation.parameterisation import Parameterisation, dimensions
from neurostim.identity import make_apply
from neurostim.novices import make_surprise

NOISE, LUCK = 2**31 - 1, 2**31 - 2  # uses of a key, far from those of what `split` gives and of stimuli, which are 0, 1, ...
AMORTISED = 'amortised'  # the method that is no parameterisation of one stimulus: a generator for a batch


@dataclasses.dataclass(frozen=True)
class Options:
    """How to search. Steps and learning rate may be traced.

    Attributes:
      steps: gradient steps a stimulus (most, with acceptance).
      learning_rate: Adam's, or the size of a Langevin step.
      temperature: above 0 Langevin steps sample the density exp(-objective / temperature), in which the prior's term counts with its whole
        density instead of a dimension's; 0: Adam searches for the least objective.
      accept: stop a stimulus once the belief in its class exceeds its threshold.
      chain: with acceptance and a warm parameterisation, how many consecutive stimuli hand their variables on; the first of a
        chain starts fresh, so a chain depends on nothing before it.
      attempts: with acceptance, most draws for one stimulus; after the last, its best is kept and marked as not accepted.
      candidates: without acceptance, draws for one stimulus; the search starts from the one whose objective is least.
      as_drawn: without acceptance, whether every other stimulus, of the odd indices, stays as it was drawn: an unexcited one.
      marginals: whether they are put right (:mod:`neurostim.excitation.marginals`).
      weights: of the objective's terms.
    """

    steps: int = 5
    learning_rate: float = 0.1
    temperature: float = 0.0
    accept: bool = False
    chain: int = 1
    attempts: int = 20
    candidates: int = 1
    as_drawn: bool = False
    marginals: bool = True
    weights: Weights = Weights()


class Excited(NamedTuple):
    """Stimuli of consecutive indices.

    Attributes:
      x: float32 [n, *shape], scaled units.
      probabilities: float32 [n, classes], the teacher's whole softmax on `x`.
      accepted: bool [n]; always True where acceptance is off.
      steps: int32 [n], gradient steps taken, over all attempts.
      attempts: int32 [n], draws made one after another until one was accepted; candidates are not counted.
      surprise: float32 [n], how much each surprises novices; None where nothing was sifted.
    """

    x: jax.Array
    probabilities: jax.Array
    accepted: jax.Array
    steps: jax.Array
    attempts: jax.Array
    surprise: jax.Array | None = None


class Lanes(NamedTuple):
    """What each lane works on; every array has a leading axis of lanes."""

    variables: Any
    context: Any
    target: Any
    optimiser: Any


def adam(learning_rate: float | jax.Array, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """`optax.adam`, which divides moments by one number a lane. XLA turns that into a product or does not, depending on what else it does,
    and last digits would be others on one device than on several: here it is a product."""
    def init(params):
        return optax.ScaleByAdamState(jnp.zeros([], jnp.int32), optax.tree.zeros_like(params), optax.tree.zeros_like(params))

    def update(gradients, state, params=None):
        del params
        count = state.count + 1
        mean, square = (optax.tree.update_moment(gradients, moment, decay, order)
                        for moment, decay, order in ((state.mu, b1, 1), (state.nu, b2, 2)))
        unbias_mean, unbias_square = (1 / (1 - decay ** count) for decay in (b1, b2))
        step = jax.tree.map(lambda m, v: -learning_rate * (m * unbias_mean / (jnp.sqrt(v * unbias_square) + eps)), mean, square)
        return step, optax.ScaleByAdamState(count, mean, square)

    return optax.GradientTransformation(init, update)


class Steps(NamedTuple):
    """How the variables of one stimulus are moved.

    Attributes:
      init: (key, variables) -> state.
      update: (gradients, state) -> (what is added to the variables, state).
    """

    init: Callable
    update: Callable


def langevin(rate: float | jax.Array, temperature: float) -> Steps:
    """Steps that sample instead of search: v <- v - rate * gradient + sqrt(2 * rate * temperature) * standard normal noise.

    The unadjusted Langevin algorithm (Roberts & Tweedie 1996, Bernoulli 2, 341). Where gradients are those of an energy U, v comes to
    have the density exp(-U / temperature), but for what the steps' size does: along a direction in which U has curvature 1 the variance
    is temperature / (1 - rate / 2). The state is the key of the next step's noise.
    """
    def update(gradients, key):
        leaves, structure = jax.tree.flatten(gradients)
        key, *keys = jax.random.split(key, 1 + len(leaves))
        scale = jnp.sqrt(2 * rate * temperature)
        return structure.unflatten([scale * jax.random.normal(own, leaf.shape, leaf.dtype) - rate * leaf
                                    for own, leaf in zip(keys, leaves, strict=True)]), key

    return Steps(lambda key, variables: key, update)


def make_steps(options: Options) -> Steps:
    """Langevin's where there is a temperature, else Adam's."""
    if options.temperature:
        return langevin(options.learning_rate, options.temperature)
    optimiser = adam(options.learning_rate)
    return Steps(lambda key, variables: optimiser.init(variables), optimiser.update)


class Search(NamedTuple):
    """How several stimuli at once are searched, each in a lane of its own.

    Attributes:
      begin: (key, population, index, attempt, candidate=None) -> one lane's draw; candidates of one stimulus share a target.
      losses: (lanes, population, networks) -> the objective [lanes].
      gradients: (lanes, population, networks) -> ((objective, (x, logits)), gradients of the lanes' variables).
      descend: (lanes, gradients) -> the lanes, one step on.
    """

    begin: Callable
    losses: Callable
    gradients: Callable
    descend: Callable


def make_search(parameterisation: Parameterisation, sample_target, teacher_apply, options: Options, inhibition=None) -> Search:
    """Builds the search; arguments as of :func:`make_excite`."""
    steps = make_steps(options)

    def begin(key, population, index, attempt, candidate=None):
        target_key, start_key = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, index), attempt))
        target = sample_target(target_key)
        if candidate is not None:
            start_key = jax.random.fold_in(start_key, candidate)
        variables, context = parameterisation.start(population, start_key, target)
        return Lanes(variables, context, target, steps.init(jax.random.fold_in(start_key, NOISE), variables))

    def objective_of(population):
        return make_objective(
            options.weights, lambda v, c: parameterisation.decode(population, v, c),
            lambda v, c: (dimensions(v) if options.temperature else 1) * parameterisation.penalty(population, v, c),
            teacher_apply, inhibition)

    def over_lanes(one, now, networks):
        return jax.vmap(one, (0, 0, 0, None))(now.variables, now.context, now.target.belief, networks)

    def losses(now, population, networks):
        return over_lanes(objective_of(population), now, networks)[0]

    def gradients(now, population, networks):
        return over_lanes(jax.value_and_grad(objective_of(population), has_aux=True), now, networks)

    def descend(now, grads):
        updates, state = jax.vmap(steps.update)(grads, now.optimiser)
        return now._replace(variables=optax.apply_updates(now.variables, updates), optimiser=state)

    return Search(begin, losses, gradients, descend)


def make_excite(parameterisation: Parameterisation, sample_target, teacher_apply, options: Options, count: int, lanes: int,
                inhibition=None):
    """Builds ``excite(key, first, networks, population) -> Excited`` for the stimuli first, ..., first + count - 1.

    Args:
      parameterisation: what is searched.
      sample_target: key -> Target.
      teacher_apply: (networks, x) -> (logits, activations).
      count: stimuli a call; a multiple of `options.chain` with acceptance, of `lanes` without.
      lanes: stimuli worked on at once.
      inhibition: of :func:`neurostim.excitation.objective.make_inhibition`, where it has a weight.
    """
    search = make_search(parameterisation, sample_target, teacher_apply, options, inhibition)
    if options.accept:
        return make_refilling(search, options, count, lanes, parameterisation.warm)
    return make_fixed(search, parameterisation.decode, teacher_apply, options, count, lanes)


def make_fixed(search: Search, decode, teacher_apply, options: Options, count: int, lanes: int):
    """The loop of so many steps for every stimulus, from the best of its candidates; with `as_drawn` for every other one."""
    if count % lanes:
        raise ValueError(f'count {count} is not a multiple of lanes {lanes}')
    if options.as_drawn and lanes % 2:
        raise ValueError(f'{lanes} lanes: every other stimulus is as it was drawn, so an even number is made at once')

    def one_draw(key, population, indices):
        return jax.vmap(search.begin, (None, None, 0, None))(key, population, indices, 0)

    def starts(key, population, indices, networks):
        """For each stimulus its draw, or of several the one of least objective: one of all lanes after another, to stay in the cache."""
        if options.candidates == 1:
            return one_draw(key, population, indices)

        def draw(candidate):
            drawn = jax.vmap(search.begin, (None, None, 0, None, None))(key, population, indices, 0, candidate)
            return drawn, search.losses(drawn, population, networks)

        def better(candidate, best):
            drawn, losses = draw(candidate)
            return pick(losses < best[1], (drawn, losses), best)

        return jax.lax.fori_loop(1, options.candidates, better, draw(0))[0]

    def excite_lanes(key, first, networks, population):
        indices = first + jnp.arange(lanes)
        searched = indices[::2] if options.as_drawn else indices  # a call's first index is even then
        now = starts(key, population, searched, networks)

        def step(_, now):
            _, grads = search.gradients(now, population, networks)
            return search.descend(now, grads)

        now = jax.lax.fori_loop(0, options.steps, step, now)
        found, steps = (now.variables, now.context), jnp.full(len(searched), options.steps, jnp.int32)
        if options.as_drawn:
            spared = one_draw(key, population, indices[1::2])
            found, steps = by_turns((found, steps), ((spared.variables, spared.context), jnp.zeros_like(steps)))
        x = jax.vmap(decode, (None, 0, 0))(population, *found)
        probabilities = jax.nn.softmax(teacher_apply(networks, x)[0])
        ones = jnp.ones(lanes, jnp.int32)
        return Excited(x, probabilities, ones > 0, steps, ones)

    def excite(key, first, networks, population):
        """Some lanes after others, in one program: few enough for the cache, and no return to the host between them."""
        firsts = first + jnp.arange(0, count, lanes)
        made = jax.lax.map(lambda start: excite_lanes(key, start, networks, population), firsts)
        return jax.tree.map(lambda column: column.reshape(count, *column.shape[2:]), made)

    return excite_lanes if count == lanes else excite


def by_turns(a, b):
    """Of two trees of arrays with n rows one with 2 n: the first row of `a`, the first of `b`, the second of `a`, ..."""
    return jax.tree.map(lambda u, v: jnp.stack([u, v], 1).reshape(2 * len(u), *u.shape[1:]), a, b)


def pick(mask, a, b):
    """Of two trees of arrays with n rows the rows of `a` where `mask` [n] holds, else of `b`."""
    return jax.tree.map(lambda u, v: jnp.where(mask.reshape(-1, *[1] * (u.ndim - 1)), u, v), a, b)


class LaneState(NamedTuple):
    """Where each lane stands: int32 [lanes], unless said otherwise.

    Attributes:
      slot: the stimulus worked on, counted from the call's first; `count` for an idle lane.
      attempt, step: of this stimulus; steps since the attempt began.
      total: steps over all attempts of this stimulus.
      best_belief, best_x, best_probabilities: this stimulus's best so far, float32 [lanes], [lanes, *shape], [lanes, classes].
    """

    slot: jax.Array
    attempt: jax.Array
    step: jax.Array
    total: jax.Array
    best_belief: jax.Array
    best_x: jax.Array
    best_probabilities: jax.Array


def make_refilling(search: Search, options: Options, count: int, lanes: int, warm: bool):
    """The loop with early acceptance: a lane that is done is stored and takes the next stimulus of its chain, or the next chain."""
    chain = options.chain
    if count % chain:
        raise ValueError(f'count {count} is not a multiple of chain {chain}')

    def begin_where(mask, key, population, first, slot, attempt, now):
        """Fresh draws for the lanes in `mask`, the rest as they are."""
        def one(arguments):
            wanted, index, tries, lane = arguments
            return jax.lax.cond(wanted, lambda: search.begin(key, population, index, tries), lambda: lane)
        if warm:  # megabytes of weights a lane: draw only what is wanted, one after another, and copy nothing where nothing is
            return jax.lax.cond(mask.any(), lambda: jax.lax.map(one, (mask, first + slot, attempt, now)), lambda: now)
        return pick(mask, jax.vmap(search.begin, (None, None, 0, 0))(key, population, first + slot, attempt), now)

    def excite(key, first, networks, population):
        units = count // chain
        unit = jnp.arange(lanes, dtype=jnp.int32)
        slot = jnp.where(unit < units, unit * chain, count)
        draw = lambda s: search.begin(key, population, first + s, 0)  # noqa: E731
        now = jax.lax.map(draw, slot) if warm else jax.vmap(draw)(slot)
        zeros = jnp.zeros(lanes, jnp.int32)
        (_, (x, logits)), _ = jax.eval_shape(search.gradients, now, population, networks)
        blank = lambda like: jnp.zeros((count, *like.shape[1:]), like.dtype)  # noqa: E731
        out = Excited(blank(x), blank(logits), jnp.zeros(count, bool), jnp.zeros(count, jnp.int32), jnp.zeros(count, jnp.int32))
        best = LaneState(slot, zeros, zeros, zeros, jnp.full(lanes, -1.0), jnp.zeros(x.shape, x.dtype), jnp.zeros(logits.shape))

        def unfinished(state):
            return (state[1].slot < count).any()

        def advance(state):
            now, at, next_unit, out = state
            (_, (x, logits)), grads = search.gradients(now, population, networks)
            probabilities = jax.nn.softmax(logits)
            belief = jnp.take_along_axis(probabilities, now.target.label[:, None], 1)[:, 0]
            better = belief > at.best_belief
            at = at._replace(best_belief=jnp.where(better, belief, at.best_belief),
                             best_x=pick(better, x, at.best_x), best_probabilities=pick(better, probabilities, at.best_probabilities))
            busy = at.slot < count
            accepted = busy & (belief > now.target.threshold)
            failed = busy & ~accepted & (at.step >= options.steps)
            done = accepted | (failed & (at.attempt + 1 >= options.attempts))
            place = jnp.where(done, at.slot, count)
            row = Excited(pick(accepted, x, at.best_x), pick(accepted, probabilities, at.best_probabilities),
                          accepted, at.total, at.attempt + 1)
            out = jax.tree.map(lambda whole, part: whole.at[place].set(part, mode='drop'), out, row)
            ends = accepted | failed  # and takes no step
            now = pick(ends, now, search.descend(now, grads))
            at = at._replace(step=at.step + ~ends, total=at.total + ~ends)
            return jax.lax.cond(ends.any(), refill, lambda *s: s[:4], now, at, next_unit, out, accepted, failed, done)

        def refill(now, at, next_unit, out, accepted, failed, done):
            chain_ends = done & ((at.slot + 1) % chain == 0)
            taken = next_unit + jnp.cumsum(chain_ends) - 1
            fresh_slot = jnp.where(taken < units, taken * chain, count)
            slot = jnp.where(chain_ends, fresh_slot, jnp.where(done, at.slot + 1, at.slot)).astype(jnp.int32)
            attempt = jnp.where(done, 0, at.attempt + failed)
            again = (done | failed) & (slot < count)
            handed_on = accepted & ~chain_ends if warm else jnp.zeros_like(done)
            drawn = begin_where(again & ~handed_on, key, population, first, slot, attempt, now)
            if warm:  # the same weights and optimiser, but a target and noise of the new stimulus's own
                drawn = hand_on(handed_on & again, key, population, first, slot, drawn)
            renewed = at._replace(
                slot=slot, attempt=attempt, step=jnp.where(again, 0, at.step), total=jnp.where(done, 0, at.total),
                best_belief=jnp.where(done, -1.0, at.best_belief))
            return drawn, renewed, next_unit + chain_ends.sum(), out

        def hand_on(mask, key, population, first, slot, now):
            def light(index):  # the weights drawn here are dead code and are not computed
                lane = search.begin(key, population, index, 0)
                return lane.context, lane.target
            context, target = jax.vmap(light)(first + slot)
            return now._replace(context=pick(mask, context, now.context), target=pick(mask, target, now.target))

        start = (now, best, jnp.int32(min(lanes, units)), out)
        return jax.lax.while_loop(unfinished, advance, start)[3]

    return excite


def sifted(excite, surprise, surplus: int):
    """Builds ``sift(key, first, networks, population)``, which keeps two of every ``2 * surplus`` stimuli that `excite` makes: the first as
    it comes, and one of the others, drawn with probabilities in proportion to how much they surprise novices. Each says how much it does.

    So kept stimulus i depends on its own group alone: on stimuli 2 * surplus * (i // 2) and those after it.

    Args:
      excite: of :func:`make_excite`, for an even number of stimuli times `surplus`.
      surprise: (networks, x, belief) -> how much one stimulus surprises, above 0 (:func:`neurostim.novices.make_surprise`).
    """
    group = 2 * surplus

    def sift(key, first, networks, population):
        made = excite(key, first * surplus, networks, population)
        made = made._replace(surprise=jax.vmap(surprise, (None, 0, 0))(networks, made.x, made.probabilities))
        score = jnp.log(made.surprise + 1e-9).reshape(-1, group)
        own = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, LUCK), first // 2 + jnp.arange(len(score)))
        score += jax.vmap(lambda key: jax.random.gumbel(key, (group,)))(own)  # the largest of such scores is drawn in proportion
        begins = group * jnp.arange(len(score))
        rows = jnp.stack([begins, begins + 1 + score[:, 1:].argmax(1)], 1).ravel()
        return jax.tree.map(lambda column: column[rows], made)

    return sift


def in_dtype(apply, dtype: str):
    """The same ``apply(params, x) -> (logits, activations)``, computing in `dtype`; whole numbers among parameters stay as they are,
    logits and the gradient of `x` float32."""
    if dtype == 'float32':
        return apply

    def narrow(params, x):
        cast = lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf  # noqa: E731
        logits, activations = apply(jax.tree.map(cast, params), x.astype(dtype))
        return logits.astype(jnp.float32), activations

    return narrow


def relabelled(excite, teacher_apply):
    """`excite` whose stimuli are labelled anew: what was searched in few digits is not judged in few."""
    def labelled(key, first, networks, population):
        made = excite(key, first, networks, population)
        return made._replace(probabilities=jax.nn.softmax(teacher_apply(networks, made.x)[0]))
    return labelled


def build(teacher, population: dict, method: str, target_sampler, options: Options, count: int, lanes: int, dtype: str = 'float32',
          surplus: int = 1):
    """The excite function of a method for a teacher, whose `networks` it takes; see :func:`make_excite`. The teacher computes gradients
    in `dtype`, labels in float32. With a `surplus` above 1 so many times as many stimuli are made as are kept (:func:`sifted`)."""
    kept, count = count, count * surplus
    inhibition = None
    if options.weights.inhibit:
        apply_identity = make_apply(teacher.identity.networks(teacher.shape))
        named = options.weights.inhibit_people.split(',')
        people = np.array([person in named for person in teacher.identity.people])
        inhibition = make_inhibition(
            options.weights.inhibit_form, people, lambda networks, x: (apply_identity(networks[1][0], x), networks[1][1]))
    searched = in_dtype(teacher.model.apply, dtype)
    apply_teacher = lambda networks, x: searched(networks[0], x)  # noqa: E731
    if method == AMORTISED:
        from neurostim.excitation import amortised  # which builds on this file
        excite = amortised.make_excite(teacher.shape, target_sampler, apply_teacher, options, count, inhibition)
    else:
        parameterisation = parameterisations.make(method, teacher.shape, population, options.marginals)
        excite = make_excite(parameterisation, target_sampler, apply_teacher, options, count, lanes, inhibition)
    if dtype != 'float32':
        excite = relabelled(excite, lambda networks, x: teacher.model.apply(networks[0], x))
    if surplus == 1:
        return excite
    if kept % 2:
        raise ValueError(f'{kept} stimuli a call: an even number is kept')
    surprise = make_surprise(teacher.novices.networks(teacher.shape, len(teacher.classes)))
    return sifted(excite, lambda networks, x, belief: surprise(networks[2], x, belief), surplus)
