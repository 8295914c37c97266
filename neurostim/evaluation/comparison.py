"""Trains every student on real windows, on stimuli and on the unexcited control, and compares them on the same real test windows."""

from __future__ import annotations

import hashlib
import io
import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from neurostim import models, students, training
from neurostim.committee import validation_split
from neurostim.evaluation import utility
from neurostim.files import write_whole
from neurostim.sources import Source, digest
from neurostim.study import Study
from neurostim.teacher import Teacher
from neurostim.threads import side_by_side

SOURCES = ('real', 'stimuli', 'control')
TWINS = ('real', 'real_soft')  # true labels, the teacher's
LEARNT = (60_000, 2**28)  # real windows, and numbers in them, that a twin learns from at most: as many as own studies have stimuli
TESTED = (20_000, 2**27)  # test windows, and numbers in them, that students are asked about at most
CHECKED = 3  # seeds of a network by which its twin's labels are chosen, at most: by one, chance may choose the worse ones (BUILD_NOTES)
FEW_GROUPS = 6  # or people, below which an interval over groups is too narrow: not even their whole range holds the median with 95 %


class Task(NamedTuple):
    """One student to be trained: on which source, with which seed."""

    student: str
    source: str
    seed: int


def real_sources(study: Study, teacher: Teacher) -> dict[str, Source]:
    """The real training windows twice: 'real' with true labels, 'real_soft' with the teacher's beliefs.

    `real_check` and `real_soft_check` leave out the held windows: a classical algorithm, which otherwise learns from all, is validated
    there; what it is tuned by is held out of the rest. Of more than `LEARNT` windows as many are drawn at random.
    """
    train = study.part(test=False).at_most(*LEARNT)
    x = teacher.scaling.forward(train.x)
    held = validation_split(train, seed=0)
    truth = np.eye(len(study.classes), dtype=np.float32)[train.y]
    sources = {'real': Source(x, truth, held), 'real_soft': Source(x, teacher.predict_scaled(x), held)}
    inner = validation_split(train.take(~held), seed=0)
    checks = {f'{name}_check': Source(source.x[~held], source.targets[~held], inner) for name, source in sources.items()}
    return sources | checks


CHECKSUM_BYTES = hashlib.sha256().digest_size


