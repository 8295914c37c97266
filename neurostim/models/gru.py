"""A gated recurrent unit (Cho et al. 2014, with the reset gate after the recurrent product as cuDNN has it)."""

import functools

import jax
import jax.numpy as jnp

from neurostim.models.recurrent import Recurrent


def cell(inputs, recurrent, states):
    """One step; `inputs` and `recurrent` are [..., 3 * width]: reset, update, candidate."""
    (state,) = states
    input_r, input_z, input_n = jnp.split(inputs, 3, -1)
    state_r, state_z, state_n = jnp.split(recurrent, 3, -1)
    reset, update = jax.nn.sigmoid(input_r + state_r), jax.nn.sigmoid(input_z + state_z)
    return ((1 - update) * jnp.tanh(input_n + reset * state_n) + update * state,)


Network = functools.partial(Recurrent, gates=3, states=1, cell=cell)
