"""A rehearsal: which way of making stimuli serves students best, found out on the training windows before any stimulus is made in earnest.

No prior suits every study: a flow serves trees on breathing and fails kernel machines on heart rate, many steps sharpen networks and blunt
classical algorithms; where one class is rare, or classes shade into one another, other targets are better than the usual ones. So each
way makes a few stimuli, quick students learn from them, and their kappa on the teacher's own training windows decides. Test windows
take no part.

What users are promised is that no student loses by stimuli. So a student counts by what it knows up to what its twin knows, which learnt
from other training windows under whichever labels serve it better, the true ones or the teacher's, and little beyond: or one student's
gain would hide what another loses. Stimuli know the people who are asked about, and so do the twins.

A mixture describes the very windows that are asked about, as leaves do, and does better there than on other people's; a flow is kept at
its best on windows that it has not learnt from. So another way must be clearly better than the flow to be preferred, but of feature
vectors that are many, which a mixture averages; and than trains of pulses, whose shapes networks learn from, of which one alone is asked;
and many large steps clearly better than few small ones, which blunt no student much: of people left out students come to know less by
them than the windows that are asked about tell (BUILD_NOTES).
Whether the flow's draws are matched to the moments of those windows, their credit alone decides: they are the same draws, and little is
left to chance.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from neurostim import students, training
from neurostim.evaluation import utility
from neurostim.excitation import flow, marginals, moments, produce
from neurostim.sources import Source, synthetic_source
from neurostim.study import Study
from neurostim.teacher import Teacher
from neurostim.threads import side_by_side

STUDENTS = ('random_forest', 'svm', 'knn', 'logistic_regression', 'naive_bayes')  # unlike each other, and fitted in seconds
NETWORK, NETWORK_STEPS = 'cnn', 600  # asked too where windows have a shape: filters see in it what no classical algorithm sees
STIMULI = (1000, 3000, 2**24)  # of each way, at least and at most, and numbers in all of them
WINDOWS = 2000  # that students are asked about
FOLDS = 3  # of the training windows: a twin is asked about one and has learnt from the others
TWIN_WINDOWS = (6000, 2**24)  # windows, and numbers in them, that a twin learns from at most
BEYOND = 0.25  # by which a student's kappa counts where it is above its twin's
MARGIN = 0.01  # of kappa by which other targets than the usual, or larger steps, must be better: less may be chance
SHAPED = (*moments.FLOWS, 'pulsed')  # whose draws have the shapes of windows
SHAPED_MARGIN = 0.03  # by which another way must be better than these
BEST_OF_FOUR = {'steps': 1, 'learning_rate': 0.03, 'candidates': 4}  # settings of excitation: BUILD_NOTES
FURTHER = {'steps': 8, 'learning_rate': 0.05}  # from a flow's draws: they serve people left out (BUILD_NOTES)
# Of whose stimuli every other one stays as it was drawn in the end: some students learn more from draws and some from what is excited,
# others on another study, and questions about windows that the teacher knows do not tell who, nor what draws are worth (BUILD_NOTES).
LONG = ('pulsed', 'banded')
LOSS_SLACK = 1.1  # times its validation loss: what a teacher that learns from draws may come to, and be asked what its stimuli teach
UNEVEN = 1.15  # how many times as frequent as its even share a class must be for natural shares to be tried


def ways(population: dict[str, np.ndarray]) -> list[dict]:
    """What is tried: {field of :class:`neurostim.excitation.produce.Settings`: value} each, for what a population has."""
    gentle = {'steps': produce.DEFAULT_STEPS['flow'], 'learning_rate': produce.DEFAULT_LEARNING_RATE['flow']}
    flows = ['flow'] * flow.fitted(population) + [moments.METHOD] * moments.fitted(population)
    there = [name for name in ('pulsed', 'modulated', 'banded', 'slanted', 'mixture', 'leaves') if marginals.has(population, name)]
    if 'banded' in there:  # of thousands of samples a mixture knows next to nothing, and bands tell a class's rhythms
        there = [name for name in there if name not in ('mixture', 'modulated')]
    return [{'method': method, **search} for method in flows + there
            for search in ([{}, FURTHER] if method in moments.FLOWS else [{}, gentle, BEST_OF_FOUR])]


def other_targets(population: dict[str, np.ndarray]) -> list[dict]:
    """What is tried instead of even classes and beliefs that are mostly sure: {field of
    :class:`neurostim.excitation.produce.TargetSettings`: value} each. Two may serve together where neither does alone."""
    share = np.asarray(population['class_share'])
    natural, unsure = {'classes': 'natural'}, {'concentration': 2.0}
    return [natural, unsure, {**natural, **unsure}] if share.max() * len(share) > UNEVEN else [unsure]


def windows_asked(y: np.ndarray, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which windows students are asked about, and by how much each counts: of every class as many as of any other, as far as there are
    so many, and weights that make classes as frequent as they are. A few windows of a rare class would say little.

    Args:
      y: int [n], the classes of all windows.

    Returns:
      (rows [m], weights [m]) of `WINDOWS` windows, or of all.
    """
    order, rank = np.random.default_rng(seed).permutation(len(y)), np.empty(len(y), int)
    for label in range(classes):
        own = order[y[order] == label]
        rank[own] = np.arange(len(own))
    rows = np.argsort(rank, kind='stable')[:WINDOWS]
    weights = np.bincount(y, minlength=classes) / np.maximum(np.bincount(y[rows], minlength=classes), 1)
    return rows, weights[y[rows]]


