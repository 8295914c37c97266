"""Shadow priors: what stimuli of a release start from, fitted once more to random halves of the windows or people.

A shadow pipeline (:mod:`neurostim.evaluation.shadows`) is the whole way, made small; this is one part of it as it is, the very statistics
and draws of the release, for windows of any length. Excitation moves a draw little: what unexcited draws give away, stimuli do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from neurostim import columns
from neurostim.evaluation import shadows
from neurostim.excitation import marginals, parameterisation
from neurostim.excitation.population import fit_population
from neurostim.study import Study

METHODS = ('direct', 'spectral', 'gaussian', 'mixture', 'slanted', 'modulated', 'banded', 'pulsed')  # others train a network
MOST_PRIORS = 16  # that an attack makes
DRAWS, DRAWN_NUMBERS = (4096, 20_000), 2**22  # fewest and most draws of a prior, and the numbers in them between
MOST = 4000  # windows that an attacker asks about
LOOKED_UP = 200  # windows whose neighbours say how far it is to one


class Scores(NamedTuple):
    """What one prior gives away of each window: float32 [n] each, higher where a member is suspected.

    Attributes:
      distance, density: of unexcited draws, as for :class:`neurostim.evaluation.shadows.Scores`.
      own_distance, own_density: the same where members' own windows are released in place of draws, each blurred by noise as long as it is
        to its neighbour: the positive control.
    """

    distance: np.ndarray
    density: np.ndarray
    own_distance: np.ndarray
    own_density: np.ndarray


def make_view(like: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Builds ``view(scaled [n, *shape]) -> [n, d]``, what an attacker compares: the numbers that classical algorithms see of scaled windows
    (:mod:`neurostim.columns`), in standard deviations of those that are seen of the windows `like`."""
    usual = columns.columns(like).reshape(len(like), -1)
    mean, spread = usual.mean(0), usual.std(0)
    spread = spread + 1e-3 * spread.max()
    return lambda scaled: ((columns.columns(scaled).reshape(len(scaled), -1) - mean) / spread).astype(np.float32)


def draws(study: Study) -> int:
    """How many draws of each prior are looked at."""
    return int(np.clip(DRAWN_NUMBERS // np.prod(study.shape), *DRAWS))


def run(study: Study, scaled: np.ndarray, member: np.ndarray, asked: np.ndarray, method: str, put_right: bool, seed: int = 0,
        progress: Callable[[int], None] = lambda done: None) -> Scores:
    """Fits a prior to the members of every row of `member` and scores the windows `asked`: Scores of [priors, asked].

    Args:
      study: of the windows; its labels and kind are used.
      scaled: its windows, scaled [n, *shape].
      member: bool [priors, n].
      asked: int [m], rows of `scaled`.
      method: of the draws, one of `METHODS`.
      put_right: whether draws have their marginals put right.
      progress: called with how many priors are done.
    """
    everybody, classes = member.any(0), len(study.classes)
    view = make_view(scaled[everybody])
    flat = view(scaled)
    x, y = jnp.asarray(flat[asked]), jnp.asarray(study.y[asked], jnp.int32)
    score = jax.jit(lambda made, belongs: (shadows.nearness(x, made), shadows.density(x, y, made, belongs)))
    rng = np.random.default_rng(seed)
    some = rng.permutation(np.flatnonzero(everybody))[:LOOKED_UP]
    step = _neighbour(flat[some], flat[everybody]) / np.sqrt(flat.shape[1])
    counts = member.sum(1)
    results = []
    for i, inside in enumerate(member):
        own, label = scaled[inside], study.y[inside]
        population = fit_population(own, study.kind, label, classes, seed + i)
        population = {name: value for name, value in population.items() if name.split('/')[0] in (method, name)}
        if put_right or method in marginals.BY_BANDS:  # by bands, what is seen of draws is put right as well
            population.update(marginals.fit(population, study.shape, own, seed + i))
        x_drawn, y_drawn = parameterisation.unexcited(method, study.shape, population, draws(study), seed + i, put_right=put_right)
        # As many a prior, whatever its size: one program scores them all.
        released = rng.permutation(np.flatnonzero(inside))[:counts.min()]
        blurred = flat[released] + step * rng.standard_normal((len(released), flat.shape[1]), np.float32)
        results.append(Scores(*score(view(x_drawn), np.eye(classes, dtype=np.float32)[y_drawn]),
                              *score(blurred, np.eye(classes, dtype=np.float32)[study.y[released]])))
        progress(i + 1)
    return Scores(*(np.stack(parts) for parts in zip(*results, strict=True)))


def _neighbour(some: np.ndarray, flat: np.ndarray) -> float:
    """The median distance from some rows [m, d] to the nearest other of all rows [n, d]; 0 is one's own."""
    distances = np.stack([np.sort(np.linalg.norm(flat - row, axis=1))[:2] for row in some])
    return float(np.median(distances[:, 1]))
