"""Trains of pulses: those that are there are found, and draws have pulses as windows of their class have them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import heartbeats

from neurostim import rehearsal
from neurostim.errors import UserError
from neurostim.excitation import bands, marginals, parameterisation, pulse_search, pulses
from neurostim.excitation.population import fit_population, pulsed

QUICK_COMPILE = True
TIME = 1200


def recordings(n=400, seed=0):
    """(windows, classes): in the second class pulses are nearer to each other, and come irregularly."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    interval = np.array([90.0, 70.0])[y] * np.exp(0.1 * rng.normal(size=n))
    return heartbeats(rng, interval, np.array([0.02, 0.15])[y])[0], y


@pytest.fixture(scope='module')
def found():
    x, y = recordings()
    return x, y, pulse_search.find(x, pulse_search.usual_width(x))


@pytest.fixture(scope='module')
def drawn(found):
    """(draws, the class of each)."""
    x, y, _ = found
    population = {**pulsed(x, y, 2, 0), 'class_share': np.full(2, 0.5), 'bounds': np.array([-50.0, 50.0])}
    population = {name: np.float32(value) for name, value in population.items()}
    population.update(marginals.fit(population, x.shape[1:], x, y))
    return parameterisation.unexcited('pulsed', x.shape[1:], population, 400, 1)


@pytest.mark.parametrize('gain', [1.0, 5.0])
def test_pulses_are_where_they_were_put(gain):
    rng = np.random.default_rng(0)
    x, at = heartbeats(rng, rng.uniform(60, 100, 40), rng.uniform(0, 0.15, 40), gain)
    trains = pulse_search.find(x, pulse_search.usual_width(x))
    inside = [own[(own > 15) & (own < TIME - 15)] for own in at]
    missed = [np.abs(own[:, None] - there).min(0).max() for own, there in zip(trains.pulses, inside, strict=True)]
    assert np.mean(np.array(missed) < 3) > 0.9  # few windows miss one
    extra = sum(len(own) for own in trains.pulses) / sum(map(len, inside))
    assert 0.97 < extra < 1.06  # those at the edges besides
    assert pulse_search.share(x, trains) > 0.8


def test_what_is_taken_apart_adds_up(found):
    x, _, trains = found
    for i in (0, 1):
        train = 0
        for which, since, share in zip(*pulses.between(trains.pulses[i], TIME, np), strict=True):
            at = np.clip(since - trains.offsets[0], 0, len(trains.offsets) - 1)
            train = train + (share * trains.gains[i][which])[:, None] * trains.waveforms[i, 0][at]
        np.testing.assert_allclose(train + trains.rest[i], x[i], atol=1e-5)


def test_each_pulse_gives_way_to_the_next():
    own = np.array([10, 50, 150])
    which, since, share = pulses.between(own, 200, np)
    np.testing.assert_allclose(share.sum(0), 1)
    np.testing.assert_array_equal(since, np.arange(200) - own[which])
    assert (share[0, 10:30] == 1).all() and (which[0, :10] == 0).all() and (which[:, 150:] == 2).all()  # at the edges it is one's alone
    edge = 50 + round((1 - pulses.BEFORE) * 100)
    assert which[0, edge] == 1 and which[1, edge] == 2 and abs(share[0, edge] - 0.5) < 0.06
    assert (np.diff(share[1, 50:150]) >= 0).all() and np.abs(np.diff(share[1, 50:150])).max() < 0.06  # no jump
    for mine, its in zip((which, since, share), pulses.between(jnp.asarray(own), 200, jnp), strict=True):
        np.testing.assert_allclose(mine, its, atol=1e-6)


def test_pulses_are_seen_in_other_noise():
    """Of nine times their variance, but slower."""
    rng = np.random.default_rng(0)
    x = heartbeats(rng, rng.uniform(60, 100, 60), np.full(60, 0.05))[0]
    drift = np.cumsum(rng.normal(size=x.shape), 1)
    assert pulse_search.usual_width((x + 3 * x.std() * drift / drift.std()).astype(np.float32)) in (2, 4, 8)


@pytest.mark.slow
@pytest.mark.parametrize('make', [
    lambda rng: rng.normal(size=(60, TIME, 2)),
    lambda rng: np.cumsum(rng.normal(size=(60, TIME, 2)), 1) / 30,
    lambda rng: (np.sin(2 * np.pi * (np.arange(TIME) / rng.uniform(40, 100, (60, 1)) + rng.uniform(size=(60, 1))))[..., None]
                 + 0.3 * rng.normal(size=(60, TIME, 2)))], ids=['noise', 'drift', 'rhythm'])
