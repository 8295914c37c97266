"""From a study's units to the networks' and back."""

import warnings

import numpy as np
import pytest

from neurostim import scaling as scalings
from neurostim.scaling import fit_scaling, scale_alone

KINDS = {'features': (), 'windows': (6,), 'images': (3, 2)}


def columns(rng, n):
    """Channels of every temper: unit, shifted, tiny, skewed, very heavy tails, rare spikes, binary, counts, constant."""
    spikes = np.where(rng.random(n) < 0.002, 1e4, rng.normal(size=n))
    return np.stack([
        rng.normal(size=n), rng.normal(300, 7, n), rng.normal(0, 1e-6, n), rng.lognormal(0, 1, n), rng.standard_t(1.5, n), spikes,
        rng.integers(0, 2, n), rng.poisson(0.3, n), np.full(n, 0.1)], -1).astype(np.float32)


def windows(kind, n=500, seed=0):
    inner = KINDS[kind]
    rng = np.random.default_rng(seed)
    return columns(rng, n * int(np.prod(inner))).reshape(n, *inner, -1)


@pytest.fixture(scope='module', params=KINDS)
def case(request):
    x = windows(request.param)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        return request.param, x, fit_scaling(x, request.param)


def test_inverse_of_forward_is_the_input(case):
    kind, x, scaling = case
    for given in (x, windows(kind, 50, 1) * 3 - 1, x[0]):
        forth = scaling.forward(given)
        back = scaling.inverse(forth)
        assert forth.shape == back.shape == given.shape and forth.dtype == back.dtype == np.float32
        # float32 in the middle: an error of its spacing, in the study's units.
        unit = 1 / np.diff(scaling.values).max(1) * np.diff(scaling.knots).max(1)
        allowed = 4e-7 * (np.abs(given) + np.abs(scaling.knots).max(1) + np.abs(forth) * unit)
        assert (np.abs(back - given) <= allowed).all()


def test_every_place_of_a_window_is_looked_at(monkeypatch):
    """However many windows there are: those around an event may all begin at rest."""
    x = np.random.default_rng(0).normal(size=(400, 20, 1)).astype(np.float32)
    x[:, :3] = 0
    whole = fit_scaling(x, 'windows')
    monkeypatch.setattr(scalings, 'ROWS', 400)  # every 20th sample would be a window's first
    part = fit_scaling(x, 'windows')
    np.testing.assert_allclose(part.forward(x).std(), whole.forward(x).std(), rtol=0.2)


def test_a_window_is_scaled_by_itself():
    """In any unit; what hardly varies beside its own height is constant and becomes 0."""
    x = np.random.default_rng(0).normal(size=(5, 30, 3)) * (1e-9, 1, 1e6)
    x[3] = (0, 0.1, 32768)
    scaled = scale_alone(x)
    np.testing.assert_allclose(scaled[[0, 1, 2, 4]].std(1), 1, rtol=1e-3)
    np.testing.assert_allclose(np.median(scaled, 1), 0, atol=1e-6)
    assert not scaled[3].any() and scaled.dtype == np.float32
    np.testing.assert_allclose(scale_alone(5 * x - 7)[:3, :, 1:], scaled[:3, :, 1:], atol=1e-4)
    assert np.abs(scale_alone(np.eye(200)[None])).max() == scalings.LARGEST


def test_maps_increase_everywhere(case):
    _, x, scaling = case
    flat = x.reshape(-1, x.shape[-1]).astype(np.float64)
    low, high = flat.min(0) - 1, flat.max(0) + 1
    grid = np.linspace(low, high, 400)
    mapped = scaling.forward(grid).astype(np.float64)
    assert (np.diff(mapped, axis=0) >= 0).all() and (mapped[-1] > mapped[0]).all()
    assert (np.diff(scaling.knots) > 0).all() and (np.diff(scaling.values) > 0).all()


