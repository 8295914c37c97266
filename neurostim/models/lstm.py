"""A long short-term memory (Hochreiter & Schmidhuber 1997) whose forget gate starts open."""

import functools

import jax
import jax.numpy as jnp

from neurostim.models.recurrent import Recurrent


def cell(inputs, recurrent, states):
    """One step; `inputs` and `recurrent` are [..., 4 * width]: input, forget, output, candidate."""
    _, memory = states
    i, f, o, candidate = jnp.split(inputs + recurrent, 4, -1)
    memory = jax.nn.sigmoid(f + 1) * memory + jax.nn.sigmoid(i) * jnp.tanh(candidate)
    return jax.nn.sigmoid(o) * jnp.tanh(memory), memory


Network = functools.partial(Recurrent, gates=4, states=2, cell=cell)