def test_where_there_are_no_pulses_none_are_made_up(make):
    x = make(np.random.default_rng(0)).astype(np.float32)
    assert pulse_search.usual_width(x) is None and pulse_search.usual_width(np.zeros_like(x)) is None
    population = fit_population(x, 'windows', np.arange(60) % 2, 2)
    assert not any(name.startswith('pulsed') for name in population)
    with pytest.raises(UserError, match="'pulsed' needs .* choose 'modulated'"):
        parameterisation.make('pulsed', x.shape[1:], population)


def test_windows_without_pulses_may_be_among_others():
    rng = np.random.default_rng(0)
    x = heartbeats(rng, np.full(60, 80.0), np.full(60, 0.05))[0]
    x[:6] = rng.normal(size=(6, TIME, 2)).cumsum(1) / 30
    x[6] = 0
    trains = pulse_search.find(x, 8)
    assert len(trains.pulses[6]) == 0 and not trains.waveforms[6].any() and all(len(own) > 10 for own in trains.pulses[7:])
    np.testing.assert_array_equal(trains.rest[6], x[6])
    parts = pulses.describe(trains)
    assert all(np.isfinite(part).all() and len(part) == 60 for part in parts.values())


def own_scatter(parts):
    """By how much intervals are off the lines, as a standard deviation of logarithms."""
    return np.exp(parts['scatter'][:, 0] + parts['scatter'][:, 1])


def test_intervals_and_their_scatter_are_described(found):
    _, y, trains = found
    parts = pulses.describe(trains)
    for label, usual, scatter in ((0, 90, 0.02), (1, 70, 0.15)):
        assert abs(np.exp(parts['pace'][y == label]).mean() - usual) < 0.05 * usual
        assert 0.8 * scatter < np.median(own_scatter(parts)[y == label]) < 1.2 * scatter


def test_lines_follow_what_is_slow_and_no_more():
    """The spread of what was made slow and what each pulse has of its own are told apart, and add up."""
    rng = np.random.default_rng(0)
    at, count, found = np.arange(15, 1200, 30.0), 20, []
    for _ in range(200):
        values = 0.2 * np.sin(2 * np.pi * (at / 400 + rng.uniform())) + 0.1 * rng.normal(size=len(at))
        height, (spread, missed) = pulses._line(at, values, 1200, count)
        slow = np.interp(at, pulses.knots(1200, count), height)
        found.append((np.exp(2 * spread), np.exp(2 * missed), (slow**2).mean()))
    spread, missed, slow = np.mean(found, 0)
    assert abs(spread / 0.03 - 1) < 0.05 and 0.25 < missed < 0.42  # a third
    assert abs(slow + missed - 1) < 0.01


def recordings_with_others(n=300, seed=0):
    """(windows, classes, where the other pulses are): in the second class every few pulses one comes early, wide, and of another shape, and
    the one after it late."""
    rng = np.random.default_rng(seed)
    y, t, there = np.arange(n) % 2, np.arange(TIME), []
    x = 0.1 * rng.normal(size=(n, TIME, 2))
    for i in range(n):
        usual = 80 * np.exp(0.1 * rng.normal())
        number = 4 * TIME // int(usual)
        other = (rng.random(number) < 0.25 * y[i]) & (np.arange(number) % 2 == 1)
        ahead = 0.35 * other
        at = np.cumsum(usual * np.exp(0.02 * rng.normal(size=number)) * (1 - ahead + np.append(0, ahead[:-1]))) - usual
        size = 1 + 0.3 * rng.normal()
        for peak, kind in zip(at, other, strict=True):
            wave = size * np.exp(-0.5 * ((t - peak) / 12) ** 2) if kind else np.exp(-0.5 * ((t - peak) / 3) ** 2)
            x[i] += wave[:, None] * ([-2.5, 2.0] if kind else [3.0, -1.0])
        there.append(at[other & (at > 30) & (at < TIME - 30)])
    return x.astype(np.float32), y, there


@pytest.fixture(scope='module')
def two_kinds():
    x, y, there = recordings_with_others()
    return x, y, there, pulse_search.find(x, pulse_search.usual_width(x))


def test_pulses_of_another_kind_are_found(two_kinds, found):
    x, y, there, trains = two_kinds
    assert trains.waveforms.shape[1] == 2 and pulse_search.share(x, trains) > 0.9
    assert found[2].waveforms.shape[1] == 1 and not np.concatenate(found[2].other).any()  # where there are none
    several = [i for i in range(len(x)) if len(there[i]) > 1]
    hits = [np.abs(trains.pulses[i][trains.other[i]][:, None] - there[i]).min(0, initial=TIME).max() for i in several]
    assert np.mean(np.array(hits) < 8) > 0.9  # few windows miss one
    named = sum(others.sum() for others in trains.other)
    assert 0.9 < named / sum(map(len, there)) < 1.2
    assert np.mean([others.any() for others, label in zip(trains.other, y, strict=True) if label == 0]) < 0.05


