"""A multilayer perceptron on the input's numbers."""

import flax.linen as nn

from neurostim.models.layers import dropout, numbers


class Network(nn.Module):
    """Dense layers of `width` and `width // 2` units."""

    shape: tuple[int, ...]
    classes: int
    width: int = 128
    dropout_rate: float = 0.1

    @nn.compact
    def __call__(self, x):
        activations = {}
        h = numbers(x, self.shape)
        for i, width in enumerate((self.width, self.width // 2)):
            h = activations[f'dense{i}'] = nn.silu(nn.Dense(width, name=f'dense{i}')(h))
            h = dropout(self, h, self.dropout_rate)
        return nn.Dense(self.classes, name='head')(h), activations
