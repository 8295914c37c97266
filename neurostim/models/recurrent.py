"""What `gru` and `lstm` share: a stem, a loop over time, a pooled read-out."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from neurostim.models.layers import Stem, as_sequence, dropout


class Recurrent(nn.Module):
    """A recurrent network; a family gives the cell.

    The input's projection is one matrix product over all steps; only the recurrent product stays inside the loop.

    Attributes:
      gates: how many blocks of `width` the cell's projections hold.
      states: how many state vectors the cell carries; the first is its output.
      cell: (projected input, recurrent projection, states) -> states.
    """

    shape: tuple[int, ...]
    classes: int
    gates: int
    states: int
    cell: Callable
    width: int = 48
    dropout_rate: float = 0.1
    steps: int = 20

    @nn.compact
    def __call__(self, x):
        h = as_sequence(x, self.shape)
        h = nn.relu(Stem(32, 1, self.steps, name='stem')(h))
        projected = nn.Dense(self.gates * self.width, name='input')(h)
        recurrent = self.param('recurrent', nn.initializers.orthogonal(), (self.width, self.gates * self.width)).astype(x.dtype)
        bias = self.param('recurrent_bias', nn.initializers.zeros, (self.gates * self.width,)).astype(x.dtype)

        def step(states, inputs):
            states = self.cell(inputs, states[0] @ recurrent + bias, states)
            return states, states[0]

        zeros = jnp.zeros((*h.shape[:-2], self.width), x.dtype)
        _, outputs = jax.lax.scan(step, (zeros,) * self.states, jnp.moveaxis(projected, -2, 0))
        pooled = jnp.concatenate([outputs[-1], outputs.mean(0)], -1)
        activations = {'steps': jnp.moveaxis(outputs, 0, -2), 'pool': pooled}
        return nn.Dense(self.classes, name='head')(dropout(self, pooled, self.dropout_rate)), activations
