"""A small pre-norm transformer encoder on patches (Dosovitskiy et al. 2021 for images; the same in time for windows)."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from neurostim.models.layers import Conv, as_grid, dropout


class Network(nn.Module):
    """Patches become at most `tokens` tokens; two blocks of attention and an MLP; tokens are averaged."""

    shape: tuple[int, ...]
    classes: int
    width: int = 48
    heads: int = 4
    blocks: int = 2
    tokens: int = 20
    dropout_rate: float = 0.1

    @nn.compact
    def __call__(self, x):
        activations = {}
        h, space = as_grid(x, self.shape)
        limit = math.floor(self.tokens ** (1 / space))
        stride = tuple(math.ceil(n / limit) for n in h.shape[-1 - space:-1])
        h = Conv(self.width, tuple(max(2 * s, 2) for s in stride), stride, name='patch')(h)
        h = h.reshape(*h.shape[: h.ndim - 1 - space], -1, self.width)
        h = h + self.param('position', nn.initializers.normal(0.02), h.shape[-2:]).astype(x.dtype)
        for i in range(self.blocks):
            h = h + self.attend(nn.LayerNorm(name=f'norm{i}a')(h), i)
            inner = nn.gelu(nn.Dense(2 * self.width, name=f'expand{i}')(nn.LayerNorm(name=f'norm{i}b')(h)))
            h = activations[f'block{i}'] = h + nn.Dense(self.width, name=f'contract{i}')(inner)
        h = activations['pool'] = nn.LayerNorm(name='norm')(h).mean(-2)
        return nn.Dense(self.classes, name='head')(dropout(self, h, self.dropout_rate)), activations

    def attend(self, h, block):
        """Multi-head self-attention over [..., tokens, width]."""
        query, key, value = jnp.split(nn.Dense(3 * self.width, name=f'qkv{block}')(h), 3, -1)
        query, key, value = (a.reshape(*a.shape[:-1], self.heads, -1) for a in (query, key, value))
        scores = jnp.einsum('...qhd,...khd->...hqk', query, key) / math.sqrt(self.width / self.heads)
        mixed = jnp.einsum('...hqk,...khd->...qhd', jax.nn.softmax(scores), value)
        return nn.Dense(self.width, name=f'output{block}')(mixed.reshape(h.shape))
