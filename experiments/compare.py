r"""Compares stimuli with whatever else a user would try: studies x methods x students x seeds, as one sweep.

    python -m experiments.compare --workdir=runs/compare --config.studies="('apnea_respiration', 'sleep_features')" --config.seeds=3

It may be killed at any moment; the same command goes on. Every teacher, data set, student and attack is kept under DIR/STUDY by what it
was made from, so that a changed config makes anew only what it changes. DIR/compare.md holds the tables, DIR/compare.json all figures.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import multiprocessing
import os
import pathlib
import runpy
import sys
import time
from typing import NamedTuple

import numpy as np
from absl import app, flags

from experiments import run as entry
from neurostim.errors import UserError, choose

CONFIGS = pathlib.Path(__file__).parent / 'configs'
CONFIG = 'experiments/configs/compare.py'
LEVEL = 0.05  # of corrected p-values that are marked


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What is compared; the fields are those of experiments/configs/compare.py. `workdir` is the folder of everything that is kept."""

    workdir: str
    studies: tuple[str, ...]
    methods: tuple[str, ...]
    students: tuple[str, ...]
    seeds: int
    count: int
    student_steps: int
    reference: str
    privacy: bool
    interval_draws: int
    options: tuple[tuple[str, float], ...]
    counts: tuple[int, ...]
    count_methods: tuple[str, ...]
    steps: tuple[int, ...]
    steps_methods: tuple[str, ...]
    curve_seeds: int


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
    """A study as every cell needs it: `test_x` are the scaled test windows, `capacity` the rows that students' data are padded to, `absent`
    {method: why it does not suit}."""

    study: object
    teacher: object
    test: object
    test_x: np.ndarray
    real: dict
    capacity: tuple[int, int]
    absent: dict[str, str]


def make_sweep(config, workdir) -> Sweep:
    """The sweep that a config describes.

    Raises:
      UserError: a name, or a value out of range.
    """
    from neurostim import alternatives, students
    curves = config.curves
    for what, names, known in (('method in methods', config.methods, alternatives.NAMES),
                               ('method in curves.count_methods', curves.count_methods, alternatives.NAMES),
                               ('method in curves.steps_methods', curves.steps_methods, alternatives.NAMES),
                               ('student in students', config.students, students.NAMES)):
        for name in names:
            choose(name, known, what)
        if len(set(names)) < len(names):
            raise UserError(f'{what}: {", ".join(names)} names one twice')
    for what, names in (('studies', config.studies), ('methods', config.methods), ('students', config.students)):
        if not names:
            raise UserError(f'{what} is empty: name at least one')
    choose(config.reference, config.methods, 'reference')
    for name in (*curves.count_methods, *curves.steps_methods):
        choose(name, config.methods, 'method in curves (it must be among the methods)')
    for name, value, least in (
            ('seeds', config.seeds, 1), ('count', config.count, 20), ('student_steps', config.student_steps, 1),
            ('interval_draws', config.interval_draws, 1), ('processes', config.processes, 1), ('curves.seeds', curves.seeds, 1),
            ('options.steps', config.options.steps, -1), ('options.training_steps', config.options.training_steps, -1)):
        if value < least:
            raise UserError(f'{name} is {value}: give at least {least}')
    if not config.options.training_steps:
        raise UserError("options.training_steps is 0: give at least 1, or -1 for each model's own")
    if not 0 < config.options.epsilon < np.inf:
        raise UserError(f'options.epsilon is {config.options.epsilon}: give a positive number')
    if curves.seeds > config.seeds:
        raise UserError(f'curves.seeds is {curves.seeds}, but there are {config.seeds} seeds: give at most as many')
    for count in curves.counts:
        if not 20 <= count < config.count:
            raise UserError(f'curves.counts holds {count}: give numbers from 20 to below count, which is {config.count}')
    if any(step < 0 for step in curves.steps):
        raise UserError(f'curves.steps is {curves.steps}: give numbers of steps, 0 or more')
    repeated = [name for name, times in collections.Counter(map(study_name, config.studies)).items() if times > 1]
    if repeated:
        raise UserError(f'studies: {repeated[0]} is named twice')
    for study in config.studies:
        study_config(study)
    return Sweep(
        str(pathlib.Path(workdir).absolute()), tuple(config.studies), tuple(config.methods), tuple(config.students), config.seeds,
        config.count, config.student_steps, config.reference, config.privacy, config.interval_draws, tuple(sorted(config.options.items())),
        tuple(sorted(curves.counts)), tuple(curves.count_methods), tuple(sorted(curves.steps)), tuple(curves.steps_methods), curves.seeds)


