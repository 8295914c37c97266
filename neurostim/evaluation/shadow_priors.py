"""Shadow priors: what stimuli of a release start from, fitted once more to random halves of the windows or people.

A shadow pipeline (:mod:`neurostim.evaluation.shadows`) is the whole way, made small; this is one part of it as it is, the very statistics
and draws of the release, for windows of any length. Excitation moves a draw little: what unexcited draws give away, stimuli do.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from neurostim import columns
from neurostim.committee import validation_split
from neurostim.evaluation import linkage, shadows
from neurostim.excitation import flow as flows
from neurostim.excitation import marginals, moments, parameterisation
from neurostim.excitation.population import fit_population
from neurostim.study import Study

# Whose statistics are fitted anew in seconds; others train a network.
METHODS = ('direct', 'spectral', 'gaussian', 'stationary', 'mixture', 'slanted', 'modulated', 'banded', 'pulsed', 'leaves')
MOST_PRIORS = 16  # that an attack makes
DRAWS, DRAWN_NUMBERS = (4096, 20_000), 2**22  # fewest and most draws of a prior, and the numbers in them between
MOST = 4000  # windows that an attacker asks about
LOOKED_UP = 200  # windows whose neighbours say how far it is to one


class Prior(NamedTuple):
    """What stimuli of a release start from.

    Attributes:
      method: of the draws, one of :data:`neurostim.excitation.parameterisation.NAMES`.
      put_right: whether draws have their marginals put right.
      flow: how the release's flow is trained; None where there is none.
    """

    method: str
    put_right: bool
    flow: flows.FlowOptions | None = None


OTHERWISE = Prior('mixture', put_right=True)  # which suits any windows


def suits(study: Study, prior: Prior | None) -> bool:
    """Whether shadows of a prior are made: of statistics, and of a flow of feature vectors, which is trained in half a minute. That of time
    series takes many."""
    if prior is None:
        return False
    trained = prior.method in moments.FLOWS and prior.flow is not None and study.kind == 'features' and flows.suits(study.shape)
    return trained or prior.method in METHODS


class Scores(NamedTuple):
    """What one prior gives away of each window: float32 [n] each, higher where a member is suspected.

    Attributes:
      distance, density: of unexcited draws, as for :class:`neurostim.evaluation.shadows.Scores`.
      own_distance, own_density: the same where members' own windows are released in place of draws, each blurred by noise half as
        long as it is to its neighbour: the positive control.
    """

    distance: np.ndarray
    density: np.ndarray
    own_distance: np.ndarray
    own_density: np.ndarray


def make_views(like: np.ndarray) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Builds what an attacker compares, {name: ``view(scaled [n, *shape]) -> [n, d]``}, each in standard deviations of the windows `like`:
    the numbers that classical algorithms see of scaled windows (:mod:`neurostim.columns`), under '', and of time series that these see as
    they are logarithms of spectra besides, which stay the same whenever a rhythm begins."""
    seen = {'': lambda x: columns.columns(x).reshape(len(x), -1)}
    if like.ndim == 3 and like.shape[1] >= linkage.SHORTEST and not columns.is_long_series(like.shape[1:]):
        seen[', by spectra'] = functools.partial(linkage.log_spectra, floor=linkage.silence(like))
    return {name: _standard(see, like) for name, see in seen.items()}


def _standard(see, like):
    usual = see(like)
    mean, spread = usual.mean(0), usual.std(0)
    spread = spread + 1e-3 * spread.max()
    return lambda scaled: ((see(scaled) - mean) / spread).astype(np.float32)


