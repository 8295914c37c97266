"""A residual network with pre-activation blocks (He et al. 2016) and global pooling."""

import flax.linen as nn
import jax.numpy as jnp

from neurostim.models.layers import Conv, GroupNorm, Stem, as_grid, dropout, global_max


class Network(nn.Module):
    """Stem, then residual blocks, each halving every axis, until at most 4 positions are left; mean and maximum are pooled."""

    shape: tuple[int, ...]
    classes: int
    width: int = 16
    dropout_rate: float = 0.1

    @nn.compact
    def __call__(self, x):
        activations = {}
        h, space = as_grid(x, self.shape)
        h = activations['stem'] = Stem(self.width, space, steps=32 if space == 1 else 14, name='stem')(h)
        block = 0
        while block < 2 or max(h.shape[-1 - space:-1]) > 4:
            stride = tuple(2 if n > 2 else 1 for n in h.shape[-1 - space:-1])
            width = self.width * (2 if block else 1)
            normed = nn.relu(GroupNorm(space, name=f'norm{block}a')(h))
            inner = Conv(width, (3,) * space, stride, name=f'conv{block}a')(normed)
            inner = Conv(width, (3,) * space, (1,) * space, name=f'conv{block}b')(nn.relu(GroupNorm(space, name=f'norm{block}b')(inner)))
            if h.shape != inner.shape:
                h = Conv(width, stride, stride, use_bias=False, name=f'skip{block}')(normed)
            h = activations[f'block{block}'] = h + inner
            block += 1
        h = nn.relu(GroupNorm(space, name='norm')(h))
        axes = tuple(range(h.ndim - 1 - space, h.ndim - 1))
        h = activations['pool'] = jnp.concatenate([h.mean(axes), global_max(h, space)], -1)
        return nn.Dense(self.classes, name='head')(dropout(self, h, self.dropout_rate)), activations
