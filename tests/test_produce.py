"""Stimuli by the thousand: the same ones in memory, on disk, after an interruption, and on any number of devices."""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from neurostim import devices
from neurostim import teacher as teachers
from neurostim.errors import UserError
from neurostim.excitation import engine, produce, store, targets
from neurostim.excitation.produce import Settings, TargetSettings

QUICK_COMPILE = True
SETTINGS = Settings('mixture', count=500, steps=3, batch=16)
COLLECTIVES = re.compile(r'all-reduce|all-gather|all-to-all|collective|reduce-scatter|\bsend\b|\brecv\b')


def digest(x):
    return hashlib.sha256(np.ascontiguousarray(x, '<f4').tobytes()).hexdigest()


def fresh_call(teacher, settings):
    """A call that no other one has compiled yet."""
    produce._program.cache_clear()
    return produce.make_call(teacher, settings)


@contextlib.contextmanager
def compilations():
    """Yields a list of what is compiled meanwhile, by the names of JAX's events; it grows."""
    compiled = []

    def listen(event, seconds, **_):
        compiled.extend([event] * ('compile' in event))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture(scope='module')
def made(teacher):
    return produce.generate(teacher, SETTINGS, seed=3)


def test_a_batch_of_more_than_fit_is_made_in_equal_rounds(teacher):
    most = produce.resolve(dataclasses.replace(SETTINGS, batch=0), teacher).lanes
    found = produce.resolve(dataclasses.replace(SETTINGS, batch=3 * most - 20), teacher)
    assert found.lanes <= most and 3 * found.lanes == found.batch < 3 * most


@pytest.fixture(scope='module')
def small_shards():
    """Shards of 13 batches instead of thousands of stimuli; eight devices make them in two calls, and more than is needed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(produce, 'LEAST_SHARD', 200)
        yield


@pytest.fixture(scope='module')
def written(teacher, small_shards, tmp_path_factory):
    """(folder, summary) of the stimuli of `made` on disk."""
    folder = tmp_path_factory.mktemp('written') / 'stimuli'
    return folder, produce.write(teacher, produce.resolve(SETTINGS, teacher), folder, {}, 3)


# ---------------------------------------------------------------------------------------------------- in memory and on disk


def test_stimuli_are_finite_labelled_and_in_the_studys_units(made, teacher, study):
    assert made.x.shape == (500, *study.shape) and made.x.dtype == np.float32 and np.isfinite(made.x).all()
    np.testing.assert_array_equal(made.label, made.probabilities.argmax(1))
    np.testing.assert_allclose(made.probabilities, teacher.probabilities(made.x), atol=1e-4)  # on what is handed over
    np.testing.assert_allclose(made.x.mean(), study.x.mean(), atol=1)


def test_written_is_what_generate_makes(made, written):
    folder, summary = written
    found = store.read(folder)
    for array, expected in zip(found, made, strict=True):
        np.testing.assert_array_equal(array, expected)
    assert summary['count'] == 500 and summary['sha256'] == digest(made.x)
    assert summary['class_counts'] == np.bincount(made.label, minlength=2).tolist()
    totals = summary['totals']
    assert totals['accepted'] == totals['attempts'] == 500 and totals['steps'] == 1500 and totals['seconds'] > 0
    assert len(list(folder.glob('*.array_record-*'))) == 3


def test_a_finished_run_is_not_redone(written, teacher, monkeypatch):
    folder, summary = written
    monkeypatch.setattr(produce, 'stream', lambda call, key, teacher, firsts: iter(()))
    assert produce.write(teacher, produce.resolve(SETTINGS, teacher), folder, {}, 3) == summary


def test_lost_shards_come_back_the_same(written, teacher):
    folder, summary = written
    shards = sorted(folder.glob('*.array_record-*'))
    before = [shard.read_bytes() for shard in shards]
    for shard in shards[::2]:
        shard.unlink()
    again = produce.write(teacher, produce.resolve(SETTINGS, teacher), folder, {}, 3)
    assert again['sha256'] == summary['sha256'] and [shard.read_bytes() for shard in shards] == before


def test_other_stimuli_are_refused(written, teacher):
    folder, _ = written
    for settings, seed, word in ((dataclasses.replace(SETTINGS, steps=4), 3, 'steps'), (SETTINGS, 4, 'seed')):
        with pytest.raises(UserError, match=f'{word}: 3 -> 4'):
            produce.write(teacher, produce.resolve(settings, teacher), folder, {}, seed)
    other = dataclasses.replace(teacher, params=jax.tree.map(lambda leaf: leaf * 1.01, teacher.params))
    with pytest.raises(UserError, match='teacher: '):
        produce.write(other, produce.resolve(SETTINGS, teacher), folder, {}, 3)


# ---------------------------------------------------------------------------------------------------- what a stimulus depends on


def test_a_stimulus_depends_on_its_index_alone(made, teacher):
    fewer = produce.generate(teacher, dataclasses.replace(SETTINGS, count=37), seed=3)
    np.testing.assert_array_equal(fewer.x, made.x[:37])
    other_batches = produce.generate(teacher, dataclasses.replace(SETTINGS, count=70, batch=35), seed=3)
    np.testing.assert_allclose(other_batches.x, made.x[:70], atol=1e-3)
    assert len(np.unique(made.x.reshape(500, -1), axis=0)) == 500


def test_seeds_and_uses_share_nothing(made, teacher):
    """The control's draws are not the stimuli's starting points, nor another seed's: no two come near each other."""
    few = dataclasses.replace(SETTINGS, count=50)
    control = produce.generate(teacher, produce.unexcited(few), 3, produce.CONTROL)
    starts = produce.generate(teacher, produce.unexcited(few), 3)
    seeds = produce.generate(teacher, few, 4)
    scale = made.x.std()

    def nearest(a, b):
        return np.sqrt(((a.x[:50, None] - b.x[None, :50]) ** 2).mean((2, 3))).min() / scale

    for a, b in ((control, made), (control, starts), (seeds, made)):
        assert nearest(a, b) > 0.05
    assert np.abs(starts.x - made.x[:50]).max() > 0.01 * scale  # steps were taken
    np.testing.assert_allclose(control.probabilities, teacher.probabilities(control.x), atol=1e-4)