def draws(study: Study) -> int:
    """How many draws of each prior are looked at."""
    return int(np.clip(DRAWN_NUMBERS // np.prod(study.shape), *DRAWS))


def draw_like(own: Study, prior: Prior | None, seed: int = 0) -> tuple[np.ndarray, str]:
    """(scaled unexcited draws of a population of these windows, the method): by the prior of the release where it suits them, else by a
    mixture, which suits any.

    Args:
      own: a study of scaled windows.
    """
    made = _draw(own, prior, seed) if suits(own, prior) else None
    return (made[0], prior.method) if made else (_draw(own, OTHERWISE, seed)[0], OTHERWISE.method)


def run(study: Study, scaled: np.ndarray, member: np.ndarray, asked: np.ndarray, prior: Prior, seed: int = 0,
        progress: Callable[[int], None] = lambda done: None) -> dict[str, Scores]:
    """Fits a prior to the members of every row of `member` and scores the windows `asked`: {view: Scores of [priors, asked]}; nothing
    where the windows of some row have no prior of this method.

    Args:
      study: of the windows; its labels, groups and kind are used.
      scaled: its windows, scaled [n, *shape].
      member: bool [priors, n].
      asked: int [m], rows of `scaled`.
      prior: one that :func:`suits`.
      progress: called with how many priors are done.
    """
    scorers = {name: _make_scorer(view, study, scaled, member, asked, seed)
               for name, view in make_views(scaled[member.any(0)]).items()}
    results = {name: [] for name in scorers}
    for i, inside in enumerate(member):
        made = _draw(dataclasses.replace(study, x=scaled).take(inside), prior, seed + i)
        if made is None:
            return {}
        for name, score in scorers.items():
            results[name].append(score(*made, inside, seed + i))
        progress(i + 1)
    return {name: Scores(*(np.stack(parts) for parts in zip(*several, strict=True))) for name, several in results.items()}


def _draw(own, prior, seed):
    """Unexcited draws of a prior fitted to members' scaled windows, and their classes; None where these windows have no such prior."""
    classes, trained = len(own.classes), prior.method in moments.FLOWS
    population = fit_population(own.x, own.kind, own.y, classes, seed)
    wanted = (prior.method, *['gaussian'] * trained)  # in whose coordinates a flow's draws are moved
    population = {name: value for name, value in population.items() if name.split('/')[0] in (*wanted, name)}
    if trained:
        population.update(flows.fit(own.x, own.y, validation_split(own, seed), classes, prior.flow, seed))
        if prior.method == moments.METHOD:
            population.update(moments.fit(population, own.shape, own.x, own.y, seed))
    if prior.method != 'direct' and not any(name.startswith(f'{prior.method}/') for name in population):
        return None
    if prior.put_right or prior.method in marginals.BY_BANDS:  # by bands, what is seen of draws is put right as well
        population.update(marginals.fit(population, own.shape, own.x, own.y, seed))
    return parameterisation.unexcited(prior.method, own.shape, population, draws(own), seed, put_right=prior.put_right)


def _make_scorer(view, study, scaled, member, asked, seed):
    """Builds ``score(draws, classes, inside, seed) -> Scores`` of one prior, as one view shows it."""
    flat, one_hot = view(scaled), np.eye(len(study.classes), dtype=np.float32)
    x, y = jnp.asarray(flat[asked]), jnp.asarray(study.y[asked], jnp.int32)
    compare = jax.jit(lambda made, belongs: (shadows.nearness(x, made), shadows.density(x, y, made, belongs)))
    everybody = np.flatnonzero(member.any(0))
    some = np.random.default_rng(seed).permutation(everybody)[:LOOKED_UP]
    step = _neighbour(flat[some], flat[everybody]) / 2 / np.sqrt(flat.shape[1])
    fewest = member.sum(1).min()  # released by each, whatever its size: one program compares them all

    def score(made, classes, inside, seed):
        rng = np.random.default_rng(seed)
        released = rng.permutation(np.flatnonzero(inside))[:fewest]
        blurred = flat[released] + step * rng.standard_normal((len(released), flat.shape[1]), np.float32)
        return Scores(*compare(view(made), one_hot[classes]), *compare(blurred, one_hot[study.y[released]]))

    return score


def _neighbour(some: np.ndarray, flat: np.ndarray) -> float:
    """The median distance from some rows [m, d] to the nearest other of all rows [n, d]; 0 is one's own."""
    distances = np.stack([np.sort(np.linalg.norm(flat - row, axis=1))[:2] for row in some])
    return float(np.median(distances[:, 1]))
