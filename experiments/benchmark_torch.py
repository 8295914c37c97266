r"""PyTorch's side of `experiments.benchmark`: the same loop over the same frozen teacher, as a PyTorch user would write it well.

`experiments.benchmark` starts this file once a thread count, pinned to as many CPUs:

    python -m experiments.benchmark_torch '{"models": ["cnn"], "batches": [256], "steps": [100], "threads": 1, ...}'

The peer is as fast as a user gets it without a compiler of their own: frozen weights, channels last for images, one fused Adam over the
whole batch, in-place activations. `torch.compile` is not used: it needs a C++ compiler that few installations have.

The loop: draw starts (normal) and targets (Dirichlet), `steps` steps of Adam on the samples against the cross-entropy of the teacher's
belief, then the samples' beliefs, as NumPy arrays. Both sides take turns within one process; before that, their logits are compared and
their threads counted.
"""

from __future__ import annotations

import glob
import importlib.metadata
import itertools
import json
import math
import os
import statistics
import sys
import time

import jax
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from experiments.benchmark import make_case, timed_excitation
from experiments.machine import Watch
from neurostim import models
from neurostim.excitation import produce
from neurostim.excitation.objective import Weights
from neurostim.models.layers import same_padding
from neurostim.teacher import Teacher

RATE, CONCENTRATION = 0.1, produce.TargetSettings().concentration


def _copy(parameter: torch.Tensor, values) -> None:
    parameter.data.copy_(torch.from_numpy(np.array(values, np.float32)))


def _linear(weights, channels: int = 0) -> nn.Linear:
    """A dense layer; with `channels`, one that takes what was flattened channels first."""
    kernel = np.asarray(weights['kernel'])
    if channels:
        kernel = kernel.reshape(-1, channels, kernel.shape[-1]).swapaxes(0, 1).reshape(kernel.shape)
    layer = nn.Linear(*kernel.shape)
    _copy(layer.weight, kernel.T)
    _copy(layer.bias, weights['bias'])
    return layer


def _convolution(weights, size: int, stride: int) -> list[nn.Module]:
    """A 'SAME' convolution of an axis (or two equal ones) of `size`; uneven padding is a layer of its own."""
    kernel = np.asarray(weights['kernel'])
    space = kernel.ndim - 2
    before, after = same_padding(size, kernel.shape[0], stride)
    even = before == after
    layer = (nn.Conv1d, nn.Conv2d)[space - 1](*kernel.shape[-2:], kernel.shape[0], stride, padding=before if even else 0)
    _copy(layer.weight, np.moveaxis(kernel, (-1, -2), (0, 1)))
    _copy(layer.bias, weights['bias'])
    return [layer] if even else [(nn.ConstantPad1d, nn.ConstantPad2d)[space - 1]((before, after) * space, 0.0), layer]