def test_half_of_the_stimuli_are_as_drawn_where_that_is_asked(teacher, tmp_path):
    """Half the steps are taken; an interrupted run's settings are told from others', and those of earlier versions are found."""
    half = produce.resolve(dataclasses.replace(SETTINGS, count=60, as_drawn=True), teacher)
    totals = produce.write(teacher, half, tmp_path, {}, 3)['totals']
    assert totals['steps'] == 30 * half.steps and totals['attempts'] == 60
    assert produce.from_manifest({'excite': produce.told(half)}) == half
    odd = produce.resolve(dataclasses.replace(half, batch=15, lanes=0), teacher)
    assert odd.lanes == odd.batch == 16
    every = dataclasses.replace(half, as_drawn=False)
    assert 'as_drawn' not in produce.told(every) and produce.from_manifest({'excite': produce.told(every)}) == every
    with pytest.raises(UserError, match='as_drawn'):
        produce.write(teacher, every, tmp_path, {}, 3)
    assert not produce.unexcited(half).as_drawn


def test_unexcited_takes_no_step(teacher, tmp_path):
    settings = produce.resolve(produce.unexcited(dataclasses.replace(SETTINGS, count=20, accept=True)), teacher)
    totals = produce.write(teacher, settings, tmp_path, {}, 3)['totals']
    assert settings.steps == 0 and totals['steps'] == 0 and totals['accepted'] == totals['attempts'] == 20


def test_classes_come_as_asked(teacher):
    """Targets are drawn alike for all classes, or as often as in the training windows; excitation follows them."""
    rare = dataclasses.replace(teacher, population={**teacher.population, 'class_share': np.array([0.9, 0.1], np.float32)})
    for classes, share in (('uniform', 0.5), ('natural', 0.1)):
        target = TargetSettings('threshold', classes)
        found = produce.generate(rare, dataclasses.replace(SETTINGS, count=300, target=target, steps=10), 0)
        assert np.mean(found.label == 1) == pytest.approx(share, abs=0.1)


def test_batches_share_one_compilation(teacher):
    settings = produce.resolve(SETTINGS, teacher)
    call = fresh_call(teacher, settings)
    total = call.count * call.devices
    key = jax.random.key(0)
    with compilations() as compiled:
        first = next(produce.stream(call, key, teacher, [0]))[1]
        assert [event for event in compiled if 'backend_compile' in event]
        compiled.clear()
        later = dict(produce.stream(call, jax.random.key(1), teacher, range(0, 5 * total, total)))
    assert total == settings.batch and list(later) == [total * i for i in range(5)]
    assert not compiled
    again = dict(produce.stream(call, key, teacher, [total, 0]))
    np.testing.assert_array_equal(again[0].x, first.x)
    assert np.abs(again[total].x - first.x).max() > 0.01


