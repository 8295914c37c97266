"""Grows the trees of `neurostim/models/boosted.py`, by scikit-learn."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from threadpoolctl import threadpool_limits

from neurostim import models, training
from neurostim.models import boosted, layers

EVERY = 10  # rounds, after which it is validated
OPTIONS = {'learning_rate': 0.1, 'max_leaf_nodes': 16, 'max_depth': boosted.DEPTH, 'min_samples_leaf': 20, 'l2_regularization': 1.0}
MOST_ROWS = 60_000  # that trees are grown of
LOOKED_AT = 2000  # rows that the training loss is of
UNSEEN = -14.0  # what is said for a class that no row has: a belief of a millionth


def fit(spec, options: training.TrainingOptions, key: jax.Array, data: training.Examples, validation: training.Examples,
        until: int = training.NEVER) -> tuple[dict, training.History]:
    """As :func:`neurostim.training.fit`, of trees: a step is a round of boosting, and as many rounds are kept as know the validation
    windows best. Of the options `balance` alone matters: trees see where in a window something is, and learn windows as they begin.

    Args:
      data: each window counts for its likeliest class.
      until: rounds that are kept, whatever validation says.
    """
    _, shape, classes, _ = spec
    rows = np.sort(np.asarray(jax.random.permutation(key, int(data.n)))[:MOST_ROWS])
    x, targets = np.asarray(data.x)[rows], np.asarray(data.targets)[rows]
    weight = np.asarray(training.class_weights(targets.mean(0), options.balance))
    rounds = min(until, boosted.ROUNDS)
    numbers, leaves = _asked(shape, classes)
    params = _grow(numbers((), x), targets.argmax(1), weight, classes, rounds)
    kept = np.unique(np.minimum(np.arange(EVERY, rounds + EVERY, EVERY), rounds))

    def told(windows, truth):
        """(mean cross-entropy, kappa), each [len(kept)]: after so many rounds as `kept` says."""
        scores = leaves(params, windows).reshape(len(windows), boosted.ROUNDS, -1).cumsum(1)[:, kept - 1] + params['start']
        logits = np.asarray(boosted.logits_of(scores, classes))
        losses = (training.cross_entropy(logits, truth[:, None]) * (truth @ weight)[:, None]).mean(0)
        tables = np.einsum('nc,nrd->rcd', np.eye(classes)[truth.argmax(1)], np.eye(classes)[logits.argmax(-1)])
        return losses, jnp.stack([training.kappa_of(table, len(windows)) for table in tables])

    n = int(validation.n)
    losses, kappas = told(np.asarray(validation.x)[:n], np.asarray(validation.targets)[:n])
    history = training.History(jnp.float32(kept), told(x[:LOOKED_AT], targets[:LOOKED_AT])[0], losses, kappas)
    best = rounds if until < training.NEVER else int(kept[np.argmin(losses)])
    of_later = np.arange(len(params['leaf'])) // len(params['start']) >= best
    return {**params, 'leaf': np.where(of_later[:, None], np.float32(0), params['leaf'])}, history


@functools.cache
def _asked(shape, classes):
    """What is compiled once for windows of `shape`: (the numbers that trees see of them, what each tree's leaf says of them)."""
    model = models.create(boosted.NAME, shape, classes)
    return (training.by_blocks(lambda _, windows: layers.numbers(windows, shape)),
            training.by_blocks(lambda params, windows: model.apply(params, windows)[1]['leaves']))


def _grow(x, y, weight, classes, rounds) -> dict[str, np.ndarray]:
    """Parameters of :class:`neurostim.models.boosted.Network` that say of numbers x [n, d] what scikit-learn's trees say that learnt
    them under the classes y int [n], each class counting by weight [classes]."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    scores, inner = boosted.scores_of(classes), 2**boosted.DEPTH - 1
    feature, threshold = np.zeros((boosted.ROUNDS, scores, inner), np.int32), np.full((boosted.ROUNDS, scores, inner), np.inf, np.float32)
    leaf, there = np.zeros((boosted.ROUNDS, scores, inner + 1), np.float32), np.unique(y)
    start = np.where(np.isin(np.arange(classes), there), 0, UNSEEN).astype(np.float32)
    if scores == 1:
        start = start[1:] - start[:1]
    if len(there) > 1:
        grown = HistGradientBoostingClassifier(max_iter=rounds, early_stopping=False, random_state=0, **OPTIONS)
        with threadpool_limits(1):  # threads wait for each other, which takes minutes where another process wants the same cores
            grown.fit(x, y, weight[y] if len(np.unique(weight[there])) > 1 else None)
        # The trees themselves are not in scikit-learn's documented interface. Of two classes one score is told, that of the second.
        own = there[1:] if len(there) == 2 else there
        at = np.zeros(1, int) if scores == 1 else own
        start[at] += np.ravel(grown._baseline_prediction).astype(np.float32)
        for i, trees in enumerate(grown._predictors):
            for j, tree in zip(at, trees, strict=True):
                _as_complete(tree.nodes, 0, 0, feature[i, j], threshold[i, j], leaf[i, j])
    return {'feature': feature.reshape(-1, inner), 'threshold': threshold.reshape(-1, inner), 'leaf': leaf.reshape(-1, inner + 1),
            'start': start}


def _as_complete(nodes, node, place, feature, threshold, leaf):
    """Writes a tree's part below one of scikit-learn's `nodes` to the arrays of a complete tree, from `place` on."""
    inner, told = len(feature), nodes[node]
    if told['is_leaf']:
        while place < inner:  # its thresholds are infinite: all go left
            place = 2 * place + 1
        leaf[place - inner] = told['value']
        return
    feature[place], threshold[place] = told['feature_idx'], told['num_threshold']
    if threshold[place] > told['num_threshold']:  # a number in between, of 64 bits: of 32 bits the next below parts the same numbers
        threshold[place] = np.nextafter(threshold[place], np.float32(-np.inf))
    _as_complete(nodes, told['left'], 2 * place + 1, feature, threshold, leaf)
    _as_complete(nodes, told['right'], 2 * place + 2, feature, threshold, leaf)
