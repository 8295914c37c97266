"""The phase evaluate: what stimuli are worth to students, whom they betray, and a report of both."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import pathlib

import numpy as np

import neurostim.teacher as teachers
from neurostim import private, release, report, students, training
from neurostim import workdir as workdirs
from neurostim.config import flow_options, load_study, privacy_options, student_options
from neurostim.errors import UserError
from neurostim.evaluation import advice, association, comparison, differential_privacy, linkage, membership, neighbours, shadows, utility
from neurostim.evaluation.shadow_priors import Prior, draw_like
from neurostim.excitation import produce, store
from neurostim.files import as_json, changes, write_whole
from neurostim.progress import MetricsWriter, Progress
from neurostim.sources import digest, synthetic_source
from neurostim.study import Study
from neurostim.teacher import Teacher

ATTACKED = (60_000, 2**28)  # windows, and numbers in them, that attackers are given at most
SHIFTED = 'networks among students and attackers learnt windows shifted in time at random, end to beginning, as the teacher did'
PROMISES = {'record': 'the unit is one window of a recording: for all windows of a person together the bound is far weaker',
            'subject': 'the unit is a person with all their windows; how many people took part is taken to be known'}


def evaluate(config, workdir: pathlib.Path, say) -> None:
    """Trains the students and compares: DIR/results.json and DIR/report.html."""
    teacher = teachers.load(workdir / 'teacher')
    summary = store.summary(workdir / 'stimuli')
    manifest = store.manifest(workdir / 'stimuli')
    settings = produce.from_manifest(manifest)
    if manifest['teacher'] != teacher.digest():  # which may have learnt from what is held out now
        raise UserError(f'{workdir / "stimuli"} was made with another teacher than {workdir / "teacher"} holds: delete it and run '
                        '--phase=excite again')
    _check_same_windows(config, workdir)
    study = load_study(config)
    workdirs.check_study(workdir / 'teacher', study)
    stimuli = store.read(workdir / 'stimuli')
    if settings.surplus > 1 and stimuli.surprise is None:
        raise UserError(f'{workdir / "stimuli"} holds sifted stimuli of an earlier version, without how much each surprised novices: '
                        'delete it and run --phase=excite again')
    seed = manifest['seed']
    control = produce.generate(teacher, produce.unexcited(settings), seed, produce.CONTROL)
    names, seeds = tuple(config.students), config.evaluate.seeds
    promised = (workdir / 'teacher' / workdirs.LEDGER).exists()
    advised = config.evaluate.advise and not promised  # advice would look at windows once more than was promised
    if advised and set(names) & set(advice.NAMES):
        say(f'evaluate: training windows advise {" and ".join(name for name in names if name in advice.NAMES)}, then students learn')
    few = training.are_few(study.part(test=False).x)
    with (MetricsWriter(workdir / 'metrics.jsonl') as writer,
          Progress(comparison.count_tasks(names, seeds, few), 'students', 'evaluate', writer) as progress):
        rows, matrices = compare_students(
            study, teacher, stimuli, control, names, seeds, student_options(config, teacher.shift), draws=config.evaluate.interval_draws,
            seed=config.seed, predictions=workdir / 'predictions', progress=progress.update, advised=advised)
    attacks = None
    if config.evaluate.privacy:
        say('evaluate: students are done, attackers learn to name people')
        prior = None if promised else Prior(settings.method, settings.marginals, flow_options(config))  # noisy ones are not made anew
        with contextlib.ExitStack() as stack:
            update = lambda done: None  # noqa: E731
            if config.evaluate.shadows:
                writer = stack.enter_context(MetricsWriter(workdir / 'metrics.jsonl'))
                progress = Progress(membership.count(study, config.evaluate.shadows, prior), 'shadows', 'evaluate', writer)
                update = stack.enter_context(progress).update
            like_these = shadow_options(settings, teacher.shift)
            attacks = attack(study, teacher, stimuli, control, config.seed, settings, config.evaluate.shadows, like_these, update, prior)
        if promised:
            say('evaluate: a second training with canaries audits differential privacy')
            ledger = private.Ledger(**workdirs.read_beside(workdir / 'teacher' / workdirs.LEDGER))
            attacks['differential_privacy'] = promise(config, study, teacher, ledger)
    results = assemble(study, teacher, stimuli_entry(summary, settings), rows, attacks)
    pictures = _pictures(study, teacher, stimuli, matrices, config)
    report.write(workdir / 'report.html', results, pictures)
    write_whole(workdir / 'results.json', json.dumps(results, indent=1))
    release.write(workdir, results, config.release.licence)
    say(report.table(results))
    say(f'report: {workdir / "report.html"}')


def _check_same_windows(config, workdir: pathlib.Path) -> None:
    """Refuses a config whose test windows may be among those that the teacher has learnt from: the seed and the options of the study
    decide who is held out. Where the files lie may differ, as on another machine."""
    learnt = workdirs.read_beside(workdir / 'teacher' / 'config.json')
    changed = changes({**learnt['study'], 'seed': learnt['seed'], 'path': None},
                      as_json({**config.study.to_dict(), 'seed': config.seed, 'path': None}))
    if changed:
        raise UserError(f'the teacher in {workdir} learnt from another study ({"; ".join(changed)}): '
                        'evaluate with the same study.* and seed, or choose another --workdir')


def stimuli_entry(summary: dict, settings: produce.Settings) -> dict:
    """The `stimuli` entry of results.json from a store's summary, and how they were sifted, or every other one was left as drawn."""
    totals = summary.get('totals', {})
    seconds = totals.get('seconds')
    attempts = totals.get('attempts')
    return {'count': summary['count'], 'method': settings.method, 'surplus': settings.surplus,
            'as_drawn': settings.as_drawn, 'seconds': seconds,
            'per_second': summary['count'] / seconds if seconds else None,
            'accepted_fraction': totals['accepted'] / attempts if attempts else None,
            'class_counts': summary['class_counts'], 'sha256': summary['sha256']}


