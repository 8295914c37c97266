"""Layers that the zoo shares.

Every layer works on any number of leading axes, so that a model can be written for one example and `vmap`ped, or be given a
batch at once, with the same result.

Convolutions exist in three forms with the same weights. On CPU, XLA runs a convolution inside a loop 3-8 times slower than outside
one, and turns `vmap` over kernels into a slow grouped convolution (jax issue 12868); matrix products do not suffer. So there a
convolution is shifted copies and one product (`patches`), or on images half the products that this takes (`winograd`). Elsewhere the
native convolution is the fast one.
"""

from __future__ import annotations

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from neurostim import devices
from neurostim.columns import is_long_series, of_series

# Toom-Cook's points besides 0 and infinity, in the order in which they are used: small numbers keep rounding small.
POINTS = (1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 0.75, -4 / 3)
TILES = range(2, 8)  # outputs at once that are considered: more would round too coarsely
WINOGRAD_TAPS = (3, 4)
LARGE_KERNEL = 2**20  # numbers
WINOGRAD_CHANNELS = 16  # fewer make products too small to be worth the transforms


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis so that the output has ceil(size / stride) positions (TensorFlow's 'SAME')."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def patches(x: jax.Array, kernel: tuple[int, ...], stride: tuple[int, ...]) -> jax.Array:
    """Gathers the inputs of every output position of a 'SAME' convolution by shifting and concatenating.

    Args:
      x: [..., *space, channels] with as many spatial axes as `kernel` has entries.

    Returns:
      [..., *output space, prod(kernel) * channels], ordered as a flattened kernel [*kernel, channels].
    """
    axes = range(x.ndim - 1 - len(kernel), x.ndim - 1)
    for position, axis in enumerate(reversed(list(axes))):
        k, s = kernel[-1 - position], stride[-1 - position]
        size = x.shape[axis]
        out = math.ceil(size / s)
        before, after = same_padding(size, k, s)
        after = max(after, (out - 1) * s + k - size - before)
        padding = [(0, 0)] * x.ndim
        padding[axis] = (before, after)
        padded = jnp.pad(x, padding) if before or after else x
        if position == 0 and k % s == 0 and s > 1:
            # Neighbouring samples lie together already: k / s copies instead of k.
            padded = jax.lax.slice_in_dim(padded, 0, (out - 1) * s + k, 1, axis)
            padded = padded.reshape(*x.shape[:axis], -1, s * x.shape[-1])
            k, s = k // s, 1
        x = jnp.concatenate(
            [jax.lax.slice_in_dim(padded, i, i + (out - 1) * s + 1, s, axis) for i in range(k)], axis=-1)
    return x


@functools.lru_cache
def toom_cook(size: int, taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The linear maps that make a 'SAME' correlation of `size` samples with `taps` taps a product point by point.

    With m outputs at once, the number of `TILES` that needs fewest products, there are n = m + taps - 1 points; the correlation is
    `inverse @ ((kernel_map @ kernel) * (forward @ x))` (Winograd 1980; Lavin & Gray 2016, arXiv 1509.09308), with padding and tiling
    folded into the maps.

    Returns:
      forward [n * tiles, size], kernel_map [n, taps], inverse [size, n * tiles]; rows and columns are ordered (point, tile).
    """
    tile_size = min(TILES, key=lambda m: math.ceil(size / m) * (m + taps - 1))
    points, tiles = tile_size + taps - 1, math.ceil(size / tile_size)

    def vandermonde(columns):
        finite = np.array((0.0, *POINTS[: points - 2]))
        return np.vstack([finite[:, None] ** np.arange(columns), np.eye(columns)[-1:]])  # the last point is infinity

    tile_forward, tile_inverse = np.linalg.inv(vandermonde(points)).T, vandermonde(tile_size).T
    forward, inverse = np.zeros((points, tiles, size)), np.zeros((size, points, tiles))
    before = same_padding(size, taps, 1)[0]
    for tile in range(tiles):
        for i in range(points):
            if 0 <= tile * tile_size + i - before < size:
                forward[:, tile, tile * tile_size + i - before] = tile_forward[:, i]
        for i in range(min(tile_size, size - tile * tile_size)):
            inverse[tile * tile_size + i, :, tile] = tile_inverse[i]
    maps = forward.reshape(-1, size), vandermonde(taps), inverse.reshape(size, -1)
    return tuple(array.astype(np.float32) for array in maps)


def winograd(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A 'SAME' convolution of stride 1, [..., height, width, channels] -> [..., height, width, features], by half the multiplications:
    Toom-Cook along the width; along the height the kernel's rows are products of shifted slices, which are added."""
    height, rows = x.shape[-3], kernel.shape[0]
    forward, kernel_map, inverse = toom_cook(x.shape[-2], kernel.shape[1])
    points, lead = kernel_map.shape[0], x.shape[:-3]
    spread = jnp.tensordot(forward.astype(x.dtype), x, (1, x.ndim - 2)).reshape(points, -1, *lead, height, x.shape[-1])
    padding = [(0, 0)] * (spread.ndim - 2) + [same_padding(height, rows, 1), (0, 0)]
    spread = jnp.pad(spread, padding)
    spread = jnp.concatenate([jax.lax.slice_in_dim(spread, i, i + height, axis=spread.ndim - 2) for i in range(rows)], -1)
    weights = jnp.einsum('pj,ijcf->picf', kernel_map.astype(kernel.dtype), kernel).reshape(points, -1, kernel.shape[-1])
    y = jax.lax.dot_general(spread, weights, (((spread.ndim - 1,), (1,)), ((0,), (0,))))
    y = jnp.tensordot(inverse.astype(x.dtype), y.reshape(inverse.shape[1], *lead, height, -1), 1)
    return jnp.moveaxis(y, 0, -2)


def convolve(x: jax.Array, kernel: jax.Array, stride: tuple[int, ...]) -> jax.Array:
    """A 'SAME' convolution of [..., *space, channels] with a kernel [*kernel, channels, features], by matrix products."""
    *taps, channels, features = kernel.shape
    if len(taps) == 2 and set(stride) == {1} and taps[1] in WINOGRAD_TAPS and min(channels, features) >= WINOGRAD_CHANNELS:
        return winograd(x, kernel)
    return patches(x, tuple(taps), stride) @ kernel.reshape(-1, features)


class Conv(nn.Module):
    """A 'SAME' convolution over the last axes before the channels.

    Attributes:
      features: output channels.
      kernel, stride: one entry a spatial axis.
      native: XLA's convolution (True) or matrix products (False); None chooses by platform.
    """

    features: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    native: bool | None = None
    use_bias: bool = True

    @nn.compact
    def __call__(self, x):
        shape = (*self.kernel, x.shape[-1], self.features)
        kernel = self.param('kernel', nn.initializers.he_normal(), shape)
        native = not devices.on_cpu() if self.native is None else self.native
        if native:
            lead = x.shape[: x.ndim - 1 - len(self.kernel)]
            flat = x.reshape(-1, *x.shape[len(lead):])
            space = 'HW'[: len(self.kernel)]
            y = jax.lax.conv_general_dilated(
                flat, kernel.astype(x.dtype), self.stride, 'SAME', dimension_numbers=(f'N{space}C', f'{space}IO', f'N{space}C'))
            y = y.reshape(*lead, *y.shape[1:])
        else:
            y = convolve(x, kernel.astype(x.dtype), self.stride)
        return y + self.param('bias', nn.initializers.zeros, (self.features,)).astype(x.dtype) if self.use_bias else y


class Dense(nn.Module):
    """A dense layer. On CPU a large kernel stands on the left of the product: XLA rearranges what is on the right at every call."""

    features: int

    @nn.compact
    def __call__(self, x):
        kernel = self.param('kernel', nn.initializers.lecun_normal(), (x.shape[-1], self.features)).astype(x.dtype)
        bias = self.param('bias', nn.initializers.zeros, (self.features,)).astype(x.dtype)
        if not devices.on_cpu() or kernel.size < LARGE_KERNEL:
            return x @ kernel + bias
        turned = jax.lax.optimization_barrier(kernel.T)  # or XLA folds the transposition into the product, which makes it slow
        y = jax.lax.dot_general(turned, x, (((1,), (x.ndim - 1,)), ((), ())))
        return jnp.moveaxis(y, 0, -1) + bias


def _sum_axis(x: jax.Array, axis: int) -> jax.Array:
    """The sum over an axis, which is kept. By halves on CPU, where XLA's reductions take one number after another."""
    if not devices.on_cpu():
        return x.sum(axis, keepdims=True)
    while x.shape[axis] > 1:
        size = x.shape[axis]
        half = size // 2
        low, high = jax.lax.slice_in_dim(x, 0, half, axis=axis), jax.lax.slice_in_dim(x, half, 2 * half, axis=axis)
        rest = jax.lax.slice_in_dim(x, 2 * half, size, axis=axis)
        x = low + high if size % 2 == 0 else jnp.concatenate([low + high, rest], axis)
    return x


def _group_mean(groups: int, space: int, x: jax.Array) -> jax.Array:
    """The mean over the last `space` axes before the channels, and over the channels of a group: [..., 1 ..., channels]."""
    channels, positions = x.shape[-1], math.prod(x.shape[-1 - space:-1])
    for axis in range(x.ndim - 1 - space, x.ndim - 1):
        x = _sum_axis(x, axis)
    own_group = np.kron(np.eye(groups), np.full([channels // groups] * 2, groups / channels / positions))
    return jnp.matmul(x, own_group.astype(x.dtype), precision=jax.lax.Precision.HIGHEST)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def group_norm(groups: int, space: int, x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Group normalisation of [..., *space, channels] (Wu & He 2018), with its derivative written out: half the passes over `x`."""
    return _group_norm_forward(groups, space, x, scale, bias)[0]


def _group_norm_forward(groups, space, x, scale, bias):
    mean = _group_mean(groups, space, x)
    centred = x - mean
    rate = jax.lax.rsqrt(_group_mean(groups, space, centred * centred) + 1e-5)
    slope = rate * scale
    return x * slope + (bias - mean * slope), (x, mean, rate, scale)


def _group_norm_backward(groups, space, kept, g):
    x, mean, rate, scale = kept
    y = (x - mean) * rate
    inner = g * scale
    through = inner - _group_mean(groups, space, inner) - y * _group_mean(groups, space, inner * y)
    lead = tuple(range(g.ndim - 1))
    return rate * through, (g * y).sum(lead), g.sum(lead)


group_norm.defvjp(_group_norm_forward, _group_norm_backward)


class GroupNorm(nn.Module):
    """Group normalisation over the spatial axes of one example, in float32 at least.

    Not batch normalisation: one window's output must not depend on its neighbours in a batch, and per-example gradients,
    which differential privacy needs, must exist.
    """

    space: int
    group_size: int = 8

    @nn.compact
    def __call__(self, x):
        channels = x.shape[-1]
        groups = max(1, channels // self.group_size)
        if channels % groups:
            groups = 1
        dtype = jnp.promote_types(x.dtype, jnp.float32)
        scale = self.param('scale', nn.initializers.ones, (channels,)).astype(dtype)
        bias = self.param('bias', nn.initializers.zeros, (channels,)).astype(dtype)
        return group_norm(groups, self.space, x.astype(dtype), scale, bias).astype(x.dtype)


def numbers(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """[..., *shape] -> [..., d], for a network without filters: all numbers, but of a long time series how strong its bands of frequencies
    are, as classical algorithms see it."""
    if is_long_series(shape):
        return of_series(x, jnp)
    return x.reshape(*x.shape[: x.ndim - len(shape)], -1)


@jax.custom_vjp
def flatten(x: jax.Array) -> jax.Array:
    """[..., positions, channels] -> [..., positions * channels]. A copy: as a mere reshape XLA would make it a part of what computes `x`,
    whose loop over channels then is no longer one of vector instructions (on CPU)."""
    return jnp.concatenate([jax.lax.index_in_dim(x, i, x.ndim - 2, keepdims=False) for i in range(x.shape[-2])], -1)


flatten.defvjp(lambda x: (flatten(x), x.shape), lambda shape, g: (g.reshape(shape),))


def max_pool(x: jax.Array, space: int) -> jax.Array:
    """Halves the last `space` axes before the channels, rounding up; an odd edge is pooled alone."""
    for axis in range(x.ndim - 1 - space, x.ndim - 1):
        if x.shape[axis] % 2:
            padding = [(0, 0)] * x.ndim
            padding[axis] = (0, 1)
            x = jnp.pad(x, padding, constant_values=-jnp.inf)
        x = jnp.maximum(*(jax.lax.slice_in_dim(x, i, None, 2, axis) for i in range(2)))
    return x


def global_max(x: jax.Array, space: int) -> jax.Array:
    """The maximum over the last `space` axes before the channels; its gradient goes to the first of equals.

    Not `x.max()`, whose gradient compares `x` with its maximum: where XLA computes `x` a second time with other rounding,
    nothing is equal and the gradient is 0 / 0.
    """
    flat = x.reshape(*x.shape[: x.ndim - 1 - space], -1, x.shape[-1])
    return (flat * jax.nn.one_hot(flat.argmax(-2), flat.shape[-2], axis=-2, dtype=x.dtype)).sum(-2)


def dropout(module: nn.Module, x: jax.Array, rate: float) -> jax.Array:
    """Drops activations while training, that is, where the caller gave a 'dropout' key; one fresh mask an example."""
    if not module.has_rng('dropout'):
        return x
    keep = jax.random.bernoulli(module.make_rng('dropout'), 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0)


class Stem(nn.Module):
    """Brings an input of any length to at most `steps` positions: a strided convolution whose stride comes from the data.

    A window of 60 samples passes at full resolution (stride 1); one of 6000 samples is cut into patches of 94 with as much
    overlap again, so that every family costs about the same for either.
    """

    features: int
    space: int
    steps: int = 64

    @nn.compact
    def __call__(self, x):
        stride = tuple(math.ceil(n / self.steps) for n in x.shape[-1 - self.space:-1])
        kernel = tuple(max(2 * s, 3) for s in stride)
        return Conv(self.features, kernel, stride)(x)


def as_sequence(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """A sequence [..., time, channels] from features [..., f] -> [..., f, 1] or images -> rows in time, [..., h, w * c]."""
    lead = x.shape[: x.ndim - len(shape)]
    return x.reshape(*lead, shape[0], -1)


def as_grid(x: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, int]:
    """What a convolution slides over, and its number of spatial axes: time, features (one channel), or height and width."""
    return (x[..., None], 1) if len(shape) == 1 else (x, len(shape) - 1)
