"""How far images lean: writing and drawings on an empty background, put upright and slanted again.

Two pictures of one thing that lean differently have hardly a pixel in common. Without their slant images of a class are far more alike, and
a mixture of Gaussians describes them far better. The slant is a shear that a picture's second moments ask for (as digits have long been
made upright before they are classified: LeCun et al. 1998, Gradient-based learning applied to document recognition).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

EMPTY = 0.25  # share of the pixels that must have one and the same value, to be a background
RESOLUTION = 1e-3  # scaled units by which pixels of the background may differ
MOST = 1.0  # columns a row: no image is slanted by more
LEAST_VARIANCE = 1e-2  # of rows: a picture of one row, or an empty one, has no slant
ROWS = 2000  # images that are looked at for a background
BATCH = 256  # images at once


def background(images: np.ndarray) -> np.ndarray | None:
    """The most frequent value of each channel [channels], or None where too few pixels have it.

    Args:
      images: float32 [n, height, width, channels], scaled.
    """
    pixels = images[::max(1, len(images) // ROWS)].reshape(-1, images.shape[-1])
    values = [np.unique(channel, return_counts=True) for channel in pixels.T]
    found = np.array([value[count.argmax()] for value, count in values], np.float32)
    return found if emptiness(pixels, found) >= EMPTY else None


def distance(x, background):
    """How far pixels [..., channels] are from the background [channels], by the channel that is farthest: [...]."""
    return abs(x - background).max(-1)


def emptiness(images: np.ndarray, background: np.ndarray) -> float:
    """Share of the pixels of images [..., channels] that are background."""
    return float((distance(images, background) <= RESOLUTION).mean())


def slants(images: np.ndarray, background: np.ndarray) -> np.ndarray:
    """How many columns to the right each image [n, height, width, channels] leans a row further down: float32 [n], at most `MOST`.

    What is not background has mass by its difference from it; the slant is the slope of the regression of columns on rows.
    """
    return np.concatenate([_slants(batch, background) for batch in np.array_split(images, math.ceil(len(images) / BATCH))])


def _slants(images, background):
    mass = distance(images, background).astype(np.float64)
    whole = np.maximum(mass.sum((1, 2)), 1e-9)
    rows, columns = (np.arange(size) - (size - 1) / 2 for size in images.shape[1:3])
    by_row, by_column = mass.sum(2), mass.sum(1)
    row, column = by_row @ rows / whole, by_column @ columns / whole
    variance = by_row @ rows**2 / whole - row**2
    covariance = (mass @ columns) @ rows / whole - row * column
    return np.clip(covariance / np.maximum(variance, LEAST_VARIANCE), -MOST, MOST).astype(np.float32)


def lean(image: jax.Array, slant: jax.Array, background: jax.Array) -> jax.Array:
    """One image [height, width, channels] whose rows are moved to the right by `slant` columns a row, about the middle one; between two
    columns linearly, background beyond the edges.

    By shifts of 1, 2, 4, ... columns of the rows that need them: no gather, and in the derivative no scatter.
    """
    height = image.shape[0]
    most = math.ceil(MOST * (height - 1) / 2)  # columns that a row is moved
    offset = jnp.clip(slant, -MOST, MOST) * (jnp.arange(height) - (height - 1) / 2)
    whole = jnp.floor(offset)
    part = (offset - whole)[:, None, None]
    left = (most - whole).astype(jnp.int32)[:, None, None]  # columns by which a row that starts most + 1 to the right is moved back
    bits = (2 * most).bit_length()
    rows = jnp.pad(image - background, ((0, 0), (most + 1, 2**bits - 1 - most), (0, 0)))
    for bit in reversed(range(bits)):
        rows = jnp.where((left >> bit) & 1, rows[:, 2**bit:], rows[:, :rows.shape[1] - 2**bit])
    return background + (1 - part) * rows[:, 1:] + part * rows[:, :-1]


def upright(images: np.ndarray, slants: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Images [n, height, width, channels] without their slants [n]."""
    batches = [slice(i, i + BATCH) for i in range(0, len(images), BATCH)]
    return np.concatenate([np.asarray(_lean_all(images[rows], -slants[rows], background)) for rows in batches])


_lean_all = jax.jit(jax.vmap(lean, (0, 0, None)))


def clear(image, background, threshold):
    """An image [..., channels] whose pixels nearer to the background than `threshold` are background."""
    return jnp.where((distance(image, background) < threshold)[..., None], background, image)
