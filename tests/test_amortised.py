"""One generator a batch: it learns to say what the teacher is to believe, and says different things."""

import dataclasses

import jax
import numpy as np
import pytest

from neurostim.errors import UserError
from neurostim.excitation import amortised, produce, targets
from neurostim.excitation.objective import Weights
from neurostim.identity import Identity

QUICK_COMPILE = True
SETTINGS = produce.Settings('amortised', count=512, batch=256, steps=150, learning_rate=5e-3)


def beliefs_asked_for(settings, count, seed=0):
    sample = targets.make_sampler('dirichlet', np.full(2, 0.5), concentration=settings.target.concentration)
    key = jax.random.fold_in(jax.random.key(seed), produce.EXCITED)

    def one(i):
        return sample(jax.random.split(jax.random.fold_in(jax.random.fold_in(key, i), 0))[1]).belief
    return np.asarray(jax.vmap(one)(np.arange(count)))


def test_the_teacher_comes_to_believe_what_was_asked(teacher):
    made, untrained = (produce.generate(teacher, dataclasses.replace(SETTINGS, steps=steps)) for steps in (150, 0))
    wanted = beliefs_asked_for(SETTINGS, 512)
    off, off_before = (np.abs(s.probabilities - wanted).mean() for s in (made, untrained))
    assert off < 0.6 * off_before
    x = teacher.scaling.forward(made.x).reshape(512, -1)
    real = teacher.population['gaussian/basis']
    assert 0.3 < x.std(0).mean() / np.sqrt((real**2).sum(1)).mean() < 2  # they differ, about as windows do


def test_a_batch_depends_on_its_first_stimulus_alone(teacher):
    short = dataclasses.replace(SETTINGS, steps=10)
    settings = produce.resolve(short, teacher)
    call = produce.make_call(teacher, settings, jax.devices()[:1])
    key = jax.random.key(0)
    second = call(key, [256], teacher.networks, teacher.population)
    whole = produce.generate(teacher, short)
    alone = call(jax.random.fold_in(key, produce.EXCITED), [256], teacher.networks, teacher.population)
    np.testing.assert_array_equal(teacher.scaling.inverse(np.asarray(alone.x)), whole.x[256:])
    assert not np.allclose(second.x, alone.x)


def test_spread_is_least_for_whitened_coordinates():
    rng = np.random.default_rng(0)
    white = rng.normal(size=(4000, 5))
    assert float(amortised.spread(white)) < 0.01
    assert float(amortised.spread(np.zeros((100, 5)))) == pytest.approx(1)
    assert float(amortised.spread(white + 2)) == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize('change', [{'accept': True}, {'candidates': 2}, {'weights': Weights(prior=1.0)}])
def test_what_makes_no_sense_is_refused(teacher, change):
    with pytest.raises(UserError, match='amortised'):
        produce.resolve(dataclasses.replace(SETTINGS, **change), teacher)


def test_identity_networks_can_be_inhibited(teacher):
    """Here a copy of the teacher plays them: two people, one a class."""
    params = teacher.params[:1]
    named = dataclasses.replace(teacher, identity=Identity(('mlp',), ('a', 'b'), params, np.full((2, 2), 0.5, np.float32)))
    settings = dataclasses.replace(SETTINGS, weights=Weights(excite=0.0, inhibit=5.0, inhibit_form='entropy'))
    sure, unsure = (produce.generate(named, dataclasses.replace(s, count=256)).probabilities.max(1).mean() for s in (SETTINGS, settings))
    assert unsure < sure - 0.05
