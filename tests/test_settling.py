"""Windows moved until bands see what was asked for: little, in slow bands alone, and no matter in which company."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurostim import columns, devices
from neurostim.excitation import bands, settling

QUICK_COMPILE = True
SHAPES = [(200, 6), (1201, 2), (20, 60)]


def windows(time, channels, n=16, seed=0):
    """Walks at random: slower is stronger."""
    steps = np.random.default_rng(seed).normal(size=(n, time, channels))
    return np.cumsum(steps - steps.mean(1, keepdims=True), 1).astype(np.float32) / 5


def asked_and_made(time, channels):
    """Numbers that bands see of windows, and other windows made of these numbers and of noise: (numbers, made, settled)."""
    rng = np.random.default_rng(1)
    numbers = bands.split(windows(time, channels)).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, (len(numbers), time // 2, channels))
    amplitudes = bands.shares(np.ones((time // 2, channels)), time) * np.sqrt(rng.exponential(size=phases.shape))
    spectra = (amplitudes * np.exp(1j * phases)).astype(np.complex64)
    made = jax.jit(jax.vmap(lambda numbers, spectrum: bands.assemble(numbers, bands.noises(spectrum, time))))(numbers, spectra)
    return numbers, np.asarray(made), np.asarray(jax.jit(jax.vmap(settling.settle))(made, numbers))


@pytest.mark.parametrize('shape', SHAPES)
def test_what_was_asked_for_is_seen_of_slow_bands(shape):
    numbers, made, settled = asked_and_made(*shape)
    slow = 1 + len(settling.slow(shape[0]).members)
    before, after = (np.abs(bands.split(x) - numbers)[:, :, :slow] for x in (made, settled))
    assert np.isfinite(settled).all()
    assert after[:, :, 1:].mean() < 0.2 * before[:, :, 1:].mean()
    assert after[:, :, 0].mean() < 0.05 * np.abs(numbers[:, :, 0]).mean()


@pytest.mark.parametrize('shape', SHAPES)
def test_who_is_seen_as_asked_for_stays(shape):
    x = windows(*shape)
    settled = jax.jit(jax.vmap(settling.settle))(x, bands.split(x).astype(np.float32))
    np.testing.assert_allclose(settled, x, atol=1e-3 * np.abs(x).max())


def test_fast_bands_are_left_alone():
    numbers, made, settled = asked_and_made(1201, 2)
    fastest = len(settling.slow(1201).band)  # cycles a window
    moved = np.fft.rfft((settled - made)[:, :1200], axis=1)
    # Straight lines and what does not fit into the window have a little of every frequency.
    assert (np.abs(moved[:, 2 * fastest:]) ** 2).sum() < 0.01 * (np.abs(moved) ** 2).sum()
    first = int((columns.edges(200)[:-1] <= 2 * settling.CYCLES).sum())  # that no slow sine leaks into
    np.testing.assert_allclose(bands.split(settled)[:, :, 1 + first:], bands.split(made)[:, :, 1 + first:], atol=0.05)


def test_a_window_is_moved_as_far_as_is_asked_for():
    """About as far as a band is to be strong, if it is to be twice as strong; and by little, if by little."""
    x = windows(1200, 1)
    settle, moved = jax.jit(jax.vmap(settling.settle)), []
    for times in (2.0, 1.1):
        numbers = bands.split(x).astype(np.float32)
        numbers[:, :, 2] += np.float32(np.log(times))
        moved.append(np.sqrt(((np.asarray(settle(x, numbers)) - x) ** 2).mean(1)))
        strength = np.sqrt((columns.amplitude(numbers[:, :, 2], np) ** 2).mean(1))
        assert (moved[-1] > 0.5 * (1 - 1 / times) * strength).all() and (moved[-1] < 6 * (1 - 1 / times) * strength).all()
    assert (moved[1] < 0.3 * moved[0]).all()


def test_many_at_once_are_settled_as_one_is():
    numbers, made, settled = asked_and_made(200, 6)
    one = np.asarray(jax.jit(settling.settle)(made[3], numbers[3]))
    np.testing.assert_allclose(settled[3], one, atol=1e-3)
    eager = np.asarray(settling.settle(jnp.asarray(made[3]), jnp.asarray(numbers[3])))
    np.testing.assert_allclose(settled[3], eager, atol=1e-3)


def test_silent_windows_stay_finite():
    numbers = bands.split(np.zeros((1, 300, 4), np.float32)).astype(np.float32)[0]
    for x in (np.zeros((300, 4), np.float32), windows(300, 4)[0]):
        assert np.isfinite(settling.settle(jnp.asarray(x), jnp.asarray(numbers))).all()


@pytest.mark.parametrize('n', [1, 6, 41])
def test_equations_are_solved_as_numpy_solves_them(n):
    rng = np.random.default_rng(n)
    slopes = rng.normal(size=(8, n, 2 * n)).astype(np.float32)
    matrix = slopes @ slopes.swapaxes(1, 2) + 0.1 * np.eye(n, dtype=np.float32)
    right = rng.normal(size=(8, n)).astype(np.float32)
    found = jax.jit(jax.vmap(settling.solve_positive))(matrix, right)
    np.testing.assert_allclose(found, np.linalg.solve(matrix.astype(float), right[..., None])[..., 0], rtol=2e-3, atol=2e-3)


def test_two_devices_do_not_wait_for_each_other_for_good():
    """As LAPACK's batches on each core of a CPU do: there every program that settles windows stood still."""
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(pathlib.Path(__file__).parents[1]),
                   'XLA_FLAGS': '--xla_force_host_platform_device_count=2'}
    done = subprocess.run([sys.executable, __file__], env=environment, timeout=120, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ['2', '(640,', '1201,', '2)']


def settle_on_all_devices():
    """Prints how many devices there are, and the shape of what they settled."""
    def settle_some(key, first, *_):
        x = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, first + i), (1201, 2)))(jnp.arange(16))
        return jax.vmap(settling.settle)(x, jnp.ones((16, *bands.split(np.zeros((1, 1201, 2))).shape[1:])))

    over, key = devices.OverDevices(settle_some, 16), jax.random.key(0)
    settled = [np.asarray(over(key, [32 * i, 32 * i + 16], (), ())) for i in range(20)]
    print(over.devices, np.concatenate(settled).shape)


if __name__ == '__main__':
    settle_on_all_devices()
