"""What a population's statistics hold, seen through draws from them; and what they must not hold."""

import functools
import warnings

import jax
import numpy as np
import pytest
from scipy import signal
from sklearn.cluster import KMeans

from neurostim.excitation import parameterisation, population
from neurostim.excitation.targets import Target

QUICK_COMPILE = True
KEY = jax.random.key(0)


@functools.cache
def compiled(method, shape):
    p = parameterisation.NAMES[method](shape)
    return jax.jit(jax.vmap(lambda statistics, target, key: p.decode(statistics, *p.start(statistics, key, target)), (None, None, 0)))


def draws(method, shape, statistics, label, count=2500):
    """[count, *shape] unexcited stimuli of a class."""
    target = Target(np.zeros(2, np.float32), np.int32(label), np.float32(2))
    return np.asarray(compiled(method, shape)(statistics, target, jax.random.split(KEY, count)))


def fit(x, y=None, kind='features'):
    return population.fit_population(x.astype(np.float32), kind, np.zeros(len(x), int) if y is None else y, 2)


def correlated(n, seed=0, d=6):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d)) * np.array([3, 2, 1, 0.5, 0.3, 0.1])[:, None]
    return rng.normal(size=(n, d)) @ mix + rng.normal(size=d) * 2


def assert_moments(found, wanted, sigmas=5):
    """Same mean and covariance, to the precision that so many draws have."""
    n, covariance = len(found), np.cov(wanted.T)
    spread = np.sqrt(np.diag(covariance))
    assert (np.abs(found.mean(0) - wanted.mean(0)) < sigmas * spread / np.sqrt(n)).all()
    assert (np.abs(np.cov(found.T) - covariance) < sigmas * np.outer(spread, spread) * np.sqrt(2 / n)).all()


def test_gaussian_draws_have_the_populations_mean_and_covariance():
    x = correlated(1000)
    assert_moments(draws('gaussian', (6,), fit(x), 0), x)


def test_components_left_out_keep_their_variance(monkeypatch):
    monkeypatch.setattr(population, 'RANK', 3)
    x = correlated(1000)
    statistics = fit(x)
    assert statistics['gaussian/basis'].shape == (6, 3)
    for method in ('gaussian', 'mixture'):
        found = draws(method, (6,), statistics, 0)
        np.testing.assert_allclose(found.var(0), x.var(0), rtol=0.12)
        leading = np.linalg.eigh(np.cov(x.T))[1][:, -1]
        assert np.var(found @ leading) == pytest.approx(np.var(x @ leading), rel=0.12)


def test_mixture_draws_are_of_their_class():
    x = np.concatenate([correlated(600), 3 * correlated(700, seed=1)[:, ::-1] + 5])
    y = np.repeat([0, 1], [600, 700])
    statistics = fit(x, y)
    np.testing.assert_allclose(statistics['class_share'], [6 / 13, 7 / 13], rtol=1e-6)
    for label in (0, 1):
        assert_moments(draws('mixture', (6,), statistics, label), x[y == label], sigmas=6)


