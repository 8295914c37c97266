"""Long windows put together by bands: what is seen of them is what was asked for, and of draws what is seen of windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurostim import columns
from neurostim.errors import UserError
from neurostim.excitation import bands, marginals, parameterisation, population, targets
from neurostim.excitation.population import fit_population

QUICK_COMPILE = True
SHAPES = [(1200, 1), (1201, 2), (100, 20), (20, 60), (700, 3)]


def white(time, channels, seed=0):
    """Noise of every band, each frequency as strong as any other in its band, and amplitudes of chance."""
    rng = np.random.default_rng(seed)
    spectrum = bands.shares(np.ones((time // 2, channels)), time) * np.sqrt(rng.exponential(size=(time // 2, channels)))
    return np.asarray(bands.noises(spectrum * np.exp(2j * np.pi * rng.uniform(size=spectrum.shape)), time))


@pytest.mark.parametrize('shape', SHAPES)
def test_bands_part_the_spectrum_and_their_noise_has_mean_square_one(shape):
    time, channels = shape
    power = np.random.default_rng(0).uniform(1, 2, (time // 2, channels))
    share = bands.shares(power, time)
    between = bands.edges(time)
    assert (np.diff(between) > 0).all() and between[-1] == time // 2 + 1
    noise = np.asarray(bands.noises(share * np.exp(2j * np.pi * np.random.default_rng(1).uniform(size=share.shape)), time))
    assert noise.shape == (len(between) - 1, *shape)
    np.testing.assert_allclose((noise[:-1] ** 2).mean(1), 1, rtol=1e-3)  # the last one has the frequency without a twin
    for band, (low, high) in zip(noise, zip(between[:-1], between[1:], strict=True), strict=True):
        found = np.abs(np.fft.rfft(band, axis=0)) ** 2
        assert found[low:high].sum() > 0.9999 * found.sum()
        part = found[low:min(high, (time + 1) // 2)] / power[low - 1:min(high, (time + 1) // 2) - 1]
        np.testing.assert_allclose(part, np.broadcast_to(part[:1], part.shape), rtol=1e-2)  # the spectrum's own shape


@pytest.mark.parametrize('shape', [(6000, 1), (3001, 2)])
def test_what_was_asked_for_is_seen(shape):
    time, channels = shape
    noise = white(*shape)
    rng = np.random.default_rng(3)
    strengths = np.linspace(2, 0, len(noise))[:, None] + rng.normal(0, 0.3, (columns.PLACES, len(noise), channels))  # falling
    numbers = np.concatenate([3 * rng.normal(size=(columns.PLACES, 1, channels)), strengths], 1)
    x = np.asarray(jax.jit(bands.assemble)(numbers.astype(np.float32), noise))
    seen = bands.split(x[None])[0]
    np.testing.assert_allclose(seen[:, 0], numbers[:, 0], atol=0.5)  # slow noise adds to them
    wide = np.diff(columns.edges(time // columns.PLACES)) >= 8  # narrow bands take in their neighbours
    assert np.abs(seen - numbers)[:, 1:][:, wide].mean() < 0.12
    assert np.corrcoef(seen[:, 1:][:, wide].ravel(), numbers[:, 1:][:, wide].ravel())[0, 1] > 0.95


def test_its_derivative_is_that_of_finite_differences():
    noise = white(1200, 1)
    rng = np.random.default_rng(0)
    numbers = jnp.asarray(rng.normal(0.5, 0.5, (columns.PLACES, len(noise) + 1, 1)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(1200, 1)), jnp.float32)
    value = jax.jit(lambda numbers: (weights * bands.assemble(numbers, noise)).mean())
    found, h = jax.grad(value)(numbers), 1e-2
    for at in ((0, 0, 0), (2, 1, 0), (3, 7, 0), (5, len(noise), 0)):
        step = jnp.zeros_like(numbers).at[at].set(h)
        np.testing.assert_allclose(found[at], (value(numbers + step) - value(numbers - step)) / (2 * h), rtol=2e-2, atol=2e-6)


def recordings(n=400, time=1200, seed=0):
    """Noise whose faster half grows stronger along the window, in the second class more so; two channels of other strength."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    slow, fast = (np.fft.irfft(np.fft.rfft(rng.normal(size=(n, time, 2)), axis=1) * keep[:, None], time, axis=1)
                  for keep in (np.arange(time // 2 + 1) < 60, np.arange(time // 2 + 1) >= 60))
    grows = np.exp(np.linspace(0, 1, time)[:, None] * (rng.normal(1, 0.3, (n, 1, 1)) * y[:, None, None]))
    return ((3 * slow + grows * fast) * [1.0, 0.3] * np.exp(0.3 * rng.normal(size=(n, 1, 1)))).astype(np.float32), y


@pytest.fixture(scope='module')
def drawn():
    """(windows, classes, draws of each class, population)."""
    x, y = recordings()
    population = fit_population(x, 'windows', y, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(marginals, 'DRAWS', 512)  # of the maps, which are not looked at here
        population = jax.tree.map(jnp.asarray, population | marginals.fit(population, x.shape[1:], x, y))
    p = parameterisation.make('banded', x.shape[1:], population, put_right=False)

    def one(key, label):
        return p.decode(population, *p.start(population, key, targets.Target(jax.nn.one_hot(label, 2), label, 2.0)))

    several = jax.jit(jax.vmap(one, (0, None)))
    return x, y, [np.asarray(several(jax.random.split(jax.random.key(label), 400), label)) for label in (0, 1)], population


@pytest.mark.slow
def test_of_draws_is_seen_what_is_seen_of_windows(drawn):
    x, y, draws, _ = drawn
    for label in (0, 1):
        made, real = (bands.split(a).reshape(len(a), -1) for a in (draws[label], x[y == label]))
        spread = real.std(0)
        assert np.abs((made.mean(0) - real.mean(0)) / spread).mean() < 0.12
        assert 0.85 < np.median(made.std(0) / spread) < 1.15
        together = [np.corrcoef(a.T)[np.triu_indices(a.shape[1], 1)] for a in (made, real)]
        assert np.corrcoef(*together)[0, 1] > 0.8


@pytest.mark.slow
def test_no_number_varies_more_in_a_class_than_its_windows_do(drawn):
    """A fast band of the first channel is made to vary three times as much as it does, in both classes; the others stay as they are."""
    x, y, _, fitted = drawn
    real, band = bands.split(x), 8
    rest = np.array(fitted['banded/rest']).reshape(real.shape[1:])
    rest[:, band, 0] = 3 * real[:, :, band, 0].std()
    loose = {**fitted, 'banded/rest': rest.ravel(), 'banded/range': np.array([[-50.0], [50.0]], np.float32),
             'banded/stretch': np.ones_like(fitted['banded/stretch']), 'banded/correction': np.zeros_like(fitted['banded/correction'])}
    held = {**loose, **marginals._seen_as_they_are(loose, 'banded', x.shape[1:], x, y, 0)}

    def varies(population):
        draws, label = parameterisation.unexcited('banded', x.shape[1:], population, 600, 1, finish=False)
        return [np.sqrt(bands.split(draws[label == c]).var(0).mean(0) / real[y == c].var(0).mean(0)) for c in (0, 1)]

    for before, after in zip(varies(loose), varies(held), strict=True):
        assert before[band, 0] > 1.6 and 0.85 < after[band, 0] < 1.15
        assert after.max() < 1.2
    stretch = held['banded/stretch'].reshape(2, *real.shape[1:])
    assert (stretch[:, :, band, 0] < 0.7).all() and stretch.max() == 1  # nothing is made to vary more
    assert np.median(stretch) > 0.9


def test_a_search_moves_what_bands_see_and_leaves_the_noise(drawn):
    """Where phases were searched too, students with filters learnt less."""
    population, target = drawn[3], targets.Target(jax.nn.one_hot(0, 2), 0, 2.0)
    p = parameterisation.make('banded', drawn[0].shape[1:], population, put_right=False)
    scores, context = p.start(population, jax.random.key(3), target)
    assert scores.shape == population['banded/basis'].shape[1:]
    other = scores + 0.5 * jax.random.normal(jax.random.key(4), scores.shape)
    x, moved = (np.asarray(p.decode(population, at, context)) for at in (scores, other))
    assert np.abs(np.subtract(*bands.split(np.stack([x, moved])))).max() > 0.5
    fast = slice(*bands.edges(len(x))[-2:])
    turned = np.angle(np.fft.rfft(moved, axis=0) * np.fft.rfft(x, axis=0).conj())[fast]
    assert np.median(np.abs(turned)) < 0.2  # of noise drawn anew a quarter of a turn


def test_envelopes_change_along_the_window(drawn):
    x, y, draws, _ = drawn

    def growth(a):  # of the fastest bands, from the first place to the last
        seen = bands.split(a)
        return (seen[:, -1, -3:] - seen[:, 0, -3:]).mean()

    for label in (0, 1):
        assert abs(growth(draws[label]) - growth(x[y == label])) < 0.08
    assert growth(draws[1]) > growth(draws[0]) + 0.4


def test_places_are_alike_where_nothing_grows():
    x, y = recordings()
    seen = bands.split(x)
    assert bands.place_share(seen, y) > 10 * population.PLACED  # the second class grows
    alike = seen[y == 0]
    assert bands.place_share(alike, y[y == 0]) <= population.PLACED
    few = alike[:12]
    assert bands.place_share(few, np.arange(12) % 2) <= population.PLACED  # chance is no place


def test_where_places_are_alike_a_mixture_learns_from_windows_that_begin_anywhere():
    """One place of each window is loud, and any may be: so it is in the mixture, unless the class says which."""
    rng = np.random.default_rng(0)
    loud = np.arange(240) % columns.PLACES
    gain = np.where(np.arange(1200) // 200 == loud[:, None], 3.0, 1.0)[..., None]
    x = (gain * rng.normal(size=(240, 1200, 1))).astype(np.float32)
    y = (loud > 2).astype(int)  # loud early or late: places are not alike
    assert bands.place_share(bands.split(x), y) > population.PLACED
    fitted = population.banded(x, np.zeros(240, int), 1, 0)
    per_place = fitted['banded/mean'].reshape(columns.PLACES, -1)
    np.testing.assert_allclose(per_place, np.broadcast_to(per_place[:1], per_place.shape), atol=0.02)
    separate = population.banded(x, y, 2, 0)  # classes may say when: nothing is turned around
    first = [separate['banded/mean'].reshape(columns.PLACES, -1) + (separate['banded/basis'][:, :separate['banded/centre'].shape[1]] @ (
        separate['banded/weight'][separate['banded/owner'] == c] @ separate['banded/centre'][separate['banded/owner'] == c])
    ).reshape(columns.PLACES, -1) for c in (0, 1)]
    assert (first[0][0, 1:] > first[1][0, 1:] + 0.2).all() and (first[0][-1, 1:] < first[1][-1, 1:] - 0.2).all()


def in_step(n=200, time=600, seed=0):
    """Three channels: the first two go together in one class and against each other in the second, the third goes its own way."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    common, own, third = rng.normal(size=(3, n, time))
    second = np.where(y, -1, 1)[:, None] * common
    return np.stack([common, 0.8 * second + 0.6 * own, 0.1 * third], 2).astype(np.float32), y


def test_channels_go_together_as_they_do_in_windows_of_a_class():
    x, y = in_step()
    factors = bands.coherences(x, y, 2, common_counts=1e-6)
    cross = factors @ factors.conj().swapaxes(-1, -2)
    assert cross.shape == (2, len(bands.edges(600)) - 1, 3, 3)
    np.testing.assert_allclose(np.einsum('...cc->...c', cross), 1, atol=1e-5)
    np.testing.assert_allclose(cross[0, :, 0, 1], 0.8, atol=0.12)
    np.testing.assert_allclose(cross[1, :, 0, 1], -0.8, atol=0.12)
    assert np.abs(cross[:, :, :2, 2]).mean() < 0.1
    shy = bands.coherences(x, y, 2, common_counts=1e6)
    np.testing.assert_allclose(shy[0], shy[1], atol=1e-3)  # what few windows say is not the class's
    rare = np.where(np.arange(len(y)) < 9, 2, y)
    stood_in = bands.coherences(x, rare, 3, 20, fewest=10)[2]
    everyone = bands.coherences(x, np.zeros(len(x), int), 1, 0)[0]
    np.testing.assert_allclose(stood_in, everyone, atol=1e-6)


def drawn_by_class(x, y, each=50):
    """Unexcited draws of the population of windows x: [2, each, time, channels]."""
    fitted = {name: jnp.asarray(value) for name, value in fit_population(x, 'windows', y, 2).items()}
    p = parameterisation.make('banded', x.shape[1:], fitted, put_right=False)

    def one(key, label):
        return p.decode(fitted, *p.start(fitted, key, targets.Target(jax.nn.one_hot(label, 2), label, 2.0)))

    several = jax.jit(jax.vmap(one, (0, None)))
    return [np.asarray(several(jax.random.split(jax.random.key(label), each), label)) for label in (0, 1)]


def test_draws_go_together_so_too():
    for draws, sign in zip(drawn_by_class(*in_step()), (1, -1), strict=True):
        together = np.array([np.corrcoef(draw.T) for draw in draws]).mean(0)
        assert 0.55 < sign * together[0, 1] < 0.9 and np.abs(together[:2, 2]).max() < 0.1


def rhythmic(n=200, time=1200, seed=0):
    """Two classes, of a rhythm of 140 and of 175 cycles a window, which are in one band, beside weak noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    angle = 2 * np.pi * (np.where(y, 175, 140)[:, None] * np.arange(time) / time + rng.random((n, 1)))
    return (np.sin(angle) + 0.3 * rng.normal(size=(n, time)))[..., None].astype(np.float32), y


def test_each_class_has_its_own_rhythm_within_a_band():
    x, y = rhythmic()
    between = bands.edges(1200)
    band = np.searchsorted(between, 140, 'right')
    assert band == np.searchsorted(between, 175, 'right')
    found = bands.spectra(x, y, 2, common_counts=1e-6)
    assert found.shape == (2, 600, 1)
    for low, high in zip(between[:-1] - 1, between[1:] - 1, strict=True):
        np.testing.assert_allclose((found[:, low:high] ** 2).sum(1), 1, rtol=1e-5)
    assert (found[:, 139, 0] ** 2)[0] > 0.8 > 0.1 > (found[:, 174, 0] ** 2)[0]
    assert (found[:, 174, 0] ** 2)[1] > 0.8 > 0.1 > (found[:, 139, 0] ** 2)[1]
    shy = bands.spectra(x, y, 2, common_counts=1e6)
    np.testing.assert_allclose(shy[0], shy[1], atol=1e-3)  # what few windows say is not the class's
    rare = np.where(np.arange(len(y)) < 9, 2, y)
    everyone = bands.spectra(x, np.zeros(len(x), int), 1, 0)[0]
    np.testing.assert_allclose(bands.spectra(x, rare, 3, 20, fewest=10)[2], everyone, atol=1e-6)
    loud = np.concatenate([x[:1] * 1e4, x[1:]])  # a window far louder than all others is one window
    np.testing.assert_allclose(bands.spectra(loud, y, 2, 20), bands.spectra(x, y, 2, 20), atol=1e-4)


def test_a_single_frequency_of_few_windows_is_not_told():
    """Of a class that has a line of its own within a part of a band, the part's share is told and not where in it the line is."""
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(100, 3000, 1)).astype(np.float32)
    y = (np.arange(100) < 20).astype(int)
    lines = np.sin(2 * np.pi * 1200 * np.arange(3000) / 3000)[:, None] * y[:, None, None]
    power = bands.spectra((noise + lines).astype(np.float32), y, 2, 20)[..., 0] ** 2
    between = bands.edges(3000) - 1
    low, high = between[np.searchsorted(between, 1199, 'right') - 1:][:2]
    ratio = power[1, low:high] / power[0, low:high]
    assert len(np.unique(ratio.round(4))) <= bands.PARTS < high - low
    assert ratio[1199 - low] > 1.2


def test_draws_have_the_rhythm_of_their_class():
    for draws, cycles in zip(drawn_by_class(*rhythmic()), (140, 175), strict=True):
        power = np.abs(np.fft.rfft(draws[..., 0])) ** 2
        here, there = (power[:, at - 5:at + 6].sum() for at in (cycles, 315 - cycles))
        assert here > 4 * there


@pytest.mark.parametrize('method', ['banded', 'pulsed'])
def test_a_population_of_an_earlier_version_is_refused(method):
    with pytest.raises(UserError, match=f'earlier version, whose population has no .*{method}/stretch'):
        parameterisation.make(method, (1200, 2), {f'{method}/mean': np.zeros(3)})


def test_noise_that_goes_together_keeps_its_power():
    x, y = in_step()
    factors = jnp.asarray(bands.coherences(x, y, 2, 20)[1])
    noise = (np.random.default_rng(0).normal(size=(200, 300, 3, 2)) @ [1, 1j] / np.sqrt(2)).astype(np.complex64)
    made = np.asarray(jax.vmap(lambda one: bands.together(one, factors, 600))(noise))
    assert made.shape == noise.shape
    np.testing.assert_allclose((np.abs(made) ** 2).mean(0), 1, atol=0.3)
    np.testing.assert_allclose((np.abs(made) ** 2).mean(), 1, atol=0.02)


def test_what_tells_classes_apart_need_not_be_along_leading_components():
    """Fifty numbers that vary much and the same in both classes, and two hundred that vary little and differ a little."""
    rng = np.random.default_rng(0)
    y = np.arange(600) % 2
    x = rng.normal(size=(600, 250)) * np.where(np.arange(250) < 50, 5.0, 1.0)
    x[:, 50:] = x[:, 50:] * (1 + 0.4 * y[:, None]) + 0.3 * y[:, None]
    x[3] *= 1e4  # one window far off all others is to move no mean
    fitted = population.mixture(x, y, 2, 0)
    own = population.beyond_rank(x, y, 2, fitted)
    rank = fitted['mixture/centre'].shape[1]
    assert rank < 50
    basis, means = fitted['mixture/basis'], []
    for c in (0, 1):
        here = fitted['mixture/owner'] == c
        means.append(own['mixture/own_mean'][c] + fitted['mixture/weight'][here] @ fitted['mixture/centre'][here] @ basis[:, :rank].T)
    np.testing.assert_allclose((means[1] - means[0])[50:].mean(), 0.3, atol=0.03)
    np.testing.assert_allclose(basis[:, :rank].T @ own['mixture/own_mean'].T, 0, atol=1e-6)
    power = [((basis[50:, rank:] * spread) ** 2).sum() for spread in own['mixture/own_spread']]
    assert 1.3 < np.sqrt(power[1] / power[0]) < 1.5


def test_few_windows_have_nothing_of_their_own():
    x = np.random.default_rng(0).normal(size=(300, 60))
    y = (np.arange(300) < 9).astype(int)
    own = population.beyond_rank(x, y, 2, population.mixture(x, y, 2, 0))
    assert not own['mixture/own_mean'][1].any() and (own['mixture/own_spread'][1] == 1).all()


def test_short_windows_are_refused():
    x, y = recordings(60, 100)
    population = fit_population(x, 'windows', y, 2)
    assert not any(name.startswith('banded') for name in population)
    with pytest.raises(UserError, match='more than 1024 numbers'):
        parameterisation.make('banded', x.shape[1:], population)


def test_an_amplitude_is_the_root_of_the_power_that_its_number_came_from():
    x = np.random.default_rng(0).normal(size=(3, 6000, 1)).astype(np.float32)
    power = columns.amplitude(bands.split(x)[:, :, 1:], np) ** 2
    whole = x.reshape(3, columns.PLACES, -1).var(2, keepdims=True)
    np.testing.assert_allclose(power.sum(2), whole, rtol=0.12)  # a taper looks at the middle