def study_name(study: str) -> str:
    """What a study of the sweep is called: its config's name."""
    return pathlib.Path(study).stem


def study_config(study: str):
    """The config of a study: a name of experiments/configs, or a file.

    Raises:
      UserError: there is none, or it is none of an experiment.
    """
    path = pathlib.Path(study) if study.endswith('.py') else CONFIGS / f'{study}.py'
    if not path.is_file():
        names = sorted(p.stem for p in CONFIGS.glob('*.py') if p.stem not in ('__init__', 'compare', 'benchmark'))
        raise UserError(f'unknown study {study!r}: choose a config file, or one of {", ".join(names)}')
    from neurostim import config as configs
    config = runpy.run_path(str(path)).get('get_config', lambda: {})()
    if 'teacher' not in config:
        raise UserError(f'studies: {path} has no teacher: choose the config of an experiment')
    configs.check(config)
    return config


# ---------------------------------------------------------------------------------------------------- what is kept


def folder_of(sweep: Sweep, study: str) -> pathlib.Path:
    """Where everything of a study is kept."""
    return pathlib.Path(sweep.workdir) / study_name(study)


@functools.lru_cache(maxsize=1)  # studies come one after another
def ground(sweep: Sweep, study: str) -> Ground:
    """The study, its teacher and what follows from them; the teacher is trained already."""
    import neurostim.teacher as teachers
    from neurostim import alternatives, pipeline, training
    from neurostim.evaluation import comparison
    config = study_config(study)
    loaded, teacher = pipeline.load_study(config), teachers.load(folder_of(sweep, study) / 'teacher')
    test = loaded.part(test=True)
    real = comparison.real_sources(loaded, teacher)
    blank = np.empty((sweep.count, 0), np.float32)
    largest = [comparison.synthetic_source(blank, blank, seed) for seed in range(sweep.seeds)]
    absent = {}
    for method in sweep.methods:
        try:
            alternatives.check(method, loaded, teacher, sweep.count, alternatives.Options(**dict(sweep.options)))
        except UserError as error:
            absent[method] = str(error)
    return Ground(loaded, teacher, test, teacher.scaling.forward(test.x), real,
                  training.capacities([real['real'], *largest]), absent)


@functools.lru_cache(maxsize=4)  # a data set serves its students one after another
def dataset(sweep: Sweep, study: str, made: Made):
    """(Stimuli, seconds that they took to make): kept ones, or made now and kept.

    Where two methods are the same windows under other labels, the windows are made once; their seconds count for both.
    """
    from neurostim import alternatives
    from neurostim.excitation import store
    from neurostim.progress import plain
    on = ground(sweep, study)
    origin = alternatives.origin(made.method)
    started = time.perf_counter()
    if origin:
        windows, seconds = dataset(sweep, study, made._replace(method=origin))
        return alternatives.relabel(on.teacher, windows), seconds + time.perf_counter() - started
    options = alternatives.Options(**{**dict(sweep.options), **({'steps': made.steps} if made.steps >= 0 else {})})
    manifest = plain({'method': made.method, 'count': sweep.count, 'seed': made.seed, 'options': dataclasses.asdict(options),
                      'teacher': on.teacher.digest(), 'study': _study_digest(on.study)})
    folder = folder_of(sweep, study) / 'datasets' / f'{made.method}-{made.seed}-{_digest_of(manifest)}'
    with contextlib.suppress(UserError):  # none there, or one that a kill has cut short, or a damaged one: it is made anew
        return store.read(folder), store.summary(folder)['totals']['seconds']
    stimuli = alternatives.make(made.method)(on.study, on.teacher, sweep.count, made.seed, options)
    seconds = time.perf_counter() - started
    with store.Store(folder, manifest, len(stimuli.x), len(stimuli.x), on.study.shape, len(on.study.classes)) as opened:
        if opened.missing():
            opened.write(0, stimuli.x, stimuli.probabilities, {'seconds': seconds})
        opened.finish()
    return store.read(folder), seconds


