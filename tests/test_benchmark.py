"""The benchmark: what it writes, what it counts, and that PyTorch's side runs the same loop."""

import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from experiments import benchmark, benchmark_devices, machine
from experiments.configs.benchmark import get_config
from neurostim import devices
from neurostim.config import default_config
from neurostim.errors import UserError
from neurostim.excitation import parameterisation, produce, targets
from neurostim.excitation.objective import Weights
from neurostim.study import make_study

QUICK_COMPILE = True


def noise_study(shape, classes=2):
    """100 windows of noise from four people."""
    x = np.random.default_rng(0).normal(size=(100, *shape))
    return make_study('noise', x, np.arange(100) % classes, np.arange(100) // 10 % 4)


def multiplications(name):
    """Of one forward pass, by hand."""
    return {
        'mlp': 60 * 128 + 128 * 64 + 64 * 2,
        'cnn': 30 * 4 * 16 + 15 * 4 * 16 * 32 + 8 * 4 * 32 * 64 + 512 * 64 + 64 * 2,
        'gru': 20 * 6 * 32 + 20 * 32 * 144 + 20 * 48 * 144 + 96 * 2,  # 20 steps of a loop
        'published': 784 * 16 * 32 + 196 * 16 * 32 * 64 + 49 * 16 * 64 * 128 + 49 * 16 * 128 * 128 + 6272 * 1024 + 1024 * 128 + 1280,
    }[name]


@pytest.mark.parametrize(('name', 'above'), [('mlp', 1.08), ('gru', 1.08), ('published', 1.02), ('cnn', 1.6)])
def test_a_step_counts_a_forward_and_a_backward_pass(name, above):
    """Two FLOPs a multiplication, forward and backward, and the elementwise rest, which is large in a small convolutional net."""
    shape, classes = ((28, 28, 1), 10) if name == 'published' else ((60, 1), 2)
    teacher = benchmark.random_teacher((name,), noise_study(shape, classes))
    settings = produce.resolve(produce.Settings('direct', steps=7), teacher)
    least = 1.0 if devices.on_cpu() else 0.8  # of a native convolution XLA does not count products with the padding
    assert least <= benchmark.step_flops(teacher, settings, textbook=True) / (4 * multiplications(name)) < above
    if name == 'published' and devices.on_cpu():  # Toom-Cook's fewer multiplications
        assert benchmark.step_flops(teacher, settings) < 0.8 * benchmark.step_flops(teacher, settings, textbook=True)


def test_schema(monkeypatch, tmp_path):
    teacher = benchmark.random_teacher(('mlp',), noise_study((20, 1)))
    monkeypatch.setattr(benchmark, 'make_case', lambda *_: benchmark.Case(teacher, ('direct', 'gaussian'), (8,)))
    config = get_config()
    config.update({'cases': ('cnn',), 'steps': 2, 'repeats': 2, 'seconds': 0.0, 'peak_sizes': (64,), 'dtypes': ('float32', 'bfloat16')})
    config.devices = config.versus.models = config.versus.batches = config.versus.steps = ()
    results = json.loads(json.dumps(benchmark.benchmark(config, say=lambda _: None)))
    assert isinstance(results['device'], str) and results['matmul_peak_flops_per_second'] > 0 and results['versus'] == []
    assert [(r['method'], r['dtype']) for r in results['rows']] == [
        (m, d) for m in ('direct', 'gaussian') for d in ('float32', 'bfloat16')]
    for row in results['rows']:
        assert row['model'] == 'cnn' and row['batch'] == 8 and row['steps'] == 2
        assert row['sample_steps_per_second'] == pytest.approx(2 * row['stimuli_per_second'])
        assert row['flops_per_second'] == pytest.approx(row['flops_per_sample_step'] * row['sample_steps_per_second'])
        assert row['fraction_of_matmul_peak'] == pytest.approx(row['flops_per_second'] / results['matmul_peak_flops_per_second'])
        roof = min(results['matmul_peak_flops_per_second'],
                   row['flops_per_sample_step'] / row['bytes_per_sample_step'] * results['bytes_per_second'])
        assert row['fraction_of_roofline'] == pytest.approx(row['flops_per_second'] / roof)
        assert row['bytes_per_sample_step'] > 4 * 20  # the stimulus itself, at the least
        assert row['compile_seconds'] > 0 and row['peak_memory_bytes'] > 2**20
    failed = {'peer': 'PyTorch', 'threads': 1, 'model': 'cnn', 'ratio_median': None, 'note': 'no luck'}
    compared = {'peer': 'PyTorch', 'threads': 2, 'model': 'cnn', 'batch': 8, 'steps': 2, 'ratio_median': 1.5,
     'ratio_min': 1, 'ratio_max': 2,
                'ours_sample_steps_per_second': 3, 'theirs_sample_steps_per_second': 2, 'other_cpus': 1.0}
    spread = {'devices': 2, 'batch': 4, 'stimuli_per_second': 9.0, 'ratio_median': 0.97, 'ratio_min': 0.9, 'ratio_max': 1.1}
    results.update(versus=[failed, compared], devices=[{**spread, 'devices': 1}, spread])
    text = benchmark.table(results)
    benchmark.plot(results, tmp_path / 'plot.png')
    assert (tmp_path / 'plot.png').read_bytes().startswith(b'\x89PNG')
    assert '2 x batch 4' in text and '0.97' in text
    assert 'GFLOP/s' in text and 'no luck' in text and 'NOT TO BE QUOTED' in text


def test_an_experiment_may_ask_for_networks_that_a_random_teacher_has_not(monkeypatch):
    """What sifts and what is inhibited is left out; its own prior and steps stay."""
    monkeypatch.setattr(benchmark, 'load_study', lambda config: noise_study((20, 1)))
    config = default_config()
    config.teacher.models, config.teacher.novices, config.teacher.identity.models = ('mlp',), ('linear',), ('mlp',)
    config.teacher.flow.steps, config.excite.surplus, config.excite.weights.inhibit, config.excite.method = 0, 4, 1.0, 'mixture'
    case = benchmark.experiment_case(config)
    assert case.methods == ('mixture', 'direct') and case.teacher.names == ('mlp',)


def test_devices_take_turns(monkeypatch):
    teacher = benchmark.random_teacher(('mlp',), noise_study((20, 1)))
    monkeypatch.setattr(benchmark_devices, 'make_case', lambda *_: benchmark.Case(teacher, (), ()))
    monkeypatch.setattr(benchmark_devices, 'STIMULI', 16)
    rows = benchmark_devices.compare({'devices': (1, 64), 'seconds': 0.0, 'repeats': 2, 'seed': 0})  # there are no 64
    assert [(row['devices'], row['batch'], row['ratio_median']) for row in rows] == [(1, 16, 1.0)]
    assert rows[0]['stimuli_per_second'] > 0


def test_the_machine_is_watched(monkeypatch):
    """Of 9 CPU seconds in 4 s of wall-clock time 2 are the process's own; the system's count may lag behind, others then do nothing."""
    times = {'perf_counter': 10.0, 'process_time': 1.0}
    for clock in times:
        monkeypatch.setattr(machine.time, clock, lambda clock=clock: times[clock])
    monkeypatch.setattr(machine.Watch, '_all', staticmethod(lambda: times['all']))
    times['all'] = 100.0
    watch = machine.Watch()
    times.update(perf_counter=14.0, process_time=3.0, all=109.0)
    assert (watch.own_cpus(), watch.other_cpus()) == (0.5, 1.75)
    times['all'] = 101.0
    assert watch.other_cpus() == 0
    times['all'] = float('nan')
    assert watch.other_cpus() is None


@pytest.mark.skipif(not os.path.exists('/proc/stat'), reason='nothing says what the machine has computed')
def test_the_machine_has_computed_what_the_process_has():
    """The system counts in ticks, hence the tenth of a second; others only add."""
    before, own = machine.Watch._all(), time.process_time()
    while time.process_time() < own + 0.5:
        sum(range(100_000))
    assert machine.Watch._all() - before > 0.4


@pytest.mark.parametrize(('field', 'value'), [
    ('cases', ('cnm',)), ('methods', ('best',)), ('dtypes', ('float16',)), ('repeats', 0), ('seconds', -1.0), ('batches', (-1,))])
def test_bad_values_are_named(field, value):
    config = get_config()
    config[field] = value
    with pytest.raises(UserError, match=field if field in ('repeats', 'seconds', 'batches') else str(value[0])):
        benchmark.check(config)


def test_bad_input_is_one_line_and_status_2(tmp_path):
    made = subprocess.run([sys.executable, '-m', 'experiments.benchmark', f'--output={tmp_path}/b.json', "--config.cases=('cnm',)"],
                          capture_output=True, text=True, cwd=pathlib.Path(benchmark.__file__).parents[1])
    assert made.returncode == 2
    assert made.stderr.startswith('error: ') and made.stderr.count('\n') == 1 and 'cnm' in made.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('name', 'shape', 'classes'), [('cnn', (60, 1), 2), ('cnn', (50, 3), 3), ('published', (28, 28, 1), 10)])
