"""A rehearsal: which way of making stimuli serves students best, found out on the training windows before any stimulus is made in earnest.

No prior suits every study: a flow serves trees on breathing and fails kernel machines on heart rate, many steps sharpen networks and blunt
classical algorithms; where one class is rare, or classes shade into one another, other targets are better than the usual ones. So each
way makes a few stimuli, quick students learn from them, and their kappa on the teacher's own training windows decides. Test windows
take no part.

A mixture describes the very windows that are asked about, and does better there than on other people's; a flow is kept at its best on
windows that it has not learnt from. So another way must be clearly better than the flow to be preferred, and many large steps clearly
better than few small ones, which blunt no student much.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from neurostim import students
from neurostim.evaluation import utility
from neurostim.excitation import flow, marginals, produce
from neurostim.sources import Source
from neurostim.teacher import Teacher

STUDENTS = ('random_forest', 'svm', 'knn', 'logistic_regression', 'naive_bayes')  # unlike each other, and fitted in seconds
STIMULI = (1000, 3000, 2**24)  # of each way, at least and at most, and numbers in all of them
WINDOWS = 2000  # that students are asked about
MARGIN = 0.01  # of kappa by which other targets than the usual, or larger steps, must be better: less may be chance
FLOW_MARGIN = 0.03  # by which another way must be better than the flow
BEST_OF_FOUR = {'steps': 1, 'learning_rate': 0.03, 'candidates': 4}  # settings of excitation: BUILD_NOTES
FURTHER = {'steps': 8, 'learning_rate': 0.05}  # from a flow's draws: they serve people left out (BUILD_NOTES)
LOSS_SLACK = 1.05  # times its validation loss: what a teacher that learns from draws may come to, and be asked what its stimuli teach
UNEVEN = 1.15  # how many times as frequent as its even share a class must be for natural shares to be tried


def ways(population: dict[str, np.ndarray]) -> list[dict]:
    """What is tried: {field of :class:`neurostim.excitation.produce.Settings`: value} each, for what a population has."""
    gentle = {'steps': produce.DEFAULT_STEPS['flow'], 'learning_rate': produce.DEFAULT_LEARNING_RATE['flow']}
    there = [name for name in ('modulated', 'banded', 'slanted', 'mixture') if f'{name}/mean' in population]
    if 'banded' in there:  # of thousands of samples a mixture knows next to nothing
        there.remove('mixture')
    return [{'method': method, **search} for method in ['flow'] * flow.fitted(population) + there
            for search in ([{}, FURTHER] if method == 'flow' else [{}, gentle, BEST_OF_FOUR])]


def other_targets(population: dict[str, np.ndarray]) -> list[dict]:
    """What is tried instead of even classes and beliefs that are mostly sure: {field of
    :class:`neurostim.excitation.produce.TargetSettings`: value} each. Two may serve together where neither does alone."""
    share = np.asarray(population['class_share'])
    natural, unsure = {'classes': 'natural'}, {'concentration': 2.0}
    return [natural, unsure, {**natural, **unsure}] if share.max() * len(share) > UNEVEN else [unsure]


def _trial(teacher: Teacher, x: np.ndarray, y: np.ndarray, seed: int, report: Callable[[str], None]) -> Callable[[dict, dict], float]:
    """Builds ``score(way, target) -> mean kappa of quick students``, for arguments as of :func:`rehearse`."""
    rows = np.random.default_rng(seed).permutation(len(x))[:WINDOWS]
    least, most, numbers = STIMULI
    count = int(np.clip(numbers // math.prod(teacher.shape), least, most))
    asked, truth = teacher.scaling.forward(x[rows]), y[rows]

    def score(way, target):
        settings = produce.resolve(produce.Settings(count=count, target=produce.TargetSettings(**target), **way), teacher)
        made = produce.generate(teacher, settings, seed)
        source = Source(teacher.scaling.forward(made.x), made.probabilities, np.zeros(len(made.x), bool))
        answers = (students.fit(name, source, seed).predict(asked) for name in STUDENTS)
        kappa = float(np.mean([utility.score(truth, answer)['kappa'] for answer in answers]))
        told = f', best of {settings.candidates}' * (settings.candidates > 1) + ', marginals as they come' * (not settings.marginals)
        told += ''.join(f', {name} {value}' for name, value in target.items())
        report(f'{settings.method}, {settings.steps} steps of {settings.learning_rate:g}{told}: kappa {kappa:.3f} of quick students')
        return kappa

    return score


def _preferred(scored: tuple[float, dict]) -> float:
    """The kappa of a way, and what another must be better by; gentle steps are as small as the flow's own."""
    kappa, way = scored
    gentle = way.get('learning_rate', produce.DEFAULT_LEARNING_RATE.get(way['method'], 0.1)) <= produce.DEFAULT_LEARNING_RATE['flow']
    return kappa + FLOW_MARGIN * (way['method'] == 'flow') + MARGIN * gentle


def rehearse(teacher: Teacher, x: np.ndarray, y: np.ndarray, seed: int = 0, report: Callable[[str], None] = lambda text: None) -> dict:
    """The one of :func:`ways` whose students have the highest mean kappa, its marginals as they come where that does better, and then the
    one of :func:`other_targets` that does still better.

    Args:
      x: float32 [n, *shape], training windows in the study's units.
      y: int [n], their classes.
      report: called with a line of text for each trial.

    Returns:
      {field: value} of settings and target settings together.
    """
    score = _trial(teacher, x, y, seed, report)
    kappas = [(score(way, {}), way) for way in ways(teacher.population)]
    best, way = max(kappas, key=_preferred)
    if marginals.fitted(teacher.population, way['method']):
        kappa = score({**way, 'marginals': False}, {})
        if kappa > best:
            best, way = kappa, {**way, 'marginals': False}
    kappa, target = max(((score(way, target), target) for target in other_targets(teacher.population)), key=lambda scored: scored[0])
    return {**way, **target} if kappa > best + MARGIN else way


def better(teacher: Teacher, other: Teacher, x: np.ndarray, y: np.ndarray, seed: int = 0,
           report: Callable[[str], None] = lambda text: None) -> Teacher:
    """The other teacher, if it knows held-out windows hardly worse (`LOSS_SLACK`) and its stimuli teach quick students more; else the
    first. Arguments as for :func:`rehearse`.

    Both are excited by the method and towards the targets that the first one rehearsed; how far the other one is, is rehearsed anew.
    """
    if other.validation_loss() > LOSS_SLACK * teacher.validation_loss():
        report(f'kept as it was: validation loss {teacher.validation_loss():.3f}, with draws {other.validation_loss():.3f}')
        return teacher
    found = teacher.rehearsed
    target = {name: found[name] for name in produce.REHEARSED_TARGETS if name in found}
    way = {name: value for name, value in found.items() if name not in target}
    as_they_come = {'marginals': False} if not way.get('marginals', True) else {}
    again = [{**search, **as_they_come} for search in ways(teacher.population) if search['method'] == way['method']]
    mine, score = _trial(teacher, x, y, seed, report)(way, target), _trial(other, x, y, seed, report)
    others, chosen = max(((score(search, target), search) for search in again), key=_preferred)
    return dataclasses.replace(other, rehearsed={**chosen, **target}) if others > mine else teacher
