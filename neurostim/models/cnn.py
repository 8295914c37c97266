"""A convolutional network: strided convolutions with group normalisation, then one dense layer."""

import flax.linen as nn

from neurostim.models.layers import Conv, GroupNorm, Stem, as_grid, dropout, flatten


class Network(nn.Module):
    """Stem to at most 64 positions an axis, then convolutions of stride 2 until at most 8 positions are left."""

    shape: tuple[int, ...]
    classes: int
    width: int = 16
    dropout_rate: float = 0.1

    @nn.compact
    def __call__(self, x):
        activations = {}
        h, space = as_grid(x, self.shape)
        if max(h.shape[-1 - space:-1]) > 64:
            h = activations['stem'] = nn.relu(GroupNorm(space)(Stem(self.width, space, name='stem')(h)))
        stage = 0
        while stage < 2 or max(h.shape[-1 - space:-1]) > 8:
            stride = tuple(2 if n > 4 else 1 for n in h.shape[-1 - space:-1])
            kernel = (4 if space == 1 else 3,) * space
            h = Conv(self.width * 2 ** min(stage, 2), kernel, stride, name=f'conv{stage}')(h)
            h = activations[f'conv{stage}'] = nn.relu(GroupNorm(space, name=f'norm{stage}')(h))
            stage += 1
        h = flatten(h.reshape(*h.shape[: h.ndim - 1 - space], -1, h.shape[-1]))
        h = activations['dense'] = nn.relu(nn.Dense(4 * self.width, name='dense')(h))
        return nn.Dense(self.classes, name='head')(dropout(self, h, self.dropout_rate)), activations
