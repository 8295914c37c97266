"""Figures of merit: those that scikit-learn has are equal to it, and the interval is what a plain bootstrap over groups gives."""

import warnings

import numpy as np
import pytest
from sklearn import metrics

from neurostim.evaluation import utility


def outcomes(classes, seed=0, n=200, absent=()):
    """Labels and better-than-chance beliefs; `absent` classes have no window but may be predicted."""
    rng = np.random.default_rng(seed)
    y = rng.choice([c for c in range(classes) if c not in absent], n)
    return y, rng.dirichlet(np.ones(classes), n) + 0.5 * np.eye(classes)[y]


pytestmark = pytest.mark.filterwarnings('ignore:y_pred contains classes not in y_true')  # scikit-learn, where it is asked


def cohen(y, predicted, classes):
    return metrics.cohen_kappa_score(y, predicted, labels=np.arange(classes))


def test_confusion_is_sklearns():
    y, beliefs = outcomes(4, absent=(2,))
    found = utility.confusion(y, beliefs.argmax(1), 4)
    np.testing.assert_array_equal(found, metrics.confusion_matrix(y, beliefs.argmax(1), labels=range(4)))


@pytest.mark.parametrize('classes,absent', [(2, ()), (3, ()), (5, ()), (5, (1, 4)), (3, (0,))])
@pytest.mark.parametrize('seed', range(3))
def test_score_is_sklearns(classes, absent, seed):
    """Means over classes leave out those without windows, as balanced accuracy does."""
    y, beliefs = outcomes(classes, seed, absent=absent)
    predicted, present = beliefs.argmax(1), np.unique(y)
    expected = {
        'accuracy': metrics.accuracy_score(y, predicted),
        'kappa': cohen(y, predicted, classes),
        'sensitivity': metrics.recall_score(y, predicted) if classes == 2 else metrics.balanced_accuracy_score(y, predicted),
        'specificity': (metrics.recall_score(y, predicted, pos_label=0) if classes == 2 else
                        np.mean([metrics.recall_score(y != c, predicted != c) for c in range(classes)])),
        'f1': metrics.f1_score(y, predicted, average='binary' if classes == 2 else 'macro'),
    }
    with warnings.catch_warnings(action='error'):
        found = utility.score(y, beliefs)
    auroc = found.pop('auroc')
    assert found == pytest.approx(expected)
    if len(present) < classes:
        assert np.isnan(auroc)
    else:
        one_against_rest = [metrics.roc_auc_score(y == c, beliefs[:, c] / beliefs.sum(1)) for c in range(classes)]
        assert auroc == pytest.approx(one_against_rest[1] if classes == 2 else np.mean(one_against_rest))


def test_scores_are_unmoved_by_a_change_that_keeps_the_order():
    y, beliefs = outcomes(2)
    assert utility.score(y, beliefs) == utility.score(y, beliefs.astype(np.float32) ** 3)


@pytest.mark.parametrize('y', [[0, 0, 0], [1, 1, 1]])
@pytest.mark.parametrize('said', [0, 1])
def test_one_class_only_is_scored_without_a_warning(y, said):
    with warnings.catch_warnings(action='error'):
        found = utility.score(np.array(y), np.eye(2)[[said] * 3])
    assert found['accuracy'] == (said == y[0]) and found['kappa'] == 0 and np.isnan(found['auroc'])


@pytest.mark.parametrize('matrix,expected', [
    ([[5, 0], [0, 5]], 1.0), ([[0, 5], [5, 0]], -1.0), ([[10, 0], [0, 0]], 0.0), ([[0, 10], [0, 0]], 0.0),
    ([[6, 0], [4, 0]], 0.0), ([[3, 3], [2, 2]], 0.0), ([[4, 0, 0], [0, 3, 0], [0, 0, 0]], 1.0)])
def test_kappa_of_edge_cases(matrix, expected):
    """Full agreement and full disagreement; raters who always say one class; one who does; no more than chance; an absent class."""
    assert utility.kappa(np.array(matrix)) == expected
    assert utility.kappa(np.array(matrix, float)) == expected


def test_kappa_of_a_stack_is_each_ones():
    matrices = np.random.default_rng(0).integers(0, 30, (4, 5, 3, 3))
    each = [[utility.kappa(matrix) for matrix in row] for row in matrices]
    np.testing.assert_array_equal(utility.kappa(matrices), each)