def compare_students(study: Study, teacher: Teacher, stimuli, control, names: tuple[str, ...], seeds: int,
                     networks: training.TrainingOptions, *, draws: int = 2000, seed: int = 0, predictions: pathlib.Path | None = None,
                     progress=lambda done: None, advised: bool = False):
    """Trains all students and compares them: (rows of results.json, confusion matrices).

    Args:
      stimuli, control: :class:`neurostim.excitation.records.Stimuli`.
      networks: how these are trained (:func:`neurostim.students.training_options`).
      draws: of the bootstrap.
      predictions: a folder in which finished students' predictions are kept, so that a killed run goes on.
      advised: whether training windows advise how some learn from stimuli, and from the control (:mod:`neurostim.evaluation.advice`).
    """
    test = study.part(test=True).at_most(*comparison.TESTED)
    test_x = teacher.scaling.forward(test.x)
    sources = comparison.real_sources(study, teacher)
    real = sources['real']
    validation = (real.x[real.held], real.targets[real.held].argmax(1))
    for name, made in (('stimuli', stimuli), ('control', control)):
        sources[name] = synthetic_source(teacher.scaling.forward(made.x), made.probabilities, seed, made.surprise)
    told_of_networks = (networks.steps, *students.told_of_training(networks))
    content = digest(*(source.digest() for source in sources.values()), test_x, test.y, *told_of_networks)
    told = {}
    if advised:
        windows = study.part(test=False).at_most(*advice.ASKED)  # no more need be scaled
        windows = dataclasses.replace(windows, x=teacher.scaling.forward(windows.x))
        told = advice.advise_all(names, {name: sources[name] for name in ('stimuli', 'control')}, windows, predictions)
    cache = comparison.Cache(predictions, content)
    trained = comparison.train_all(names, seeds, sources, test_x, validation, cache, networks, progress, told)
    rows, matrices = comparison.compare(names, seeds, trained, test, draws)
    for row in rows:
        if (row['name'], 'stimuli') in told:
            row['advice'] = told[row['name'], 'stimuli']._asdict()
    return rows, matrices


def assemble(study: Study, teacher: Teacher, stimuli: dict, rows: list[dict], privacy: dict | None = None) -> dict:
    """The whole of results.json."""
    test = study.part(test=True)
    return as_json({
        'study': study.describe(),
        'teacher': {'models': list(teacher.names), **utility.score(test.y, teacher.probabilities(test.x))},
        'stimuli': stimuli, 'students': rows, 'privacy': privacy,
        'notes': [*study.notes, *_limits(study), *[SHIFTED] * (teacher.shift > 0), *_advice(rows)]})


def _advice(rows: list[dict]) -> list[str]:
    """Remarks on who was told how to learn from stimuli."""
    return [f'{row["name"]} learnt from stimuli as real training windows advised: {advice.in_words(row["advice"])}'
            for row in rows if 'advice' in row]


def _limits(study: Study) -> list[str]:
    """Remarks on what a large study's students and attackers were not given."""
    tested, n = int(study.test.sum()), len(study.y)
    parts = (('twins learnt from', n - tested, comparison.LEARNT), ('students were asked about', tested, comparison.TESTED),
             ('attackers were given', n, ATTACKED))
    taken = ((what, there, study.most_windows(*most)) for what, there, most in parts)
    return [f'{what} {most} of {there} windows, drawn at random' for what, there, most in taken if most < there]


