r"""Excitation's throughput: rows over models x methods x batch x dtype, and side by side with PyTorch.

    python -m experiments.benchmark --output=runs/benchmark.json
    python -m experiments.benchmark --output=FILE.json --config.cases="('cnn',)" --config.batches="(128, 512)" --config.repeats=3
    python -m experiments.benchmark --output=FILE.json --config=experiments/configs/apnea_respiration.py --config.study.path=FOLDER

Fields of --config are described in `experiments/configs/benchmark.py`, the default. An experiment's config is taken as well: then
its study and its committee are what is measured, with its method and with 'direct'.

What is measured, and how:
  models     'cnn' (windows [60, 1]), 'committee' (the default one, the same windows), 'published' (the published MNIST classifier,
             images [28, 28, 1]). Weights are random: speed does not depend on them. Windows are the embedded breathing study, images
             are made with NumPy; they matter for the sizes of the population's statistics only.
  time       of the calls that `excite` makes, results fetched to the host; each repeat lasts at least `seconds`; medians of `repeats`.
  compile    lowering and compilation, before the first call; nothing comes from the cache on disk.
  FLOPs      XLA's cost analysis of the program as written, before fusion, so that what is computed twice counts once. It counts
             a loop's body once whatever its length: one gradient step is a program with one step less a program with none, with the
             teacher's own loops unrolled. The rate counts these steps alone: drawing a start and the last look at it are time, not work.
             On CPU some convolutions take fewer multiplications than their definition does (neurostim/models/layers.py); `share` counts
             what is computed, `book` what the definition would: the useful work, to be compared with other programs'.
  peak       the best of several large float32 matrix products, repeated through the run, in JAX's default precision for the device,
             which is what excitation uses too. Several accelerators are compared with as many times the peak of one.
  roofline   the lesser of that peak and of bandwidth times FLOPs a byte. Bytes are those that the compiled step reads and writes by
             XLA's analysis, fusions counted once (a recurrent teacher's own loop once too). On CPU a batch is meant to stay in the
             cache: bandwidth is that of passes over a mebibyte, on all devices at once; elsewhere that of the device's memory.
  devices    `experiments/benchmark_devices.py`: the same number of stimuli a call on 1, 2, ... devices of one process, by turns. On
             CPU they are virtual and share all cores: what is shown is what spreading costs.
  memory     off CPU the allocator's peak since the process started; on CPU the most resident memory of the process during the row
             (VmHWM; where it cannot be reset, ru_maxrss, the most since the start). What it is stands in `peak_memory_kind`.
  versus     `experiments/benchmark_torch.py`; always on CPU. Each thread count is a process of its own, pinned to as many CPUs,
             because JAX takes its threads when it starts.
  others     `other_cpus` is how many CPUs other processes kept busy meanwhile. On a busy machine nothing here is worth quoting, and
             `versus` least of all: PyTorch's OpenMP threads wait for each other after every operation.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from typing import Any, NamedTuple
from unittest import mock

import jax
import numpy as np
from absl import app, flags

from experiments import command_line
from experiments.machine import Watch, device_name, matmul_peak, memory_bandwidth, peak_memory, reset_peak_memory
from neurostim import config as configs
from neurostim import data, devices
from neurostim import teacher as teachers
from neurostim.config import load_study
from neurostim.errors import UserError, choose
from neurostim.excitation import engine, flow, parameterisation, produce, targets
from neurostim.excitation.population import fit_population
from neurostim.files import write_whole
from neurostim.models import layers
from neurostim.scaling import fit_scaling
from neurostim.study import Study, make_study
from neurostim.teacher import Teacher

_OUTPUT = flags.DEFINE_string('output', None, 'The JSON file to write.')
CONFIG = pathlib.Path(__file__).parent / 'configs' / 'benchmark.py'
CASES = ('cnn', 'committee', 'published')
TORCH = "PyTorch is not installed, so there is no comparison: pip install 'torch==2.13.0' threadpoolctl, or `make bench`"


class Case(NamedTuple):
    """A teacher and what it is measured with, unless the config says so."""

    teacher: Teacher
    methods: tuple[str, ...]
    batches: tuple[int, ...]


def random_teacher(names: tuple[str, ...], study: Study, seed: int = 0, with_flow: bool = False) -> Teacher:
    """A teacher for the study with random weights; the flow, which takes seconds to compile, only where it is wanted."""
    train = study.part(test=False)
    scaling = fit_scaling(train.x, study.kind)
    model = teachers.make_committee(names, study.shape, len(study.classes))
    params = jax.tree.map(np.asarray, jax.jit(model.init)(jax.random.key(seed)))
    population = fit_population(scaling.forward(train.x), study.kind, train.y, len(study.classes), seed)
    if with_flow and flow.suits(study.shape):  # what a draw costs does not depend on what the flow has learnt
        held, few = np.arange(len(train.y)) % 8 == 0, flow.FlowOptions(steps=1)
        population.update(flow.fit(scaling.forward(train.x), train.y, held, len(study.classes), few, seed))
    return Teacher(names, model, params, scaling, population, classes=study.classes, channels=study.channels, kind=study.kind, curves={})


def random_images(seed: int = 0, n: int = 1500) -> Study:
    """Ten classes of smooth blotches [28, 28, 1], as many numbers as MNIST's."""
    rng = np.random.default_rng(seed)
    low = np.kron(rng.normal(size=(n, 7, 7)), np.ones((4, 4)))
    x = np.clip(low + 0.3 * rng.normal(size=low.shape), 0, 1)[..., None]
    return make_study('random images', x, np.arange(n) % 10, np.arange(n) // 10 % 10)


def make_case(name: str, seed: int = 0, generator: bool = False) -> Case:
    """One of `CASES`."""
    on_cpu = devices.on_cpu()
    if name == 'published':
        methods = ('direct', 'mixture') + ('generator',) * generator
        return Case(random_teacher(('published',), random_images(seed), seed), methods, (32, 128) if on_cpu else (1024, 8192))
    names = ('cnn',) if name == 'cnn' else tuple(configs.default_config().teacher.models)
    batches = (32, 128, 512) if on_cpu else (4096, 32768)
    return Case(random_teacher(names, data.load('breathing', seed=seed), seed, with_flow=True), ('direct', 'modulated', 'flow'), batches)


def experiment_case(config) -> Case:
    """The study and the committee of an experiment's config."""
    configs.check(config)
    with_flow = config.teacher.flow.steps != 0
    teacher = random_teacher(tuple(config.teacher.models), load_study(config), config.seed, with_flow)
    asked = configs.excite_settings(config)  # but for what takes networks that a random teacher has not
    settings = produce.resolve(dataclasses.replace(asked, surplus=1, weights=dataclasses.replace(asked.weights, inhibit=0.0)), teacher)
    return Case(teacher, tuple(dict.fromkeys((settings.method, 'direct'))), (0,))


def plan(cases: dict[str, Case], config) -> list[tuple[str, Teacher, produce.Settings]]:
    """Every row to measure as (case, teacher, resolved settings); refuses what does not fit before anything is timed."""
    dtypes = config.dtypes or (produce.DTYPES[:1] if devices.on_cpu() else produce.DTYPES)
    rows = []
    for name, case in cases.items():
        for method in config.methods or case.methods:
            steps = config.steps
            if steps < 0 and case.teacher.kind == 'images':
                steps = {'direct': 20, 'generator': 5}.get(method, -1)
            for batch in (0,) if method == 'generator' and not config.batches else config.batches or case.batches:
                for dtype in dtypes:
                    settings = produce.Settings(method, steps=steps, batch=batch, dtype=dtype)
                    rows.append((name, case.teacher, produce.resolve(settings, case.teacher)))
    return rows


def build_of_steps(teacher: Teacher, settings: produce.Settings, steps: int, stimuli: int):
    """Excitation of so many stimuli at once whose number of steps is part of the program, as it is not in what `produce` compiles."""
    sampler = targets.make_sampler('threshold', teacher.population['class_share'])
    options = engine.Options(steps, settings.learning_rate, weights=settings.weights)
    return engine.build(teacher, teacher.population, settings.method, sampler, options, stimuli, stimuli, settings.dtype)


def step_flops(teacher: Teacher, settings: produce.Settings, textbook: bool = False, stimuli: int = 4) -> float:
    """FLOPs of one gradient step of one stimulus: forward, backward to the searched variables, objective and Adam; with `textbook` those
    that convolutions take by their definition, whatever they are computed by."""
    def flops(steps):
        excite = build_of_steps(teacher, settings, steps, stimuli)
        return jax.jit(excite).lower(jax.random.key(0), 0, teacher.networks, teacher.population).cost_analysis()['flops']

    with (jax.default_device(jax.devices('cpu')[0]),  # a GPU's plugin does not count
          mock.patch.object(jax.lax, 'scan', functools.partial(jax.lax.scan, unroll=True)),
          mock.patch.object(layers, 'WINOGRAD_TAPS', () if textbook else layers.WINOGRAD_TAPS)):
        return (flops(1) - flops(0)) / stimuli


class Timed(NamedTuple):
    """A compiled excitation: ``run(calls)`` makes that many batches, fetched to the host, and returns the seconds it took.

    Attributes:
      total: stimuli a call.
      compile_seconds: what compiling took.
    """

    run: Any
    total: int
    compile_seconds: float


def timed_excitation(teacher: Teacher, settings: produce.Settings, seed: int = 0, over=None) -> Timed:
    """Compiles resolved settings for measuring."""
    call = produce.make_call(teacher, settings, over)
    key = jax.random.key(seed)
    started = time.perf_counter()
    call.compile(key, teacher.networks, teacher.population)
    compile_seconds, total = time.perf_counter() - started, call.count * call.devices

    def run(calls):
        started = time.perf_counter()
        for _ in produce.stream(call, key, teacher, range(0, calls * total, call.count)):
            pass
        return time.perf_counter() - started

    return Timed(run, total, compile_seconds)


def step_bytes(teacher: Teacher, settings: produce.Settings) -> float:
    """Bytes that one gradient step of one stimulus reads and writes: a program's, of whose loop XLA's analysis counts the body
    once, less those of a program without steps; nan where it does not say."""
    moved = []
    for steps in (2, 0):
        program = devices.OverDevices(build_of_steps(teacher, settings, steps, settings.lanes), settings.lanes).compile(
            jax.random.key(0), teacher.networks, teacher.population)
        moved.append((program.cost_analysis() or {}).get('bytes accessed', math.nan))
    return (moved[0] - moved[1]) / settings.lanes


def measure(name: str, teacher: Teacher, settings: produce.Settings, config) -> dict[str, Any]:
    """One row, but for its fractions of the peak and of the roofline."""
    reset = reset_peak_memory()
    run, total, compile_seconds = timed_excitation(teacher, settings, config.seed)
    run(1)
    once = run(1)
    calls = max(1, math.ceil(config.seconds / once))
    watch = Watch()
    seconds = [run(calls) / calls for _ in range(config.repeats)]
    others = watch.other_cpus()
    rates = [total / s for s in seconds]
    memory, kind = peak_memory(reset)
    flops, textbook, median = step_flops(teacher, settings), step_flops(teacher, settings, textbook=True), statistics.median(rates)
    moved = step_bytes(teacher, settings) if settings.steps and settings.method != 'generator' else math.nan
    return {
        'model': name, 'members': list(teacher.names), 'shape': list(teacher.shape), 'method': settings.method, 'batch': settings.batch,
        'lanes': settings.lanes, 'steps': settings.steps, 'dtype': settings.dtype, 'devices': jax.local_device_count(),
        'stimuli_per_second': median,
        'stimuli_per_second_range': [min(rates), max(rates)], 'sample_steps_per_second': median * settings.steps,
        'flops_per_sample_step': flops, 'flops_per_second': flops * median * settings.steps, 'compile_seconds': compile_seconds,
        'textbook_flops_per_sample_step': textbook, 'bytes_per_sample_step': moved if moved > 0 else None,
        'peak_memory_bytes': memory, 'peak_memory_kind': kind, 'other_cpus': others, 'repeats': config.repeats, 'calls_a_repeat': calls}


def versus(config, say) -> list[dict[str, Any]]:
    """The same loop in PyTorch: one process a thread count. Empty, with a remark, where it cannot be measured."""
    if not config.versus.models or not config.versus.threads:
        return []
    if importlib.util.find_spec('torch') is None:
        say(TORCH)
        return []
    if not hasattr(os, 'sched_setaffinity'):
        say('this system cannot pin a process to CPUs, so there is no comparison with PyTorch')
        return []
    cpus, rows = sorted(os.sched_getaffinity(0)), []
    for threads in config.versus.threads:
        if threads > len(cpus):
            say(f'versus: {threads} threads left out, there are {len(cpus)} CPUs')
            continue
        spec = {**config.versus.to_dict(), 'threads': threads, 'seconds': config.seconds, 'seed': config.seed}
        variables = {name: str(threads) for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS')}
        xla = (f'{os.environ.get("XLA_FLAGS", "")} --xla_cpu_multi_thread_eigen={"true" if threads > 1 else "false"} '
               f'--xla_force_host_platform_device_count={threads}')
        os.sched_setaffinity(0, cpus[:threads])  # of this thread; what it starts inherits it
        try:
            worker = subprocess.Popen(
                [sys.executable, '-m', 'experiments.benchmark_torch', json.dumps(spec)], stdout=subprocess.PIPE, text=True,
                env={**os.environ, **variables, 'XLA_FLAGS': xla.strip(), 'JAX_PLATFORMS': 'cpu'})
        finally:
            os.sched_setaffinity(0, cpus)
        printed = worker.communicate()[0]
        rows += json.loads(printed.splitlines()[-1]) if worker.returncode == 0 else [
            {'peer': 'PyTorch', 'threads': threads, 'model': model, 'ratio_median': None, 'ratio_min': None, 'ratio_max': None,
             'note': f'failed with status {worker.returncode}, see the output above'} for model in config.versus.models]
        for row in rows[-len(config.versus.models):]:
            say('versus: ' + versus_line(row))
    return rows


def over_devices(config, say) -> list[dict[str, Any]]:
    """The same work on several devices of one process, which is another process's: CPU devices are made when JAX starts."""
    if not config.devices:
        return []
    xla = os.environ.get('XLA_FLAGS', '')
    if devices.on_cpu():
        xla += f' --xla_force_host_platform_device_count={max(config.devices)}'
    spec = {'devices': config.devices, 'seconds': config.seconds, 'repeats': config.repeats, 'seed': config.seed}
    worker = subprocess.run([sys.executable, '-m', 'experiments.benchmark_devices', json.dumps(spec)], stdout=subprocess.PIPE, text=True,
                            env={**os.environ, 'XLA_FLAGS': xla.strip()})
    if worker.returncode:
        say(f'devices: failed with status {worker.returncode}, see the output above')
        return []
    rows = json.loads(worker.stdout.splitlines()[-1])
    for row in rows:
        say('devices: ' + devices_line(row))
    return rows


def devices_line(row: dict[str, Any]) -> str:
    """A number of devices in words."""
    return (f'{row["devices"]} x batch {row["batch"]}: {row["stimuli_per_second"]:.0f} stimuli/s, {row["ratio_median"]:.2f} '
            f'({row["ratio_min"]:.2f} to {row["ratio_max"]:.2f}) times one device')


def benchmark(config, say=lambda text: print(text, file=sys.stderr, flush=True)) -> dict[str, Any]:
    """Measures everything; returns what is written to the file."""
    if 'teacher' in config:
        from experiments.configs.benchmark import get_config
        cases, config = {config.study.name: experiment_case(config)}, get_config()
    else:
        check(config)
        cases = {name: make_case(name, config.seed, config.generator) for name in config.cases}
    planned = plan(cases, config)
    load = os.getloadavg()
    peak, bandwidth, rows = matmul_peak(config.peak_sizes), memory_bandwidth(2**20 if devices.on_cpu() else 2**28), []
    for i, (name, *what) in enumerate(planned):
        rows.append(measure(name, *what, config))
        peak = max(peak, matmul_peak(config.peak_sizes, 2))
        say(f'{i + 1}/{len(planned)} ' + row_line(rows[-1]))
    accelerators = 1 if devices.on_cpu() else jax.local_device_count()  # a CPU's peak is of all its cores
    for row in rows:
        row['fraction_of_matmul_peak'] = row['flops_per_second'] / (peak * accelerators)
        row['textbook_fraction'] = row['fraction_of_matmul_peak'] * row['textbook_flops_per_sample_step'] / row['flops_per_sample_step']
        moved = row['bytes_per_sample_step']
        roof = min(peak * accelerators, row['flops_per_sample_step'] / moved * bandwidth) if moved else None
        row['fraction_of_roofline'] = row['flops_per_second'] / roof if roof else None
    return {'device': device_name(), 'versions': {'jax': jax.__version__, 'python': platform.python_version()},
            'load_average': [list(load), list(os.getloadavg())], 'matmul_peak_flops_per_second': peak,
            'bytes_per_second': bandwidth, 'rows': rows, 'devices': over_devices(config, say), 'versus': versus(config, say)}


def check(config) -> None:
    """Refuses unknown names and values out of range.

    Raises:
      UserError: naming the field, its value and the choices.
    """
    for field, names in (('cases', CASES), ('methods', tuple(parameterisation.NAMES)), ('dtypes', produce.DTYPES)):
        for name in config[field]:
            choose(name, names, f'name in {field}')
    for name in config.versus.models:
        choose(name, ('cnn', 'published'), 'name in versus.models')
    if not len(config.versus.models) == len(config.versus.batches) == len(config.versus.steps):
        raise UserError('versus.models, versus.batches and versus.steps differ in length: give one batch and one number of steps a model')
    given = {name: config[name] for name in ('repeats', 'steps', 'seed', 'batches', 'peak_sizes')}
    given['devices'] = config.devices
    given.update({f'versus.{name}': config.versus[name] for name in ('batches', 'steps', 'threads', 'repeats')})
    for field, values in given.items():
        least = {'steps': -1, 'seed': 0, 'batches': 0}.get(field, 1)
        for value in values if isinstance(values, tuple) else (values,):
            if not isinstance(value, int) or value < least:
                raise UserError(f'{field}: {value!r}: give a whole number of at least {least}')
    if not (config.seconds >= 0 and math.isfinite(config.seconds)):
        raise UserError(f'seconds is {config.seconds}: give 0 or more')


def row_line(row: dict[str, Any]) -> str:
    """A row of the table."""
    share, book, roof = (' ' * 6 if row.get(name) is None else f'{row[name]:6.3f}'
                         for name in ('fraction_of_matmul_peak', 'textbook_fraction', 'fraction_of_roofline'))
    low, high = (100 * (rate / row['stimuli_per_second'] - 1) for rate in row['stimuli_per_second_range'])
    return (f'{row["model"]:<18}{row["method"]:<10}{row["dtype"]:<9}{row["batch"]:>6}{row["steps"]:>6}{row["stimuli_per_second"]:>11.1f}'
            f' {low:+4.0f}{high:+4.0f} %{row["sample_steps_per_second"]:>12.0f}{row["flops_per_second"] / 1e9:>10.1f} {share} {book} {roof}'
            f'{row["compile_seconds"]:>11.1f}{row["peak_memory_bytes"] / 2**20:>9.0f}{row["other_cpus"] or 0:>8.1f}')


def versus_line(row: dict[str, Any]) -> str:
    """A comparison in words."""
    what = f'{row["model"]} against {row["peer"]}, {row["threads"]} thread(s)'
    if row['ratio_median'] is None:
        return f'{what}: {row["note"]}'
    busy = (row['other_cpus'] or 0) > 0.1 * row['threads']
    return (f'{what}, batch {row["batch"]}, {row["steps"]} steps: '
            f'{row["ratio_median"]:.2f} ({row["ratio_min"]:.2f} to {row["ratio_max"]:.2f}) times as fast, '
            f'{row["ours_sample_steps_per_second"]:.0f} to {row["theirs_sample_steps_per_second"]:.0f} sample-steps/s'
            + f'; NOT TO BE QUOTED, other processes kept {row["other_cpus"] or 0:.1f} CPUs busy' * busy)


def table(results: dict[str, Any]) -> str:
    """The whole file for a reader."""
    heading = (f'{"model":<18}{"method":<10}{"dtype":<9}{"batch":>6}{"steps":>6}{"stimuli/s":>11}{"spread":>11}{"steps/s":>12}'
               f'{"GFLOP/s":>10} {"share":>6} {"book":>6} {"roof":>6}{"compile s":>11}{"MiB":>9}{"others":>8}')
    return '\n'.join([
        f'{results["device"]}; best matrix product {results["matmul_peak_flops_per_second"] / 1e9:.0f} GFLOP/s (share: fraction of it; '
        'book: the same with FLOPs as convolutions are defined; roof: fraction of what it and '
        f'{results["bytes_per_second"] / 1e9:.0f} GB/s allow; '
        'others: CPUs that other processes kept busy)',
        heading, *map(row_line, results['rows']),
        *map(devices_line, results['devices']), *map(versus_line, results['versus'])])


def plot(results: dict[str, Any], path: pathlib.Path) -> None:
    """Stimuli a second against the batch, and against the number of devices where it was measured."""
    from matplotlib.figure import Figure
    panels = 1 + bool(results['devices'])
    figure = Figure(figsize=(5.5 * panels, 4), layout='constrained')
    axes = figure.subplots(1, panels, squeeze=False)[0]
    lines = {}
    for row in results['rows']:
        lines.setdefault((row['model'], row['method'], row['dtype']), []).append(row)
    for (model, method, dtype), rows in lines.items():
        rows = sorted(rows, key=lambda row: row['batch'])
        rates = [row['stimuli_per_second'] for row in rows]
        spread = [[abs(rate - row['stimuli_per_second_range'][i]) for rate, row in zip(rates, rows, strict=True)] for i in (0, 1)]
        axes[0].errorbar([row['batch'] for row in rows], rates, spread, marker='o', capsize=3,
                         label=f'{model}, {method}, {rows[0]["steps"]} steps' + (f', {dtype}' if dtype != 'float32' else ''))
    axes[0].set(xscale='log', yscale='log', xlabel='batch (stimuli a device and call)', ylabel='stimuli a second', title=results['device'])
    axes[0].legend(fontsize=7)
    if results['devices']:
        counts, middle = ([row[name] for row in results['devices']] for name in ('devices', 'ratio_median'))
        spread = [[abs(row['ratio_median'] - row[name]) for row in results['devices']] for name in ('ratio_min', 'ratio_max')]
        axes[1].errorbar(counts, middle, spread, marker='o', capsize=3)
        axes[1].axhline(1, color='grey', linewidth=0.8)
        axes[1].set(ylim=(0, None), xticks=counts, xlabel='devices', ylabel='throughput, one device = 1', title='the same work, spread')
    figure.savefig(path, dpi=120)


def check_flags() -> None:
    """Refuses a command line without a file to write, before anything is measured."""
    if not _OUTPUT.value:
        raise UserError('give --output=FILE.json')
    if command_line.CONFIG.value is None:
        raise UserError(f'--config is empty: leave it out for {CONFIG}, or name a file of experiments/configs')
    'teacher' in command_line.CONFIG.value  # noqa: B015 (a file that cannot be loaded says so on its first use)
    path = pathlib.Path(_OUTPUT.value)
    if path.is_dir():
        raise UserError(f'--output={path} is a folder: name a file in it, e.g. {path / "benchmark.json"}')
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK):
        raise UserError(f'--output={path}: the folder cannot be written to: choose another')


def main(_) -> None:
    """Measures, prints and writes."""
    path = pathlib.Path(_OUTPUT.value)
    try:
        devices.use_all_cores()
        devices.make_repeatable()
        results = benchmark(command_line.CONFIG.value)
        write_whole(path, json.dumps(results, indent=1))
        plot(results, path.with_suffix('.png'))  # last: minutes of measuring are safe by now
    except (UserError, OSError) as error:
        command_line.fail(error)
    print(table(results))
    print(f'written: {path}, {path.with_suffix(".png")}')


if __name__ == '__main__':
    app.run(main, flags_parser=functools.partial(command_line.parse_flags, check=check_flags, default_config=CONFIG))
