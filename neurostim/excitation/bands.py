"""A long recording as bands of frequencies whose strength changes from place to place: put together from the very numbers that classical
algorithms and networks without filters see of it (:mod:`neurostim.columns`).

x(t) = drift(t) + sum over bands of envelope(t) x noise of that band. Drift and envelopes are straight lines between the middles of the
places: the drift has the places' means, an envelope runs through the band's amplitudes there.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from neurostim import columns

LEAST = 0.3  # of its usual amplitude: how weak a band's noise may be at a place before it is strengthened no further


def suits(shape: tuple[int, ...]) -> bool:
    """Whether windows of this shape are seen by bands."""
    return columns.is_long_series(shape)


def split(x: np.ndarray) -> np.ndarray:
    """Windows [n, time, channels] -> the numbers [n, places, 1 + bands, channels] that are seen of them."""
    seen = columns.columns(x)
    return seen.reshape(len(x), columns.places(x.shape[1]), -1, x.shape[2])


def edges(time: int) -> np.ndarray:
    """[bands + 1] frequencies, in cycles a window, between which each band lies: those of the columns, half a step lower, where what a
    place's frequency takes in begins."""
    places = columns.places(time)
    of_place = columns.edges(time // places)
    return np.clip(np.ceil((of_place - 0.5) * time / (time // places)).astype(int), 1, time // 2 + 1)


def shares(power: np.ndarray, time: int) -> np.ndarray:
    """From mean power [time // 2, channels] at 1, 2, ... cycles a window of `time` samples the amplitudes [time // 2, channels] that give
    each band's noise a mean square of 1."""
    between = edges(time) - 1
    out = np.zeros_like(power)
    for low, high in zip(between[:-1], between[1:], strict=True):
        own = power[low:high]
        out[low:high] = np.sqrt(own / np.maximum(own.sum(0), 1e-12))
    return out


def noises(spectrum, time: int):
    """Complex amplitudes [time // 2, channels] at 1, 2, ... cycles -> noise of each band [bands, time, channels], whose mean square is
    the sum of the squares of the band's amplitudes."""
    at = np.arange(1, len(spectrum) + 1)
    between = edges(time)
    own = ((at >= between[:-1, None]) & (at < between[1:, None])).astype(np.float32)  # [bands, frequencies]
    full = jnp.pad(own[..., None] * spectrum, ((0, 0), (1, 0), (0, 0)))
    return jnp.fft.irfft(full, time, axis=1) * np.float32(time / np.sqrt(2))


def lines(time: int) -> np.ndarray:
    """[time, places]: the matrix that makes of one number a place straight lines from the middle of each place to that of the next."""
    places = columns.places(time)
    middle = (np.arange(places) + 0.5) * (time // places)
    return np.stack([np.interp(np.arange(time), middle, row) for row in np.eye(places)], 1).astype(np.float32)


def assemble(numbers, noise):
    """One window [time, channels] of which bands see `numbers` [places, 1 + bands, channels], made of `noise` [bands, time, channels].

    How strong a band's noise happens to be at a place is divided out, or its chance would come on top of that which the numbers hold.
    """
    bands, time, channels = noise.shape
    places = columns.places(time)
    length = time // places
    weight = columns.taper(length) ** 2
    there = (noise[:, :places * length].reshape(bands, places, length, channels) ** 2 * (weight / weight.sum())[:, None]).sum(2)
    strength = jnp.maximum(jnp.sqrt(there + 1e-12), LEAST)  # [bands, places, channels]
    wanted = columns.amplitude(numbers[:, 1:], jnp).swapaxes(0, 1)
    along = lines(time)
    of_lines = along[:places * length].reshape(places, length, places).mean(1)  # the means that lines through the means would have
    return along @ np.linalg.inv(of_lines) @ numbers[:, 0] + (jnp.einsum('tp,bpc->btc', along, wanted / strength) * noise).sum(0)