def attack(study: Study, teacher: Teacher, stimuli, control, seed: int = 0, settings: produce.Settings | None = None,
           shadow_models: int = 0, options: shadows.ShadowOptions | None = None, progress=lambda done: None,
           prior: Prior | None = None) -> dict:
    """The `privacy` entry of results.json: what attackers make of the stimuli.

    Args:
      settings: by which the stimuli were made: where identity networks were inhibited, these are shown among the attackers; None
        inhibits none.
      shadow_models: pipelines of the attack on membership.
      options: of these pipelines, see :func:`shadow_options`.
      progress: called with how many of them are done.
      prior: what stimuli start from, see :func:`neurostim.evaluation.membership.attack`; draws of strangers' own population too, where
        it suits.
    """
    some = study.at_most(*ATTACKED)
    scaled = teacher.scaling.forward(some.x)
    made, unexcited = (teacher.scaling.forward(source.x) for source in (stimuli, control))

    def draw(rows):
        return draw_like(dataclasses.replace(some.take(rows), x=scaled[rows]), prior, seed)

    entry = association.attack(some, scaled, made, stimuli.label, unexcited, draw, seed=seed, shift=teacher.shift)
    if settings and settings.weights.inhibit and entry['attackers']:
        entry['attackers'] += association.inhibited(some, teacher, scaled, made, unexcited)
    return {
        'association': {**entry, 'linkage': linkage.attack(some, scaled, made, seed)},
        'membership': membership.attack(some, scaled, shadow_models, options, seed, progress, prior),
        'neighbours': neighbours.measure(some, scaled, made, seed),
        'differential_privacy': None}


def shadow_options(settings: produce.Settings, shift: float = 0.0) -> shadows.ShadowOptions:
    """Shadow pipelines like the one that made the stimuli: one Gaussian of all classes where it drew from one, else a mixture for each.

    Args:
      shift: of the teacher's training (:class:`neurostim.training.TrainingOptions`).
    """
    one = settings.method in ('gaussian', 'stationary', 'spectral', 'direct')
    return shadows.ShadowOptions(components=1 if one else shadows.ShadowOptions.components, by_class=not one,
                                 stationary=settings.method == 'stationary', excite_steps=settings.steps,
                                 learning_rate=settings.learning_rate, tether=settings.weights.tether,
                                 concentration=settings.target.concentration, shift=shift)


def promise(config, study: Study, teacher: Teacher, ledger: private.Ledger) -> dict:
    """The `differential_privacy` entry of results.json."""
    options = privacy_options(config)
    return {'unit': options.unit, 'epsilon': ledger.epsilon, 'delta': options.delta, 'noise_multiplier': ledger.noise_multiplier,
            'components': [f'{part["name"]}: {part["epsilon"]:.2f}' for part in ledger.components],
            'audited_epsilon_lower_bound': differential_privacy.audit(study, teacher.names[0], options, ledger, config.seed),
            'note': PROMISES[options.unit]}


def evaluate_arrays(study: Study, teacher: Teacher, stimuli, control, names: tuple[str, ...], seeds: int, steps: int,
                    advised: bool = False) -> dict:
    """What :func:`evaluate` does, for arrays in memory and without a folder; see :func:`neurostim.evaluate`."""
    if control is None:
        settings = produce.resolve(produce.Settings(count=len(stimuli.x)), teacher)
        control = produce.generate(teacher, produce.unexcited(settings), 0, produce.CONTROL)
    networks = students.training_options(teacher.shift, steps)
    rows, _ = compare_students(study, teacher, stimuli, control, names, seeds, networks, advised=advised)
    entry = {'count': len(stimuli.x), 'class_counts': np.bincount(stimuli.label, minlength=len(study.classes)),
             'sha256': hashlib.sha256(np.ascontiguousarray(stimuli.x, '<f4')).hexdigest(),
             'method': None, 'seconds': None, 'per_second': None, 'accepted_fraction': None,
             'note': 'made in memory: neither timed nor counted'}
    return assemble(study, teacher, entry, rows)


def _pictures(study, teacher: Teacher, stimuli, matrices, config) -> dict:
    """What the report draws."""
    test = study.part(test=True)
    some = np.random.default_rng(0).permutation(len(stimuli.x))[:2000]
    real = np.random.default_rng(0).permutation(len(test.x))[:2000]
    return {'stimuli_x': stimuli.x[some], 'stimuli_probabilities': stimuli.probabilities[some], 'real_x': test.x[real],
            'real_y': test.y[real], 'confusion': matrices, 'curves': teacher.curves, 'study_kind': study.kind,
            'sampling_rate_hz': study.sampling_rate_hz, 'channels': study.channels, 'config': config.to_yaml()}
