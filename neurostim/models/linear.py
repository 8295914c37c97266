"""A linear classifier of the input's numbers: what is left where windows are few and their features tell classes apart by themselves."""

import flax.linen as nn

from neurostim.models.layers import dropout, numbers

GAIN = 8.0  # of the logits: a step of Adam moves a weight as far as in other families, where many layers' steps add up


class Network(nn.Module):
    """One dense layer, the head, on an input of which dropout leaves out a part (for a linear model a ridge penalty that knows the
    features' scales: Wager et al. 2013, arXiv 1307.1493). Its only activation is the input."""

    shape: tuple[int, ...]
    classes: int
    dropout_rate: float = 0.1

    @nn.compact
    def __call__(self, x):
        h = numbers(x, self.shape)
        head = nn.Dense(self.classes, kernel_init=nn.initializers.normal(1e-2), name='head')
        return GAIN * head(dropout(self, h, self.dropout_rate)), {'input': h}
