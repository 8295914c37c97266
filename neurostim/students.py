"""Students: zoo networks and scikit-learn's algorithms behind one ``fit`` and one ``predict``.

A student sees scaled windows and, for each, a distribution over the classes: a one-hot row for a true label, a teacher's softmax for a
stimulus. Where an algorithm cannot take distributions, :func:`as_labels` makes labels with weights of them.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from neurostim import models, training
from neurostim.columns import columns
from neurostim.errors import choose
from neurostim.sources import Source

STEPS = 1600  # most steps of a network: with half as many some had not learnt all that there was (BUILD_NOTES)
BATCH = 128  # windows a step
LONGER_NUMBERS = 2**14  # in a window that is learnt for longer where steps run out, at most
SHIFTED_STEPS = {'mlp': 3}  # times as many on shifted windows: it learns every place in time by itself, in steps that cost little
# Raised whenever the same data come to make another student, so that predictions of earlier ones are not taken for its own: of all
# students, and of some.
RECIPE, RECIPES = 5, {'logistic_regression': 7, 'svm': 5, 'naive_bayes': 5, 'mlp': 6, 'gradient_boosting': 4, 'knn': 4,
                      'random_forest': 4}
FIRST_KEY = 3000  # students' keys are no teacher's: with one's initial weights a student would not be a stranger to it
LEAST_SHARE = 0.02  # classes below this share of a window's belief are left out of weighted copies
KERNEL_ROWS = 6000  # most windows a kernel machine is given: its time grows with their square
TREE_ROWS = 10_000  # most windows that one tree of a forest sees
LIKELIEST = ('random_forest', 'gradient_boosting', 'naive_bayes', 'svm')  # learn a window's likeliest class; others each class, weighted
TUNED = {  # parameter and values of algorithms whose best setting differs most from one set of windows to another (BUILD_NOTES)
    'knn': ('n_neighbors', (3, 5, 9, 15, 31)),
    'logistic_regression': ('logisticregression__C', (1.0, 0.1, 0.01, 0.001))}
HELD_BACK = {'logistic_regression': (1.0, 0.1, 0.01, 0.003, 0.001, 0.0003, 0.0001)}  # values where held rows are a random part of all
# How else sifted stimuli may count where that serves a student better than if all count alike: by powers of the weights by which they are
# as frequent as they were made, for models that bend nowhere, to which that matters. The higher ones make the surprising count for less
# still: a class's Gaussian describes ordinary windows best without them.
POWERS = {'logistic_regression': (1,), 'naive_bayes': (1, 2, 3)}
# Or those alone that came as they were made, for one that is given few rows, of which hard ones may leave it too few others; by how many
# standard errors that must serve it better.
LEAVE_OUT = {'svm': 2}
# With what an algorithm learns anew that has broken down: where a class is rare a leaf's curvature p (1 - p) all but vanishes, its gradient
# does not, and a step that nothing bounds throws boosting off for good (dmlc/xgboost pull request 12537).
STEADY = {'gradient_boosting': {'histgradientboostingclassifier__l2_regularization': 1.0}}
SLIP = 0.01  # of log likelihood by which it may become worse meanwhile; what does not break down never does (BUILD_NOTES)
LEAST_LIKELY = 1e-6  # to which an algorithm's belief is raised: some say never
TUNED_BY = 2000  # most held windows that values are compared by: to ask neighbours takes long


@dataclasses.dataclass(frozen=True)
class Student:
    """A trained student.

    Attributes:
      name: one of `NAMES`.
      predict: scaled windows [n, *shape] -> probabilities [n, classes].
    """

    name: str
    predict: Callable[[np.ndarray], np.ndarray]


class Advice(NamedTuple):
    """How an algorithm is to learn from stimuli, as somebody found on real windows (:mod:`neurostim.evaluation.advice`).

    Attributes:
      parameters: {parameter of its `TUNED`: value}.
      likeliest: whether a stimulus has its likeliest class alone as a label, in place of its whole belief.
      power: of the weights by which sifted stimuli are as frequent as they were made; by 0 all count alike.
      class_weights: [classes], how much belief in each class makes a stimulus count; none where all count alike.
    """

    parameters: dict[str, Any]
    likeliest: bool = False
    power: int = 0
    class_weights: tuple[float, ...] = ()


def fit(name: str, source: Source, seed: int, options: training.TrainingOptions | None = None,
        capacity: tuple[int, int] | None = None, advice: Advice | None = None) -> Student:
    """Trains one student.

    Args:
      name: one of `NAMES`.
      source: scaled windows and distributions. By held ones a network stops early and an algorithm of `TUNED` is tuned; classical
        algorithms train on all in the end, and networks where these are few (:func:`learns_from_all`). To an algorithm of `POWERS` or
        `LEAVE_OUT` stimuli that were sifted may count otherwise, and those held ones tune that came as they were made.
      seed: of initial weights, minibatches, trees.
      options: of a network's training; of shifted windows some take more steps (`SHIFTED_STEPS`).
      capacity: rows to which a network's training and validation data are padded, so that several sources share one compilation.
      advice: how an algorithm of `TUNED` learns, in place of tuning by held rows.
    """
    choose(name, NAMES, 'student')
    if name in models.NAMES:
        return _fit_network(name, source, seed, options or training_options(0.0), capacity or (None, None))
    predict = fit_columns(name, source._replace(x=columns(source.x)), seed, advice)
    return Student(name, lambda windows: predict(columns(windows)))


def training_options(teacher_shift: float, steps: int = STEPS, longer: int = 1, batch: int = BATCH,
                     optimiser: str = 'adamw') -> training.TrainingOptions:
    """How networks are trained, twins and students of stimuli alike: on windows that are shifted as the teacher's were, if it was found
    that these may begin anywhere. Of long windows there are few to learn from, and some networks learn nothing of them as they begin.

    Args:
      teacher_shift: of the teacher's training (:class:`neurostim.training.TrainingOptions`).
      steps: at most, of windows as they begin; see `SHIFTED_STEPS`.
      longer: how many times as many, where these ran out (:class:`neurostim.training.TrainingOptions`).
      batch: windows a step.
      optimiser: of :data:`neurostim.optimisers.NAMES`.
    """
    return training.TrainingOptions(steps=steps, batch=batch, shift=teacher_shift, longer=longer, optimiser=optimiser)


def told_of_training(options: training.TrainingOptions) -> tuple:
    """What digests are told of how networks are trained beside their steps: nothing of what is not done, so that what was kept before it
    could be is found."""
    longer = [('longer', options.longer, LONGER_NUMBERS, training.LITTLE)] * (options.longer > 1)
    batch = [('batch', options.batch)] * (options.batch != BATCH)
    optimiser = [('optimiser', options.optimiser, training.FEWER)] * (options.optimiser != 'adamw')
    return (*[options.shift] * bool(options.shift), *longer, *batch, *optimiser)


def learns_from_all(source: Source) -> bool:
    """Whether networks learn from held rows too in the end, for as many epochs as served them best without: where windows are few, as
    teachers do. Of stimuli there are as many as one likes."""
    return source.apart and training.are_few(source.x)


def is_deterministic(name: str) -> bool:
    """Whether all seeds give the same student, so that one is enough."""
    return name in ('knn', 'naive_bayes', 'logistic_regression', 'gradient_boosting')


def _fit_network(name, source, seed, options, capacity):
    classes = source.targets.shape[1]
    spec = (name, source.x.shape[1:], classes, ())
    if options.shift:
        options = dataclasses.replace(options, steps=options.steps * SHIFTED_STEPS.get(name, 1))
    key = jax.random.fold_in(jax.random.key(seed), FIRST_KEY + NAMES.index(name))
    options, again = training.affordable(options, source.x, LONGER_NUMBERS), learns_from_all(source)
    if again and (capacity[0] or 0) < len(source.x):  # room for all, so that both times share a compilation
        capacity = training.rounded(len(source.x)), capacity[1]
    data, validation = (training.examples(source.x[mask], source.targets[mask], classes, rows)
                        for mask, rows in zip((~source.held, source.held), capacity, strict=True))
    params, history = training.fit(spec, options, key, data, validation)
    if again:
        whole = training.examples(source.x, source.targets, classes, capacity[0])
        params, _ = training.fit(spec, options, key, whole, validation, training.steps_anew(history, source.held))
    predict = training.cached_predictor(spec)
    return Student(name, lambda windows: predict(params, windows))


def as_labels(name: str, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What an algorithm that takes labels with weights is given for distributions targets [n, classes].

    Those of `LIKELIEST` get each window once, under its likeliest class, weighted by the belief in it: a window under two classes makes
    trees split where nothing differs, and a Gaussian of a class reach into others. The others get a window once for every class
    with at least `LEAST_SHARE` of its belief, weighted by it.

    Returns:
      (rows of the windows, labels, weights), each [m].
    """
    if name in LIKELIEST:
        return np.arange(len(targets)), targets.argmax(1), targets.max(1)
    rows, labels = np.nonzero(targets >= np.minimum(LEAST_SHARE, targets.max(1, keepdims=True)))
    return rows, labels, targets[rows, labels]