def test_scaled_channels_are_centred_and_of_unit_spread(case):
    kind, x, scaling = case
    scaled = scaling.forward(x).reshape(-1, x.shape[-1])
    assert np.isfinite(scaled).all()
    if kind == 'images':  # one map for all channels
        assert abs(scaled.mean()) < 1e-3 and abs(scaled.std() - 1) < 1e-3
        return
    np.testing.assert_allclose(np.median(scaled, 0)[[0, 1, 2, 5]], 0, atol=0.01)
    np.testing.assert_allclose(np.diff(np.percentile(scaled, [16, 84], 0), axis=0)[0, [0, 1, 2, 5]] / 2, 1, atol=0.1)
    np.testing.assert_allclose(scaled[:, -1], 0, atol=1e-6)  # the constant
    assert np.abs(scaled[:, 5]).max() < 1e4  # the spikes no longer rule, or are themselves tamed


def test_skewed_features_become_normal():
    rng = np.random.default_rng(0)
    x = np.stack([rng.lognormal(0, 1.5, 4000), -rng.lognormal(3, 1, 4000), rng.normal(size=4000)], -1)
    scaling = fit_scaling(x, 'features')
    quantiles = np.percentile(scaling.forward(x), [2, 16, 50, 84, 98], 0)
    normal = np.array([[-2.054], [-0.994], [0], [0.994], [2.054]])
    np.testing.assert_allclose(quantiles[:, :2], np.tile(normal, 2), atol=0.08)  # mapped: to where they should be
    np.testing.assert_allclose(quantiles[:, 2:], normal, atol=0.2)  # linear: the sample's own quantiles
    # A waveform is not skewed away: only very heavy tails are mapped.
    wave = fit_scaling(x[:, None, 2:], 'windows')
    assert wave.knots.shape == (1, 2)


def test_channels_of_few_values_stay_linear():
    rng = np.random.default_rng(0)
    x = np.stack([rng.random(1000) < 0.01, rng.poisson(0.2, 1000)], -1).astype(np.float32)
    assert fit_scaling(x, 'features').knots.shape[1] == 2


def test_channels_do_not_mix_and_order_of_windows_is_nothing():
    rng = np.random.default_rng(0)
    x = windows('windows')
    whole, shuffled = fit_scaling(x, 'windows'), fit_scaling(rng.permutation(x), 'windows')
    np.testing.assert_allclose(whole.knots, shuffled.knots)
    one = fit_scaling(x[..., 1:2], 'windows')
    np.testing.assert_allclose(whole.forward(x)[..., 1:2], one.forward(x[..., 1:2]), rtol=1e-5, atol=1e-5)


def test_units_are_nothing():
    """A study in other units (an affine change of each channel) has the same scaled windows."""
    x = windows('windows')[..., [0, 1, 4, 5]].astype(np.float64)
    gain, offset = np.array([1e3, 1e-3, 7, 0.5]), np.array([5.0, -2, 0, 100])
    other = x * gain + offset
    np.testing.assert_allclose(fit_scaling(other, 'windows').forward(other), fit_scaling(x, 'windows').forward(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kind,shape', [('features', ()), ('windows', (40,)), ('images', (5, 8))])
def test_what_never_changed_is_in_units_of_itself(kind, shape):
    """A channel that is constant while learnt may wake up later: no network may be blinded by that, nor by float32's rounding."""
    constants = np.array([0.1, 32768.0, 0.0, 7e-6])
    for constant in constants:
        x = np.full((60, *shape, 1), constant, np.float32)
        scaling = fit_scaling(x, kind)
        np.testing.assert_allclose(scaling.forward(x), 0, atol=1e-6)
        assert np.abs(scaling.forward(2 * x)).max() <= 1.001
    jitter = np.full((60, *shape, 1), 0.1, np.float32)
    jitter[::2] = np.nextafter(jitter[::2], np.float32(1))  # rounding, no signal
    assert np.abs(fit_scaling(jitter, kind).forward(2 * jitter)).max() < 1.1


def test_long_windows_are_mapped_by_blocks(monkeypatch):
    x = windows('windows')
    scaling = fit_scaling(x, 'windows')
    whole = scaling.forward(x), scaling.inverse(scaling.forward(x))
    monkeypatch.setattr('neurostim.scaling.BLOCK_NUMBERS', 100)
    np.testing.assert_array_equal(scaling.forward(x), whole[0])
    np.testing.assert_array_equal(scaling.inverse(whole[0]), whole[1])
