"""The figures of a sweep whose jobs are done: kappas, paired differences with intervals and tests, curves. compare.json holds them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from experiments.sweep import Cell, Made, Twin, attack_of, attacked, curve_cells, dataset, ground, options_of, predicted, twins
from experiments.sweep_config import Part, Sweep
from neurostim import alternatives
from neurostim.evaluation import comparison, significance, utility


class Outcome(NamedTuple):
    """What all students say of test windows: those of one part, or of all parts of a study.

    Attributes:
      y, group: int [n], the windows' classes and the units that are resampled.
      classes: names.
      teacher: probabilities [n, classes] of the teacher.
      real: {student: probabilities [n, classes], one a seed} of the real twins.
      called: {(method, student): the same of students of a method's data sets}.
    """

    y: np.ndarray
    group: np.ndarray
    classes: tuple[str, ...]
    teacher: np.ndarray
    real: dict[str, list[np.ndarray]]
    called: dict[tuple[str, str], list[np.ndarray]]


def outcome(sweep: Sweep, part: Part) -> Outcome:
    """What the students of one part say; their jobs are done."""
    on = ground(sweep, part)
    called = {(method, student): [] for method in on.methods(sweep) for student in on.students}
    for method in on.methods(sweep):
        for seed in range(sweep.seeds):
            for student in on.students:  # a data set serves them one after another
                called[method, student].append(predicted(sweep, part, Cell(student, Made(method, seed))))
    return Outcome(on.test.y, on.test.group, on.test.classes, on.teacher.predict_scaled(on.test_x),
                   {student: twins(sweep, part, Twin(student))[1] for student in on.students}, called)


def pool(outcomes: list[Outcome]) -> Outcome:
    """The outcome on the test windows of all parts together; a method that does not suit one of them is left out."""
    first = outcomes[0]

    def joined(seeds):  # [part][seed] -> [seed]
        return [np.concatenate(of_parts) for of_parts in zip(*seeds, strict=True)]

    return Outcome(
        np.concatenate([part.y for part in outcomes]), np.concatenate([part.group for part in outcomes]), first.classes,
        np.concatenate([part.teacher for part in outcomes]),
        {student: joined([part.real[student] for part in outcomes]) for student in first.real},
        {key: joined([part.called[key] for part in outcomes]) for key in first.called if all(key in part.called for part in outcomes)})


def assemble(sweep: Sweep, parts: list[Part]) -> dict:
    """All figures of a study whose jobs are done; those of folds are of the pooled test windows of all of them."""
    outcomes, entries, makes, labels, absent, people = [], [], [], {}, {}, set()
    for part in parts:  # once through: a study and its teacher take memory
        on = ground(sweep, part)
        outcomes.append(outcome(sweep, part))
        person = on.study.subjects[part.fold] if part.fold >= 0 else None
        entries.append({**on.study.describe(), 'held_out': person, 'models': on.teacher.names,
                        'teacher_accuracy': utility.score(on.test.y, outcomes[-1].teacher)['accuracy']})
        makes.append({method: made(sweep, part, method) for method in on.methods(sweep)})
        absent |= on.absent
        people.update(on.test.subject.tolist())
        for student in on.students:
            labels.setdefault(student, set()).add(twins(sweep, part, Twin(student))[0])
    pooled = pool(outcomes)
    methods = [method for method in sweep.methods if method not in absent]
    rows, means = tests(pooled, methods, sweep)
    attack = attack_of(sweep, parts[0]) if len(parts) == 1 else None
    found = attacked(sweep, parts[0], attack) if attack else {}
    return {
        'parts': entries, 'teacher': {'models': entries[0]['models'], **utility.score(pooled.y, pooled.teacher)},
        'real': [{'student': student, 'labels': sorted(labels[student]), **_kappas(pooled, predictions)}
                 for student, predictions in pooled.real.items()],
        'methods': [{'name': method, **_made_in_all([part[method] for part in makes]), **_privacy(found.get(method)), **mean}
                    for method, mean in zip(methods, means, strict=True)],
        'rows': rows, 'people': found.get(''),
        'curves': curves(sweep, parts[0], pooled) if len(parts) == 1 else {'count': [], 'steps': []},
        'notes': notes(pooled, parts, absent, len(people))}


def notes(pooled: Outcome, parts: list[Part], absent: dict[str, str], people: int) -> list[str]:
    """What a reader of the figures, of so many test people, has to know."""
    found = [f'{method}: left out ({why})' for method, why in absent.items()]
    if parts[0].fold >= 0:
        found.append(f'each of {len(parts)} people is held out in turn, with a teacher, data sets and students of their own; figures are '
                     'of the pooled test windows; attacks on people and curves are left out')
    groups = len(np.unique(pooled.group))
    if min(groups, people) < comparison.FEW_GROUPS:
        found.append(f'the intervals and tests rest on {groups} test subjects, records or blocks, of {people} people: they are too narrow')
    return found


def made(sweep: Sweep, part: Part, method: str) -> dict:
    """How a method's data sets were made, and how fast: 'by' names what excites, where anything does."""
    on = ground(sweep, part)
    sets = [dataset(sweep, part, Made(method, seed)) for seed in range(sweep.seeds)]
    by = alternatives.depends(method, on.teacher, on.count, options_of(on, Made(method, 0)))
    return {'count': len(sets[0][0].label), 'class_counts': np.bincount(sets[0][0].label, minlength=len(on.study.classes)),
            'seconds': [seconds for _, seconds in sets], 'by': by.get('method'),
            'per_second': float(np.mean([len(stimuli.label) / max(seconds, 1e-9) for stimuli, seconds in sets]))}


def _made_in_all(makes: list[dict]) -> dict:
    """The same over all parts: a count is of each data set, `class_counts` and seconds are sums, rates means."""
    by = sorted({make['by'] for make in makes if make['by']})
    return {'count': makes[0]['count'], 'class_counts': sum(make['class_counts'] for make in makes), 'by': ', '.join(by) or None,
            'seconds': np.sum([make['seconds'] for make in makes], 0), 'per_second': float(np.mean([make['per_second'] for make in makes]))}


def _privacy(found: dict | None) -> dict:
    """What attackers made of a method's data set; None where nothing, or nobody, could be attacked."""
    shares = list((found or {}).get('confident', {}).values())
    return {'confident': (found or {}).get('confident') or None, 'confident_mean': float(np.mean(shares)) if shares else None,
            'found_at_1pct': (found or {}).get('found_at_1pct') or None, 'neighbours': (found or {}).get('neighbours')}


def _kappas(pooled: Outcome, predictions: list[np.ndarray]) -> dict:
    """Mean and standard deviation of kappa over seeds."""
    values = [utility.score(pooled.y, p)['kappa'] for p in predictions]
    return {'kappa': float(np.mean(values)), 'kappa_sd': float(np.std(values))}


def tests(pooled: Outcome, methods: list[str], sweep: Sweep) -> tuple[list[dict], list[dict]]:
    """Paired differences of kappa with 95 % intervals and p-values, corrected for how many are made in this study: (a row for each method
    and student, means over students for each method).

    'gap' is real minus method, 'against_reference' method minus the reference; both pair seeds, and resample test groups together.
    """
    def difference(better, worse):
        labels = [np.stack(predictions).argmax(-1) for predictions in (better, worse)]
        return utility.gap_draws(pooled.y, pooled.group, *labels, len(pooled.classes), sweep.interval_draws)

    rows, means = [], []
    for method in methods:
        gaps, against = [], []
        for student, real in pooled.real.items():
            own = pooled.called[method, student]
            gaps.append(difference(real, own))
            row = {'method': method, 'student': student, **_kappas(pooled, own), 'gap': _figures(*gaps[-1]), 'against_reference': None}
            if method != sweep.reference and sweep.reference in methods:
                against.append(difference(own, pooled.called[sweep.reference, student]))
                row['against_reference'] = _figures(*against[-1])
            rows.append(row)
        means.append({'gap': _figures(*_mean(gaps)), 'against_reference': _figures(*_mean(against)) if against else None,
                      'kappa': float(np.mean([row['kappa'] for row in rows[-len(gaps):]]))})
    for family in (rows, means):
        for what in ('gap', 'against_reference'):
            tested = [row[what] for row in family if row[what] and row[what]['p'] is not None]
            for figure, corrected in zip(tested, significance.holm([figure['p'] for figure in tested]), strict=True):
                figure['p_holm'] = float(corrected)
    return rows, means


def _figures(gap: float, draws: np.ndarray | None) -> dict:
    """A difference with its interval and its p-value; None for both where there is one group only."""
    if draws is None:
        return {'difference': gap, 'ci95': None, 'p': None}
    return {'difference': gap, 'ci95': np.percentile(draws, [2.5, 97.5]), 'p': significance.two_sided(draws)}


def _mean(differences: list) -> tuple[float, np.ndarray | None]:
    """The mean over students: their draws resample the same groups."""
    gaps, draws = zip(*differences, strict=True)
    return float(np.mean(gaps)), None if draws[0] is None else np.mean(draws, 0)


def curves(sweep: Sweep, part: Part, pooled: Outcome) -> dict[str, list[dict]]:
    """Kappa against the number of stimuli, and against steps of excitation: [{'method', 'student', 'at', 'kappa', 'kappa_sd'}] each."""
    return {what: [{'method': cells[0].made.method, 'student': cells[0].student, 'at': at,
                    **_kappas(pooled, [predicted(sweep, part, cell) for cell in cells])} for at, cells in points]
            for what, points in curve_cells(sweep, part).items()}
