"""Layers that the zoo shares.

Every layer works on any number of leading axes, so that a model can be written for one example and `vmap`ped, or be given a
batch at once, with the same result.

Convolutions exist twice with the same weights. On CPU, XLA runs a convolution inside a loop 3-8 times slower than outside one,
and turns `vmap` over kernels into a slow grouped convolution (jax issue 12868); shifted copies and one matrix product do
not suffer. Elsewhere the native convolution is the fast one.
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp


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


class Conv(nn.Module):
    """A 'SAME' convolution over the last axes before the channels.

    Attributes:
      features: output channels.
      kernel, stride: one entry a spatial axis.
      native: XLA's convolution (True) or patches and one matrix product (False); None chooses by platform.
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
        native = jax.default_backend() != 'cpu' if self.native is None else self.native
        if native:
            lead = x.shape[: x.ndim - 1 - len(self.kernel)]
            flat = x.reshape(-1, *x.shape[len(lead):])
            space = 'HW'[: len(self.kernel)]
            y = jax.lax.conv_general_dilated(
                flat, kernel.astype(x.dtype), self.stride, 'SAME', dimension_numbers=(f'N{space}C', f'{space}IO', f'N{space}C'))
            y = y.reshape(*lead, *y.shape[1:])
        else:
            y = patches(x, self.kernel, self.stride) @ kernel.reshape(-1, self.features).astype(x.dtype)
        return y + self.param('bias', nn.initializers.zeros, (self.features,)).astype(x.dtype) if self.use_bias else y


class GroupNorm(nn.Module):
    """Group normalisation over the spatial axes of one example (Wu & He 2018).

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
        y = x.reshape(*x.shape[:-1], groups, channels // groups)
        axes = (*range(y.ndim - 2 - self.space, y.ndim - 2), y.ndim - 1)
        mean = y.mean(axes, keepdims=True)
        centred = y - mean
        y = centred * jax.lax.rsqrt((centred * centred).mean(axes, keepdims=True) + 1e-5)
        scale = self.param('scale', nn.initializers.ones, (channels,)).astype(x.dtype)
        return y.reshape(x.shape) * scale + self.param('bias', nn.initializers.zeros, (channels,)).astype(x.dtype)


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
