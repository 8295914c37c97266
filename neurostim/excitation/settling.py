"""A window that bands put together, moved as little as it takes until of its slow half is seen what was asked for.

Noise of a narrow band holds one or two frequencies a place, so that how strong it is there is nearly all chance; its neighbours leak into
it, and so does the drift. Dividing one band's chance out does not mend that, since what is seen of a band is not of that band alone. So the
whole is moved: along the lines of the drift and along slow sines, by Gauss-Newton steps on all amplitudes and means together, each of
least norm in units of how strong the window itself is at each frequency. Faster bands hold many frequencies and are left alone.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from neurostim import columns
from neurostim.excitation import bands

CYCLES = 7  # a place, up to which bands are slow
ROUNDS = 5  # Gauss-Newton steps
DAMPING = 0.1  # of a step's equations, beside their own size: a band that is nearly silent must not throw the window about
QUIET = 0.02  # of a place's amplitude, below which a band's is not told more exactly
OF_MEANS = 0.05  # of a place's amplitude: how exactly its mean is told, where a band's amplitude is told by 1


class Slow(NamedTuple):
    """What windows of one length are moved along, and what slow bands see of it.

    Attributes:
      basis: float32 [directions, time]: straight lines, one a place, then cosines and sines of 1, 2, ... cycles a window.
      spectrum: complex64 [places, frequencies, directions], of a place, as columns see it.
      mean: float32 [places, directions], of a place.
      members: float32 [slow bands, frequencies], 1 where a place's frequency belongs to a band.
      band: int [cycles a window], the band that says how strong a window is there.
    """

    basis: np.ndarray
    spectrum: np.ndarray
    mean: np.ndarray
    members: np.ndarray
    band: np.ndarray


@functools.cache
def slow(time: int) -> Slow:
    """What windows of `time` samples are moved along."""
    length = time // columns.places(time)
    edges = columns.edges(length)
    count = int((edges[:-1] <= CYCLES).sum())
    top = edges[count]
    cycles = np.arange(1, min(time // 2 - 1, math.ceil(time / length * (top + 1))) + 1)  # a tapered place sees a little beyond its bands
    angle = 2 * np.pi * np.outer(cycles, np.arange(time)) / time
    basis = np.concatenate([bands.lines(time).T, math.sqrt(2) * np.cos(angle), math.sqrt(2) * np.sin(angle)])
    mean, spectrum = _slow_places(basis, top, np)
    band = np.clip(np.searchsorted(bands.edges(time), cycles, 'right') - 1, 0, len(edges) - 2)
    return Slow(basis.astype(np.float32), np.moveaxis(spectrum, 0, -1).astype(np.complex64), mean.T.astype(np.float32),
                columns.members(length)[:count, 1:top], band)


def _slow_places(x, top, xp):
    """(means [..., places], spectra [..., places, top - 1] at 1, 2, ... cycles a place) of one channel [..., time]: the squares of a band's
    frequencies add up to its mean square."""
    mean, spectrum = columns.of_places(x[..., None], xp)
    length = x.shape[-1] // columns.places(x.shape[-1])
    return mean[..., 0, 0], spectrum[..., 1:top, 0] * np.float32(math.sqrt(columns.power_scale(length)))


def solve_positive(matrix, right):
    """x [n] with matrix @ x = right, of a positive definite matrix [n, n]: Gauss-Jordan elimination, which needs no pivots then.

    Not LAPACK's: of a batch jaxlib factorises several at once in the pool of threads that it is itself called from, and waits for them
    there; where each of that pool's threads waits so, as with a program on each of a CPU's cores, all wait for good (BUILD_NOTES).
    """
    def eliminate(i, table):
        row = table[i] / table[i, i]
        return (table - table[:, i, None] * row).at[i].set(row)

    return jax.lax.fori_loop(0, len(right), eliminate, jnp.concatenate([matrix, right[:, None]], 1))[:, -1]


def settle(x, numbers):
    """The window `x` [time, channels], scaled, moved until its slow bands see `numbers` [places, 1 + bands, channels], as
    :func:`neurostim.excitation.bands.split` has them."""
    along = slow(x.shape[0])
    amplitudes = columns.amplitude(numbers[:, 1:], jnp)
    frequencies = np.maximum(np.diff(bands.edges(x.shape[0])), 1)
    strength = jnp.sqrt((amplitudes**2).mean(0) / frequencies[:, None])[along.band]  # [cycles, channels], of one frequency
    places, channels = numbers.shape[0], numbers.shape[2]
    usual = jnp.concatenate([jnp.broadcast_to(strength[0], (places, channels)), strength, strength])
    one = functools.partial(_settle_channel, along)
    return jax.vmap(one, (1, 1, 2, 1), 1)(x, numbers[:, 0], amplitudes[:, :len(along.members)], usual)


def _settle_channel(along: Slow, x, means, wanted, usual):
    """One channel [time] whose places are to have the `means` [places] and the amplitudes `wanted` [places, slow bands]; `usual` is how far
    it may be moved along each direction [directions]."""
    mean, spectrum = _slow_places(x, along.members.shape[1] + 1, jnp)
    spectra, levels = along.spectrum * usual, along.mean * usual
    loudness = jnp.sqrt((wanted**2).sum(1).mean())
    unit, level_unit = jnp.maximum(wanted, QUIET * loudness) + 1e-4, OF_MEANS * loudness + 1e-3

    def step(_, moved):
        now = spectrum + spectra @ moved
        amplitude = jnp.sqrt((now.real**2 + now.imag**2) @ along.members.T + 1e-12)
        slope = jnp.einsum('bf,pfd->pbd', along.members, now.real[..., None] * spectra.real + now.imag[..., None] * spectra.imag)
        slopes = jnp.concatenate([(slope / (amplitude * unit)[..., None]).reshape(-1, len(usual)), levels / level_unit])
        short = jnp.concatenate([((wanted - amplitude) / unit).ravel(), (means - mean - levels @ moved) / level_unit])
        normal = slopes @ slopes.T
        normal += jnp.diag(DAMPING * jnp.diag(normal) + 1e-6)
        # As far as it takes to double or to silence a band, and no farther: amplitudes are no straight lines.
        return moved + slopes.T @ solve_positive(normal, jnp.clip(short, -1, 1))

    return x + (usual * jax.lax.fori_loop(0, ROUNDS, step, jnp.zeros_like(usual))) @ along.basis