def test_mixture_knows_a_class_of_two_kinds():
    """Where a class is two clumps, a Gaussian lies between them and the mixture does not."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 3)) + 12 * (np.arange(800) % 2)[:, None]
    statistics = fit(x)

    def between(found):
        return ((found.mean(1) > 3) & (found.mean(1) < 9)).mean()

    assert between(draws('mixture', (3,), statistics, 0)) < 0.01 < 0.2 < between(draws('gaussian', (3,), statistics, 0))


@pytest.mark.parametrize('n, known', [(800, True), (200, False)])
def test_a_class_of_many_windows_has_more_directions_of_its_own(n, known, monkeypatch):
    """Which of sixty numbers vary most is the class's own matter; a component of a hundred windows cannot say that of all of them."""
    monkeypatch.setattr(population, 'COMPONENTS', 4)
    rng = np.random.default_rng(0)
    y = np.arange(2 * n) % 2
    statistics = fit(np.where(np.arange(60)[None] // 30 == y[:, None], 2.0, 0.5) * rng.normal(size=(2 * n, 60)), y)
    assert statistics['mixture/centre'].shape[1] == (60 if known else 32)
    found = draws('mixture', (60,), statistics, 0)
    assert (found[:, :30].std() / found[:, 30:].std() > 3) == known


def test_what_another_thread_has_ignored_meanwhile_stays_ignored(monkeypatch):
    """As students do, beside whom statistics are taken: to put back the filters of before would undo it."""
    fit_predict = KMeans.fit_predict

    def beside(self, *given):
        warnings.filterwarnings('ignore', message='of another thread')
        return fit_predict(self, *given)
    monkeypatch.setattr(KMeans, 'fit_predict', beside)
    population._clusters(np.random.default_rng(0).normal(size=(20, 3)), np.ones(3), 2, 1, 0)
    assert any(kept[1] and kept[1].match('of another thread') for kept in warnings.filters)


def test_a_component_of_few_windows_is_drawn_towards_its_class():
    """Two clumps, one with a tenth of the windows, that vary along different directions: of its own the small one says a part only."""
    rng = np.random.default_rng(0)
    small = np.arange(660) < 60
    rows = rng.normal(size=(660, 20)) * np.where(small[:, None] == (np.arange(20) < 10), 3.0, 0.5) + 60 * small[:, None]
    weights, centres, covariances = population._clusters(rows, np.ones(20), 2, 1, 0)
    few, many = np.argsort(weights)
    np.testing.assert_allclose(weights[[few, many]], [60 / 660, 600 / 660])
    np.testing.assert_allclose(centres[few], rows[small].mean(0))
    own = [np.cov(rows[which].T, bias=True) for which in (small, ~small)]
    within = (60 * own[0] + 600 * own[1]) / 660
    for k, n, covariance in ((few, 60, own[0]), (many, 600, own[1])):
        wanted = (n * covariance + 20 * within) / (n + 20) + population.LEAST_VARIANCE * np.eye(20)
        np.testing.assert_allclose(covariances[k], wanted, atol=1e-9)


def test_a_class_of_few_different_windows_has_no_empty_component():
    x = np.repeat(np.random.default_rng(0).normal(size=(3, 6)), 200, 0)
    statistics = fit(x)
    assert len(statistics['mixture/weight']) == 3
    assert all(np.isfinite(value).all() for value in statistics.values())
    assert np.isfinite(draws('mixture', (6,), statistics, 0)).all()


def rhythms(n=400, time=24, seed=0, strength=1.0):
    """Two channels with one coloured noise, the second a quarter of a cycle late and half as strong; opposite offsets."""
    rng = np.random.default_rng(seed)
    colour = np.exp(-((np.arange(time // 2 + 1) - 5) ** 2) / 8)
    noise = np.fft.irfft(np.fft.rfft(rng.normal(size=(n, time))) * colour, time)
    late = np.imag(signal.hilbert(noise))
    offset = rng.normal(size=(n, 1, 1)) * [1, -2]
    return np.reshape(strength, (-1, 1, 1)) * np.stack([noise, 0.5 * late], -1) + offset + 0.02 * rng.normal(size=(n, time, 2))


@pytest.mark.parametrize('time', [24, 25])
def test_spectral_draws_have_the_populations_amplitudes(time):
    x = rhythms(time=time)
    found = draws('spectral', (time, 2), fit(x, kind='windows'), 0)
    inner = slice(1, (time + 1) // 2)  # a real signal's last frequency has no phase to be free

    def logs(windows):
        amplitude = np.abs(np.fft.rfft(windows, axis=1))[:, inner]
        return np.log(amplitude + 1e-3 * np.abs(np.fft.rfft(x, axis=1))[:, 1:].mean())

    np.testing.assert_allclose(logs(found).mean(0), logs(x).mean(0), atol=0.15)
    np.testing.assert_allclose(logs(found).std(0), logs(x).std(0), rtol=0.15)
    assert_moments(found.mean(1), x.mean(1))


def test_modulated_draws_have_their_classes_strength_and_the_channels_coupling():
    rng = np.random.default_rng(1)
    y = np.arange(400) % 2
    x = rhythms(strength=np.where(y, 0.3, 2.0) * np.exp(0.3 * rng.normal(size=400)))
    statistics = fit(x, y, 'windows')

    def strength(windows):
        return np.log(windows.std(1))  # [n, channels]

    for label in (0, 1):
        found = draws('modulated', (24, 2), statistics, label)
        own = x[y == label]
        np.testing.assert_allclose(np.median(strength(found), 0), np.median(strength(own), 0), atol=0.25)
        assert np.corrcoef(strength(found).T)[0, 1] > 0.7  # strong in one is strong in the other
        assert np.corrcoef(found.mean(1).T)[0, 1] < -0.9  # the offsets go against each other
        spectrum = np.fft.rfft(found - found.mean(1, keepdims=True), axis=1)[:, 3:6]
        lag = np.angle((spectrum[..., 1] * spectrum[..., 0].conj()).sum())
        assert lag == pytest.approx(-np.pi / 2, abs=0.15)


def test_modulated_draws_swell_where_the_windows_do():
    rng = np.random.default_rng(2)
    swell = np.linspace(-1.5, 1.5, 24) * np.where(rng.random(400) < 0.5, 1, 0.6)[:, None]
    carrier = rhythms()[..., 0]
    x = (carrier - carrier.mean(1, keepdims=True)) * np.exp(swell)
    found = draws('modulated', (24, 1), fit(x[..., None], kind='windows'), 0)[..., 0]
    found = found - found.mean(1, keepdims=True)
    ratio = np.log(found[:, 12:].std(1) / found[:, :12].std(1))
    expected = np.log(x[:, 12:].std(1) / x[:, :12].std(1))
    assert np.median(ratio) == pytest.approx(np.median(expected), abs=0.35)


def test_cosines_are_orthogonal():
    for time in (16, 61):
        basis = population.cosine_basis(time, population.envelope_terms(time))
        np.testing.assert_allclose(basis @ basis.T / time, np.eye(len(basis)), atol=1e-12)


@pytest.mark.parametrize('kind, shape', [('features', (5,)), ('windows', (20, 2)), ('windows', (9, 1)), ('images', (4, 4, 1))])
def test_statistics_are_finite_and_suit_the_kind(kind, shape):
    x = np.random.default_rng(0).normal(size=(60, *shape))
    statistics = fit(x, np.arange(60) % 2, kind)
    assert all(value.dtype == np.float32 and np.isfinite(value).all() for value in statistics.values())
    assert any(name.startswith('modulated/') for name in statistics) == (shape == (20, 2))
    low, high = statistics['bounds']
    assert low <= np.float32(x.min()) and high >= np.float32(x.max()) and (kind != 'images' or high == np.float32(x.max()))


def test_the_same_windows_give_the_same_statistics():
    x, y = rhythms(100), np.arange(100) % 2
    first, again = fit(x, y, 'windows'), fit(x, y, 'windows')
    assert first.keys() == again.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])


# No recording is in it.

def vectors(statistics):
    """Every vector that the arrays hold, along any axis, and the windows or descriptors that the centres stand for."""
    for name, array in statistics.items():
        for axis in range(array.ndim):
            rows = np.moveaxis(array, axis, -1)
            yield name, rows.reshape(-1, rows.shape[-1])
        yield name, array.reshape(1, -1)
        yield name, array.reshape(len(array), -1)
    for prefix in ('mixture', 'modulated'):
        if f'{prefix}/centre' in statistics:
            centre, basis = statistics[f'{prefix}/centre'], statistics[f'{prefix}/basis']
            yield f'{prefix} decoded', statistics[f'{prefix}/mean'] + centre @ basis[:, : centre.shape[1]].T


@functools.cache
def cases():
    rng = np.random.default_rng(0)
    plain, outlier, rare = (rhythms(170, time=20, seed=s) + 0.3 * rng.normal(size=(170, 20, 2)) for s in range(3))
    outlier[7] = 40 * rng.normal(size=(20, 2))
    outlier[11] = -40 * rng.normal(size=(20, 2))
    even = np.arange(170) % 2
    return {'plain': (plain, even), 'outliers': (outlier, even), 'a class of one window': (rare, (np.arange(170) == 5).astype(int)),
            'a class of three windows': (rare, np.isin(np.arange(170), [5, 50, 99]).astype(int))}


def test_no_component_is_a_few_windows():
    """Three of a class's windows lie far off, close together: a component of their own would be their average."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 6))
    x[5:8] += 60
    statistics = fit(x, np.arange(800) // 500)
    centres = statistics['mixture/mean'] + statistics['mixture/centre'] @ statistics['mixture/basis'].T
    assert np.abs(centres).max() < 10
    np.testing.assert_allclose([statistics['mixture/weight'][statistics['mixture/owner'] == c].sum() for c in (0, 1)], 1, rtol=1e-6)


def closest_vector(case, which=slice(None)):
    """(correlation, name) of the vector in the statistics that is most like one of the windows `which` or its descriptor, whatever its
    offset, scale and sign."""
    x, y = cases()[case]
    statistics = fit(x, y, 'windows')
    descriptors = population.describe(x)[0]
    found = []
    for given in (x.reshape(len(x), -1), descriptors, x[..., 0], x[..., 1]):
        given = given[which]
        given = given - given.mean(1, keepdims=True)
        given = given / np.linalg.norm(given, axis=1, keepdims=True)
        for name, rows in vectors(statistics):
            if rows.shape[1] == given.shape[1]:
                rows = rows - rows.mean(1, keepdims=True)
                rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
                found.append((np.abs(rows @ given.T).max(), name))
    return max(found)


@pytest.mark.parametrize('case', ['plain', 'a class of one window', 'a class of three windows'])
def test_no_vector_is_a_window(case):
    assert closest_vector(case)[0] < 0.995


def test_a_window_far_from_all_others_is_no_principal_component():
    """Two of 170 are forty times as large as the rest. Of ordinary windows, some are near the commonest shape of all."""
    assert closest_vector('outliers', [7, 11])[0] < 0.95


def test_shifted_mixture_knows_that_a_rhythm_may_begin_anywhere():
    """Windows that begin at one phase or at the opposite one: draws begin at any, and keep the rhythm's strength and period."""
    rng = np.random.default_rng(0)
    time = np.arange(24)
    x = np.sin(2 * np.pi * time / 8) * rng.uniform(1, 2, (400, 1)) * rng.choice([-1, 1], (400, 1)) + 0.1 * rng.normal(size=(400, 24))
    found = draws('mixture', (24, 1), fit(x[..., None], kind='windows'), 0)[..., 0]
    assert x.var(0).min() < 0.02 * x.var(0).max()  # no phase is preferred by draws
    np.testing.assert_allclose(found.var(0), x.var(), rtol=0.15)
    power = (np.abs(np.fft.rfft(found, axis=1)) ** 2).mean(0)
    assert power[3] > 0.9 * power.sum()


def test_windows_around_an_event_are_described_as_they_begin():
    """And by nothing that leaves phases free."""
    rng = np.random.default_rng(0)
    x = np.sin(2 * np.pi * np.arange(24) / 8) * rng.uniform(1, 2, (400, 1)) + 0.1 * rng.normal(size=(400, 24))
    statistics = fit(x[..., None], kind='windows')
    found = draws('mixture', (24, 1), statistics, 0)[..., 0]
    np.testing.assert_allclose(found.mean(0), x.mean(0), atol=0.05)
    np.testing.assert_allclose(np.cov(found.T), np.cov(x.T), atol=0.02)
    assert not any(name.startswith(('spectral', 'modulated')) for name in statistics)
    assert parameterisation.usual(statistics) == 'mixture'


def test_a_component_counts_windows_and_not_their_shifted_copies():
    """Nine windows of a class get no component of their own however many copies are made of them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(209, 24, 1))
    x[200:] += 7
    y = (np.arange(209) >= 200).astype(int)
    statistics = fit(x, y, kind='windows')
    own = statistics['mixture/owner'] == 1
    assert own.sum() == 1 and not statistics['mixture/centre'][own].any()


def test_leading_components_of_many_are_those_of_all():
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(300, 120)) * 0.95 ** np.arange(120) @ np.linalg.qr(rng.normal(size=(120, 120)))[0]).astype(np.float32)
    wanted = population.principal_components(rows, 120, 0)
    found = population.principal_components(rows, 20, 0)  # of more than four times as many
    np.testing.assert_allclose(found[2], wanted[2][:20], rtol=0.02)
    np.testing.assert_allclose(np.abs((found[1] * wanted[1][:, :20]).sum(0))[:8], 1, atol=0.02)
    total = (found[1] ** 2) @ found[2] ** 2 + found[3] ** 2
    np.testing.assert_allclose(total, population.bounded(rows).var(0), rtol=0.02)  # what is left over is counted as such


def test_a_rare_class_of_long_windows_is_not_thinned_out(monkeypatch):
    """Statistics are taken of some of many long windows, but of all of a class that has few."""
    monkeypatch.setattr(population, 'NUMBERS', 200 * 64)
    monkeypatch.setattr(population, 'LEAST_ROWS', 20)
    rng = np.random.default_rng(0)
    y = (np.arange(1500) % 50 == 0).astype(int)
    x = (np.where(y, 4.0, 1.0)[:, None] * np.sin(np.arange(64) / 2 + rng.uniform(0, 6, (1500, 1))))[..., None] + 0.1
    statistics = fit(x + 0.1 * rng.normal(size=x.shape), y, 'windows')
    for label, strength in ((0, 1.0), (1, 4.0)):
        made = draws('modulated', (64, 1), statistics, label, 300)
        assert abs(made.std(1).mean() / (strength / np.sqrt(2)) - 1) < 0.25


@pytest.mark.slow
def test_modulated_draws_of_long_windows_have_their_classes_bands():
    """Two classes of noise in windows of 3000 samples, one strong in a band: draws have the power of each band, and no more scatter."""
    rng, time = np.random.default_rng(0), 3000
    y = np.arange(240) % 2
    strength = np.ones((240, time // 2 + 1))
    strength[:, 100:200] = np.where(y, 8.0, 1.0)[:, None] * np.exp(0.1 * rng.normal(size=(240, 1)))
    x = np.fft.irfft(strength * (rng.normal(size=strength.shape) + 1j * rng.normal(size=strength.shape)), time, axis=1)
    x = (x / x.std())[..., None]
    statistics = fit(x, y, 'windows')
    assert statistics['modulated/centre'].shape[1] < 300
    power = lambda w, low, high: (np.abs(np.fft.rfft(w[..., 0], axis=1))[:, low:high] ** 2).mean(1)  # noqa: E731
    for label in (0, 1):
        made, real = draws('modulated', (time, 1), statistics, label, 200), x[y == label]
        for band in ((110, 190), (300, 1400)):
            assert abs(power(made, *band).mean() / power(real, *band).mean() - 1) < 0.15
            assert 0.5 < power(made, *band).std() / power(real, *band).std() < 3
        assert abs(made.std() / real.std() - 1) < 0.08


def test_short_windows_keep_every_frequency():
    assert [population.band_width(time) for time in (16, 300, 512, 513, 514, 1026, 6000)] == [1, 1, 1, 1, 2, 3, 12]


def test_the_stationary_gaussian_is_that_of_all_shifts():
    """Mean and covariance of every window shifted by every number of samples; of a long window the strongest components and the rest."""
    rng = np.random.default_rng(4)
    for time in (16, 17):  # with a highest frequency, and without
        x = (rng.normal(size=(40, time, 3)).cumsum(1) @ rng.normal(size=(3, 3)) + 1).astype(np.float32)
        rows = population.bounded(x.reshape(40, -1)).reshape(x.shape)
        shifted = np.concatenate([np.roll(rows, shift, 1) for shift in range(time)]).reshape(40 * time, -1)
        found = population.stationary(x)
        covariance = found['stationary/basis'] @ found['stationary/basis'].T + np.diag(found['stationary/rest'] ** 2)
        np.testing.assert_allclose(covariance, np.cov(shifted.T, ddof=0), atol=1e-4 * covariance.max())
        np.testing.assert_allclose(found['stationary/mean'], shifted.mean(0), atol=1e-4)
    long = rng.normal(size=(30, 400, 2)).astype(np.float32) * (1, 5)
    found = population.stationary(long)
    assert found['stationary/basis'].shape == (800, population.RANK)
    variance = (found['stationary/basis'] ** 2).sum(1) + found['stationary/rest'] ** 2
    np.testing.assert_allclose(variance.reshape(400, 2), np.tile(long.var((0, 1)), (400, 1)), rtol=0.02)


def test_stationary_draws_are_of_the_population():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(300, 20, 2)).cumsum(1).astype(np.float32)
    statistics = fit(x, kind='windows')
    covariance = statistics['stationary/basis'] @ statistics['stationary/basis'].T + np.diag(statistics['stationary/rest'] ** 2)
    made = draws('stationary', (20, 2), statistics, 0)
    np.testing.assert_allclose(np.cov(made.reshape(len(made), -1).T), covariance, atol=0.15 * covariance.max())