def _study_digest(study) -> str:
    from neurostim.evaluation import comparison
    return comparison.digest(study.x, study.y, study.test)


def _digest_of(value) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _network_options(sweep: Sweep):
    from neurostim import training
    return training.TrainingOptions(steps=sweep.student_steps)


def _train(sweep: Sweep, on: Ground, task, source, x: np.ndarray, study: str) -> np.ndarray:
    """A student's probabilities on scaled windows x; kept by the content of what it learns from."""
    from neurostim.evaluation import comparison
    digest = comparison.digest(*source, x, sweep.student_steps, on.capacity)
    cache = comparison.Cache(folder_of(sweep, study) / 'predictions', digest)
    return comparison.train_one(task, source, x, cache, _network_options(sweep), on.capacity)


def predicted(sweep: Sweep, study: str, cell: Cell) -> np.ndarray:
    """A student's probabilities [test windows, classes]."""
    from neurostim.evaluation import comparison
    on = ground(sweep, study)
    stimuli, _ = dataset(sweep, study, cell.made)
    rows = slice(cell.count or None)
    source = comparison.synthetic_source(on.teacher.scaling.forward(stimuli.x[rows]), stimuli.probabilities[rows], cell.made.seed)
    return _train(sweep, on, comparison.Task(cell.student, 'made', cell.made.seed), source, on.test_x, study)


def twins(sweep: Sweep, study: str, twin: Twin) -> tuple[str, list[np.ndarray]]:
    """Which real twin validates better, and its probabilities on the test windows, one a seed."""
    from neurostim import students
    from neurostim.evaluation import comparison
    on = ground(sweep, study)
    train = on.study.part(test=False)
    held = on.real['real'].held
    both = np.concatenate([on.test_x, on.real['real'].x[held]])

    def of(task):
        return _train(sweep, on, task, on.real[task.source], both, study)

    n = len(on.test_x)
    checked = {source: of(comparison.check_task(twin.student, source))[n:] for source in comparison.TWINS}
    chosen = comparison.better_twin(checked, train.y[held])
    seeds = [0 if students.is_deterministic(twin.student) else seed for seed in range(sweep.seeds)]
    return chosen, [of(comparison.Task(twin.student, chosen, seed))[:n] for seed in seeds]


def attacked(sweep: Sweep, study: str, attack: Attack) -> dict[str, dict]:
    """{method: what attackers make of its first data set}, and under '' what they make of people; kept."""
    from neurostim.evaluation import association, neighbours
    from neurostim.progress import plain
    on = ground(sweep, study)
    scaled = on.teacher.scaling.forward(on.study.x)
    people = association.choose_people(on.study)
    train = functools.cache(lambda: association.train_attackers(on.study, scaled, people) if people else [])
    results = {}
    for method in ('', *attack.methods):
        x = on.teacher.scaling.forward(dataset(sweep, study, Made(method, 0))[0].x) if method else scaled[:0]
        digest = _digest_of([_study_digest(on.study), hashlib.sha256(x.tobytes()).hexdigest()])
        path = folder_of(sweep, study) / 'attacks' / f'{digest}.json'
        try:
            results[method] = json.loads(path.read_text())
            continue
        except (OSError, ValueError):
            pass
        if method:
            found = {'confident': {a.name: float(a.confident(x).mean()) for a in train()},
                     'neighbours': neighbours.measure(on.study, scaled, x)}
        else:
            found = {a.name: {
                'known_accuracy': float((a.beliefs(scaled[people.test]).argmax(1) == people.number(on.study.subject[people.test])).mean()),
                'known_confident': float(a.confident(scaled[people.test]).mean()),
                'stranger_confident': float(a.confident(scaled[people.stranger]).mean())} for a in train()}
        results[method] = plain(found)
        _write(path, json.dumps(results[method]))
    return results


