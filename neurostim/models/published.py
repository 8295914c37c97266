"""The MNIST classifier and generator of the published proof of concept (arXiv 2009.10007), layer by layer.

Both are defined for 28 x 28 images; the generator's last convolution has as many channels as the image.
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from neurostim.errors import UserError
from neurostim.models.layers import Conv, Dense, convolve, dropout, max_pool

GLOROT = nn.initializers.glorot_uniform()
SLOPE = 0.2  # of the leaky ReLUs


class Classifier(nn.Module):
    """Four 4 x 4 convolutions (32, 64, 128, 128; pooled after the first two), dense 1024 and 128, leaky ReLU, dropout."""

    shape: tuple[int, ...]
    classes: int
    dropout_rate: float = 0.2

    @nn.compact
    def __call__(self, x):
        if len(self.shape) != 3:
            raise UserError(f"model 'published' takes images [height, width, channels], the study has windows of shape {self.shape}")
        activations, h = {}, x
        for i, (features, pool) in enumerate(((32, True), (64, True), (128, False), (128, False))):
            h = activations[f'conv{i}'] = nn.leaky_relu(Conv(features, (4, 4), (1, 1), name=f'conv{i}')(h), SLOPE)
            h = dropout(self, max_pool(h, 2) if pool else h, self.dropout_rate)
        h = h.reshape(*h.shape[:-3], -1)
        for width in (1024, 128):
            h = activations[f'dense{width}'] = nn.leaky_relu(Dense(width, name=f'dense{width}')(h), SLOPE)
            h = dropout(self, h, self.dropout_rate)
        return nn.Dense(self.classes, name='head')(h), activations


class TransposedConv(nn.Module):
    """A 'SAME' transposed convolution on one image [height, width, channels]: stride 2 doubles the axes.

    Stride 2 is written as a convolution that computes the four output phases as channels and interleaves them: on CPU, in a
    loop and under `vmap` over kernels, that is one matrix product, with no multiplications by the zeros that a dilated
    input would have. A kernel of k x k taps becomes (k / 2) x (k / 2) taps a phase.
    """

    features: int
    kernel: int
    stride: int = 1

    @nn.compact
    def __call__(self, x):
        taps, phases = self.kernel // self.stride, self.stride ** 2
        limit = math.sqrt(6 / (self.kernel ** 2 * (x.shape[-1] + self.features)))  # Glorot's, for the k x k kernel

        def initialise(key, shape):
            return jax.random.uniform(key, shape, minval=-limit, maxval=limit)

        kernel = self.param('kernel', initialise, (taps * taps * x.shape[-1], phases * self.features))
        bias = self.param('bias', nn.initializers.zeros, (self.features,))
        y = convolve(x, kernel.reshape(taps, taps, x.shape[-1], -1), (1, 1))
        height, width = y.shape[-3:-1]
        y = y.reshape(*y.shape[:-1], self.stride, self.stride, self.features)
        y = jnp.moveaxis(y, -3, -4)  # [..., height, phase, width, phase, features]
        return y.reshape(*x.shape[:-3], height * self.stride, width * self.stride, self.features) + bias


class Generator(nn.Module):
    """Noise [512] to one image of `shape`; its weights are what the published loop searches."""

    shape: tuple[int, ...]
    dropout_rate: float = 0.2

    @nn.compact
    def __call__(self, z):
        height, width, channels = self.shape
        if height % 4 or width % 4:
            raise UserError(f'excite.method: the published generator makes images whose sides divide by 4, not {height} x {width}')
        h = dropout(self, nn.relu(nn.Dense(512, kernel_init=GLOROT)(z)), self.dropout_rate)
        rows, columns = height // 4, width // 4
        h = dropout(self, nn.leaky_relu(nn.Dense(rows * columns * 80, kernel_init=GLOROT)(h), SLOPE), self.dropout_rate)
        h = h.reshape(*h.shape[:-1], rows, columns, 80)
        for features, kernel, stride in ((128, 2, 2), (64, 4, 2), (32, 4, 1), (32, 4, 1), (32, 4, 1)):
            h = nn.leaky_relu(TransposedConv(features, kernel, stride)(h), SLOPE)
        return nn.sigmoid(TransposedConv(channels, 4)(h))


Network = Classifier
