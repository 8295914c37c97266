"""Our attack on membership beside another library's: both find the members of a student that memorises, and nobody else."""

import numpy as np
import pytest
from sklearn import metrics

from neurostim import students
from neurostim.evaluation import membership
from neurostim.sources import Source

pytest.importorskip('art', reason="adversarial-robustness-toolbox is an extra: pip install 'neurostim[attacks]'")

MODELS, WINDOWS, CLASSES = 9, 120, 2


def noise(seed=0):
    """Windows and labels that have nothing to do with them: who is right about them has learnt them by heart."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(WINDOWS, 8, 1)).astype(np.float32), rng.integers(0, CLASSES, WINDOWS)


def forests(x, y, member):
    """A forest for each row of `member` [models, n]."""
    one_hot = np.eye(CLASSES, dtype=np.float32)[y]
    return [students.fit('random_forest', Source(x[row], one_hot[row], np.zeros(row.sum(), bool)), seed) for seed, row in enumerate(member)]


def library_auc(student, x, y, inside):
    """The black-box attack: a model learns from the student's beliefs about half of the windows who is in, and is asked about the rest."""
    from art.attacks.inference.membership_inference import MembershipInferenceBlackBox
    from art.estimators.classification import BlackBoxClassifier
    classifier = BlackBoxClassifier(student.predict, x.shape[1:], CLASSES)
    attack = MembershipInferenceBlackBox(classifier, attack_model_type='rf')
    known = np.arange(len(y)) % 2 == 0
    np.random.seed(0)  # of its forest
    attack.fit(x[known & inside], y[known & inside], x[known & ~inside], y[known & ~inside])
    return metrics.roc_auc_score(inside[~known], attack.infer(x[~known], y[~known], probabilities=True).ravel())


def our_auc(models, x, y, member):
    """LiRA against the first model, the others serve the attacker."""
    beliefs = np.stack([np.clip(model.predict(x)[np.arange(len(y)), y], 1e-3, 1 - 1e-3) for model in models])
    scores = np.log(beliefs / (1 - beliefs))
    return metrics.roc_auc_score(member[0], membership.lira(scores, member)[0])


def test_two_libraries_find_the_members_that_a_forest_remembers():
    x, y = noise()
    member = membership.halves(np.arange(WINDOWS), MODELS, 0)
    models = forests(x, y, member)
    ours, theirs = our_auc(models, x, y, member), library_auc(models[0], x, y, member[0])
    assert ours > 0.9 and theirs > 0.8 and ours > theirs - 0.05


def test_neither_finds_members_of_a_forest_that_never_saw_them():
    x, y = noise()
    elsewhere, labels = noise(seed=1)
    member = membership.halves(np.arange(WINDOWS), MODELS, 0)
    models = forests(elsewhere, labels, member)
    assert abs(our_auc(models, x, y, member) - 0.5) < 0.2 and abs(library_auc(models[0], x, y, member[0]) - 0.5) < 0.2
