"""The three phases: train, excite, evaluate. Each is a function of a config and a folder, and speaks to the others through the folder
alone, so that each can run on another machine or day; `excite` reads no recording."""

from __future__ import annotations

import json
import os
import pathlib
import sys
import time

import numpy as np

import neurostim.teacher as teachers
from neurostim import data, report
from neurostim.config import excite_settings, study_options, training_options
from neurostim.errors import UserError
from neurostim.evaluation import comparison, utility
from neurostim.excitation import produce, store
from neurostim.progress import MetricsWriter, Progress, plain
from neurostim.study import Study
from neurostim.teacher import Teacher

PHASES = ('train', 'excite', 'evaluate')


def run(config, workdir, phases=PHASES, say=lambda text: print(text, file=sys.stderr, flush=True)) -> None:
    """Runs phases in their order.

    Args:
      config: from `experiments/configs`.
      workdir: the folder, created if absent.
      say: takes lines of text for the user.
    """
    workdir = pathlib.Path(workdir)
    functions = {'train': train, 'excite': excite, 'evaluate': evaluate}
    for phase in PHASES:
        if phase in phases:
            functions[phase](config, workdir, say)


def load_study(config) -> Study:
    """The config's study."""
    return data.load(config.study.name, config.study.path or None, config.seed, **study_options(config))


def _same_run(path: pathlib.Path, wanted: dict, what: str) -> bool:
    """Whether `path` holds just this config; raises a UserError that says what changed if it holds another one."""
    if not path.exists():
        return False
    try:
        found = json.loads(path.read_text())
    except (ValueError, OSError):
        return False
    changed = [f'{key}: {found.get(key)} -> {wanted.get(key)}' for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key)]
    if changed:
        raise UserError(f'{path.parent} holds {what} of another config ({"; ".join(changed)}): '
                        'give another --workdir or delete that folder')
    return True


def train(config, workdir: pathlib.Path, say) -> None:
    """Trains the teacher and takes the population's statistics: DIR/teacher/."""
    folder = workdir / 'teacher'
    path = pathlib.Path(config.study.path).absolute() if config.study.path else None
    wanted = plain({'study': {**config.study.to_dict(), 'path': str(path or '')}, 'models': config.teacher.models,
                    'training': config.teacher.training.to_dict(), 'seed': config.seed})
    wanted = json.loads(json.dumps(wanted))
    if _same_run(folder / 'config.json', wanted, 'a teacher'):
        teachers.load(folder)
        say(f'train: {folder} is complete')
        return
    study = load_study(config)
    started = time.perf_counter()
    teacher = teachers.train_teacher(
        study, tuple(config.teacher.models), config.seed, training_options(config), lambda line: say(f'train: {line}'))
    test = study.part(test=True)
    score = utility.score(test.y, teacher.probabilities(test.x))
    workdir.mkdir(parents=True, exist_ok=True)
    teachers.save(teacher, folder, {'config.json': wanted, 'study.json': describe(study)})
    with MetricsWriter(workdir / 'metrics.jsonl') as writer:
        for member, curves in teacher.curves.items():
            for row in zip(*curves.values(), strict=True):
                writer.write(phase='train', member=member, **dict(zip(curves, row, strict=True)))
        writer.write(phase='train', seconds=time.perf_counter() - started, **score)
    say(f'train: kappa {score["kappa"]:.3f} on {len(test.y)} test windows, {time.perf_counter() - started:.0f} s')


def describe(study: Study) -> dict:
    """The contract's `study` entry."""
    return {'name': study.name, 'train_windows': int((~study.test).sum()), 'test_windows': int(study.test.sum()),
            'subjects': len(study.subjects), 'classes': list(study.classes)}


def excite(config, workdir: pathlib.Path, say) -> None:
    """Makes stimuli: DIR/stimuli/. Finished shards of an interrupted run are kept."""
    teacher = teachers.load(workdir / 'teacher')
    settings = produce.resolve(excite_settings(config), teacher)
    with MetricsWriter(workdir / 'metrics.jsonl') as writer:
        summary = produce.write(teacher, settings, workdir / 'stimuli', {}, config.seed, writer)
    say(f'excite: {summary["count"]} stimuli by {settings.method!r}, sha256 {summary["sha256"][:16]}')