def grouped(groups=8, size=30, seeds=2, wrong=(0.1, 0.2), seed=0, spread=0.15):
    """Labels, groups, and predictions of two students whose errors differ from group to group."""
    rng = np.random.default_rng(seed)
    group = np.repeat(rng.permutation(groups) * 7 + 3, size)
    y = rng.integers(0, 3, groups * size)
    shift = np.repeat(rng.uniform(-spread, spread, groups), size)

    def predictions(share):
        return np.where(rng.random((seeds, len(y))) < share + shift, (y + rng.integers(1, 3, (seeds, len(y)))) % 3, y)

    return y, group, predictions(wrong[0]), predictions(wrong[1])


def plain_bootstrap(y, group, real, stimuli, draws):
    """The same in the words of a textbook: draw groups, put their windows together, take kappa."""
    rng, names, gaps = np.random.default_rng(99), np.unique(group), []
    for _ in range(draws):
        rows = np.concatenate([np.flatnonzero(group == g) for g in rng.choice(names, len(names))])
        gaps.append(np.mean([cohen(y[rows], r[rows], 3) for r in real]) - np.mean([cohen(y[rows], s[rows], 3) for s in stimuli]))
    return np.percentile(gaps, [2.5, 97.5])


def test_interval_is_a_plain_bootstraps():
    case = grouped()
    gap, interval = utility.gap_interval(*case, 3, draws=4000)
    y, _, real, stimuli = case
    assert gap == pytest.approx(np.mean([cohen(y, r, 3) for r in real]) - np.mean([cohen(y, s, 3) for s in stimuli]))
    low, high = plain_bootstrap(*case, 300)
    assert interval == pytest.approx([low, high], abs=0.15 * (high - low))
    assert interval[0] < gap < interval[1]


def test_both_students_see_the_same_groups():
    """Jointly resampled, groups that are hard for both do not widen the gap: a student has none from itself, and two that share most
    errors have a narrower one than two that err apart."""
    y, group, real, other = grouped(spread=0.1)
    assert utility.gap_interval(y, group, real, real, 3, draws=200) == (0.0, [0.0, 0.0])
    alike = np.where(np.random.default_rng(0).random(real.shape) < 0.05, other, real)
    together, apart = (np.ptp(utility.gap_interval(y, group, real, stimuli, 3)[1]) for stimuli in (alike, other))
    assert 0 < together < 0.5 * apart


def test_groups_are_the_unit():
    """Copies of each window bring no certainty; more groups do. Neither names nor order of groups matter."""
    y, group, real, stimuli = grouped()
    _, once = utility.gap_interval(y, group, real, stimuli, 3)
    _, copied = utility.gap_interval(np.tile(y, 4), np.tile(group, 4), np.tile(real, 4), np.tile(stimuli, 4), 3)
    assert copied == pytest.approx(once)
    _, as_windows = utility.gap_interval(y, np.arange(len(y)), real, stimuli, 3)
    order = np.random.default_rng(1).permutation(len(y))
    assert utility.gap_interval(y[order], group[order] * 10, real[:, order], stimuli[:, order], 3)[1] == pytest.approx(once)
    _, many = utility.gap_interval(*grouped(groups=80), 3)
    assert np.ptp(many) < 0.6 * np.ptp(once) and as_windows != once


def test_one_group_has_no_interval():
    y, group, real, stimuli = grouped(groups=1)
    gap, interval = utility.gap_interval(y, group, real, stimuli, 3)
    assert interval is None and gap == pytest.approx(np.mean([cohen(y, r, 3) for r in real]) - np.mean([cohen(y, s, 3) for s in stimuli]))


def test_interval_covers_the_true_gap():
    """Of 100 experiments with 25 groups about 95 intervals hold the gap of the whole population."""
    truth, _ = utility.gap_interval(*grouped(groups=2000, seed=12345), 3, draws=1)
    covered = 0
    for seed in range(100):
        _, (low, high) = utility.gap_interval(*grouped(groups=25, seed=seed), 3, draws=300)
        covered += low <= truth <= high
    assert 86 <= covered <= 100