def test_pytorch_runs_the_same_loop(name, shape, classes):
    pytest.importorskip('torch')
    from experiments import benchmark_torch as peer
    teacher = benchmark.random_teacher((name,), noise_study(shape, classes))
    net = peer.network(name, teacher.params[0], shape)
    peer.assert_equal_logits(net, teacher)
    n = 8
    settings = produce.resolve(produce.Settings('direct', steps=3, batch=n, weights=Weights(tether=0.0)), teacher)
    assert settings.learning_rate == peer.RATE
    key = jax.random.key(3)
    call = produce.make_call(teacher, settings)
    ours = call(key, [0], teacher.networks, teacher.population)

    sampler = targets.make_sampler('dirichlet', np.full(classes, 1 / classes), concentration=peer.CONCENTRATION)
    keys = [jax.random.split(jax.random.fold_in(jax.random.fold_in(key, i), 0)) for i in range(n)]
    drawn = [sampler(target_key) for target_key, _ in keys]
    start = parameterisation.make('direct', shape, teacher.population).start
    x = np.stack([start(teacher.population, start_key, target)[0] for (_, start_key), target in zip(keys, drawn, strict=True)])
    belief = peer.torch.from_numpy(np.stack([target.belief for target in drawn]))
    made, probabilities = peer.excite(net, peer.channels_first(x), belief, teacher.population['bounds'], 3)
    apart = np.abs(made.numpy() - peer.channels_first(ours.x).numpy()).reshape(n, -1).max(1)
    same = apart < 2e-3  # a rounding may put one on the other side of a maximum's or a rectifier's kink, and Adam makes steps of signs
    assert same.sum() >= 6, apart
    np.testing.assert_allclose(probabilities[same], np.asarray(ours.probabilities)[same], atol=2e-3)
