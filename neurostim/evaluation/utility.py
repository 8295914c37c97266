"""How good a student is, and what it loses by learning from stimuli instead of real windows."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn import metrics

SECONDARY = ('sensitivity', 'specificity', 'f1', 'auroc')


def confusion(y: np.ndarray, predicted: np.ndarray, classes: int, weights: np.ndarray | None = None) -> np.ndarray:
    """[classes, classes]; rows are true classes, columns predicted ones: how many windows, or the sum of their weights [n]."""
    return np.bincount(y * classes + predicted, weights, classes * classes).reshape(classes, classes)


def kappa(matrix: np.ndarray) -> np.ndarray:
    """Cohen's kappa of confusion matrices [..., classes, classes]; 0 where both raters always say one and the same class."""
    total = matrix.sum((-2, -1))
    observed = np.trace(matrix, axis1=-2, axis2=-1) / total
    expected = (matrix.sum(-1) * matrix.sum(-2)).sum(-1) / total**2
    return np.where(expected < 1, (observed - expected) / np.where(expected < 1, 1 - expected, 1), 0.0)


def score(y: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Accuracy and kappa; sensitivity, specificity and F1 (of the second of two classes, else the mean over classes); AUROC.

    Args:
      y: int [n].
      probabilities: [n, classes]; only their order matters.

    Returns:
      floats; nan where the test windows lack the class that it takes (AUROC: any class).
    """
    classes = probabilities.shape[1]
    matrix = confusion(y, probabilities.argmax(1), classes).astype(float)
    right, true, called = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    with np.errstate(invalid='ignore', divide='ignore'):
        sensitivity = right / true
        specificity = (matrix.sum() - true - called + right) / (matrix.sum() - true)
        f1 = 2 * right / (true + called)
    which = slice(1, 2) if classes == 2 else slice(None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            normalised = probabilities / probabilities.sum(1, keepdims=True)
            auroc = (metrics.roc_auc_score(y, probabilities[:, 1]) if classes == 2 else
                     metrics.roc_auc_score(y, normalised, multi_class='ovr', labels=np.arange(classes)))
    except ValueError:
        auroc = np.nan
    return {
        'accuracy': float(right.sum() / matrix.sum()), 'kappa': float(kappa(matrix)),
        'sensitivity': _mean(sensitivity[which]), 'specificity': _mean(specificity[which]), 'f1': _mean(f1[which]),
        'auroc': float(auroc)}


def _mean(values: np.ndarray) -> float:
    """Over what is not nan; nan where nothing is left."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else np.nan


def weighted_auc(scores: np.ndarray, member: np.ndarray, weight: np.ndarray) -> float:
    """Probability that a member's score exceeds a non-member's, half of a tie, each drawn as often as its weight says; nan where
    either have no weight.

    Args:
      scores: of any shape.
      member: bool, and weight: 0 or more, both of the same shape.
    """
    _, place = np.unique(scores, return_inverse=True)
    place, member, weight = place.ravel(), member.ravel(), weight.ravel().astype(float)
    inside, outside = (np.bincount(place, weight * mask, place.max() + 1) for mask in (member, ~member))
    below = np.cumsum(outside) - outside
    total = inside.sum() * outside.sum()
    return float((inside * (below + outside / 2)).sum() / total) if total else np.nan


def gap_interval(y: np.ndarray, group: np.ndarray, real: np.ndarray, stimuli: np.ndarray, classes: int,
                 draws: int = 2000, seed: int = 0) -> tuple[float, list[float] | None]:
    """The kappa gap (real minus stimuli, each a mean over seeds) and its 95 % bootstrap interval over groups.

    Groups (test subjects, records or blocks) are resampled with replacement, both students on the same draw, so that the
    interval speaks of new people, not of new windows of the same ones.

    Args:
      y, group: int [n].
      real, stimuli: int [seeds, n], predicted classes.

    Returns:
      (gap, [low, high]); None for an interval where there is one group only, which says nothing about others.
    """
    gap, drawn = gap_draws(y, group, real, stimuli, classes, draws, seed)
    return gap, None if drawn is None else np.percentile(drawn, [2.5, 97.5]).tolist()


def gap_draws(y: np.ndarray, group: np.ndarray, real: np.ndarray, stimuli: np.ndarray, classes: int,
              draws: int = 2000, seed: int = 0) -> tuple[float, np.ndarray | None]:
    """What :func:`gap_interval` is made of: (gap, its bootstrap draws [draws]), None for one group only.

    Equal `group`, `draws` and `seed` give the same groups in every draw: draws of several students may be averaged, or subtracted.
    """
    groups = np.unique(group)

    def tables(predictions):
        return np.stack([[confusion(y[group == g], row[group == g], classes) for row in predictions] for g in groups])

    weights = np.random.default_rng(seed).multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=draws)

    def kappas(predictions):
        per_group = tables(predictions).astype(float)
        drawn = np.einsum('dg,gsij->dsij', weights, per_group)
        return float(kappa(per_group.sum(0)).mean()), kappa(drawn).mean(1)

    real_kappa, real_draws = kappas(real)
    stimuli_kappa, stimuli_draws = kappas(stimuli)
    return real_kappa - stimuli_kappa, None if len(groups) < 2 else real_draws - stimuli_draws