def _norm(weights) -> nn.GroupNorm:
    channels = len(weights['scale'])
    layer = nn.GroupNorm(max(1, channels // 8), channels)
    _copy(layer.weight, weights['scale'])
    _copy(layer.bias, weights['bias'])
    return layer


def network(name: str, params, shape: tuple[int, ...]) -> nn.Module:
    """The frozen teacher with the weights `params` of one zoo member, for inputs [n, channels, ...]."""
    layers, size = [], shape[0]
    if name == 'cnn':
        for stage in itertools.takewhile(lambda s: f'conv{s}' in params, itertools.count()):
            layers += [*_convolution(params[f'conv{stage}'], size, 2), _norm(params[f'norm{stage}']), nn.ReLU(inplace=True)]
            size = math.ceil(size / 2)
        layers += [nn.Flatten(), _linear(params['dense'], len(params[f'norm{stage}']['scale'])), nn.ReLU(inplace=True)]
    else:
        for i in range(4):
            layers += [*_convolution(params[f'conv{i}'], size, 1), nn.LeakyReLU(0.2, inplace=True)]
            if i < 2:
                layers.append(nn.MaxPool2d(2))
                size //= 2
        layers += [nn.Flatten(), _linear(params['dense1024'], 128), nn.LeakyReLU(0.2, inplace=True),
                   _linear(params['dense128']), nn.LeakyReLU(0.2, inplace=True)]
    net = nn.Sequential(*layers, _linear(params['head'])).eval().requires_grad_(False)
    return net.to(memory_format=torch.channels_last) if len(shape) == 3 else net  # a fifth faster here


def excite(net: nn.Module, start: torch.Tensor, belief: torch.Tensor, bounds, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Direct search: (samples, beliefs) after `steps` steps of Adam from `start` towards `belief`."""
    low, high = map(float, bounds)
    x = start.clone(memory_format=torch.channels_last if start.ndim == 4 else torch.preserve_format).requires_grad_()
    adam = torch.optim.Adam([x], lr=RATE, fused=True)
    for _ in range(steps):
        adam.zero_grad(set_to_none=True)
        F.cross_entropy(net(x.clamp(low, high)), belief, reduction='sum').backward()
        adam.step()
    with torch.inference_mode():
        made = x.clamp(low, high)
        return made, net(made).softmax(1)


def channels_first(x) -> torch.Tensor:
    """[n, ..., channels] -> [n, channels, ...]."""
    return torch.from_numpy(np.moveaxis(np.asarray(x), -1, 1).copy())


def timed_peer(net: nn.Module, teacher: Teacher, batch: int, steps: int):
    """``run(calls)`` makes that many batches and returns the seconds it took."""
    shape = (batch, teacher.shape[-1], *teacher.shape[:-1])
    share = torch.full((len(teacher.classes),), CONCENTRATION / len(teacher.classes))
    bounds = teacher.population['bounds']

    def run(calls):
        started = time.perf_counter()
        for _ in range(calls):
            belief = torch.distributions.Dirichlet(share, validate_args=False).sample((batch,))
            for made in excite(net, torch.randn(shape), belief, bounds, steps):
                made.numpy()
        return time.perf_counter() - started

    return run


def assert_equal_logits(net: nn.Module, teacher: Teacher, n: int = 64) -> None:
    """Both teachers say the same of the same samples, to 1e-4."""
    x = np.random.default_rng(0).normal(size=(n, *teacher.shape)).astype(np.float32)
    member = models.create(teacher.names[0], teacher.shape, len(teacher.classes))
    ours = np.asarray(jax.jit(member.apply)(teacher.params[0], x)[0])
    with torch.inference_mode():
        theirs = net(channels_first(x)).numpy()
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4)


def assert_threads(threads: int) -> None:
    """Both sides have just so many threads to compute with."""
    names = [open(path).read().strip() for path in glob.glob('/proc/self/task/*/comm')]
    found = {'CPUs': len(os.sched_getaffinity(0)), 'XLA': names.count('tf_XLAEigen'), 'PyTorch': torch.get_num_threads()}
    if set(found.values()) != {threads}:
        raise RuntimeError(f'{threads} threads were asked for, there are {found}')


def compare(name: str, batch: int, steps: int, spec: dict) -> dict:
    """A row of `versus`: in every repeat both sides run, by turns first; the ratio is taken within a repeat."""
    teacher = make_case(name, spec['seed']).teacher
    net = network(name, teacher.params[0], teacher.shape)
    assert_equal_logits(net, teacher)
    settings = produce.resolve(
        produce.Settings('direct', steps=steps, batch=batch // spec['threads'], learning_rate=RATE, weights=Weights(tether=0.0)), teacher)
    sides = {'ours': timed_excitation(teacher, settings).run, 'theirs': timed_peer(net, teacher, batch, steps)}
    assert jax.local_device_count() == spec['threads']
    calls = {}
    for side, run in sides.items():
        run(1)
        calls[side] = max(1, math.ceil(spec['seconds'] / run(1)))
    assert_threads(spec['threads'])
    rates, busy, watch = {side: [] for side in sides}, {side: [] for side in sides}, Watch()
    for repeat in range(spec['repeats']):
        for side in list(sides) if repeat % 2 else reversed(sides):
            own = Watch()
            seconds = sides[side](calls[side])
            busy[side].append(own.own_cpus())
            rates[side].append(calls[side] * batch * steps / seconds)
    others = watch.other_cpus()
    ratios = [a / b for a, b in zip(rates['ours'], rates['theirs'], strict=True)]
    return {
        'peer': f'PyTorch {importlib.metadata.version("torch")}', 'threads': spec['threads'], 'model': name, 'batch': batch, 'steps': steps,
        'repeats': spec['repeats'], 'other_cpus': others,
        'ratio_median': statistics.median(ratios), 'ratio_min': min(ratios), 'ratio_max': max(ratios),
        **{f'{side}_sample_steps_per_second': statistics.median(rates[side]) for side in sides},
        **{f'{side}_cpus': statistics.median(busy[side]) for side in sides}}


if __name__ == '__main__':
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given['threads'])
    print(json.dumps([compare(*row, given) for row in zip(given['models'], given['batches'], given['steps'], strict=True)]))
