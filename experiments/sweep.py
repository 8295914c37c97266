"""The jobs of a sweep: data sets, students and attacks, each kept on disk by what it was made from, so that it is done once."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import neurostim.teacher as teachers
from experiments.sweep_config import Part, Sweep, folder_of, study_config
from neurostim import alternatives, students, training
from neurostim import workdir as workdirs
from neurostim.config import excite_settings, load_study
from neurostim.errors import UserError
from neurostim.evaluation import association, comparison, neighbours, shadow_priors
from neurostim.excitation import produce, store
from neurostim.excitation.records import Stimuli
from neurostim.files import as_json, write_whole
from neurostim.sources import Source, digest, synthetic_source
from neurostim.study import Study
from neurostim.teacher import Teacher


class Made(NamedTuple):
    """A data set: by which method, from which seed, in how many steps of excitation (-1: the method's own)."""

    method: str
    seed: int
    steps: int = -1


class Cell(NamedTuple):
    """A student and what it learns from: the first `count` rows of a data set (0: all). Its seed is the data set's."""

    student: str
    made: Made
    count: int = 0


class Twin(NamedTuple):
    """A student's twins on real windows, one a seed."""

    student: str


class Attack(NamedTuple):
    """All attacks on the first seed's data sets of these methods; attackers are trained once for all."""

    methods: tuple[str, ...]


class Ground(NamedTuple):
    """A part of the sweep as every cell needs it.

    Attributes:
      study, teacher: the part's own.
      test: the held-out windows; `test_x` [n, *shape] the same, scaled.
      real: what real twins learn from (:func:`neurostim.evaluation.comparison.real_sources`).
      capacity: rows that networks' training and validation data are padded to.
      count: windows of a data set.
      students: who learns.
      student_steps: most optimiser steps of a network.
      options: of the methods; how the study's own config excites among them.
      absent: {method: why it does not suit}.
    """

    study: Study
    teacher: Teacher
    test: Study
    test_x: np.ndarray
    real: dict
    capacity: tuple[int, int]
    count: int
    students: tuple[str, ...]
    student_steps: int
    options: alternatives.Options
    absent: dict[str, str]

    def methods(self, sweep: Sweep) -> list[str]:
        """Those of the sweep's methods that suit."""
        return [method for method in sweep.methods if method not in self.absent]


PADDED_SEEDS = 20  # whose data sets networks have room for


@functools.lru_cache(maxsize=1)  # parts come one after another
def ground(sweep: Sweep, part: Part) -> Ground:
    """The study, its teacher and what follows from them; the teacher is trained already."""
    config = study_config(part.study)
    folder = folder_of(sweep, part) / 'teacher'
    study, teacher = load_study(config, part.fold), teachers.load(folder)
    workdirs.check_study(folder, study)
    test, real = study.part(test=True), comparison.real_sources(study, teacher)
    options = alternatives.Options(**dict(sweep.options), excite=excite_settings(config))
    count = sweep.count or produce.resolve(options.excite, teacher).count
    blank = np.empty((count, 0), np.float32)
    # Of more seeds than are asked for: whoever asks for more later finds networks padded alike, and keeps what they predicted.
    largest = [synthetic_source(blank, blank, seed) for seed in range(max(sweep.seeds, PADDED_SEEDS))]
    absent = {}
    for method in sweep.methods:
        try:
            alternatives.check(method, study, teacher, count, options)
        except UserError as error:
            absent[method] = str(error)
    return Ground(study, teacher, test, teacher.scaling.forward(test.x), real, training.capacities([real['real'], *largest]), count,
                  sweep.students_of(part.study), sweep.student_steps_of(part.study), options, absent)


@functools.lru_cache(maxsize=4)  # a data set serves its students one after another
def dataset(sweep: Sweep, part: Part, made: Made) -> tuple[Stimuli, float]:
    """(Stimuli, seconds that they took to make, without compilation where the method can tell): kept ones, or made now and kept.

    Where two methods are the same windows under other labels, the windows are made once; their seconds count for both.
    """
    on = ground(sweep, part)
    origin = alternatives.origin(made.method)
    if origin:
        windows, seconds = dataset(sweep, part, made._replace(method=origin))
        started = time.perf_counter()
        return alternatives.relabel(on.teacher, windows), seconds + time.perf_counter() - started
    options = options_of(on, made)
    manifest = as_json({'method': made.method, 'count': on.count, 'seed': made.seed, 'teacher': on.teacher.digest(),
                        'options': alternatives.depends(made.method, on.teacher, on.count, options), 'study': _study_digest(on.study)})
    folder = folder_of(sweep, part) / 'datasets' / f'{made.method}-{made.seed}-{_digest_of(manifest)}'
    with contextlib.suppress(UserError):  # none there, or one that a kill has cut short, or a damaged one: it is made anew
        return store.read(folder), store.summary(folder)['totals']['seconds']
    stimuli, seconds = alternatives.timed(made.method)(on.study, on.teacher, on.count, made.seed, options)
    with store.Store(folder, manifest, len(stimuli.x), len(stimuli.x), on.study.shape, len(on.study.classes),
                     stimuli.surprise is not None) as opened:
        if opened.missing():
            opened.write(0, stimuli.x, stimuli.probabilities, {'seconds': seconds}, stimuli.surprise)
        opened.finish()
    return store.read(folder), seconds


def options_of(on: Ground, made: Made) -> alternatives.Options:
    """The options that a data set is made by."""
    return dataclasses.replace(on.options, steps=made.steps) if made.steps >= 0 else on.options


def _study_digest(study: Study) -> str:
    return digest(study.x, study.y, study.test)


def _digest_of(value) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _content(on: Ground, source: Source, x: np.ndarray) -> str:
    """A digest of all that the predictions for scaled windows x of a student of `source` depend on, beside its name and seed."""
    return source.digest(x, on.student_steps, on.capacity, *students.told_of_training(students.training_options(on.teacher.shift)))


def _train(sweep: Sweep, part: Part, task: comparison.Task, source: Source, x: np.ndarray, content: str) -> np.ndarray:
    """A student's probabilities on scaled windows x; kept by the content of what it learns from."""
    on = ground(sweep, part)
    cache = comparison.Cache(folder_of(sweep, part) / 'predictions', content)
    return comparison.train_one(task, source, x, cache, students.training_options(on.teacher.shift, on.student_steps), on.capacity)


@functools.lru_cache(maxsize=4)  # to scale and to digest a large data set takes longer than to read what is kept of a student
def synthetic(sweep: Sweep, part: Part, made: Made, count: int) -> tuple[Source, str]:
    """The first `count` rows of a data set (0: all), scaled, as students learn from them, and the digest that their students go by."""
    on = ground(sweep, part)
    stimuli = dataset(sweep, part, made)[0].rows(slice(count or None))
    source = synthetic_source(on.teacher.scaling.forward(stimuli.x), stimuli.probabilities, made.seed, stimuli.surprise)
    return source, _content(on, source, on.test_x)


def predicted(sweep: Sweep, part: Part, cell: Cell) -> np.ndarray:
    """A student's probabilities [test windows, classes]."""
    source, content = synthetic(sweep, part, cell.made, cell.count)
    return _train(sweep, part, comparison.Task(cell.student, 'made', cell.made.seed), source, ground(sweep, part).test_x, content)


def twins(sweep: Sweep, part: Part, twin: Twin) -> tuple[str, list[np.ndarray]]:
    """Which real twin validates better, and its probabilities [test windows, classes], one a seed."""
    on = ground(sweep, part)
    true = on.real['real']
    both = np.concatenate([on.test_x, true.x[true.held]])

    def of(task):
        source = on.real[task.source]
        return _train(sweep, part, task, source, both, _content(on, source, both))

    n = len(on.test_x)
    few = students.learns_from_all(true)
    checked = {source: [of(task)[n:] for task in comparison.check_tasks(twin.student, source, sweep.seeds, few)]
               for source in comparison.TWINS}
    chosen = comparison.better_twin(checked, true.targets[true.held].argmax(1))
    seeds = [0 if students.is_deterministic(twin.student) else seed for seed in range(sweep.seeds)]
    return chosen, [of(comparison.Task(twin.student, chosen, seed))[:n] for seed in seeds]


def attacked(sweep: Sweep, part: Part, attack: Attack) -> dict[str, dict]:
    """{method: what attackers make of its first data set}, and under '' what they make of people; kept."""
    on = ground(sweep, part)
    scaled = on.teacher.scaling.forward(on.study.x)
    people = association.choose_people(on.study)

    @functools.cache  # where all is kept nobody is trained
    def attackers():
        """[(attacker, what it believes of each window of strangers)]."""
        trained = association.train_attackers(on.study, scaled, people, shift=on.teacher.shift) if people else []
        return [(attacker, attacker.beliefs(scaled[people.stranger]).max(1)) for attacker in trained]

    results = {}
    for method in ('', *attack.methods):
        x = on.teacher.scaling.forward(dataset(sweep, part, Made(method, 0))[0].x) if method else scaled[:0]
        content = [_study_digest(on.study), hashlib.sha256(x.tobytes()).hexdigest(), *association.ATTACKERS, association.FALSE_ALARMS,
                   *students.told_of_training(students.training_options(on.teacher.shift))]
        path = folder_of(sweep, part) / 'attacks' / f'{_digest_of(content)}.json'
        try:
            results[method] = json.loads(path.read_text())
            continue
        except (OSError, ValueError):
            pass
        if method:
            beliefs = {a.name: (a.beliefs(x).max(1), of_strangers) for a, of_strangers in attackers()}
            told = {'confident': {name: float((belief >= association.CONFIDENT).mean()) for name, (belief, _) in beliefs.items()},
                    'found_at_1pct': {name: association.found(*both) for name, both in beliefs.items()},
                    'neighbours': neighbours.measure(on.study, scaled, x)}
        else:
            told = _controls(on, scaled, people, attackers()) if people else {}
        results[method] = as_json(told)
        write_whole(path, json.dumps(results[method]))
    return results


def _controls(on: Ground, scaled: np.ndarray, people: association.People, attackers: list) -> dict[str, dict]:
    """{attacker: how it fares with people whom it knows, with strangers, and with draws of strangers' own population}."""
    strangers = dataclasses.replace(on.study.take(people.stranger), x=scaled[people.stranger])
    draws, _ = shadow_priors.draw_like(strangers, None)
    controls = {}
    for attacker, of_strangers in attackers:
        known, drawn = attacker.beliefs(scaled[people.test]), attacker.beliefs(draws).max(1)
        right = known.argmax(1) == people.number(on.study.subject[people.test])
        controls[attacker.name] = {'known_accuracy': float(right.mean()),
                                   **association.shares({'known': known.max(1), 'stranger_draws': drawn}, of_strangers)}
    return controls


# ---------------------------------------------------------------------------------------------------- which, and in which order


def curve_cells(sweep: Sweep, part: Part) -> dict[str, list[tuple[int, list[Cell]]]]:
    """{'count' or 'steps': [(how many, a cell a seed)]}: what the curves of a part are made of; none for a fold."""
    if part.fold >= 0:
        return {'count': [], 'steps': []}
    on = ground(sweep, part)
    seeds = range(sweep.curve_seeds)
    counts = [count for count in sweep.counts if count < on.count]
    return {
        'count': [(count, [Cell(student, Made(method, seed), 0 if count == on.count else count) for seed in seeds])
                  for method in sweep.count_methods if method not in on.absent
                  for count in (*counts, on.count) if counts for student in on.students],
        'steps': [(steps, [Cell(student, Made(method, seed, steps)) for seed in seeds])
                  for method in sweep.steps_methods if method not in on.absent for steps in sweep.steps for student in on.students]}


def attack_of(sweep: Sweep, part: Part) -> Attack | None:
    """The attacks on a part's data sets; None where none are asked for, and for folds."""
    return Attack(tuple(ground(sweep, part).methods(sweep))) if sweep.privacy and part.fold < 0 else None


def plan(sweep: Sweep, part: Part) -> tuple[list[Made], list]:
    """(data sets, then students and attacks) of a part: each a job by itself, kept once it is done.

    Neighbouring jobs are of different students, so that two threads do not compile the same network.
    """
    on = ground(sweep, part)
    curves = [cell for points in curve_cells(sweep, part).values() for _, cells in points for cell in cells]
    whole = [Cell(student, Made(method, seed)) for method in on.methods(sweep) for seed in range(sweep.seeds) for student in on.students]
    cells = list(dict.fromkeys([*whole, *curves]))
    attack = attack_of(sweep, part)
    made = dict.fromkeys(cell.made._replace(method=alternatives.origin(cell.made.method) or cell.made.method) for cell in cells)
    return list(made), [*map(Twin, on.students), *cells, *([attack] if attack else [])]


def work(sweep: Sweep, part: Part, job) -> None:
    """Does one job; its result is kept on disk."""
    {Made: dataset, Cell: predicted, Twin: twins, Attack: attacked}[type(job)](sweep, part, job)


def perform(sweep: Sweep, part: Part, jobs: list, pool: concurrent.futures.Executor, done: Callable[[int], None]) -> None:
    """Does jobs in a pool; `done` is called with how many are done. After an error, jobs that have begun end and the others never begin."""
    futures = [pool.submit(work, sweep, part, job) for job in jobs]
    try:
        for number, future in enumerate(concurrent.futures.as_completed(futures)):
            future.result()
            done(number + 1)
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
