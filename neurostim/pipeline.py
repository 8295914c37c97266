"""The phases train, excite and, in :mod:`neurostim.evaluation.phase`, evaluate. Each is a function of a config and a folder, and speaks to
the others through the folder alone, so that each can run on another machine or day; `excite` reads no recording, and imports no more than
it needs, so that the first stimulus comes soon."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import time

import neurostim.teacher as teachers
from neurostim import devices, private
from neurostim import workdir as workdirs
from neurostim.config import (
    committee_options,
    excite_settings,
    flow_options,
    identity_options,
    load_study,
    privacy_options,
    training_options,
)
from neurostim.errors import UserError
from neurostim.excitation import produce
from neurostim.files import as_json
from neurostim.progress import MetricsWriter, Progress
from neurostim.study import Study

PHASES = ('train', 'excite', 'evaluate')


def run(config, workdir, phases=PHASES, say=lambda text: print(text, flush=True)) -> None:
    """Runs phases in their order.

    Args:
      config: from `experiments/configs`.
      workdir: the folder, created if absent.
      say: takes lines of text for the user.
    """
    workdir = pathlib.Path(workdir)
    workdirs.check_writable(workdir)
    if devices.process()[1] > 1 and tuple(phases) != ('excite',):
        raise UserError('several processes excite together, but train and evaluate alone: give --phase=excite, and run the other phases '
                        'without --coordinator')
    for phase in PHASES:
        if phase in phases:
            {'train': train, 'excite': excite, 'evaluate': evaluate}[phase](config, workdir, say)


def train(config, workdir: pathlib.Path, say, fold: int = -1) -> None:
    """Trains the teacher and takes the population's statistics: DIR/teacher/.

    Args:
      fold: whose person is held out, see :func:`neurostim.config.load_study`.
    """
    from neurostim.evaluation import utility
    folder = workdir / 'teacher'
    path = pathlib.Path(config.study.path).absolute() if config.study.path else None
    wanted = {'study': {**config.study.to_dict(), 'path': str(path or '')}, 'models': config.teacher.models,
              'committee': config.teacher.committee, 'training': config.teacher.training.to_dict(), 'flow': config.teacher.flow.to_dict(),
              'identity': config.teacher.identity.to_dict(), 'privacy': config.teacher.privacy.to_dict(), 'seed': config.seed}
    later = ('least_skill', 'weigh', 'rehearse', 'draws', 'novices')  # absent from earlier runs
    wanted |= {name: config.teacher[name] for name in later if config.teacher[name]}
    wanted |= {'fold': fold} if fold >= 0 else {}
    for part, name, usual in (('training', 'longer', 1), ('training', 'optimiser', 'adamw'), ('flow', 'optimiser', 'adamw')):
        if wanted[part][name] == usual:
            del wanted[part][name]  # absent from earlier runs
    wanted = as_json(wanted)
    if workdirs.holds_this(folder / 'config.json', wanted, 'a teacher'):
        teachers.load(folder)
        say(f'train: {folder} is complete')
        return
    study = load_study(config, fold)
    started = time.perf_counter()
    beside = {'config.json': wanted, 'study.json': {**study.describe(), 'digest': study.digest()}}
    names, report = tuple(config.teacher.models), lambda line: say(f'train: {line}')
    learn = lambda teacher: teachers.with_novices(teacher, tuple(config.teacher.novices), config.seed, report)  # noqa: E731
    if config.teacher.privacy.epsilon:
        options = privacy_options(config)
        with Progress(options.steps, 'steps', 'train') as progress:
            teacher, ledger = private.train_teacher(study, names, options, None, report, progress.update)
        beside[workdirs.LEDGER] = ledger._asdict()
        teacher = learn(teacher)
    else:
        teacher = learn(_train_and_rehearse(study, config, report))
    test = study.part(test=True)
    score = utility.score(test.y, teacher.probabilities(test.x))
    workdir.mkdir(parents=True, exist_ok=True)
    teachers.save(teacher, folder, beside)
    with MetricsWriter(workdir / 'metrics.jsonl') as writer:
        for member, curves in teacher.curves.items():
            for row in zip(*curves.values(), strict=True):
                writer.write(phase='train', member=member, **dict(zip(curves, row, strict=True)))
        writer.write(phase='train', seconds=time.perf_counter() - started, **score)
    say(f'train: kappa {score["kappa"]:.3f} on {len(test.y)} test windows, {time.perf_counter() - started:.0f} s')


def _train_and_rehearse(study: Study, config, report) -> teachers.Teacher:
    """The committee, trained and prepared; a rehearsal's twins learn while the flow does. Not where privacy is promised: a rehearsal looks
    at windows again."""
    trial = None

    def begin_to_rehearse(committee):
        nonlocal trial
        if config.teacher.rehearse:
            from neurostim import rehearsal  # here: who excites needs no students
            trial = rehearsal.make_trial(study.part(test=False), committee, config.seed, report)

    teacher = teachers.train_teacher(
        study, tuple(config.teacher.models), config.seed, training_options(config), flow_options(config), identity_options(config),
        committee_options(config), report, begin_to_rehearse)
    return prepare(teacher, trial, study, config, report)


def prepare(teacher: teachers.Teacher, trial, study: Study, config, report) -> teachers.Teacher:
    """The teacher with what a rehearsal by `trial` found, if there is one, and taught by the draws that served best in it. Whether there
    are draws may be left to choose; they are not tried where windows are so many that draws would be lost among them.

    Args:
      trial: of :func:`neurostim.rehearsal.make_trial`, or None.
    """
    if not trial:
        return teacher
    from neurostim import rehearsal
    share = config.teacher.draws
    teacher = dataclasses.replace(teacher, rehearsed=rehearsal.rehearse(teacher, trial))
    if share > 0 or share < 0 and teacher.windows <= teachers.MANY_WINDOWS:
        way = produce.resolve(produce.Settings(), teacher)
        taught = teachers.learn_from_draws(
            teacher, study, way.method, config.seed, training_options(config), way.marginals, abs(share), report)
        teacher = taught if share > 0 else rehearsal.better(teacher, taught, trial, report)
    return dataclasses.replace(teacher, rehearsed=rehearsal.with_draws(teacher.rehearsed))


def excite(config, workdir: pathlib.Path, say) -> None:
    """Makes stimuli: DIR/stimuli/. Finished shards of an interrupted run are kept."""
    teacher = teachers.load(workdir / 'teacher')
    settings = produce.resolve(excite_settings(config), teacher)
    first = devices.process()[0] == 0
    with MetricsWriter(workdir / 'metrics.jsonl') if first else contextlib.nullcontext() as writer:  # one writer a file
        summary = produce.write(teacher, settings, workdir / 'stimuli', {}, config.seed, writer)
    if first:
        say(f'excite: {summary["count"]} stimuli by {settings.method!r}, sha256 {summary["sha256"][:16]}')


def evaluate(config, workdir: pathlib.Path, say) -> None:
    """Trains the students and compares, attacks, reports: see :func:`neurostim.evaluation.phase.evaluate`."""
    from neurostim.evaluation import phase
    phase.evaluate(config, workdir, say)
