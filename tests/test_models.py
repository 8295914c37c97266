"""The zoo: one example at a time, in batches, under vmap, and by reference implementations."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurostim import models
from neurostim.errors import UserError
from neurostim.excitation.objective import unit_activation
from neurostim.models import gru, layers, lstm, published

QUICK_COMPILE = True
CLASSES = 3
SHAPES = {'features': (7,), 'windows': (70, 2), 'images': (7, 6, 1)}
EVERY = [(name, 'images' if name == 'published' else 'windows') for name in models.NAMES]
# Other shapes where a family's own code sees a difference: in two axes, or none.
CASES = EVERY + [(name, 'images') for name in ('cnn', 'resnet', 'transformer')] + [(name, 'features') for name in ('mlp', 'gru', 'cnn')]


@functools.cache
def zoo(name, kind):
    """A member with parameters that no initialiser left at zero, and its compiled `apply`."""
    model = models.create(name, SHAPES[kind], CLASSES)
    blank = jax.eval_shape(model.init, jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: np.float32(rng.normal(size=leaf.shape) / np.sqrt(max(np.prod(leaf.shape[:-1]), 4))), blank)
    return model, params, jax.jit(model.apply)


def inputs(kind, *lead):
    return np.random.default_rng(1).normal(size=(*lead, *SHAPES[kind])).astype(np.float32)


def assert_close(ours, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, expected)


@pytest.mark.parametrize('name', models.NAMES)
def test_every_kind_of_input_and_any_leading_axes(name):
    for kind, shape in SHAPES.items():
        if name != 'published' or kind == 'images':
            model = models.create(name, shape, CLASSES)
            params = jax.eval_shape(model.init, jax.random.key(0))
            for lead in ((), (5,), (2, 3)):
                logits, named = jax.eval_shape(model.apply, params, jnp.zeros((*lead, *shape)))
                assert logits.shape == (*lead, CLASSES) and named
                assert all(activation.shape[: len(lead)] == lead for activation in named.values())


@pytest.mark.parametrize('name, kind', CASES)
def test_batch_equals_vmap_over_examples_and_over_models(name, kind):
    model, params, apply = zoo(name, kind)
    other = jax.tree.map(lambda leaf: -0.5 * leaf, params)
    x = inputs(kind, 2, 3)
    first, second = apply(params, x), apply(other, x)
    assert first[0].shape == (2, 3, CLASSES)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), params, other)
    mapped = jax.jit(jax.vmap(jax.vmap(jax.vmap(model.apply, (None, 0)), (None, 0)), (0, None)))(stacked, x)
    for i, looped in enumerate((first, second)):
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], mapped), looped)
    assert np.abs(first[0] - second[0]).max() > 1e-2
    assert np.ptp(first[0], (0, 1)).min() > 1e-2  # every class's output depends on the input


@pytest.mark.parametrize('name, kind', EVERY)
def test_input_gradient_equals_finite_differences(name, kind):
    """Of the logits, and of every activation that a user may name; for a single example, in float64."""
    x, direction = np.random.default_rng(2).normal(size=(2, *SHAPES[kind])).astype(np.float32)
    model, params, apply = zoo(name, kind)
    expected = apply(params, np.broadcast_to(x, (2, 3, *x.shape)))[0][1, 2]
    with jax.enable_x64(True):
        x, direction, params = jax.tree.map(np.float64, (x, direction, params))

        def outputs(params, x):
            logits, named = model.apply(params, x)
            return {'logits': logits} | {n: jnp.stack([unit_activation(named, f'{n}:{u}') for u in range(4)]) for n in named}

        @jax.jit
        def reverse(params, x):
            values, pull = jax.vjp(functools.partial(outputs, params), x)
            return values, pull(jax.tree.map(jnp.ones_like, values))[0]

        eps = 1e-6
        values, gradient = reverse(params, x)
        (ahead, _), (behind, _) = reverse(params, x + eps * direction), reverse(params, x - eps * direction)
        slopes = jax.tree.map(lambda a, b: (a - b) / (2 * eps), ahead, behind)
        assert values['logits'].dtype == np.float64
        np.testing.assert_allclose(values['logits'], expected, rtol=1e-4, atol=1e-5)
        total = sum(slope.sum() for slope in slopes.values())
        assert np.sum(gradient * direction) == pytest.approx(float(total), rel=1e-5, abs=1e-7)
        for output, slope in slopes.items():
            assert np.abs(slope).max() > 1e-4, output  # can be excited


@pytest.mark.parametrize('name, kind', EVERY)
def test_dropout_needs_a_key(name, kind):
    model, params, apply = zoo(name, kind)
    x = inputs(kind, 2, 3)
    first, again, other = (apply(params, x, jax.random.key(k))[0] for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3 and np.abs(first - apply(params, x)[0]).max() > 1e-3


def test_jit_equals_eager(name='mlp'):
    model, params, apply = zoo(name, 'features')
    x = inputs('features', 2, 3)
    assert_close(apply(params, x), model.apply(params, x))


# Layers.

STEPS = ((1, 1), (3, 1), (4, 1), (4, 2), (3, 2), (6, 3), (5, 4), (2, 3))
LINES = [((size,), (kernel,), (stride,)) for size in (5, 8) for kernel, stride in STEPS]
PLANES = [((5, 8), (3, 3), (2, 2)), ((7, 6), (4, 4), (2, 2)), ((6, 5), (2, 4), (1, 2)), ((4, 9), (4, 6), (2, 3)), ((8, 8), (4, 3), (1, 1))]


def test_convolution_as_patches_equals_native():
    cases = LINES + PLANES
    rng = np.random.default_rng(0)
    given = [(rng.normal(size=(2, *size, 3)), rng.normal(size=(*kernel, 3, 2))) for size, kernel, _ in cases]

    @jax.jit
    def both(given):
        return [[layers.Conv(2, kernel, stride, native=native).apply({'params': {'kernel': weights, 'bias': jnp.arange(2.0)}}, x)
                 for native in (False, True)] for (_, kernel, stride), (x, weights) in zip(cases, given, strict=True)]

    for (size, kernel, stride), (ours, native) in zip(cases, both(given), strict=True):
        assert ours.shape == (2, *(-(-n // s) for n, s in zip(size, stride, strict=True)), 2)
        np.testing.assert_allclose(ours, native, rtol=1e-4, atol=1e-4, err_msg=f'{size} {kernel} {stride}')


@pytest.mark.parametrize('taps', layers.WINOGRAD_TAPS)
def test_convolution_by_toom_cook_equals_patches(taps):
    """On images of every size that leaves a tile full, cut or alone; with its derivatives, and with a kernel for each image."""
    rng = np.random.default_rng(taps)
    for size in (1, 2, 5, 7, 9, 14):
        x, g = rng.normal(size=(2, size, size + 1, 16)).astype(np.float32), rng.normal(size=(2, size, size + 1, 5)).astype(np.float32)
        kernel = (rng.normal(size=(taps, taps, 16, 5)) / 4 / taps).astype(np.float32)

        def plain(x, kernel):
            return layers.patches(x, kernel.shape[:2], (1, 1)) @ kernel.reshape(-1, kernel.shape[-1])

        @jax.jit
        def all_of(x, kernel, g):
            out = []
            for convolve in (layers.winograd, plain):
                y, pull = jax.vjp(convolve, x, kernel)
                out.append((y, *pull(g), jax.vmap(convolve)(x, jnp.stack([kernel, -kernel]))))
            return out

        for ours, expected in zip(*all_of(x, kernel, g), strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4, err_msg=f'{size}')


def test_toom_cook_convolves_exactly_but_for_rounding():
    for size, taps in ((6, 3), (7, 4), (28, 4)):
        forward, kernel_map, inverse = (array.astype(float) for array in layers.toom_cook(size, taps))
        rng = np.random.default_rng(size)
        x, kernel = rng.normal(size=size), rng.normal(size=taps)
        tiles = len(forward) // len(kernel_map)
        ours = inverse @ (np.repeat(kernel_map @ kernel, tiles) * (forward @ x))
        before, after = layers.same_padding(size, taps, 1)
        np.testing.assert_allclose(ours, np.correlate(np.pad(x, (before, after)), kernel), atol=1e-4)
        assert len(forward) < 0.75 * size * taps


def test_large_dense_layers_and_flattening_equal_plain_ones(monkeypatch):
    monkeypatch.setattr(layers, 'LARGE_KERNEL', 1)
    rng = np.random.default_rng(0)
    x, kernel, bias = (rng.normal(size=size).astype(np.float32) for size in ((3, 4, 5), (20, 7), (7,)))

    def ours(x):
        return layers.Dense(7).apply({'params': {'kernel': kernel, 'bias': bias}}, layers.flatten(x))

    def plain(x):
        return x.reshape(*x.shape[:-2], -1) @ kernel + bias

    for f, expected in ((ours, plain), (jax.vmap(ours), jax.vmap(plain))):
        assert_close(*(jax.value_and_grad(lambda x, g=g: (g(x) ** 2).sum())(x) for g in (f, expected)))


def test_group_norm_equals_flax():
    rng = np.random.default_rng(0)
    cases = [(16, 1), (24, 2), (8, 2), (12, 1), (3, 1)]  # channels and spatial axes
    given = [(rng.normal(3, 2, (2, *(5, 4)[:space], channels)).astype(np.float32), rng.normal(size=(2, channels)))
             for channels, space in cases]

    @jax.jit
    def both(given):
        out = []
        for (channels, space), (x, (scale, bias)) in zip(cases, given, strict=True):
            params = {'params': {'scale': scale, 'bias': bias}}
            flax = nn.GroupNorm(channels // 8 if channels % 8 == 0 else 1, epsilon=1e-5, use_fast_variance=False)
            out.append([(module.apply(params, x), jax.grad(lambda p, x, m=module: (m.apply(p, x) ** 3).sum(), (0, 1))(params, x))
                        for module in (layers.GroupNorm(space), flax)])
        return out

    slopes = both(given)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), *zip(*slopes, strict=True))
    normed = [[value for value, _ in pair] for pair in slopes]
    assert_close(*zip(*normed, strict=True))
    for x, _ in given:
        x[1] = 1e3  # a neighbour changes nothing
    for (ours, _), ((again, _), _) in zip(normed, both(given), strict=True):
        np.testing.assert_array_equal(ours[0], again[0])


@pytest.mark.parametrize('size', [(6,), (7,), (5, 4), (3, 7)])
def test_max_pool_equals_flax(size):
    x = np.random.default_rng(0).normal(-5, 1, (2, *size, 3)).astype(np.float32)
    window = (2,) * len(size)
    np.testing.assert_array_equal(layers.max_pool(x, len(size)), nn.max_pool(x, window, window, 'SAME'))


def test_dropout_keeps_the_mean_and_masks_each_example():
    class Drop(nn.Module):
        @nn.compact
        def __call__(self, x):
            return layers.dropout(self, x, 0.25)

    x = jnp.ones((50, 400))
    np.testing.assert_array_equal(Drop().apply({}, x), x)
    dropped = np.asarray(Drop().apply({}, x, rngs={'dropout': jax.random.key(0)}))
    np.testing.assert_allclose(np.unique(dropped), [0, 1 / 0.75])
    assert abs((dropped == 0).mean() - 0.25) < 0.015 and abs(dropped.mean() - 1) < 0.02
    assert len(np.unique(dropped, axis=0)) == 50


def test_stem_bounds_the_steps_and_sees_everything():
    for length in (60, 64, 65, 1000):
        stem = layers.Stem(4, 1)
        params = jax.eval_shape(stem.init, jax.random.key(0), jnp.zeros((length, 2)))['params']
        params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), params)
        x = jnp.zeros((length, 2))
        out, seen = jax.jit(lambda x, stem=stem, params=params: (
            stem.apply({'params': params}, x), jax.grad(lambda x: stem.apply({'params': params}, x).sum())(x)))(x)
        assert out.shape[0] <= 64 and out.shape[0] > 32
        assert (seen > 0).all()
        assert length > 64 or out.shape[0] == length  # short windows pass at full resolution


def test_recurrent_cells_equal_flax():
    """The GRU's reset gate comes after the recurrent product (as cuDNN and flax have it); the LSTM's forget gate starts open."""
    rng = np.random.default_rng(0)
    features, width = 3, 5

    def random_parts(names):
        return {name: {'kernel': rng.normal(size=(features if name[0] == 'i' else width, width)), 'bias': rng.normal(size=width)}
                for name in names}

    def project(parts, order, x):
        return np.concatenate([x @ parts[name]['kernel'] + parts[name].get('bias', 0) for name in order], -1)

    x, hidden, memory = rng.normal(size=(2, features)), rng.normal(size=(2, width)), rng.normal(size=(2, width))
    parts = random_parts(['ir', 'iz', 'in', 'hr', 'hz', 'hn'])
    del parts['hr']['bias'], parts['hz']['bias']
    expected, _ = nn.GRUCell(width).apply({'params': parts}, hidden, x)
    projected, recurrent = project(parts, ['ir', 'iz', 'in'], x), project(parts, ['hr', 'hz', 'hn'], hidden)
    (ours,) = gru.cell(jnp.asarray(projected), jnp.asarray(recurrent), (hidden,))
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)

    parts = random_parts(['ii', 'if', 'ig', 'io', 'hi', 'hf', 'hg', 'ho'])
    for name in ('ii', 'if', 'ig', 'io'):
        del parts[name]['bias']
    order = ['i', 'f', 'o', 'g']
    projected, recurrent = project(parts, ['i' + n for n in order], x), project(parts, ['h' + n for n in order], hidden)
    (ours, ours_memory) = lstm.cell(jnp.asarray(projected), jnp.asarray(recurrent), (hidden, memory))
    parts['hf']['bias'] = parts['hf']['bias'] + 1
    (expected_memory, expected), _ = nn.LSTMCell(width).apply({'params': parts}, (memory, hidden), x)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours_memory, expected_memory, rtol=1e-5, atol=1e-6)


# The published networks.

def conv_sizes(*layers_):
    return [(k * k * i * o, o) for k, i, o in layers_]


def sizes(params):
    return sorted(leaf.size for leaf in jax.tree.leaves(params))


def test_published_classifier_layer_by_layer():
    model = models.create('published', (28, 28, 1), 10)
    params = jax.eval_shape(model.init, jax.random.key(0))
    dense = [(7 * 7 * 128 * 1024, 1024), (1024 * 128, 128), (128 * 10, 10)]  # pooled twice, 28 -> 14 -> 7
    assert sizes(params) == sorted(np.ravel(conv_sizes((4, 1, 32), (4, 32, 64), (4, 64, 128), (4, 128, 128)) + dense))
    logits, activations = jax.eval_shape(model.apply, params, jnp.zeros((2, 28, 28, 1)))
    assert logits.shape == (2, 10)
    assert [a.shape[1:] for a in activations.values()] == [(28, 28, 32), (14, 14, 64), (7, 7, 128), (7, 7, 128), (1024,), (128,)]


def test_published_generator_layer_by_layer():
    network = published.Generator((28, 28, 1))
    z = jnp.zeros(512)
    params = jax.eval_shape(network.init, jax.random.key(0), z)
    transposed = conv_sizes((2, 80, 128), (4, 128, 64), (4, 64, 32), (4, 32, 32), (4, 32, 32), (4, 32, 1))
    assert sizes(params) == sorted(np.ravel([(512 * 512, 512), (512 * 3920, 3920)] + transposed))
    assert jax.eval_shape(network.apply, params, z).shape == (28, 28, 1)
    with pytest.raises(UserError, match='divide by 4'):
        jax.eval_shape(published.Generator((28, 30, 1)).init, jax.random.key(0), z)


@pytest.mark.parametrize('kernel, stride', [(2, 2), (4, 2), (4, 1)])
def test_transposed_convolution_equals_zero_insertion(kernel, stride):
    """A dilated input and one k x k kernel, each of whose taps is one of the layer's weights."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 5, 2)).astype(np.float32)
    layer = published.TransposedConv(3, kernel, stride)
    blank = jax.eval_shape(layer.init, jax.random.key(0), x)['params']
    assert blank['kernel'].size == kernel ** 2 * 2 * 3
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), blank)
    out = layer.apply({'params': params}, x)
    assert out.shape == (3 * stride, 5 * stride, 3)
    taps = kernel // stride
    weights = np.asarray(params['kernel']).reshape(taps, taps, 2, stride, stride, 3)
    # Output stride * p + r sees input p + t - before; the zero-filled input meets tap (stride - 1 - r) + stride * t.
    whole = np.moveaxis(weights[:, :, :, ::-1, ::-1], (0, 3, 1, 4), (0, 1, 2, 3)).reshape(kernel, kernel, 2, 3)
    before = stride * ((taps - 1) // 2) + stride - 1
    after = kernel + stride - 2 - before
    reference = jax.lax.conv_general_dilated(
        x[None], whole, (1, 1), [(before, after)] * 2, lhs_dilation=(stride, stride), dimension_numbers=('NHWC', 'HWIO', 'NHWC'))[0]
    np.testing.assert_allclose(out, reference + params['bias'], rtol=1e-4, atol=1e-5)


# Committees and errors.

def test_committee_believes_the_members_mean():
    (mlp, mlp_params, _), (cnn, cnn_params, _) = zoo('mlp', 'features'), zoo('cnn', 'features')
    members, params = (mlp, cnn, mlp), (mlp_params, cnn_params, jax.tree.map(lambda p: -p, mlp_params))
    x = inputs('features', 2, 3)
    together = models.committee(members)
    logits, named = jax.jit(together.apply)(params, x)
    each = [zoo(m.name, 'features')[2](p, x) for m, p in zip(members, params, strict=True)]
    np.testing.assert_allclose(jax.nn.softmax(logits), np.mean([jax.nn.softmax(own) for own, _ in each], 0), atol=1e-6)
    np.testing.assert_allclose(np.exp(logits).sum(-1), 1, atol=1e-5)
    assert set(named) == {f'{i}/{n}' for i, (_, own) in enumerate(each) for n in own}
    np.testing.assert_allclose(named['2/dense0'], each[2][1]['dense0'], rtol=1e-4, atol=1e-6)
    assert not np.allclose(named['0/dense0'], named['2/dense0'])
    blank = jax.eval_shape(together.init, jax.random.key(0))
    assert jax.tree.map(jnp.shape, blank) == jax.tree.map(np.shape, params)


def test_a_committees_members_may_count_unevenly():
    model, params, apply = zoo('mlp', 'features')
    both, x = (params, jax.tree.map(lambda p: -p, params)), inputs('features', 2, 3)
    each = [jax.nn.softmax(apply(p, x)[0]) for p in both]
    for weights in ((3.0, 1.0), (1.0, 0.0)):
        logits, _ = jax.jit(models.committee((model, model), weights).apply)(both, x)
        np.testing.assert_allclose(jax.nn.softmax(logits), np.average(each, 0, weights), atol=1e-6)


def test_fresh_members_differ_and_are_unsure(name='mlp'):
    one = models.create(name, (6,), CLASSES)
    together = models.committee((one, one))
    first, second = jax.jit(together.init)(jax.random.key(0))
    x = inputs('features', 8)[:, :6]
    beliefs = [jax.nn.softmax(one.apply(params, x)[0]) for params in (first, second)]
    assert np.abs(beliefs[0] - beliefs[1]).max() > 0.01
    assert 0.01 < np.min(beliefs) and np.max(beliefs) < 0.99
    blank = jax.eval_shape(one.init, jax.random.key(0))
    assert jax.tree.map(jnp.shape, blank) == jax.tree.map(jnp.shape, first)


@pytest.mark.parametrize('build, message', [
    (lambda: models.create('cnm', (8, 1), 2), "unknown model 'cnm'.*cnn"),
    *[(lambda name=name: models.create(name, (8, 8, 1), 2, widht=3), f"'{name}'.*widht") for name in models.NAMES],
    (lambda: jax.eval_shape(models.create('published', (30, 2), 2).init, jax.random.key(0)), "'published' takes images"),
])
def test_what_the_user_can_fix(build, message):
    with pytest.raises(UserError, match=message):
        build()


def test_binned_says_how_much_of_each_bin_lies_below_a_number():
    """All of the bins below, none of those above, half of the one it is in the middle of."""
    network = models.create('binned', (3,), 2)
    x = np.float32([-9, 0, 9])
    encoding = np.asarray(network.apply(network.init(jax.random.key(0)), x)[1]['encoding']).reshape(3, -1) + 0.5
    bins = encoding.shape[1]
    np.testing.assert_allclose(encoding[::2], [np.zeros(bins), np.ones(bins)], atol=1e-4)
    np.testing.assert_allclose(encoding[1], encoding[1, ::-1] * -1 + 1, atol=1e-6)
    assert encoding[1, :bins // 2 - 1].min() > 0.99 and encoding[1, bins // 2 + 1:].max() < 0.01