def _random_forest(seed):
    from sklearn.ensemble import RandomForestClassifier
    return RandomForestClassifier(100, min_samples_leaf=2, random_state=seed)


def _gradient_boosting(seed):
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline

    from neurostim.binning import QuantileBins
    return make_pipeline(
        QuantileBins(), HistGradientBoostingClassifier(max_iter=100, learning_rate=0.15, early_stopping=False, random_state=seed))


def _logistic_regression(seed):
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    del seed
    # That few iterations were allowed is meant. For good, since students train in threads, which share what is ignored.
    warnings.filterwarnings('ignore', category=ConvergenceWarning, module='sklearn.linear_model')
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=100, C=0.1))


def _naive_bayes(seed):
    from sklearn.naive_bayes import GaussianNB
    del seed
    return GaussianNB(var_smoothing=1e-3)


def _svm(seed):
    from sklearn.svm import SVC
    return SVC(C=2.0, random_state=seed)


def _knn(seed):
    from sklearn.neighbors import KNeighborsRegressor
    del seed
    return KNeighborsRegressor(15)


CLASSICAL = {'random_forest': _random_forest, 'knn': _knn, 'svm': _svm, 'logistic_regression': _logistic_regression,
             'gradient_boosting': _gradient_boosting, 'naive_bayes': _naive_bayes}