def _write(path: pathlib.Path, text: str) -> None:
    """A file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
    temporary.write_text(text)
    os.replace(temporary, path)


# ---------------------------------------------------------------------------------------------------- the sweep


def plan(sweep: Sweep, study: str) -> tuple[list[Made], list]:
    """(data sets, then students and attacks) of a study: each a job by itself, kept once it is done."""
    from neurostim import alternatives
    on = ground(sweep, study)
    methods = [method for method in sweep.methods if method not in on.absent]
    seeds = range(sweep.curve_seeds)
    whole = [Made(method, seed) for method in methods for seed in range(sweep.seeds)]
    stepped = [Made(method, seed, steps) for method in sweep.steps_methods if method in methods for steps in sweep.steps for seed in seeds]
    jobs = [Twin(student) for student in sweep.students]
    jobs += [Cell(student, made) for made in whole for student in sweep.students]
    jobs += [Cell(student, Made(method, seed), count) for method in sweep.count_methods if method in methods for count in sweep.counts
             for seed in seeds for student in sweep.students]
    jobs += [Cell(student, made) for made in stepped for student in sweep.students]
    if sweep.privacy:
        jobs.append(Attack(tuple(methods)))
    sources = [made._replace(method=alternatives.origin(made.method) or made.method) for made in whole + stepped]
    return list(dict.fromkeys(sources)), jobs


def work(sweep: Sweep, study: str, job) -> None:
    """Does one job; its result is kept on disk."""
    {Made: dataset, Cell: predicted, Twin: twins, Attack: attacked}[type(job)](sweep, study, job)


def perform(sweep: Sweep, study: str, jobs: list, pool: concurrent.futures.Executor | None, done) -> None:
    """Does jobs in a pool of processes, or here without one; `done` is called with how many are done."""
    if pool is None:
        for number, job in enumerate(jobs):
            work(sweep, study, job)
            done(number + 1)
        return
    futures = [pool.submit(work, sweep, study, job) for job in jobs]
    try:
        for number, future in enumerate(concurrent.futures.as_completed(futures)):
            future.result()
            done(number + 1)
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise


def workers(processes: int):
    """A context that gives a pool of so many processes, or None for one: this one."""
    if processes == 1:
        return contextlib.nullcontext()
    return concurrent.futures.ProcessPoolExecutor(processes, multiprocessing.get_context('spawn'), initializer=entry.prepare_jax)


def compare(sweep: Sweep, processes: int = 1, say=lambda text: print(text, file=sys.stderr, flush=True)) -> dict:
    """The whole sweep; what an earlier, interrupted one has finished is kept. Returns what compare.json holds.

    Raises:
      UserError: whatever a study, a teacher or a folder finds wrong; another sweep at work in the same folder.
    """
    from neurostim import pipeline
    from neurostim.progress import MetricsWriter, Progress, plain
    pipeline.check_writable(pathlib.Path(sweep.workdir))
    pathlib.Path(sweep.workdir).mkdir(parents=True, exist_ok=True)
    with open(pathlib.Path(sweep.workdir) / 'lock', 'a') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it when the process dies
        except BlockingIOError:
            raise UserError(f'another sweep is at work in {sweep.workdir}: wait for it to end, or choose another --workdir') from None
        studies = {}
        with workers(processes) as pool:
            for study in sweep.studies:
                name = study_name(study)
                pipeline.train(study_config(study), folder_of(sweep, study), lambda text, name=name: say(f'{name}: {text}'))
                datasets, jobs = plan(sweep, study)
                for what, part in (('data sets', datasets), ('students and attacks', jobs)):
                    with (MetricsWriter(folder_of(sweep, study) / 'metrics.jsonl') as writer,
                          Progress(len(part), what, f'compare {name}', writer) as progress):
                        perform(sweep, study, part, pool, progress.update)
                studies[name] = assemble(sweep, study)
        return plain({'sweep': {k: v for k, v in dataclasses.asdict(sweep).items() if k != 'workdir'}, 'studies': studies})


# ---------------------------------------------------------------------------------------------------- figures


def assemble(sweep: Sweep, study: str) -> dict:
    """All figures of a study whose jobs are done."""
    from neurostim import pipeline
    from neurostim.evaluation import comparison, utility
    on = ground(sweep, study)
    methods = [method for method in sweep.methods if method not in on.absent]
    attacks = attacked(sweep, study, Attack(tuple(methods))) if sweep.privacy else {}
    real = {student: twins(sweep, study, Twin(student)) for student in sweep.students}
    called, entries = {}, []
    for method in methods:
        for student in sweep.students:
            called[method, student] = [predicted(sweep, study, Cell(student, Made(method, seed))) for seed in range(sweep.seeds)]
        makes = [dataset(sweep, study, Made(method, seed)) for seed in range(sweep.seeds)]
        seconds = [seconds for _, seconds in makes]
        entries.append({
            'name': method, 'count': len(makes[0][0].label),
            'class_counts': np.bincount(makes[0][0].label, minlength=len(on.study.classes)),
            'seconds': seconds, 'per_second': float(np.mean([len(s.label) / max(t, 1e-9) for s, t in makes])),
            **_privacy(attacks.get(method))})
    rows, means = tests(on, methods, sweep, real, called)
    for entry_, mean in zip(entries, means, strict=True):
        entry_.update(mean)
    groups = len(np.unique(on.test.group))
    note = (f'the intervals and tests rest on {groups} test subjects, records or blocks: they are too narrow'
            if groups < comparison.FEW_GROUPS else None)
    return {
        'study': pipeline.describe(on.study), 'teacher': {
            'models': on.teacher.names, **utility.score(on.test.y, on.teacher.predict_scaled(on.test_x))},
        'real': [{'student': student, 'labels': chosen, **_kappas(on, predictions)} for student, (chosen, predictions) in real.items()],
        'methods': entries, 'rows': rows, 'people': attacks.get(''), 'curves': curves(sweep, study, methods),
        'notes': [*(f'{method}: left out ({why})' for method, why in on.absent.items()), *([note] if note else [])]}


def _privacy(found: dict | None) -> dict:
    """What attackers made of a method's data set; None where nothing, or nobody, could be attacked."""
    shares = list((found or {}).get('confident', {}).values())
    return {'confident': (found or {}).get('confident') or None, 'confident_mean': float(np.mean(shares)) if shares else None,
            'neighbours': (found or {}).get('neighbours')}