class Cache:
    """Predictions on disk, so that a killed evaluation goes on where it stopped; None as a folder keeps nothing.

    Args:
      folder: created when needed.
      content: a digest of all data and settings that predictions depend on; others' are never returned, nor those of students that were
        made by another recipe (`students.RECIPE`, `students.RECIPES`).
    """

    def __init__(self, folder: pathlib.Path | None, content: str):
        self._folder, self._content = folder, content

    def get(self, task: Task, advice: students.Advice | None = None) -> np.ndarray | None:
        """The probabilities of a finished task, of a student that was so advised; None where there are none, or damaged ones."""
        path = self._path(task, advice)
        if path is None or not path.exists():
            return None
        content = path.read_bytes()
        content, checksum = content[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
        return np.load(io.BytesIO(content), allow_pickle=False) if hashlib.sha256(content).digest() == checksum else None

    def put(self, task: Task, probabilities: np.ndarray, advice: students.Advice | None = None) -> None:
        """Keeps a finished task's probabilities, whole or not at all."""
        path = self._path(task, advice)
        if path is None:
            return
        buffer = io.BytesIO()
        np.save(buffer, probabilities.astype(np.float32), allow_pickle=False)
        write_whole(path, buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())

    def _path(self, task, advice):
        if self._folder is None:
            return None
        recipe = students.RECIPES.get(task.student, students.RECIPE)
        told = () if advice is None else tuple(advice)
        return self._folder / digest(self._content, recipe, *told)[:16] / f'{task.student}-{task.source}-{task.seed}.npy'


def _tasks(name: str, seeds: int, sources) -> list[Task]:
    seeds = 1 if students.is_deterministic(name) else seeds
    return [Task(name, source, seed) for source in sources for seed in range(seeds)]


def count_tasks(names: tuple[str, ...], seeds: int, few: bool) -> int:
    """How many students :func:`train_all` trains; a network's real twin is chosen among students that count already, unless windows are
    few (:func:`check_tasks`)."""
    checked = min(seeds, CHECKED)
    return sum(len(_tasks(name, seeds, SOURCES)) + ((2 * checked if few else checked) if name in models.NAMES else 2) for name in names)


def train_one(task: Task, source: Source, x: np.ndarray, cache: Cache, options: training.TrainingOptions,
              capacity: tuple[int, int], advice: students.Advice | None = None) -> np.ndarray:
    """Probabilities [n, classes] of one student for scaled windows x [n, *shape]; kept ones where there are any.

    Args:
      options, capacity, advice: see :func:`neurostim.students.fit`.
    """
    kept = cache.get(task, advice)
    if kept is not None:
        return kept
    student = students.fit(task.student, source, task.seed, options, capacity, advice)
    predicted = student.predict(x)
    cache.put(task, predicted, advice)
    return predicted


def check_tasks(name: str, source: str, seeds: int, few: bool) -> list[Task]:
    """Which students are validated for a real twin of `TWINS`: networks, which have not learnt from the held windows, of up to `CHECKED`
    seeds; a classical algorithm has, and so has a network where windows are few (:func:`neurostim.students.learns_from_all`), and is
    trained without them for this."""
    if name in models.NAMES:
        return [Task(name, f'{source}_check' if few else source, seed) for seed in range(min(seeds, CHECKED))]
    return [Task(name, f'{source}_check', 0)]


def better_twin(predicted: dict[str, list[np.ndarray]], y: np.ndarray) -> str:
    """The one of `TWINS` with the higher kappa on the held-out training windows; the first where they are equal.

    Args:
      predicted: {twin: probabilities [n, classes] of each of the students that :func:`check_tasks` names}.
      y: int [n], true labels.
    """
    def validated(source):
        return np.mean([utility.kappa(utility.confusion(y, p.argmax(1), p.shape[1]).astype(float)) for p in predicted[source]])
    return max(TWINS, key=validated)


def train_all(names: tuple[str, ...], seeds: int, sources: dict[str, Source], test_x: np.ndarray, validation: tuple[np.ndarray, np.ndarray],
              cache: Cache, networks: training.TrainingOptions, progress: Callable[[int], None] = lambda done: None,
              told: Mapping[tuple[str, str], students.Advice] | None = None) -> dict[Task, np.ndarray]:
    """Trains all students and predicts the test windows.

    The real twin learns from true or from the teacher's labels, whichever validates better (kappa against true labels on
    `validation`, the mean of the first seeds): the comparison must not be won against a weak twin.

    Args:
      sources: those of :func:`real_sources`, 'stimuli' and 'control'.
      test_x: scaled test windows.
      validation: (scaled x, true y) of the held-out training windows.
      networks: how these are trained, on whatever source (:func:`neurostim.students.training_options`).
      progress: called with how many are trained, of :func:`count_tasks`.
      told: {(student, source): how it is to learn}, of :func:`neurostim.evaluation.advice.advise_all`; None where nobody is told.

    Returns:
      {Task(student, 'real' | 'stimuli' | 'control', seed): probabilities [test windows, classes]}.
    """
    capacity = training.capacities([source for name, source in sources.items() if not name.endswith('_check')])
    chosen = {}

    both = np.concatenate([test_x, validation[0]])  # the validation windows' predictions choose the twin

    def train(task: Task) -> np.ndarray:
        advice = (told or {}).get((task.student, task.source))
        return train_one(task, sources[task.source], both, cache, networks, capacity, advice)

    few = students.learns_from_all(sources['real'])
    first = [task for source in TWINS for name in names for task in check_tasks(name, source, seeds, few)]
    first += [task for source in ('stimuli', 'control') for name in names for task in _tasks(name, seeds, (source,))]
    # Networks, which take longest, before the others; and another one each time, so that two threads do not compile the same.
    first.sort(key=lambda task: (task.student not in models.NAMES, task.seed))
    results: dict[Task, np.ndarray] = {}

    def run(tasks):
        def keep(i, predicted):
            results[tasks[i]] = predicted
            progress(len(results))
        side_by_side(train, tasks, keep)

    run(first)
    n = len(test_x)
    for name in names:
        checked = {source: [results[task][n:] for task in check_tasks(name, source, seeds, few)] for source in TWINS}
        chosen[name] = better_twin(checked, validation[1])
    run([task for name in names for task in _tasks(name, seeds, (chosen[name],)) if task not in results])
    named = {}
    for name in names:
        for source in SOURCES:
            origin = chosen[name] if source == 'real' else source
            for seed in range(seeds):
                trained_seed = 0 if students.is_deterministic(name) else seed
                named[Task(name, source, seed)] = results[Task(name, origin, trained_seed)][:n]
    return named


def compare(names: tuple[str, ...], seeds: int, predictions: dict[Task, np.ndarray], test: Study,
            draws: int = 2000) -> tuple[list[dict], dict]:
    """The `students` of results.json, a row each, and the confusion matrices summed over seeds.

    Besides accuracies, kappas and the gap a row has the standard deviation of kappa over seeds (`kappa_sd`), the secondary metrics, and a
    `note` where the test windows come from too few groups or people for an interval that can be relied on.
    """
    classes, groups, people = len(test.classes), len(np.unique(test.group)), len(np.unique(test.subject))
    rows, matrices = [], {}
    for name in names:
        row = {'name': name, 'seeds': seeds}
        for source in SOURCES:
            scores = [utility.score(test.y, predictions[Task(name, source, seed)]) for seed in range(seeds)]
            row[source] = {key: float(np.mean([s[key] for s in scores])) for key in scores[0]}
            row[source]['kappa_sd'] = float(np.std([s['kappa'] for s in scores]))
        called = {source: np.stack([predictions[Task(name, source, seed)].argmax(1) for seed in range(seeds)]) for source in SOURCES}
        row['kappa_gap'], row['kappa_gap_ci95'] = utility.gap_interval(
            test.y, test.group, called['real'], called['stimuli'], classes, draws)
        if groups < 2:
            row['note'] = 'no interval: all test windows are of one subject, record or block'
        elif min(groups, people) < FEW_GROUPS:
            row['note'] = f'the interval rests on {groups} test subjects, records or blocks, of {people} people: it is too narrow'
        matrices[name] = {source: sum(utility.confusion(test.y, c, classes) for c in called[source]) for source in SOURCES}
        rows.append(row)
    return rows, matrices
