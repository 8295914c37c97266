"""Dense layers over each number's place among thresholds: what a tree sees, in a network.

A dense layer of a number itself is slow to learn that something happens between two values of it. A piecewise linear encoding says for each
of some bins how much of it lies below the number: all of the bins below, none of those above, a part of its own (Gorishniy et al. 2022,
arXiv 2203.05556). Here with soft ends, for a bin that is left altogether could not be excited.
"""

import flax.linen as nn
import numpy as np
from scipy import special

from neurostim.models.layers import dropout, numbers

BINS = 12
OUTERMOST = 0.01  # share of a normal distribution below the lowest threshold


class Network(nn.Module):
    """Dense layers of `width` and a head, on the encoding of the input's numbers. Thresholds are quantiles of a normal distribution, which
    scaled numbers nearly have. Activations: `encoding`, `dense`."""

    shape: tuple[int, ...]
    classes: int
    width: int = 128
    dropout_rate: float = 0.2

    @nn.compact
    def __call__(self, x):
        h = numbers(x, self.shape)
        thresholds = special.ndtri(np.linspace(OUTERMOST, 1 - OUTERMOST, BINS + 1)).astype(np.float32)
        middle, width = (thresholds[1:] + thresholds[:-1]) / 2, np.diff(thresholds)
        below = nn.sigmoid(4 * (h[..., None] - middle) / width) - 0.5  # as steep in the middle as a straight line from end to end
        encoding = below.reshape(*h.shape[:-1], -1)
        dense = nn.silu(nn.Dense(self.width)(dropout(self, encoding, self.dropout_rate)))
        return nn.Dense(self.classes, name='head')(dropout(self, dense, self.dropout_rate)), {'encoding': encoding, 'dense': dense}