def _kappas(on: Ground, predictions: list[np.ndarray]) -> dict:
    """Mean and standard deviation of kappa over seeds."""
    from neurostim.evaluation import utility
    values = [utility.score(on.test.y, p)['kappa'] for p in predictions]
    return {'kappa': float(np.mean(values)), 'kappa_sd': float(np.std(values))}


def tests(on: Ground, methods: list[str], sweep: Sweep, real: dict, called: dict) -> tuple[list[dict], list[dict]]:
    """Paired differences of kappa with 95 % intervals and p-values, corrected for how many are made in this study: (a row for each method
    and student, means over students for each method).

    'gap' is real minus method, 'against_reference' method minus the reference; both pair seeds, and resample test groups together.
    """
    from neurostim.evaluation import significance, utility

    def difference(better, worse):
        labels = [np.stack(predictions).argmax(-1) for predictions in (better, worse)]
        return utility.gap_draws(on.test.y, on.test.group, *labels, len(on.test.classes), sweep.interval_draws)

    def figures(gap, draws):
        if draws is None:  # one group only
            return {'difference': gap, 'ci95': None, 'p': None}
        return {'difference': gap, 'ci95': np.percentile(draws, [2.5, 97.5]), 'p': significance.two_sided(draws)}

    rows, means = [], []
    for method in methods:
        gaps, against = [], []
        for student in sweep.students:
            own = called[method, student]
            gaps.append(difference(real[student][1], own))
            row = {'method': method, 'student': student, **_kappas(on, own), 'gap': figures(*gaps[-1]), 'against_reference': None}
            if method != sweep.reference and sweep.reference in methods:
                against.append(difference(own, called[sweep.reference, student]))
                row['against_reference'] = figures(*against[-1])
            rows.append(row)
        means.append({'gap': figures(*_mean(gaps)), 'against_reference': figures(*_mean(against)) if against else None,
                      'kappa': float(np.mean([row['kappa'] for row in rows[-len(gaps):]]))})
    for family in (rows, means):
        for what in ('gap', 'against_reference'):
            tested = [row[what] for row in family if row[what] and row[what]['p'] is not None]
            for figure, corrected in zip(tested, significance.holm([figure['p'] for figure in tested]), strict=True):
                figure['p_holm'] = float(corrected)
    return rows, means