@pytest.mark.parametrize('pace', [{'steps': 2, 'learning_rate': 0.3}, {'steps': 7, 'learning_rate': 0.02}])
def test_paces_share_one_compilation(teacher, pace):
    """And make what a program of their own would, bit by bit; but of a single step XLA leaves out the loop, and last digits may differ."""
    settings = produce.resolve(SETTINGS, teacher)
    produce.generate(teacher, settings)
    settings = dataclasses.replace(settings, count=settings.batch, **pace)
    with compilations() as compiled:
        made = produce.generate(teacher, settings, 5)
    assert not compiled
    sampler = targets.make_sampler('dirichlet', np.full(2, 0.5), concentration=settings.target.concentration)
    options = engine.Options(**{field.name: getattr(settings, field.name) for field in dataclasses.fields(engine.Options)})
    own = engine.build(teacher, teacher.population, settings.method, sampler, options, settings.batch, settings.lanes)
    key = jax.random.fold_in(jax.random.key(5), produce.EXCITED)
    alone = jax.jit(own)(key, 0, teacher.networks, teacher.population)
    np.testing.assert_array_equal(teacher.scaling.inverse(np.asarray(alone.x)), made.x)
    np.testing.assert_array_equal(alone.probabilities, made.probabilities)


def test_batches_come_in_order_whatever_devices_make_them(teacher):
    """Two at a time, the last alone."""
    calls = []

    class Two:
        count, devices = 3, 2

        def __call__(self, key, firsts, networks, population):
            calls.append(list(firsts))
            return (np.concatenate([first + np.arange(3) for first in firsts]),)

    found = [(first, list(batch[0])) for first, batch in produce.stream(Two(), None, teacher, [9, 0, 30, 3, 6])]
    assert found == [(first, [first, first + 1, first + 2]) for first in (9, 0, 30, 3, 6)]
    assert calls == [[9, 0], [30, 3], [6, 6]]


def test_few_digits_serve_the_search_alone(teacher):
    """In bfloat16 stimuli differ a little, but for a few: where a coordinate's gradient all but vanishes Adam's first step, a sign, may go
    the other way (one of a stimulus's 40, looked at on a processor on which one is .45 off). Their labels are what the whole teacher says
    of them."""
    settings = dataclasses.replace(SETTINGS, count=64)
    whole, few = (produce.generate(teacher, dataclasses.replace(settings, dtype=dtype), seed=3) for dtype in ('float32', 'bfloat16'))
    starts = produce.generate(teacher, dataclasses.replace(settings, steps=0), seed=3)
    apart = np.abs(few.x - whole.x).max((1, 2)) / whole.x.std()
    assert 0 < np.median(apart) < 0.02 and np.quantile(apart, 0.95) < 0.1
    assert apart.max() < np.abs(whole.x - starts.x).max() / whole.x.std()  # none by more than the search moves stimuli
    np.testing.assert_allclose(few.probabilities, teacher.probabilities(few.x), atol=1e-5)


