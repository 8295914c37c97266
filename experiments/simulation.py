"""What simulated recordings are made of: noise, rhythms, bumps and bursts, and people who have as many windows each."""

from __future__ import annotations

import numpy as np


def coloured_noise(rng: np.random.Generator, shape: tuple[int, ...], slope: float = 1.0) -> np.ndarray:
    """Noise [n, time, ...] along time whose power falls with frequency to the power of `slope`, of standard deviation 1 on average."""
    frequencies = np.fft.rfftfreq(shape[1])
    frequencies[0] = frequencies[1]
    weights = (frequencies ** (-slope / 2)).astype(np.float32).reshape(1, -1, *[1] * (len(shape) - 2))
    noise = np.fft.irfft(np.fft.rfft(rng.normal(size=shape).astype(np.float32), axis=1) * weights, shape[1], axis=1)
    return (noise / noise.std()).astype(np.float32)


def wandering_phase(rng: np.random.Generator, rate: np.ndarray, time: int, jitter: float) -> np.ndarray:
    """Radians [n, time] of rhythms with `rate` [n] cycles a sample that wander by a share `jitter` and begin anywhere."""
    speed = rate[:, None] * (1 + jitter * coloured_noise(rng, (len(rate), time), 2.0))
    return 2 * np.pi * (np.cumsum(speed, 1) + rng.uniform(size=(len(rate), 1)))


def bumps(time: int, centre: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Gaussian bumps [n, time] of height 1 at `centre` [n], `width` [n] standard deviations wide, in samples."""
    return np.exp(-0.5 * ((np.arange(time) - centre[:, None]) / width[:, None]) ** 2)


def bursts(rng: np.random.Generator, n: int, time: int, count: np.ndarray, width: float) -> np.ndarray:
    """Sums [n, time] of `count` [n] bumps of height 1, `width` samples wide, at random places."""
    out = np.zeros((n, time), np.float32)
    for i in range(int(count.max(initial=0))):
        rows = np.flatnonzero(count > i)
        out[rows] += bumps(time, rng.uniform(0, time, len(rows)), np.full(len(rows), width))
    return out


def invented_people(rng: np.random.Generator, n: int, people: int) -> np.ndarray:
    """int [n]: people with as many windows each, or one more, in random order."""
    return rng.permutation(np.arange(n) % people)