def _mean(differences: list) -> tuple[float, np.ndarray | None]:
    """The mean over students: their draws resample the same groups."""
    gaps, draws = zip(*differences, strict=True)
    return float(np.mean(gaps)), None if draws[0] is None else np.mean(draws, 0)


def curves(sweep: Sweep, study: str, methods: list[str]) -> dict[str, list[dict]]:
    """Kappa against the number of stimuli, and against steps of excitation: [{'method', 'student', 'at', 'kappa', 'kappa_sd'}] each."""
    on = ground(sweep, study)
    seeds = range(sweep.curve_seeds)

    def points(cells):
        return [{'method': cells_of[0].made.method, 'student': cells_of[0].student, 'at': at,
                 **_kappas(on, [predicted(sweep, study, cell) for cell in cells_of])} for at, cells_of in cells]

    by_count = [(count, [Cell(student, Made(method, seed), 0 if count == sweep.count else count) for seed in seeds])
                for method in sweep.count_methods if method in methods for student in sweep.students
                for count in (*sweep.counts, sweep.count) if sweep.counts]
    by_steps = [(steps, [Cell(student, Made(method, seed, steps)) for seed in seeds])
                for method in sweep.steps_methods if method in methods for student in sweep.students for steps in sweep.steps]
    return {'count': points(by_count), 'steps': points(by_steps)}


