"""Trees in a committee: they say what scikit-learn's say, as many rounds of them as validation calls for."""

import dataclasses

import jax
import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import cohen_kappa_score

from neurostim import boosting, models, private, training
from neurostim import config as configs
from neurostim import teacher as teachers
from neurostim.committee import CommitteeOptions
from neurostim.errors import UserError
from neurostim.excitation import engine, produce
from neurostim.models import boosted

QUICK_COMPILE = True
OPTIONS = training.TrainingOptions(steps=10)


def windows(n, classes, seed=0):
    """Few digits, so that numbers meet thresholds, under classes that two of them say together."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5)).round(1).astype(np.float32)
    y = np.digitize(x[:, 0] * x[:, 1] + 0.7 * rng.normal(size=n), np.linspace(-0.5, 0.5, classes - 1))
    return x, y


def grow(x, y, classes, held=None, until=training.NEVER, options=OPTIONS):
    held = (x, y) if held is None else held
    return training.fit((boosted.NAME, x.shape[1:], classes, ()), options, jax.random.key(0), training.examples(x, y, classes),
                        training.examples(*held, classes), until)


def beliefs(params, x, classes):
    return training.cached_predictor((boosted.NAME, x.shape[1:], classes, ()))(params, x)


@pytest.mark.parametrize('classes, rounds', [(2, boosted.ROUNDS), (4, 7)])
def test_says_what_scikit_learn_says(classes, rounds):
    (x, y), (asked, _) = windows(600, classes), windows(900, classes, 1)
    theirs = HistGradientBoostingClassifier(max_iter=rounds, early_stopping=False, random_state=0, **boosting.OPTIONS).fit(x, y)
    params, _ = grow(x, y, classes, until=rounds)
    np.testing.assert_allclose(beliefs(params, asked, classes), theirs.predict_proba(asked), atol=1e-5)


def test_thresholds_of_few_digits_part_what_those_of_many_do():
    """A threshold between two neighbouring floats is no float: rounded up it would take the upper one to the left."""
    low = np.float32(1 / 3)
    x = np.repeat(np.float32([low, np.nextafter(low, np.float32(1))]), 100)[:, None]
    params, _ = grow(x, np.repeat([0, 1], 100), 2, until=50)
    np.testing.assert_array_equal(beliefs(params, x, 2).argmax(1), np.repeat([0, 1], 100))


def test_validation_decides_how_many_rounds_are_kept():
    x, y = windows(300, 3)
    held = windows(200, 3, 1)
    params, history = grow(x, y, 3, held)
    best = int(history.step[np.argmin(history.validation_loss)])
    assert 0 < best < boosted.ROUNDS
    said = np.abs(params['leaf']).sum(1).reshape(boosted.ROUNDS, 3).sum(1) > 0
    np.testing.assert_array_equal(said, np.arange(boosted.ROUNDS) < best)
    told, _ = grow(x, y, 3, held, until=best)
    jax.tree.map(np.testing.assert_array_equal, told['leaf'], params['leaf'])
    belief = beliefs(params, held[0], 3)
    assert np.min(history.validation_loss) == pytest.approx(-np.log(belief[np.arange(200), held[1]]).mean(), abs=1e-4)
    share = np.bincount(y, minlength=3) / len(y)
    assert np.min(history.validation_loss) < -np.log(share[held[1]]).mean()
    kappa = float(history.validation_kappa[np.argmin(history.validation_loss)])
    assert kappa == pytest.approx(cohen_kappa_score(held[1], belief.argmax(1)), abs=1e-5)


@pytest.mark.parametrize('there, classes', [((0, 2), 3), ((1,), 2), ((0,), 2), ((2,), 4), ((1, 2, 3), 4)])
def test_of_a_class_that_no_window_has_nothing_is_believed(there, classes):
    x, y = windows(200, len(there)) if len(there) > 1 else (windows(200, 2)[0], np.zeros(200, int))
    params, history = grow(x, np.array(there)[y], classes)
    belief = beliefs(params, x, classes)
    assert belief[:, np.setdiff1d(np.arange(classes), there)].max() < 1e-4 and np.isfinite(history.validation_loss).all()
    blank = jax.eval_shape(models.create(boosted.NAME, (5,), classes).init, jax.random.key(0))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params) == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), blank)


def test_balance_makes_a_rare_class_count():
    x, y = windows(2000, 2)
    rare = np.flatnonzero((y == 0) | (np.arange(2000) % 20 == 0))
    x, y = x[rare], y[rare]
    plain, even = (beliefs(grow(x, y, 2, until=20, options=dataclasses.replace(OPTIONS, balance=b))[0], x, 2)[:, 1].mean() for b in (0, 1))
    assert plain == pytest.approx(y.mean(), abs=0.02) and even > 3 * plain


@pytest.mark.parametrize('shape', [(6,), (40, 2), (600, 2), (5, 5, 3)])
def test_any_window_and_any_leading_axes(shape):
    model = models.create(boosted.NAME, shape, 3)
    x = np.random.default_rng(0).normal(size=(40, *shape)).astype(np.float32)
    y = np.arange(40) % 3
    params, _ = grow(x, y, 3, until=5)
    logits, named = jax.jit(model.apply)(params, x.reshape(2, 20, *shape))
    assert logits.shape == (2, 20, 3) and named['leaves'].shape[:2] == (2, 20)
    each = jax.jit(jax.vmap(lambda one: model.apply(params, one)[0]))(x)
    np.testing.assert_allclose(logits.reshape(40, 3), each, atol=1e-6)


def test_others_show_the_way_in_a_committee():
    x, y = windows(300, 3)
    params, _ = grow(x, y, 3, until=20)
    trees, network = models.create(boosted.NAME, (5,), 3), models.create('mlp', (5,), 3, width=8)
    both = models.committee((network, trees))
    weights = network.init(jax.random.key(0))
    belief = lambda model, own: jax.jit(jax.grad(lambda one: jax.nn.log_softmax(model.apply(own, one)[0])[1]))  # noqa: E731
    assert not np.any(belief(trees, params)(x[0]))
    assert np.abs(belief(both, (weights, params))(x[0])).min() > 0
    narrow, wide = jax.jit(engine.in_dtype(both.apply, 'bfloat16')), jax.jit(both.apply)
    close = jax.nn.softmax(narrow((weights, params), x + 0.025)[0]) - jax.nn.softmax(wide((weights, params), x + 0.025)[0])
    assert np.abs(close).max() < 0.05  # which tree asks for which number is not rounded


def test_a_teacher_with_trees_is_trained_excited_and_kept(study, tmp_path):
    names, short = ('linear', boosted.NAME), dataclasses.replace(OPTIONS, steps=40)
    teacher = teachers.train_teacher(study, names, 0, short, committee=CommitteeOptions(weigh=True))
    assert teacher.names == names and len(teacher.weights) == 2
    teachers.save(teacher, tmp_path / 'teacher')
    again = teachers.load(tmp_path / 'teacher')
    assert again.digest() == teacher.digest()
    made = produce.generate(teacher, produce.resolve(produce.Settings(count=8, steps=1, method='mixture'), teacher), 0)
    np.testing.assert_allclose(made.probabilities, again.probabilities(made.x), atol=1e-4)
    x = study.part(test=True).x
    own = [np.asarray(jax.nn.softmax(models.create(name, study.shape, len(study.classes)).apply(params, teacher.scaling.forward(x))[0]))
           for name, params in zip(names, teacher.params, strict=True)]
    np.testing.assert_allclose(teacher.probabilities(x), np.average(own, 0, teacher.weights), atol=1e-5)
    taught = teachers.learn_from_draws(teacher, study, 'mixture', 0, short)
    assert taught.names == names and not np.array_equal(taught.params[1]['leaf'], teacher.params[1]['leaf'])


def test_trees_are_teachers_alone(study):
    config = configs.default_config()
    config.teacher.models = ('cnn', boosted.NAME)
    configs.check(config)
    for field in ('novices', 'identity.models'):
        wrong = configs.default_config()
        wrong.update_from_flattened_dict({f'teacher.{field}': (boosted.NAME,)})
        with pytest.raises(UserError, match=f'{field}.*boosted'):
            configs.check(wrong)
    with pytest.raises(UserError, match='boosted.*differential privacy|differential privacy.*boosted'):
        private.check(study, (boosted.NAME,), private.PrivacyOptions())