def test_compiling_makes_nothing_and_changes_nothing(teacher):
    settings = produce.resolve(SETTINGS, teacher)
    plain, ahead = fresh_call(teacher, settings), fresh_call(teacher, settings)
    key = jax.random.key(5)
    ahead.compile(key, teacher.networks, teacher.population)
    for first in (0, 32):
        for ours, theirs in zip(ahead(key, [first], teacher.networks, teacher.population),
                                plain(key, [first], teacher.networks, teacher.population), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_the_call_takes_the_teacher_that_it_is_given(teacher):
    """Not the one before, even where the same settings and shapes let them share a compiled call."""
    call = produce.make_call(teacher, produce.resolve(SETTINGS, teacher))
    key = jax.random.key(0)
    other = jax.tree.map(lambda leaf: -leaf, teacher.networks)
    shifted = {**teacher.population, 'mixture/mean': teacher.population['mixture/mean'] + 1}
    first = call(key, [0], teacher.networks, teacher.population)
    assert np.abs(call(key, [0], other, teacher.population).probabilities - first.probabilities).max() > 0.1
    np.testing.assert_allclose((call(key, [0], teacher.networks, shifted).x - first.x).mean(), 1, atol=0.2)
    np.testing.assert_array_equal(call(key, [0], teacher.networks, teacher.population).x, first.x)


# ---------------------------------------------------------------------------------------------------- devices


@pytest.fixture(scope='module')
def eight(teacher, tmp_path_factory):
    """(folder of the stimuli that eight virtual devices made, folder of the compiled programs)."""
    base = tmp_path_factory.mktemp('eight')
    teachers.save(teacher, base / 'teacher')
    flags = f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count=8 --xla_dump_to={base / "programs"} --xla_dump_hlo_as_text'
    environment = {**os.environ, 'XLA_FLAGS': flags, 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1', 'JAX_PLATFORMS': 'cpu',
                   'PYTHONPATH': str(pathlib.Path(__file__).parents[1])}
    subprocess.run([sys.executable, __file__, base], env=environment, check=True, timeout=300)
    return base / 'stimuli', base / 'programs'


def test_one_device_equals_eight(written, eight):
    """Not nearly: byte by byte, and in the same files."""
    if not devices.on_cpu():
        pytest.skip('virtual devices are of the CPU')
    folder, summary = written
    assert json.loads((eight[0].parent / 'devices.json').read_text()) == 8
    assert store.summary(eight[0])['sha256'] == summary['sha256']
    for name in [*(path.name for path in sorted(folder.glob('*.array_record-*'))), 'dataset_info.json', 'features.json', 'manifest.json']:
        assert (eight[0] / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.slow
def test_optimised_programs_agree_whatever_the_devices_and_rounds(teacher, tmp_path):
    """XLA optimises a program for several devices in another order of passes; in the first two lanes count their steps apart, one
    device's last two are the same stimuli in one round of lanes a call and in three."""
    teachers.save(teacher, tmp_path / 'teacher')
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(pathlib.Path(__file__).parents[1])}
    environment.pop('JAX_DISABLE_MOST_OPTIMIZATIONS', None)
    workers = [subprocess.Popen([sys.executable, __file__, tmp_path, 'optimised'], stdout=subprocess.PIPE, text=True, env={
        **environment, 'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}'}) for devices in (1, 2)]
    (one, *of_one), (several, *of_several) = (worker.communicate(timeout=300)[0].split() for worker in workers)
    assert (one, several) == ('1', '2') and of_one[:2] == of_several and len(set(of_one)) == 3 and of_one[2] == of_one[3]


def test_devices_do_not_speak_to_each_other(eight):
    programs = [path.read_text() for path in eight[1].glob('*after_optimizations.txt')]
    spread = [program for program in programs if 'num_partitions=8' in program]
    assert spread and not any(COLLECTIVES.search(program) for program in programs)


@pytest.mark.parametrize('told', [0, 3])
def test_every_core_is_a_device_unless_told_otherwise(told):
    code = 'from neurostim import devices; devices.use_all_cores(); import jax; print(jax.local_device_count())'
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(pathlib.Path(__file__).parents[1]),
                   'XLA_FLAGS': f'--xla_force_host_platform_device_count={told}' if told else ''}
    made = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=True)
    assert int(made.stdout) == (told or len(os.sched_getaffinity(0)))


@pytest.mark.parametrize('told', ['', '--xla_dump_to=x', f'--{devices.REPEATABLE}=false'])
def test_programs_are_made_repeatable_unless_told_otherwise(told, monkeypatch):
    monkeypatch.setenv('XLA_FLAGS', told)
    for _ in range(2):
        devices.make_repeatable()
        assert os.environ['XLA_FLAGS'].startswith(told) and os.environ['XLA_FLAGS'].count(devices.REPEATABLE) == 1
    assert ('=true' in os.environ['XLA_FLAGS']) == ('false' not in told)


# ---------------------------------------------------------------------------------------------------- settings


def test_resolve_fills_in_what_was_left_open(teacher):
    found = produce.resolve(Settings(), teacher)
    assert found.method == 'modulated'
    assert found.steps > 0 and found.learning_rate > 0 and found.batch % found.lanes == 0 and found.lanes >= 16
    assert produce.resolve(found, teacher) == found
    assert produce.from_manifest({'excite': json.loads(json.dumps(dataclasses.asdict(found)))}) == found
    no_rhythm = dataclasses.replace(teacher, population={k: v for k, v in teacher.population.items() if not k.startswith('modulated')})
    assert produce.resolve(Settings(), no_rhythm).method == 'mixture'
    chained = produce.resolve(Settings('gaussian', accept=True, chain=7, batch=100), teacher)
    assert chained.batch % 7 == 0 and chained.batch >= 100
    assert produce.resolve(Settings(steps=0), teacher).steps == 0


@pytest.mark.parametrize('windows,count', [(0, 20_000), (200, 20_000), (30_000, 30_000), (10**6, 60_000)])
def test_there_are_as_many_stimuli_as_windows(teacher, windows, count):
    """Within bounds; few windows need more stimuli."""
    assert produce.resolve(Settings(count=-1), dataclasses.replace(teacher, windows=windows)).count == count