def table(results: dict) -> str:
    """Markdown: a method a row with every student's gap, then every gap with its interval and tests."""
    lines = []
    for name, study in results['studies'].items():
        students = [twin['student'] for twin in study['real']]
        gaps = {(row['method'], row['student']): row for row in study['rows']}
        lines += [f'## {name}', '',
                  f'Teacher kappa {study["teacher"]["kappa"]:.3f}; {results["sweep"]["seeds"]} seeds. Gap in kappa, real minus method; '
                  f'* differs from 0 (p < {LEVEL:g} after Holm, over methods and students).', '',
                  f'| method | {" | ".join(students)} | mean gap [95 % interval] | a second | sure of somebody | distance ratio |',
                  '| --- ' * (len(students) + 5) + '|',
                  f'| *kappa on real windows* | {" | ".join(_number(twin["kappa"]) for twin in study["real"])} | | | '
                  f'{_number(_strangers(study))} *strangers* | |']
        for method in study['methods']:
            cells = [_marked(gaps[method['name'], student]['gap']) for student in students]
            near = (method['neighbours'] or {}).get('ratio')
            lines.append(f'| {method["name"]} | {" | ".join(cells)} | {_marked(method["gap"])} {_interval(method["gap"])} | '
                         f'{method["per_second"]:.0f} | {_number(method["confident_mean"])} | {_number(near)} |')
        lines += ['', f'| method | student | kappa ± sd | gap [95 % interval] | p, corrected | minus {results["sweep"]["reference"]} '
                  '[95 % interval] | p, corrected |', '| --- | --- | --- | --- | --- | --- | --- |']
        for row in study['rows']:
            lines.append(f'| {row["method"]} | {row["student"]} | {row["kappa"]:.3f} ± {row["kappa_sd"]:.3f} | {_tested(row["gap"])} | '
                         f'{_tested(row["against_reference"])} |')
        lines += ['', *(f'- {note}' for note in study['notes']), '']
    return '\n'.join(lines)


def _strangers(study: dict) -> float | None:
    """How often attackers are sure of strangers, a mean over them."""
    shares = [attacker['stranger_confident'] for attacker in (study['people'] or {}).values()]
    return float(np.mean(shares)) if shares else None


def _number(value) -> str:
    return '–' if value is None else f'{value:.3f}'


def _marked(figure: dict) -> str:
    return f'{figure["difference"]:+.3f}' + ('*' if (figure.get('p_holm') or 1) < LEVEL else '')


def _interval(figure: dict) -> str:
    return '' if figure['ci95'] is None else '[{:+.3f}, {:+.3f}]'.format(*figure['ci95'])


def _tested(figure: dict | None) -> str:
    return '– | –' if figure is None else f'{figure["difference"]:+.3f} {_interval(figure)} | {_number(figure.get("p_holm"))}'


# ---------------------------------------------------------------------------------------------------- command


def check_flags() -> None:
    """Refuses a command line without a folder, before any work."""
    if not flags.FLAGS.workdir:
        raise UserError('give --workdir=DIR')
    if flags.FLAGS.config is None:
        raise UserError(f'--config is empty: leave it out for {CONFIG}, or name a file like it')
    for name in ('phase', 'coordinator', 'processes', 'process'):
        if flags.FLAGS[name].present:
            raise UserError(f'--{name} is of experiments.run: here --config.processes=N works with several processes')
    'methods' in flags.FLAGS.config  # noqa: B015 (a file that cannot be loaded says so on its first use)


def parse_flags(arguments: list[str]) -> list[str]:
    """The command line, with this comparison's config as the default one."""
    named = any(argument.split('=')[0].lstrip('-') == 'config' for argument in arguments[1:])
    return entry.parse_flags(arguments[:1] + [f'--config={CONFIGS / "compare.py"}'] * (not named) + arguments[1:], check_flags)


def main(_) -> None:
    """Sweeps, prints and writes."""
    folder = pathlib.Path(flags.FLAGS.workdir)
    try:
        from experiments import compare_charts
        entry.prepare_jax()
        sweep = make_sweep(flags.FLAGS.config, folder)
        results = compare(sweep, flags.FLAGS.config.processes)
        _write(folder / 'compare.json', json.dumps(results, indent=1))
        _write(folder / 'compare.md', table(results))
        pictures = compare_charts.write(results, folder)
    except UserError as error:
        entry.fail(error)
    except OSError as error:
        entry.fail(f'{error}: check that --workdir={folder} can be written to and has space')
    print(table(results))
    print(f'written: {", ".join(map(str, (folder / "compare.json", folder / "compare.md", *pictures)))}')


if __name__ == '__main__':
    app.run(main, flags_parser=parse_flags)