def test_what_is_said_of_another_kind(two_kinds):
    _, y, there, trains = two_kinds
    share, before, after = pulses.describe(trains)['kinds'].T
    many = np.array([len(own) > 1 for own in there])
    assert np.exp(share[many]).mean() > 0.08 > 0.04 > np.exp(share[y == 0]).mean()
    # Where the middle of a pulse is, is a matter of taste.
    np.testing.assert_allclose(np.median(np.exp(before) + np.exp(after)), 2, atol=0.06)
    np.testing.assert_allclose(np.median(np.exp(before[many])), 1 - 0.35, atol=0.06)


@pytest.mark.slow
def test_draws_have_another_kind_where_their_class_has(two_kinds):
    x, y, _, real = two_kinds
    population = {**pulsed(x, y, 2, 0), 'class_share': np.full(2, 0.5), 'bounds': np.array([-50.0, 50.0])}
    population = {name: np.float32(value) for name, value in population.items()}
    population.update(marginals.fit(population, x.shape[1:], x, y))
    draws, made_for = parameterisation.unexcited('pulsed', x.shape[1:], population, 300, 1)
    made = pulse_search.find(draws, pulse_search.usual_width(x))
    for label in (0, 1):
        mine, its = (np.mean([others.sum() for others, c in zip(trains.other, of, strict=True) if c == label])
                     for trains, of in ((made, made_for), (real, y)))
        assert abs(mine - its) < 0.5
    waves = [trains.waveforms[[others.sum() > 1 for others in trains.other], 1].mean(0) for trains in (made, real)]
    core = [w[-trains.offsets[0] - 20:-trains.offsets[0] + 20] for w, trains in zip(waves, (made, real), strict=True)]
    assert np.corrcoef(core[0].ravel(), core[1].ravel())[0, 1] > 0.95


def test_pulses_are_in_the_same_place_in_every_window():
    """Whichever of two waves is the stronger one."""
    rng, t = np.random.default_rng(0), np.arange(TIME)
    x, first = 0.1 * rng.normal(size=(60, TIME, 2)), []
    for i, strong in enumerate(rng.uniform(0.6, 1.7, 60)):
        usual = rng.uniform(75, 95)
        first.append(np.arange(rng.uniform(0, usual), TIME, usual))
        for peak in first[-1]:
            x[i] += np.exp(-0.5 * ((t - peak) / 4) ** 2)[:, None] * strong * [2.0, 1.0]
            x[i] += np.exp(-0.5 * ((t - peak - 25) / 4) ** 2)[:, None] / strong * [1.0, -2.0]
    trains = pulse_search.find(x.astype(np.float32), 8)
    after = [np.median([own[np.abs(own - peak).argmin()] - peak for peak in peaks])
             for own, peaks in zip(trains.pulses, first, strict=True)]
    assert np.ptp(after) <= 4


def test_pulses_come_when_asked():
    interval = np.log(np.linspace(60, 100, 8))
    count = pulses.most_pulses(len(interval))
    assert count >= TIME / 60 + 3
    at = np.asarray(pulses.times(jnp.asarray(interval, jnp.float32), 0.0, 0.3, jnp.zeros(count), 80.0, TIME))
    assert at[0] <= 0 and at[-1] >= TIME and (np.diff(at) > 0).all()
    inside = (at[1:] < TIME) & (at[:-1] > 0)
    middle = ((at[1:] + at[:-1]) / 2)[inside]
    np.testing.assert_allclose(np.diff(at)[inside], np.exp(np.interp(middle, pulses.knots(TIME, 8), interval)), rtol=0.03)
    deviations = jax.random.normal(jax.random.key(0), (count,))
    scattered = np.asarray(pulses.times(jnp.asarray(interval, jnp.float32), 0.1, 0.3, deviations, 80.0, TIME))
    assert 0.06 < np.std(np.log(np.diff(scattered) / np.diff(at))) < 0.14


