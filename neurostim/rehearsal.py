"""A rehearsal: which way of making stimuli serves students best, found out on the training windows before any stimulus is made in earnest.

No prior suits every study: a flow serves trees on breathing and fails kernel machines on heart rate, many steps sharpen networks and blunt
classical algorithms. So each way makes a few stimuli, quick students learn from them, and their kappa on the teacher's own training windows
decides. Test windows take no part.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from neurostim import students
from neurostim.evaluation import utility
from neurostim.excitation import flow, produce
from neurostim.teacher import Teacher

STUDENTS = ('random_forest', 'svm', 'knn', 'logistic_regression', 'naive_bayes')  # unlike each other, and fitted in seconds
STIMULI = 3000  # of each way
WINDOWS = 2000  # that students are asked about


def ways(population: dict[str, np.ndarray]) -> list[dict]:
    """What is tried: {field of :class:`neurostim.excitation.produce.Settings`: value} each, for what a population has."""
    gentle = {'steps': produce.DEFAULT_STEPS['flow'], 'learning_rate': produce.DEFAULT_RATE['flow']}
    there = {'flow': flow.fitted(population), 'modulated': 'modulated/mean' in population, 'mixture': True}
    return [{'method': method, **steps} for method in there if there[method] for steps in ({}, gentle)[: 1 if method == 'flow' else 2]]


def rehearse(teacher: Teacher, x: np.ndarray, y: np.ndarray, seed: int = 0, report: Callable[[str], None] = lambda text: None) -> dict:
    """The one of :func:`ways` whose students have the highest mean kappa.

    Args:
      x: float32 [n, *shape], training windows in the study's units.
      y: int [n], their classes.
      report: called with a line of text for each way.
    """
    rows = np.random.default_rng(seed).permutation(len(x))[:WINDOWS]
    asked, truth = teacher.scaling.forward(x[rows]), y[rows]

    def score(way):
        settings = produce.resolve(produce.Settings(count=STIMULI, **way), teacher)
        made = produce.generate(teacher, settings, seed)
        shown, all_of_them = teacher.scaling.forward(made.x), np.zeros(len(made.x), bool)
        answers = (students.fit(name, shown, made.probabilities, seed, all_of_them).predict(asked) for name in STUDENTS)
        kappa = float(np.mean([utility.score(truth, answer)['kappa'] for answer in answers]))
        report(f'{settings.method}, {settings.steps} steps of {settings.learning_rate:g}: kappa {kappa:.3f} of quick students')
        return kappa

    return max(ways(teacher.population), key=score)
