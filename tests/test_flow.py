"""The flow: what it learns of windows that are known, and when it stops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurostim import training
from neurostim.excitation import flow, velocity

QUICK_COMPILE = True
TIME = flow.FEWEST_SAMPLES
OPTIONS = flow.FlowOptions(steps=500, width=24, learning_rate=5e-3, batch=128)


@pytest.fixture(autouse=True)
def shallow(monkeypatch):
    """Networks of few layers, enough for these windows: they are compiled in half the time."""
    monkeypatch.setattr(velocity, 'DILATIONS', (1, 2, 4))


def waves(n, seed=0):
    """Sines that begin anywhere, strong (class 0) or weak and twice as fast (class 1), with as much noise: [n, TIME, 1], [n]."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    angle = 2 * np.pi * np.where(y, 6, 3)[:, None] * np.arange(TIME) / TIME + rng.uniform(0, 2 * np.pi, n)[:, None]
    x = np.where(y, 0.5, 1.5)[:, None] * np.sin(angle) + 0.1 * rng.normal(size=(n, TIME))
    return x[..., None].astype(np.float32), y


@functools.cache
def fitted():
    x, y = waves(800)
    return flow.fit(x, y, np.arange(800) % 8 == 0, 2, OPTIONS, seed=0)


def draws(population, shape, label, count=400):
    return np.asarray(jax.jit(jax.vmap(lambda key: flow.draw(population, shape, key, label)))(jax.random.split(jax.random.key(1), count)))


@pytest.mark.slow
def test_draws_are_like_the_windows_of_their_class(optimised):
    x, y = waves(800, seed=1)
    for label in (0, 1):
        made, real = (np.abs(np.fft.rfft(a[..., 0], axis=1)) for a in (draws(fitted(), (TIME, 1), label), x[y == label]))
        peak = real.mean(0).argmax()
        assert peak == (3, 6)[label] and (made.argmax(1) == peak).mean() > 0.95
        np.testing.assert_allclose(made[:, peak].mean(), real[:, peak].mean(), rtol=0.12)
        np.testing.assert_allclose(made[:, peak].std(), real[:, peak].std(), atol=0.15 * real[:, peak].mean())
    phase = np.angle(np.fft.rfft(draws(fitted(), (TIME, 1), 0)[..., 0], axis=1)[:, 3])
    assert np.abs(np.exp(1j * phase).mean()) < 0.15  # a rhythm begins anywhere


def test_draws_are_not_copies(optimised):
    """Of noise alone there is nothing to learn: a draw is as far from the windows it learnt from as a new one is."""
    rng = np.random.default_rng(0)
    x, new = rng.normal(size=(2, 800, TIME, 1)).astype(np.float32)
    population = flow.fit(x, np.arange(800) % 2, np.arange(800) % 8 == 0, 2, OPTIONS, seed=0)
    made = draws(population, (TIME, 1), 0)

    def nearest(a):
        return np.median(np.linalg.norm((a[:, None] - x)[..., 0], axis=2).min(1))

    assert nearest(made) > 0.93 * nearest(new)
    assert nearest(x[:50] + 0.3 * rng.normal(size=(50, TIME, 1))) < 0.5 * nearest(new)  # copies would be seen


def rings(n, seed=0):
    """Vectors on a ring of radius 1 (class 0) or 2, of which a third number says where on it: [n, 3], [n]."""
    rng = np.random.default_rng(seed)
    y, angle = np.arange(n) % 2, rng.uniform(0, 2 * np.pi, n)
    x = np.stack([(1 + y) * np.cos(angle), (1 + y) * np.sin(angle), np.cos(3 * angle)], 1)
    return (x + 0.05 * rng.normal(size=x.shape)).astype(np.float32), y


