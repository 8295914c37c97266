"""Slants: images are put upright and slanted again; draws lean and are empty as the images are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurostim.errors import UserError
from neurostim.excitation import marginals, parameterisation, slant, targets
from neurostim.excitation.population import fit_population

QUICK_COMPILE = True
SIDE = 16
EMPTY = np.array([-0.5], np.float32)


def strokes(n=600, seed=0, spread=0.3):
    """Upright strokes [n, SIDE, SIDE, 1] of one of two lengths on an empty background, leant; their slants and classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = np.full((n, SIDE, SIDE, 1), EMPTY[0], np.float32)
    for image, c in zip(x, y, strict=True):
        image[2 + 2 * c:SIDE - 2 - 2 * c, 7:9] = rng.uniform(0.5, 1.5)
    leaning = np.clip(rng.normal(0.1, spread, n), -0.6, 0.6).astype(np.float32)
    return np.asarray(jax.vmap(slant.lean, (0, 0, None))(x, leaning, EMPTY)), leaning, y


@pytest.mark.parametrize('shape', [(7, 7, 1), (8, 5, 2), (3, 12, 1), (1, 4, 1)])
@pytest.mark.parametrize('by', [0.0, 0.37, -0.81, 1.0, -1.0, 5.0])
def test_each_row_is_interpolated_between_columns(shape, by):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    background = np.arange(shape[2], dtype=np.float32) + 3
    found = slant.lean(image, jnp.float32(by), background)
    columns = np.arange(-1, shape[1] + 1)
    for r in range(shape[0]):
        moved = np.clip(by, -slant.MOST, slant.MOST) * (r - (shape[0] - 1) / 2)
        for c in range(shape[2]):
            row = np.concatenate([background[[c]], image[r, :, c], background[[c]]])  # background beyond the edges
            np.testing.assert_allclose(found[r, :, c], np.interp(np.arange(shape[1]) - moved, columns, row), atol=1e-5)


def test_derivatives_are_those_of_finite_differences():
    image = jnp.asarray(np.random.default_rng(1).normal(size=(9, 8, 1)), jnp.float32)
    weights = jnp.asarray(np.random.default_rng(2).normal(size=image.shape), jnp.float32)
    value = jax.jit(lambda image, by: (weights * slant.lean(image, by, EMPTY)).sum())
    by, h = jnp.float32(0.337), 1e-3  # no row lies on a column
    of_image, of_slant = jax.grad(value, (0, 1))(image, by)
    np.testing.assert_allclose(of_slant, (value(image, by + h) - value(image, by - h)) / (2 * h), rtol=2e-3)
    for at in ((0, 0, 0), (4, 3, 0), (8, 7, 0), (2, 5, 0)):
        step = jnp.zeros_like(image).at[at].set(0.5)
        np.testing.assert_allclose(of_image[at], value(image + step, by) - value(image - step, by), atol=1e-4)


def test_slants_are_found_and_taken_away():
    x, leaning, _ = strokes()
    found = slant.slants(x, EMPTY)
    assert np.abs(found - leaning).max() < 0.03  # short strokes' ends are cut off by columns
    again = slant.slants(slant.upright(x, found, EMPTY), EMPTY)
    assert np.abs(again).max() < 0.03
    assert slant.upright(x, found, EMPTY).var(0).sum() < 0.6 * x.var(0).sum()


def test_what_has_no_slant_gets_none():
    empty = np.full((3, 6, 6, 1), EMPTY[0], np.float32)
    lying = empty.copy()
    lying[:, 3, 1:5] = 1  # no row further down to lean to
    dot = empty.copy()
    dot[:, 5, 5] = 1
    for images in (empty, lying, dot):
        np.testing.assert_allclose(slant.slants(images, EMPTY), 0, atol=1e-3)


def test_a_background_is_what_most_pixels_are():
    rng = np.random.default_rng(0)
    picture = rng.normal(size=(40, 8, 8, 3)).astype(np.float32)
    assert slant.background(picture) is None  # a photograph has none
    picture[:, :, :4] = (0.25, -1, 2)
    np.testing.assert_array_equal(slant.background(picture), np.float32([0.25, -1, 2]))
    assert slant.emptiness(picture, slant.background(picture)) == 0.5
    picture[..., 2] = rng.normal(size=picture.shape[:3])  # in two channels of three
    assert slant.background(picture) is None


def draws(population, method, count=4000):
    p = parameterisation.make(method, (SIDE, SIDE, 1), population)

    def one(key):
        label_key, key = jax.random.split(key)
        label = jax.random.bernoulli(label_key).astype(jnp.int32)
        return p.decode(population, *p.start(population, key, targets.Target(jax.nn.one_hot(label, 2), label, 2.0)))

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(3), count)))


def test_draws_lean_and_are_empty_as_the_images_are():
    x, leaning, y = strokes()
    population = fit_population(x, 'images', y, 2)
    population = jax.tree.map(jnp.asarray, population | marginals.fit(population, x.shape[1:], x, y))
    made = draws(population, 'slanted')
    assert abs(slant.emptiness(made, EMPTY) - slant.emptiness(x, EMPTY)) < 0.02
    found = slant.slants(made, EMPTY)
    levels = [0.1, 0.3, 0.5, 0.7, 0.9]
    np.testing.assert_allclose(np.quantile(found, levels), np.quantile(leaning, levels), atol=0.08)

    # They are one stroke each, where draws of one mixture hold the ghosts of others that lean otherwise.
    def beside(images):
        straight = slant.distance(slant.upright(images, slant.slants(images, EMPTY), EMPTY), EMPTY)
        return straight[:, :, [*range(5), *range(11, SIDE)]].sum() / straight.sum()

    assert beside(made) < 0.5 * beside(draws(population, 'mixture'))


def test_pixels_near_the_background_are_background():
    image = jnp.asarray([[[-0.4], [0.0]], [[-0.7], [2.0]]])
    np.testing.assert_allclose(slant.clear(image, EMPTY, 0.3), [[[-0.5], [0.0]], [[-0.5], [2.0]]])


@pytest.mark.parametrize(('shape', 'kind'), [((6,), 'features'), ((20, 2), 'windows'), ((8, 8, 1), 'images')])
def test_what_is_no_image_on_a_background_is_refused(shape, kind):
    x = np.random.default_rng(0).normal(size=(60, *shape)).astype(np.float32)
    population = fit_population(x, kind, np.arange(60) % 2, 2)
    with pytest.raises(UserError, match='empty background'):
        parameterisation.make('slanted', shape, population)