NAMES = (*models.NAMES, *CLASSICAL)


def fit_columns(name: str, source: Source, seed: int, advice: Advice | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """What :func:`fit` does for a classical algorithm, of windows that are columns already (:func:`neurostim.columns.columns`): rows [n, d]
    -> probabilities [n, classes]."""
    if not advice:
        weights, parameters = _tune(name, source, seed)
        return _train(name, source.x, source.targets, weights, seed, parameters)
    weights = np.ones(len(source.x), np.float32) if source.weights is None else source.weights**advice.power
    if advice.class_weights:
        weights = weights * (source.targets @ np.array(advice.class_weights, np.float32))
    targets = np.eye(source.targets.shape[1], dtype=np.float32)[source.targets.argmax(1)] if advice.likeliest else source.targets
    return _train(name, source.x, targets, weights, seed, advice.parameters)


def _tune(name, source, seed) -> tuple[np.ndarray, dict]:
    """(weights of all rows, {parameter: value}) that do best on held rows that came as they were made, none of which were learnt from: by
    the belief of these rows' own distributions in the answers, or of `HELD_BACK` by likelihood; (ones, {}) where there is nothing to
    choose, or nothing is held. Of values in `HELD_BACK` those after the first that is worse than one before by a standard error are not
    tried. Sifted rows count otherwise where that is better, or by as many standard errors as `LEAVE_OUT` says.

    Held rows that are drawn as all others are do not show what is true of these alone. So where they are not apart, of the values in
    `HELD_BACK` that one is taken that holds an algorithm back most among those whose likelihood is within one standard error of the best
    (Breiman et al. 1984, *Classification and Regression Trees*, 3.4.3), or the one halfway to the next if it is within it too.
    """
    flat, targets, held = source[:3]
    choices = [np.ones(len(flat), np.float32)]
    if source.weights is not None:
        choices += [source.weights**power for power in POWERS.get(name, ())]
        choices += [source.plain.astype(np.float32)] * (name in LEAVE_OUT)
    parameter, values = TUNED.get(name, ('', ()))
    holds_back = name in HELD_BACK and not source.apart
    settings = [{parameter: value} for value in (HELD_BACK[name] if holds_back else values)] or [{}]
    could_ask = np.flatnonzero(held & source.plain)
    if len(choices) == len(settings) == 1 or held.all() or not len(could_ask):
        return choices[0], {}
    asked = np.random.default_rng(seed).permutation(could_ask)[:TUNED_BY] if name in TUNED else could_ask
    judge = _log_likelihood if holds_back else _agreement

    def judged(weights, parameters):
        return judge(targets[asked], _train(name, flat, targets, weights * ~held, seed, parameters)(flat[asked]))

    def path(weights):
        """[settings, asked]: how each is judged; -inf where it is not tried."""
        rows = np.full((len(settings), len(asked)), -np.inf)
        for i, parameters in enumerate(settings):
            rows[i] = judged(weights, parameters)
            best = rows[rows[:i + 1].mean(1).argmax()]
            if holds_back and rows[i].mean() < best.mean() - best.std() / np.sqrt(len(asked)):
                break
        return rows

    found = np.stack([path(weights) for weights in choices])
    mean = found.mean(2)
    which, best = np.unravel_index(mean.argmax(), mean.shape)
    gain = found[which, best] - found[0, mean[0].argmax()]
    if gain.mean() <= LEAVE_OUT.get(name, 0) * gain.std() / np.sqrt(len(asked)):
        which, best = 0, mean[0].argmax()
    if not holds_back:
        return choices[which], settings[best]
    bound = mean[which, best] - found[which, best].std() / np.sqrt(len(asked))
    last = np.flatnonzero(mean[which] >= bound)[-1]
    if last + 1 < len(settings):
        between = {parameter: float(np.sqrt(settings[last][parameter] * settings[last + 1][parameter]))}
        if judged(choices[which], between).mean() >= bound:
            return choices[which], between
    return choices[which], settings[last]


def _agreement(targets, beliefs):
    """[n]: how far distributions targets [n, classes] believe in the likeliest class of beliefs."""
    return np.take_along_axis(targets, beliefs.argmax(1)[:, None], 1)[:, 0]


def _log_likelihood(targets, beliefs):
    """[n]: the expected log of the belief in a class that is drawn from targets [n, classes]."""
    return (targets * np.log(np.maximum(beliefs, LEAST_LIKELY))).sum(1)


def _train(name, flat, targets, counts, seed, parameters) -> Callable[[np.ndarray], np.ndarray]:
    """An algorithm trained on rows flat [n, d] that count so much [n], those of 0 not at all: rows -> probabilities [n, classes]. One of
    `STEADY` that has broken down learns anew."""
    classes = targets.shape[1]
    flat, targets, counts = (column[counts > 0] for column in (flat, targets, counts))
    model = CLASSICAL[name](seed).set_params(**parameters)
    if name == 'knn':  # the neighbours' mean distribution, soft labels as they are; neighbours count as rows do
        model.set_params(n_neighbors=min(model.n_neighbors, len(flat)))
        model.fit(flat, targets * counts[:, None])

        def mean(rows):
            counted = model.predict(rows).reshape(len(rows), classes)
            return counted / counted.sum(1, keepdims=True)
        return mean
    if name == 'svm' and len(flat) > KERNEL_ROWS:
        some = np.random.default_rng(seed).permutation(len(flat))[:KERNEL_ROWS]
        flat, targets, counts = flat[some], targets[some], counts[some]
    rows, labels, weights = as_labels(name, targets)
    weights = weights * counts[rows]
    if len(set(labels.tolist())) == 1:  # nothing to tell apart: what unexcited starting points can come to
        only = np.eye(classes, dtype=np.float32)[labels[0]]
        return lambda rows: np.tile(only, (len(rows), 1))
    if name == 'random_forest' and len(rows) > TREE_ROWS:
        model.set_params(max_samples=TREE_ROWS)
    if hasattr(model, 'steps'):
        model.fit(flat[rows], labels, **{f'{model.steps[-1][0]}__sample_weight': weights})
    else:
        model.fit(flat[rows], labels, sample_weight=weights)

    def predict(rows):
        out = np.zeros((len(rows), classes), np.float32)
        if name == 'svm':  # ranks by the decision value: a calibrated probability would cost five more fits
            decision = model.decision_function(rows)
            decision = np.stack([-decision, decision], 1) / 2 if decision.ndim == 1 else decision
            scores = np.exp(decision - decision.max(1, keepdims=True))
            out[:, model.classes_] = scores / scores.sum(1, keepdims=True)
        else:
            out[:, model.classes_] = model.predict_proba(rows)
        return out

    if name in STEADY and not parameters:
        some = np.random.default_rng(seed).permutation(len(rows))[:TUNED_BY]
        if _broke_down(model, flat[rows[some]], labels[some]):
            return _train(name, flat, targets, counts, seed, STEADY[name])
    return predict


def _broke_down(model, flat, labels):
    """Whether boosting, all steps but the last of `model` being before it, knows rows [n, d] that it learnt from less well than it did some
    trees before, or than their classes' shares do: each tree is to make it know them better."""
    learnt = (labels[:, None] == model.classes_).astype(np.float32)
    stages = model[-1].staged_predict_proba(model[:-1].transform(flat))
    known = [_log_likelihood(learnt, beliefs).mean() for beliefs in (np.tile(learnt.mean(0), (len(flat), 1)), *stages)]
    return max(known) - known[-1] > SLIP