@pytest.mark.slow
def test_vectors_are_drawn_from_where_their_class_is(optimised):
    """On a ring, which no Gaussian knows: its draws would be inside it as well."""
    x, y = rings(1500)
    population = flow.fit(x, y, np.arange(1500) % 8 == 0, 2, flow.FlowOptions(steps=1500, width=16, learning_rate=5e-3, batch=128), seed=0)
    for label in (0, 1):
        made = draws(population, (3,), label)
        radius, angle = np.hypot(made[:, 0], made[:, 1]), np.arctan2(made[:, 1], made[:, 0])
        assert abs(radius.mean() - 1 - label) < 0.1 and radius.std() < 0.2
        assert np.abs(made[:, 2] - np.cos(3 * angle)).mean() < 0.3  # apart from it, .9 would be
        assert np.abs(np.exp(1j * angle).mean()) < 0.2


def test_of_few_vectors_draws_are_their_gaussians_and_no_copies():
    """Nothing that a network learns of thirty vectors of noise is true of others: what it knows before its first step is kept."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 20)).astype(np.float32)
    held, lines = np.arange(30) % 3 == 0, []
    options = flow.FlowOptions(steps=2000, width=16, learning_rate=5e-3, batch=16)
    population = flow.fit(x, np.arange(30) % 2, held, 2, options, 0, lines.append)
    assert int(lines[0].split()[4]) == flow.VECTORS_CHECKED[0] * flow.VECTORS_CHECKED[1]
    made = draws(population, (20,), 0)
    mean, basis, variance = (population[f'flow/base/{name}'] for name in ('mean', 'basis', 'variance'))
    np.testing.assert_allclose(made.mean(0), mean[0], atol=0.25)
    np.testing.assert_allclose(np.cov(made, rowvar=False), basis * variance @ basis.T, atol=0.35)
    nearest = [np.median(np.linalg.norm(a[:, None] - x[~held], axis=2).min(1)) for a in (made, rng.normal(size=(400, 20)))]
    assert nearest[0] > 0.9 * nearest[1]


def test_of_few_vectors_the_pace_that_does_better_is_kept(monkeypatch):
    """A pace is a factor of the learning rate; one that leads nowhere is not kept, though it comes first."""
    x, y = rings(200)
    held, lines = np.arange(200) % 4 == 0, []

    def fit(paces, learning_rate=2e-2):
        monkeypatch.setattr(flow, 'PACES', paces)
        return flow.fit(x, y, held, 2, flow.FlowOptions(steps=100, width=8, learning_rate=learning_rate, batch=64), 0, lines.append)

    slow, fast, both, slower = fit((0.25,)), fit((50.0,)), fit((50.0, 0.25)), fit((1.0,), 5e-3)
    monkeypatch.setattr(training, 'FEW', (len(x) - 1, x.size))
    many = fit((50.0, 0.25))  # of many the first pace alone is tried
    assert lines[1] != lines[0] and lines[2] == min(lines[:2])
    better = slow if lines[0] < lines[1] else fast
    for name in slow:
        np.testing.assert_array_equal(both[name], better[name])
        np.testing.assert_array_equal(many[name], fast[name])
        np.testing.assert_allclose(slower[name], slow[name], atol=1e-6)


def test_loss_is_nothing_for_the_true_velocity_and_more_for_another():
    """All windows alike: the velocity at x_t is what is left of the way, over what is left of the time."""
    x = jnp.full((64, 5, 1), 2.0)

    def true(at, t, label):
        return (2.0 - at) / (1 - t)[:, None, None]

    assert flow.loss(true, jax.random.key(0), x, None) < 1e-6
    assert flow.loss(lambda *a: true(*a) + 0.5, jax.random.key(0), x, None) == pytest.approx(0.25, rel=1e-3)


def test_a_fit_is_repeatable_and_depends_on_its_seed():
    x, y = waves(100)
    few = flow.FlowOptions(steps=20, width=8, batch=16)
    one, again, other = (flow.fit(x, y, np.arange(100) < 20, 2, few, seed) for seed in (0, 0, 1))
    for name in one:
        np.testing.assert_array_equal(one[name], again[name])
    assert any(np.abs(one[name] - other[name]).max() > 1e-3 for name in one)


def test_training_stops_where_held_out_windows_get_worse(monkeypatch):
    """Eight windows are soon known by heart; what is kept is what does best on others."""
    monkeypatch.setattr(flow, 'CHECK_EVERY', 50)
    x, y = waves(200)
    lines = []
    held = np.arange(200) >= 8
    flow.fit(x, y, held, 2, flow.FlowOptions(steps=5000, width=32, learning_rate=1e-2, batch=32), 0, lines.append)
    loss, steps = float(lines[0].split()[2]), int(lines[0].split()[4])
    assert steps < 5000 and 0 < loss < 2


def test_a_rare_class_is_seen_and_others_come_as_they_are():
    classes = np.repeat([0, 1, 3], [500, 480, 20])[np.random.default_rng(0).permutation(1000)]
    rows = np.asarray(flow.row_sampler(classes, 4)(jax.random.key(0), 40_000))
    share = np.bincount(classes[rows], minlength=4) / len(rows)
    wanted = np.array([0.5, 0.48, 0, 0.125])  # of four classes one of which has no windows
    np.testing.assert_allclose(share, wanted / wanted.sum(), atol=0.01)
    times = np.bincount(rows, minlength=1000)
    assert all(np.ptp(times[classes == c]) < 12 * np.sqrt(times[classes == c].mean()) for c in (0, 1, 3)) and times.min() > 0


def test_no_patch_is_wider_than_the_network():
    """Noise in more numbers a place than the network has channels there would stay in the draws."""
    assert all(flow.suits(shape) for shape in ((16, 1), (60, 4), (128, 3), (300, 1), (2048, 1), (1,), (1024,)))
    assert not any(flow.suits(shape) for shape in ((15, 1), (6000, 1), (128, 20), (1025,), (28, 28, 1)))
    assert flow.LARGEST_PATCH <= flow.FlowOptions().width


@pytest.mark.parametrize('windows, steps', [(300, 4000), (64_000, 12_000), (10**6, 24_000)])
def test_many_windows_are_learnt_from_in_more_steps(windows, steps):
    assert flow.steps_for(windows, flow.FlowOptions(steps=-1)) == steps
    assert flow.steps_for(windows, flow.FlowOptions()) == flow.FlowOptions.steps
    assert flow.steps_for(windows, flow.FlowOptions(steps=7)) == 7


@pytest.mark.parametrize('windows, steps', [(300, 1000), (64_000, 3000), (10**6, 6000)])
def test_muon_takes_a_quarter_of_the_steps(windows, steps):
    assert flow.steps_for(windows, flow.FlowOptions(steps=-1, optimiser='muon')) == steps
    assert flow.steps_for(windows, flow.FlowOptions(steps=7, optimiser='muon')) == 7


def test_muon_learns_more_of_series_in_as_many_steps_and_vectors_are_left_to_adamw():
    x, y = waves(300)
    held = np.arange(300) % 5 == 0
    losses = {'series': [], 'vectors': []}
    for optimiser in ('adamw', 'muon'):
        options = flow.FlowOptions(steps=60, width=16, batch=32, optimiser=optimiser)
        for kind, rows in (('series', x), ('vectors', x[:, :8, 0])):
            flow.fit(rows, y, held, 2, options, 0, lambda line, kind=kind: losses[kind].append(float(line.split()[2])))
    assert losses['series'][1] < losses['series'][0] - 0.02
    assert losses['vectors'][0] == losses['vectors'][1]


def test_as_many_steps_are_taken_as_the_windows_ask_for(monkeypatch):
    monkeypatch.setattr(flow, 'STEPS', (1, 50))
    monkeypatch.setattr(flow, 'PASSES', 3)
    x, y = waves(100)
    lines = []
    flow.fit(x, y, np.arange(100) % 5 == 0, 2, flow.FlowOptions(steps=-1, width=8, batch=16), 0, lines.append)
    assert lines[0].endswith('after 15 steps')  # 80 windows three times, by 16