def credit(kappas: np.ndarray, twins: np.ndarray) -> float:
    """What students' kappas [n] are worth beside their twins': the mean, where what is above a twin's counts by `BEYOND`."""
    return float(np.mean(np.minimum(kappas, twins) + BEYOND * np.maximum(kappas - twins, 0)))


def quick_students(shape: tuple[int, ...]) -> tuple[str, ...]:
    """Who is asked about windows of `shape`."""
    return (*[NETWORK] * (len(shape) > 1), *STUDENTS)


class Lesson(NamedTuple):
    """Scaled windows x [n, *shape] of distributions targets [n, classes] to learn from, and windows asked [m, *shape] to be asked about."""

    x: np.ndarray
    targets: np.ndarray
    asked: np.ndarray


def answers(lessons: list[Lesson], shift: float, seed: int) -> list[np.ndarray]:
    """int [students, m] for each lesson: what :func:`quick_students` say. The network stops by a tenth of what it learns from, and may
    learn from shifted windows (`training.TrainingOptions.shift`)."""
    names, networks = quick_students(lessons[0].x.shape[1:]), students.training_options(shift, NETWORK_STEPS)

    def answer(one):
        (x, targets, asked), name = one
        source = synthetic_source(x, targets, seed) if name == NETWORK else Source(x, targets, np.zeros(len(x), bool))
        return students.fit(name, source, seed, networks).predict(asked).argmax(1)

    said = side_by_side(answer, list(itertools.product(lessons, names)))
    return [np.stack(said[i:i + len(names)]) for i in range(0, len(said), len(names))]


