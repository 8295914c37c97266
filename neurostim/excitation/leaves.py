"""The leaves of trees as a density of feature vectors: within a leaf numbers are independent of each other, and what hangs together decides
which leaf it is.

An adversarial random forest (Watson et al. 2023, arXiv 2205.09435) is grown to tell a class's windows from ones whose numbers were drawn
independently of each other, and again to tell them from what was drawn leaf by leaf. Trees ask one number at a time. So a number that is
mostly one value, or is so wherever another is, stays as it is, where a Gaussian would smear it.

Of a leaf five quantiles of each number are kept. It has at least `FEWEST` windows, of which the outermost do not show.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)  # quantiles that are kept, as far apart as makes the mean of what is drawn that of the windows
FEWEST = 10  # windows of a leaf: what is said of it is no single window's
TREES = 30  # at most, of each class
LEAVES, NUMBERS = 8192, 2**23  # about as many at most, of all classes, and quantiles: what a table of them takes
ROWS = 8000  # most windows of a class that trees are grown with
ROUNDS = 2  # forests grown, each against the draws of the one before
LARGEST = 1024  # features


def suits(kind: str, shape: tuple[int, ...]) -> bool:
    """Whether windows of a study of this kind have leaves: feature vectors of at most `LARGEST` numbers."""
    return kind == 'features' and shape[0] <= LARGEST


def fitted(population: dict) -> bool:
    """Whether a population has leaves."""
    return 'leaves/quantiles' in population


def fit(x: np.ndarray, classes: np.ndarray, n_classes: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Grows a forest for each class; for one of fewer than `FEWEST` windows all windows stand in.

    Args:
      x: float [n, d], scaled.
      classes: int [n].

    Returns:
      {'leaves/quantiles': [leaves, levels, d]; 'leaves/upto': [leaves], a leaf's class plus the share of the class's windows that are in it
      or in one before it}.
    """
    rng = np.random.default_rng(seed)
    owned = [np.flatnonzero(classes == c) for c in range(n_classes)]
    rows = FEWEST * min(LEAVES, NUMBERS // (len(LEVELS) * x.shape[1]))  # as many in all trees together have about so many leaves
    owned = [rng.permutation(own if len(own) >= FEWEST else len(x))[:min(ROWS, rows // n_classes)] for own in owned]
    trees = int(np.clip(rows // sum(map(len, owned)), 1, TREES))
    quantiles, upto = [], []
    for label, own in enumerate(owned):
        tables, counts = zip(*(_table(x[own], nodes) for nodes in _grow(x[own], trees, rng)), strict=True)
        quantiles += tables
        counts = np.concatenate(counts)
        upto.append(label + np.cumsum(counts) / counts.sum())
    return {'leaves/quantiles': np.concatenate(quantiles), 'leaves/upto': np.concatenate(upto)}


def draw_leaf(population: dict, key, label):
    """The quantiles [levels, d] of a leaf of the class `label`, as often as windows are in it."""
    at = jnp.searchsorted(population['leaves/upto'], label + jax.random.uniform(key))
    return population['leaves/quantiles'][jnp.minimum(at, len(population['leaves/upto']) - 1)]


def place(quantiles, scores):
    """The vector [d] that standard normal scores [d] stand for in a leaf with quantiles [levels, d]: piecewise linear between them."""
    along = (len(LEVELS) - 1) * norm.cdf(scores)
    steps = jnp.clip(along - jnp.arange(len(LEVELS) - 1)[:, None], 0, 1)
    return quantiles[0] + (steps * jnp.diff(quantiles, axis=0)).sum(0)


def _grow(rows, trees, rng):
    """The last forest's trees, each as (the node of each row [n], which rows are in which node: bool [n, nodes]).

    A row's node is the deepest on its way through the tree that has `FEWEST` rows.
    """
    from sklearn.ensemble import RandomForestClassifier  # here: who excites grows nothing
    if len(rows) < 2 * FEWEST:
        return [(np.zeros(len(rows), int), np.ones((len(rows), 1), bool))]
    made = np.stack([rng.permutation(column) for column in rows.T], 1)
    for _ in range(ROUNDS):
        forest = RandomForestClassifier(trees, min_samples_leaf=FEWEST, random_state=int(rng.integers(2**31)))
        forest.fit(np.concatenate([rows, made]), np.repeat([1, 0], len(rows)))
        found = [_deepest(tree.decision_path(rows.astype(np.float32)).tocsc()) for tree in forest.estimators_]
        made = _drawn(rows, found, rng)
    return found


def _deepest(path):
    """The same of one tree, of the rows' ways through it: sparse [n, nodes], a node after the one above it."""
    inside = path[:, np.asarray(path.sum(0)).ravel() >= FEWEST].toarray().astype(bool)
    return inside.shape[1] - 1 - inside[:, ::-1].argmax(1), inside


def _drawn(rows, found, rng):
    """As many rows as there are, each of a random tree and node, each number that of any row of the node."""
    made = np.empty_like(rows)
    tree = rng.integers(0, len(found), len(rows))
    for t, (deepest, inside) in enumerate(found):
        mine = np.flatnonzero(tree == t)
        nodes = rng.choice(deepest, len(mine))
        for node in np.unique(nodes):
            those = mine[nodes == node]
            own = np.flatnonzero(inside[:, node])
            made[those] = np.take_along_axis(rows[own], rng.integers(0, len(own), (len(those), rows.shape[1])), 0)
    return made


def _table(rows, tree):
    """(quantiles [nodes, levels, d] of the nodes that rows belong to, how many do [nodes])."""
    deepest, inside = tree
    nodes, counts = np.unique(deepest, return_counts=True)
    # Of ten windows the nearest is never the outermost, and of a number that is one value or another it is no third.
    tables = [np.quantile(rows[inside[:, node]], LEVELS, axis=0, method='nearest') for node in nodes]
    return np.stack(tables).astype(np.float32), counts