def test_its_derivative_is_that_of_finite_differences(found):
    _, _, trains = found
    parts = {name: jnp.asarray(part[1], jnp.float32) for name, part in pulses.describe(trains).items()}
    size = len(parts['wander']) // 2
    # Nothing where one pulse's samples end and the next one's begin: there no derivative says what happens.
    parts['waveform'] = (jnp.exp(-0.5 * (trains.offsets[:, None] / 7.0) ** 2) * jnp.array([3.0, -2.0])).astype(jnp.float32).ravel()
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(len(bands.edges(TIME)) - 1, TIME, 2)), jnp.float32)
    deviations = jax.random.normal(jax.random.key(0), (3, pulses.most_pulses(size)))
    smooth = jnp.asarray(np.cumsum(np.random.default_rng(1).normal(size=(TIME, 2)), 0), jnp.float32) / 100
    value = jax.jit(lambda p: (smooth * pulses.assemble(p, noise, 0.3, deviations, 80.0, float(trains.offsets[0]))).mean())
    slope = jax.grad(value)(parts)
    rng = np.random.default_rng(2)
    for name, part in parts.items():
        step, h = jnp.asarray(rng.normal(size=part.shape), jnp.float32), 2e-3
        ahead, behind = (value({**parts, name: part + sign * h * step}) for sign in (1, -1))
        np.testing.assert_allclose((slope[name] * step).sum(), (ahead - behind) / (2 * h), rtol=0.05, atol=2e-4, err_msg=name)


@pytest.mark.slow
def test_draws_have_the_pulses_of_their_class(found, drawn):
    x, y, real = found
    draws, made_for = drawn
    made = pulse_search.find(draws, 8)
    assert abs(pulse_search.share(draws, made) - pulse_search.share(x, real)) < 0.06
    theirs, its = pulses.describe(made), pulses.describe(real)
    for label in (0, 1):
        mean = [np.exp(parts['pace'][of == label].mean()) for parts, of in ((theirs, made_for), (its, y))]
        assert abs(mean[0] - mean[1]) < 3
        scatter = [np.median(own_scatter(parts)[of == label]) for parts, of in ((theirs, made_for), (its, y))]
        assert 0.8 < scatter[0] / scatter[1] < 1.25
        waveforms = [trains.waveforms[of == label, 0].mean(0) for trains, of in ((made, made_for), (real, y))]
        core = [w[-trains.offsets[0] - 20:-trains.offsets[0] + 40] for w, trains in zip(waveforms, (made, real), strict=True)]
        assert np.corrcoef(core[0].ravel(), core[1].ravel())[0, 1] > 0.97


def test_of_draws_is_seen_what_is_seen_of_windows(found, drawn):
    x, *_ = found
    seen, made = (bands.split(a).reshape(len(a), -1) for a in (x, drawn[0]))
    assert np.abs((made.mean(0) - seen.mean(0)) / seen.std(0)).mean() < 0.15
    assert 0.75 < np.median(made.std(0) / seen.std(0)) < 1.25


def test_a_waveform_is_no_windows_own(found, drawn):
    """Draws' waveforms lie no nearer to those of windows than windows' lie to each other."""
    _, _, real = found
    made = pulse_search.find(drawn[0], 8)
    length = min(len(made.offsets), len(real.offsets)) // 2
    middle = [trains.waveforms[:, 0, -trains.offsets[0] - length // 2:-trains.offsets[0] + length].reshape(len(trains.waveforms), -1)
              for trains in (made, real)]
    to_real = np.linalg.norm(middle[0][:, None] - middle[1][None], axis=2).min(1)
    apart = np.linalg.norm(middle[1][:, None] - middle[1][None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert np.median(to_real) > 0.9 * np.median(apart.min(1))


def test_a_study_with_pulses_rehearses_them_and_takes_them_where_nothing_is_asked():
    there = dict.fromkeys(f'{name}/mean' for name in ('mixture', 'modulated', 'banded', 'pulsed'))
    assert parameterisation.usual(there) == 'pulsed'
    assert [way['method'] for way in rehearsal.ways(there)] == ['pulsed'] * 3 + ['banded'] * 3


def test_long_windows_around_an_event_keep_their_phases():
    """They have a mixture, and nothing that lets waves begin anywhere."""
    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    beat = np.exp(-0.5 * ((np.arange(200) - 80) / np.where(y, 14, 6)[:, None]) ** 2)
    x = (beat[..., None] * np.linspace(-1, 1, 12) + 0.1 * rng.normal(size=(80, 200, 12))).astype(np.float32)
    population = fit_population(x, 'windows', y, 2)
    assert {way['method'] for way in rehearsal.ways(population)} == {'mixture'}
    population.update(marginals.fit(population, x.shape[1:], x, y))
    draws, made_for = parameterisation.unexcited('mixture', x.shape[1:], population, 100, 0)
    for label in (0, 1):
        assert np.corrcoef(draws[made_for == label].mean(0).ravel(), x[y == label].mean(0).ravel())[0, 1] > 0.9
    with pytest.raises(UserError, match="'banded' needs"):
        parameterisation.make('banded', x.shape[1:], population)
