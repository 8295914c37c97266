"""What classical algorithms see of long windows."""

import jax
import numpy as np
import pytest

from neurostim import columns
from neurostim.columns import columns as see
from neurostim.models.layers import numbers

SHAPES = [(6000, 1), (6000, 20), (700, 600), (3, 400), (1, 1200), (90, 80, 3), (3000, 1, 2), (1024, 1), (5000,)]


@pytest.mark.parametrize('shape', SHAPES)
def test_long_windows_are_seen_by_patches(shape):
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    seen = see(x)
    if np.prod(shape) <= columns.MOST or len(shape) == 1:
        return np.testing.assert_array_equal(seen, x.reshape(3, -1))
    most = columns.PICTURE if len(shape) == 3 else columns.PLACES * (1 + columns.BANDS) * shape[1]
    assert len(seen) == 3 and seen.shape[1] <= most and np.isfinite(seen).all()
    np.testing.assert_array_equal(see(x[1:2]), seen[1:2])
    np.testing.assert_allclose(see(np.full((1, *shape), 2.0, np.float32))[:, : shape[-1]], 2)


def test_as_many_windows_at_once_as_there_is_room_for(monkeypatch):
    x = np.random.default_rng(0).normal(size=(7, 2000, 2)).astype(np.float32)
    whole = see(x)
    monkeypatch.setattr(columns, 'AT_ONCE', 3 * 4000)
    np.testing.assert_array_equal(see(x), whole)


def by_patch(x):
    """(means, powers of bands [n, places, bands]) of windows of one channel."""
    seen = see(x.astype(np.float32)).reshape(len(x), columns.PLACES, -1)
    return seen[..., 0], columns.USUAL * np.exp(2 * seen[..., 1:])


def test_bands_share_out_the_power_of_noise():
    means, power = by_patch(3 * np.random.default_rng(0).normal(size=(40, 6000, 1)) + 1)
    np.testing.assert_allclose(power.sum(-1).mean(), 9, rtol=0.03)
    np.testing.assert_allclose(means.mean(), 1, atol=0.05)


def test_a_rhythm_is_in_its_band_wherever_its_waves_begin():
    time = np.arange(6000)
    begin = np.random.default_rng(0).uniform(0, 2 * np.pi, (5, 1))
    power = by_patch(2 * np.sin(2 * np.pi * 0.13 * time + begin)[..., None])[1]
    assert power.max(-1).min() > 0.95 * 2  # half of the squared amplitude
    assert np.ptp(power.max(-1)) < 1e-3
    slower = by_patch(2 * np.sin(2 * np.pi * 0.01 * time + begin)[..., None])[1]
    assert (slower.argmax(-1) < power.argmax(-1).min()).all()


def test_strength_shifts_the_logarithms():
    x = np.random.default_rng(0).normal(size=(4, 6000, 1))
    (means, power), (more_means, more_power) = by_patch(x), by_patch(3 * x + 1)
    np.testing.assert_allclose(more_means, 3 * means + 1, atol=1e-4)
    np.testing.assert_allclose(more_power, 9 * power, rtol=1e-2, atol=1e-4)


def test_networks_see_the_same():
    x = np.random.default_rng(0).normal(size=(2, 2, 1500, 3)).astype(np.float32)
    seen = jax.jit(lambda x: numbers(x, (1500, 3)))(x)
    np.testing.assert_allclose(seen.reshape(4, -1), see(x.reshape(4, 1500, 3)), atol=1e-4)
    short = x[..., :20, :]
    np.testing.assert_array_equal(numbers(short, (20, 3)), short.reshape(2, 2, 60))