def answers_of_twins(train: Study, teacher: Teacher, rows: np.ndarray, seed: int) -> np.ndarray:
    """int [2, students, m]: what quick students that learnt from other windows of `train`, under true labels and under the teacher's, say
    of its windows `rows` [m]."""
    scaled, order = teacher.scaling.forward, np.random.default_rng(seed).permutation(len(train.y))
    fold, lessons = order % FOLDS, []
    for i in range(FOLDS):
        others = order[fold[order] != i][:train.most_windows(*TWIN_WINDOWS)]
        x, asked = scaled(train.x[others]), scaled(train.x[rows[fold[rows] == i]])
        truth = np.eye(len(train.classes), dtype=np.float32)[train.y[others]]
        lessons += [Lesson(x, truth, asked), Lesson(x, teacher.predict_scaled(x), asked)]
    said = np.zeros((2, len(quick_students(train.shape)), len(rows)), int)
    for i, found in enumerate(answers(lessons, teacher.shift, seed)):
        said[i % 2][:, fold[rows] == i // 2] = found
    return said


Trial = Callable[[Teacher, dict, dict], float]  # of a teacher, a way and other targets: what quick students of its stimuli are worth


def make_trial(train: Study, first: Teacher, seed: int = 0, report: Callable[[str], None] = lambda text: None) -> Trial:
    """Builds ``trial(teacher, way, target) -> credit of quick students``.

    Args:
      train: the training windows, in the study's units.
      first: a teacher whose scaling, and shift in training, are those of all that are tried, and whose beliefs some twins learn; it needs
        no population.
      report: called with a line of text for each trial.
    """
    (rows, weights), names = windows_asked(train.y, len(train.classes), seed), quick_students(train.shape)
    x, truth, scaled = first.scaling.forward(train.x[rows]), train.y[rows], first.scaling.forward
    least, most, numbers = STIMULI
    count = int(np.clip(numbers // math.prod(train.shape), least, most))

    def known(said):
        return np.array([float(utility.kappa(utility.confusion(truth, labels, len(train.classes), weights))) for labels in said])

    twins = np.maximum(*(known(said) for said in answers_of_twins(train, first, rows, seed)))
    report('quick students of real windows: kappa ' + ', '.join(f'{name} {kappa:.3f}' for name, kappa in zip(names, twins, strict=True)))

    def trial(teacher, way, target):
        settings = produce.resolve(produce.Settings(count=count, target=produce.TargetSettings(**target), **way), teacher)
        made = produce.generate(teacher, settings, seed)
        kappas = known(*answers([Lesson(scaled(made.x), made.probabilities, x)], first.shift, seed))
        credited = credit(kappas, twins)
        told = [f'{settings.steps} steps of {settings.learning_rate:g}', *[f'best of {settings.candidates}'] * (settings.candidates > 1),
                *['marginals as they come'] * (not settings.marginals), *(f'{name} {value}' for name, value in target.items())]
        report(f'{settings.method}, {", ".join(told)}: kappa {kappas.mean():.3f} of quick students, credited {credited:.3f}')
        return credited

    return trial


def _preferred(teacher: Teacher) -> Callable[[tuple[float, dict]], float]:
    """Builds (credit, way) -> the credit, and what another way must be better by; gentle steps are as small as the flow's own."""
    many_vectors = len(teacher.shape) == 1 and teacher.windows > training.FEW[0]

    def preferred(scored):
        credited, way = scored
        rate = way.get('learning_rate', produce.DEFAULT_LEARNING_RATE.get(way['method'], 0.1))
        gentle = rate <= produce.DEFAULT_LEARNING_RATE['flow']
        return credited + SHAPED_MARGIN * (way['method'] in SHAPED and not many_vectors) + MARGIN * gentle

    return preferred


def _credits(trial: Trial, teacher: Teacher, tried: list[tuple[dict, dict]]) -> list[float]:
    """The credit of each (way, target) that is tried. Several methods side by side, for while one is compiled students of another can
    learn; the ways of a method one after another, for they share a program."""
    programs: dict = {}
    for i, (way, target) in enumerate(tried):
        programs.setdefault((way['method'], *target.items()), []).append(i)
    found = side_by_side(lambda rows: [trial(teacher, *tried[i]) for i in rows], programs.values(), at_once=produce.PROGRAMS)
    credits = dict(zip(itertools.chain(*programs.values()), itertools.chain(*found), strict=True))
    return [credits[i] for i in range(len(tried))]


def rehearse(teacher: Teacher, trial: Trial) -> dict:
    """The one of :func:`ways` whose students have the highest credit, its marginals as they come where that does better, and then the
    one of :func:`other_targets` that does still better: {field: value} of settings and target settings together."""
    tried = ways(teacher.population)
    best, way = max(zip(_credits(trial, teacher, [(way, {}) for way in tried]), tried, strict=True), key=_preferred(teacher))
    if marginals.fitted(teacher.population, way['method']):
        credited = trial(teacher, {**way, 'marginals': False}, {})
        if credited > best:
            best, way = credited, {**way, 'marginals': False}
    targets = other_targets(teacher.population)
    credits = _credits(trial, teacher, [(way, target) for target in targets])
    credited, target = max(zip(credits, targets, strict=True), key=lambda scored: scored[0])
    return {**way, **target} if credited > best + MARGIN else way


def with_draws(rehearsed: dict) -> dict:
    """What was rehearsed, and of the methods of `LONG` every other stimulus as it was drawn."""
    return {**rehearsed, 'as_drawn': True} if rehearsed['method'] in LONG else rehearsed


def better(teacher: Teacher, other: Teacher, trial: Trial, report: Callable[[str], None] = lambda text: None) -> Teacher:
    """The other teacher, if it knows held-out windows hardly worse (`LOSS_SLACK`) and its stimuli teach quick students clearly more
    (`MARGIN`); else the first.

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
    mine = trial(teacher, way, target)
    credits = _credits(trial, other, [(search, target) for search in again])
    others, chosen = max(zip(credits, again, strict=True), key=_preferred(teacher))
    return dataclasses.replace(other, rehearsed={**chosen, **target}) if others > mine + MARGIN else teacher