def evaluate(config, workdir: pathlib.Path, say) -> None:
    """Trains the students and compares: DIR/results.json and DIR/report.html."""
    teacher = teachers.load(workdir / 'teacher')
    summary = store.summary(workdir / 'stimuli')
    manifest = store.manifest(workdir / 'stimuli')
    settings = produce.from_manifest(manifest)
    study = load_study(config)
    trained_on = json.loads((workdir / 'teacher' / 'study.json').read_text())
    if trained_on != plain(describe(study)):
        raise UserError(f"the teacher in {workdir} learnt study {trained_on['name']!r} ({trained_on['train_windows']} training windows), "
                        f'but the config names {study.name!r} ({int((~study.test).sum())}): evaluate with the same study.*')
    stimuli = store.read(workdir / 'stimuli')
    seed = manifest['seed']
    control = produce.generate(teacher, produce.unexcited(settings), seed, produce.CONTROL)
    with MetricsWriter(workdir / 'metrics.jsonl') as writer:
        rows, matrices = _students(config, workdir, study, teacher, stimuli, control, writer)
    test = study.part(test=True)
    results = plain({
        'study': describe(study),
        'teacher': {'models': list(teacher.names), **utility.score(test.y, teacher.probabilities(test.x))},
        'stimuli': stimuli_entry(summary, settings.method),
        'students': rows, 'privacy': None, 'notes': list(study.notes)})
    pictures = _pictures(study, teacher, stimuli, matrices, config)
    report.write(workdir / 'report.html', results, pictures)
    temporary = workdir / 'results.json.tmp'
    temporary.write_text(json.dumps(results, indent=1))
    os.replace(temporary, workdir / 'results.json')
    print(report.table(results))
    print(f'report: {workdir / "report.html"}')


def stimuli_entry(summary: dict, method: str) -> dict:
    """The contract's `stimuli` entry from a store's summary."""
    totals = summary.get('totals', {})
    seconds = totals.get('seconds')
    attempts = totals.get('attempts')
    return {'count': summary['count'], 'method': method, 'seconds': seconds,
            'per_second': summary['count'] / seconds if seconds else None,
            'accepted_fraction': totals['accepted'] / attempts if attempts else None,
            'class_counts': summary['class_counts'], 'sha256': summary['sha256']}


def _students(config, workdir, study, teacher: Teacher, stimuli, control, writer):
    """Trains and compares all students; predictions are kept in DIR/predictions/ so that a killed run goes on."""
    test = study.part(test=True)
    test_x = teacher.scaling.forward(test.x)
    sources = comparison.real_sources(study, teacher)
    validation = (sources['real'].x[sources['real'].held], study.part(test=False).y[sources['real'].held])
    for name, made in (('stimuli', stimuli), ('control', control)):
        sources[name] = comparison.synthetic_source(teacher.scaling.forward(made.x), made.probabilities, config.seed)
    digest = comparison.digest(*(array for source in sources.values() for array in source), test_x, test.y, config.student_steps)
    names = tuple(config.students)
    with Progress(comparison.count_tasks(names, config.evaluate.seeds), 'students', 'evaluate', writer) as progress:
        predictions = comparison.train_all(
            names, config.evaluate.seeds, sources, test_x, validation, comparison.Cache(workdir / 'predictions', digest),
            config.student_steps, progress.update)
    return comparison.compare(names, config.evaluate.seeds, predictions, test, config.evaluate.interval_draws)


def _pictures(study, teacher: Teacher, stimuli, matrices, config) -> dict:
    """What the report draws."""
    test = study.part(test=True)
    some = np.random.default_rng(0).permutation(len(stimuli.x))[:2000]
    real = np.random.default_rng(0).permutation(len(test.x))[:2000]
    return {'stimuli_x': stimuli.x[some], 'stimuli_probabilities': stimuli.probabilities[some], 'real_x': test.x[real],
            'real_y': test.y[real], 'confusion': matrices, 'curves': teacher.curves, 'study_kind': study.kind,
            'sampling_rate_hz': study.sampling_rate_hz, 'channels': study.channels, 'config': config.to_yaml()}