@pytest.mark.parametrize('numbers,count', [(20_000 * 40, 20_000), (5000 * 40, 5000), (40, 4000)])
def test_long_windows_are_fewer(teacher, monkeypatch, numbers, count):
    """The stimuli together are no larger than a memory that holds a few of each."""
    monkeypatch.setattr(produce, 'COUNT', (*produce.COUNT[:-1], numbers))
    assert produce.resolve(Settings(count=-1), teacher).count == count


@pytest.mark.parametrize('settings,message', [
    ({'method': 'magic'}, "unknown excite.method 'magic': choose one of auto, amortised, direct"),
    ({'method': 'generator'}, "excite.method 'generator' makes images"),
    ({'dtype': 'float16'}, "unknown excite.dtype 'float16': choose one of float32, bfloat16"),
    ({'count': 0}, 'excite.count is 0'), ({'count': -2}, 'excite.count is -2'), ({'attempts': 0}, 'excite.attempts is 0'),
    ({'chain': 0}, 'excite.chain is 0'), ({'batch': -2}, 'excite.batch is -2'), ({'lanes': -1}, 'excite.lanes is -1'),
    ({'steps': -2}, 'excite.steps is -2'), ({'learning_rate': -0.1}, 'excite.learning_rate is -0.1'),
    ({'temperature': -1.0}, 'excite.temperature is -1.0'), ({'temperature': float('inf')}, 'excite.temperature is inf'),
    ({'method': 'amortised', 'temperature': 1.0}, "excite.method 'amortised' has no prior density"),
    ({'learning_rate': float('nan')}, 'excite.learning_rate is nan'), ({'learning_rate': float('inf')}, 'excite.learning_rate is inf'),
    ({'target': TargetSettings(name='hope')}, "unknown excite.target.name 'hope'"),
    ({'target': TargetSettings(classes='all')}, "unknown excite.target.classes 'all'"),
    ({'target': TargetSettings(low=0.9, high=0.8)}, 'excite.target.low and .high'),
    ({'target': TargetSettings(concentration=-1.0)}, 'excite.target.concentration is -1.0'),
    ({'weights': produce.Weights(prior=float('nan'))}, 'excite.weights.prior is nan'),
    ({'as_drawn': True, 'accept': True}, 'excite.as_drawn is True: it leaves every other stimulus unexcited'),
    ({'as_drawn': True, 'surplus': 4}, 'excite.surplus is 4: it keeps every other stimulus as it was made'),
    ({'as_drawn': True, 'method': 'amortised'}, "excite.method 'amortised' trains one generator a batch"),
    ({'as_drawn': True, 'lanes': 15}, 'excite.lanes is 15, but with excite.as_drawn stimuli are made in pairs'),
])
def test_bad_settings_are_refused(teacher, settings, message):
    with pytest.raises(UserError, match=re.escape(message)):
        produce.resolve(Settings(**settings), teacher)


def test_a_temperature_brings_the_priors_whole_density_instead_of_the_tether(teacher):
    weights = lambda **given: produce.resolve(Settings('mixture', temperature=0.5, **given), teacher).weights  # noqa: E731
    assert weights() == produce.Weights(prior=1.0) and weights(weights=produce.Weights(prior=2.0)).prior == 2
    assert produce.resolve(Settings('mixture'), teacher).weights == produce.Weights(tether=0.3)


def test_windows_too_short_for_a_rhythm_are_refused(teacher):
    short = dataclasses.replace(teacher, population={k: v for k, v in teacher.population.items() if '/' not in k or 'gaussian' in k})
    with pytest.raises(UserError, match="excite.method 'modulated' needs windows of at least 16 samples"):
        produce.resolve(Settings('modulated'), short)


if __name__ == '__main__':
    base = pathlib.Path(sys.argv[1])
    produce.LEAST_SHARD = 200
    saved = teachers.load(base / 'teacher')
    if 'optimised' in sys.argv:
        apart = Settings('modulated', count=64, accept=True, target=TargetSettings('threshold'), steps=10, batch=32)
        several = [apart, Settings('mixture', count=64, steps=10, batch=32, temperature=1.0)]
        several += [SETTINGS, dataclasses.replace(SETTINGS, batch=48, lanes=16)] * (jax.device_count() == 1)
        print(jax.device_count(), *(digest(produce.generate(saved, settings).x) for settings in several))
        sys.exit()
    produce.write(saved, produce.resolve(SETTINGS, saved), base / 'stimuli', {}, 3)
    (base / 'devices.json').write_text(json.dumps(jax.device_count()))
